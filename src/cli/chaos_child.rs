//! What an agent and a server that `ifswarm chaos` has started owe to it: not to outlive it, and to
//! say what only they know.

use std::io;
use std::thread;

use tokio::sync::oneshot;

use super::failure::impossible;
use super::output::print;
use crate::signal::{WitnessNote, WitnessSink};

/// Ends with whoever started this process, even while it is stopped and reads no end of its input.
///
/// The kernel kills it when the *thread* that started it ends: the main one of `ifswarm chaos`, on
/// which the run is. If that was killed before this, the input has ended, which is seen in any case.
#[cfg(target_os = "linux")]
pub(super) fn end_with_the_runner() -> anyhow::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(impossible)
}

/// Elsewhere there is no such thing: one that is stopped when the runner is killed stays.
#[cfg(not(target_os = "linux"))]
pub(super) fn end_with_the_runner() -> anyhow::Result<()> {
    Ok(())
}

/// Waits until whoever has the other end of standard input is gone, however that came about. A thread
/// of its own: a read of standard input cannot be cancelled.
pub(super) async fn end_of_input() {
    let (end, ended) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}

/// A server says on standard output who registers and who leaves, in the order in which it notes
/// that: `registered ID`, `left ID`.
pub(super) fn telling(mut sink: WitnessSink) -> WitnessSink {
    let mut note = sink.note;
    sink.note = Box::new(move |noted: WitnessNote| {
        let verb = match noted.event {
            "agent_registered" => Some("registered"),
            "agent_left" => Some("left"),
            _ => None,
        };
        let line = verb.zip(noted.peer.as_ref());
        let line = line.map(|(verb, id)| format!("{verb} {id}\n"));
        note(noted);
        // When nobody listens any more, the input has ended as well.
        let _ = line.map(|line| print(&line));
    });
    sink
}
