//! # Master and node put together
//!
//! The `troupe` program: a whole cluster in one process, and the tools around any cluster.
//!
//! ## Layout
//!
//! - [`up`]: starting and ending a cluster; [`serve`]: the process behind it.
//! - [`trace`]: causal trees.
//! - [`tools`]: what asks a running cluster: traces, actors.
//! - [`state`], [`stages`]: a cluster's folder, and ticks for whoever waits.

pub mod serve;
pub mod stages;
pub mod state;
pub mod tools;
pub mod trace;
pub mod up;
