//! What agents hear and say: frames in, the mesh's outputs out.

use std::collections::BTreeMap;

use ifswarm::identity::LinkId;
use ifswarm::mesh::{CloseReason, MAX_BEFORE_HELLO, Output, RefusedNotice};
use ifswarm::message::{Destination, Reason};

use super::node::{End, Frame, Message, Place, Stream};
use super::world::{Sdp, Signal, Wire, World, index};

impl World {
    pub(super) fn on_signal(&mut self, to: Place, signal: Signal) {
        self.note(|| format!("{to:?} {signal:?}"));
        let Some(node) = self.nodes.get_mut(&to.agent).filter(|n| n.place == to) else {
            return;
        };
        match signal {
            Signal::Joined(id, session) => node.mesh.peer_seen(&id, session, self.now),
            Signal::Left(id, session) => node.mesh.peer_left(&id, session, self.now),
            Signal::PleaseOffer(id) => node.mesh.please_offer(&id, self.now),
            Signal::Offer(sdp) if sdp.to_session == node.session => {
                let verdict = node
                    .mesh
                    .offer(&sdp.from_id, sdp.session, sdp.link, self.now);
                if verdict.is_ok() {
                    assert!(node.mesh.candidates(&sdp.from_id, sdp.link));
                    let answer = Sdp {
                        from: to,
                        from_id: node.id.clone(),
                        session: node.session,
                        to_session: sdp.session,
                        link: sdp.link,
                    };
                    node.ends.insert(sdp.link, End::to(sdp.from));
                    self.relay(sdp.from.agent, Signal::Answer(answer));
                }
            }
            Signal::Answer(sdp) if sdp.to_session == node.session => {
                let verdict = node
                    .mesh
                    .answer(&sdp.from_id, sdp.session, sdp.link, self.now);
                if verdict.is_ok() {
                    let end = node.ends.get_mut(&sdp.link).expect("it was dialled");
                    end.to = sdp.from;
                    if self.stormy && self.chance.per_mille(100) {
                        self.faults.dials_failed += 1; // no path: nothing ever arrives
                    } else {
                        self.transmit(to.agent, sdp.link, Frame::Syn);
                    }
                }
            }
            Signal::Offer(_) | Signal::Answer(_) => {} // wrong-session
        }
        self.drain(to.agent);
    }

    pub(super) fn on_frame(&mut self, wire: Wire, frame: Frame) {
        let (link, agent, now, wall) = (wire.link, wire.to.agent, self.now, self.wall());
        self.note(|| format!("{wire:?} {frame:?}"));
        let Some(node) = self.nodes.get_mut(&agent).filter(|n| n.place == wire.to) else {
            return;
        };
        let Some(end) = node.ends.get_mut(&link) else {
            return; // closed: dropped unread
        };
        match frame {
            Frame::Syn | Frame::SynAck => {
                if !std::mem::replace(&mut end.open, true) {
                    node.mesh.link_open(link, now);
                    if matches!(frame, Frame::Syn) {
                        self.transmit(agent, link, Frame::SynAck);
                    }
                }
            }
            Frame::Hello {
                agent_id,
                session,
                next,
            } => {
                let greeted = node.mesh.hello(link, &agent_id, session, next, now);
                assert_eq!(greeted, Ok(()));
            }
            Frame::Ack {
                session,
                destination,
                up_to,
            } => node.mesh.ack(link, session, &destination, up_to, now),
            Frame::Refused {
                session,
                destination,
                sequence_num,
                reason,
            } => node
                .mesh
                .refused(link, session, &destination, sequence_num, reason, now),
            Frame::Ping(t) => node.mesh.ping(link, t, now),
            Frame::Pong(t) => {
                node.mesh.pong(link, t, now);
            }
            Frame::Goodbye(last) => node.mesh.goodbye(link, last, now),
            Frame::Fin => return self.end_broke(wire.to, link),
            Frame::Message(message) if !end.up => {
                end.held.push(message);
                assert!(end.held.len() <= MAX_BEFORE_HELLO);
            }
            Frame::Message(message) => {
                record(&mut self.came, agent, &message);
                let notice = node.receive(link, &message, self.shape.reliable, now, wall);
                if let Some(notice) = notice {
                    self.tell_refused(agent, notice, Reason::BadSignature);
                }
            }
        }
        self.drain(agent);
    }

    fn tell_refused(&mut self, agent: usize, notice: RefusedNotice, reason: Reason) {
        let frame = Frame::Refused {
            session: notice.session,
            destination: notice.destination,
            sequence_num: notice.sequence_num,
            reason,
        };
        self.transmit(agent, notice.link, frame);
    }

    pub(super) fn end_broke(&mut self, at: Place, link: LinkId) {
        if let Some(node) = self.nodes.get_mut(&at.agent).filter(|n| n.place == at)
            && node.ends.remove(&link).is_some()
        {
            node.mesh.link_closed(link, self.now);
            self.drain(at.agent);
        }
    }

    pub(super) fn transmit(&mut self, agent: usize, link: LinkId, frame: Frame) {
        let Some(end) = self.nodes.get(&agent).and_then(|n| n.ends.get(&link)) else {
            return;
        };
        let control = !matches!(frame, Frame::Message(_));
        let wire = Wire {
            link,
            to: end.to,
            control,
        };
        let network = match control {
            true => &mut self.control,
            false => &mut self.messages,
        };
        network.send(wire, frame, self.now);
    }

    // What the mesh says.

    pub(super) fn drain(&mut self, agent: usize) {
        while let Some(output) = self.nodes.get_mut(&agent).and_then(|n| n.mesh.poll()) {
            self.note(|| format!("{agent} {output:?}"));
            self.obey(agent, output);
        }
        let at_most = 2 * self.shape.agents;
        let ends = self.nodes.get(&agent).map_or(0, |node| node.ends.len());
        assert!(ends <= at_most, "{ends} ends of links");
    }

    fn obey(&mut self, agent: usize, output: Output) {
        let node = self.nodes.get_mut(&agent).expect("it has just spoken");
        let (now, session) = (self.now, node.session);
        match output {
            Output::Dial {
                peer,
                session: to_session,
                link,
            } => {
                self.dials += 1;
                let to = index(&peer);
                let nobody = Place { agent: to, run: 0 };
                let taken = node.ends.insert(link, End::to(nobody));
                assert!(taken.is_none(), "a link is used once");
                let offer = Sdp {
                    from: node.place,
                    from_id: node.id.clone(),
                    session,
                    to_session,
                    link,
                };
                if !self.relay(to, Signal::Offer(offer)) {
                    let here = self.nodes[&agent].place;
                    self.end_broke(here, link);
                }
            }
            Output::AskForOffer { peer } => {
                let me = node.id.clone();
                self.relay(index(&peer), Signal::PleaseOffer(me));
            }
            Output::Close { link, why } => {
                self.faults.dead_links += u64::from(why == CloseReason::Dead);
                if self.chance.per_mille(800) {
                    self.transmit(agent, link, Frame::Fin);
                }
                let node = self.nodes.get_mut(&agent).expect("as above");
                assert!(node.ends.remove(&link).is_some(), "closed twice: {why:?}");
            }
            Output::SendHello { link, next } => {
                let hello = Frame::Hello {
                    agent_id: node.id.clone(),
                    session,
                    next,
                };
                self.transmit(agent, link, hello);
            }
            Output::SendAck {
                link,
                session,
                destination,
                up_to,
            } => {
                assert!(self.shape.reliable);
                let ack = Frame::Ack {
                    session,
                    destination,
                    up_to,
                };
                self.transmit(agent, link, ack);
            }
            Output::SendRefused { notice, reason } => self.tell_refused(agent, notice, reason),
            Output::SendPing { link, t } => self.transmit(agent, link, Frame::Ping(t)),
            Output::SendPong { link, t } => self.transmit(agent, link, Frame::Pong(t)),
            Output::PeerUp { link, .. } => {
                let end = node.ends.get_mut(&link).expect("it is open");
                assert!(!std::mem::replace(&mut end.up, true), "up twice");
                for message in std::mem::take(&mut end.held) {
                    record(&mut self.came, agent, &message);
                    let (reliable, wall) = (self.shape.reliable, self.wall());
                    let node = self.nodes.get_mut(&agent).expect("as above");
                    if let Some(notice) = node.receive(link, &message, reliable, now, wall) {
                        self.tell_refused(agent, notice, Reason::BadSignature);
                    }
                }
            }
            Output::PeerDown { .. }
            | Output::PeerUnhealthy { .. }
            | Output::PeerRecovered { .. } => {}
            Output::Acked {
                peer,
                destination,
                up_to,
            } => {
                let stream = (node.id.clone(), session, destination == Destination::All);
                let came = self.came.get(&(index(&peer), stream)).copied();
                assert!(
                    Some(up_to) <= came,
                    "{peer} acknowledges {up_to}, saw {came:?}"
                );
            }
            Output::Transmit { link, bytes, .. } => {
                let place: usize = String::from_utf8_lossy(&bytes).parse().expect("a number");
                let message = self.said[place].clone();
                self.transmit(agent, link, Frame::Message(message));
            }
            Output::Room { .. } => {}
            Output::Undelivered { from, to, .. } => {
                assert!(from <= to);
                self.faults.undelivered += 1;
            }
            Output::RefusedByPeer { .. } => self.faults.refusals_told += 1,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let at = self.now.duration_since(self.start);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:?} {}", line()));
        }
    }
}

fn record(came: &mut BTreeMap<(usize, Stream), u64>, agent: usize, message: &Message) {
    let greatest = came.entry((agent, message.stream())).or_default();
    *greatest = message.sequence_num.max(*greatest);
}
