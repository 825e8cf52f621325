//! How links come to be: signaling frames, offers and answers, candidates, and a link's life.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::core::Core;
use super::effects::Effect;
use super::event::AgentEvent;
use super::link_task::{Begin, Order, Reader, What};
use super::links::{Active, Made};
use super::testimony;
use crate::identity::{AgentId, LinkId, Session};
use crate::link::{CandidateLine, Link};
use crate::mesh::CloseReason;
use crate::message::SdpReason;
use crate::signal::{
    Candidate, Candidates, ClientFrame, ErrorCode, ErrorFrame, Peer, RecvError, SdpBody, SdpExpect,
    SdpFrame, SdpKind, ServerFrame,
};
use crate::witness::Event;

impl Core {
    /// Something came from the server. The break is that of the connection, with the pause that the
    /// server asked for.
    pub(super) fn on_signaling(
        &mut self,
        frame: Option<Result<ServerFrame, RecvError>>,
    ) -> ControlFlow<Option<Duration>> {
        let goes_on = self.heard(frame);
        self.drain_mesh();
        match goes_on {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(self.pause_asked.take()),
        }
    }

    fn heard(&mut self, frame: Option<Result<ServerFrame, RecvError>>) -> bool {
        match frame {
            Some(Ok(frame)) => return self.on_frame(frame),
            Some(Err(RecvError::Frame { error, .. })) => {
                let reason = error.reason.sdp_reason();
                if matches!(error.frame_type, Some("offer" | "answer")) {
                    self.reject_sdp(error.from.as_ref(), None, reason, &error.detail);
                } else if let Some(unsaid) = self.of_server.say(self.now) {
                    tracing::warn!(agent = %self.me, reason = %error, unsaid, "the server sent what is no frame");
                }
                return true;
            }
            Some(Err(err)) => self.signaling_lost(&err.to_string()),
            None => self.signaling_lost("closed by the server"),
        }
        false
    }

    fn on_frame(&mut self, frame: ServerFrame) -> bool {
        match frame {
            ServerFrame::AgentJoined { agent } => self.peer_seen(&agent),
            ServerFrame::AgentLeft {
                agent_id, session, ..
            } => self.mesh.peer_left(&agent_id, session, self.now),
            ServerFrame::PleaseOffer { from, .. } => self.mesh.please_offer(&from, self.now),
            ServerFrame::Offer(frame) => self.on_offer(frame),
            ServerFrame::Answer(frame) => self.on_answer(frame),
            ServerFrame::IceCandidates(candidates) => self.on_candidates(candidates),
            ServerFrame::Error(error) => return self.on_error(error),
            ServerFrame::Challenge { .. } | ServerFrame::Registered(_) => {
                if let Some(unsaid) = self.of_server.say(self.now) {
                    tracing::warn!(agent = %self.me, reason = "registered already", unsaid, "the server repeats itself; ignored");
                }
            }
        }
        true
    }

    /// The server says that an agent is there. Only who is known, under the right key, is dialled.
    pub(super) fn peer_seen(&mut self, peer: &Peer) {
        if self.may_be_dialled(peer) {
            self.mesh.peer_seen(&peer.agent_id, peer.session, self.now);
        }
    }

    pub(super) fn may_be_dialled(&mut self, peer: &Peer) -> bool {
        let is_known = self.keyring.admits(&peer.agent_id, &peer.public_key);
        if !is_known
            && peer.agent_id != self.me
            && let Some(unsaid) = self.of_server.say(self.now)
        {
            tracing::warn!(
                agent = %self.me,
                peer = %peer.agent_id,
                reason = "key-mismatch or unknown-source",
                unsaid,
                "not in the roster under this key; not dialled"
            );
        }
        is_known && peer.agent_id != self.me
    }

    fn on_offer(&mut self, frame: SdpFrame) {
        if let Err((reason, detail)) = self.check_sdp(&frame) {
            return self.reject_sdp(Some(&frame.from), Some(&frame), reason, &detail);
        }
        let (from, session, link) = (frame.from.clone(), frame.session, frame.link);
        if let Err(reason) = self.mesh.offer(&from, session, link, self.now) {
            return self.reject_sdp(Some(&from), Some(&frame), reason, "");
        }
        self.testify(testimony::sdp(
            Event::WebrtcOfferReceived,
            &from,
            &frame,
            self.sdp_detail,
            self.wall,
        ));
        self.begin(from, session, link, Begin::Answer { offer: frame.sdp });
    }

    fn on_answer(&mut self, frame: SdpFrame) {
        if let Err((reason, detail)) = self.check_sdp(&frame) {
            return self.reject_sdp(Some(&frame.from), Some(&frame), reason, &detail);
        }
        let answered = self
            .mesh
            .answer(&frame.from, frame.session, frame.link, self.now);
        if let Err(reason) = answered {
            return self.reject_sdp(Some(&frame.from), Some(&frame), reason, "");
        }
        self.testify(testimony::sdp(
            Event::WebrtcAnswerReceived,
            &frame.from,
            &frame,
            self.sdp_detail,
            self.wall,
        ));
        self.order(frame.link, Order::Accept(frame.sdp));
    }

    /// Everything about an offer or answer that needs no knowledge of the mesh.
    fn check_sdp(&self, frame: &SdpFrame) -> Result<(), (SdpReason, String)> {
        // Without a roster, first sight pins the key, of a frame that was really signed with it.
        if frame.verify_offline(None).is_ok() {
            self.keyring.admits(&frame.from, &frame.public_key);
        }
        let expect = SdpExpect {
            me: &self.me,
            my_session: self.session,
            swarm: &self.swarm,
            key_of: &*self.keyring,
        };
        let verified = frame.verify(&expect);
        verified.map_err(|refusal| (refusal.reason, refusal.detail))
    }

    fn reject_sdp(
        &mut self,
        peer: Option<&AgentId>,
        frame: Option<&SdpFrame>,
        reason: SdpReason,
        detail: &str,
    ) {
        self.stats.sdp_rejected += 1;
        self.tally.sdp_rejected(reason);
        let keep = self.sdp_detail;
        self.testify(testimony::sdp_rejected(
            peer, frame, reason, detail, keep, self.wall,
        ));
        if let Some(peer) = peer {
            self.tell(AgentEvent::SdpRejected {
                peer: peer.clone(),
                reason,
                detail: detail.to_owned(),
            });
        }
    }

    fn on_candidates(&mut self, candidates: Candidates) {
        if candidates.to != self.me || !self.mesh.candidates(&candidates.from, candidates.link) {
            return;
        }
        let Some(active) = self.links.get_mut(candidates.link) else {
            return;
        };
        // Nobody signs them, and the link keeps each for as long as it lives.
        let room = MAX_CANDIDATES - active.candidates_taken;
        let taken = candidates.candidates.into_iter().take(room);
        active.candidates_taken += taken.len();
        for candidate in taken {
            let line = CandidateLine {
                candidate: candidate.candidate,
                sdp_mid: candidate.sdp_mid,
                sdp_mline_index: candidate.sdp_mline_index,
            };
            self.order(candidates.link, Order::Candidate(line));
        }
    }

    fn on_error(&mut self, error: ErrorFrame) -> bool {
        self.pause_asked = error.retry_after();
        match error.code {
            ErrorCode::Replaced => {
                let (me, key) = (&self.me, self.key.public_key());
                let later = error.later.as_ref();
                if !later.is_some_and(|later| later.proves(&self.swarm, me, &key, self.session)) {
                    // An equal session is another connection of this very process; whoever says
                    // more without the proof wants to end it.
                    self.signaling_lost("replaced, and no later registration was shown");
                    return false;
                }
                self.replaced();
            }
            _ => {
                let (link, to) = (error.link.map(tracing::field::display), error.to.as_ref());
                let peer = to.map(tracing::field::display);
                if let Some(unsaid) = self.of_server.say(self.now) {
                    tracing::warn!(agent = %self.me, peer, link, reason = %error.code, detail = %error.message, unsaid, "the server refused");
                }
                // A frame that nobody signed: it can end an attempt, which the server could by its
                // silence too, and never a link that is up.
                let is_attempt = |link| self.links.get(link).is_some_and(|l| l.setup.is_none());
                if let Some(link) = error.link.filter(|link| is_attempt(*link)) {
                    self.close_link(link, "refused by the server");
                    self.mesh.link_closed(link, self.now);
                }
            }
        }
        true
    }

    pub(super) fn dial(&mut self, peer: AgentId, session: Session, link: LinkId) {
        self.begin(peer, session, link, Begin::Dial);
    }

    /// Starts a link's reader, which makes the link.
    fn begin(&mut self, peer: AgentId, session: Session, id: LinkId, begin: Begin) {
        let (orders, orders_out) = mpsc::channel(ORDERS);
        let kind = match begin {
            Begin::Dial => SdpKind::Offer,
            Begin::Answer { .. } => SdpKind::Answer,
        };
        let reader = Reader {
            id,
            permits: self.links.permits_of(&peer),
            peer: peer.clone(),
            endpoint: self.endpoint.clone(),
            keyring: self.keyring.clone(),
            orders: orders_out,
            agent: self.links.agent(),
            crowded: self.gate.holds().then(|| self.gate.crowded()),
        };
        let reader = self.spawn(reader.run(begin));
        self.links.insert(
            id,
            Active {
                peer,
                peer_session: session,
                kind,
                orders,
                reader,
                since: self.now,
                setup: None,
                made: None,
                candidates_taken: 0,
                candidates: Vec::new(),
                candidates_end: false,
                candidates_due: None,
            },
        );
    }

    /// Something happened on a link.
    pub(super) fn on_report(&mut self, link: LinkId, what: What) {
        let Some(peer) = self.links.get(link).map(|active| active.peer.clone()) else {
            // The mesh has given this link up; what still comes from it is dropped unread.
            return;
        };
        match what {
            What::Described { link: made, sdp } => self.described(link, made, sdp),
            What::Candidate(line) => self.candidate_found(link, Some(line)),
            What::EndOfCandidates => self.candidate_found(link, None),
            What::State(state) => {
                self.state_changed(&peer, link, state);
                match state {
                    "disconnected" => self.mesh.link_disturbed(link, self.now),
                    "connected" => self.mesh.link_settled(link, self.now),
                    _ => {}
                }
            }
            What::Open => {
                let open = json!({ "channels": ["if-agent-messaging", "if-agent-control"] });
                self.testify(testimony::link(
                    Event::DatachannelOpen,
                    &peer,
                    link,
                    open,
                    self.wall,
                ));
                self.mesh.link_open(link, self.now);
            }
            What::Control(frame) => self.on_control(&peer, link, frame),
            What::Message { verdict, permit } => self.on_message(&peer, link, verdict, permit),
            What::Down(why) => {
                self.close_link(link, &why);
                self.mesh.link_closed(link, self.now);
            }
        }
        self.drain_mesh();
    }

    /// The offer or answer is made: sign it, witness it, send it.
    fn described(&mut self, id: LinkId, made: Link, sdp: String) {
        let agent = self.links.agent();
        let Some(active) = self.links.get_mut(id) else {
            return;
        };
        active.made = Some(Made::start(id, made, agent, &self.runtime));
        let body = SdpBody {
            swarm: self.swarm.clone(),
            from: self.me.clone(),
            to: active.peer.clone(),
            session: self.session,
            to_session: active.peer_session,
            link: id,
            kind: active.kind,
            sdp,
        };
        let event = match active.kind {
            SdpKind::Offer => Event::WebrtcOfferCreated,
            SdpKind::Answer => Event::WebrtcAnswerCreated,
        };
        let frame = SdpFrame::sign(body, &self.key);
        let entry = testimony::sdp(event, &frame.to, &frame, self.sdp_detail, self.wall);
        self.testify(entry);
        self.effects.push(Effect::Signal(frame.into()));
    }

    /// Candidates go out in batches: the first waits for more.
    fn candidate_found(&mut self, id: LinkId, line: Option<CandidateLine>) {
        let Some(active) = self.links.get_mut(id) else {
            return;
        };
        active.candidates_end |= line.is_none();
        active.candidates.extend(line);
        let due = match active.candidates_end {
            true => self.now,
            false => self.now + CANDIDATE_BATCH,
        };
        let earlier = active.candidates_due.map_or(due, |before| before.min(due));
        active.candidates_due = Some(earlier);
    }

    pub(super) fn flush_candidates(&mut self) {
        let mut entries = Vec::new();
        for (id, active) in self.links.with_candidates(self.now) {
            active.candidates_due = None;
            let lines = std::mem::take(&mut active.candidates);
            let count = json!({ "candidates": lines.len(), "end": active.candidates_end });
            let event = Event::IceCandidatesSent;
            entries.push(testimony::link(event, &active.peer, id, count, self.wall));
            let frame = Candidates {
                from: self.me.clone(),
                to: active.peer.clone(),
                link: id,
                candidates: lines.into_iter().map(Candidate::from).collect(),
                end: active.candidates_end,
            };
            self.effects
                .push(Effect::Signal(ClientFrame::IceCandidates(frame)));
        }
        entries.into_iter().for_each(|entry| self.testify(entry));
    }

    pub(super) fn peer_up(&mut self, peer: AgentId, link: LinkId) {
        let Some(active) = self.links.get_mut(link) else {
            return;
        };
        let setup = self.now - active.since;
        active.setup = Some(setup);
        if let Some(made) = &active.made {
            self.files.up(&peer, link, made.link.clone());
        }
        self.countersigning.cosigners.up(&peer, link);
        self.state_changed(&peer, link, "up");
        self.tell(AgentEvent::PeerUp { peer, setup });
    }

    pub(super) fn peer_down(&mut self, peer: AgentId, link: LinkId, why: CloseReason) {
        self.files.down(&peer);
        self.countersigning.peer_down(&peer);
        self.testify(testimony::peer_lost(&peer, link, why, self.wall));
        self.tell(AgentEvent::PeerDown { peer, why });
    }

    pub(super) fn state_changed(&mut self, peer: &AgentId, link: LinkId, state: &str) {
        let event = match state {
            "recovered" => Event::PeerRecovered,
            _ => Event::ConnectionStateChanged,
        };
        let state = json!({ "state": state });
        self.testify(testimony::link(event, peer, link, state, self.wall));
    }

    pub(super) fn close_link(&mut self, link: LinkId, why: &str) {
        let Some(active) = self.links.remove(link) else {
            return;
        };
        let peer = active.peer.clone();
        self.spawn(active.end());
        let why = json!({ "reason": why });
        self.testify(testimony::link(
            Event::DatachannelClosed,
            &peer,
            link,
            why,
            self.wall,
        ));
    }

    fn order(&mut self, link: LinkId, order: Order) {
        let sent = self.links.get(link).map(|l| l.orders.try_send(order));
        if let Some(Err(err)) = sent {
            tracing::debug!(%link, %err, "an order was dropped");
        }
    }
}

impl From<CandidateLine> for Candidate {
    fn from(line: CandidateLine) -> Self {
        Self {
            candidate: line.candidate,
            sdp_mid: line.sdp_mid,
            sdp_mline_index: line.sdp_mline_index,
        }
    }
}

/// How long a candidate waits for others to travel with.
const CANDIDATE_BATCH: Duration = Duration::from_millis(20);
/// Candidates of a peer that one link takes: as many as pairs are checked at all (RFC 8445, section
/// 6.1.2.5).
const MAX_CANDIDATES: usize = 100;
/// Orders that wait for a link's reader: an answer and the candidates of a host with many
/// addresses.
const ORDERS: usize = 64;
