//! Many requests at once, each timed from before it is sent to the last byte of its answer.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};

/// What a run of equal requests came to.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// How long each successful request took, in ascending order.
    pub took: Vec<Duration>,
    /// How many requests failed.
    pub errors: u64,
    /// What the first failure said.
    pub first_error: Option<String>,
    /// Bytes of all successful answers' bodies.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Measured {
    /// Counts one request; a good one's answer had so many bytes.
    pub fn add(&mut self, took: Duration, outcome: Result<u64, String>) {
        match outcome {
            Ok(bytes) => {
                self.took.push(took);
                self.bytes += bytes;
            }
            Err(why) => {
                self.errors += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }

    /// Nothing more is added.
    pub fn finish(mut self, elapsed: Duration) -> Self {
        self.took.sort_unstable();
        self.elapsed = elapsed;
        self
    }

    /// Successful requests a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.took.len() as f64 / seconds } else { 0.0 }
    }

    /// Bytes of an answer's body, on average.
    pub fn bytes_each(&self) -> u64 {
        self.bytes / (self.took.len() as u64).max(1)
    }

    /// The time within which `share` (0 to 1) of the successful requests ended: the nearest rank.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.took.len() as f64).ceil() as usize;
        self.took.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Shows how far a run is: a bar on a terminal, one line at the end elsewhere. All of it goes to standard error, as
/// the report has standard output for itself.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    began: Instant,
}

impl Progress {
    /// A run of `total` steps begins.
    pub fn begin(name: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_message(name.to_owned());
            if let Ok(style) =
                ProgressStyle::with_template("{msg:<16} {bar:40} {pos}/{len} {per_sec} eta {eta}")
            {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, name: name.to_owned(), began: Instant::now() }
    }

    /// Some steps are done.
    pub fn step(&self, count: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(count);
        }
    }

    /// The run is over.
    pub fn end(self) {
        match self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => {
                let took = crate::stages::text(self.began.elapsed());
                let _ = writeln!(std::io::stderr(), "{}: {took}", self.name);
            }
        }
    }
}

/// Makes `count` requests, `concurrency` at a time; each comes to the bytes of its answer.
pub async fn run<F>(name: &str, count: u32, concurrency: u32, request: impl Fn(u32) -> F) -> Measured
where
    F: Future<Output = Result<u64, String>>,
{
    let progress = Progress::begin(name, count.into());
    let began = Instant::now();
    let timed = |n| {
        let request = request(n);
        async move {
            let began = Instant::now();
            let outcome = request.await;
            (began.elapsed(), outcome)
        }
    };
    let mut answers =
        std::pin::pin!(futures::stream::iter(0..count).map(timed).buffer_unordered(concurrency as usize));
    let mut measured = Measured::default();
    while let Some((took, outcome)) = answers.next().await {
        measured.add(took, outcome);
        progress.step(1);
    }
    let elapsed = began.elapsed();
    progress.end();
    measured.finish(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let check = |millis: &[u64], share: f64, wanted: u64| {
            let mut measured = Measured::default();
            millis.iter().for_each(|m| measured.add(Duration::from_millis(*m), Ok(3)));
            let measured = measured.finish(Duration::from_secs(1));
            assert_eq!(measured.quantile(share), Duration::from_millis(wanted), "{millis:?} {share}");
        };
        check(&[], 0.5, 0);
        check(&[7], 0.5, 7);
        check(&[7], 0.99, 7);
        check(&[4, 1, 3, 2], 0.5, 2);
        check(&(1..=100).collect::<Vec<_>>(), 0.99, 99);
    }

    #[tokio::test]
    async fn failures_are_counted_and_no_more_run_at_once_than_allowed() {
        let (now, most) = (std::cell::Cell::new(0u32), std::cell::Cell::new(0u32));
        let measured = run("test", 20, 3, |n| {
            let (now, most) = (&now, &most);
            async move {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                tokio::task::yield_now().await;
                now.set(now.get() - 1);
                if n % 5 == 0 { Err(format!("refused {n}")) } else { Ok(10) }
            }
        })
        .await;
        assert_eq!((measured.took.len(), measured.errors, most.get()), (16, 4, 3));
        assert_eq!((measured.bytes, measured.bytes_each()), (160, 10));
        assert_eq!(measured.first_error.as_deref(), Some("refused 0"));
    }
}
