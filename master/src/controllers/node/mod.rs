//! Nodes: whether they are alive, which pods have to leave them, and their share of the pods' addresses.

pub mod eviction;
pub mod health;
pub mod ipam;
pub mod lifecycle;
pub mod patience;
