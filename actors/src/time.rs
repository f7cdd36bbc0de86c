//! Time through the actor system: real in programs, virtual in tests.
//!
//! Durations are measured with tokio's clock, which a test can pause. Wall time is the system's, unless a
//! test on this thread has called [`virtual_from`].

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

thread_local! {
    static ANCHOR: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
}

/// The wall clock.
pub fn now() -> SystemTime {
    match ANCHOR.get() {
        Some((wall, instant)) => wall + instant.elapsed(),
        None => SystemTime::now(),
    }
}

/// The wall clock in µs since the Unix epoch.
pub fn wall_us() -> u64 {
    now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as u64
}

/// Makes this thread's wall clock start at `wall` and follow tokio's (pausable) clock from here on.
pub fn virtual_from(wall: SystemTime) {
    ANCHOR.set(Some((wall, Instant::now())));
}
