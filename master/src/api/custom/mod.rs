//! Kinds that clients declare by CustomResourceDefinitions.
//!
//! - [`catalog`]: every served kind, the table's and the declared ones. - [`kind`]: one declared kind.
//! - [`versions`]: the order of API versions.

pub mod catalog;
pub mod kind;
pub mod versions;

pub use catalog::Catalog;
pub use kind::{CustomKind, Version};

/// Group and plural of the objects that declare kinds.
pub const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
