//! # Master and node put together
//!
//! The `troupe` program: a whole cluster in one process, and the tools around any cluster.
//!
//! ## Layout
//!
//! - [`trace`]: causal trees.

pub mod trace;
