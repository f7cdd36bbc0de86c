//! Webhooks: servers that others run and that this one asks.
//!
//! - [`client`]: where a webhook is.

pub mod client;
