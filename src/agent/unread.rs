//! What one subscriber has not read: in the order in which it happened, and bounded.
//!
//! A message holds one of its peer's permits as long as it stands here, which bounds messages. Of
//! other events some thousand wait; what comes beyond that is left out, counted, and told in its
//! place. So nobody who publishes ever waits, and no subscriber is ever cut off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::coop;

use super::event::AgentEvent;
use super::taking::OnItsWay;

/// Something that a subscriber is told.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Its place among all that has happened to the agent.
    pub(super) place: u64,
    pub(super) event: AgentEvent,
    /// Of a message.
    pub(super) it: Option<Arc<OnItsWay>>,
}

/// A queue with one reader, which things can be put back into.
#[derive(Debug, Default)]
pub(super) struct Unread {
    waiting: Mutex<Waiting>,
    /// Something has come, or nothing will any more.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By their places.
    items: VecDeque<Item>,
    /// How many of them are neither messages nor gaps.
    events: usize,
    /// The places at which it is told that something is left out, by the bound that was reached.
    gaps: BTreeMap<usize, u64>,
    has_ended: bool,
}

impl Unread {
    /// Of an agent that has ended.
    pub(super) fn ended() -> Self {
        let unread = Self::default();
        unread.end();
        unread
    }

    /// The next one; none once all is read and no more will come. For one reader. Cancel-safe.
    pub(super) async fn next(&self) -> Option<Item> {
        // A reader who always finds something lets other tasks run too.
        coop::consume_budget().await;
        loop {
            let found = {
                let mut waiting = self.waiting();
                let next = waiting.pop();
                next.map(Some).or(waiting.has_ended.then_some(None))
            };
            if let Some(found) = found {
                return found;
            }
            // What comes before this listens leaves a permit.
            self.changed.notified().await;
        }
    }

    /// The next one if there is one now.
    pub(super) fn try_next(&self) -> Option<Item> {
        self.waiting().pop()
    }

    /// Puts one that has happened now behind all others.
    pub(super) fn push(&self, item: Item) {
        self.waiting().push(item);
        self.changed.notify_one();
    }

    /// Puts messages of another subscriber to their places: before what has happened later.
    pub(super) fn put_back(&self, items: impl IntoIterator<Item = Item>) {
        let mut waiting = self.waiting();
        waiting.items.extend(items);
        let items = waiting.items.make_contiguous();
        items.sort_by_key(|item| item.place);
        drop(waiting);
        self.changed.notify_one();
    }

    /// All that stands here.
    pub(super) fn take_all(&self) -> VecDeque<Item> {
        std::mem::take(&mut *self.waiting()).items
    }

    /// No more will come.
    pub(super) fn end(&self) {
        self.waiting().has_ended = true;
        self.changed.notify_one();
    }

    /// Never held while an item is dropped, which may enter the agent.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // It is consistent after a panic too: nothing in between can fail.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, item: Item) {
        let Some(most) = item.event.most_waiting() else {
            return self.items.push_back(item);
        };
        match self.gaps.get(&most) {
            // Until that is read nothing of the kind comes behind it: what is told there is all that
            // is missing.
            Some(&gap) => {
                let at = self.items.partition_point(|item| item.place < gap);
                let gap = self.items.get_mut(at).map(|item| &mut item.event);
                if let Some(AgentEvent::Missed { events }) = gap {
                    *events += 1;
                }
            }
            None if self.events < most => {
                self.events += 1;
                self.items.push_back(item);
            }
            None => {
                self.gaps.insert(most, item.place);
                let event = AgentEvent::Missed { events: 1 };
                self.items.push_back(Item { event, ..item });
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        match item.event {
            AgentEvent::Message(_) => {}
            AgentEvent::Missed { .. } => self.gaps.retain(|_, gap| *gap != item.place),
            _ => self.events -= 1,
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{MAX_EVENTS, MAX_OF_OTHERS};
    use super::*;
    use crate::message::Reason;

    /// What peers bring about.
    fn junk(place: u64) -> Item {
        let event = AgentEvent::Rejected {
            peer: "eve".parse().unwrap(),
            reason: Reason::Malformed,
            detail: String::new(),
        };
        let it = None;
        Item { place, event, it }
    }

    /// What the program waits for.
    fn own(place: u64) -> Item {
        let event = AgentEvent::SignalingBack;
        Item {
            event,
            ..junk(place)
        }
    }

    fn places(unread: &Unread) -> Vec<u64> {
        let next = || unread.try_next();
        std::iter::from_fn(next).map(|item| item.place).collect()
    }

    fn missed(item: Item) -> u64 {
        match item.event {
            AgentEvent::Missed { events } => events,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_is_told_once_in_its_place_and_what_others_do_pushes_out_nothing_else() {
        let unread = Unread::default();
        let most = MAX_OF_OTHERS as u64;
        (1..=most + 2).for_each(|place| unread.push(junk(place)));
        unread.push(own(most + 3));
        // There is room again, but what is told as missing is all that is missing behind it.
        assert_eq!(unread.try_next().unwrap().place, 1);
        assert_eq!(unread.try_next().unwrap().place, 2);
        unread.push(junk(most + 4));
        for place in 3..=most {
            assert_eq!(unread.try_next().unwrap().place, place);
        }
        assert_eq!(missed(unread.try_next().unwrap()), 3);
        unread.push(junk(most + 5));
        assert_eq!(places(&unread), [most + 3, most + 5]);
    }

    #[test]
    fn a_program_that_never_reads_keeps_a_bounded_number_of_events() {
        let unread = Unread::default();
        let most = MAX_EVENTS as u64;
        (1..=most).for_each(|place| unread.push(own(place)));
        for place in most + 1..=2 * most {
            unread.push(own(2 * place));
            unread.push(junk(2 * place + 1));
        }
        assert_eq!(unread.waiting().items.len() as u64, most + 2);
        for place in 1..=most {
            assert_eq!(unread.try_next().unwrap().place, place);
        }
        assert_eq!(missed(unread.try_next().unwrap()), most);
        assert_eq!(missed(unread.try_next().unwrap()), most);
        assert!(unread.try_next().is_none());
        // All that was counted is read: there is room for as many again.
        (1..=most).for_each(|place| unread.push(own(9 * most + place)));
        assert_eq!(places(&unread).len() as u64, most);
    }
}
