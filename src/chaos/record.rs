//! One fault of a run: whether it is under way, and what shows that it really took place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::conditions::Conditions;
use super::said::{PeerIs, Vitals};
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
    /// What each agent had counted when it began, and in which life.
    before: BTreeMap<usize, (u32, Vitals)>,
    /// Of a kill: the agents that had a link with the killed one, and have not spoken of it since.
    pub(super) witnesses: BTreeSet<usize>,
    /// Of conditions: the seeds that they were ordered with.
    pub(super) seeds: BTreeSet<u64>,
    pub(super) delivered: u64,
}

/// When a message that has arrived was written: the times between which it was, by the clock of this
/// host, which is right, and what its sender says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Before it was given to the sender.
    pub(super) offered_ms: i64,
    pub(super) says_ms: i64,
    /// After it was given to the receiver's program.
    pub(super) now_ms: i64,
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
            before: BTreeMap::new(),
            witnesses: BTreeSet::new(),
            seeds: BTreeSet::new(),
            delivered: 0,
        }
    }

    /// What an agent has counted before it.
    pub(super) fn hear_before(&mut self, agent: usize, life: u32, vitals: &Vitals) {
        self.before.insert(agent, (life, vitals.clone()));
    }

    /// What an agent has counted when it was lifted. One that did not live all the while is no
    /// witness: nobody knows what it counts from.
    pub(super) fn hear_at_end(&mut self, (agent, id): (usize, &AgentId), life: u32, now: &Vitals) {
        if let Some((lived, before)) = self.before.remove(&agent)
            && lived == life
        {
            self.seen += self.fault.what.struck(id, &before, now);
        }
    }

    /// Whether an agent that tells this has none of these conditions any more.
    pub(super) fn is_gone_from(&self, vitals: &Vitals) -> bool {
        let mut settings = vitals.settings.values();
        settings.all(|setting| !self.seeds.contains(&setting.seed))
    }

    /// An agent speaks of its link with the one that was killed. Of each that had a link, the first
    /// word whether one is up tells what became of that one; whatever comes later is about another.
    pub(super) fn hear_of_link(&mut self, agent: usize, state: PeerIs) {
        if state != PeerIs::Other && self.witnesses.remove(&agent) {
            self.seen += u64::from(state == PeerIs::Down);
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
                true => format!("killed by SIGKILL; {n} others said that their link with it ended"),
                false => "not killed by SIGKILL".into(),
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
            Kind::Clock => format!("{n} messages with a time that is off by as much"),
            Kind::Conditions => format!("{n} datagrams struck by these conditions"),
            Kind::Cut | Kind::OneWayCut | Kind::Partition => {
                format!("{n} datagrams dropped by the cut")
            }
        }
    }
}

impl Written {
    /// Whether the clock can have been right.
    pub(super) fn is_right(self) -> bool {
        self.can_be(self.says_ms)
    }

    /// Whether the clock was off, and can have been by so much.
    pub(super) fn is_off_by(self, by_ms: i64) -> bool {
        !self.is_right() && self.can_be(self.says_ms.saturating_sub(by_ms))
    }

    fn can_be(self, written_ms: i64) -> bool {
        (self.offered_ms..=self.now_ms).contains(&written_ms)
    }
}

impl What {
    /// How many datagrams of an agent this has struck, and nothing else, between two times at which
    /// the agent told what it had counted.
    ///
    /// What the paths are like without it strikes too, all the while. So of a cut those count that
    /// were lost by a cut, and of conditions those that were struck since these were set, cuts apart.
    fn struck(&self, agent: &AgentId, before: &Vitals, now: &Vitals) -> u64 {
        if let Self::Conditions { .. } = self {
            let settings = now.settings.iter();
            let settings = settings.filter(|(peer, setting)| {
                let was = before.settings.get(*peer);
                self.touches(agent, peer) && was.is_none_or(|was| was.seed != setting.seed)
            });
            return settings.map(|(_, setting)| setting.struck.but_cut()).sum();
        }
        let paths = now.paths.iter();
        let paths = paths.filter(|(peer, _)| self.touches(agent, peer));
        let cut = paths.map(|(peer, struck)| {
            let was = before.paths.get(peer).map_or(0, |struck| struck.cut);
            struck.cut.saturating_sub(was)
        });
        cut.sum()
    }

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
    use super::super::said::{Setting, Struck};
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

    fn record(what: What) -> Record {
        Record::new(Fault {
            at: Duration::ZERO,
            lasts: Duration::ZERO,
            what,
        })
    }

    fn cut() -> What {
        What::Cut {
            from: id("a"),
            to: id("b"),
            one_way: false,
        }
    }

    /// What an agent has counted on its path to `b`: in all, and since the conditions of this seed.
    fn counted(all: Struck, seed: u64, lately: Struck) -> Vitals {
        let setting = Setting {
            seed,
            struck: lately,
        };
        Vitals {
            paths: [(id("b"), all)].into(),
            settings: [(id("b"), setting)].into(),
            ..Vitals::default()
        }
    }

    fn dropped(dropped: u64, cut: u64) -> Struck {
        Struck {
            dropped,
            cut,
            ..Struck::default()
        }
    }

    /// Whether a fault took place, as an agent that has told this before it and at its end shows.
    fn shown(what: What, before: &Vitals, at_end: &Vitals) -> bool {
        let mut record = record(what);
        record.hear_before(0, 1, before);
        record.hear_at_end((0, &id("a")), 1, at_end);
        record.took_place()
    }

    #[test]
    fn what_a_bad_path_loses_anyway_is_no_sign_of_a_cut() {
        let before = counted(dropped(5, 0), 1, dropped(5, 0));
        let lossy = counted(dropped(90, 0), 1, dropped(90, 0));
        let is_cut = counted(dropped(90, 3), 2, dropped(3, 3));
        let earlier = counted(dropped(9, 3), 1, dropped(5, 0));
        assert!(!shown(cut(), &before, &lossy));
        assert!(shown(cut(), &before, &is_cut));
        assert!(!shown(cut(), &earlier, &is_cut), "by an earlier cut");
    }

    #[test]
    fn conditions_are_shown_by_what_they_struck_and_not_by_those_before_or_a_cut() {
        let conditions = || What::Conditions {
            between: None,
            conditions: Conditions::named("satellite").unwrap(),
        };
        let before = counted(dropped(5, 0), 1, dropped(5, 0));
        let as_before = counted(dropped(90, 0), 1, dropped(90, 0));
        let cut = counted(dropped(90, 8), 2, dropped(8, 8));
        let new = counted(dropped(6, 0), 2, dropped(1, 0));
        assert!(!shown(conditions(), &before, &as_before));
        assert!(!shown(conditions(), &before, &cut));
        assert!(shown(conditions(), &before, &new));
        assert!(shown(conditions(), &Vitals::default(), &new));
    }

    #[test]
    fn who_was_started_again_meanwhile_does_not_witness_a_cut() {
        let mut record = record(cut());
        let at_end = counted(dropped(9, 9), 2, dropped(9, 9));
        record.hear_at_end((0, &id("a")), 1, &at_end);
        record.hear_before(0, 1, &Vitals::default());
        record.hear_at_end((0, &id("a")), 2, &at_end);
        assert!(!record.took_place());
    }

    #[test]
    fn a_kill_is_shown_by_the_end_of_a_link_that_there_was_and_by_nothing_else() {
        let mut record = record(What::Kill(id("a")));
        record.by_kernel = true;
        record.witnesses = [1, 2].into();
        record.hear_of_link(1, PeerIs::Up);
        record.hear_of_link(1, PeerIs::Down); // of the new link
        record.hear_of_link(3, PeerIs::Down); // there was none
        assert!(!record.took_place());
        record.hear_of_link(2, PeerIs::Other); // in doubt
        record.hear_of_link(2, PeerIs::Down);
        assert!(record.took_place());
        record.by_kernel = false;
        assert!(!record.took_place());
    }

    #[test]
    fn a_jump_is_shown_by_a_time_that_is_wrong_now_and_right_without_it_however_long_the_way_was() {
        let now_ms = 1_000_000_000;
        // Offered, then written, so many milliseconds ago.
        let written = |[offered, written]: [i64; 2], off| Written {
            offered_ms: now_ms - offered,
            says_ms: now_ms - written + off,
            now_ms,
        };
        let shows = |times, by, off| written(times, off).is_off_by(by);
        let (hour, quick, slow) = (3_600_000, [2, 1], [90_000, 89_900]);
        for times in [quick, slow] {
            assert!(shows(times, hour, hour) && shows(times, -hour, -hour));
            assert!(!shows(times, hour, -hour) && !shows(times, -hour, hour));
            assert!(!shows(times, hour, hour / 2) && !shows(times, -hour, -2 * hour));
            assert!(!shows(times, hour, 0) && written(times, 0).is_right());
        }
        // A second: what was 0.7 s under way is no older than a clock that is slow makes it.
        assert!(shows([900, 700], -1_000, -1_000) && !shows([900, 700], -1_000, 0));
        assert!(shows([900, 700], 1_000, 1_000) && !shows([900, 700], 1_000, 0));
        // Nobody can tell, as the way was longer than the jump.
        assert!(!shows([1_500, 200], -1_000, -1_000));
        assert!(!written(quick, 2).is_right() && !written(quick, -2).is_right());
    }

    #[test]
    fn a_freeze_that_did_not_silence_the_process_did_not_take_place() {
        let mut record = record(What::Freeze(id("a")));
        assert!(!record.took_place());
        record.by_kernel = true;
        assert!(record.took_place());
        record.against = 1;
        assert!(!record.took_place());
    }
}
