//! The state of an agent, and the one way to change it.
//!
//! Readers of links, callers of `send` and the driver's loop all do the same: [`Shared::enter`]
//! locks the state, lets one thing happen, and ends the round:
//!
//! 1. What happened is told to the mesh; its outputs become witness entries and effects.
//! 2. The witness is written.
//! 3. Only then are the effects let out: transmit, deliver. Under `witness.sync: always` they
//!    wait for the disk first, in the `gate`; nobody else does.
//!
//! A lock held for some microseconds, not a queue to a task of its own: that would be two hops
//! between tasks more each way, which is what a round trip on one host consists of. Nothing
//! inside waits for a peer, a subscriber or the server: all queues it writes to are bounded and
//! either hold a place already or are not waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::conversations::Conversations;
use super::countersigning::Countersigning;
use super::effects::Effect;
use super::event::AgentEvent;
use super::files::Files;
use super::gate::Gate;
use super::keyring::Keyring;
use super::links::Links;
use super::pen::Pen;
use super::sending::Rooms;
use super::subscription::Subscribers;
use super::taking::{Mark, Marks, SharedJournal, open};
use super::vitals::Tally;
use super::{AgentError, Stats, testimony};
use crate::identity::{AgentId, KeyPair, Session, SwarmName};
use crate::link::Endpoint;
use crate::mesh::{GivenBack, Mesh, Output, PeerState, PeerView};
use crate::message::{Destination, Timestamp};
use crate::outbox::Rewrite;
use crate::signal::{ClientFrame, Seldom, SeldomOfEach};
use crate::swarm::SdpDetail;
use crate::witness::{Log, OnWriteError};

/// The state, shared by an agent's handle and its tasks.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// The driver has to look again: a deadline has moved forward, or the agent is to leave.
    changed: Notify,
    /// The syncer has to wait for the disk, or to end.
    disk_wanted: Notify,
    /// The rewriter has to rewrite the journal, or to end.
    rewrite_wanted: Notify,
    marks: Marks,
    pub(super) pen: Pen,
}

/// The whole state of an agent.
pub(super) struct Core {
    pub(super) me: AgentId,
    pub(super) swarm: SwarmName,
    pub(super) session: Session,
    pub(super) key: KeyPair,
    pub(super) keyring: Arc<Keyring>,
    pub(super) endpoint: Endpoint,
    pub(super) mesh: Mesh,
    /// Taken when the agent has left: nothing is witnessed, and so nothing done, any more.
    pub(super) witness: Option<Log>,
    /// What has to be remembered over a crash; none in memory.
    pub(super) journal: Option<SharedJournal>,
    /// What the rewriter is to do next.
    pub(super) rewrite: Option<Rewrite>,
    pub(super) sdp_detail: SdpDetail,
    pub(super) links: Links,
    pub(super) rooms: Rooms,
    /// Whether what was sent is kept until it is acknowledged.
    pub(super) reliable: bool,
    /// Bytes of the largest message.
    pub(super) max_message: usize,
    pub(super) files: Arc<Files>,
    pub(super) subscribers: Subscribers,
    pub(super) stats: Stats,
    pub(super) conversations: Conversations,
    pub(super) tally: Tally,
    /// Frames for the server, of this connection to it alone.
    pub(super) signal_queue: mpsc::Sender<ClientFrame>,
    /// What the server asked to wait, should the connection end now.
    pub(super) pause_asked: Option<Duration>,
    /// Lines in the log that the server can bring about, and those that peers can.
    pub(super) of_server: Seldom,
    pub(super) of_peers: SeldomOfEach,
    /// Where the agent lives, whoever enters from another runtime.
    pub(super) runtime: Handle,
    pub(super) tasks: JoinSet<()>,
    /// Follows the host's addresses, if they were not given by hand.
    pub(super) network: Option<AbortHandle>,
    pub(super) on_error: OnWriteError,
    pub(super) effects: Vec<Effect>,
    pub(super) gate: Gate<Effect>,
    pub(super) countersigning: Countersigning,
    pub(super) leaving: Option<Leaving>,
    /// What the driver sleeps until.
    pub(super) armed: Instant,
    /// Read once a round: all that happens in a round happens at one time.
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
    /// How far the wall clock is off, in milliseconds; only a test of faults sets it.
    pub(super) clock_off_ms: i64,
}

/// On the way out.
pub(super) struct Leaving {
    pub(super) reason: String,
    /// Until when acknowledgements are waited for.
    pub(super) deadline: Instant,
    /// Until when cosignatures are.
    pub(super) countersigned_by: Instant,
    pub(super) why: Option<AgentError>,
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        let key = core.key.clone();
        Self {
            pen: Pen::new(core.me.clone(), core.session, key),
            core: Mutex::new(core),
            changed: Notify::new(),
            disk_wanted: Notify::new(),
            rewrite_wanted: Notify::new(),
            marks: Marks::default(),
        }
    }

    /// Lets one thing happen, and ends the round. `None` when it did not happen: the agent has
    /// ended, or ends now because its witness cannot be written.
    pub(super) fn enter<T>(&self, act: impl FnOnce(&mut Core) -> T) -> Option<T> {
        let mut core = self.look();
        core.witness.as_ref()?;
        core.read_clocks();
        core.acknowledge(self.marks.take());
        let result = act(&mut core);
        let witnessed = core.end_round();
        if core.may_leave() || core.deadline() < core.armed {
            self.changed.notify_one();
        }
        if core.gate.wants_the_disk() {
            self.want_the_disk();
        }
        if core.rewrite.is_some() {
            self.want_a_rewrite();
        }
        witnessed.then_some(result)
    }

    /// Nobody has a message any more. May be called by who has the state already.
    pub(super) fn took(&self, mark: Mark) {
        self.marks.push(mark);
        match self.core.try_lock() {
            Ok(core) => drop(core),
            Err(TryLockError::Poisoned(core)) => drop(core.into_inner()),
            // Whoever has it does this with the next round, which the driver begins.
            Err(TryLockError::WouldBlock) => return self.changed.notify_one(),
        }
        self.enter(|_| ());
    }

    /// Whether something was let go of and is not acknowledged.
    pub(super) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The state, to read or, at the very end, to take apart.
    pub(super) fn look(&self) -> MutexGuard<'_, Core> {
        // A panic inside would be a bug of ours; what other tasks find is still consistent
        // enough to say goodbye with.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the driver has to look again.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the disk has to be waited for, or the witness is taken.
    pub(super) async fn disk_wanted(&self) {
        self.disk_wanted.notified().await;
    }

    /// Wakes the one who waits for the disk.
    pub(super) fn want_the_disk(&self) {
        self.disk_wanted.notify_one();
    }

    /// Waits until the journal has to be rewritten, or the witness is taken.
    pub(super) async fn rewrite_wanted(&self) {
        self.rewrite_wanted.notified().await;
    }

    /// Wakes the one who rewrites the journal.
    pub(super) fn want_a_rewrite(&self) {
        self.rewrite_wanted.notify_one();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Core {
    /// When something is due.
    pub(super) fn deadline(&self) -> Instant {
        let leaving = self.leaving.as_ref();
        let leaving = leaving.map(|leaving| match leaving.countersigned_by > self.now {
            true => leaving.countersigned_by.min(leaving.deadline),
            false => leaving.deadline,
        });
        [
            self.mesh.timeout(),
            self.links.candidates_due(),
            self.gate.timeout(),
            leaving,
        ]
        .into_iter()
        .flatten()
        .fold(self.now + IDLE, Instant::min)
    }

    /// Whether it is time to go: told to, and all is acknowledged or the patience is over.
    pub(super) fn may_leave(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            // Who has said goodbye acknowledges nothing any more.
            let awaited = |peer: &PeerView| peer.unacked > 0 && peer.state != PeerState::Gone;
            let countersigned =
                leaving.countersigned_by <= self.now || self.countersigning.is_settled();
            let acknowledged = !self.mesh.peers().any(|peer| awaited(&peer));
            leaving.deadline <= self.now || acknowledged && countersigned
        })
    }

    pub(super) fn begin_leaving(&mut self, reason: &str, grace: Duration, why: Option<AgentError>) {
        if let Some(network) = self.network.take() {
            network.abort();
        }
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                reason: reason.to_owned(),
                deadline: self.now + grace,
                countersigned_by: self.now + grace.min(COSIGNATURES),
                why,
            });
            if !grace.is_zero() {
                self.call_for_the_last_time();
            }
        }
    }

    pub(super) fn read_clocks(&mut self) {
        self.now = Instant::now();
        let wall = wall_clock().unix_ms();
        self.wall = Timestamp::from_unix_ms(wall.saturating_add(self.clock_off_ms));
    }

    /// Whether what happened is witnessed.
    fn end_round(&mut self) -> bool {
        self.mesh.tick(self.now);
        self.drain_mesh();
        self.flush_candidates();
        self.gate.tick(self.now);
        let witnessed = self.commit_and_release();
        while self.tasks.try_join_next().is_some() {}
        witnessed
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
                let from = self.me.clone();
                let frame = ClientFrame::PleaseOffer { from, to: peer };
                self.effects.push(Effect::Signal(frame));
            }
            Output::Close { link, why } => self.close_link(link, why.as_str()),
            Output::PeerUp { peer, link } => {
                if let Some(journal) = &self.journal {
                    open(journal).met(&peer);
                }
                self.peer_up(peer, link);
            }
            Output::PeerDown { peer, link, why } => self.peer_down(peer, link, why),
            Output::PeerUnhealthy { peer, link } => self.state_changed(&peer, link, "unhealthy"),
            Output::PeerRecovered { peer, link } => self.state_changed(&peer, link, "recovered"),
            Output::Acked {
                peer,
                destination,
                up_to,
            } => {
                self.settled(&peer, &destination, (0, up_to));
                self.tell(AgentEvent::Acked {
                    peer,
                    destination,
                    up_to,
                });
            }
            Output::Undelivered {
                peer,
                destination,
                from,
                to,
                why,
            } => {
                let range = (from, to);
                if why == GivenBack::NoNeighbour {
                    // It happens before anybody can listen to events.
                    tracing::warn!(agent = %self.me, %peer, %destination, from, to, reason = why.as_str(), "messages that were kept in the outbox are given up");
                }
                self.settled(&peer, &destination, range);
                let entry = testimony::undelivered(&peer, &destination, range, why, self.wall);
                self.testify(entry);
                self.tell(AgentEvent::Undelivered {
                    peer,
                    destination,
                    from,
                    to,
                    why,
                });
            }
            Output::Transmit {
                peer,
                link,
                destination,
                sequence_num,
                bytes,
            } => self.transmit(&peer, link, (&destination, sequence_num), bytes),
            Output::Room { peer } => self.rooms.tell(&peer),
            Output::RefusedByPeer {
                peer,
                destination,
                sequence_num,
                reason,
            } => {
                self.stats.refused_by_peers += 1;
                self.settled(&peer, &destination, (sequence_num, sequence_num));
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

    /// These need not be remembered any longer.
    fn settled(&mut self, peer: &AgentId, destination: &Destination, (from, to): (u64, u64)) {
        if let Some(journal) = &self.journal {
            open(journal).settled(peer, destination, from, to);
        }
    }

    pub(super) fn tell(&mut self, event: AgentEvent) {
        self.effects.push(Effect::Event(event, None));
    }

    /// Runs a task for as long as the agent lives.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.tasks.spawn_on(task, &self.runtime)
    }
}

/// The wall clock, in the wire's precision.
pub(super) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// How long a leaving agent waits for its last checkpoint to be countersigned.
const COSIGNATURES: Duration = Duration::from_secs(1);
/// How long the driver sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
