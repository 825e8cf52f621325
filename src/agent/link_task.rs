//! The two tasks of one link: the reader makes the link, reads it and verifies; the writer sends.
//!
//! The reader verifies before it enters the agent's state, so that signatures of many peers are
//! checked on many cores. Nothing here knows sequences, sessions or the witness.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::control::Control;
use super::core::Shared;
use super::effects::{Outgoing, text};
use super::keyring::Keyring;
use crate::identity::{AgentId, LinkId};
use crate::link::{CandidateLine, Endpoint, Link, LinkError, LinkEvent, LinkEvents};
use crate::mesh::MAX_BEFORE_HELLO;
use crate::message::{IfMessage, Refusal, Verified, verify};

/// What a link's reader is ordered to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Apply the peer's answer.
    Accept(String),
    /// Add a candidate of the peer.
    Candidate(CandidateLine),
}

/// What a link's reader tells the agent.
#[derive(Debug)]
pub(super) enum What {
    /// The offer or answer is made.
    Described { link: Link, sdp: String },
    /// A candidate for the peer.
    Candidate(CandidateLine),
    /// There are no more.
    EndOfCandidates,
    /// The connection's state, in the words of the W3C.
    State(&'static str),
    /// Both channels are open.
    Open,
    /// A control frame, or why it is none.
    Control(Result<Control, String>),
    /// A message, or why it is none.
    Message {
        verdict: Result<Verified<IfMessage>, Box<Refusal>>,
        permit: OwnedSemaphorePermit,
    },
    /// The link could not be made, or is down. The last report.
    Down(String),
}

/// How a link begins.
#[derive(Debug)]
pub(super) enum Begin {
    Dial,
    Answer { offer: String },
}

/// All that a reader needs.
pub(super) struct Reader {
    pub(super) id: LinkId,
    pub(super) peer: AgentId,
    pub(super) endpoint: Endpoint,
    pub(super) keyring: Arc<Keyring>,
    /// One for each message of the peer that may be read and not taken.
    pub(super) permits: Arc<Semaphore>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) agent: Weak<Shared>,
    /// Where effects wait for the disk: whether too many do, to read on.
    pub(super) crowded: Option<watch::Receiver<bool>>,
}

impl Reader {
    /// Makes the link and reads it until it is down or the agent has ended.
    pub(super) async fn run(mut self, begin: Begin) {
        let made = match &begin {
            Begin::Dial => self.endpoint.dial(&self.peer).await,
            Begin::Answer { offer } => self.endpoint.answer(&self.peer, offer).await,
        };
        let why = match made {
            Ok((link, mut events, sdp)) => {
                let described = What::Described {
                    link: link.clone(),
                    sdp,
                };
                let ended = match self.report(described) {
                    Ok(()) => self.read(link, &mut events).await,
                    Err(ended) => ended,
                };
                if matches!(ended, Ended::NobodyListens) {
                    // The agent has left, and its link is closing: it waits for what it sent to
                    // be acknowledged, or for the peer to close first, which shows here only.
                    while events.recv(true).await != LinkEvent::Closed {}
                }
                ended
            }
            Err(err) => Ended::Failed(err),
        };
        let why = match why {
            Ended::Closed => "closed".to_owned(),
            Ended::TooMuchBeforeHello => {
                format!("more than {MAX_BEFORE_HELLO} messages before hello")
            }
            Ended::Failed(err) => err.to_string(),
            Ended::NobodyListens => return,
        };
        let _ = self.report(What::Down(why));
    }

    async fn read(&mut self, link: Link, events: &mut LinkEvents) -> Ended {
        let mut permit = None;
        // Channels are not ordered among each other: messages may overtake the hello.
        let mut before_hello = Some(Vec::new());
        loop {
            if let Some(crowded) = &mut self.crowded {
                // An agent that is gone is found out below.
                let _ = crowded.wait_for(|crowded| !crowded).await;
            }
            // All cancel-safe: two queues, the link's events, and a semaphore whose place in the
            // line is lost on cancellation, which does not matter to the only one who waits.
            let event = tokio::select! {
                event = events.recv(permit.is_some()) => event,
                Some(order) = self.orders.recv() => {
                    match self.obey(&link, order).await {
                        Ok(()) => continue,
                        Err(err) => return Ended::Failed(err),
                    }
                }
                granted = Arc::clone(&self.permits).acquire_owned(), if permit.is_none() => {
                    permit = granted.ok();
                    continue;
                }
            };
            let what = match event {
                LinkEvent::Message { bytes, is_text } => {
                    let permit = match permit.take() {
                        Some(permit) => permit,
                        // It came with the opening of its channel, which is read without one.
                        None => match Arc::clone(&self.permits).acquire_owned().await {
                            Ok(permit) => permit,
                            Err(_) => return Ended::NobodyListens,
                        },
                    };
                    let message = What::Message {
                        verdict: self.verify(&bytes, is_text),
                        permit,
                    };
                    match &mut before_hello {
                        Some(early) if early.len() == MAX_BEFORE_HELLO => {
                            return Ended::TooMuchBeforeHello;
                        }
                        Some(early) => {
                            early.push(message);
                            continue;
                        }
                        None => message,
                    }
                }
                LinkEvent::Control { bytes, is_text } => What::Control(if is_text {
                    Control::parse(&bytes)
                } else {
                    Err("found a binary frame, expected text".into())
                }),
                LinkEvent::Candidate(line) => What::Candidate(line),
                LinkEvent::EndOfCandidates => What::EndOfCandidates,
                LinkEvent::State(state) => What::State(state),
                LinkEvent::Open => What::Open,
                LinkEvent::Closed => return Ended::Closed,
            };
            let is_hello = matches!(what, What::Control(Ok(Control::Hello { .. })));
            let mut reports = vec![what];
            if is_hello {
                reports.extend(before_hello.take().into_iter().flatten());
            }
            for what in reports {
                if let Err(ended) = self.report(what) {
                    return ended;
                }
            }
        }
    }

    fn verify(&self, bytes: &[u8], is_text: bool) -> Result<Verified<IfMessage>, Box<Refusal>> {
        if is_text {
            verify(bytes, &*self.keyring)
        } else {
            Err(Box::new(Refusal::binary(bytes)))
        }
    }

    async fn obey(&self, link: &Link, order: Order) -> Result<(), LinkError> {
        match order {
            Order::Accept(answer) => link.accept(&answer).await,
            Order::Candidate(line) => {
                // A candidate that cannot be used costs one path, not the link.
                if let Err(err) = link.add_candidate(line).await {
                    tracing::debug!(peer = %self.peer, %err, "candidate ignored");
                }
                Ok(())
            }
        }
    }

    fn report(&self, what: What) -> Result<(), Ended> {
        let agent = self.agent.upgrade().ok_or(Ended::NobodyListens)?;
        let told = agent.enter(|core| core.on_report(self.id, what));
        told.ok_or(Ended::NobodyListens)
    }
}

/// Why a reader stopped.
enum Ended {
    Closed,
    TooMuchBeforeHello,
    Failed(LinkError),
    NobodyListens,
}

/// All that a writer needs.
pub(super) struct Writer {
    pub(super) id: LinkId,
    pub(super) link: Link,
    pub(super) way: Weak<Outgoing>,
    pub(super) messages: mpsc::UnboundedReceiver<Bytes>,
    pub(super) control: mpsc::Receiver<String>,
    pub(super) agent: Weak<Shared>,
}

impl Writer {
    /// Sends what is queued for the link until both queues are closed and drained. A link that
    /// does not take it is down, whatever the engine thinks of it: another one is made.
    pub(super) async fn run(mut self) {
        let Err(err) = self.write().await else { return };
        if let Some(agent) = self.agent.upgrade() {
            let down = What::Down(format!("cannot be written to: {err}"));
            agent.enter(|core| core.on_report(self.id, down));
        }
    }

    /// Messages and control frames independently: a full messaging channel must not hold up
    /// acknowledgements.
    async fn write(&mut self) -> Result<(), LinkError> {
        let (link, way) = (&self.link, &self.way);
        let messages = async {
            while let Some(bytes) = self.messages.recv().await {
                // Whoever lets go of the way has no more use for what is queued but to send it.
                match way.upgrade() {
                    Some(way) => way.send_queued(&bytes).await?,
                    None => link.send_message(text(&bytes)).await?,
                }
            }
            Ok(())
        };
        let control = async {
            while let Some(frame) = self.control.recv().await {
                link.send_control(&frame).await?;
            }
            Ok(())
        };
        tokio::try_join!(messages, control).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::agent::{AgentEvent, Subscription, test_pair};
    use crate::mesh::OutboxLimits;
    use crate::message::MAX_MESSAGE;

    async fn until(events: &mut Subscription, wanted: fn(&AgentEvent) -> bool) {
        let came = async { while !wanted(&events.recv().await.expect("it lives")) {} };
        timeout(Duration::from_secs(60), came)
            .await
            .expect("it comes");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_link_that_does_not_take_messages_any_more_is_made_anew() {
        let (ann, bob, server) = test_pair::pair(OutboxLimits::default()).await;
        let mut events = ann.subscribe();
        // What the link refuses, and the agent itself would never hand to it.
        let too_large = Bytes::from(vec![b' '; MAX_MESSAGE + 1]);
        ann.shared.enter(|core| {
            let made = core.link_to(bob.id()).expect("it is linked");
            made.way.send(too_large);
        });
        until(&mut events, |e| matches!(e, AgentEvent::PeerDown { .. })).await;
        until(&mut events, |e| matches!(e, AgentEvent::PeerUp { .. })).await;
        ann.shutdown("done").await.unwrap();
        bob.shutdown("done").await.unwrap();
        server.shutdown().await;
    }
}
