//! The frames of the control channel (`wire.md`, section *DataChannels*): JSON objects of up to
//! 64 KiB, read as strictly as messages. Unknown types are let through as [`Control::Unknown`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::files::TransferId;
use crate::identity::{AgentId, Session, Signature};
use crate::mesh::{Lanes, Last, Next};
use crate::message::{Destination, Reason, one_line, parse_strict};
use crate::signal::MAX_REASON;
use crate::witness::hash_text;

/// One frame of the control channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Control {
    /// The first frame each way.
    Hello {
        /// Who speaks.
        agent_id: AgentId,
        /// Its session, as in its offer or answer.
        session: Session,
        /// The `sequence_num` it expects next of the receiver, per destination.
        next: BTreeMap<Destination, u64>,
    },
    /// All of the receiver's messages up to this one were seen.
    Ack {
        /// The receiver's session.
        session: Session,
        /// The destination they were sent to.
        destination: Destination,
        /// The greatest number seen.
        up_to: u64,
    },
    /// One of the receiver's messages was refused.
    Refused {
        /// The receiver's session.
        session: Session,
        /// The destination it was sent to.
        destination: Destination,
        /// Its number.
        sequence_num: u64,
        /// Why.
        reason: Reason,
    },
    /// Are you there?
    Ping {
        /// Microseconds of the sender's clock.
        t: u64,
    },
    /// I am.
    Pong {
        /// The `t` of the ping.
        t: u64,
    },
    /// The sender leaves on purpose.
    Goodbye {
        /// Why, for people; up to 256 characters.
        reason: String,
        /// The greatest `sequence_num` meant for the receiver, per destination.
        last: BTreeMap<Destination, u64>,
        /// Over both, the agent, its session and the swarm.
        signature: Signature,
    },
    /// A checkpoint. Of the sender's own log: its newest, to be countersigned. Of the receiver's:
    /// what the sender has seen of it, which the receiver is asked to continue. Of another's: what
    /// the sender was shown, and finds at odds with what it had seen.
    Checkpoint {
        /// The signed note.
        note: String,
    },
    /// The receiver's checkpoint, countersigned by the sender.
    Cosign {
        /// The note with the sender's signature line.
        note: String,
    },
    /// That the sender's log continues what it was. Follows the checkpoint that it leads to.
    Consistency {
        /// The log.
        origin: String,
        /// How many entries it had.
        from: u64,
        /// How many it has in the checkpoint.
        to: u64,
        /// The proof (RFC 6962, section 2.1.2); empty from nothing, and from the same.
        #[serde(with = "hash_text")]
        proof: Vec<[u8; 32]>,
    },
    /// All of a file that the receiver sends is written here, up to this byte.
    FileAck {
        /// The file.
        transfer: TransferId,
        /// How many bytes.
        offset: u64,
    },
    /// A type this version does not know; ignored and counted.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Control {
    /// Reads a frame.
    ///
    /// # Errors
    /// One line that says what was found and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value = parse_strict(bytes, MAX_CONTROL).map_err(detail)?;
        if !value.is_object() {
            // serde would take an array for one, its first item for the type.
            return Err("found no object, expected one".into());
        }
        let frame: Self = serde_json::from_value(value).map_err(detail)?;
        frame.check()?;
        Ok(frame)
    }

    /// The frame as it goes on the wire.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("string keys and finite numbers only")
    }

    fn check(&self) -> Result<(), String> {
        if let Self::Goodbye { reason, .. } = self
            && reason.chars().count() > MAX_REASON
        {
            return Err(format!("`reason` is longer than {MAX_REASON} characters"));
        }
        let greatest = match self {
            Self::Hello { next: map, .. } | Self::Goodbye { last: map, .. } => {
                if map.len() > MAX_DESTINATIONS {
                    return Err("more destinations than the receiver's id and `*`".into());
                }
                map.values().copied().max().unwrap_or(0)
            }
            Self::Consistency { from, to, .. } => *from.max(to),
            Self::Ack { up_to: n, .. }
            | Self::Refused {
                sequence_num: n, ..
            }
            | Self::FileAck { offset: n, .. }
            | Self::Ping { t: n }
            | Self::Pong { t: n } => *n,
            Self::Checkpoint { .. } | Self::Cosign { .. } | Self::Unknown => 0,
        };
        if greatest >= INTEGERS_END {
            return Err(format!("{greatest} is not below 2^53"));
        }
        Ok(())
    }
}

/// What a reader says is wrong, which may quote the whole frame.
fn detail(err: impl fmt::Display) -> String {
    one_line(&err.to_string(), MAX_DETAIL)
}

/// `next` as it stands in a `hello` of `me`.
pub(super) fn next_map(next: Next, me: &AgentId) -> BTreeMap<Destination, u64> {
    let own = Destination::Agent(me.clone());
    BTreeMap::from([(own, next.direct), (Destination::All, next.all)])
}

/// `next` as a `hello` of `peer` has it; a destination it does not name starts at 1.
pub(super) fn read_next(map: &BTreeMap<Destination, u64>, peer: &AgentId) -> Next {
    let of = |destination: Destination| map.get(&destination).copied().unwrap_or(1);
    Lanes {
        direct: of(Destination::Agent(peer.clone())),
        all: of(Destination::All),
    }
}

/// `last` as it stands in a goodbye to `peer`.
pub(super) fn last_map(last: Last, peer: &AgentId) -> BTreeMap<Destination, u64> {
    let named = [
        (Destination::Agent(peer.clone()), last.direct),
        (Destination::All, last.all),
    ];
    let named = named.into_iter();
    named.filter_map(|(to, n)| n.map(|n| (to, n))).collect()
}

/// `last` as a goodbye to `me` has it.
pub(super) fn read_last(map: &BTreeMap<Destination, u64>, me: &AgentId) -> Last {
    Lanes {
        direct: map.get(&Destination::Agent(me.clone())).copied(),
        all: map.get(&Destination::All).copied(),
    }
}

/// Bytes of the largest control frame.
const MAX_CONTROL: usize = 64 * 1024;
/// Characters of an explanation, as in signaling.
const MAX_DETAIL: usize = 300;
/// The receiver's or the sender's id, and `*`.
const MAX_DESTINATIONS: usize = 2;
/// Numbers of ours stay below 2^53, where every JSON reader is exact.
const INTEGERS_END: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
    }

    #[test]
    fn writes_the_frames_of_the_contract() {
        let me: AgentId = "a".parse().unwrap();
        let next = Lanes { direct: 3, all: 1 };
        let hello = Control::Hello {
            agent_id: me.clone(),
            session: session(),
            next: next_map(next, &me),
        };
        assert_eq!(
            hello.to_text(),
            r#"{"type":"hello","agent_id":"a","session":"01890a5d-ac96-774b-bcce-b302099a8057","next":{"a":3,"*":1}}"#
        );
        let Ok(Control::Hello { next: read, .. }) = Control::parse(hello.to_text().as_bytes())
        else {
            panic!("a hello")
        };
        assert_eq!(read_next(&read, &me), next);
        let ack = Control::Ack {
            session: session(),
            destination: Destination::All,
            up_to: 7,
        };
        assert_eq!(
            ack.to_text(),
            r#"{"type":"ack","session":"01890a5d-ac96-774b-bcce-b302099a8057","destination":"*","up_to":7}"#
        );
    }

    #[test]
    fn writes_the_frames_of_countersigning() {
        let frame = Control::Consistency {
            origin: "ifswarm-log/s/a".into(),
            from: 3,
            to: 4,
            proof: vec![[0; 32]],
        };
        let text = frame.to_text();
        assert_eq!(
            text,
            r#"{"type":"consistency","origin":"ifswarm-log/s/a","from":3,"to":4,"proof":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}"#
        );
        assert_eq!(Control::parse(text.as_bytes()), Ok(frame));
        for bad in [
            text.replace("AAAA=", "AAA="),
            text.replace("\"to\":4", "\"to\":9007199254740992"),
            text.replace("[\"", "[\"\",\""),
        ] {
            assert!(Control::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let text = r#"{"type":"checkpoint","note":"x"}"#;
        assert_eq!(
            Control::parse(text.as_bytes()).map(|frame| frame.to_text()),
            Ok(text.to_owned())
        );
    }

    #[test]
    fn reads_and_writes_the_acknowledgement_of_a_file() {
        let text =
            r#"{"type":"file-ack","transfer":"00112233445566778899aabbccddeeff","offset":65536}"#;
        let frame = Control::parse(text.as_bytes()).unwrap();
        assert!(matches!(frame, Control::FileAck { offset: 65536, .. }));
        assert_eq!(frame.to_text(), text);
        for bad in [
            text.replace("ff\"", "\""),
            text.replace("aa", "AA"),
            text.replace("65536", "9007199254740992"),
        ] {
            assert!(Control::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_destination_that_was_never_used_starts_at_one_and_ends_nowhere() {
        let peer: AgentId = "b".parse().unwrap();
        let empty = BTreeMap::new();
        assert_eq!(read_next(&empty, &peer), Lanes { direct: 1, all: 1 });
        let none = Lanes {
            direct: None,
            all: None,
        };
        assert_eq!(read_last(&empty, &peer), none);
        assert!(last_map(none, &peer).is_empty());
    }

    #[test]
    fn ignores_what_it_does_not_know_and_refuses_what_is_wrong() {
        assert_eq!(
            Control::parse(br#"{"type":"later","x":1}"#),
            Ok(Control::Unknown)
        );
        // Unknown members of known frames are ignored too.
        assert_eq!(
            Control::parse(br#"{"type":"ping","t":1,"x":2}"#),
            Ok(Control::Ping { t: 1 })
        );
        for bad in [
            r#"{"type":"ping"}"#,
            r#"{"type":"ping","t":1.0}"#,
            r#"{"type":"ping","t":-1}"#,
            r#"{"type":"ping","t":9007199254740992}"#,
            r#"{"type":"ping","t":1,"t":2}"#,
            r#"{"t":1}"#,
            r#"{"type":"goodbye","reason":1,"last":{}}"#,
            "[]",
            r#"["ping",1]"#,
            "",
        ] {
            assert!(Control::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_goodbye_may_give_a_reason_of_256_characters_and_no_more() {
        let goodbye = |length: usize| {
            let frame = Control::Goodbye {
                reason: "ß".repeat(length),
                last: BTreeMap::new(),
                signature: Signature::from_bytes([0; 64]),
            };
            Control::parse(frame.to_text().as_bytes())
        };
        assert!(goodbye(256).is_ok());
        let err = goodbye(257).unwrap_err();
        assert!(err.contains("256 characters"), "{err}");
    }
}
