//! Which conversations are going on: what was said under which `conversation_id`, to and by whom,
//! and when last. One is closed by silence, and then forgotten; the same id said later begins anew.
//!
//! Pure: time is an argument. Only what was accepted or sent counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Agent;
use crate::identity::AgentId;
use crate::message::Timestamp;

/// A conversation that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its `conversation_id`.
    pub id: String,
    /// Who has spoken in it or was spoken to, this agent apart: up to 64.
    pub peers: BTreeSet<AgentId>,
    /// Messages of this agent; one to everybody counts once.
    pub sent: u64,
    /// Messages of others.
    pub received: u64,
    /// When the first one was sent or accepted here.
    pub began: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
}

impl Agent {
    /// The conversations that are not closed, the one heard last first.
    pub fn conversations(&self) -> Vec<Conversation> {
        let open = self.shared.enter(|core| core.conversations.open(core.now));
        open.unwrap_or_default()
    }
}

/// The conversations of one agent.
#[derive(Debug)]
pub(super) struct Conversations {
    silence: Duration,
    open: BTreeMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    what: Conversation,
    heard: Instant,
}

impl Conversations {
    /// Closed after so much silence.
    pub(super) fn new(silence: Duration) -> Self {
        Self {
            silence,
            open: BTreeMap::new(),
        }
    }

    /// This agent has said something to `peers`.
    pub(super) fn sent(&mut self, id: &str, peers: &[AgentId], now: Instant, wall: Timestamp) {
        self.heard(id, peers, now, wall).sent += 1;
    }

    /// `peer` has said something.
    pub(super) fn received(&mut self, id: &str, peer: &AgentId, now: Instant, wall: Timestamp) {
        self.heard(id, std::slice::from_ref(peer), now, wall)
            .received += 1;
    }

    /// Those that go on, the one heard last first.
    pub(super) fn open(&mut self, now: Instant) -> Vec<Conversation> {
        self.close_silent(now);
        let mut open: Vec<_> = self.open.values().collect();
        open.sort_by_key(|open| std::cmp::Reverse(open.heard));
        open.into_iter().map(|open| open.what.clone()).collect()
    }

    fn heard(
        &mut self,
        id: &str,
        peers: &[AgentId],
        now: Instant,
        wall: Timestamp,
    ) -> &mut Conversation {
        let silence = self.silence;
        let goes_on = |open: &Open| now.duration_since(open.heard) < silence;
        if !self.open.get(id).is_some_and(goes_on) {
            self.open.remove(id);
            self.make_room(now);
        }
        let open = self.open.entry(id.to_owned()).or_insert_with(|| Open {
            what: Conversation {
                id: id.to_owned(),
                peers: BTreeSet::new(),
                sent: 0,
                received: 0,
                began: wall,
                last: wall,
            },
            heard: now,
        });
        open.heard = now;
        open.what.last = wall;
        for peer in peers {
            if open.what.peers.len() < MAX_PEERS {
                open.what.peers.insert(peer.clone());
            }
        }
        &mut open.what
    }

    fn close_silent(&mut self, now: Instant) {
        let silence = self.silence;
        let goes_on = |open: &Open| now.duration_since(open.heard) < silence;
        self.open.retain(|_, open| goes_on(open));
    }

    /// Where there are too many, the one that is silent for longest goes; one in which this agent
    /// has said nothing before one in which it has, so that strangers push out strangers.
    fn make_room(&mut self, now: Instant) {
        if self.open.len() < MAX_OPEN {
            return;
        }
        self.close_silent(now);
        while self.open.len() >= MAX_OPEN {
            let least = |open: &Open| (open.what.sent > 0, open.heard);
            let least = self.open.iter().min_by_key(|(_, open)| least(open));
            let Some(id) = least.map(|(id, _)| id.clone()) else {
                return;
            };
            self.open.remove(&id);
        }
    }
}

/// Conversations remembered: many for an agent, some megabytes at most.
const MAX_OPEN: usize = 1024;
/// Peers named in each; a conversation of more is one with everybody.
const MAX_PEERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(name: &str) -> AgentId {
        name.parse().unwrap()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn ids(open: &[Conversation]) -> Vec<&str> {
        open.iter().map(|open| open.id.as_str()).collect()
    }

    #[test]
    fn counts_what_was_said_and_by_whom_the_last_heard_first() {
        let now = Instant::now();
        let mut all = Conversations::new(24 * HOUR);
        all.sent("deal", &[id("bob"), id("eve")], now, at(1));
        all.received("lunch", &id("eve"), now + HOUR, at(2));
        all.received("deal", &id("bob"), now + 2 * HOUR, at(3));
        let open = all.open(now + 2 * HOUR);
        assert_eq!(ids(&open), ["deal", "lunch"]);
        let deal = &open[0];
        assert_eq!((deal.sent, deal.received), (1, 1));
        assert_eq!((deal.began, deal.last), (at(1), at(3)));
        assert_eq!(deal.peers, BTreeSet::from([id("bob"), id("eve")]));
    }

    #[test]
    fn silence_closes_a_conversation_and_the_same_id_then_begins_another() {
        let now = Instant::now();
        let mut all = Conversations::new(24 * HOUR);
        all.sent("deal", &[id("bob")], now, at(1));
        all.received("deal", &id("bob"), now + 23 * HOUR, at(2));
        assert_eq!(all.open(now + 46 * HOUR).len(), 1, "23 hours of silence");
        all.received("deal", &id("eve"), now + 47 * HOUR, at(3));
        let again = all.open(now + 47 * HOUR);
        assert_eq!((again[0].sent, again[0].received), (0, 1));
        assert_eq!(again[0].peers, BTreeSet::from([id("eve")]));
        assert_eq!(all.open(now + 71 * HOUR), []);
    }

    #[test]
    fn a_stranger_who_opens_many_closes_none_in_which_this_agent_speaks() {
        let now = Instant::now();
        let mut all = Conversations::new(24 * HOUR);
        all.sent("mine", &[id("bob")], now, at(1));
        for n in 0..2 * MAX_OPEN {
            all.received(&format!("c{n}"), &id("eve"), now, at(2));
        }
        let open = all.open(now);
        assert_eq!(open.len(), MAX_OPEN);
        assert!(ids(&open).contains(&"mine"));
    }

    #[test]
    fn names_a_bounded_number_of_peers() {
        let now = Instant::now();
        let mut all = Conversations::new(HOUR);
        let peers: Vec<_> = (0..1000).map(|n| id(&format!("p{n}"))).collect();
        all.sent("all", &peers, now, at(1));
        assert_eq!(all.open(now)[0].peers.len(), MAX_PEERS);
    }
}
