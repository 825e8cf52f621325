//! The tasks of an open-loop measurement: one that asks per lane, one that listens per agent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::course::{Arrival, Course, Lane, MAX_UNANSWERED, id_of};
use super::lanes::Answers;
use super::pacer::Pacer;
use crate::agent::{Agent, AgentError, AgentEvent, Receipt, SendError, Subscription};
use crate::message::{Draft, Performative};

/// Runs the whole course between `agents`, whose tasks are spawned on `tasks`, and waits until
/// everything was answered or given up. The listeners stay on `tasks`.
pub(super) async fn run(
    course: &Arc<Course>,
    agents: &[Arc<Agent>],
    tasks: &mut JoinSet<()>,
) -> Result<(), AgentError> {
    for agent in agents {
        let events = agent.subscribe();
        tasks.spawn(listen(Arc::clone(agent), events, Arc::clone(course)));
    }
    // A set of its own, so that an end of this future is the end of them all.
    let mut asking = JoinSet::new();
    for (number, lane) in (0..).zip(&course.lanes) {
        if lane.answers == Answers::Nobody {
            continue;
        }
        let agent = agents.iter().find(|agent| *agent.id() == lane.from);
        if let Some(agent) = agent {
            asking.spawn(ask(Arc::clone(agent), Arc::clone(course), number));
        }
    }
    let wake = course.lanes.iter().map(|lane| Arc::clone(&lane.wake));
    let pacer = Pacer::start(course.schedule, wake.collect());
    while asking.join_next().await.is_some() {}
    drop(pacer);
    let all = course.lanes.iter().map(answered);
    let _ = timeout(LAST_ANSWERS, futures_util::future::join_all(all)).await;
    for lane in &course.lanes {
        let missing = lane.unanswered();
        if missing > 0 {
            let (from, to) = (&lane.from, &lane.to);
            course.flaw(format!(
                "{missing} requests of {from} to {to} were never answered"
            ));
        }
    }
    Ok(())
}

/// Sends the requests of one lane, each when it is due, or as soon after that as there is room.
async fn ask(agent: Arc<Agent>, course: Arc<Course>, number: u32) {
    let lane = &course.lanes[number as usize];
    for k in 0..course.schedule.probes {
        let due = course.schedule.due(number, k);
        // A wake-up for an earlier probe may be left over.
        while Instant::now() < due {
            lane.wake.notified().await;
        }
        let Ok(Ok(room)) = timeout(STALLED, lane.room.acquire()).await else {
            let (from, to) = (&lane.from, &lane.to);
            let limit = STALLED.as_secs();
            course.flaw(format!(
                "{to} answered nothing of {from} for {limit} s: {} requests were not sent",
                course.schedule.probes - k
            ));
            return;
        };
        // Given back by the answer.
        room.forget();
        let draft = Draft {
            id: (lane.answers == Answers::Program).then(|| id_of(agent.session(), number, k)),
            performative: Some(Performative::Request),
            ..Draft::new(lane.to.clone(), course.payload(number, k))
        };
        lane.expect(k, true);
        match agent.send(draft).await {
            Ok(_) => course.counts.sent.fetch_add(1, Ordering::Relaxed),
            Err(err) => {
                lane.expect(k, false);
                let (from, left) = (&lane.from, course.schedule.probes - k);
                course.flaw(format!("{from} could not send {left} requests: {err}"));
                return;
            }
        };
    }
}

/// Waits until all requests of `lane` are answered: then all the room is free.
async fn answered(lane: &Lane) {
    let _ = lane.room.acquire_many(MAX_UNANSWERED).await;
}

/// Takes what comes for one agent: answers requests, measures replies.
async fn listen(agent: Arc<Agent>, mut events: Subscription, course: Arc<Course>) {
    // Polled here rather than in tasks of their own: an answer is on its way without a change of
    // threads. Bounded by what the lanes leave unanswered.
    let mut answers = FuturesUnordered::new();
    loop {
        // Cancel-safe: a receiver of a queue, and a set that keeps its futures.
        let event = tokio::select! {
            event = events.recv() => event,
            Some(answer) = answers.next() => {
                count(&course, answer);
                continue;
            }
        };
        match event {
            Some(AgentEvent::Message(message)) => {
                let arrival = course.arrived(agent.id(), &message, Instant::now());
                if matches!(arrival, Arrival::Request) {
                    let payload = message.payload().clone();
                    answers.push(agent.send(message.reply(Performative::Inform, payload)));
                }
            }
            Some(AgentEvent::PeerDown { peer, why }) => {
                let me = agent.id();
                course.flaw(format!(
                    "the link of {me} and {peer} went down: {}",
                    why.as_str()
                ));
            }
            Some(AgentEvent::Rejected { peer, reason, .. }) => {
                let me = agent.id();
                course.flaw(format!("{me} refused a message of {peer}: {reason}"));
            }
            Some(_) => {}
            None => return course.flaw(format!("{} has ended", agent.id())),
        }
    }
}

fn count(course: &Course, answer: Result<Receipt, SendError>) {
    match answer {
        Ok(_) => {
            course.counts.sent.fetch_add(1, Ordering::Relaxed);
        }
        Err(err) => course.flaw(format!("an answer could not be sent: {err}")),
    }
}

/// How long the last answers may take after the last request.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// A lane without room for so long is given up.
const STALLED: Duration = Duration::from_secs(10);
