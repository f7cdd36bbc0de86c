//! Randomness through the actor system: seeded per thread in tests, from the operating system otherwise.

use std::cell::RefCell;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

thread_local! {
    static RNG: RefCell<StdRng> = RefCell::new(StdRng::from_os_rng());
}

/// Makes this thread's random numbers repeatable. Tests print the seed.
pub fn seed(seed: u64) {
    RNG.with_borrow_mut(|rng| *rng = StdRng::seed_from_u64(seed));
}

/// 64 random bits. Not for secrets.
pub fn bits() -> u64 {
    RNG.with_borrow_mut(RngCore::next_u64)
}

/// A random number of a range.
///
/// # Panics
/// When the range is empty.
pub fn within(range: Range<u64>) -> u64 {
    RNG.with_borrow_mut(|rng| rng.random_range(range))
}

/// A factor between 1-`spread` and 1+`spread`, to keep timers from falling into step.
pub fn jitter(spread: f64) -> f64 {
    let unit = (bits() >> 11) as f64 / (1u64 << 53) as f64;
    1.0 + spread * (2.0 * unit - 1.0)
}
