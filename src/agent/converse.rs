//! What travels over links: messages out, messages in, control frames, goodbyes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::control::{Control, last_map, next_map, read_last, read_next};
use super::core::Core;
use super::effects::Effect;
use super::event::AgentEvent;
use super::links::Made;
use super::taking::{OnItsWay, is_behind, open};
use super::testimony;
use super::{Receipt, SendError};
use crate::identity::{AgentId, LinkId};
use crate::mesh::{self, Claimed, Farewell, Header, Output};
use crate::message::{Claim, Destination, IfMessage, Keys, Reason, Refusal, Signed, Verified};
use crate::signal::Goodbye;

impl Core {
    /// Witnesses a signed message and keeps it for its receivers; it goes out when the witness is
    /// written. Whom it is for is decided now: that may have changed while it was signed.
    pub(super) fn send(&mut self, signed: &Signed) -> Result<Receipt, SendError> {
        if self.leaving.is_some() {
            return Err(SendError::Ended);
        }
        let message = signed.message();
        let (destination, number) = (message.destination(), message.sequence_num());
        let assigned = self.mesh.assign(destination, self.now)?;
        if let (true, Destination::Agent(peer)) = (assigned.sequence_num != number, destination) {
            // It was forgotten meanwhile, and is known again: its numbers begin anew.
            let peer = peer.clone();
            return Err(mesh::SendError::NotConnected { peer }.into());
        }
        let bytes = signed.bytes();
        for peer in &assigned.to {
            self.check_size(peer, bytes.len())?;
        }
        // From here on nothing fails: what peers are told to expect does go out.
        self.testify(testimony::sent(signed, self.wall));
        self.stats.sent += 1;
        if let Some(journal) = &self.journal {
            open(journal).accepted(&assigned.to, destination, number, self.wall, &bytes);
        }
        self.mesh.sent(destination, &assigned, &bytes, self.now);
        if let Some(id) = message.conversation_id() {
            self.conversations
                .sent(id, &assigned.to, self.now, self.wall);
        }
        Ok(Receipt {
            id: message.id().to_owned(),
            sequence_num: number,
            to: assigned.to,
        })
    }

    fn check_size(&self, peer: &AgentId, size: usize) -> Result<(), SendError> {
        // Of a peer that is away its own limit is not known: that of this end stands for it.
        let linked = self.link_to(peer).map(|made| made.link.max_message());
        let limit = linked.unwrap_or(self.max_message);
        if size > limit {
            return Err(SendError::TooLarge {
                peer: peer.clone(),
                size,
                limit,
            });
        }
        Ok(())
    }

    /// The link that messages to `peer` go out on.
    pub(super) fn link_to(&self, peer: &AgentId) -> Option<&Made> {
        let link = self.mesh.sending_link(peer)?;
        self.links.get(link)?.made.as_ref()
    }

    /// Puts a message on a link: that of this destination and number.
    pub(super) fn transmit(
        &mut self,
        peer: &AgentId,
        link: LinkId,
        (destination, number): (&Destination, u64),
        bytes: Bytes,
    ) {
        let Some(made) = self.links.get(link).and_then(|link| link.made.as_ref()) else {
            return;
        };
        if bytes.len() <= made.link.max_message() {
            let way = Arc::clone(&made.way);
            return self.effects.push(Effect::Message(way, bytes));
        }
        // Accepted while the peer was away, or took more.
        self.mesh.give_up(peer, destination, number);
    }

    pub(super) fn on_message(
        &mut self,
        peer: &AgentId,
        link: LinkId,
        verdict: Result<Verified<IfMessage>, Box<Refusal>>,
        permit: OwnedSemaphorePermit,
    ) {
        let message = match verdict {
            Ok(message) => message,
            Err(refusal) => return self.refuse_unverified(peer, link, &refusal),
        };
        let header = Header {
            source: message.source(),
            session: message.session(),
            destination: message.destination(),
            sequence_num: message.sequence_num(),
            timestamp: message.timestamp(),
        };
        let until_taken = self.journal.is_some() || self.reliable && is_behind(permit.semaphore());
        let accepted = self
            .mesh
            .accept(link, &header, until_taken, self.now, self.wall);
        let claim = Claim::from(&message);
        match accepted {
            Ok(()) => {
                self.testify(testimony::received(peer, &claim, None, self.wall));
                self.stats.delivered += 1;
                if let Some(id) = message.conversation_id() {
                    let source = message.source();
                    self.conversations.received(id, source, self.now, self.wall);
                }
                self.listen_for_files(&message);
                let it = match until_taken {
                    true => OnItsWay::until_taken(
                        permit,
                        &message,
                        self.links.agent(),
                        self.journal.clone(),
                    ),
                    false => OnItsWay::acknowledged(permit),
                };
                let event = AgentEvent::Message(message);
                self.effects.push(Effect::Event(event, Some(it)));
            }
            Err(reason) => self.reject(peer, &claim, reason, ""),
        }
    }

    fn refuse_unverified(&mut self, peer: &AgentId, link: LinkId, refusal: &Refusal) {
        let claim = &refusal.claim;
        let claimed = Claimed {
            source: claim.source.as_ref(),
            session: claim.session,
            destination: claim.destination.as_ref(),
            sequence_num: claim.sequence_num,
        };
        self.reject(peer, claim, refusal.reason, &refusal.detail);
        if let Some(notice) = self.mesh.refused_unverified(link, &claimed, self.now) {
            let reason = refusal.reason;
            self.send_control(Output::SendRefused { notice, reason });
        }
    }

    fn reject(&mut self, peer: &AgentId, claim: &Claim, reason: Reason, detail: &str) {
        self.testify(testimony::received(
            peer,
            claim,
            Some((reason, detail)),
            self.wall,
        ));
        self.tally.refused(reason);
        match reason {
            Reason::Replayed => self.stats.duplicated += 1,
            _ => self.stats.rejected += 1,
        }
        self.tell(AgentEvent::Rejected {
            peer: peer.clone(),
            reason,
            detail: detail.to_owned(),
        });
    }

    pub(super) fn on_control(
        &mut self,
        peer: &AgentId,
        link: LinkId,
        frame: Result<Control, String>,
    ) {
        let now = self.now;
        match frame {
            Ok(Control::Hello {
                agent_id,
                session,
                next,
            }) => {
                // `next` names my own messages: those to the peer's id and to everybody.
                let next = read_next(&next, peer);
                if let Err(err) = self.mesh.hello(link, &agent_id, session, next, now)
                    && let Some(unsaid) = self.of_peers.say(peer, now)
                {
                    tracing::warn!(agent = %self.me, %peer, %link, reason = %err, unsaid, "hello refused");
                }
            }
            Ok(Control::Ack {
                session,
                destination,
                up_to,
            }) => self.mesh.ack(link, session, &destination, up_to, now),
            Ok(Control::Refused {
                session,
                destination,
                sequence_num,
                reason,
            }) => {
                let mesh = &mut self.mesh;
                mesh.refused(link, session, &destination, sequence_num, reason, now);
            }
            Ok(Control::Ping { t }) => self.mesh.ping(link, t, now),
            Ok(Control::Pong { t }) => {
                if let Some(rtt) = self.mesh.pong(link, t, now) {
                    self.tally.round_trips.record(rtt);
                }
            }
            Ok(Control::Goodbye {
                reason,
                last,
                signature,
            }) => self.on_goodbye(peer, link, reason, last, signature),
            Ok(Control::Checkpoint { note }) => self.on_checkpoint(peer, link, &note),
            Ok(Control::Cosign { note }) => self.on_cosign(peer, link, &note),
            Ok(Control::Consistency {
                origin,
                from,
                to,
                proof,
            }) => self.on_consistency(peer, &origin, (from, to), &proof),
            Ok(Control::FileAck { transfer, offset }) => {
                self.files.acked(peer, link, transfer, offset);
            }
            Ok(Control::Unknown) => self.stats.unknown_control += 1,
            Err(detail) => {
                self.stats.bad_control += 1;
                if let Some(unsaid) = self.of_peers.say(peer, now) {
                    tracing::warn!(agent = %self.me, %peer, %link, reason = %detail, unsaid, "a control frame was refused");
                }
            }
        }
    }

    fn on_goodbye(
        &mut self,
        peer: &AgentId,
        link: LinkId,
        reason: String,
        last: BTreeMap<Destination, u64>,
        signature: crate::identity::Signature,
    ) {
        let Some(session) = self.links.get(link).map(|active| active.peer_session) else {
            return;
        };
        let read = read_last(&last, &self.me);
        let goodbye = Goodbye {
            session,
            reason,
            last: by_name(last),
            signature,
        };
        let key = self.keyring.key_of(peer);
        let good = key.is_some_and(|key| goodbye.verify(&self.swarm, peer, &key).is_ok());
        if good {
            self.mesh.goodbye(link, read, self.now);
        } else {
            self.stats.bad_control += 1;
            if let Some(unsaid) = self.of_peers.say(peer, self.now) {
                tracing::warn!(agent = %self.me, %peer, %link, reason = "bad-signature", unsaid, "a goodbye was not signed by the one who leaves; ignored");
            }
        }
    }

    /// Queues a goodbye; the link is closed once it is out.
    pub(super) fn say_goodbye(&mut self, farewell: &Farewell, reason: &str) {
        let last = last_map(farewell.last, &farewell.peer);
        let goodbye = Goodbye::sign(
            &self.swarm,
            &self.me,
            self.session,
            reason,
            by_name(last.clone()),
            &self.key,
        );
        let frame = Control::Goodbye {
            reason: goodbye.reason,
            last,
            signature: goodbye.signature,
        };
        self.queue_control(farewell.link, &frame);
    }

    /// The control frames that the mesh asks for.
    pub(super) fn send_control(&mut self, output: Output) {
        let (link, frame) = match output {
            Output::SendHello { link, next } => {
                let frame = Control::Hello {
                    agent_id: self.me.clone(),
                    session: self.session,
                    next: next_map(next, &self.me),
                };
                (link, frame)
            }
            Output::SendAck {
                link,
                session,
                destination,
                up_to,
            } => {
                let frame = Control::Ack {
                    session,
                    destination,
                    up_to,
                };
                (link, frame)
            }
            Output::SendRefused { notice, reason } => {
                let frame = Control::Refused {
                    session: notice.session,
                    destination: notice.destination,
                    sequence_num: notice.sequence_num,
                    reason,
                };
                (notice.link, frame)
            }
            Output::SendPing { link, t } => (link, Control::Ping { t }),
            Output::SendPong { link, t } => (link, Control::Pong { t }),
            _ => return,
        };
        self.queue_control(link, &frame);
    }

    pub(super) fn queue_control(&mut self, link: LinkId, frame: &Control) {
        let made = self.links.get(link).and_then(|link| link.made.as_ref());
        if let Some(made) = made {
            let queue = made.control.clone();
            self.effects.push(Effect::Control(queue, frame.to_text()));
        }
    }
}

fn by_name(map: BTreeMap<Destination, u64>) -> BTreeMap<String, u64> {
    let named = map.into_iter();
    named.map(|(to, n)| (to.to_string(), n)).collect()
}
