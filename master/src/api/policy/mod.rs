//! Admission policies: rules that whoever runs the cluster writes about requests.
//!
//! - [`matching`]: which requests a policy (or a webhook) is about. - [`request`]: what expressions see of one.
//! - [`forms`]: objects as the resource that a rule names shows them. - [`compiled`]: policies and their bindings, compiled once per change. - [`validating`], [`mutating`]: what
//!   they do; `configured`: what of that is `null` or nothing. - [`definition`]: the objects themselves.

pub mod compiled;
mod configured;
pub mod definition;
pub mod forms;
pub mod matching;
pub mod mutating;
mod noted;
pub mod request;
pub mod type_check;
pub mod types;
pub mod validating;

/// The group of policies and webhook configurations.
pub const GROUP: &str = "admissionregistration.k8s.io";
