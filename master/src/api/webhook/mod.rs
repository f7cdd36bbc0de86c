//! Webhooks: servers that others run and that this one asks.
//!
//! - [`client`]: where a webhook is. - [`hooks`]: what is configured. - [`call`], [`admit`]: asking, and what is
//!   made of the answers. - [`measured`]: what is counted of it.

pub mod admit;
pub mod call;
pub mod client;
pub mod hooks;
pub mod measured;
