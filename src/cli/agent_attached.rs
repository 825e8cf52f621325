//! A program at the pipes of an agent that others use too: of `mesh up`, whose measurements go over
//! the same agent.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::agent::{greeting, listen};
use super::agent_drafts::speak;
use super::agent_exec::{self, Again, Program};
use super::agent_ledger::Ledger;
use super::joining::Members;
use crate::agent::Agent;
use crate::swarm::{Restart, Swarm, SwarmAgent};

/// A program that runs beside its agent.
pub(super) struct Attached {
    end: oneshot::Sender<()>,
    task: JoinHandle<Option<String>>,
}

impl Attached {
    /// Starts the program of `described`, if it has one.
    pub(super) fn start(agent: Arc<Agent>, described: &SwarmAgent, swarm: &Swarm) -> Option<Self> {
        let exec = described.exec.as_ref()?;
        let program = Program {
            command: exec.command.clone(),
            folder: Some(exec.folder.clone()).filter(|folder| !folder.as_os_str().is_empty()),
            name: described.id.to_string(),
            greeting: greeting(&agent),
            again: match described.restart {
                Restart::Always => Again::Always,
                Restart::Never => Again::Never,
            },
            is_outlived: true,
            is_kept: agent.outbox_folder().is_some(),
        };
        let members = Members::of(swarm);
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(run(agent, program, members, ended));
        Some(Self { end, task })
    }

    /// Ends it, its children too, and lets go of the agent; how it had failed, if it had.
    pub(super) async fn end(self) -> Option<String> {
        let _ = self.end.send(());
        self.task.await.ok().flatten()
    }
}

async fn run(
    agent: Arc<Agent>,
    program: Program,
    members: Members,
    ended: oneshot::Receiver<()>,
) -> Option<String> {
    let name = program.name.clone();
    let (inputs, lines, pipes) = agent_exec::start(program);
    let ledger = Mutex::new(Ledger::default());
    let events = agent.subscribe();
    let speaking = async {
        speak(&agent, inputs, &lines, &ledger, &members).await;
        // It has nothing more to say, and may still listen.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = listen(agent.observer(), events, &lines, &ledger) => {}
        () = speaking => {}
        // Or it was dropped.
        _ = ended => {}
    }
    drop(lines);
    let fault = pipes.closed().await;
    fault.map(|fault| format!("{name}: {fault}"))
}
