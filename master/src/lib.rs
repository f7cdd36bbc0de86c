//! # The control plane of Troupe
//!
//! ## Layout
//!
//! - [`aggregation`]: groups that other API servers serve.
//! - [`api`]: the API server: pipeline, registry, HTTP front.
//! - [`auth`]: who asks, and whether they may.
//! - [`bootstrap`]: what a cluster holds from its start.
//! - [`cache`]: the watch cache: an immutable snapshot and bounded change logs.
//! - [`controllers`]: what keeps the cluster as declared.
//! - [`front`]: the HTTP door; [`streams`]: exec, attach, port-forward and logs through it.
//! - [`link`]: the door for nodes, and the way into them.
//! - [`metrics`]: what is counted of no part in particular.
//! - [`server`]: a whole master, put together.
//! - [`pki`]: keys, certificates, kubeconfigs.
//! - [`scheduler`]: finds a node for each pod.
//! - [`store`]: where objects live; embedded or etcd.

pub mod aggregation;
pub mod api;
pub mod audit;
pub mod auth;
pub mod bootstrap;
pub mod cache;
pub mod controllers;
pub mod front;
pub mod link;
pub mod metrics;
pub mod options;
pub mod pki;
pub mod scheduler;
pub mod server;
pub mod store;
pub mod streams;
pub mod yaml;
