//! What a swarm of processes says to each of them, and is told: one JSON object a line each way, one
//! answer to each order, over the standard input and output of the child.
//!
//! | order | done when |
//! |---|---|
//! | `start` | the agent is registered |
//! | `form` | all its links are up, or the patience is over |
//! | `probe` | all its requests are answered, or given up |
//! | `figures` | all it has sent is acknowledged, or the patience is over |
//! | `leave` | it has said goodbye, and its log is closed |
//!
//! A new order ends the one before, which is then not answered: somebody is in a hurry. An answer has
//! the number of its order.
//!
//! Times of day are microseconds since 1970: the clocks of one host are one. Nothing here is a
//! contract with anybody else; both ends are the same program.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::resources::Resources;
use crate::identity::{AgentId, PublicKey};

/// An order, or the answer to the one of the same number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// From 1, in the order in which they are given.
    pub number: u64,
    /// It.
    #[serde(flatten)]
    pub what: T,
}

/// What a process is to do next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Start the agent.
    Start(Start),
    /// Wait for its links.
    Form {
        /// At most so long.
        patience_ms: u64,
    },
    /// Ask on its links, and answer.
    Probe(Probes),
    /// Tell what was measured.
    Figures,
    /// Take your leave.
    Leave,
}

/// With what an agent starts. The key itself is in a file: nothing secret is in an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// Where to register.
    pub(super) signal: String,
    /// The file of the agent's key.
    pub(super) key: PathBuf,
    /// Everybody's key.
    pub(super) roster: BTreeMap<AgentId, PublicKey>,
    /// The folder of the witness logs.
    pub(super) witness: PathBuf,
}

/// What is asked on all links: the same for every process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probes {
    pub(super) start_unix_us: u64,
    pub(super) interval_us: u64,
    /// On each link.
    pub(super) probes: u64,
    pub(super) payload: usize,
    /// The open links, in the order of their numbers.
    pub(super) links: Vec<(AgentId, AgentId)>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The agent is registered.
    Started,
    /// The links that are up at this end.
    Formed {
        /// When the last one that was waited for came up, or waiting ended.
        at_unix_us: u64,
        /// Those that are.
        links: Vec<Half>,
    },
    /// All is answered or given up.
    Probed,
    /// What was measured.
    Figures(Figures),
    /// The agent has left.
    Left(Left),
    /// It could not be done.
    Failed {
        /// Why: one line.
        message: String,
    },
}

/// One end of a link.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Half {
    pub(super) peer: AgentId,
    /// `host`, `srflx`, `relay`, `unknown`.
    pub(super) path: String,
    pub(super) setup_us: u64,
}

/// What one agent has measured and counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Of each link of a course, by its number; empty without one.
    pub(super) lanes: Vec<LaneFigures>,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) duplicated: u64,
    /// By the agent: refused, and received twice.
    pub(super) rejected: u64,
    pub(super) doubled: u64,
    pub(super) flaws: Vec<String>,
    pub(super) resources: Resources,
}

/// Latencies in microseconds, each with how often it was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct LaneFigures {
    pub(super) rtt: Vec<(u64, u32)>,
    pub(super) one_way: Vec<(u64, u32)>,
}

/// What an agent leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Left {
    pub(super) entries: u64,
    /// The root of its log.
    pub(super) root: [u8; 32],
    /// Its log.
    pub(super) path: Option<PathBuf>,
    /// What went wrong outside of what is measured.
    pub(super) faults: Vec<String>,
}

impl Order {
    /// How long a process may take to answer. One that has not by then is given up and ended.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Start(_) | Self::Figures | Self::Leave => TO_ANSWER,
            Self::Form { patience_ms } => TO_ANSWER + Duration::from_millis(*patience_ms),
            Self::Probe(probes) => {
                let interval = Duration::from_micros(probes.interval_us);
                let probes = u32::try_from(probes.probes).unwrap_or(u32::MAX);
                // Each lane gives up by itself when it is stalled.
                TO_ANSWER + interval.saturating_mul(probes).saturating_mul(2)
            }
        }
    }
}

/// A moment as other processes know it.
pub(super) fn unix_us(at: Instant) -> u64 {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let wall = match at.checked_duration_since(now) {
        Some(ahead) => wall.checked_add(ahead),
        None => wall.checked_sub(now - at),
    };
    let since = wall.and_then(|wall| wall.duration_since(SystemTime::UNIX_EPOCH).ok());
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// The moment that another process means.
pub(super) fn instant_at(unix_us: u64) -> Instant {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(unix_us));
    let moment = at.and_then(|at| match at.duration_since(wall) {
        Ok(ahead) => now.checked_add(ahead),
        Err(behind) => now.checked_sub(behind.duration()),
    });
    moment.unwrap_or(now)
}

/// Acknowledgements and cosignatures at the end may take ten seconds, and so may the last answers.
const TO_ANSWER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_for_both_ends() {
        for at in [
            Instant::now(),
            Instant::now() + Duration::from_millis(1_500),
        ] {
            let carried = instant_at(unix_us(at));
            let apart = carried.max(at) - carried.min(at);
            // The two clocks are read one after the other; a microsecond is lost to rounding.
            assert!(apart < Duration::from_millis(100), "{apart:?}");
        }
        // Nonsense is now, and no panic.
        instant_at(u64::MAX);
        instant_at(0);
    }

    #[test]
    fn what_is_carried_comes_back() {
        let left = Left {
            entries: 7,
            root: [9; 32],
            path: Some("/w/trio/a".into()),
            faults: vec!["a: b".into()],
        };
        let figures = Figures {
            lanes: vec![LaneFigures {
                rtt: vec![(1, 2), (3, 4)],
                one_way: Vec::new(),
            }],
            ..Figures::default()
        };
        for (number, what) in (1..).zip([
            Answer::Started,
            Answer::Left(left),
            Answer::Figures(figures),
        ]) {
            let text = serde_json::to_string(&Numbered { number, what }).unwrap();
            let back: Numbered<Answer> = serde_json::from_str(&text).unwrap();
            assert_eq!(back.number, number);
            assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }
    }

    #[test]
    fn nothing_secret_is_in_an_order() {
        let start = Start {
            signal: "ws://127.0.0.1:1".into(),
            key: "/run/keys/a.pem".into(),
            roster: BTreeMap::new(),
            witness: "/w".into(),
        };
        assert_eq!(
            serde_json::to_string(&Order::Start(start)).unwrap(),
            r#"{"order":"start","signal":"ws://127.0.0.1:1","key":"/run/keys/a.pem","roster":{},"witness":"/w"}"#
        );
    }
}
