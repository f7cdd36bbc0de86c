//! Controllers.
pub mod deployment;
pub mod endpoints;
pub mod machinery;
pub mod replicaset;
