//! node

pub mod proxy;
