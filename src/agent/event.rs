//! What an agent tells its program, and the bounded way there.
//!
//! A received message holds one of its peer's permits until every subscriber has taken it. While a
//! subscriber is far behind, messages are acknowledged only then (see `taking`), so that their author
//! sends less; memory stays bounded, and nothing else waits.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::core::Shared;
use super::files::FileEvent;
use super::taking::{Held, OnItsWay};
use crate::identity::AgentId;
use crate::mesh::{CloseReason, GivenBack};
use crate::message::{Destination, IfMessage, Reason, SdpReason, Verified};
use crate::witness::Fork;

/// One thing that happened to an agent.
#[derive(Debug, Clone)]
pub enum AgentEvent {
    /// A message for this agent, verified and witnessed.
    Message(Verified<IfMessage>),
    /// A link is up; messages may flow.
    PeerUp {
        /// With whom.
        peer: AgentId,
        /// From the first step of making it until `hello` had arrived both ways.
        setup: Duration,
    },
    /// A link that was up is no more.
    PeerDown {
        /// With whom.
        peer: AgentId,
        /// Why.
        why: CloseReason,
    },
    /// A peer has seen all of mine up to this one.
    Acked {
        /// Who.
        peer: AgentId,
        /// Of those sent to this destination.
        destination: Destination,
        /// The greatest number it has seen.
        up_to: u64,
    },
    /// These of mine are given up: they are not sent (again).
    Undelivered {
        /// Who has not acknowledged them.
        peer: AgentId,
        /// Of those sent to this destination,
        destination: Destination,
        /// from this number
        from: u64,
        /// to this one, as far as they were open still.
        to: u64,
        /// Why.
        why: GivenBack,
    },
    /// A peer refused one of mine.
    RefusedByPeer {
        /// Who.
        peer: AgentId,
        /// Its destination.
        destination: Destination,
        /// Its number.
        sequence_num: u64,
        /// Why.
        reason: Reason,
    },
    /// I refused a message of a peer.
    Rejected {
        /// Over whose link it came.
        peer: AgentId,
        /// Why.
        reason: Reason,
        /// What was found and what was expected: one line.
        detail: String,
    },
    /// I rejected an offer or answer.
    SdpRejected {
        /// Whose it says it is.
        peer: AgentId,
        /// Why.
        reason: SdpReason,
        /// What was found and what was expected: one line.
        detail: String,
    },
    /// Something happened to a file that is sent or received.
    File(FileEvent),
    /// A peer has countersigned a checkpoint of this agent's log.
    Countersigned {
        /// Who.
        peer: AgentId,
        /// How many entries the checkpoint covers.
        entries: u64,
    },
    /// The log of an agent has two histories; of this one, where `owner` is this agent. Nobody who
    /// knows countersigns it any more. What the agent says is as good as its signature, as before.
    Equivocation {
        /// Whose log it is.
        owner: AgentId,
        /// Who has shown what does not fit to what was seen before: the owner itself, or another.
        shown_by: AgentId,
        /// How it shows.
        fork: Fork,
    },
    /// The signaling server is gone. Links live on; new ones cannot be made. The agent tries to
    /// reach it again for as long as it lives.
    SignalingLost,
    /// The agent is registered again, with this or another of its servers: wanted links are made.
    SignalingBack,
    /// The witness cannot be written, and `witness.on_error` is `continue`: the agent goes on
    /// unwitnessed.
    WitnessInterrupted {
        /// Why, and what to do.
        error: String,
    },
    /// The witness is written again.
    WitnessResumed {
        /// How many entries it lacks; it says so itself.
        missing: u64,
    },
    /// A later process with the same id and key has taken this one's place; it ends.
    Replaced,
}

/// Receives an agent's events from the moment it was made.
///
/// In an agent with an [outbox on disk](super::Builder::outbox) no message is lost with a subscription
/// that is dropped: what stands in it unread, and no other has, waits with what comes then for the
/// next subscriber, or goes to those that are there, behind what they have. An agent without one has
/// acknowledged it, and it is lost.
#[derive(Debug)]
pub struct Subscription {
    events: Events,
    agent: Weak<Shared>,
}

/// What comes to a subscriber.
pub(super) type Events = mpsc::Receiver<Item>;

type Item = (AgentEvent, Option<Arc<OnItsWay>>);

impl Subscription {
    /// The next event, which counts as taken; `None` once the agent has ended, or when this subscriber fell so far
    /// behind in events other than messages that it was cut off. Cancel-safe.
    pub async fn recv(&mut self) -> Option<AgentEvent> {
        let (event, held) = self.recv_held().await?;
        held.taken();
        Some(event)
    }

    /// As [`recv`](Self::recv), for who wants to say when a message is in safe hands.
    /// Cancel-safe.
    pub async fn recv_held(&mut self) -> Option<(AgentEvent, Held)> {
        let (event, it) = self.events.recv().await?;
        Some((event, received(it)))
    }

    /// To what comes to a subscriber of this agent; nothing does any more if it is none.
    pub(super) fn to(events: Option<Events>, agent: &Arc<Shared>) -> Self {
        Self {
            events: events.unwrap_or_else(|| mpsc::channel(1).1),
            agent: Arc::downgrade(agent),
        }
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<AgentEvent> {
        let (event, it) = self.events.try_recv().ok()?;
        received(it).taken();
        Some(event)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.upgrade() {
            agent.enter(|core| core.subscribers.leave(&mut self.events));
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
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    programs: Vec<mpsc::Sender<Item>>,
    /// They have a look at messages, and take none.
    watchers: Vec<mpsc::Sender<Item>>,
    /// Whether messages that come while there is no subscriber wait for the next one.
    keeps: bool,
    /// Those that do: bounded as those that a subscriber does not take, by the permits of their peers.
    unclaimed: Vec<Item>,
}

impl Subscribers {
    /// Messages wait for a subscriber: they must not be lost to a program that is not quick enough.
    pub(super) fn with_messages_kept() -> Self {
        Self {
            keeps: true,
            ..Self::default()
        }
    }

    /// A program that takes messages.
    pub(super) fn add(&mut self) -> Events {
        let unclaimed = std::mem::take(&mut self.unclaimed);
        let (sender, receiver) = mpsc::channel(MAX_BEHIND + unclaimed.len());
        for item in unclaimed {
            // There is room for each of them.
            let _ = sender.try_send(item);
        }
        self.programs.push(sender);
        receiver
    }

    /// A subscriber goes. Messages that it has not received, and no other has, are not lost with it
    /// where they are kept.
    fn leave(&mut self, events: &mut Events) {
        events.close();
        self.programs.retain(|program| !program.is_closed());
        if !self.keeps {
            return;
        }
        let mut unread = Vec::new();
        while let Ok((event, it)) = events.try_recv() {
            // Whoever else has it receives it, or is the last to go.
            if let Some(last) = it.and_then(Arc::into_inner)
                && !last.is_received()
            {
                unread.push((event, Some(Arc::new(last))));
            }
        }
        if self.programs.is_empty() {
            self.unclaimed.splice(..0, unread);
            return;
        }
        for item in unread {
            self.programs
                .retain(|program| program.try_send(item.clone()).is_ok());
        }
    }

    /// Somebody who waits for something else, and leaves messages to the program.
    pub(super) fn add_watcher(&mut self) -> Events {
        let (sender, receiver) = mpsc::channel(MAX_BEHIND);
        self.watchers.push(sender);
        receiver
    }

    /// This message was for a watcher, who has it: no subscriber needs to take it.
    pub(super) fn unclaim(&mut self, message: &IfMessage) {
        let is_it =
            |event: &AgentEvent| matches!(event, AgentEvent::Message(of) if **of == *message);
        for (_, it) in self.unclaimed.extract_if(.., |(event, _)| is_it(event)) {
            received(it).taken();
        }
    }

    /// No more will come.
    pub(super) fn end(&mut self) {
        self.programs.clear();
        self.watchers.clear();
        self.keeps = false;
        self.unclaimed.clear();
    }

    /// Hands `event` to every subscriber; never waits. Those who are gone, or hopelessly behind,
    /// are cut off.
    pub(super) fn publish(&mut self, event: &AgentEvent, it: Option<OnItsWay>) {
        let it = it.map(Arc::new);
        self.watchers
            .retain(|watcher| watcher.try_send((event.clone(), None)).is_ok());
        self.programs
            .retain(|program| program.try_send((event.clone(), it.clone())).is_ok());
        if self.keeps && self.programs.is_empty() && matches!(event, AgentEvent::Message(_)) {
            self.unclaimed.push((event.clone(), it));
        }
    }
}

/// Events a subscriber may leave untaken. Messages are bounded more tightly, by the permits of
/// their links; this is for a program that subscribes and never reads.
const MAX_BEHIND: usize = 65_536;
