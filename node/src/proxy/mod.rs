//! The service proxy: makes Services' addresses lead to their endpoints, with nftables.
//!
//! What kube-proxy does. Deciding is pure and costs nothing to test; acting is one `nft` call a batch.
//!
//! ## Layout
//!
//! - [`facts`]: what the proxy knows of its node.
//! - [`endpoints`]: which endpoints a service port uses (readiness, locality, topology, fallback).
//! - [`compile`]: one Service and its slices to a [`compile::Fragment`] of the rule set.
//! - [`rules`]: all fragments together; what changed, as one `nft` transaction.
//! - [`conntrack`]: forgets flows that would keep going to an endpoint that is gone.
//! - [`health`]: health-check node ports, where balancers ask whether there are endpoints here.
//! - [`cache`]: Services and slices as the watches report them.
//! - [`actor`]: the supervised actor that ties these together.
//!
//! Invariants: everything lies in the table `ip troupe`, so deleting that table undoes all of it; a
//! change to one endpoint touches a few elements, never the other services' rules; each transaction is
//! atomic, so traffic never sees half of it.

pub mod actor;
pub mod cache;
pub mod compile;
pub mod conntrack;
pub mod endpoints;
pub mod facts;
pub mod health;
pub mod rules;

pub use actor::{ProxyConfig, ProxyHandle, ProxyState, clean_up, start};
pub use facts::NodeFacts;
