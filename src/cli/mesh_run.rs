//! A swarm that `mesh up` runs: all agents in this process, or a process for each. Where the file
//! names programs, they are at the pipes of their agents.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::agent_attached::Attached;
use super::mesh_up::failed;
use super::{Globals, failure::impossible};
use crate::bench::{Options, Processes, Progress, Report, RunError, RunningSwarm};
use crate::identity::AgentId;
use crate::swarm::Swarm;

/// A running swarm.
pub(super) enum Run {
    Here(Box<RunningSwarm>, Vec<Attached>),
    Processes(Box<Processes>),
}

impl Run {
    /// All agents in this process.
    pub(super) async fn here(
        swarm: &Swarm,
        options: Options,
        progress: Arc<dyn Progress>,
    ) -> anyhow::Result<Self> {
        let launched = RunningSwarm::launch(swarm, options, progress).await;
        let running = launched.map_err(failed)?;
        let agents = swarm.agents.iter().zip(running.agents());
        let attached = agents
            .filter_map(|(described, agent)| Attached::start(Arc::clone(agent), described, swarm));
        let attached = attached.collect();
        Ok(Self::Here(Box::new(running), attached))
    }

    /// A process for each agent: this same program, which is told what to do on standard input.
    pub(super) async fn processes(
        swarm: &Swarm,
        file: &Path,
        options: Options,
        progress: Arc<dyn Progress>,
        globals: &Globals,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().map_err(impossible)?;
        let (file, globals) = (file.to_owned(), globals.clone());
        let command = move |id: &AgentId| {
            let mut command = Command::new(&program);
            command.args(globals.passed_on());
            command.args(["mesh", "member", "--id", id.as_str(), "--"]);
            command.arg(&file);
            command
        };
        let launched = Processes::launch(swarm, options, progress, command).await;
        Ok(Self::Processes(Box::new(launched.map_err(failed)?)))
    }

    /// Waits for the links.
    pub(super) async fn form(&mut self) -> Result<(), RunError> {
        match self {
            Self::Here(running, _) => running.form().await.map(drop),
            Self::Processes(running) => running.form().await.map(drop),
        }
    }

    /// Measures them.
    pub(super) async fn probe(&mut self) -> Result<(), RunError> {
        match self {
            Self::Here(running, _) => running.probe().await,
            Self::Processes(running) => running.probe().await,
        }
    }

    pub(super) async fn report_so_far(&self) -> Report {
        match self {
            Self::Here(running, _) => running.report_so_far().await,
            Self::Processes(running) => running.report_so_far().await,
        }
    }

    pub(super) fn witness_folder(&self) -> &Path {
        match self {
            Self::Here(running, _) => running.witness_folder(),
            Self::Processes(running) => running.witness_folder(),
        }
    }

    /// The programs end, the agents leave.
    pub(super) async fn finish(self) -> Result<Report, RunError> {
        match self {
            Self::Here(mut running, attached) => {
                let ends = attached.into_iter().map(Attached::end);
                for fault in futures_util::future::join_all(ends).await {
                    fault.into_iter().for_each(|fault| running.blame(fault));
                }
                running.finish().await
            }
            Self::Processes(running) => running.finish().await,
        }
    }
}
