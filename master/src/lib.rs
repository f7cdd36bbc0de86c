//! # The control plane of Troupe
//!
//! ## Layout
//!
//! - [`api`]: the API server: pipeline, registry, HTTP front.
//! - [`auth`]: who asks, and whether they may.
//! - [`bootstrap`]: what a cluster holds from its start.
//! - [`cache`]: the watch cache: an immutable snapshot and bounded change logs.
//! - [`pki`]: keys, certificates, kubeconfigs.
//! - [`store`]: where objects live; embedded or etcd.
//! - [`streams`]: exec, attach, port-forward and logs over HTTP.

pub mod api;
pub mod auth;
pub mod bootstrap;
pub mod cache;
pub mod front;
pub mod link;
pub mod pki;
pub mod store;
pub mod streams;
