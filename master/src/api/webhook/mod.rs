//! Webhooks: servers that others run and that this one asks.
//!
//! - [`client`]: where a webhook is. - [`hooks`]: what is configured. - [`call`], [`admit`]: asking, and what is
//!   made of the answers.

pub mod admit;
pub mod call;
pub mod client;
pub mod hooks;
