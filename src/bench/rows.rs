//! The figures of a bench as they are shown: each with its name, its floor, and their ratio.

use super::stats::grouped;
use super::suite::BenchReport;

/// One figure. Values come with their text.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// What was measured.
    pub measured: (f64, String),
    /// What it can never beat, where there is such a thing.
    pub floor: Option<(f64, String)>,
    /// One over the other.
    pub ratio: Option<f64>,
    /// Whether it says more of the figure above it.
    pub is_detail: bool,
}

/// All figures that were measured.
pub fn rows(report: &BenchReport) -> Vec<Row> {
    let floors = report.floors;
    let cores = report.machine.cores;
    let mut rows = Vec::new();
    if let Some(rtt) = report.unloaded_rtt_us {
        let name = "signed round trip, one at a time, p50";
        let measured = time(rtt.p50 as f64);
        rows.push(row(
            name,
            measured,
            Some(time(floors.signed_rtt_us())),
            report.unloaded_rtt_ratio,
        ));
    }
    let rtt = report.mesh.rtt_us;
    if report.rtt_ratio.is_some() {
        let name = format!("on every link at {}/s, p50", report.load.rate_per_link);
        rows.push(row(
            &name,
            time(rtt.p50 as f64),
            Some(time(floors.signed_mesh_rtt_us())),
            report.rtt_ratio,
        ));
        for (name, found) in [("p95", rtt.p95), ("p99", rtt.p99), ("longest", rtt.max)] {
            rows.push(row(name, time(found as f64), None, None).detail());
        }
    }
    if report.throughput.is_some() {
        let floor = Some(rate(floors.messages_per_second()));
        let measured = rate(report.messages_per_second);
        let name = "signed messages on one link";
        rows.push(row(name, measured, floor, report.messages_per_second_ratio));
    }
    if let Some(broadcast) = report.broadcast {
        let name = format!("broadcast to {}, deliveries", broadcast.receivers);
        let measured = rate(broadcast.deliveries_per_second);
        let floor = Some(rate(floors.deliveries_per_second(cores)));
        let ratio = Some(broadcast.deliveries_per_second_ratio);
        rows.push(row(&name, measured, floor, ratio));
        let measured = time(broadcast.last_receiver_us.p50 as f64);
        let floor = Some(time(floors.last_receiver_us(broadcast.receivers, cores)));
        let ratio = Some(broadcast.last_receiver_ratio);
        rows.push(
            row(
                "broadcast, until the last one has it, p50",
                measured,
                floor,
                ratio,
            )
            .detail(),
        );
    }
    if let Some(formation) = report.formation {
        let (agents, runs) = (report.mesh.agents, formation.runs);
        let name = format!("mesh of {agents} formed, median of {runs}");
        rows.push(row(&name, time(formation.median_ms * 1e3), None, None));
        let floor = Some(time(floors.datachannel_setup_ms * 1e3));
        let (measured, ratio) = (time(formation.link_p50_ms * 1e3), formation.link_p50_ratio);
        rows.push(row("each of its links, p50", measured, floor, Some(ratio)).detail());
    }
    rows
}

fn row(
    name: &str,
    measured: (f64, String),
    floor: Option<(f64, String)>,
    ratio: Option<f64>,
) -> Row {
    Row {
        name: name.to_owned(),
        measured,
        floor,
        ratio,
        is_detail: false,
    }
}

impl Row {
    fn detail(mut self) -> Self {
        self.is_detail = true;
        self
    }
}

/// Three digits that mean something.
fn time(us: f64) -> (f64, String) {
    let (value, unit) = match us {
        us if us < 1e3 => return (us, format!("{us:.0} µs")),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    (us, format!("{value:.digits$} {unit}"))
}

fn rate(per_second: f64) -> (f64, String) {
    let whole = per_second.round() as u64;
    (per_second, format!("{}/s", grouped(whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_the_unit_that_suits_them() {
        for (us, text) in [
            (85.4, "85 µs"),
            (1_036.0, "1.04 ms"),
            (16_512.0, "16.5 ms"),
            (250_000.0, "250 ms"),
            (3e6, "3.00 s"),
        ] {
            assert_eq!(time(us).1, text);
        }
        assert_eq!(rate(12_345.6).1, "12,346/s");
    }
}
