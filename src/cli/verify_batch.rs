//! Judging many lines on all cores: what takes the time is one signature for each.
//!
//! Each is verified by itself, and strictly. Verifying many Ed25519 signatures in one equation
//! would be faster and is no option: it takes small-order parts for good that strict verification
//! refuses, so that `verify` would say yes to messages that every peer refuses.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use super::verify::Trust;
use super::verify_item::Item;
use super::verify_judge::judge;

/// What is to be judged together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<(Option<u64>, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    /// Takes a line and its number.
    pub(super) fn push(&mut self, number: Option<u64>, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push((number, line));
    }

    /// Whether it is time to judge it.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= MAX_LINES || self.bytes >= MAX_BYTES
    }

    /// Judges the lines and forgets them; the verdicts in the order of the lines, each with its
    /// number.
    pub(super) fn judge(&mut self, trust: &Trust) -> Vec<(Option<u64>, Item)> {
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let share = lines.len().div_ceil(cores).max(MIN_SHARE);
        let judge_share = |share: &[(Option<u64>, Vec<u8>)]| -> Vec<_> {
            let judged = share.iter();
            judged
                .map(|(number, line)| (*number, judge(line, trust)))
                .collect()
        };
        thread::scope(|scope| {
            let mut shares = lines.chunks(share);
            // This thread takes the first one.
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares
                .map(|share| scope.spawn(move || judge_share(share)))
                .collect();
            let mut verdicts = judge_share(own);
            for other in others {
                let judged = other.join().unwrap_or_else(|panic| resume_unwind(panic));
                verdicts.extend(judged);
            }
            verdicts
        })
    }
}

/// Enough that starting threads costs nothing beside the signatures.
const MAX_LINES: usize = 2048;
/// Lines that wait take memory: this, and one line more.
const MAX_BYTES: usize = 4 << 20;
/// Fewer are done before a thread has started.
const MIN_SHARE: usize = 16;
