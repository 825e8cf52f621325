//! What agents hear and say: frames in, the mesh's outputs out.

use std::collections::BTreeMap;

use super::node::{End, Frame, Input, Message, Place, Stream, Verdict};
use super::world::{Sdp, Signal, Wire, World, index};
use crate::identity::{AgentId, LinkId};
use crate::mesh::{GivenBack, MAX_BEFORE_HELLO, Output, RefusedNotice};
use crate::message::{Destination, Reason};

impl World {
    pub(super) fn on_signal(&mut self, to: Place, signal: Signal) {
        self.note(|| format!("{to:?} {signal:?}"));
        let Some(node) = self.nodes.get_mut(&to.agent).filter(|n| n.place == to) else {
            return;
        };
        if node.is_frozen() {
            return node.backlog.push_back(Input::Signal(signal));
        }
        match signal {
            Signal::Lost => node.mesh.signaling_lost(self.now),
            Signal::Registered(there) => node.mesh.signaling_back(&there, self.now),
            Signal::Joined(id, session) => node.mesh.peer_seen(&id, session, self.now),
            Signal::Left(id, session) => node.mesh.peer_left(&id, session, self.now),
            Signal::PleaseOffer(id) => node.mesh.please_offer(&id, self.now),
            Signal::Offer(sdp) if sdp.to_session == node.session => {
                let verdict = node
                    .mesh
                    .offer(&sdp.from_id, sdp.session, sdp.link, self.now);
                if verdict.is_ok() {
                    let taken = node.mesh.candidates(&sdp.from_id, sdp.link);
                    self.laws.must(taken, || {
                        "candidates of an accepted offer are refused".into()
                    });
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
                    let Some(end) = node.ends.get_mut(&sdp.link) else {
                        return self.laws.must(false, || {
                            "an answer is taken for a link never dialled".into()
                        });
                    };
                    end.to = sdp.from;
                    if self.stormy && self.chance.per_mille(100) {
                        self.faults.add("dials failed", 1); // no path: nothing ever arrives
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
        let (link, agent, now) = (wire.link, wire.to.agent, self.now);
        self.note(|| format!("{wire:?} {frame:?}"));
        let Some(node) = self.nodes.get_mut(&agent).filter(|n| n.place == wire.to) else {
            return;
        };
        if node.is_frozen() {
            return node.backlog.push_back(Input::Frame(wire, frame));
        }
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
                self.laws.must(greeted.is_ok(), || {
                    format!("a hello is refused: {greeted:?}")
                });
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
                if end.held.len() > MAX_BEFORE_HELLO {
                    // As the contract says: they come again on the next link.
                    self.faults.add("links flooded before hello", 1);
                    self.laws.must(!self.shape.reliable, || {
                        format!("{agent} is sent more before its hello than it keeps")
                    });
                    return self.end_broke(wire.to, link);
                }
            }
            Frame::Message(message) => self.take(agent, link, message),
        }
        self.drain(agent);
    }

    /// A message came over a link that is up.
    fn take(&mut self, agent: usize, link: LinkId, message: Message) {
        record(&mut self.came, agent, &message);
        let (now, wall) = (self.now, self.wall_of(agent));
        let until_taken = self.waits_for_program(agent, &message);
        let Some(node) = self.nodes.get_mut(&agent) else {
            return;
        };
        match node.receive(link, &message, until_taken, now, wall) {
            Verdict::Accepted => {
                let delivered = node.delivered.entry(message.stream()).or_default();
                let (number, last) = (message.sequence_num, delivered.last().copied());
                let is_new = delivered.insert(number);
                let in_order = !self.shape.reliable || last < Some(number);
                self.laws.must(is_new && in_order, || {
                    format!("{agent} accepts {message:?} after {last:?}")
                });
                if self.shape.reliable {
                    // The last is enough, and a run is long.
                    let node = self.nodes.get_mut(&agent);
                    if let Some(set) = node.and_then(|n| n.delivered.get_mut(&message.stream())) {
                        *set = set.split_off(&number);
                    }
                }
                self.hand_over(agent, message, until_taken);
            }
            Verdict::Spoiled(Some(notice)) => {
                self.tell_refused(agent, notice, Reason::BadSignature);
            }
            Verdict::Spoiled(None) => {}
            Verdict::Refused(reason) => {
                // What is sent again after a lost acknowledgement is a duplicate, and no fault.
                self.laws.must(reason == Reason::Replayed, || {
                    format!("{agent} refuses {message:?}: {reason}")
                });
                self.faults.add("replays refused", 1);
            }
        }
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
        let Some(node) = self.nodes.get_mut(&at.agent).filter(|n| n.place == at) else {
            return;
        };
        if node.is_frozen() {
            // It learns of it when it goes on.
            self.faults.add("links broken while frozen", 1);
            return node.backlog.push_back(Input::Broke(link));
        }
        if node.ends.remove(&link).is_some() {
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
        if self.is_cut(agent, end.to.agent) {
            // What the transport repeats arrives once the path is mended, if the link lives so long.
            self.faults.add("frames held up by a cut", 1);
            return self.stalled.push((agent, wire, frame));
        }
        self.put(wire, frame);
    }

    pub(super) fn put(&mut self, wire: Wire, frame: Frame) {
        let network = match wire.control {
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
        // Told once all is done that the mesh has said: it may have changed its mind already.
        for (place, link) in std::mem::take(&mut self.failed) {
            self.end_broke(place, link);
        }
        // Whoever notices what, and when: one link is up, and one is being made.
        let mut ends = BTreeMap::<usize, usize>::new();
        for end in self.nodes.get(&agent).iter().flat_map(|n| n.ends.values()) {
            *ends.entry(end.to.agent).or_default() += 1;
        }
        self.laws.must(ends.values().all(|n| *n <= 2), || {
            format!("{agent} has links to {ends:?}")
        });
    }

    fn obey(&mut self, agent: usize, output: Output) {
        let Some(node) = self.nodes.get_mut(&agent) else {
            return; // It has just spoken.
        };
        let session = node.session;
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
                self.laws
                    .must(taken.is_none(), || format!("{link} is used twice"));
                let offer = Sdp {
                    from: node.place,
                    from_id: node.id.clone(),
                    session,
                    to_session,
                    link,
                };
                let here = node.place;
                if !self.relay(to, Signal::Offer(offer)) {
                    self.failed.push((here, link));
                }
            }
            Output::AskForOffer { peer } => {
                let me = node.id.clone();
                self.relay(index(&peer), Signal::PleaseOffer(me));
            }
            Output::Close { link, why } => {
                if self.chance.per_mille(800) {
                    self.transmit(agent, link, Frame::Fin);
                }
                let node = self.nodes.get_mut(&agent);
                let end = node.and_then(|node| node.ends.remove(&link));
                self.laws.must(end.is_some(), || {
                    format!("{agent} closes {link} twice: {why:?}")
                });
            }
            Output::SendHello { link, next } => {
                let to = node.ends.get(&link).map(|end| end.to);
                let hello = Frame::Hello {
                    agent_id: node.id.clone(),
                    session,
                    next,
                };
                self.transmit(agent, link, hello);
                // What it does not ask for is acknowledged.
                if let Some(far) = to.and_then(|to| Some((to.agent, self.session_at(to)?))) {
                    self.vouches(agent, far, false, next.direct.saturating_sub(1));
                    self.vouches(agent, far, true, next.all.saturating_sub(1));
                }
            }
            Output::SendAck {
                link,
                session,
                destination,
                up_to,
            } => {
                self.laws.must(self.shape.reliable, || {
                    "acknowledged on a channel where nothing is".into()
                });
                if let Some(end) = node.ends.get(&link) {
                    let (far, to_all) = ((end.to.agent, session), destination == Destination::All);
                    self.vouches(agent, far, to_all, up_to);
                }
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
            Output::PeerUp { peer, link } => {
                if let Some(disk) = self.disks.get_mut(&agent) {
                    disk.journal.meet(&peer);
                }
                let Some(end) = node.ends.get_mut(&link) else {
                    return self
                        .laws
                        .must(false, || format!("{link} is up and not there"));
                };
                let was_up = std::mem::replace(&mut end.up, true);
                let held = std::mem::take(&mut end.held);
                self.laws.must(!was_up, || format!("{link} is up twice"));
                for message in held {
                    self.take(agent, link, message);
                }
            }
            Output::PeerUnhealthy { .. } => self.faults.add("unhealthy links", 1),
            Output::PeerDown { .. } | Output::PeerRecovered { .. } => {}
            Output::Acked {
                peer,
                destination,
                up_to,
            } => {
                let stream = (node.id.clone(), session, destination == Destination::All);
                let came = self.came.get(&(index(&peer), stream)).copied();
                self.laws.must(Some(up_to) <= came, || {
                    format!("{peer} acknowledges {up_to}, saw {came:?}")
                });
                let lane = (index(&peer), destination == Destination::All);
                let acked = node.acked.entry(lane).or_default();
                *acked = up_to.max(*acked);
                self.settle(agent, &peer, &destination, (0, up_to));
            }
            Output::Transmit {
                peer, link, bytes, ..
            } => {
                let place = String::from_utf8_lossy(&bytes).parse::<usize>();
                let message = place.ok().and_then(|place| self.said.get(place)).cloned();
                let Some(message) = message else {
                    return self
                        .laws
                        .must(false, || format!("{agent} sends what nobody said"));
                };
                let lane = (index(&peer), message.destination == Destination::All);
                let acked = node.acked.get(&lane).copied();
                self.laws.must(acked < Some(message.sequence_num), || {
                    format!("{agent} sends {message:?} again, and {acked:?} is acknowledged")
                });
                self.transmit(agent, link, Frame::Message(message));
            }
            Output::Room { .. } => {}
            Output::Undelivered {
                peer,
                destination,
                from,
                to,
                why,
            } => {
                self.laws
                    .must(from <= to, || format!("given back {from} to {to}"));
                // Nothing else is excepted from the promise: in no run is there more to keep than an
                // outbox holds, or for longer.
                let has_left = node.leaves_at.is_some() && !self.disks.contains_key(&agent);
                self.laws.must(why == GivenBack::Left && has_left, || {
                    let why = why.as_str();
                    format!("{agent} gives back {from} to {to} of {peer}, which is lost: {why}")
                });
                self.faults.add(why.as_str(), 1);
                self.give_back(agent, &peer, &destination, (from, to));
                self.settle(agent, &peer, &destination, (from, to));
            }
            Output::RefusedByPeer {
                peer,
                destination,
                sequence_num,
                ..
            } => {
                let number = (sequence_num, sequence_num);
                let is_good = self
                    .said_by(agent, &destination, number)
                    .any(|m| !m.spoiled);
                self.laws.must(!is_good, || {
                    format!(
                        "{agent} is told that {peer} refuses {sequence_num}, which was not spoiled"
                    )
                });
                self.faults.add("refusals told", 1);
                self.settle(agent, &peer, &destination, number);
            }
        }
    }

    /// The disk of an agent forgets what is settled.
    fn settle(&mut self, agent: usize, peer: &AgentId, to: &Destination, range: (u64, u64)) {
        if let Some(disk) = self.disks.get_mut(&agent) {
            disk.journal.settled(peer, to, range);
        }
    }

    /// The caller is given back what was not delivered.
    fn give_back(&mut self, agent: usize, peer: &AgentId, to: &Destination, range: (u64, u64)) {
        let receiver = index(peer);
        let its = self.said_by(agent, to, range);
        let numbers = its.filter_map(|message| message.numbers.get(&receiver).copied());
        for number in numbers.collect::<Vec<_>>() {
            let lane = (agent, receiver, *to == Destination::All);
            self.ledger.forgive(&lane, number);
        }
    }

    /// What this agent has said under these numbers of its session.
    fn said_by(
        &self,
        agent: usize,
        to: &Destination,
        range: (u64, u64),
    ) -> impl Iterator<Item = &Message> {
        let node = self.nodes.get(&agent);
        self.said.iter().filter(move |message| {
            node.is_some_and(|node| message.source == node.id && message.session == node.session)
                && message.destination == *to
                && (range.0..=range.1).contains(&message.sequence_num)
        })
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
