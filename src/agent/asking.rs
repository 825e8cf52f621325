//! Requests and replies, after the FIPA request protocol: `request`, then `agree` or `refuse`, then
//! `inform` or `failure`; all of them in one conversation and one trace, each naming what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::timeout;

use super::sending::outcome;
use super::{Agent, AgentEvent, DeliveryError, Receipt, SendError};
use crate::identity::AgentId;
use crate::mesh::CloseReason;
use crate::message::{Destination, Draft, IfMessage, Performative, Verified};

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A request to everybody has no one reply.
    #[error("a request is for one agent: name it, or broadcast and subscribe to the answers")]
    ToAll,
    /// It did not come to the peer, or the peer refused the message itself.
    #[error(transparent)]
    Undelivered(DeliveryError),
    /// The peer has left, and will not answer.
    #[error("{peer} has left without an answer")]
    Left {
        /// Who.
        peer: AgentId,
    },
    /// Nothing came in time.
    #[error("{peer} has not answered within {} ms{}", .waited.as_millis(), if *.agreed { ", but has agreed to" } else { "" })]
    TimeOut {
        /// Who should have answered.
        peer: AgentId,
        /// How long it had.
        waited: Duration,
        /// Whether it has said `agree`.
        agreed: bool,
    },
    /// The agent ended meanwhile.
    #[error("the agent has ended before there was an answer")]
    Ended,
}

/// What a handler makes of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What the reply does: `inform`, `refuse`, `failure`, …
    pub performative: Performative,
    /// What it says.
    pub payload: Map<String, Value>,
}

impl Answer {
    /// What was asked for.
    pub fn inform(payload: Map<String, Value>) -> Self {
        let performative = Performative::Inform;
        Self {
            performative,
            payload,
        }
    }

    /// It will not be done, and why.
    pub fn refuse(why: &str) -> Self {
        Self::because(Performative::Refuse, why)
    }

    /// It was tried and did not work, and why.
    pub fn failure(why: &str) -> Self {
        Self::because(Performative::Failure, why)
    }

    fn because(performative: Performative, why: &str) -> Self {
        Self {
            performative,
            payload: Map::from_iter([("reason".to_owned(), why.into())]),
        }
    }
}

impl Agent {
    /// Sends `draft`, as a `request` unless it says otherwise, and waits for the reply: the first
    /// message of that agent that answers it and is no `agree`. A `refuse`, `failure` or
    /// `not-understood` is a reply too; its performative says so.
    ///
    /// # Errors
    /// [`RequestError`]. After [`TimeOut`](RequestError::TimeOut) the answer may still come, as any
    /// other message, to subscribers.
    pub async fn request(
        &self,
        mut draft: Draft,
        patience: Duration,
    ) -> Result<Verified<IfMessage>, RequestError> {
        let Destination::Agent(peer) = draft.destination.clone() else {
            return Err(RequestError::ToAll);
        };
        draft.performative.get_or_insert(Performative::Request);
        let agreed = Arc::new(AtomicBool::new(false));
        let posted = self.shared.post_and(draft, |core, receipt| {
            let asked = Asked {
                peer: peer.clone(),
                receipt: receipt.clone(),
                agreed: Arc::clone(&agreed),
            };
            core.subscribers.watch(move |event| asked.hear(event))
        });
        let (_, reply) = posted.await?;
        match timeout(patience, reply).await {
            Ok(heard) => {
                let reply = heard.unwrap_or(Err(RequestError::Ended))?;
                self.shared.enter(|core| core.subscribers.unclaim(&reply));
                Ok(reply)
            }
            Err(_) => Err(RequestError::TimeOut {
                peer,
                waited: patience,
                agreed: agreed.load(Ordering::Relaxed),
            }),
        }
    }

    /// Answers `message`: to its author, in its conversation and trace.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn answer(&self, message: &IfMessage, answer: Answer) -> Result<Receipt, SendError> {
        self.send(message.reply(answer.performative, answer.payload))
            .await
    }

    /// Answers every `request`, `query-if` and `escalate` that comes with what `handler` makes of
    /// it, one after the other, until the agent ends. Other messages are left to other subscribers.
    ///
    /// A reply that cannot be sent is lost with the link that it was for, and logged.
    pub async fn serve<H, F>(&self, mut handler: H)
    where
        H: FnMut(Verified<IfMessage>) -> F,
        F: Future<Output = Answer>,
    {
        let mut events = self.subscribe();
        while let Some(event) = events.recv().await {
            let AgentEvent::Message(message) = event else {
                continue;
            };
            if !message.performative().is_some_and(wants_an_answer) {
                continue;
            }
            let answer = handler(message.clone()).await;
            if let Err(err) = self.answer(&message, answer).await {
                tracing::warn!(peer = %message.source(), reason = %err, "a reply was not sent");
            }
        }
    }
}

/// A request that is not answered yet.
struct Asked {
    peer: AgentId,
    receipt: Receipt,
    /// Whether the peer has said `agree`.
    agreed: Arc<AtomicBool>,
}

impl Asked {
    /// What `event` says of its end: the reply, or why there is none.
    fn hear(&self, event: &AgentEvent) -> Option<Result<Verified<IfMessage>, RequestError>> {
        match event {
            AgentEvent::Message(message)
                if *message.source() == self.peer
                    && message.in_reply_to() == Some(self.receipt.id.as_str()) =>
            {
                if message.performative() != Some(Performative::Agree) {
                    return Some(Ok(message.clone()));
                }
                self.agreed.store(true, Ordering::Relaxed);
                None
            }
            AgentEvent::PeerDown {
                peer,
                why: CloseReason::Goodbye,
            } if *peer == self.peer => {
                let peer = peer.clone();
                Some(Err(RequestError::Left { peer }))
            }
            event => {
                let to = Destination::Agent(self.peer.clone());
                match outcome(event, &to, self.receipt.sequence_num)? {
                    (_, Ok(())) => None,
                    (_, Err(err)) => Some(Err(RequestError::Undelivered(err))),
                }
            }
        }
    }
}

/// Whether somebody waits for a reply to it.
fn wants_an_answer(performative: Performative) -> bool {
    use Performative::{Escalate, QueryIf, Request};
    matches!(performative, Request | QueryIf | Escalate)
}
