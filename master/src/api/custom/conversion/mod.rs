//! Versions of a declared kind that a webhook converts into each other.
//!
//! An object is stored in the version that was the storage version when it was written, and is seen in the version
//! that a request asks for. What lies between is asked of the webhook: once per change and version for all readers
//! ([`shared`]), many objects in one question, a bounded number of questions at a time. No lock is held while one
//! is under way.
//!
//! - [`review`]: question and answer. - [`converter`]: asking. - [`shared`]: stored objects in other versions.
//! - [`foreseen`]: conversions that computations without I/O turn out to need.

pub mod converter;
pub mod foreseen;
pub mod review;
pub mod shared;

pub use converter::Converter;
pub use foreseen::Foreseen;

use serde_json::Value;

use crate::api::object::{list, text};
use crate::api::webhook::client::Place;
use review::Dialect;

/// A webhook that converts.
pub struct Webhook {
    /// Where it is.
    pub place: Place,
    /// What it speaks.
    pub dialect: Dialect,
}

impl Webhook {
    /// The webhook of a definition; `None` where versions differ in their names only.
    pub fn of(definition: &Value) -> Option<Webhook> {
        let conversion = &definition["spec"]["conversion"];
        if text(conversion, &["strategy"]) != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let dialect = Dialect::chosen(list(webhook, &["conversionReviewVersions"])).unwrap_or(Dialect::V1);
        Some(Webhook { place: Place::of(&webhook["clientConfig"]), dialect })
    }
}
