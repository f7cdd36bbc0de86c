//! The service proxy: makes Services' addresses lead to their endpoints.
//!
//! What kube-proxy does. Deciding is pure, the same for all modes, and costs nothing to test; modes write it down.
//!
//! ## Layout
//!
//! - [`facts`]: what the proxy knows of its node.
//! - [`endpoints`]: which endpoints a service port uses (readiness, locality, topology, fallback).
//! - [`plan`]: one Service and its slices to what is to happen with its traffic here.
//! - [`cache`]: Services and slices as the watches report them, planned.
//! - [`health`]: health-check node ports, where balancers ask whether there are endpoints here.
//! - [`mode`]: how plans are carried out: [`nftables`], [`iptables`] or [`userspace`], an actor each.
//! - [`listeners`]: where programs of this node take connections in the endpoints' place.
//! - [`ledger`]: all Services' parts of a rule set, and what the kernel lacks of them.
//! - [`conntrack`]: forgets flows that would keep going to an endpoint that is gone.
//! - `actor`: the supervised actor that ties these together; [`handle`]: how it is started and asked.
//!
//! Invariants: a mode removes, at its start, what another one left; what is made in the kernel is found again by its
//! name; a change to one endpoint never rewrites the other Services' rules.

mod actor;
pub mod cache;
pub mod conntrack;
pub mod endpoints;
pub mod facts;
pub mod handle;
pub mod health;
pub mod iptables;
pub mod ledger;
pub mod listeners;
pub mod mode;
pub mod nftables;
pub mod plan;
#[cfg(test)]
mod played;
pub mod userspace;

use std::sync::Arc;

pub use facts::NodeFacts;
pub use handle::{CleanUpError, LOOK_INTERVAL, ProxyConfig, ProxyHandle, ProxyState, clean_up, start};
pub use mode::ProxyMode;
pub use userspace::Scheduler;

/// `namespace/name` of a Service.
pub type ServiceKey = Arc<str>;

/// The packet mark that asks for masquerading; the same bit that kube-proxy uses.
const MASQUERADE_MARK: &str = "0x4000";
