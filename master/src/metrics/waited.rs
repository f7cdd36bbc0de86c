//! How long a request waited for others: in a queue of priority and fairness, for webhooks. What is left of its time is
//! what the server itself took, the duration that service levels are about.
//!
//! Whoever serves a request measures; whoever makes it wait, however deep below, tells. Outside of a measurement nothing
//! is kept.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};

tokio::task_local! {
    static WAITED: Cell<Duration>;
}

/// Does some work, and tells how long of that was waiting.
pub async fn measure<F: Future>(work: F) -> (F::Output, Duration) {
    let work = async {
        let made = work.await;
        (made, WAITED.with(Cell::get))
    };
    WAITED.scope(Cell::default(), work).await
}

/// Waits for somebody else.
pub async fn wait<F: Future>(other: F) -> F::Output {
    let begun = Instant::now();
    let made = other.await;
    // Nobody measures requests from within.
    let _ = WAITED.try_with(|waited| waited.set(waited.get() + begun.elapsed()));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_waiting_counts_and_it_adds_up() {
        // Each of them takes some time: they yield.
        let work = async {
            wait(tokio::task::yield_now()).await;
            tokio::task::yield_now().await;
            wait(async { 7 }).await
        };
        let begun = Instant::now();
        let (made, waited) = measure(work).await;
        assert_eq!(made, 7);
        assert!(waited > Duration::ZERO && waited < begun.elapsed());
        assert_eq!(wait(async { 8 }).await, 8);
        assert_eq!(measure(async {}).await.1, Duration::ZERO);
    }
}
