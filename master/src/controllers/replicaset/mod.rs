//! ReplicaSets.
pub mod decide;
