//! Latencies and their percentiles, on hdrhistogram: three significant digits, in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies measured so far. Small while they are short: the histogram grows with its largest
/// value, up to [`LONGEST`].
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u32>);

/// The percentiles of many latencies, in whole microseconds; all zero when there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// 95 of 100 are at most this.
    pub p95: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1,000 are at most this.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are within what a histogram can"))
    }

    /// Those of `samples`, in microseconds.
    pub(super) fn of_micros(samples: &[f64]) -> Self {
        let mut latencies = Self::new();
        for us in samples {
            latencies.record(Duration::from_secs_f64(us / 1e6));
        }
        latencies
    }

    /// Adds one; what is longer than [`LONGEST`] counts as that.
    pub fn record(&mut self, latency: Duration) {
        let micros = latency.min(LONGEST).as_micros();
        // Never fails: the value is bounded, and the histogram grows by itself.
        let _ = self.0.record(u64::try_from(micros).unwrap_or(u64::MAX));
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        // As above.
        let _ = self.0.add(&other.0);
    }

    /// Each value in microseconds, with how often it was measured: to be carried to another process.
    pub(super) fn counted(&self) -> Vec<(u64, u32)> {
        let values = self.0.iter_recorded();
        values
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect()
    }

    /// What [`counted`](Self::counted) gave, brought back.
    pub(super) fn of_counted(values: &[(u64, u32)]) -> Self {
        let mut latencies = Self::new();
        for (us, count) in values {
            let us = (*us).min(LONGEST.as_micros() as u64);
            // As in `record`.
            let _ = latencies.0.record_n(us, *count);
        }
        latencies
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `quantile` (0 to 1) of all are at most, in microseconds.
    pub fn at(&self, quantile: f64) -> u64 {
        // A histogram answers with the upper end of a bucket, which may lie above the longest.
        self.0.value_at_quantile(quantile).min(self.0.max())
    }

    /// The usual percentiles.
    pub fn percentiles(&self) -> Percentiles {
        if self.0.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: self.count(),
            min: self.0.min(),
            p50: self.at(0.5),
            p95: self.at(0.95),
            p99: self.at(0.99),
            p999: self.at(0.999),
            max: self.0.max(),
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// The middle of `values`, the upper one of two; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// `value` with `digits` digits after the point: figures of a report, not of a calculation.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in milliseconds with three digits.
pub(super) fn millis(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 3)
}

/// Longer than any answer that somebody waited for; bounds the memory of a histogram.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// A value is stored with an error of at most one in a thousand.
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carried_to_another_process_they_are_the_same() {
        let mut latencies = Latencies::new();
        for us in [1, 1, 2, 999, 1_000, 123_456, 3_599_999_999, 7_200_000_000] {
            latencies.record(Duration::from_micros(us));
        }
        let carried = Latencies::of_counted(&latencies.counted());
        assert_eq!(carried.percentiles(), latencies.percentiles());
        assert_eq!(carried.count(), 8);
    }

    fn of(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        for us in micros {
            latencies.record(Duration::from_micros(us));
        }
        latencies
    }

    #[test]
    fn percentiles_of_one_to_a_thousand_are_what_one_expects() {
        let expected = Percentiles {
            count: 1_000,
            min: 1,
            p50: 500,
            p95: 950,
            p99: 990,
            p999: 999,
            max: 1_000,
        };
        assert_eq!(of(1..=1_000).percentiles(), expected);
    }

    #[test]
    fn of_none_all_is_zero_and_the_longest_is_bounded() {
        assert_eq!(Latencies::new().percentiles(), Percentiles::default());
        let mut latencies = of([0]);
        latencies.record(Duration::MAX);
        let percentiles = latencies.percentiles();
        assert_eq!((percentiles.count, percentiles.min), (2, 0));
        let longest = LONGEST.as_micros() as u64;
        assert!(percentiles.max.abs_diff(longest) <= longest / 1_000);
    }

    #[test]
    fn adding_is_the_same_as_recording_in_one() {
        let mut sum = of([1, 2, 3]);
        sum.add(&of([40_000, 5]));
        assert_eq!(sum.percentiles(), of([1, 2, 3, 5, 40_000]).percentiles());
    }

    #[test]
    fn groups_digits() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn finds_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![2.0, 1.0]), 2.0);
        assert_eq!(median(vec![]), 0.0);
    }
}
