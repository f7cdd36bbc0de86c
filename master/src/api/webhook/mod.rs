//! Webhooks: servers that others run and that this one asks.
//!
//! - [`client`]: where a webhook is.
//! - [`hooks`]: what is configured.
//! - [`call`]: asking; `kept`: the connections by which.
//! - [`review`]: what admission asks and is answered.
//! - [`admit`]: what is made of the answers.
//! - [`measured`]: what is counted of it.

pub mod admit;
pub mod call;
pub mod client;
pub mod hooks;
mod kept;
pub mod measured;
pub mod review;
