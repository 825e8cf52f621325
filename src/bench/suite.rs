//! `bench`: scenarios one after the other, beside the floors of the same run.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::floors::{self, Floors, Sample};
use super::folder::WitnessPlace;
use super::machine::Machine;
use super::progress::Progress;
use super::raw::RawPair;
use super::report::{Messages, Report};
use super::running::{Options, RunError, RunningSwarm};
use super::scenario;
use super::stats::{Latencies, Percentiles, median, rounded};
use super::{loaded, unloaded};
use crate::message::Destination;
use crate::swarm::Swarm;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Signed requests and replies on every link of a mesh.
    Rtt,
    /// As many signed messages as one link carries.
    Throughput,
    /// How long a mesh takes to form.
    Setup,
    /// One agent to all the others.
    Broadcast,
    /// All of them, one after the other.
    All,
}

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub struct BenchOptions {
    /// What.
    pub scenario: Scenario,
    /// Agents of the mesh.
    pub peers: usize,
    /// How long each scenario measures.
    pub duration: Duration,
    /// Bytes of each payload.
    pub payload: usize,
    /// Requests per second and link; by default so few that the machine is far from busy.
    pub rate: Option<u32>,
}

/// What was measured: a report of the mesh, and what the scenarios add.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The mesh, as `mesh up` reports it: of the first scenario that had one. `messages` are those
    /// of all scenarios.
    #[serde(flatten)]
    pub mesh: Report,
    /// What was measured.
    pub scenario: Scenario,
    /// Messages per second as delivered: on one link where `throughput` was measured, else by the
    /// scenario as a whole.
    pub messages_per_second: f64,
    /// Of [`Floors::messages_per_second`]; where `throughput` was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second_ratio: Option<f64>,
    /// `rtt_us.p50` over [`Floors::signed_mesh_rtt_us`], measured at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ratio: Option<f64>,
    /// Signed round trips on one link, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unloaded_rtt_us: Option<Percentiles>,
    /// `unloaded_rtt_us.p50` over [`Floors::signed_rtt_us`], measured in turns with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unloaded_rtt_ratio: Option<f64>,
    /// The same for each turn of some tens of milliseconds by itself, and the median of these: where
    /// the processor changes its speed now and then, medians of the whole run may be of different
    /// speeds, and those of a turn are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unloaded_rtt_turn_ratio: Option<f64>,
    /// Of `throughput`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,
    /// Of `setup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formation: Option<Formation>,
    /// Of `broadcast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Broadcast>,
    /// What can never be beaten.
    pub floors: Floors,
    /// What the machine was asked to do.
    pub load: Load,
    /// Where.
    pub machine: Machine,
    /// For plots: name and latencies.
    #[serde(skip)]
    pub curves: Vec<(&'static str, Latencies)>,
}

/// One link, one way, as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Throughput {
    /// Messages sent.
    pub messages: u64,
    /// From the first one until the last delivery.
    pub seconds: f64,
    /// Never delivered.
    pub lost: u64,
    /// Delivered twice.
    pub duplicated: u64,
}

/// How a mesh forms, several times over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Formation {
    /// How many times.
    pub runs: usize,
    /// The median time until the last link was up on both ends.
    pub median_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// The median time of one link, of all runs.
    pub link_p50_ms: f64,
    /// That over `floors.datachannel_setup_ms`, a link that is made alone and without signaling.
    pub link_p50_ratio: f64,
}

/// One agent to all the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Broadcast {
    /// Agents that receive.
    pub receivers: usize,
    /// Deliveries per second, all receivers together, as fast as it goes.
    pub deliveries_per_second: f64,
    /// Of [`Floors::deliveries_per_second`].
    pub deliveries_per_second_ratio: f64,
    /// One at a time: from `send` until the last receiver has it.
    pub last_receiver_us: Percentiles,
    /// `last_receiver_us.p50` over [`Floors::last_receiver_us`].
    pub last_receiver_ratio: f64,
}

/// What the machine was asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Load {
    /// Requests per second and link of `rtt`.
    pub rate_per_link: u32,
    /// Bytes of each payload.
    pub payload: usize,
    /// Bytes of such a message as it goes on the wire.
    pub message: usize,
    /// Seconds each scenario measured.
    pub seconds: f64,
}

/// Runs the scenarios.
///
/// # Errors
/// [`RunError`], also when links that are to be measured do not come up.
pub async fn bench(
    options: BenchOptions,
    progress: Arc<dyn Progress>,
) -> Result<BenchReport, RunError> {
    let sample = Sample::of_payload(options.payload)?;
    let mut suite = Suite {
        options,
        progress,
        report: blank(options, sample.wire.len()),
        mesh: None,
        messages: Messages::default(),
        failures: Vec::new(),
        ratios: Vec::new(),
    };
    suite.floors(&sample).await?;
    let wanted = |scenario| [scenario, Scenario::All].contains(&options.scenario);
    if wanted(Scenario::Rtt) {
        suite.rtt(&sample).await?;
    }
    if wanted(Scenario::Throughput) {
        suite.throughput().await?;
    }
    if wanted(Scenario::Broadcast) {
        suite.broadcast().await?;
    }
    if wanted(Scenario::Setup) {
        suite.setup().await?;
    }
    Ok(suite.finish())
}

/// A report with every member that `options` will fill, all zero: to know their names beforehand.
pub fn blank(options: BenchOptions, message: usize) -> BenchReport {
    let has = |scenario| [scenario, Scenario::All].contains(&options.scenario);
    let mesh = Report::blank(name(), options.peers);
    BenchReport {
        scenario: options.scenario,
        messages_per_second: 0.0,
        messages_per_second_ratio: has(Scenario::Throughput).then_some(0.0),
        rtt_ratio: has(Scenario::Rtt).then_some(0.0),
        unloaded_rtt_us: has(Scenario::Rtt).then(Percentiles::default),
        unloaded_rtt_ratio: has(Scenario::Rtt).then_some(0.0),
        unloaded_rtt_turn_ratio: has(Scenario::Rtt).then_some(0.0),
        throughput: has(Scenario::Throughput).then(Throughput::default),
        formation: has(Scenario::Setup).then(Formation::default),
        broadcast: has(Scenario::Broadcast).then(Broadcast::default),
        floors: Floors::default(),
        load: Load {
            rate_per_link: rate(options),
            payload: options.payload,
            message,
            seconds: rounded(options.duration.as_secs_f64(), 3),
        },
        machine: Machine::this(),
        curves: Vec::new(),
        mesh,
    }
}

struct Suite {
    options: BenchOptions,
    progress: Arc<dyn Progress>,
    report: BenchReport,
    mesh: Option<Report>,
    messages: Messages,
    failures: Vec<String>,
    /// Filled in once all floors are known.
    ratios: Vec<fn(&mut BenchReport)>,
}

impl Suite {
    /// Floors that need no link; and how long a link takes that is made alone.
    async fn floors(&mut self, sample: &Sample) -> Result<(), RunError> {
        self.progress.step("measuring the floors");
        self.report.floors = floors::measure(sample, FLOOR).await?;
        let mut setups = Vec::new();
        for _ in 1..RAW_LINKS {
            let pair = RawPair::connect().await?;
            setups.push(pair.setup_ms());
            pair.close().await;
        }
        let mut pair = RawPair::connect().await?;
        setups.push(pair.setup_ms());
        pair.measure(&sample.wire, FLOOR).await?;
        self.report.floors.put_setups(setups);
        self.report.floors.put_round_trips(pair.round_trips());
        pair.close().await;
        Ok(())
    }

    async fn rtt(&mut self, sample: &Sample) -> Result<(), RunError> {
        let BenchOptions { peers, payload, .. } = self.options;
        let unloaded = unloaded::round_trips(
            peers,
            payload,
            sample,
            self.options.duration,
            &mut self.report.floors,
            Arc::clone(&self.progress),
        );
        let unloaded = unloaded.await?;
        let interval = Duration::from_secs(1) / rate(self.options);
        let probes = (self.options.duration.as_nanos() / interval.as_nanos()).max(1);
        let probes = u64::try_from(probes).unwrap_or(u64::MAX);
        let progress = Arc::clone(&self.progress);
        let message = (payload, sample.wire.as_str());
        let loaded = loaded::round_trips(peers, (probes, interval), message, progress).await?;
        self.report.floors.put_mesh_round_trips(&loaded.raw);
        let turn_ratio = rounded(median(unloaded.turn_ratios), 3);
        self.report.unloaded_rtt_turn_ratio = Some(turn_ratio);
        self.report.unloaded_rtt_us = Some(unloaded.signed.percentiles());
        self.report.curves = vec![
            ("raw DataChannel, one at a time", unloaded.raw),
            ("signed, one at a time", unloaded.signed),
            ("raw DataChannel, every link of a mesh", loaded.raw),
            ("signed, every link of a mesh", loaded.signed),
        ];
        let seconds = self.options.duration.as_secs_f64();
        let delivered = loaded.report.messages.delivered as f64;
        self.report.messages_per_second = rounded(delivered / seconds, 1);
        self.keep(loaded.report, Messages::default());
        self.ratios.push(|report| {
            let (floors, found) = (report.floors, report.mesh.rtt_us.p50);
            report.rtt_ratio = Some(ratio(found as f64, floors.signed_mesh_rtt_us()));
            let unloaded = report.unloaded_rtt_us.unwrap_or_default().p50;
            report.unloaded_rtt_ratio = Some(ratio(unloaded as f64, floors.signed_rtt_us()));
        });
        Ok(())
    }

    async fn throughput(&mut self) -> Result<(), RunError> {
        let running = self.mesh_of(2).await?;
        self.progress.step("sending as fast as one link carries");
        let (sender, receiver) = running.first_link().ok_or(links_missing(&running))?;
        let to = Destination::Agent(receiver.id().clone());
        let (payload, time) = (self.options.payload, self.options.duration);
        let flood = scenario::flood(&sender, &[receiver], to, payload, time).await?;
        drop(sender);
        let per_second = flood.deliveries_per_second();
        let messages = flooded(&flood, 1);
        self.report.throughput = Some(Throughput {
            messages: flood.sent,
            seconds: rounded(flood.time.as_secs_f64(), 3),
            lost: messages.lost,
            duplicated: flood.duplicated,
        });
        self.report.messages_per_second = rounded(per_second, 1);
        self.ratios.push(|report| {
            let ceiling = report.floors.messages_per_second();
            let found = report.messages_per_second;
            report.messages_per_second_ratio = Some(ratio(found, ceiling));
        });
        let report = running.finish().await?;
        self.keep(report, messages);
        Ok(())
    }

    async fn broadcast(&mut self) -> Result<(), RunError> {
        let running = self.mesh_of(self.options.peers).await?;
        self.progress.step("one to all");
        let (sender, receivers) = (Arc::clone(&running.agents[0]), running.agents[1..].to_vec());
        let (payload, time) = (self.options.payload, self.options.duration / 2);
        let last = scenario::last_receiver(&sender, &receivers, payload, time).await?;
        let flood = scenario::flood(&sender, &receivers, Destination::All, payload, time).await?;
        let count = receivers.len();
        drop((sender, receivers));
        let per_second = flood.deliveries_per_second();
        self.report.broadcast = Some(Broadcast {
            receivers: count,
            deliveries_per_second: rounded(per_second, 1),
            last_receiver_us: last.percentiles(),
            ..Broadcast::default()
        });
        if self.options.scenario == Scenario::Broadcast {
            self.report.messages_per_second = rounded(per_second, 1);
        }
        self.report.curves.push(("broadcast, last receiver", last));
        self.ratios.push(|report| {
            let (floors, cores) = (report.floors, report.machine.cores);
            if let Some(broadcast) = &mut report.broadcast {
                let ceiling = floors.deliveries_per_second(cores);
                broadcast.deliveries_per_second_ratio =
                    ratio(broadcast.deliveries_per_second, ceiling);
                let floor = floors.last_receiver_us(broadcast.receivers, cores);
                let found = broadcast.last_receiver_us.p50 as f64;
                broadcast.last_receiver_ratio = ratio(found, floor);
            }
        });
        let report = running.finish().await?;
        self.keep(report, flooded(&flood, count as u64));
        Ok(())
    }

    async fn setup(&mut self) -> Result<(), RunError> {
        let (mut meshes, mut links) = (Vec::new(), Vec::new());
        for _ in 0..SETUPS {
            let running = self.mesh_of(self.options.peers).await?;
            let report = running.finish().await?;
            meshes.push(report.setup_ms);
            links.extend(report.per_link.iter().map(|link| link.setup_ms));
            self.keep(report, Messages::default());
        }
        self.report.formation = Some(Formation {
            runs: meshes.len(),
            max_ms: rounded(meshes.iter().copied().fold(0.0, f64::max), 3),
            median_ms: rounded(median(meshes), 3),
            link_p50_ms: rounded(median(links), 3),
            link_p50_ratio: 0.0,
        });
        self.ratios.push(|report| {
            let floor = report.floors.datachannel_setup_ms;
            if let Some(formation) = &mut report.formation {
                formation.link_p50_ratio = ratio(formation.link_p50_ms, floor);
                // The one figure that is better known now.
                report.mesh.setup_ms = formation.median_ms;
            }
        });
        Ok(())
    }

    async fn mesh_of(&self, peers: usize) -> Result<RunningSwarm, RunError> {
        mesh_of(peers, Arc::clone(&self.progress)).await
    }

    /// Takes up the report of a run, whose flood, if it had one, `flooded` tells of.
    fn keep(&mut self, mut report: Report, flooded: Messages) {
        for messages in [report.messages, flooded] {
            self.messages.sent += messages.sent;
            self.messages.delivered += messages.delivered;
            self.messages.rejected += messages.rejected;
            self.messages.lost += messages.lost;
            self.messages.duplicated += messages.duplicated;
        }
        self.failures.append(&mut report.failures);
        if flooded.lost > 0 {
            self.failures
                .push(format!("{} messages were lost", flooded.lost));
        }
        self.mesh.get_or_insert(report);
    }

    fn finish(mut self) -> BenchReport {
        if let Some(mesh) = self.mesh {
            self.report.mesh = mesh;
        }
        self.report.mesh.messages = self.messages;
        self.report.mesh.ok = self.failures.is_empty();
        self.report.mesh.failures = self.failures;
        for fill in self.ratios {
            fill(&mut self.report);
        }
        self.report
    }
}

/// A mesh of so many agents, all links up, its witness on disk for as long as it runs.
pub(super) async fn mesh_of(
    peers: usize,
    progress: Arc<dyn Progress>,
) -> Result<RunningSwarm, RunError> {
    let swarm = Swarm::full_mesh(name(), peers);
    let options = Options {
        witness: WitnessPlace::Throwaway,
        ..Options::default()
    };
    let mut running = RunningSwarm::launch(&swarm, options, progress).await?;
    if running.form().await?.missing.is_empty() {
        return Ok(running);
    }
    let err = links_missing(&running);
    running.finish().await?;
    Err(err)
}

fn flooded(flood: &scenario::Flood, receivers: u64) -> Messages {
    let expected = flood.sent * receivers;
    Messages {
        sent: expected,
        delivered: flood.delivered,
        lost: expected.saturating_sub(flood.delivered),
        duplicated: flood.duplicated,
        ..Messages::default()
    }
}

pub(super) fn links_missing(running: &RunningSwarm) -> RunError {
    let formed = running.formed.clone().unwrap_or_default();
    RunError::Links {
        open: formed.open.len(),
        expected: formed.open.len() + formed.missing.len(),
        waited: formed.setup,
    }
}

/// Requests per second and link.
fn rate(options: BenchOptions) -> u32 {
    let links = options.peers * options.peers.saturating_sub(1) / 2;
    let share = QUIET_RATE / u32::try_from(links).unwrap_or(u32::MAX).max(1);
    options.rate.unwrap_or(share.clamp(1, MOST_PER_LINK)).max(1)
}

fn ratio(figure: f64, floor: f64) -> f64 {
    if floor > 0.0 {
        rounded(figure / floor, 3)
    } else {
        0.0
    }
}

fn name() -> crate::identity::SwarmName {
    "bench".parse().expect("five small letters")
}

/// Requests per second of all links together by default: a signed round trip takes about a third
/// of a millisecond of processor time, so this is less than a tenth of two cores.
const QUIET_RATE: u32 = 500;
/// No link is asked more often by default, however few there are.
const MOST_PER_LINK: u32 = 200;
/// How long each of the simple floors is measured.
const FLOOR: Duration = Duration::from_millis(500);
/// Raw links made one after the other, for the median.
const RAW_LINKS: usize = 5;
/// Times a mesh is formed.
const SETUPS: usize = 5;
