//! Plots as SVG: percentile curves in the manner of HdrHistogram, and bars of figures beside
//! their floors.

use std::fmt::Write as _;

use super::stats::Latencies;

/// Percentile curves: the share of all on a scale of nines, the latency on a logarithmic one.
pub(super) fn curves(curves: &[(&str, &Latencies)]) -> String {
    let most = curves.iter().map(|(_, all)| all.at(1.0)).max().unwrap_or(1);
    let least = curves.iter().map(|(_, all)| all.at(0.0)).min().unwrap_or(1);
    let y = Scale::around(least.max(1), most.max(2));
    let nines = nines(curves.iter().map(|(_, all)| all.count()).max().unwrap_or(1));
    let x_of = |quantile: f64| LEFT + (WIDTH - LEFT - RIGHT) * (-(1.0 - quantile).log10() / nines);
    let mut svg = open(HEIGHT, "Latency by percentile");
    for decade in y.ticks() {
        let at = y.at(decade);
        let label = duration(decade as f64);
        let right = WIDTH - RIGHT;
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{LEFT} {at:.1}H{right}"/><text x="{:.1}" y="{:.1}" class="end">{label}</text>"#,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (quantile, label) in QUANTILES {
        let at = x_of(quantile);
        if at > WIDTH - RIGHT + 1.0 {
            continue;
        }
        let (bottom, below) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 18.0);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{at:.1} {TOP}V{bottom}"/><text x="{at:.1}" y="{below}" class="middle">{label}</text>"#
        );
    }
    for (n, (name, all)) in curves.iter().enumerate() {
        let mut path = String::new();
        // The last percentile that so many samples can tell from the longest.
        let last = 1.0 - 1.0 / all.count().max(2) as f64;
        let last_x = x_of(last).min(WIDTH - RIGHT);
        for step in 0..=STEPS {
            let x = LEFT + (last_x - LEFT) * f64::from(step) / f64::from(STEPS);
            let share = (x - LEFT) / (WIDTH - LEFT - RIGHT) * nines;
            let quantile = 1.0 - 10f64.powf(-share);
            let latency = all.at(quantile).max(1);
            let command = if step == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{x:.1} {:.1}", y.at(latency));
        }
        let color = COLORS[n % COLORS.len()];
        let _ = write!(
            svg,
            r#"<path d="{path}" fill="none" stroke="{color}" stroke-width="2.5" stroke-linejoin="round"><title>{}</title></path>"#,
            escaped(name)
        );
    }
    svg + "</svg>"
}

/// The colour of curve `n`, for its legend.
pub(super) fn color(n: usize) -> &'static str {
    COLORS[n % COLORS.len()]
}

/// A figure and what it can never beat, in one unit.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) figure: (f64, String),
    pub(super) floor: (f64, String),
}

/// Pairs of bars, each pair on a scale of its own: what is compared is figure and floor.
pub(super) fn bars(bars: &[Bar]) -> String {
    let height = bars.len() as f64 * PAIR + 8.0;
    let mut svg = open(height, "Figures beside their floors");
    for (n, bar) in bars.iter().enumerate() {
        let top = n as f64 * PAIR + 4.0;
        let most = bar.figure.0.max(bar.floor.0).max(f64::MIN_POSITIVE);
        let _ = write!(
            svg,
            r#"<text x="0" y="{:.1}" class="name">{}</text>"#,
            top + 14.0,
            escaped(&bar.name)
        );
        let pair = [
            (&bar.figure, "figure", "measured"),
            (&bar.floor, "floor", "at best"),
        ];
        for (row, ((value, label), class, what)) in pair.into_iter().enumerate() {
            let y = top + 22.0 + row as f64 * 17.0;
            // As long as the longest one leaves room for its label.
            let length = (WIDTH - 230.0) * value / most;
            let _ = write!(
                svg,
                r#"<rect x="0" y="{y:.1}" width="{length:.1}" height="13" rx="2" class="{class}"/><text x="{:.1}" y="{:.1}">{} <tspan class="soft">{what}</tspan></text>"#,
                length + 8.0,
                y + 11.0,
                escaped(label)
            );
        }
    }
    svg + "</svg>"
}

/// Microseconds in a unit that suits their size.
pub(super) fn duration(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    if value >= 100.0 || value.fract() < 0.05 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Text for HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn open(height: f64, title: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{0}"><title>{0}</title>"#,
        escaped(title)
    )
}

/// A logarithmic scale, from bottom to top.
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    /// Wide enough for both, ending on ticks.
    fn around(least: u64, most: u64) -> Self {
        let below = |n: u64| TICKS.iter().rev().find(|tick| **tick <= n).copied();
        let above = |n: u64| TICKS.iter().find(|tick| **tick >= n).copied();
        let from = below(least).unwrap_or(1);
        let to = above(most).unwrap_or(most);
        Self {
            from: (from as f64).log10(),
            to: (to.max(from + 1) as f64).log10(),
        }
    }

    fn at(&self, value: u64) -> f64 {
        let share = ((value as f64).log10() - self.from) / (self.to - self.from);
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        bottom - (bottom - top) * share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = u64> {
        let (from, to) = (self.from - 1e-9, self.to + 1e-9);
        TICKS
            .into_iter()
            .filter(move |tick| (from..=to).contains(&(*tick as f64).log10()))
    }
}

/// How many nines the horizontal axis shows, so that its last tick is one that the samples reach.
fn nines(samples: u64) -> f64 {
    (samples.max(10) as f64).log10().clamp(1.0, 5.0)
}

/// 1, 2 and 5 of each decade, from a microsecond to an hour.
const TICKS: [u64; 29] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    3_600_000_000,
];
const QUANTILES: [(f64, &str); 7] = [
    (0.0, "min"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];
/// Told apart by those who see no red or green, too (Okabe and Ito).
const COLORS: [&str; 4] = ["#7f8c9a", "#0072b2", "#d55e00", "#009e73"];
const STEPS: u32 = 240;
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 32.0;
/// Height of one pair of bars with its name.
const PAIR: f64 = 68.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_curve_rises_to_the_right_and_stays_within_the_picture() {
        let mut all = Latencies::new();
        for us in 1..=1_000 {
            all.record(Duration::from_micros(us));
        }
        let svg = curves(&[("a < b", &all)]);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN"), "{svg}");
        // Of none, and of one, there is nothing to divide by.
        for count in 0..2 {
            let mut few = Latencies::new();
            (0..count).for_each(|_| few.record(Duration::ZERO));
            let svg = curves(&[("few", &few)]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(!curves(&[]).contains("NaN"));
    }

    #[test]
    fn a_bar_of_nothing_has_no_length() {
        let bar = Bar {
            name: "none".into(),
            figure: (0.0, "0".into()),
            floor: (0.0, "0".into()),
        };
        assert!(bars(&[bar]).contains(r#"width="0.0""#));
    }

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        for (us, text) in [
            (7.0, "7 µs"),
            (85.1, "85.1 µs"),
            (999.0, "999 µs"),
            (1_500.0, "1.5 ms"),
            (20_000.0, "20 ms"),
            (3e6, "3 s"),
        ] {
            assert_eq!(duration(us), text);
        }
    }
}
