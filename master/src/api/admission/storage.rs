//! StorageObjectInUseProtection and PersistentVolumeClaimResize: storage that is in use stays, and grows only
//! where its class allows that.

use protocol::{ApiError, Quantity};
use serde_json::Value;

use super::Write;
use crate::api::object::{self, list, object_mut, text};

/// Keeps a claim while pods use it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while a claim is bound to it.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a class of volume attributes while claims or volumes name it.
pub const ATTRIBUTES_PROTECTION: &str = "kubernetes.io/vac-protection";

pub(super) fn protect(write: &Write<'_>, value: &mut Value) {
    if !write.creates() {
        return;
    }
    let finalizer = match (write.subject.stored.group, write.subject.stored.plural) {
        ("", "persistentvolumeclaims") => CLAIM_PROTECTION,
        ("", "persistentvolumes") => VOLUME_PROTECTION,
        ("storage.k8s.io", "volumeattributesclasses") => ATTRIBUTES_PROTECTION,
        _ => return,
    };
    let mut finalizers = list(value, &["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.into());
        object_mut(value, &["metadata"]).insert("finalizers".to_owned(), finalizers.into());
    }
}

/// Refuses to grow a claim whose class does not allow it.
pub(super) fn resize(write: &Write<'_>, claim: &Value) -> Result<(), ApiError> {
    let Some(old) = write.old else { return Ok(()) };
    if !write.is("", "persistentvolumeclaims") || !write.subresource().is_empty() {
        return Ok(());
    }
    let size = |c: &Value| {
        text(c, &["spec", "resources", "requests", "storage"]).parse::<Quantity>().unwrap_or_default()
    };
    if size(old) >= size(claim) {
        return Ok(());
    }
    let class = class_of(old);
    let allowed = !class.is_empty()
        && class == class_of(claim)
        && write
            .snapshot
            .get("storage.k8s.io", "storageclasses", "", class)
            .and_then(|s| s.value().ok())
            .is_some_and(|v| v["allowVolumeExpansion"] == Value::Bool(true));
    if allowed {
        return Ok(());
    }
    Err(write.forbidden(
        object::name_so_far(claim),
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}

/// The class that a claim (or volume) names; empty for none.
pub fn class_of(value: &Value) -> &str {
    let annotated = text(value, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    if annotated.is_empty() { text(value, &["spec", "storageClassName"]) } else { annotated }
}
