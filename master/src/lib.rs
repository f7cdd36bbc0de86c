//! # The control plane of Troupe
//!
//! ## Layout
//!
//! - [`cache`]: the watch cache: an immutable snapshot and bounded change logs.
//! - [`controllers`]: what keeps the cluster as declared.
//! - [`events`]: what they tell people about it.
//! - [`scheduler`]: finds a node for each pod.
//! - [`store`]: where objects live; embedded or etcd.

pub mod cache;
pub mod controllers;
pub mod events;
pub mod scheduler;
pub mod store;
