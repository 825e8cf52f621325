//! What this process has used, as `/proc` tells it (Linux); zero where there is no such file.

use std::fs::read_to_string;

use serde::{Deserialize, Serialize};

/// What a run has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// The most memory that the process ever had resident, in KiB.
    pub rss_kib: u64,
    /// That, divided by the number of PeerConnections: two per link, both ends being here.
    pub kib_per_connection: u64,
    /// Seconds of processor time, user and system, of all threads.
    pub cpu_s: f64,
}

/// Peak resident memory in KiB.
pub(super) fn peak_rss_kib() -> u64 {
    read_to_string("/proc/self/status").map_or(0, |status| high_water_mark(&status))
}

/// Processor time used so far, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    read_to_string("/proc/self/stat").map_or(0.0, |stat| ticks(&stat) as f64 / TICKS_PER_SECOND)
}

/// `VmHWM:     12345 kB`
fn high_water_mark(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// `utime` and `stime` of proc_pid_stat(5), the 14th and 15th field. The second one, the name of
/// the program in parentheses, may hold anything, so that fields are counted from its end.
fn ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = after_name.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// `USER_HZ`: what user space sees is a hundred on every Linux, whatever the kernel ticks with.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(high_water_mark("Name:\tx\nVmHWM:\t   1234 kB\n"), 1_234);
        assert_eq!(high_water_mark("Name:\tx\n"), 0);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(ticks(stat), 300);
        assert_eq!(ticks(""), 0);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(peak_rss_kib() > 0);
    }
}
