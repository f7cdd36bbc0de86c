//! # The vocabulary of Troupe
//!
//! What master and node say to one another, and the facts about Kubernetes kinds that both need. No I/O.
//!
//! ## Layout
//!
//! - [`request`]: the API request that every door produces, its answer, watch events.
//! - [`client`]: the typed client that controllers and nodes use over a door.
//! - [`error`]: failures in the shape of upstream's `Status`.
//! - [`streams`]: exec, attach, port-forward and logs between a client and a node.

pub mod client;
pub mod error;
pub mod request;
pub mod streams;

pub use client::{Api, Client, Object};
pub use error::ApiError;
pub use request::{ApiRequest, ApiResponse, Caller, Options, PatchKind, Target, Verb, WatchEvent, WatchKind, WatchStream};
