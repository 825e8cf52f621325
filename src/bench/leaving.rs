//! The end of a run: goodbyes, the check of the witness, the report.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sha2::{Digest, Sha256};

use super::course::Course;
use super::expect;
use super::forming::Formed;
use super::report::{LinkReport, Links, Messages, Report, Witness};
use super::resources::{self, Resources};
use super::running::{RunError, RunningSwarm};
use super::stats::{Latencies, millis, rounded};
use crate::agent::{Agent, Stats};
use crate::witness::{Summary, check};

/// All agents leave at the same time; then the report.
pub(super) async fn finish(mut running: RunningSwarm) -> Result<Report, RunError> {
    running.progress.step("the agents leave");
    running.tasks.shutdown().await;
    settle(&running.agents).await;
    let mut report = report_so_far(&running).await;
    let RunningSwarm {
        swarm,
        agents,
        server,
        place,
        progress,
        ..
    } = running;
    let leaving = agents.into_iter().map(|agent| async {
        let id = agent.id().clone();
        // The tasks that shared it have ended.
        match Arc::into_inner(agent) {
            Some(agent) => agent.shutdown("the run is over").await,
            None => Err(crate::agent::AgentError::Ended),
        }
        .map_err(|source| RunError::Ended { agent: id, source })
    });
    let left = join_all(leaving).await;
    server.shutdown().await;
    let summaries = left.into_iter().collect::<Result<Vec<_>, _>>()?;
    progress.step("checking the witness");
    report.witness = witness(summaries).await;
    // Only now: the logs are read from there.
    drop(place);
    report
        .failures
        .extend(expect::unmet(&swarm.expect, &report));
    report.ok = report.failures.is_empty();
    Ok(report)
}

/// Waits until every message is acknowledged. Acknowledgements are up to 10 ms late, and one that
/// leaves before it has sent its last ones makes those who wait for them wait in vain.
pub(super) async fn settle(agents: &[Arc<Agent>]) {
    let until = Instant::now() + SETTLED;
    while Instant::now() < until {
        let mut peers = agents.iter().flat_map(|agent| agent.peers());
        if !peers.any(|peer| peer.is_up() && peer.view.unacked > 0) {
            return;
        }
        tokio::time::sleep(ACKNOWLEDGED_LATE).await;
    }
}

/// All but the witness and what is expected.
pub(super) async fn report_so_far(running: &RunningSwarm) -> Report {
    let formed = running.formed.clone().unwrap_or_default();
    let (mut rtt, mut one_way) = (Latencies::new(), Latencies::new());
    let course = running.course.as_deref();
    // The lanes of a course are the open links, in their order.
    let lanes = course.map_or(&[][..], |course| &course.lanes);
    let per_link = formed.open.iter().enumerate().map(|(n, link)| {
        let measured = lanes.get(n).map(|lane| lane.measured());
        if let Some(measured) = &measured {
            rtt.add(&measured.rtt);
            one_way.add(&measured.one_way);
        }
        LinkReport {
            a: link.a.clone(),
            b: link.b.clone(),
            path: link.path,
            setup_ms: millis(link.setup),
            rtt_us: measured.map(|m| m.rtt.percentiles()).unwrap_or_default(),
        }
    });
    let per_link = per_link.collect();
    Report {
        links: Links {
            expected: formed.open.len() + formed.missing.len(),
            open: formed.open.len(),
        },
        setup_ms: millis(formed.setup),
        rtt_us: rtt.percentiles(),
        one_way_us: one_way.percentiles(),
        per_link,
        messages: messages(&running.agents, course),
        resources: used(running.cpu_at_start, formed.open.len()),
        best_effort: running.swarm.channel.is_best_effort(),
        failures: failures(&formed, course.map(Course::flaws).unwrap_or_default())
            .into_iter()
            .chain(running.faults.clone())
            .collect(),
        ..Report::blank(running.swarm.name.clone(), running.swarm.agents.len())
    }
}

/// What was counted at the callers and subscribers, and refused in between.
fn messages(agents: &[Arc<Agent>], course: Option<&Course>) -> Messages {
    let stats: Vec<_> = agents.iter().map(|agent| agent.stats()).collect();
    let refused = |count: fn(&Stats) -> u64| stats.iter().map(count).sum::<u64>();
    let (rejected, doubled) = (refused(|s| s.rejected), refused(|s| s.duplicated));
    let Some(course) = course else {
        return Messages {
            rejected,
            duplicated: doubled,
            ..Messages::default()
        };
    };
    let [sent, delivered, duplicated] = [
        &course.counts.sent,
        &course.counts.delivered,
        &course.counts.duplicated,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    Messages {
        sent,
        delivered,
        rejected,
        lost: sent.saturating_sub(delivered - duplicated),
        duplicated: duplicated + doubled,
    }
}

fn used(cpu_at_start: f64, links: usize) -> Resources {
    let rss_kib = resources::peak_rss_kib();
    let connections = 2 * links as u64;
    Resources {
        rss_kib,
        kib_per_connection: rss_kib.checked_div(connections).unwrap_or(0),
        cpu_s: rounded(resources::cpu_seconds() - cpu_at_start, 2),
    }
}

/// Which links never came, and what went wrong on the others.
pub(super) fn failures(formed: &Formed, flaws: Vec<String>) -> Vec<String> {
    let missing = formed.missing.iter();
    let mut failures: Vec<_> = missing
        .take(TOLD)
        .map(|(a, b)| format!("no link between {a} and {b}"))
        .collect();
    if let Some(more) = formed.missing.len().checked_sub(TOLD + 1) {
        failures.push(format!("and {} more links are missing", more + 1));
    }
    failures.extend(flaws);
    failures
}

/// Reads every log again from the disk.
pub(super) async fn witness(summaries: Vec<Summary>) -> Witness {
    let mut hash = Sha256::new();
    for summary in &summaries {
        hash.update(summary.root);
    }
    let entries = summaries.iter().map(|summary| summary.entries).sum();
    // Reading takes a while where there is much.
    let verified = tokio::task::spawn_blocking(move || summaries.iter().all(is_as_left)).await;
    Witness {
        entries,
        root: hash.finalize().into(),
        verified: verified.unwrap_or(false),
    }
}

/// Whether the log on disk is whole and the one that its agent left with.
fn is_as_left(summary: &Summary) -> bool {
    // Of a log in memory there is nothing to check.
    let Some(path) = &summary.path else {
        return false;
    };
    match check(path) {
        Ok(found) => (found.entries, found.root) == (summary.entries, summary.root),
        Err(err) => {
            tracing::error!(reason = %err, "a witness log is not good");
            false
        }
    }
}

/// By when everything is acknowledged that will ever be.
const SETTLED: Duration = Duration::from_secs(2);
/// Between two looks: as late as an acknowledgement may be.
const ACKNOWLEDGED_LATE: Duration = Duration::from_millis(10);
/// Missing links that are named; one cause often takes many.
const TOLD: usize = 20;
