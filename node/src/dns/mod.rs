//! Cluster DNS: names of Services and pods, answered from memory; everything else is asked upstream.
//!
//! ## Layout
//!
//! - [`zone`]: the names of the cluster, and what each answers: pure.
//! - [`forward`]: asking the node's own resolvers, with a bounded cache.
//! - [`server`]: questions to answers, over UDP and TCP.
//! - [`actor`]: the supervised actor that follows Services and endpoints and owns the sockets.

pub mod actor;
pub mod forward;
pub mod server;
pub mod zone;

pub use actor::{DnsConfig, DnsHandle, start};
