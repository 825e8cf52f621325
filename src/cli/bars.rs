//! Progress on standard error: bars on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bench::Progress;

/// One bar, which stands for one step after the other. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Bars(ProgressBar);

impl Bars {
    /// A bar that is not drawn yet.
    pub(crate) fn new() -> Self {
        // Draws nothing where standard error is no terminal. Ten times a second is fluent, and
        // costs what is measured nothing.
        let target = ProgressDrawTarget::stderr_with_hz(10);
        Self(ProgressBar::with_draw_target(Some(0), target))
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }

    fn begin(&self, what: &str, length: u64, unit: &str) {
        // Never as wide as the terminal: the ^C that it writes must not begin a new line.
        let template = format!("{{spinner}} {{prefix:<16}} {{bar:36}} {{pos}}/{{len}} {unit}");
        self.0.reset();
        self.0.set_style(style(&template));
        self.0.set_prefix(what.to_owned());
        self.0.set_length(length);
        self.0.enable_steady_tick(TICK);
    }
}

impl Progress for Bars {
    fn forming(&self, links: usize) {
        self.begin("forming the mesh", links as u64, "links");
    }

    fn link_up(&self) {
        self.0.inc(1);
    }

    fn probing(&self, probes: u64) {
        self.begin("probing", probes, "answered");
    }

    fn answered(&self) {
        self.0.inc(1);
    }

    fn step(&self, what: &str) {
        self.0.set_style(style("{spinner} {msg}"));
        self.0.set_message(what.to_owned());
        self.0.enable_steady_tick(TICK);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.expect("the templates of this file are well formed")
}

/// A spinner that turns says that the program lives, whatever it waits for.
const TICK: Duration = Duration::from_millis(100);
