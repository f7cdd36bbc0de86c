//! The API server: one table-driven pipeline, and its HTTP front.
//!
//! - [`pipeline`]: authorization and dispatch; what every door calls.
//! - [`registry`]: create, read, update, patch, delete, watch for every kind.
//! - [`kinds`]: what is particular about kinds: defaults, validation. [`admission`]: what the server adds.
//! - [`subresources`], [`allocate`], [`convert`], [`escalation`]: calls on objects, Service addresses, kinds
//!   with two versions, the guard of RBAC.
//! - [`invalid`], [`meta`], [`object`]: validation errors, metadata, untyped objects.
//! - [`http`]: paths, negotiation, discovery, OpenAPI, Tables, watches over HTTP.
//!
//! Invariant: nothing here but [`kinds`], [`admission`] and [`subresources`] knows a kind by name.

pub mod admission;
pub mod allocate;
pub mod convert;
pub mod escalation;
//pub mod http;
pub mod invalid;
pub mod kinds;
pub mod meta;
pub mod object;
pub mod pipeline;
pub mod registry;
pub mod subresources;
//pub mod tables;

//pub use http::{Server, ServerConfig, StreamRouter};
pub use pipeline::{Config, Pipeline};
