//! The result of a run, as `mesh up --json` prints it (`cli.md`).

use serde::Serialize;

use super::resources::Resources;
use super::stats::Percentiles;
use crate::identity::{AgentId, SwarmName};
use crate::link::Path;

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The swarm.
    pub swarm: SwarmName,
    /// How many agents it has.
    pub agents: usize,
    /// How many links it should have, and has.
    pub links: Links,
    /// From the start of the first agent until the last expected link was up on both ends; where
    /// some never came, until they were given up.
    pub setup_ms: f64,
    /// Round trips on all links: from when the request was due until the reply was delivered.
    pub rtt_us: Percentiles,
    /// Requests on all links: from when each was due until it was delivered.
    pub one_way_us: Percentiles,
    /// Each link that opened.
    pub per_link: Vec<LinkReport>,
    /// What became of the messages.
    pub messages: Messages,
    /// What it has cost.
    pub resources: Resources,
    /// The logs.
    pub witness: Witness,
    /// Whether the channel may lose messages (`max_retransmits` or unordered); said only if so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
    /// Whether every expected link opened and all that was expected held.
    pub ok: bool,
    /// What did not hold, one line each; said only if something did not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// How many links there should be, and are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Links {
    /// What the topology asks for.
    pub expected: usize,
    /// What was up on both ends.
    pub open: usize,
}

/// One link.
#[derive(Debug, Clone, Serialize)]
pub struct LinkReport {
    /// Its smaller end, the one that dialled.
    pub a: AgentId,
    /// Its greater end.
    pub b: AgentId,
    /// How packets travel: `host`, `srflx`, `relay`, `unknown`.
    #[serde(serialize_with = "path_name")]
    pub path: Path,
    /// From the decision to dial until `hello` had arrived both ways.
    pub setup_ms: f64,
    /// Round trips on this link.
    pub rtt_us: Percentiles,
}

/// What became of the messages, requests and replies alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Accepted by the sending agent.
    pub sent: u64,
    /// Handed to a subscriber.
    pub delivered: u64,
    /// Refused by the receiving agent, duplicates apart.
    pub rejected: u64,
    /// Accepted and never delivered.
    pub lost: u64,
    /// Received twice. None of these is delivered twice.
    pub duplicated: u64,
}

/// All witness logs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Entries in all logs.
    pub entries: u64,
    /// SHA-256 over the roots of the logs (RFC 6962 tree heads, 32 bytes each), in the order of the
    /// agents in the swarm file.
    #[serde(serialize_with = "hex_text")]
    pub root: [u8; 32],
    /// Whether every log was read again from the disk, its chain found whole, and its root found to
    /// be the one that its agent left with.
    pub verified: bool,
}

impl Report {
    /// One of which nothing is known yet.
    pub(super) fn blank(swarm: SwarmName, agents: usize) -> Self {
        Self {
            swarm,
            agents,
            links: Links {
                expected: 0,
                open: 0,
            },
            setup_ms: 0.0,
            rtt_us: Percentiles::default(),
            one_way_us: Percentiles::default(),
            per_link: Vec::new(),
            messages: Messages::default(),
            resources: Resources::default(),
            witness: Witness {
                entries: 0,
                root: [0; 32],
                verified: false,
            },
            best_effort: false,
            ok: false,
            failures: Vec::new(),
        }
    }
}

fn path_name<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

fn hex_text<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report with every member.
    pub(in super::super) fn sample() -> Report {
        Report {
            links: Links {
                expected: 1,
                open: 1,
            },
            setup_ms: 12.5,
            per_link: vec![LinkReport {
                a: "a".parse().unwrap(),
                b: "b".parse().unwrap(),
                path: Path::Host,
                setup_ms: 9.25,
                rtt_us: Percentiles::default(),
            }],
            witness: Witness {
                entries: 10,
                root: [0xab; 32],
                verified: true,
            },
            ok: true,
            ..Report::blank("two".parse().unwrap(), 2)
        }
    }

    #[test]
    fn is_written_as_the_contract_says_member_for_member() {
        let zeros = r#"{"count":0,"min":0,"p50":0,"p95":0,"p99":0,"p999":0,"max":0}"#;
        let root = "ab".repeat(32);
        let expected = [
            r#"{"swarm":"two","agents":2,"links":{"expected":1,"open":1},"setup_ms":12.5,"#.into(),
            format!(r#""rtt_us":{zeros},"one_way_us":{zeros},"#),
            format!(
                r#""per_link":[{{"a":"a","b":"b","path":"host","setup_ms":9.25,"rtt_us":{zeros}}}],"#
            ),
            r#""messages":{"sent":0,"delivered":0,"rejected":0,"lost":0,"duplicated":0},"#.into(),
            r#""resources":{"rss_kib":0,"kib_per_connection":0,"cpu_s":0.0},"#.into(),
            format!(r#""witness":{{"entries":10,"root":"{root}","verified":true}},"ok":true}}"#),
        ];
        assert_eq!(serde_json::to_string(&sample()).unwrap(), expected.concat());
    }
}
