//! # The control plane of Troupe
//!
//! ## Layout
//!
//! - [`cache`]: the watch cache: an immutable snapshot and bounded change logs.
//! - [`store`]: where objects live; embedded or etcd.

pub mod cache;
pub mod store;
