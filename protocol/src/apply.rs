//! Server-side apply: who owns which fields of an object, and how configurations merge into it.
//!
//! Everything works over a [`Shape`], which tells how the value at a place merges; the field tables are one
//! ([`Table`]), an object without any schema another ([`Free`]).
//!
//! - [`element`], [`set`], [`encode`]: paths, sets of them, and their `FieldsV1` form.
//! - [`shape`], [`table`]: what is asked of a schema.
//! - [`validate`], [`compare`], [`merge`], [`remove`], [`fields`]: operations on values of a shape.
//! - [`created`]: the short way for new objects.
//! - [`managers`], [`update`]: an object's managers, and what writes and applied configurations do to them.

pub mod compare;
mod created;
pub mod element;
pub mod encode;
pub mod fields;
pub mod managers;
pub mod merge;
pub mod remove;
#[cfg(test)]
mod samples;
pub mod set;
pub mod shape;
pub mod table;
pub mod update;
pub mod validate;
mod walk;

pub use compare::{Comparison, compare};
pub use element::Element;
pub use managers::{Managed, Manager, Operation};
pub use set::Set;
pub use shape::{Free, Keys, List, ListKind, Map, Member, Scalar, Shape};
pub use table::Table;
pub use update::{Refusal, Versions};
pub use validate::Problems;
