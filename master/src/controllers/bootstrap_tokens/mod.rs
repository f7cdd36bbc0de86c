//! Bootstrap tokens, by which nodes join: they go when their time is over, and sign what joiners look up.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

use crate::cache::Change;

pub mod cleaner;
pub mod signer;

/// The type of the Secrets that tokens are.
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they lie.
const NAMESPACE: &str = "kube-system";

/// A value of a token; empty where it has none.
fn data(secret: &Secret, key: &str) -> String {
    let value = secret.data.as_ref().and_then(|d| d.get(key));
    value.map(|v| String::from_utf8_lossy(&v.0).into_owned()).unwrap_or_default()
}

/// When a token ends: `Ok(None)` for never; an error where that is not to be read, which counts as ended.
fn expires(secret: &Secret) -> Result<Option<Timestamp>, jiff::Error> {
    match data(secret, "expiration").as_str() {
        "" => Ok(None),
        text => text.parse().map(Some),
    }
}

/// Whether a change is about a token.
fn is_token(change: &Change) -> bool {
    &*change.stored.meta.namespace == NAMESPACE && change.stored.meta.field("type") == TYPE
}
