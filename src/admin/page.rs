//! The text of `/metrics`: Prometheus text format 0.0.4, written by the crate `prometheus` from
//! numbers that are at hand. It keeps no registry: what counts is counted where it happens.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::agent::{Coverage, RoundTrips};

/// Metrics that are being put together.
#[derive(Debug, Default)]
pub struct Page(Vec<MetricFamily>);

/// What one number stands for, where there are several of a name.
type Label = (&'static str, &'static str);

impl Page {
    /// A number that only grows; its name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, MetricType::COUNTER, vec![counter(None, value)]);
    }

    /// Such numbers by `label`.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let values = values.into_iter();
        let metrics = values.map(|(is, value)| counter(Some((label, is)), value));
        self.add(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// A number of now.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.add(name, help, MetricType::GAUGE, vec![gauge(None, value)]);
    }

    /// Such numbers by `label`.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, f64)>,
    ) {
        let values = values.into_iter();
        let metrics = values.map(|(is, value)| gauge(Some((label, is)), value));
        self.add(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// Round trips, in seconds.
    pub fn round_trips(&mut self, name: &str, help: &str, trips: &RoundTrips) {
        let buckets = trips.cumulative().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(trips.count());
        histogram.set_sample_sum(trips.sum().as_secs_f64());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.add(name, help, MetricType::HISTOGRAM, vec![metric]);
    }

    /// How a witness log stands, or those of a server together.
    pub fn witness(&mut self, witness: &Coverage) {
        let number = |n: u64| n as f64;
        self.counter(
            "ifswarm_witness_entries_total",
            "Entries in the witness log, those of earlier processes among them.",
            witness.entries,
        );
        self.gauge(
            "ifswarm_witness_bytes",
            "Bytes of the witness log; 0 in memory.",
            number(witness.bytes),
        );
        self.gauge(
            "ifswarm_witness_uncovered_entries",
            "Entries that the newest checkpoint of this process does not cover.",
            number(witness.uncovered),
        );
        self.gauge(
            "ifswarm_witness_missing_entries",
            "Entries that could not be written since the log last said so; not 0 means trouble with the disk.",
            number(witness.missing),
        );
        // Without a checkpoint there is no age: 0 would be a lie, and no number none.
        let age = witness.checkpoint_age.map_or(f64::NAN, seconds);
        self.gauge(
            "ifswarm_witness_checkpoint_age_seconds",
            "Since the newest checkpoint was signed; grows while there is nothing new to cover. NaN before the first.",
            age,
        );
    }

    /// The text.
    pub(super) fn finish(mut self, healthy: bool) -> String {
        let version = env!("CARGO_PKG_VERSION");
        self.gauges(
            "ifswarm_build_info",
            "Always 1; which version this is.",
            "version",
            [(version, 1.0)],
        );
        self.gauge(
            "ifswarm_healthy",
            "Whether /healthz says ok.",
            f64::from(u8::from(healthy)),
        );
        let text = TextEncoder::new().encode_to_string(&self.0);
        text.expect("every family has a name and a number")
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn counter(label: Option<Label>, value: u64) -> Metric {
    let mut counter = Counter::default();
    // Exact below 2^53, which nothing here reaches.
    counter.set_value(value as f64);
    let mut metric = labelled(label);
    metric.set_counter(counter);
    metric
}

fn gauge(label: Option<Label>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(label);
    metric.set_gauge(gauge);
    metric
}

fn labelled(label: Option<Label>) -> Metric {
    let pair = label.map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value.into());
        pair
    });
    Metric::from_label(pair.into_iter().collect())
}
