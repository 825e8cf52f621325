//! The clock of an open-loop measurement: a thread that wakes each lane when its next probe is due.
//!
//! A thread, because the runtime's timers tick in milliseconds, and what is measured takes less
//! than one. It spins at no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// When each probe of each lane is due: the k-th of lane i at `start + i·interval/lanes +
/// k·interval`. The lanes are spread over the interval so that they do not all fall on one moment,
/// which would measure the processor's queue and not the links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) interval: Duration,
    pub(super) lanes: u32,
    pub(super) probes: u64,
}

impl Schedule {
    /// When probe `k` of `lane` is due.
    pub(super) fn due(&self, lane: u32, k: u64) -> Instant {
        let rounds = u128::from(k) * self.interval.as_nanos();
        let phase = u128::from(lane) * self.interval.as_nanos() / u128::from(self.lanes.max(1));
        let nanos = u64::try_from(rounds + phase).unwrap_or(u64::MAX);
        // A schedule that overflows the clock never ends; it may as well end now.
        self.start
            .checked_add(Duration::from_nanos(nanos))
            .unwrap_or(self.start)
    }
}

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Starts waking: `wake[i]` is notified whenever a probe of lane `i` is due.
    pub(super) fn start(schedule: Schedule, wake: Vec<Arc<Notify>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            sleep_precisely();
            for k in 0..schedule.probes {
                for (lane, wake) in (0..).zip(&wake) {
                    if !wait_until(schedule.due(lane, k), &stopped) {
                        return;
                    }
                    wake.notify_one();
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only sleeps, and has just been woken: microseconds.
            let _ = thread.join();
        }
    }
}

/// Waits until `due`; false when told to stop.
fn wait_until(due: Instant, stopped: &AtomicBool) -> bool {
    loop {
        if stopped.load(Ordering::Acquire) {
            return false;
        }
        match due.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => return true,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

/// Asks Linux not to add its usual 50 µs to each sleep of this thread (`proc_pid_timerslack_ns(5)`).
/// Without it the probes start that much late, which counts against them.
fn sleep_precisely() {
    let Ok(me) = std::fs::read_link("/proc/thread-self") else {
        return;
    };
    if let Some(thread) = me.file_name() {
        let slack = std::path::Path::new("/proc").join(thread);
        let _ = std::fs::write(slack.join("timerslack_ns"), "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_spread_over_the_interval() {
        let schedule = Schedule {
            start: Instant::now(),
            interval: Duration::from_millis(10),
            lanes: 4,
            probes: 3,
        };
        let after = |lane, k| schedule.due(lane, k) - schedule.start;
        assert_eq!(after(0, 0), Duration::ZERO);
        assert_eq!(after(1, 0), Duration::from_micros(2_500));
        assert_eq!(after(1, 2), Duration::from_micros(22_500));
    }

    #[tokio::test]
    async fn wakes_every_lane_and_ends_when_dropped() {
        let wake: Vec<_> = (0..3).map(|_| Arc::new(Notify::new())).collect();
        let schedule = Schedule {
            start: Instant::now(),
            interval: Duration::from_secs(3600),
            lanes: 1_000_000,
            probes: 1_000,
        };
        let pacer = Pacer::start(schedule, wake.clone());
        for lane in &wake {
            lane.notified().await;
        }
        // The second round is due in an hour.
        drop(pacer);
    }
}
