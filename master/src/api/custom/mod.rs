//! Kinds that clients declare by CustomResourceDefinitions.
//!
//! - [`catalog`]: every served kind, the table's and the declared ones. - [`kind`]: one declared kind.
//! - [`definition`]: the objects that declare kinds. - [`schema`], [`fields`], [`rules`]: what fields objects
//!   have, and what must be true of them. - [`body`]: reading objects.
//! - [`conversion`]: versions that a webhook converts.
//! - [`columns`], [`jsonpath`]: Tables. - [`scale`]: the scale of an object. - [`versions`]: the order of API
//!   versions.

pub mod body;
pub mod catalog;
pub mod columns;
pub mod conversion;
pub mod definition;
pub mod fields;
pub mod jsonpath;
pub mod kind;
pub mod rules;
pub mod scale;
pub mod schema;
pub mod versions;

pub use catalog::Catalog;
pub use kind::{CustomKind, Version};

/// Group and plural of the objects that declare kinds.
pub const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
