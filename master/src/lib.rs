//! # The control plane of Troupe
//!
//! ## Layout
//!
//! - [`store`]: where objects live; embedded or etcd.

pub mod controllers;
pub mod store;
