//! # The vocabulary of Troupe
//!
//! What master and node say to one another, and the facts about Kubernetes kinds that both need. No I/O.
//!
//! ## Layout
//!
//! - [`apply`]: server-side apply: who owns which fields, how configurations merge.
//! - [`balancing`]: addresses of Services of type LoadBalancer.
//! - [`request`]: the API request that every door produces, its answer, watch events.
//! - [`client`]: the typed client that controllers and nodes use over a door.
//! - [`difference`]: what changed between two texts.
//! - [`ingress`]: whose Ingresses are, and how a node says that it serves them.
//! - [`link`]: the messages between a node and its master.
//! - [`events`]: what components tell people about objects.
//! - [`error`]: failures in the shape of upstream's `Status`.
//! - [`go`]: values as Go prints them. [`labels`]: labels that both sides read.
//! - [`patch`]: merge and strategic merge patches.
//! - [`range`]: ranges of addresses, of one family or two.
//! - [`resources`]: the table of served kinds.
//! - [`schema`]: the field tables of the API types, and reading objects by them.
//! - [`selector`], [`quantity`]: label and field selectors, amounts of resources.
//! - [`streams`]: exec, attach, port-forward and logs between a client and a node.

pub mod apply;
pub mod balancing;
pub mod client;
pub mod difference;
pub mod error;
pub mod events;
pub mod go;
pub mod ingress;
pub mod labels;
pub mod link;
pub mod patch;
pub mod quantity;
pub mod range;
pub mod request;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod streams;

/// The version of Kubernetes that Troupe says it is. Clients parse it, so it has upstream's form.
pub const KUBERNETES_VERSION: &str = "v1.36.2";

/// The same without its last part: `1.36`.
pub fn kubernetes_minor() -> &'static str {
    let whole = KUBERNETES_VERSION.trim_start_matches('v');
    whole.rsplit_once('.').map_or(whole, |(minor, _)| minor)
}

pub use client::{Api, Client, Object};
pub use error::ApiError;
pub use quantity::Quantity;
pub use range::DualRange;
pub use request::{
    ApiRequest, ApiResponse, Caller, Options, PatchKind, Target, Verb, WatchEvent, WatchKind, WatchStream,
};
pub use resources::Resource;
pub use selector::{FieldSelector, Selector};
