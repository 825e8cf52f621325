//! How a path between two agents behaves, and conditions that have a name: the rungs of the ladder.
//!
//! All figures are one way; both ends of a link are conditioned. None is a promise about a network:
//! they are orders of magnitude, each with its reason, so that runs can be compared.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What befalls the datagrams that an agent sends to one peer. Nothing, by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// Each is held back for so long, in microseconds,
    pub delay_us: u64,
    /// and up to so much longer, by chance.
    pub jitter_us: u64,
    /// How many of a thousand are lost,
    pub loss_per_mille: u16,
    /// arrive twice,
    pub duplicate_per_mille: u16,
    /// or are overtaken by those that follow.
    pub reorder_per_mille: u16,
    /// Bytes a second; no bound without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// All are lost.
    pub cut: bool,
}

impl Conditions {
    /// The rung of this name.
    pub fn named(name: &str) -> Option<Self> {
        let rung = RUNGS.iter().find(|rung| rung.name == name);
        rung.map(|rung| rung.conditions)
    }

    /// Whether there are any.
    pub fn are_calm(&self) -> bool {
        *self == Self::default()
    }

    /// These, and the path is cut.
    pub fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// The shortest and the longest time under way.
    pub fn delays(&self) -> (Duration, Duration) {
        let delay = Duration::from_micros(self.delay_us);
        (delay, delay + Duration::from_micros(self.jitter_us))
    }
}

/// Conditions with a name.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    /// As scenario files say it.
    pub name: &'static str,
    /// What it stands for.
    pub conditions: Conditions,
    /// Where the figures are from.
    pub reason: &'static str,
}

const fn rung(
    name: &'static str,
    (delay_ms, jitter_ms): (u64, u64),
    (loss_per_mille, duplicate_per_mille, reorder_per_mille): (u16, u16, u16),
    rate_kbit: Option<u64>,
    reason: &'static str,
) -> Rung {
    Rung {
        name,
        conditions: Conditions {
            delay_us: delay_ms * 1_000,
            jitter_us: jitter_ms * 1_000,
            loss_per_mille,
            duplicate_per_mille,
            reorder_per_mille,
            rate: match rate_kbit {
                Some(kbit) => Some(kbit * 1_000 / 8),
                None => None,
            },
            cut: false,
        },
        reason,
    }
}

/// From the best to the worst.
pub const RUNGS: [Rung; 10] = [
    rung(
        "loopback",
        (0, 0),
        (0, 0, 0),
        None,
        "this host as it is: what the others are compared with",
    ),
    rung(
        "lan",
        (1, 0),
        (0, 0, 0),
        Some(1_000_000),
        "a switch or two of a gigabit",
    ),
    rung(
        "good-wifi",
        (2, 3),
        (1, 0, 0),
        Some(50_000),
        "one access point, few stations: retransmissions on the air show as jitter",
    ),
    rung(
        "poor-wifi",
        (10, 30),
        (20, 1, 5),
        Some(5_000),
        "far from a crowded access point: what the air retransmits in vain is lost",
    ),
    rung(
        "good-cellular",
        (35, 10),
        (2, 0, 0),
        Some(12_000),
        "LTE with signal: 70 ms there and back and 12 Mbit/s, as tools for web pages assume",
    ),
    rung(
        "leo-satellite",
        (25, 20),
        (10, 0, 2),
        Some(20_000),
        "satellites some 550 km up: short paths, and a handover every few seconds that loses packets",
    ),
    rung(
        "poor-cellular",
        (150, 50),
        (10, 1, 5),
        Some(1_600),
        "3G: 300 ms there and back and 1.6 Mbit/s, as tools for web pages assume",
    ),
    rung(
        "satellite",
        (300, 20),
        (5, 0, 0),
        Some(5_000),
        "geostationary: up and down 2 × 35,786 km takes light 239 ms, the rest is coding and queues",
    ),
    rung(
        "bad-cellular",
        (200, 150),
        (50, 2, 10),
        Some(400),
        "the edge of a 3G cell: 400 ms there and back and 400 kbit/s, one packet of twenty lost",
    ),
    rung(
        "collapsed",
        (200, 100),
        (20, 0, 0),
        Some(64),
        "64 kbit/s: what is left when a modem link is shared, or a carrier throttles",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_has_a_name_of_its_own_and_a_reason() {
        for rung in RUNGS {
            assert_eq!(Conditions::named(rung.name), Some(rung.conditions));
            assert!(!rung.reason.is_empty() && !rung.conditions.cut);
            assert_eq!(rung.conditions.are_calm(), rung.name == "loopback");
        }
        assert_eq!(Conditions::named("good"), None);
    }

    #[test]
    fn what_is_told_to_an_agent_is_read_back_the_same() {
        for rung in RUNGS {
            let told = serde_json::to_string(&rung.conditions.cut()).unwrap();
            let read: Conditions = serde_json::from_str(&told).unwrap();
            assert_eq!(read, rung.conditions.cut());
        }
        assert!(serde_json::from_str::<Conditions>(r#"{"dely_us":1}"#).is_err());
    }
}
