//! # The worker of Troupe

pub mod link;
pub mod proxy;
