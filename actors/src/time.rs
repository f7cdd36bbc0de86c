//! Time through the actor system: real in programs, virtual in tests.
//!
//! Durations are measured with tokio's clock, which a test can pause. Wall time is the system's, unless a
//! test on this thread has called [`virtual_from`].

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

thread_local! {
    static ANCHOR: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
    /// Both clocks, read at the same time not long ago.
    static COMPARED: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
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
    since_epoch_us(now())
}

fn since_epoch_us(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as u64
}

/// How long the two clocks are taken to run alike before they are compared anew.
const COMPARED_FOR: Duration = Duration::from_secs(1);

/// What the wall clock says at `instant`, about now. Messages need it twice a hop, so it costs no look at the
/// wall clock, but for one a second.
pub(crate) fn wall_us_at(instant: Instant) -> u64 {
    if let Some((wall, anchor)) = ANCHOR.get() {
        return since_epoch_us(wall + instant.saturating_duration_since(anchor));
    }
    if let Some((wall, at)) = COMPARED.get() {
        let since = instant.saturating_duration_since(at);
        if since < COMPARED_FOR {
            return wall + since.as_micros() as u64;
        }
    }
    let wall = wall_us();
    COMPARED.set(Some((wall, instant)));
    wall
}

/// Makes this thread's wall clock start at `wall` and follow tokio's (pausable) clock from here on.
pub fn virtual_from(wall: SystemTime) {
    ANCHOR.set(Some((wall, Instant::now())));
}
