//! Ticks for whoever waits: one line per stage, with the time it took.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Shows stages as they pass: a spinner on a terminal, plain lines elsewhere.
pub struct Stages {
    bar: Option<ProgressBar>,
    began: Instant,
}

impl Default for Stages {
    fn default() -> Self {
        Self::new()
    }
}

impl Stages {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Stages { bar: None, began: Instant::now() }
    }

    /// A stage begins.
    pub fn begin(&mut self, what: &str) {
        self.began = Instant::now();
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner().with_message(what.to_owned());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    /// The stage is done.
    pub fn done(&mut self, what: &str) {
        let took = self.began.elapsed();
        self.tick(what, took);
    }

    /// A stage that somebody else timed is done.
    pub fn tick(&mut self, what: &str, took: Duration) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let _ = writeln!(std::io::stdout(), "  \u{2713} {what} ({})", text(took));
    }

    /// The stage failed.
    pub fn failed(&mut self, what: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let _ = writeln!(std::io::stdout(), "  \u{2717} {what}");
    }
}

/// A duration as people read it.
pub fn text(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}
