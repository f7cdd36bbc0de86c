//! The Common Expression Language, as Kubernetes uses it.
//!
//! - [`time`]: durations and times.

pub mod time;
