//! `ifswarm mesh member`: one agent of `mesh up --processes`, for that alone. Orders come on standard
//! input, answers go to standard output, one JSON object a line.
//!
//! The end of standard input is the end of whoever gives the orders, however it came about: the
//! agent then leaves, its program is ended, and the process with them.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::{mpsc, oneshot};

use super::Globals;
use super::agent_attached::Attached;
use super::failure::{Failure, impossible, unusable};
use super::interrupt::Interrupt;
use super::output::print;
use crate::bench::{Answer, Member, Numbered, Order};
use crate::identity::AgentId;
use crate::swarm::Swarm;

/// One agent of a swarm of processes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which one
    #[arg(long)]
    id: AgentId,
    /// The swarm file
    file: PathBuf,
}

pub(super) async fn run(args: Args, _: &Globals) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    let swarm = Swarm::read(&args.file).map_err(unusable)?;
    let (mut orders, nobody) = orders();
    let Some(Numbered {
        number,
        what: Order::Start(start),
    }) = orders.recv().await
    else {
        return Err(unusable(anyhow!(
            "this is a part of `ifswarm mesh up --processes`, which tells it what to do"
        )));
    };
    let started = Member::start(swarm.clone(), &args.id, start);
    let mut member = match interrupt.or(started).await {
        Some(Ok(member)) => member,
        Some(Err(message)) => {
            answer(number, Answer::Failed { message })?;
            return Ok(Failure::Impossible.into());
        }
        None => return Ok(Failure::Interrupted.into()),
    };
    answer(number, Answer::Started)?;
    let described = swarm.agents.iter().find(|agent| agent.id == args.id);
    let attached = described
        .and_then(|described| Attached::start(Arc::clone(member.agent()), described, &swarm));
    let obeying = async {
        let mut next = orders.recv().await;
        while let Some(Numbered { number, what }) = next {
            if matches!(what, Order::Leave) {
                return Some(number);
            }
            // Cancel-safe: a receiver of a queue; and what was being done ends where it was.
            let done = tokio::select! {
                done = member.obey(what) => done,
                another = orders.recv() => {
                    next = another;
                    continue;
                }
            };
            answer(number, done).ok()?;
            next = orders.recv().await;
        }
        None
    };
    // Nothing is lost by leaving an order undone: there is nobody to answer.
    let in_order = tokio::select! {
        in_order = obeying => in_order,
        _ = nobody => None,
        () = interrupt.heard() => None,
    };
    if let Some(attached) = attached
        && let Some(fault) = attached.end().await
    {
        member.blame(fault);
    }
    let Some(number) = in_order else {
        member.leave("the run was ended", WHEN_TOLD).await;
        return Ok(Failure::Interrupted.into());
    };
    answer(number, member.leave("the run is over", AT_THE_END).await)?;
    Ok(ExitCode::SUCCESS)
}

fn answer(number: u64, what: Answer) -> anyhow::Result<()> {
    let text = serde_json::to_string(&Numbered { number, what }).map_err(impossible)?;
    print(&format!("{text}\n"))
}

/// The orders that come, and the end of whoever gives them. A thread of its own: a read of standard
/// input cannot be cancelled, and is to see its end also while an order is being obeyed.
fn orders() -> (mpsc::Receiver<Numbered<Order>>, oneshot::Receiver<()>) {
    let (orders, coming) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    thread::spawn(move || {
        let mut input = BufReader::new(io::stdin());
        let mut line = String::new();
        loop {
            line.clear();
            match input.by_ref().take(LONGEST).read_line(&mut line) {
                Ok(1..) => {}
                _ => break,
            }
            let Ok(order) = serde_json::from_str(&line) else {
                break;
            };
            if orders.blocking_send(order).is_err() {
                break;
            }
        }
        drop(orders);
        let _ = end.send(());
        // Whoever waits for this process has gone, or waits in vain from now on.
        thread::sleep(AT_MOST);
        std::process::exit(Failure::Interrupted.code().into());
    });
    (coming, ended)
}

/// The largest swarm's keys and links: half a million of these.
const LONGEST: u64 = 1 << 28;
/// For acknowledgements, in order and otherwise.
const AT_THE_END: Duration = Duration::from_secs(10);
const WHEN_TOLD: Duration = Duration::from_secs(2);
/// Nothing that is left to do after the end of the input takes longer.
const AT_MOST: Duration = Duration::from_secs(20);
