//! What came for a language model and waits to be read: bounded, oldest first.
//!
//! A model reads when it likes, or never. So that neither it nor a talkative peer can hold up the
//! agent, nothing waits for room: where there is none, the oldest message of the peer that fills
//! the inbox most gives way, and `read_inbox` says how many did.
//!
//! With an outbox on disk, what the model has not read is kept [there](super::agent_mcp_store) too,
//! before it counts as taken: it is here again when the agent was killed or has ended, and no author
//! waits for a model.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::agent_mcp_store::{Number, Store};
use crate::agent::{AgentEvent, Held, Subscription};
use crate::identity::{AgentId, Session};
use crate::message::{Destination, IfMessage, Verified};

/// The inbox, shared by who fills it and who reads it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    kept: Mutex<Kept>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Waiting>,
    bytes: usize,
    /// Since the last reading.
    dropped: u64,
    /// Replies that were handed over before they came here: their authors and ids.
    handed: VecDeque<(AgentId, String)>,
    /// Where what waits is kept.
    store: Option<Store>,
    /// The last one that was kept by an earlier process, which may have been killed before it could
    /// say so: then it comes again.
    last_kept: Option<Which>,
}

/// Which message.
type Which = (AgentId, Session, Destination, u64);

/// A message that nobody has read.
#[derive(Debug)]
struct Waiting {
    message: Verified<IfMessage>,
    size: usize,
    kept: Option<Number>,
    /// Of one that could not be kept: it is not taken before it is read, and comes again if this
    /// process ends.
    held: Option<Held>,
}

/// What a reading gives.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) messages: Vec<Verified<IfMessage>>,
    /// How many gave way since the last reading, of anybody.
    pub(super) dropped: u64,
    /// How many are left, of those asked for.
    pub(super) left: usize,
}

impl Inbox {
    /// An inbox that keeps what waits in `store`, where this was kept before.
    pub(super) fn kept_in(store: Store, before: Vec<(Number, Verified<IfMessage>)>) -> Self {
        let mut kept = Kept {
            last_kept: before.last().map(|(_, message)| which(message)),
            ..Kept::default()
        };
        for (number, message) in before {
            let size = size_of(&text_of(&message));
            kept.push(Waiting {
                message,
                size,
                kept: Some(number),
                held: None,
            });
        }
        kept.store = Some(store);
        Self {
            kept: Mutex::new(kept),
            came: Notify::new(),
        }
    }

    /// Keeps every message, until the agent has ended.
    pub(super) async fn fill(&self, mut events: Subscription) {
        while let Some((event, held)) = events.recv_held().await {
            if let AgentEvent::Message(message) = event {
                self.put(message, Some(held));
            }
        }
    }

    fn put(&self, message: Verified<IfMessage>, held: Option<Held>) {
        self.kept().put(message, held);
        self.came.notify_waiters();
    }

    /// `message` was handed over in another way, and is not to be read here again. Whether it has
    /// come here already does not matter.
    pub(super) fn hand_over(&self, message: &IfMessage) {
        self.kept().hand_over(message);
    }

    /// Takes the oldest messages, of `from` if it is given: at most `limit`, and only one where
    /// the first is large.
    pub(super) fn take(&self, limit: usize, from: Option<&AgentId>) -> Taken {
        self.kept().take(limit, from)
    }

    /// Waits until there is a message, of `from` if it is given. Cancel-safe.
    pub(super) async fn wait(&self, from: Option<&AgentId>) {
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            // Listening before looking, so that none comes in between.
            came.as_mut().enable();
            if self.kept().messages.iter().any(|it| it.is_of(from)) {
                return;
            }
            came.await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, message: Verified<IfMessage>, mut held: Option<Held>) {
        let handed =
            |(source, id): &(AgentId, String)| source == message.source() && id == message.id();
        let handed = self.handed.iter().position(handed);
        if let Some(at) = handed {
            self.handed.remove(at);
        }
        let is_here = self.last_kept.take_if(|last| *last == which(&message));
        if handed.is_some() || is_here.is_some() {
            take(held);
            return;
        }
        let text = text_of(&message);
        let is_next = !self.waits_for_room(message.source());
        let store = self.store.as_mut().filter(|_| is_next);
        let kept = match store.map(|store| store.keep(&text)) {
            Some(Ok(number)) => Some(number),
            Some(Err(err)) => {
                tracing::warn!(peer = %message.source(), reason = %err, "a message for the model cannot be kept: its author waits until it is read");
                None
            }
            None => None,
        };
        if kept.is_some() || self.store.is_none() {
            take(held.take());
        }
        self.push(Waiting {
            message,
            size: size_of(&text),
            kept,
            held,
        });
    }

    /// Whether one of this author could not be kept: then none behind it is, which would be before it
    /// after a restart.
    fn waits_for_room(&self, author: &AgentId) -> bool {
        let mut messages = self.messages.iter();
        messages.any(|it| it.held.is_some() && it.is_of(Some(author)))
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.size;
        self.messages.push_back(waiting);
        while self.bytes > MAX_BYTES {
            self.give_way();
        }
    }

    /// Drops the oldest message of the peer that fills the inbox most.
    fn give_way(&mut self) {
        let mut shares: BTreeMap<&AgentId, usize> = BTreeMap::new();
        for it in &self.messages {
            *shares.entry(it.message.source()).or_default() += it.size;
        }
        let greatest = shares.into_iter().max_by_key(|(_, bytes)| *bytes);
        let Some(loudest) = greatest.map(|(id, _)| id.clone()) else {
            return;
        };
        let oldest = |it: &Waiting| it.is_of(Some(&loudest));
        if let Some(at) = self.messages.iter().position(oldest) {
            self.remove(at);
            self.dropped += 1;
        }
    }

    fn hand_over(&mut self, message: &IfMessage) {
        let same = |it: &Waiting| {
            it.message.source() == message.source() && it.message.id() == message.id()
        };
        if let Some(at) = self.messages.iter().position(same) {
            self.remove(at);
            return;
        }
        if self.handed.len() == MAX_HANDED {
            self.handed.pop_front();
        }
        let handed = (message.source().clone(), message.id().to_owned());
        self.handed.push_back(handed);
    }

    fn take(&mut self, limit: usize, from: Option<&AgentId>) -> Taken {
        let (mut messages, mut bytes, mut at) = (Vec::new(), 0, 0);
        while let Some(it) = self.messages.get(at) {
            if !it.is_of(from) {
                at += 1;
                continue;
            }
            if messages.len() == limit || (bytes + it.size > MAX_ANSWER && !messages.is_empty()) {
                break;
            }
            bytes += it.size;
            messages.extend(self.remove(at));
        }
        let left = self.messages.iter().filter(|it| it.is_of(from));
        Taken {
            messages,
            left: left.count(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }

    /// It does not come again.
    fn remove(&mut self, at: usize) -> Option<Verified<IfMessage>> {
        let removed = self.messages.remove(at)?;
        if let (Some(store), Some(number)) = (&self.store, removed.kept) {
            store.remove(number);
        }
        take(removed.held);
        self.bytes -= removed.size;
        Some(removed.message)
    }
}

impl Waiting {
    fn is_of(&self, from: Option<&AgentId>) -> bool {
        from.is_none_or(|from| self.message.source() == from)
    }
}

/// It counts as taken.
fn take(held: Option<Held>) {
    if let Some(held) = held {
        held.taken();
    }
}

fn which(message: &IfMessage) -> Which {
    let (source, destination) = (message.source().clone(), message.destination().clone());
    (
        source,
        message.session(),
        destination,
        message.sequence_num(),
    )
}

/// A message as it was signed.
fn text_of(message: &IfMessage) -> String {
    serde_json::to_string(message).expect("string keys and finite numbers only")
}

/// What a message of this text costs: it, and what it takes to keep and to tell.
fn size_of(text: &str) -> usize {
    text.len() + OVERHEAD
}

/// What waits takes at most so much memory: some thousand messages, or thirty of the largest.
const MAX_BYTES: usize = 8 << 20;
/// Beside the text of a message.
const OVERHEAD: usize = 1024;
/// A model reads all of an answer, and has room for so much, a large message apart.
const MAX_ANSWER: usize = 64 << 10;
/// Replies on their way here, of as many requests at one time. One that was handed over when it
/// had been read here already stays until others take its place.
const MAX_HANDED: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::identity::{KeyPair, Session};
    use crate::message::{Author, Draft, Timestamp, sign, verify};

    /// A message of `from` with `number` in it, and `bytes` more.
    fn message(from: &str, number: u64, bytes: usize) -> Verified<IfMessage> {
        let key = KeyPair::from_secret(&[7; 32]);
        let id: AgentId = from.parse().unwrap();
        let author = Author {
            id: &id,
            session: Session::new(1, [0; 10]),
            key: &key,
        };
        let payload = [
            ("n".to_owned(), Value::from(number)),
            ("text".to_owned(), Value::from("x".repeat(bytes))),
        ];
        let me: AgentId = "me".parse().unwrap();
        let mut draft = Draft::new(me, Map::from_iter(payload));
        draft.id = Some(format!("m{number}"));
        let signed = sign(draft, &author, number, Timestamp::from_unix_ms(1), [0; 22]).unwrap();
        verify(&signed.bytes(), &|_: &AgentId| Some(key.public_key())).unwrap()
    }

    fn numbers(taken: &Taken) -> Vec<u64> {
        let messages = taken.messages.iter();
        messages.map(|m| m.sequence_num()).collect()
    }

    #[test]
    fn gives_messages_oldest_first_as_many_as_wanted_and_of_whom() {
        let inbox = Inbox::default();
        for (from, number) in [("ann", 1), ("bob", 2), ("ann", 3), ("ann", 4)] {
            inbox.put(message(from, number, 0), None);
        }
        let ann: AgentId = "ann".parse().unwrap();
        let taken = inbox.take(2, Some(&ann));
        assert_eq!((numbers(&taken), taken.left), (vec![1, 3], 1));
        let taken = inbox.take(9, None);
        assert_eq!((numbers(&taken), taken.left), (vec![2, 4], 0));
        assert_eq!(taken.dropped, 0);
        assert_eq!(inbox.kept().bytes, 0);
    }

    #[test]
    fn a_peer_that_floods_the_inbox_drops_its_own_oldest_messages_and_nobody_elses() {
        let inbox = Inbox::default();
        inbox.put(message("quiet", 1, 0), None);
        for number in 1..=100 {
            inbox.put(message("loud", number, 200 << 10), None);
        }
        assert!(inbox.kept().bytes <= MAX_BYTES);
        let loud: AgentId = "loud".parse().unwrap();
        let taken = inbox.take(1, Some(&loud));
        assert_eq!(taken.left as u64 + 1 + taken.dropped, 100);
        assert!(taken.dropped > 50, "{}", taken.dropped);
        assert_eq!(numbers(&taken), [taken.dropped + 1]);
        let quiet = inbox.take(1, None);
        assert_eq!(quiet.messages[0].source().as_str(), "quiet");
        assert_eq!(quiet.dropped, 0, "told once");
    }

    #[test]
    fn a_reading_ends_before_it_is_too_large_and_gives_at_least_one() {
        let inbox = Inbox::default();
        inbox.put(message("ann", 1, MAX_ANSWER), None);
        for number in 2..=9 {
            inbox.put(message("ann", number, 18 << 10), None);
        }
        assert_eq!(numbers(&inbox.take(9, None)), [1]);
        assert_eq!(numbers(&inbox.take(9, None)), [2, 3, 4]);
    }

    #[test]
    fn what_was_handed_over_is_not_read_again_whichever_came_first() {
        let inbox = Inbox::default();
        let (early, late) = (message("ann", 1, 0), message("ann", 2, 0));
        inbox.put(early.clone(), None);
        inbox.hand_over(&early);
        inbox.hand_over(&late);
        inbox.put(late, None);
        // The same id of somebody else is another message.
        inbox.put(message("bob", 2, 0), None);
        let taken = inbox.take(9, None);
        assert_eq!(taken.messages.len(), 1);
        assert_eq!(taken.messages[0].source().as_str(), "bob");
        assert!(inbox.kept().handed.is_empty());
    }

    #[test]
    fn what_is_kept_on_disk_is_here_again_until_it_is_read_and_comes_in_no_second_time() {
        let outbox = tempfile::tempdir().unwrap();
        let again = |texts: &[&str]| {
            let (store, before) = Store::open(outbox.path()).unwrap();
            let found = before
                .iter()
                .map(|(_, bytes)| std::str::from_utf8(bytes).unwrap());
            assert_eq!(found.collect::<Vec<_>>(), texts);
            let numbers = before.into_iter().map(|(number, _)| number);
            (store, numbers.collect::<Vec<_>>())
        };
        let [one, two, three, four] = [1, 2, 3, 4].map(|number| message("ann", number, 0));
        let texts = [&one, &two, &three, &four].map(|message| text_of(message));
        let (store, _) = again(&[]);
        let inbox = Inbox::kept_in(store, Vec::new());
        for message in [&one, &two, &three] {
            inbox.put(message.clone(), None);
        }
        assert_eq!(numbers(&inbox.take(1, None)), [1]);
        inbox.hand_over(&two);
        inbox.put(four.clone(), None);

        let (store, kept) = again(&[&texts[2], &texts[3]]);
        let before = kept.into_iter().zip([three, four.clone()]);
        let inbox = Inbox::kept_in(store, before.collect());
        // Killed before it was said that the last one is here, which comes again therefore.
        inbox.put(four, None);
        assert_eq!(numbers(&inbox.take(9, None)), [3, 4]);
        assert_eq!(inbox.kept().bytes, 0);
        let _ = again(&[]);
    }

    #[test]
    fn what_comes_behind_a_message_that_could_not_be_kept_is_not_kept_before_it() {
        let outbox = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(outbox.path()).unwrap();
        let inbox = Inbox::kept_in(store, Vec::new());
        let put = |from, number| inbox.put(message(from, number, 0), Some(Held::default()));
        let kept = || Store::open(outbox.path()).unwrap().1.len();
        std::fs::remove_dir_all(outbox.path()).unwrap();
        put("ann", 1);
        assert_eq!(kept(), 0, "the folder is there again");
        put("ann", 2);
        assert_eq!(kept(), 0);
        put("bob", 1);
        assert_eq!(kept(), 1);
        assert_eq!(numbers(&inbox.take(2, None)), [1, 2]);
        put("ann", 3);
        assert_eq!(kept(), 2);
        assert_eq!(numbers(&inbox.take(9, None)), [1, 3]);
        assert_eq!(kept(), 0);
    }
}
