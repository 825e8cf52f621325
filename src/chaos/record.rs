//! One fault of a run: whether it is under way, and what shows that it really took place.

use std::time::{Duration, Instant};

use super::conditions::Conditions;
use super::scenario::{Fault, Kind, What};
use crate::identity::AgentId;

/// A fault of the plan and what was seen of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) fault: Fault,
    pub(super) began: Option<Instant>,
    /// It strikes no more, though what it struck may still be starting.
    pub(super) lifted: bool,
    /// It is over: a message can get through again.
    pub(super) ended: Option<Instant>,
    /// The process was killed by this signal and no other, or stopped, as the kernel says.
    pub(super) by_kernel: bool,
    /// Lines, or events, or datagrams that prove it.
    pub(super) seen: u64,
    /// What disproves it: a line of a process that was stopped.
    pub(super) against: u64,
    /// Datagrams struck before it began.
    pub(super) before: u64,
    pub(super) delivered: u64,
}

impl Record {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            began: None,
            lifted: false,
            ended: None,
            by_kernel: false,
            seen: 0,
            against: 0,
            before: 0,
            delivered: 0,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.began.is_some() && !self.lifted
    }

    /// Whether it was for so long that what is heard now was said since.
    pub(super) fn has_settled(&self, at: Instant) -> bool {
        let since = self.began.map(|began| at.saturating_duration_since(began));
        self.is_under_way() && since.is_some_and(|since| since > SETTLING)
    }

    pub(super) fn took_place(&self) -> bool {
        match self.fault.what.kind() {
            Kind::Kill | Kind::Signaling => self.by_kernel && self.seen > 0,
            Kind::Freeze => self.by_kernel && self.against == 0,
            _ => self.seen > 0,
        }
    }

    /// What was seen, in words.
    pub(super) fn evidence(&self) -> String {
        let n = self.seen;
        match self.fault.what.kind() {
            Kind::Kill => match self.by_kernel {
                true => format!("killed by SIGKILL, {n} ends of links saw it"),
                false => format!("not killed by SIGKILL, {n} ends of links saw it"),
            },
            Kind::Freeze => match self.by_kernel {
                true => format!(
                    "stopped, as the kernel says; {} lines from it",
                    self.against
                ),
                false => "not stopped, as the kernel says".into(),
            },
            Kind::Signaling => match self.by_kernel {
                true => format!("connections refused; {n} agents noticed"),
                false => "the server was not gone".into(),
            },
            Kind::Clock => format!("{n} messages with a time that is off"),
            Kind::Conditions => format!("{n} datagrams struck"),
            Kind::Cut | Kind::OneWayCut | Kind::Partition => format!("{n} datagrams dropped"),
        }
    }
}

impl What {
    /// How the path of an agent to a peer is while this is under way.
    pub(super) fn applied(&self, path: Conditions, agent: &AgentId, peer: &AgentId) -> Conditions {
        match self {
            Self::Cut { from, to, one_way } => {
                let there = (from, to) == (agent, peer);
                let back = !one_way && (from, to) == (peer, agent);
                if there || back { path.cut() } else { path }
            }
            Self::Partition(..) if self.touches(agent, peer) => path.cut(),
            Self::Conditions { conditions, .. } if self.touches(agent, peer) => Conditions {
                cut: path.cut,
                ..*conditions
            },
            _ => path,
        }
    }
}

/// What was in a pipe when a process was stopped is read within this.
const SETTLING: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AgentId {
        text.parse().unwrap()
    }

    #[test]
    fn a_cut_one_way_lets_the_other_way_through() {
        let (a, b, c) = (id("a"), id("b"), id("c"));
        let cut = |one_way| What::Cut {
            from: a.clone(),
            to: b.clone(),
            one_way,
        };
        let calm = Conditions::default();
        assert!(cut(true).applied(calm, &a, &b).cut);
        assert!(!cut(true).applied(calm, &b, &a).cut);
        assert!(cut(false).applied(calm, &b, &a).cut);
        assert!(!cut(false).applied(calm, &a, &c).cut);
    }

    #[test]
    fn a_freeze_that_did_not_silence_the_process_did_not_take_place() {
        let mut record = Record::new(Fault {
            at: Duration::ZERO,
            lasts: Duration::ZERO,
            what: What::Freeze(id("a")),
        });
        assert!(!record.took_place());
        record.by_kernel = true;
        assert!(record.took_place());
        record.against = 1;
        assert!(!record.took_place());
    }
}
