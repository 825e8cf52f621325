//! The only event loop of an agent: joins mesh, signal, link and witness.
//!
//! One round of the loop:
//!
//! 1. Wait for a report of a link, a command, a frame of the server, or a deadline; then take
//!    what else is there already, up to a bound.
//! 2. Tell the mesh, and turn its outputs into witness entries and effects.
//! 3. Write the witness, once for the whole round.
//! 4. Only then let the effects out: transmit, deliver, reply.
//!
//! The loop never waits for a peer, a subscriber or the server: all queues it writes to are
//! bounded and either hold a place already or are not waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::effects::{Directory, Effect};
use super::event::{AgentEvent, Subscribers, Subscription};
use super::keyring::Keyring;
use super::links::Links;
use super::{AgentError, PeerInfo, Receipt, SendError, Stats};
use crate::identity::{AgentId, KeyPair, Session, SwarmName};
use crate::link::Endpoint;
use crate::mesh::{Mesh, Output, PeerState, PeerView};
use crate::message::{Draft, Timestamp};
use crate::signal::{Client, ClientFrame, Goodbye, ServerFrame};
use crate::swarm::SdpDetail;
use crate::witness::{Entry, Event, Log, Summary};

/// What an agent's handle asks of its driver.
pub(super) enum Command {
    /// Sign and send; the places in the peers' queues are already the sender's.
    Send {
        draft: Draft,
        places: Vec<(AgentId, mpsc::OwnedPermit<Bytes>)>,
        reply: oneshot::Sender<Result<Receipt, SendError>>,
    },
    Subscribe(oneshot::Sender<Subscription>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Stats(oneshot::Sender<Stats>),
    /// Wait for acknowledgements at most so long, then leave.
    Shutdown {
        reason: String,
        grace: Duration,
    },
}

/// The driver's whole state.
pub(super) struct Driver {
    pub(super) me: AgentId,
    pub(super) swarm: SwarmName,
    pub(super) session: Session,
    pub(super) key: KeyPair,
    pub(super) keyring: Arc<Keyring>,
    pub(super) endpoint: Endpoint,
    pub(super) mesh: Mesh,
    pub(super) witness: Log,
    pub(super) sdp_detail: SdpDetail,
    pub(super) links: Links,
    pub(super) directory: Directory,
    pub(super) subscribers: Subscribers,
    pub(super) stats: Stats,
    pub(super) signal: Option<Client>,
    pub(super) signal_queue: mpsc::Sender<ClientFrame>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) tasks: JoinSet<()>,
    pub(super) effects: Vec<Effect>,
    pub(super) leaving: Option<Leaving>,
    /// Read once a round: all that happens in a round happens at one time.
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

/// On the way out.
pub(super) struct Leaving {
    pub(super) reason: String,
    pub(super) deadline: Instant,
    pub(super) why: Option<AgentError>,
}

impl Driver {
    /// Runs until the agent is told to leave, is replaced, or cannot write its witness.
    pub(super) async fn run(mut self) -> Result<Summary, AgentError> {
        while !self.may_leave() {
            self.round().await?;
        }
        self.leave().await
    }

    async fn round(&mut self) -> Result<(), AgentError> {
        let deadline = self.deadline();
        // Cancel-safe: receivers of queues, and a sleep.
        tokio::select! {
            report = self.links.next_report() => {
                self.read_clocks();
                self.on_report(report);
            }
            command = self.commands.recv() => {
                self.read_clocks();
                self.on_command(command);
            }
            frame = next_frame(&mut self.signal) => {
                self.read_clocks();
                self.on_signaling(frame);
            }
            () = tokio::time::sleep_until(deadline.into()) => self.read_clocks(),
        }
        for _ in 0..BURST {
            let report = self.links.try_report();
            let command = self.commands.try_recv().ok();
            if report.is_none() && command.is_none() {
                break;
            }
            report.into_iter().for_each(|report| self.on_report(report));
            command
                .into_iter()
                .for_each(|command| self.on_command(Some(command)));
        }
        self.mesh.tick(self.now);
        self.drain_mesh();
        self.flush_candidates();
        // A write to the page cache, some microseconds: cheaper than a hop to another thread,
        // and the order "witness, then transmit" stays visible.
        self.witness.commit()?;
        self.release();
        while self.tasks.try_join_next().is_some() {}
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let far = Instant::now() + IDLE;
        let leaving = self.leaving.as_ref().map(|leaving| leaving.deadline);
        [self.mesh.timeout(), self.links.candidates_due(), leaving]
            .into_iter()
            .flatten()
            .fold(far, Instant::min)
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Send {
                draft,
                places,
                reply,
            }) => self.send(draft, places, reply),
            Some(Command::Subscribe(reply)) => {
                let _ = reply.send(self.subscribers.add());
            }
            Some(Command::Peers(reply)) => {
                let _ = reply.send(self.links.describe(&self.mesh));
            }
            Some(Command::Stats(reply)) => {
                let _ = reply.send(self.stats);
            }
            Some(Command::Shutdown { reason, grace }) => self.begin_leaving(&reason, grace, None),
            // The last handle is gone: nobody waits for acknowledgements.
            None => self.begin_leaving("the program has ended", Duration::ZERO, None),
        }
    }

    /// Does what the mesh says, in order.
    pub(super) fn drain_mesh(&mut self) {
        while let Some(output) = self.mesh.poll() {
            self.on_output(output);
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Dial {
                peer,
                session,
                link,
            } => self.dial(peer, session, link),
            Output::AskForOffer { peer } => {
                self.effects.push(Effect::Signal(ClientFrame::PleaseOffer {
                    from: self.me.clone(),
                    to: peer,
                }))
            }
            Output::Close { link, why } => self.close_link(link, why.as_str()),
            Output::PeerUp { peer, link } => self.peer_up(peer, link),
            Output::PeerDown { peer, link, why } => self.peer_down(peer, link, why),
            Output::PeerUnhealthy { peer, link } => self.state_changed(&peer, link, "unhealthy"),
            Output::PeerRecovered { peer, link } => self.state_changed(&peer, link, "recovered"),
            Output::Acked {
                peer,
                destination,
                up_to,
            } => self.tell(AgentEvent::Acked {
                peer,
                destination,
                up_to,
            }),
            Output::Undelivered {
                peer,
                destination,
                from,
                to,
            } => self.tell(AgentEvent::Undelivered {
                peer,
                destination,
                from,
                to,
            }),
            Output::RefusedByPeer {
                peer,
                destination,
                sequence_num,
                reason,
            } => {
                self.stats.refused_by_peers += 1;
                self.tell(AgentEvent::RefusedByPeer {
                    peer,
                    destination,
                    sequence_num,
                    reason,
                });
            }
            Output::SendHello { .. }
            | Output::SendAck { .. }
            | Output::SendRefused { .. }
            | Output::SendPing { .. }
            | Output::SendPong { .. } => self.send_control(output),
        }
    }

    /// Lets out what the witness now has.
    fn release(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Message(place, bytes) => {
                    place.send(bytes);
                }
                Effect::Control(queue, frame) => {
                    // A peer that takes no control frames for so long is dead; its heartbeat
                    // will say so.
                    if queue.try_send(frame).is_err() {
                        tracing::debug!("a control frame was dropped");
                    }
                }
                Effect::Signal(frame) => {
                    if self.signal_queue.try_send(frame).is_err() {
                        tracing::warn!("a signaling frame was dropped; the dial is tried again");
                    }
                }
                Effect::Event(event, permit) => self.subscribers.publish(&event, permit),
                Effect::Reply(caller, receipt) => {
                    let _ = caller.send(Ok(receipt));
                }
            }
        }
    }

    pub(super) fn tell(&mut self, event: AgentEvent) {
        self.effects.push(Effect::Event(event, None));
    }

    pub(super) fn testify(&mut self, entry: Entry) {
        self.witness.append(entry);
    }

    fn read_clocks(&mut self) {
        self.now = Instant::now();
        self.wall = wall_clock();
    }

    pub(super) fn begin_leaving(&mut self, reason: &str, grace: Duration, why: Option<AgentError>) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                reason: reason.to_owned(),
                deadline: self.now + grace,
                why,
            });
        }
    }

    /// Whether it is time to go: told to, and all is acknowledged or the patience is over.
    fn may_leave(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            // Who has said goodbye acknowledges nothing any more.
            let awaited = |peer: &PeerView| peer.unacked > 0 && peer.state != PeerState::Gone;
            leaving.deadline <= Instant::now() || !self.mesh.peers().any(|peer| awaited(&peer))
        })
    }

    /// Says goodbye to everybody, lets the last bytes out, and closes the witness.
    async fn leave(mut self) -> Result<Summary, AgentError> {
        self.read_clocks();
        let leaving = self.leaving.take();
        let (reason, why) = leaving.map_or_else(Default::default, |l| (l.reason, l.why));
        let farewells = self.mesh.leave(self.now);
        // The last acknowledgements go first: a peer lets go of the link at the goodbye.
        self.drain_mesh();
        for farewell in farewells {
            self.say_goodbye(&farewell, &reason);
        }
        let goodbye = Goodbye::sign(
            &self.swarm,
            &self.me,
            self.session,
            &reason,
            BTreeMap::new(),
            &self.key,
        );
        self.effects
            .push(Effect::Signal(ClientFrame::Goodbye(goodbye)));
        self.witness.commit()?;
        self.release();
        self.links.close_all(&mut self.tasks);
        // The forwarder ends when its queue does, having sent the goodbye.
        drop(self.signal_queue);
        while timeout(LAST_STEPS, self.tasks.join_next())
            .await
            .is_ok_and(|t| t.is_some())
        {}
        self.tasks.shutdown().await;
        if let Some(client) = self.signal.take() {
            client.close().await;
        }
        self.endpoint.close().await;
        let summary = self.witness.close()?;
        match why {
            Some(why) => Err(why),
            None => Ok(summary),
        }
    }

    /// Signaling is gone for good, or never was.
    pub(super) fn signaling_lost(&mut self, why: &str) {
        self.signal = None;
        let entry = Entry::new(Event::SignalingLost, self.wall);
        self.testify(entry.metadata(json!({ "reason": why })));
        self.tell(AgentEvent::SignalingLost);
    }
}

/// Waits for ever when there is no client.
async fn next_frame(
    client: &mut Option<Client>,
) -> Option<Result<ServerFrame, crate::signal::RecvError>> {
    match client {
        Some(client) => client.recv().await,
        None => std::future::pending().await,
    }
}

/// The wall clock, in the wire's precision.
pub(super) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Inputs taken in one round, so that one write to the witness serves many messages and a round
/// stays below some milliseconds.
const BURST: usize = 64;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// What each closing link and the goodbye to the server may take.
const LAST_STEPS: Duration = Duration::from_secs(3);
