//! What the probes of one run share: the lanes, what is still unanswered, and what was counted.
//!
//! One lane per link. Probe `k` of a lane is a signed request that is due at a time fixed in
//! advance; its latency counts from that time, not from when it was sent (coordinated omission: a
//! request that waits behind a stalled reply has waited too). The signed reply carries the
//! request's payload back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore};

use super::lanes::{Answers, Ends};
use super::pacer::Schedule;
use super::progress::Progress;
use super::stats::Latencies;
use crate::identity::{AgentId, Session};
use crate::message::{IfMessage, Performative};

/// Everything that the tasks of one measurement share.
pub(super) struct Course {
    pub(super) schedule: Schedule,
    /// Bytes of each payload.
    pub(super) payload: usize,
    pub(super) lanes: Vec<Lane>,
    pub(super) counts: Counts,
    pub(super) progress: Arc<dyn Progress>,
    flaws: Mutex<Vec<String>>,
}

/// One link, in the direction in which requests go.
pub(super) struct Lane {
    pub(super) from: AgentId,
    pub(super) to: AgentId,
    pub(super) answers: Answers,
    /// Notified when a probe is due.
    pub(super) wake: Arc<Notify>,
    /// Requests that may still be sent before replies come.
    pub(super) room: Semaphore,
    measured: Mutex<Measured>,
}

/// What was measured on one lane.
#[derive(Default)]
pub(super) struct Measured {
    unanswered: HashSet<u64>,
    pub(super) rtt: Latencies,
    pub(super) one_way: Latencies,
}

/// Messages, counted where they enter and where they leave: at the callers of `send` and at the
/// subscribers.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) duplicated: AtomicU64,
}

/// A message that belongs to the course.
pub(super) enum Arrival {
    /// To be answered.
    Request,
    /// To be answered by the program of the agent.
    ForProgram,
    /// The answer to one of mine.
    Reply,
    /// Nothing of ours.
    Foreign,
}

impl Course {
    pub(super) fn new(
        schedule: Schedule,
        payload: usize,
        links: impl IntoIterator<Item = Ends>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let lanes = links.into_iter().map(|Ends { from, to, answers }| Lane {
            from,
            to,
            answers,
            wake: Arc::default(),
            room: Semaphore::new(MAX_UNANSWERED as usize),
            measured: Mutex::default(),
        });
        Self {
            schedule,
            payload,
            lanes: lanes.collect(),
            counts: Counts::default(),
            progress,
            flaws: Mutex::default(),
        }
    }

    /// Takes a message as a subscriber of `me` got it.
    pub(super) fn arrived(&self, me: &AgentId, message: &IfMessage, now: Instant) -> Arrival {
        let Some((number, lane, k)) = self.read(message) else {
            return Arrival::Foreign;
        };
        let is = |from: &AgentId, to: &AgentId| message.source() == from && me == to;
        let latency = now.saturating_duration_since(self.schedule.due(number, k));
        match message.performative() {
            Some(Performative::Request) if is(&lane.from, &lane.to) => {
                self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                lane.measured().one_way.record(latency);
                match lane.answers {
                    Answers::Agent => Arrival::Request,
                    Answers::Program | Answers::Nobody => Arrival::ForProgram,
                }
            }
            // What a program does to answer is its own affair; agreeing is none yet. It counts as
            // sent here, for nobody else sees it leave.
            performative if lane.answers == Answers::Program => {
                if performative == Some(Performative::Agree)
                    || !is(&lane.to, &lane.from)
                    || !lane.measured().unanswered.remove(&k)
                {
                    return Arrival::Foreign;
                }
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
                self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                lane.measured().rtt.record(latency);
                lane.room.add_permits(1);
                self.progress.answered();
                Arrival::Reply
            }
            Some(Performative::Inform) if is(&lane.to, &lane.from) => {
                self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                let mut measured = lane.measured();
                if measured.unanswered.remove(&k) {
                    measured.rtt.record(latency);
                    lane.room.add_permits(1);
                    self.progress.answered();
                } else {
                    self.counts.duplicated.fetch_add(1, Ordering::Relaxed);
                }
                Arrival::Reply
            }
            _ => Arrival::Foreign,
        }
    }

    /// Which lane and probe it is about: a program answers under the id of the request, agents
    /// carry the payload back.
    fn read(&self, message: &IfMessage) -> Option<(u32, &Lane, u64)> {
        let named = message.in_reply_to().and_then(probe_of);
        let (number, k) = match named {
            Some(named) => named,
            None => {
                let payload = message.payload();
                let number = u32::try_from(payload.get("lane")?.as_u64()?).ok()?;
                (number, payload.get("probe")?.as_u64()?)
            }
        };
        let lane = self.lanes.get(number as usize)?;
        let is_reply = message.performative() != Some(Performative::Request);
        let by_name = is_reply && lane.answers == Answers::Program;
        (!by_name || named.is_some()).then_some((number, lane, k))
    }

    /// The payload of probe `k` of `lane`: which one it is, when it was due, and padding.
    pub(super) fn payload(&self, lane: u32, k: u64) -> Map<String, Value> {
        let due = self.schedule.due(lane, k);
        let since = due.saturating_duration_since(self.schedule.start);
        let due_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mut payload = Map::new();
        payload.insert("due_us".into(), due_us.into());
        payload.insert("lane".into(), lane.into());
        payload.insert("probe".into(), k.into());
        pad(&mut payload, self.payload);
        payload
    }

    /// Remembers something that should not have happened. The first ones say enough.
    pub(super) fn flaw(&self, text: String) {
        let mut flaws = self.flaws.lock().unwrap_or_else(PoisonError::into_inner);
        if flaws.len() < MAX_FLAWS {
            flaws.push(text);
        }
    }

    pub(super) fn flaws(&self) -> Vec<String> {
        let flaws = self.flaws.lock().unwrap_or_else(PoisonError::into_inner);
        flaws.clone()
    }
}

impl Lane {
    pub(super) fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Probe `k` is about to be sent; or, with `false`, it was not.
    pub(super) fn expect(&self, k: u64, sent: bool) {
        let mut measured = self.measured();
        if sent {
            measured.unanswered.insert(k);
        } else if measured.unanswered.remove(&k) {
            self.room.add_permits(1);
        }
    }

    /// How many requests have had no answer.
    pub(super) fn unanswered(&self) -> usize {
        self.measured().unanswered.len()
    }
}

/// The id of probe `k` of `lane` where a program answers, which need not give the payload back:
/// unique, for a session is.
pub(super) fn id_of(session: Session, lane: u32, k: u64) -> String {
    format!("{session}/{lane}/{k}")
}

fn probe_of(id: &str) -> Option<(u32, u64)> {
    let (rest, k) = id.rsplit_once('/')?;
    let (_, lane) = rest.rsplit_once('/')?;
    Some((lane.parse().ok()?, k.parse().ok()?))
}

/// Fills `payload` up to `size` bytes of JSON.
pub(super) fn pad(payload: &mut Map<String, Value>, size: usize) {
    payload.insert("pad".into(), "".into());
    let bare = serde_json::to_vec(payload).map_or(0, |json| json.len());
    payload.insert("pad".into(), "x".repeat(size.saturating_sub(bare)).into());
}

/// Requests of one lane without an answer. More wait unsent, their schedule running on; so what
/// a stalled peer can pile up is bounded.
pub(super) const MAX_UNANSWERED: u32 = 256;
/// Flaws that are told. One cause often shows on every link.
const MAX_FLAWS: usize = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::progress::Quiet;
    use super::*;
    use crate::identity::{KeyPair, Session};
    use crate::message::{Author, Draft, Timestamp, sign};

    fn course() -> Course {
        let schedule = Schedule {
            start: Instant::now(),
            interval: Duration::from_millis(5),
            lanes: 1,
            probes: 3,
        };
        let link = Ends {
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            answers: Answers::Agent,
        };
        Course::new(schedule, 200, [link], Arc::new(Quiet))
    }

    /// Probe `k` as `source` would sign it.
    fn message(course: &Course, k: u64, source: &str, performative: Performative) -> IfMessage {
        let to = if source == "a" { "b" } else { "a" };
        let to: AgentId = to.parse().unwrap();
        let draft = Draft {
            performative: Some(performative),
            ..Draft::new(to, course.payload(0, k))
        };
        let author = Author {
            id: &source.parse().unwrap(),
            session: Session::new(1, [0; 10]),
            key: &KeyPair::from_secret(&[1; 32]),
        };
        let signed = sign(draft, &author, k + 1, Timestamp::from_unix_ms(0), [0; 22]).unwrap();
        signed.message().clone()
    }

    #[test]
    fn a_payload_has_the_size_asked_for() {
        let course = course();
        let json = serde_json::to_vec(&course.payload(0, 7)).unwrap();
        assert_eq!(json.len(), 200);
    }

    #[test]
    fn a_stalled_reply_counts_against_the_schedule_and_not_only_against_itself() {
        let course = course();
        let me = "a".parse().unwrap();
        let lane = &course.lanes[0];
        // All three come 12 ms after the first was due, as if the peer had been stuck until then.
        for k in 0..3 {
            lane.expect(k, true);
            let reply = message(&course, k, "b", Performative::Inform);
            let stuck = course.schedule.start + Duration::from_millis(12);
            assert!(matches!(course.arrived(&me, &reply, stuck), Arrival::Reply));
        }
        let rtt = lane.measured().rtt.percentiles();
        // Due at 0, 5 and 10 ms.
        assert_eq!((rtt.count, rtt.min), (3, 2_000));
        assert!(
            rtt.p50.abs_diff(7_000) < 8 && rtt.max.abs_diff(12_000) < 16,
            "{rtt:?}"
        );
        assert_eq!(lane.unanswered(), 0);
    }

    #[test]
    fn a_reply_that_comes_twice_is_counted_as_doubled_and_measured_once() {
        let course = course();
        let me = "a".parse().unwrap();
        course.lanes[0].expect(0, true);
        let reply = message(&course, 0, "b", Performative::Inform);
        for _ in 0..2 {
            course.arrived(&me, &reply, Instant::now());
        }
        assert_eq!(course.counts.duplicated.load(Ordering::Relaxed), 1);
        assert_eq!(course.lanes[0].measured().rtt.count(), 1);
    }

    #[test]
    fn a_message_over_the_wrong_link_is_none_of_ours() {
        let course = course();
        let request = message(&course, 0, "b", Performative::Request);
        let arrived = course.arrived(&"a".parse().unwrap(), &request, Instant::now());
        assert!(matches!(arrived, Arrival::Foreign));
        assert_eq!(course.counts.delivered.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_program_answers_by_naming_the_request_and_its_second_answer_is_not_counted() {
        let mut course = course();
        course.lanes[0].answers = Answers::Program;
        let session = Session::new(1, [0; 10]);
        let me = "a".parse().unwrap();
        let answer = |in_reply_to: Option<String>, performative| {
            let author = Author {
                id: &"b".parse().unwrap(),
                session,
                key: &KeyPair::from_secret(&[1; 32]),
            };
            let draft = Draft {
                performative,
                in_reply_to,
                ..Draft::new("a".parse::<AgentId>().unwrap(), course.payload(0, 2))
            };
            let signed = sign(draft, &author, 1, Timestamp::from_unix_ms(0), [0; 22]).unwrap();
            signed.message().clone()
        };
        let named = || Some(id_of(session, 0, 2));
        let inform = Some(Performative::Inform);
        course.lanes[0].expect(2, true);
        for (message, counts) in [
            // It carries the payload back, and names nothing.
            (answer(None, inform), false),
            (answer(named(), Some(Performative::Agree)), false),
            (answer(Some(id_of(session, 7, 2)), inform), false),
            (answer(named(), None), true),
            (answer(named(), inform), false),
        ] {
            let arrived = course.arrived(&me, &message, Instant::now());
            assert_eq!(matches!(arrived, Arrival::Reply), counts, "{message:?}");
        }
        assert_eq!(course.lanes[0].measured().rtt.count(), 1);
        let counts = &course.counts;
        for count in [&counts.sent, &counts.delivered] {
            assert_eq!(count.load(Ordering::Relaxed), 1);
        }
        assert_eq!(counts.duplicated.load(Ordering::Relaxed), 0);
    }
}
