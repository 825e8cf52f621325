//! A whole swarm, one process for each agent, through an embedded signaling server in this one: the
//! same steps as [`RunningSwarm`](super::RunningSwarm), and the same report.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::folder::Place;
use super::forming::{Formed, OpenLink};
use super::keeper::{Keeper, Recipe};
use super::keys::Keys;
use super::orders::{Answer, Figures, Half, Order, Probes, Start, instant_at, unix_us};
use super::progress::Progress;
use super::report::{LinkReport, Links, Messages, Report};
use super::resources::{self, Resources};
use super::running::{LEAD, Options, RunError, reachable, wall_clock};
use super::stats::{Latencies, millis, rounded};
use super::{expect, lanes, leaving};
use crate::identity::{AgentId, file_name};
use crate::link::Path as LinkPath;
use crate::signal::{Admission, Server, ServerConfig};
use crate::swarm::Swarm;
use crate::witness::Summary;

/// A swarm of processes.
pub struct Processes {
    swarm: Swarm,
    keepers: Vec<Keeper>,
    server: Server,
    place: Place,
    keys: RunKeys,
    /// When the first process was started.
    started: Instant,
    cpu_at_start: f64,
    formed: Formed,
    /// Of each agent, once they have told.
    figures: Vec<Figures>,
    faults: Vec<String>,
    options: Options,
    progress: Arc<dyn Progress>,
}

impl Processes {
    /// Starts the signaling server, and a process for every agent: `command` makes that of one,
    /// which must obey the orders it reads, as [`Member`](super::Member) does.
    ///
    /// # Errors
    /// [`RunError`]; processes that had started are ended.
    pub async fn launch(
        swarm: &Swarm,
        options: Options,
        progress: Arc<dyn Progress>,
        command: impl Fn(&AgentId) -> Command + Send + Sync + Clone + 'static,
    ) -> Result<Self, RunError> {
        let keys = Keys::of(swarm)?;
        let in_file = swarm.witness.dir.as_deref();
        let failed = |source| RunError::Witness {
            path: std::env::temp_dir(),
            source,
        };
        let place = Place::prepare(&options.witness, in_file, keys.are_kept, wall_clock());
        let place = place.map_err(failed)?;
        let run_keys = RunKeys::write(&place.path, swarm, &keys).map_err(failed)?;
        let rosters = BTreeMap::from([(swarm.name.clone(), keys.roster.clone())]);
        let config = ServerConfig::new(swarm.signal.listen, Admission::Rosters(rosters));
        let server = Server::bind(config).await?;
        let signal = format!("ws://{}", reachable(server.local_addr()));
        let (started, cpu_at_start) = (Instant::now(), resources::cpu_seconds());
        let roster: BTreeMap<_, _> = keys.roster.iter().map(|(id, k)| (id.clone(), *k)).collect();
        let keepers = swarm.agents.iter().zip(run_keys.files.iter());
        let keepers = keepers.map(|(agent, key)| {
            let (id, command) = (agent.id.clone(), command.clone());
            Keeper::start(Recipe {
                id: agent.id.clone(),
                command: Box::new(move || command(&id)),
                start: Start {
                    signal: signal.clone(),
                    key: key.clone(),
                    roster: roster.clone(),
                    witness: place.path.clone(),
                },
                restart: agent.restart,
            })
        });
        let running = Self {
            keepers: keepers.collect(),
            swarm: swarm.clone(),
            server,
            keys: run_keys,
            started,
            cpu_at_start,
            formed: Formed::default(),
            figures: Vec::new(),
            faults: Vec::new(),
            options,
            progress,
            place,
        };
        let starts = running.keepers.iter().zip(&running.keys.files);
        let starts = starts.map(|(keeper, key)| {
            keeper.ask(Order::Start(Start {
                signal: signal.clone(),
                key: key.clone(),
                roster: roster.clone(),
                witness: running.place.path.clone(),
            }))
        });
        for (n, answer) in join_all(starts).await.into_iter().enumerate() {
            if let Err(detail) = answer {
                let agent = running.swarm.agents[n].id.clone();
                running.end().await;
                return Err(RunError::Process { agent, detail });
            }
        }
        Ok(running)
    }

    /// Waits until every expected link is up on both ends, or the patience is over.
    ///
    /// # Errors
    /// None so far; a process that dies meanwhile is a link that is missing.
    pub async fn form(&mut self) -> Result<&Formed, RunError> {
        let expected = self.swarm.links();
        self.progress.forming(expected.len());
        let patience = self.options.patience;
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let answers = self.ask_all(|_| Order::Form { patience_ms }).await;
        let mut ends = BTreeMap::<(AgentId, AgentId), Half>::new();
        let mut last = self.started;
        for (n, answer) in answers.into_iter().enumerate() {
            if let Some(Answer::Formed { at_unix_us, links }) = answer {
                last = last.max(instant_at(at_unix_us));
                let me = &self.swarm.agents[n].id;
                let halves = links.into_iter();
                ends.extend(halves.map(|half| ((me.clone(), half.peer.clone()), half)));
            }
        }
        let mut formed = Formed {
            setup: last.saturating_duration_since(self.started),
            ..Formed::default()
        };
        for (a, b) in expected {
            let other = ends.remove(&(b.clone(), a.clone()));
            match (ends.remove(&(a.clone(), b.clone())), other) {
                (Some(half), Some(_)) => {
                    self.progress.link_up();
                    formed.open.push(OpenLink {
                        a,
                        b,
                        path: path_named(&half.path),
                        setup: Duration::from_micros(half.setup_us),
                    });
                }
                _ => formed.missing.push((a, b)),
            }
        }
        self.formed = formed;
        Ok(&self.formed)
    }

    /// Probes every open link as the swarm file says.
    ///
    /// # Errors
    /// None so far; a process that dies meanwhile leaves requests without an answer.
    pub async fn probe(&mut self) -> Result<(), RunError> {
        let links = self.formed.open_links();
        let probe = &self.swarm.probe;
        let probes = self.options.probes(probe);
        let asked = lanes::asked(&lanes::ends(&self.swarm, links.clone()));
        self.progress.step(&format!(
            "probing: {} requests in {} processes",
            probes.saturating_mul(asked),
            self.keepers.len()
        ));
        let order = Order::Probe(Probes {
            // All of them have read it by then.
            start_unix_us: unix_us(Instant::now() + LEAD * 5),
            interval_us: u64::try_from(probe.interval.as_micros()).unwrap_or(u64::MAX),
            probes,
            payload: probe.payload,
            links,
        });
        self.ask_all(|_| order.clone()).await;
        self.collect().await;
        Ok(())
    }

    /// Where the witness logs are.
    pub fn witness_folder(&self) -> &Path {
        &self.place.path
    }

    /// The report so far: without the witness, which is still being written.
    pub async fn report_so_far(&self) -> Report {
        let (mut rtt, mut one_way) = (Latencies::new(), Latencies::new());
        let per_link = self.formed.open.iter().enumerate().map(|(n, link)| {
            let lanes = self
                .figures
                .iter()
                .filter_map(|figures| figures.lanes.get(n));
            let mut mine = Latencies::new();
            for lane in lanes {
                mine.add(&Latencies::of_counted(&lane.rtt));
                one_way.add(&Latencies::of_counted(&lane.one_way));
            }
            rtt.add(&mine);
            LinkReport {
                a: link.a.clone(),
                b: link.b.clone(),
                path: link.path,
                setup_ms: millis(link.setup),
                rtt_us: mine.percentiles(),
            }
        });
        let per_link = per_link.collect();
        let flaws = self
            .figures
            .iter()
            .flat_map(|figures| figures.flaws.clone());
        let deaths = self.keepers.iter().flat_map(Keeper::deaths);
        let mut flaws: Vec<_> = deaths.chain(self.faults.clone()).chain(flaws).collect();
        // What one process dies of, several orders have failed for.
        let mut seen = std::collections::BTreeSet::new();
        flaws.retain(|flaw| seen.insert(flaw.clone()));
        Report {
            links: Links {
                expected: self.formed.open.len() + self.formed.missing.len(),
                open: self.formed.open.len(),
            },
            setup_ms: millis(self.formed.setup),
            rtt_us: rtt.percentiles(),
            one_way_us: one_way.percentiles(),
            per_link,
            messages: self.messages(),
            resources: self.used(),
            best_effort: self.swarm.channel.is_best_effort(),
            failures: leaving::failures(&self.formed, flaws),
            ..Report::blank(self.swarm.name.clone(), self.swarm.agents.len())
        }
    }

    /// All agents leave; then the witness is checked and the report made.
    ///
    /// # Errors
    /// None so far; an agent that did not leave in order is a failure in the report.
    pub async fn finish(mut self) -> Result<Report, RunError> {
        self.progress.step("the agents leave");
        self.collect().await;
        let mut report = self.report_so_far().await;
        let told = self.faults.len();
        let answers = self.ask_all(|_| Order::Leave).await;
        let mut summaries = Vec::new();
        for answer in &answers {
            if let Some(Answer::Left(left)) = answer {
                summaries.push(Summary {
                    entries: left.entries,
                    root: left.root,
                    last_hash: [0; 32],
                    path: left.path.clone(),
                    unwitnessed: 0,
                });
            }
        }
        let all_left = summaries.len() == self.keepers.len();
        let programs = answers.into_iter().filter_map(|answer| match answer {
            Some(Answer::Left(left)) => Some(left.faults),
            _ => None,
        });
        let programs: Vec<_> = programs.flatten().collect();
        for fault in self.faults.split_off(told).into_iter().chain(programs) {
            if !report.failures.contains(&fault) {
                report.failures.push(fault);
            }
        }
        self.progress.step("checking the witness");
        report.witness = leaving::witness(summaries).await;
        report.witness.verified &= all_left;
        let expect = self.swarm.expect.clone();
        self.end().await;
        report.failures.extend(expect::unmet(&expect, &report));
        report.ok = report.failures.is_empty();
        Ok(report)
    }

    /// Ends every process, and waits until it has ended; then the server.
    async fn end(self) {
        join_all(self.keepers.into_iter().map(Keeper::end)).await;
        self.server.shutdown().await;
    }

    /// Asks for the figures. Of a process that does not tell any more the last ones stand.
    async fn collect(&mut self) {
        let answers = self.ask_all(|_| Order::Figures).await;
        self.figures.resize_with(answers.len(), Figures::default);
        for (n, answer) in answers.into_iter().enumerate() {
            match answer {
                // One that was started again knows nothing of what was measured before. A link that
                // is lost after measuring, while the swarm holds, is no flaw of what was measured.
                Some(Answer::Figures(mut new))
                    if !new.lanes.is_empty() || self.figures[n].lanes.is_empty() =>
                {
                    if !self.figures[n].lanes.is_empty() {
                        new.flaws = std::mem::take(&mut self.figures[n].flaws);
                    }
                    self.figures[n] = new;
                }
                _ => {}
            }
        }
    }

    /// Tells everybody at the same time. Who does not do it is remembered with the reason.
    async fn ask_all(&mut self, order: impl Fn(&AgentId) -> Order) -> Vec<Option<Answer>> {
        let asking = self.keepers.iter().map(|k| k.ask(order(&k.id)));
        let answers = join_all(asking).await;
        let faults = answers.iter().filter_map(|answer| answer.as_ref().err());
        let faults: Vec<_> = faults.cloned().collect();
        self.faults.extend(faults);
        answers.into_iter().map(Result::ok).collect()
    }

    fn messages(&self) -> Messages {
        let sum = |count: fn(&Figures) -> u64| self.figures.iter().map(count).sum::<u64>();
        let (sent, delivered) = (sum(|f| f.sent), sum(|f| f.delivered));
        let duplicated = sum(|f| f.duplicated);
        Messages {
            sent,
            delivered,
            rejected: sum(|f| f.rejected),
            lost: sent.saturating_sub(delivered.saturating_sub(duplicated)),
            duplicated: duplicated + sum(|f| f.doubled),
        }
    }

    /// Of all processes together, this one too.
    fn used(&self) -> Resources {
        let children = self.figures.iter().map(|figures| &figures.resources);
        let rss_kib = resources::peak_rss_kib() + children.clone().map(|r| r.rss_kib).sum::<u64>();
        let cpu_s: f64 = children.map(|r| r.cpu_s).sum();
        let connections = 2 * self.formed.open.len() as u64;
        Resources {
            rss_kib,
            kib_per_connection: rss_kib.checked_div(connections).unwrap_or(0),
            cpu_s: rounded(cpu_s + resources::cpu_seconds() - self.cpu_at_start, 2),
        }
    }
}

impl std::fmt::Debug for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes")
            .field("swarm", &self.swarm.name)
            .field("agents", &self.keepers.len())
            .finish_non_exhaustive()
    }
}

/// The keys of a run as files that only their owner can read: no command line and no environment
/// holds them. Those that were made for the run go when it ends.
struct RunKeys {
    /// In the order of the agents.
    files: Vec<PathBuf>,
    folder: PathBuf,
}

impl RunKeys {
    fn write(run: &Path, swarm: &Swarm, keys: &Keys) -> std::io::Result<Self> {
        // Of its own, whoever else runs in the same folder.
        let folder = run.join(format!(".keys-{}", std::process::id()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let mut written = Self {
            files: Vec::new(),
            folder,
        };
        for (agent, pair) in swarm.agents.iter().zip(&keys.pairs) {
            let file = match &agent.key {
                Some(file) => file.clone(),
                None => {
                    let name = format!("{}.pem", file_name(agent.id.as_str()));
                    let file = written.folder.join(name);
                    let created = pair.create_file(&file);
                    created.map_err(std::io::Error::other)?;
                    file
                }
            };
            written.files.push(file);
        }
        Ok(written)
    }
}

impl Drop for RunKeys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// As `Path` is written.
fn path_named(name: &str) -> LinkPath {
    let all = [LinkPath::Host, LinkPath::Reflexive, LinkPath::Relay];
    let found = all.into_iter().find(|path| path.to_string() == name);
    found.unwrap_or(LinkPath::Unknown)
}
