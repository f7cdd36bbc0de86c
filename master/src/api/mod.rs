//! The API server: one table-driven pipeline, and its HTTP front.
//!
//! - [`pipeline`]: authorization and dispatch; what every door calls.
//! - [`registry`]: create, read, update, patch, delete, watch for every kind.
//! - [`kinds`]: what is particular about kinds: defaults, validation. [`admission`]: what the server adds.
//! - [`reviews`]: kinds that are questions: tokens, who may do what.
//! - [`subresources`], [`allocate`], [`convert`], [`escalation`]: calls on objects, Service addresses, kinds
//!   with two versions, the guard of RBAC.
//! - [`custom`]: kinds that clients declare, and the catalog of all kinds.
//! - [`managed`]: who owns which fields; server-side apply.
//! - [`invalid`], [`meta`], [`object`]: validation errors, metadata, untyped objects.
//! - [`documents`], [`openapi`], [`tables`]: what the HTTP front shows of kinds.
//!
//! Invariant: nothing here but [`kinds`], [`admission`], [`reviews`] and [`subresources`] knows a kind by name.

pub mod admission;
pub mod allocate;
pub mod cel;
pub mod convert;
pub mod custom;
pub mod documents;
pub mod escalation;
pub mod invalid;
pub mod kinds;
pub mod managed;
pub mod meta;
pub mod object;
pub mod openapi;
pub mod pipeline;
pub mod policy;
pub mod registry;
pub mod reviews;
pub mod subresources;
pub mod tables;
pub mod webhook;

pub use pipeline::{Config, Pipeline};

#[cfg(test)]
mod tests;
