//! The master's end of the links to nodes.
//!
//! A node's link is a door to the API: its calls and watches pass the same authorization and admission as
//! anybody's, as `system:node:NAME`. The other way, [`Nodes`] reaches into nodes for exec, attach,
//! port-forward, logs and traces. Each connected node is an actor (`master/link/node[NAME]`).

mod accept;
mod join;
mod nodes;
mod serve;

pub use accept::{LinkConfig, LinkServer};
pub use join::{ClusterFacts, Joining, TokenJoining};
pub use nodes::Nodes;
