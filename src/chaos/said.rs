//! What agents say on their pipes, and what they are told there (`cli.md`, `agent`), as far as a run
//! needs it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use crate::identity::AgentId;

/// A line of an agent.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Said {
    Ready,
    Message {
        message: Arrived,
    },
    Peer {
        peer: AgentId,
        state: PeerIs,
    },
    Sent {
        id: String,
    },
    Undelivered {
        id: String,
    },
    Refused {
        id: String,
        peer: AgentId,
        reason: String,
    },
    Signaling {
        state: SignalingIs,
    },
    Error {
        line: Option<u64>,
        /// Nothing is wrong with the draft of that line: it goes out later.
        #[serde(default)]
        waits: bool,
    },
    Vitals(Vitals),
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PeerIs {
    Up,
    Down,
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SignalingIs {
    Lost,
    Back,
}

/// The part of a message that a run looks at.
#[derive(Debug, Deserialize)]
pub(super) struct Arrived {
    pub(super) source: AgentId,
    pub(super) timestamp: crate::message::Timestamp,
    pub(super) payload: Numbered,
}

/// The payload of every message of a run.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(super) struct Numbered {
    /// Its number, from 1, of this sender to this receiver.
    pub(super) n: u64,
    /// The number of the request that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) re: Option<u64>,
    /// Whether it is to be answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ask: bool,
    /// Padding.
    #[serde(default)]
    pub(super) fill: String,
}

/// What `{"vitals":TAG}` is answered with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Vitals {
    /// The number that it was asked with.
    pub tag: u64,
    /// Datagrams to each agent that conditions have struck since the process started.
    pub paths: BTreeMap<AgentId, Struck>,
    /// The same under the conditions that each path has now, where it has some.
    pub settings: BTreeMap<AgentId, Setting>,
    /// Tasks of its runtime.
    pub tasks: u64,
    /// Links that are up or being made.
    pub links: u64,
}

/// Datagrams that the conditions of a path have struck since they were set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Setting {
    /// Which conditions: the seed that they were ordered with, and no others.
    pub seed: u64,
    /// What they struck.
    pub struck: Struck,
}

/// Datagrams that were struck, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Struck {
    /// Never arrived, because of a cut, loss, or a full queue.
    pub dropped: u64,
    /// Of these: because of a cut.
    pub cut: u64,
    /// Arrived late.
    pub delayed: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Arrived after later ones.
    pub reordered: u64,
}

impl Vitals {
    /// As the line of an agent.
    pub fn line(&self) -> String {
        let mut value = serde_json::json!(self);
        value["event"] = "vitals".into();
        format!("{value}\n")
    }
}

impl Struck {
    /// All of them.
    pub(super) fn all(&self) -> u64 {
        self.dropped + self.delayed + self.duplicated + self.reordered
    }

    /// Those that no cut has struck.
    pub(super) fn but_cut(&self) -> u64 {
        self.all().saturating_sub(self.cut)
    }
}

/// An order to an agent that was started with `--chaos`: one JSON object with one of these members.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// How the path to a peer behaves from now on.
    Conditions {
        /// The peer.
        peer: AgentId,
        /// None: as it is.
        path: Option<Conditions>,
        /// What chance starts from.
        seed: u64,
    },
    /// The wall clock is off by so many milliseconds.
    Clock(i64),
    /// Tell what was counted, with this number.
    Vitals(u64),
}

impl Order {
    /// The order that a line holds; none in one that is no order.
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// As a line.
    pub(super) fn line(&self) -> String {
        let text = serde_json::to_string(self).expect("string keys and whole numbers only");
        text + "\n"
    }
}

/// A draft of a numbered message, as a line. Its id says what it is: `3-17` is the message 17 to the
/// agent 3 of the swarm file.
pub(super) fn draft(to: &AgentId, place: usize, payload: &Numbered) -> String {
    let payload_text = serde_json::to_string(payload).expect("string keys and whole numbers only");
    let mut line = String::with_capacity(payload_text.len() + 128);
    let _ = writeln!(
        line,
        r#"{{"destination":"{to}","id":"{place}-{}","payload":{payload_text}}}"#,
        payload.n
    );
    line
}

/// The place of the receiver and the number that an id of [`draft`] says.
pub(super) fn place_and_number(id: &str) -> Option<(usize, u64)> {
    let (place, number) = id.split_once('-')?;
    Some((place.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_agents_say_and_passes_over_the_rest() {
        let read = |text: &str| serde_json::from_str::<Said>(text).unwrap();
        let ready = r#"{"event":"ready","agent_id":"a","public_key":"00","session":"x"}"#;
        assert!(matches!(read(ready), Said::Ready));
        assert!(matches!(
            read(r#"{"event":"new-thing","x":1}"#),
            Said::Other
        ));
        let peer = read(r#"{"event":"peer","peer":"legal","state":"down","reason":"dead"}"#);
        let Said::Peer { state, .. } = peer else {
            panic!("a peer")
        };
        assert_eq!(state, PeerIs::Down);
        let error = read(r#"{"event":"error","message":"x"}"#);
        let is_refused = |said| matches!(said, Said::Error { waits: false, .. });
        assert!(is_refused(error));
        let waits = r#"{"event":"error","line":3,"waits":true,"message":"x"}"#;
        assert!(!is_refused(read(waits)));
        let back = read(r#"{"event":"signaling","state":"back"}"#);
        let state = SignalingIs::Back;
        assert!(matches!(back, Said::Signaling { state: said } if said == state));
    }

    #[test]
    fn a_draft_says_in_its_id_what_it_is() {
        let payload = Numbered {
            n: 17,
            ..Numbered::default()
        };
        let line = draft(&"legal".parse().unwrap(), 3, &payload);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["payload"]["n"], 17);
        let id = value["id"].as_str().unwrap();
        assert_eq!(place_and_number(id), Some((3, 17)));
        assert_eq!(place_and_number("0190-aa"), None);
    }

    #[test]
    fn orders_are_read_back_and_drafts_are_none() {
        for order in [
            Order::Conditions {
                peer: "legal".parse().unwrap(),
                path: Conditions::named("satellite"),
                seed: 1,
            },
            Order::Clock(-3_600_000),
            Order::Vitals(7),
        ] {
            assert_eq!(Order::read(order.line().as_bytes()), Some(order));
        }
        assert_eq!(Order::read(br#"{"destination":"a","payload":{}}"#), None);
    }
}
