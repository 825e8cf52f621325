//! `ifswarm send`: joins, says one thing, and leaves.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::Globals;
use super::failure::{Failure, impossible, unusable};
use super::interrupt::Interrupt;
use super::joining::Joining;
use super::mesh_up::duration;
use super::output::print;
use super::send_files::{self, Arrived};
use crate::agent::Agent;
use crate::identity::AgentId;
use crate::message::{
    Draft, IfMessage, MAX_MESSAGE, Malformed, Performative, Verified, parse_strict,
};

/// Join a swarm, send one message or files, wait for the acknowledgement (and the reply), and leave
///
/// Ends with 0 when the peer has the message; with --await-reply, when it has answered with
/// anything but refuse, failure or not-understood, which end with 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose message it is
    #[arg(long = "as", value_name = "ID")]
    from: AgentId,
    /// Whom it is for
    #[arg(long, value_name = "ID")]
    to: AgentId,
    #[command(flatten)]
    joining: Joining,
    /// What the message does: request, inform, query-if, escalate, … [default: request with
    /// --await-reply, otherwise inform]
    #[arg(long, value_name = "P", value_parser = performative)]
    performative: Option<Performative>,
    /// What it says, a JSON object: the text itself, @FILE, or - for standard input [default: {};
    /// with --file, no message is sent]
    #[arg(long, value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    /// Send this file, several for several; the peer must take files (`agent --accept-files`)
    #[arg(long = "file", value_name = "PATH", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Wait for the reply for so long, and print it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    await_reply: Option<Duration>,
    /// How long the link may take to come up, and then the acknowledgement; files take as long as
    /// they take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    patience: Duration,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

/// What came of it (`send --json`).
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    destination: String,
    /// The message, and all files.
    acked: bool,
    /// From `send` until the peer had acknowledged, or replied.
    elapsed_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_it_came")]
    reply: Option<Verified<IfMessage>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<Arrived>,
}

pub(crate) async fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    // All that can be wrong with the call, before anything is opened.
    let says_something = args.payload.is_some()
        || args.files.is_empty()
        || args.await_reply.is_some()
        || args.performative.is_some();
    let payload = match says_something {
        true => Some(payload(args.payload.as_deref().unwrap_or("{}"))?),
        false => None,
    };
    send_files::check(&args.files)?;
    if args.to == args.from {
        return Err(unusable(anyhow!("`{}` cannot send to itself", args.to)));
    }
    let (builder, members) = args.joining.builder(&args.from)?;
    if !members.has(&args.to) {
        return Err(unusable(anyhow!(
            "there is no agent `{}` in the swarm file",
            args.to
        )));
    }
    let Some(started) = interrupt.or(builder.start()).await else {
        return Ok(Failure::Interrupted.into());
    };
    let agent = started.map_err(impossible)?;
    let said = interrupt.or(say(&agent, &args, payload)).await;
    // Whatever came of it: others see a goodbye, and the witness its end.
    let left = agent.shutdown("done").await;
    let Some(said) = said else {
        return Ok(Failure::Interrupted.into());
    };
    let outcome = said?;
    left.map_err(impossible)?;
    tell(&outcome, args.json)?;
    Ok(
        match outcome.reply.as_ref().and_then(|r| r.performative()) {
            Some(Performative::Refuse | Performative::Failure | Performative::NotUnderstood) => {
                Failure::No.into()
            }
            _ => ExitCode::SUCCESS,
        },
    )
}

async fn say(
    agent: &Agent,
    args: &Args,
    payload: Option<Map<String, Value>>,
) -> anyhow::Result<Outcome> {
    match timeout(args.patience, agent.linked_with(&args.to)).await {
        Ok(linked) => linked.map_err(impossible)?,
        Err(_) => {
            return Err(impossible(anyhow!(
                "no link to `{}` has come up in {} ms: is it running, and registered with the same server?",
                args.to,
                args.patience.as_millis()
            )));
        }
    }
    let began = Instant::now();
    let (mut id, mut reply) = (None, None);
    if let Some(payload) = payload {
        let draft = Draft {
            performative: args.performative,
            ..Draft::new(args.to.clone(), payload)
        };
        match args.await_reply {
            Some(patience) => {
                let answer = agent.request(draft, patience).await.map_err(impossible)?;
                id = answer.in_reply_to().map(str::to_owned);
                reply = Some(answer);
            }
            None => id = Some(inform(agent, args, draft).await?),
        }
    }
    let elapsed = began.elapsed();
    let files = send_files::send(agent, &args.to, &args.files).await?;
    Ok(Outcome {
        id,
        destination: args.to.to_string(),
        acked: true,
        elapsed_ms: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
        reply,
        files,
    })
}

/// Sends it, as `inform` unless it says otherwise, and waits until the peer has it; its id.
async fn inform(agent: &Agent, args: &Args, mut draft: Draft) -> anyhow::Result<String> {
    draft.performative.get_or_insert(Performative::Inform);
    match timeout(args.patience, agent.send_acked(draft)).await {
        Ok(acknowledged) => acknowledged.map(|receipt| receipt.id).map_err(impossible),
        Err(_) => Err(impossible(anyhow!(
            "`{}` has not acknowledged the message in {} ms",
            args.to,
            args.patience.as_millis()
        ))),
    }
}

fn tell(outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    if json {
        let text = serde_json::to_string(outcome).expect("string keys and finite numbers only");
        return print(&format!("{text}\n"));
    }
    let Outcome {
        id,
        destination,
        elapsed_ms,
        reply,
        files,
        ..
    } = outcome;
    let mut text = match (reply, id) {
        (None, None) => String::new(),
        (None, Some(id)) => format!("{destination} has it: {id}, {elapsed_ms} ms\n"),
        (Some(reply), _) => {
            let what = reply.performative().map_or("message", Performative::as_str);
            let payload = serde_json::to_string_pretty(reply.payload());
            let payload = payload.expect("string keys and finite numbers only");
            format!("{destination} answers with {what}, after {elapsed_ms} ms:\n{payload}\n")
        }
    };
    text.extend(files.iter().map(|file| send_files::text(destination, file)));
    print(&text)
}

/// The object that a message says, from where the command line names it.
fn payload(given: &str) -> anyhow::Result<Map<String, Value>> {
    let (text, place) = match given.strip_prefix('@') {
        _ if given == "-" => (read(io::stdin(), "standard input")?, "standard input"),
        Some(path) => {
            let file = File::open(Path::new(path));
            let file = file.map_err(|err| unusable(anyhow!("{path}: {err}")))?;
            (read(file, path)?, path)
        }
        None => (given.as_bytes().to_vec(), "--payload"),
    };
    match parse_strict(&text, MAX_PAYLOAD) {
        Ok(Value::Object(payload)) => Ok(payload),
        Ok(_) => Err(unusable(anyhow!("{place}: expected a JSON object"))),
        Err(Malformed::Syntax {
            line,
            column,
            detail,
        }) => Err(unusable(anyhow!(
            "{place}:{line}:{column}: {detail}; expected a JSON object"
        ))),
        Err(err @ Malformed::TooLarge { .. }) => Err(unusable(anyhow!("{place}: {err}"))),
    }
}

fn read(from: impl Read, place: &str) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = from.take(MAX_PAYLOAD as u64 + 1).read_to_end(&mut text);
    read.map_err(|err| unusable(anyhow!("{place}: {err}")))?;
    Ok(text)
}

fn as_it_came<S: Serializer>(
    reply: &Option<Verified<IfMessage>>,
    out: S,
) -> Result<S::Ok, S::Error> {
    reply.as_deref().serialize(out)
}

fn performative(text: &str) -> Result<Performative, String> {
    serde_json::from_value(text.into()).map_err(|err| err.to_string())
}

/// The largest message; its payload is smaller.
const MAX_PAYLOAD: usize = MAX_MESSAGE;
