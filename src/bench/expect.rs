//! Whether what the swarm file expects came true.

use std::time::Duration;

use super::report::Report;
use crate::swarm::{Expect, ExpectedLinks};

/// What did not hold, one line each.
pub(super) fn unmet(expect: &Expect, report: &Report) -> Vec<String> {
    let mut unmet = Vec::new();
    let links = report.links;
    let wanted = match expect.links {
        ExpectedLinks::All => links.expected,
        ExpectedLinks::AtLeast(n) => n,
    };
    if links.open < wanted {
        unmet.push(format!(
            "links: {} of {} opened, expected {wanted}",
            links.open, links.expected
        ));
    }
    let rtt = report.rtt_us;
    let percentiles = [
        ("p50", expect.p50, rtt.p50),
        ("p95", expect.p95, rtt.p95),
        ("p99", expect.p99, rtt.p99),
    ];
    for (name, limit, found) in percentiles {
        let Some(limit) = limit else { continue };
        if rtt.count == 0 {
            unmet.push(format!(
                "{name}: nothing was measured, expected at most {limit:?}"
            ));
        } else if Duration::from_micros(found) > limit {
            unmet.push(format!("{name}: {found} µs, expected at most {limit:?}"));
        }
    }
    if let Some(limit) = expect.setup
        && report.setup_ms > limit.as_secs_f64() * 1e3
    {
        let found = report.setup_ms;
        unmet.push(format!("setup: {found} ms, expected at most {limit:?}"));
    }
    if let Some(limit) = expect.lost
        && report.messages.lost > limit
    {
        let found = report.messages.lost;
        unmet.push(format!("lost: {found} messages, expected at most {limit}"));
    }
    if !report.witness.verified {
        unmet.push("witness: its logs are not as the agents left them".into());
    }
    unmet
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    fn unmet_of(change: impl Fn(&mut Expect, &mut Report)) -> String {
        let (mut expect, mut report) = (Expect::default(), sample());
        report.rtt_us.count = 1;
        change(&mut expect, &mut report);
        unmet(&expect, &report).join("; ")
    }

    #[test]
    fn what_holds_is_not_told() {
        assert_eq!(unmet_of(|_, _| {}), "");
        let all = unmet_of(|expect, report| {
            expect.p95 = Some(Duration::from_millis(50));
            expect.setup = Some(Duration::from_millis(13));
            expect.links = ExpectedLinks::AtLeast(1);
            report.rtt_us.p95 = 50_000;
        });
        assert_eq!(all, "");
    }

    #[test]
    fn what_does_not_hold_is_told_with_what_was_found_and_expected() {
        let text = unmet_of(|_, report| report.links.open = 0);
        assert_eq!(text, "links: 0 of 1 opened, expected 1");
        let text = unmet_of(|expect, report| {
            expect.p99 = Some(Duration::from_millis(1));
            report.rtt_us.p99 = 1_001;
        });
        assert_eq!(text, "p99: 1001 µs, expected at most 1ms");
        let text = unmet_of(|expect, _| expect.setup = Some(Duration::from_millis(12)));
        assert_eq!(text, "setup: 12.5 ms, expected at most 12ms");
        let text = unmet_of(|_, report| report.messages.lost = 3);
        assert_eq!(text, "lost: 3 messages, expected at most 0");
        assert!(unmet_of(|_, report| report.witness.verified = false).starts_with("witness"));
    }

    #[test]
    fn a_percentile_of_nothing_holds_nothing() {
        let text = unmet_of(|expect, report| {
            expect.p50 = Some(Duration::from_secs(1));
            report.rtt_us.count = 0;
        });
        assert!(text.starts_with("p50: nothing was measured"), "{text}");
    }
}
