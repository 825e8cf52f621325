//! Where figures were measured: without that they mean nothing.

use std::fs::read_to_string;

use serde::Serialize;

/// The machine and the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor as it names itself.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Operating system and kernel.
    pub os: String,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// The version of ifswarm.
    pub version: &'static str,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpus = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: model(&cpus).unwrap_or("unknown").to_owned(),
            cores: cores(),
            os: format!("{} {}", std::env::consts::OS, kernel.trim())
                .trim()
                .to_owned(),
            profile: if is_debug() { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Whether this build is one whose figures say little.
pub fn is_debug() -> bool {
    cfg!(debug_assertions)
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// `model name : …`
fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_model_of_the_processor() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Fast: One\n";
        assert_eq!(model(cpuinfo), Some("Fast: One"));
        assert_eq!(model(""), None);
        assert!(Machine::this().cores > 0);
    }
}
