//! `ifswarm agent`: one agent, with a program at its pipes.
//!
//! Two things go on at once and never wait for each other: drafts are read and sent, events are told.
//! A peer that is slow holds up the drafts for it (see `agent_drafts`); a program that does not read
//! what it is told holds up the reading of links, which holds up those who send to it.

use std::future::ready;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use futures_util::future::maybe_done;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Globals;
use super::agent_chaos;
use super::agent_drafts::speak;
use super::agent_exec::{self, Again, Program};
use super::agent_files::Taking;
use super::agent_ledger::Ledger;
use super::agent_lines::{Input, Line};
use super::agent_mcp;
use super::agent_pipes::{self, Told};
use super::agent_told::{held, standing, told};
use super::chaos_child::end_with_the_runner;
use super::failure::{Failure, impossible};
use super::interrupt::Interrupt;
use super::joining::{Joining, Members};
use super::mesh_up::duration;
use super::watching::Watching;
use crate::admin::AgentWatch;
use crate::agent::{Agent, AgentEvent, Observer, Subscription};
use crate::identity::AgentId;
use crate::message::Destination;

/// Run one agent: drafts in on standard input, events out on standard output, one JSON object a line
///
/// At the end of its input the agent waits for acknowledgements (10 s at most), says goodbye and
/// ends: with 0, or 3 if some never came. With --stay it goes on until Ctrl-C or SIGTERM.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's id
    #[arg(long, value_name = "ID")]
    id: AgentId,
    #[command(flatten)]
    joining: Joining,
    /// After how much silence a conversation is closed
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    conversation_silence: Duration,
    #[command(flatten)]
    taking: Taking,
    /// Keep messages that are not acknowledged below this folder, and what was received: the agent
    /// goes on where it was however it has ended, and nothing is lost or comes twice
    /// [default: `outbox` of the swarm file; otherwise they are kept in memory]
    #[arg(long, value_name = "DIR")]
    outbox: Option<PathBuf>,
    /// Stay after the end of the input
    #[arg(long)]
    stay: bool,
    /// Give the pipes to this shell command, and start it again when it fails; what it says on
    /// standard error is logged under the agent's id
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Speak the Model Context Protocol on the pipes, for a language-model client: tools to list
    /// peers, send, ask, read and verify. Ends when the client closes them
    #[arg(long, conflicts_with_all = ["exec", "stay"])]
    mcp: bool,
    /// With --mcp: files below this folder may be sent; without it none
    #[arg(long, value_name = "DIR", requires = "mcp")]
    share: Option<PathBuf>,
    #[command(flatten)]
    watching: Watching,
    /// Obey orders of `ifswarm chaos` among the drafts
    #[arg(long, hide = true, conflicts_with_all = ["exec", "mcp"])]
    chaos: bool,
}

pub(crate) async fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    if args.chaos {
        end_with_the_runner()?;
    }
    let (builder, members) = args.joining.builder(&args.id)?;
    let builder = builder.conversation_silence(args.conversation_silence);
    let builder = args.taking.apply(builder)?;
    let builder = match args.outbox {
        Some(folder) => builder.outbox(Some(folder)),
        None => builder,
    };
    let watch = Arc::new(AgentWatch::default());
    // It answers until the process has ended, that it is leaving too.
    let _admin = args.watching.start(watch.clone()).await?;
    let started = interrupt.or(builder.start()).await;
    let Some(started) = started else {
        return Ok(Failure::Interrupted.into());
    };
    let agent = started.map_err(impossible)?;
    if args.mcp {
        return agent_mcp::serve(agent, members, args.share.as_deref(), &mut interrupt).await;
    }
    watch.started(agent.observer());
    let ready = greeting(&agent);
    let (inputs, lines, pipes) = match args.exec {
        None => agent_pipes::standard(ready),
        Some(command) => agent_exec::start(Program {
            command,
            folder: None,
            name: args.id.to_string(),
            greeting: ready,
            again: match args.stay {
                true => Again::Always,
                false => Again::OnFailure,
            },
            is_outlived: false,
            is_kept: agent.outbox_folder().is_some(),
        }),
    };
    let inputs = match args.chaos {
        true => agent_chaos::obeying(agent.observer(), inputs, lines.clone()),
        false => inputs,
    };
    let told = serve(agent, inputs, lines, args.stay, members, &mut interrupt).await;
    // What was told goes out before the process ends.
    let patience = match interrupt.was_heard() {
        true => FOR_LAST_LINES,
        false => Duration::MAX,
    };
    let _ = interrupt.or(timeout(patience, pipes.closed())).await;
    told
}

/// The first line that a program is told.
pub(super) fn greeting(agent: &Agent) -> String {
    let ready = Line::Ready {
        agent_id: agent.id(),
        public_key: agent.public_key(),
        session: agent.session(),
    };
    ready.to_text()
}

/// Until the input ends, nobody listens any more, or somebody wants it to end.
async fn serve(
    agent: Agent,
    inputs: mpsc::Receiver<Input>,
    lines: mpsc::Sender<Told>,
    stay: bool,
    members: Members,
    interrupt: &mut Interrupt,
) -> anyhow::Result<ExitCode> {
    let ledger = Mutex::new(Ledger::default());
    let events = agent.subscribe();
    let listening = listen(agent.observer(), events, &lines, &ledger);
    tokio::pin!(listening);
    let speaking = async {
        let failed = speak(&agent, inputs, &lines, &ledger, &members).await;
        if stay {
            std::future::pending::<()>().await;
        }
        failed
    };
    // Nothing is cancelled that could lose something: `listening` goes on below, and a draft that is
    // being sent is either sent or not.
    let (grace, files_failed) = tokio::select! {
        heard = &mut listening => {
            let observer = agent.observer();
            let left = async {
                match heard {
                    // It has ended by itself, and says why.
                    Heard::All => agent.ended().await.map_err(impossible).map(|_| ExitCode::SUCCESS),
                    Heard::Nobody => leave(agent, "nobody listens", AT_THE_END).await,
                }
            };
            return wind_up(&observer, left, ready(()), interrupt).await;
        }
        failed = speaking => (AT_THE_END, failed),
        () = interrupt.heard() => (WHEN_TOLD, 0),
    };
    let observer = agent.observer();
    let left = leave(agent, "done", grace);
    let code = wind_up(&observer, left, listening.map(|_| ()), interrupt).await?;
    match held(&ledger).unsettled() {
        // Who tells the agent to end does not wait for anything.
        _ if interrupt.was_heard() => Ok(code),
        0 if files_failed > 0 => Err(impossible(anyhow!(
            "{files_failed} of the files did not arrive: the events `file` with `failed` say why"
        ))),
        0 => Ok(code),
        missing => Err(impossible(anyhow!(
            "{missing} of the messages were not acknowledged: the events `undelivered`, and those without `acked`, say which. With an outbox on disk the latter go out when the agent starts again"
        ))),
    }
}

/// Waits until the agent has left and what it told is taken. Once somebody has told it to end, which
/// may be now, neither its peers nor a program that does not read are waited for much longer.
async fn wind_up(
    agent: &Observer,
    left: impl Future<Output = anyhow::Result<ExitCode>>,
    listening: impl Future<Output = ()>,
    interrupt: &mut Interrupt,
) -> anyhow::Result<ExitCode> {
    let (left, listening) = (maybe_done(left), maybe_done(listening));
    tokio::pin!(left, listening);
    if !interrupt.was_heard() {
        let both = async { tokio::join!(left.as_mut(), listening.as_mut()) };
        tokio::select! {
            _ = both => {}
            () = interrupt.heard() => agent.shutdown_within("told to end", WHEN_TOLD),
        }
    }
    let listening = timeout(FOR_THE_REST, listening);
    let both = async { tokio::join!(left.as_mut(), listening) };
    let _ = timeout(FOR_LEAVING, both).await;
    left.take_output().unwrap_or_else(|| {
        Err(impossible(anyhow!(
            "the agent was told to end, and has not left within {} s: does the disk of its witness answer?",
            FOR_LEAVING.as_secs()
        )))
    })
}

/// Says goodbye, `grace` for acknowledgements.
pub(super) async fn leave(agent: Agent, reason: &str, grace: Duration) -> anyhow::Result<ExitCode> {
    let left = agent.shutdown_within(reason, grace).await;
    left.map_err(impossible).map(|_| ExitCode::SUCCESS)
}

/// A program may write before the links are up.
pub(super) async fn wait_for_a_link(
    agent: &Agent,
    destination: &Destination,
    members: &Members,
    patience: Duration,
) -> Result<(), String> {
    let linked = async {
        match destination {
            Destination::Agent(peer) => agent.linked_with(peer).await,
            Destination::All => agent.linked(1).await,
        }
    };
    if let Destination::Agent(peer) = destination
        && peer != agent.id()
        && !members.has(peer)
    {
        return Err(format!("there is no agent `{peer}` in this swarm"));
    }
    match destination {
        // The agent says that itself.
        Destination::Agent(peer) if peer == agent.id() => Ok(()),
        _ => match timeout(patience, linked).await {
            Ok(linked) => linked.map_err(|err| err.to_string()),
            Err(_) => Err(format!(
                "no link to `{destination}` has come up in {} s: is it running, and registered with the same server?",
                patience.as_secs()
            )),
        },
    }
}

/// Why listening has ended.
pub(super) enum Heard {
    /// All there was.
    All,
    /// The program does not listen any more.
    Nobody,
}

/// Tells what happens, until the agent has ended or nobody listens.
pub(super) async fn listen(
    agent: Observer,
    mut events: Subscription,
    lines: &mpsc::Sender<Told>,
    ledger: &Mutex<Ledger>,
) -> Heard {
    loop {
        let event = tokio::select! {
            event = events.recv_held() => event,
            () = lines.closed() => return Heard::Nobody,
        };
        let Some((event, held)) = event else {
            return Heard::All;
        };
        let path = match &event {
            AgentEvent::PeerUp { peer, .. } => Some(agent.path(peer).await),
            _ => None,
        };
        let is_message = matches!(event, AgentEvent::Message(_));
        let mut held = Some(held).filter(|_| is_message);
        let mut texts = told(&event, path, ledger);
        if let AgentEvent::Missed { .. } = event {
            texts.extend(standing(&agent).await);
        }
        for text in texts {
            let held = held.take();
            if lines.send(Told { text, held }).await.is_err() {
                return Heard::Nobody;
            }
        }
    }
}

/// For acknowledgements at the end of the input (`cli.md`).
const AT_THE_END: Duration = Duration::from_secs(10);
/// For acknowledgements when told to end: all of it is to be over in five seconds.
const WHEN_TOLD: Duration = Duration::from_secs(1);
/// When told to end: until the agent has left and what it told is taken.
const FOR_THE_REST: Duration = Duration::from_millis(2500);
/// When told to end: until the agent has left, were its disk to hang. Otherwise that takes a second, and
/// three more where links do not close.
const FOR_LEAVING: Duration = Duration::from_secs(30);
/// When told to end: until that is written, and a child program has ended.
const FOR_LAST_LINES: Duration = Duration::from_millis(2200);
/// How long a draft waits for the link that it is for.
pub(super) const FOR_A_LINK: Duration = Duration::from_secs(10);
