//! Who is told what happens to an agent: programs, which have a queue each, and those who wait for
//! one thing.
//!
//! A received message holds one of its peer's permits until every program has taken it. While a
//! program is far behind, messages are acknowledged only then (see `taking`), so that their author
//! sends less; memory stays bounded, and nothing else waits.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::core::Shared;
use super::event::AgentEvent;
use super::taking::{Held, OnItsWay};
use super::unread::{Item, Unread};
use crate::message::IfMessage;

/// Receives an agent's events from the moment it was made.
///
/// A program may read as late as it likes: the authors of messages wait for it. Of other events some
/// thousand wait; what comes beyond that is left out, and [`Missed`](AgentEvent::Missed) stands in its
/// place.
///
/// In an agent with an [outbox on disk](super::Builder::outbox) no message is lost with a subscription
/// that is dropped: what stands in it unread, and no other has, goes to those that are there, before
/// what came later and they have not read, or waits with what comes then for the next subscriber. So a
/// program that subscribes anew, drops its old subscription and reads on has each message once, and
/// those of an author in their order. An agent without one has acknowledged it, and it is lost.
#[derive(Debug)]
pub struct Subscription {
    unread: Arc<Unread>,
    agent: Weak<Shared>,
}

impl Subscription {
    /// The next event, which counts as taken; `None` once the agent has ended. Cancel-safe.
    pub async fn recv(&mut self) -> Option<AgentEvent> {
        let (event, held) = self.recv_held().await?;
        held.taken();
        Some(event)
    }

    /// As [`recv`](Self::recv), for who wants to say when a message is in safe hands.
    /// Cancel-safe.
    pub async fn recv_held(&mut self) -> Option<(AgentEvent, Held)> {
        let item = self.unread.next().await?;
        Some((item.event, received(item.it)))
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<AgentEvent> {
        let item = self.unread.try_next()?;
        received(item.it).taken();
        Some(item.event)
    }

    /// To what happens to this agent; nothing does any more if it has ended.
    pub(super) fn to(agent: &Arc<Shared>) -> Self {
        let unread = agent.enter(|core| core.subscribers.add());
        Self {
            unread: unread.unwrap_or_else(|| Arc::new(Unread::ended())),
            agent: Arc::downgrade(agent),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.upgrade() {
            agent.enter(|core| core.subscribers.leave(&self.unread));
        }
    }
}

fn received(it: Option<Arc<OnItsWay>>) -> Held {
    if let Some(it) = &it {
        it.received();
    }
    Held(it)
}

/// All subscribers of one agent.
#[derive(Default)]
pub(super) struct Subscribers {
    programs: Vec<Arc<Unread>>,
    watchers: Vec<Watcher>,
    /// Whether messages that come while there is no program wait for the next one.
    keeps: bool,
    /// Those that do: bounded as those that a program does not take, by the permits of their peers.
    unclaimed: Vec<Item>,
    /// How much was published.
    places: u64,
}

/// Has a look at an event and takes nothing; whether it wants to see more. With no event, just the
/// latter.
type Watcher = Box<dyn FnMut(Option<&AgentEvent>) -> bool + Send>;

impl Subscribers {
    /// Messages wait for a program: they must not be lost to one that is not quick enough.
    pub(super) fn with_messages_kept() -> Self {
        Self {
            keeps: true,
            ..Self::default()
        }
    }

    /// A program that takes messages.
    fn add(&mut self) -> Arc<Unread> {
        let unread = Arc::new(Unread::default());
        unread.put_back(self.unclaimed.drain(..));
        self.programs.push(Arc::clone(&unread));
        unread
    }

    /// A program goes. Messages that it has not received, and no other has, are not lost with it
    /// where they are kept.
    fn leave(&mut self, unread: &Arc<Unread>) {
        self.programs
            .retain(|program| !Arc::ptr_eq(program, unread));
        if !self.keeps {
            return;
        }
        let mut left = Vec::new();
        for item in unread.take_all() {
            // Whoever else has it receives it, or is the last to go.
            if let Some(last) = item.it.and_then(Arc::into_inner)
                && !last.is_received()
            {
                let it = Some(Arc::new(last));
                left.push(Item { it, ..item });
            }
        }
        for program in &self.programs {
            program.put_back(left.iter().cloned());
        }
        if self.programs.is_empty() {
            // Nothing waits yet: this was the last one.
            self.unclaimed = left;
        }
    }

    /// Tells what `look` makes of the first event of which it makes something: for those who wait for
    /// just that. It sees every event from now on, and keeps what it wants to; its receiver fails
    /// once no more will come.
    pub(super) fn watch<T: Send + 'static>(
        &mut self,
        mut look: impl FnMut(&AgentEvent) -> Option<T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        // Where nothing happens nobody else would notice that they have gone.
        self.watchers.retain_mut(|watcher| watcher(None));
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        self.watchers.push(Box::new(move |event| {
            if sender.as_ref().is_none_or(oneshot::Sender::is_closed) {
                return false;
            }
            let Some(found) = event.and_then(&mut look) else {
                return true;
            };
            // Whoever has gone meanwhile does not need it.
            let _ = sender.take().map(|sender| sender.send(found));
            false
        }));
        receiver
    }

    /// This message was for a watcher, who has it: no program needs to take it.
    pub(super) fn unclaim(&mut self, message: &IfMessage) {
        let is_it =
            |event: &AgentEvent| matches!(event, AgentEvent::Message(of) if **of == *message);
        for item in self.unclaimed.extract_if(.., |item| is_it(&item.event)) {
            received(item.it).taken();
        }
    }

    /// No more will come.
    pub(super) fn end(&mut self) {
        self.programs.drain(..).for_each(|program| program.end());
        self.watchers.clear();
        self.keeps = false;
        self.unclaimed.clear();
    }

    /// Hands `event` to every subscriber; never waits.
    pub(super) fn publish(&mut self, event: &AgentEvent, it: Option<OnItsWay>) {
        self.watchers.retain_mut(|watcher| watcher(Some(event)));
        self.places += 1;
        let item = Item {
            place: self.places,
            event: event.clone(),
            it: it.map(Arc::new),
        };
        for program in &self.programs {
            program.push(item.clone());
        }
        if self.keeps && self.programs.is_empty() && matches!(event, AgentEvent::Message(_)) {
            self.unclaimed.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;
    use serde_json::Map;

    use super::*;
    use crate::agent::{Agent, Answer, test_pair};
    use crate::mesh::{MAX_UNDER_WAY, OutboxLimits};
    use crate::message::{Destination, Draft, Performative, Reason};
    use crate::signal::Server;

    async fn pair() -> (Agent, Agent, Server) {
        let limits = OutboxLimits {
            messages: ROOM,
            ..OutboxLimits::default()
        };
        test_pair::pair(limits).await
    }

    fn to_bob() -> Draft {
        let bob: Destination = "bob".parse().unwrap();
        Draft::new(bob, Map::new())
    }

    /// So much happens to an agent.
    fn junk(agent: &Agent, count: u64) {
        let event = AgentEvent::Rejected {
            peer: "eve".parse().unwrap(),
            reason: Reason::Malformed,
            detail: String::new(),
        };
        agent
            .shared
            .enter(|core| (0..count).for_each(|_| core.tell(event.clone())))
            .expect("it lives");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_program_that_has_not_read_for_long_is_told_what_it_missed_and_gets_every_message() {
        let (ann, bob, server) = pair().await;
        let mut events = bob.subscribe();
        ann.send_acked(to_bob()).await.unwrap();
        junk(&bob, MANY);
        ann.send_acked(to_bob()).await.unwrap();
        let (mut messages, mut rejected, mut missed) = (0, 0, 0);
        while messages < 2 {
            match events.recv().await.expect("it lives") {
                AgentEvent::Message(_) => messages += 1,
                AgentEvent::Rejected { .. } => rejected += 1,
                AgentEvent::Missed { events } => missed += events,
                _ => {}
            }
        }
        assert_eq!(rejected + missed, MANY);
        assert!(missed > 0 && rejected > 0, "{missed} were missed");
        ann.shutdown("done").await.unwrap();
        bob.shutdown("done").await.unwrap();
        while events.recv().await.is_some() {}
        server.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_for_room_waits_for_it_however_much_happens_meanwhile() {
        let (ann, bob, server) = pair().await;
        let mut events = bob.subscribe();
        // Bob does not read, and acknowledges no more: until there is no room.
        let full = (MAX_UNDER_WAY + ROOM) as u64;
        while bob.stats().delivered < full {
            let _ = ann.try_send(to_bob());
            tokio::task::yield_now().await;
        }
        {
            let acked = ann.send_acked(to_bob());
            let reply = ann.request(to_bob(), Duration::from_secs(60));
            tokio::pin!(acked, reply);
            assert!(poll!(&mut acked).is_pending() && poll!(&mut reply).is_pending());
            assert_eq!(ann.stats().sent, full, "both wait for room");
            junk(&ann, MANY);
            let answering = async {
                loop {
                    let event = events.recv().await.expect("it lives");
                    if let AgentEvent::Message(message) = event
                        && message.performative() == Some(Performative::Request)
                    {
                        let answer = Answer::inform(Map::new());
                        break bob.answer(&message, answer).await.unwrap();
                    }
                }
            };
            let (acked, reply, _) = tokio::join!(acked, reply, answering);
            assert!(acked.unwrap().sequence_num > full);
            assert_eq!(reply.unwrap().source(), bob.id());
        }
        ann.shutdown("done").await.unwrap();
        bob.shutdown("done").await.unwrap();
        server.shutdown().await;
    }

    /// What ann keeps for bob.
    const ROOM: usize = 8;
    /// More than any queue takes.
    const MANY: u64 = 70_000;
}
