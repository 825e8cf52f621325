//! `agent --chaos`: orders of `ifswarm chaos` among the drafts. An order is obeyed at once, however
//! many drafts wait before it for a link that is cut.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;

use super::agent_lines::Input;
use super::agent_pipes::Told;
use crate::agent::Observer;
use crate::chaos::{Order, Setting, Struck, Vitals};
use crate::link::{PathConditions, PathCounts};

/// The inputs that are no orders. Orders are obeyed as they are read.
pub(super) fn obeying(
    agent: Observer,
    mut inputs: mpsc::Receiver<Input>,
    lines: mpsc::Sender<Told>,
) -> mpsc::Receiver<Input> {
    let (drafts, read) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut waiting = VecDeque::new();
        let mut is_open = true;
        while is_open || !waiting.is_empty() {
            // All are cancel-safe: a permit that is not used is given back.
            tokio::select! {
                input = inputs.recv(), if is_open && waiting.len() < WAITING => match input {
                    None => is_open = false,
                    Some(input) => match order_of(&input) {
                        None => waiting.push_back(input),
                        Some(order) => obey(&agent, order, &lines).await,
                    },
                },
                place = drafts.reserve(), if !waiting.is_empty() => match place {
                    Ok(place) => {
                        if let Some(input) = waiting.pop_front() {
                            place.send(input);
                        }
                    }
                    Err(_) => return,
                },
                () = drafts.closed() => return,
            }
        }
    });
    read
}

fn order_of(input: &Input) -> Option<Order> {
    Order::read(input.text.as_ref().ok()?)
}

async fn obey(agent: &Observer, order: Order, lines: &mpsc::Sender<Told>) {
    match order {
        Order::Conditions { peer, path, seed } => {
            let path = path.map(|path| PathConditions {
                delay: Duration::from_micros(path.delay_us),
                jitter: Duration::from_micros(path.jitter_us),
                loss_per_mille: path.loss_per_mille.into(),
                duplicate_per_mille: path.duplicate_per_mille.into(),
                reorder_per_mille: path.reorder_per_mille.into(),
                rate: path.rate,
                cut: path.cut,
                seed,
            });
            agent.condition(&peer, path);
        }
        Order::Clock(by_ms) => agent.set_clock_off(by_ms),
        Order::Vitals(tag) => {
            let held = agent.look().map(|vitals| vitals.held).unwrap_or_default();
            let paths = agent.path_counts().into_iter();
            let settings = agent.path_settings().into_iter();
            let settings = settings.filter_map(|(peer, setting)| {
                let (conditions, counts) = setting?;
                let (seed, struck) = (conditions.seed, struck(counts));
                Some((peer, Setting { seed, struck }))
            });
            let vitals = Vitals {
                tag,
                paths: paths.map(|(peer, counts)| (peer, struck(counts))).collect(),
                settings: settings.collect(),
                tasks: held.tasks,
                links: held.connections,
            };
            let _ = lines.send(vitals.line().into()).await;
        }
    }
}

fn struck(counts: PathCounts) -> Struck {
    Struck {
        dropped: counts.dropped,
        cut: counts.cut,
        delayed: counts.delayed,
        duplicated: counts.duplicated,
        reordered: counts.reordered,
    }
}

/// Drafts that wait behind one that is being sent: many more than `ifswarm chaos` leaves unanswered.
const WAITING: usize = 4096;
