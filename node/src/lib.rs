//! # The worker of Troupe

pub mod dns;
pub mod link;
pub mod network;
pub mod proxy;
