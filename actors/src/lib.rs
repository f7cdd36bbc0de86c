//! # The stage
//!
//! A layer over `actix`: supervised actors with bounded mailboxes, metrics, an always-on message trace
//! and remote links. Knows nothing of Kubernetes.

pub mod trace;

pub use trace::TraceContext;
