//! DefaultStorageClass and DefaultIngressClass: what names no class gets the default one.

use protocol::ApiError;
use serde_json::Value;

use super::Write;
use crate::api::object::{object_mut, text};

const INGRESS_CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The default among the classes of a kind: the newest, of equally old ones the first by name.
fn newest(write: &Write<'_>, group: &str, plural: &str, annotation: &str) -> Option<String> {
    write
        .snapshot
        .list(group, plural, "")
        .filter(|s| s.value().is_ok_and(|v| text(&v, &["metadata", "annotations", annotation]) == "true"))
        .max_by(|a, b| {
            a.meta.creation_timestamp.cmp(&b.meta.creation_timestamp).then(b.meta.name.cmp(&a.meta.name))
        })
        .map(|class| class.meta.name.to_string())
}

pub(super) fn storage(write: &Write<'_>, claim: &mut Value) {
    const BETA: &str = "volume.beta.kubernetes.io/storage-class";
    if !write.is("", "persistentvolumeclaims") || !write.creates() {
        return;
    }
    if !claim["spec"]["storageClassName"].is_null() || claim["metadata"]["annotations"][BETA].is_string() {
        return;
    }
    let annotation = "storageclass.kubernetes.io/is-default-class";
    if let Some(class) = newest(write, "storage.k8s.io", "storageclasses", annotation) {
        object_mut(claim, &["spec"]).insert("storageClassName".to_owned(), class.into());
    }
}

pub(super) fn ingress(write: &Write<'_>, ingress: &mut Value) -> Result<(), ApiError> {
    if !write.is("networking.k8s.io", "ingresses") || !write.creates() {
        return Ok(());
    }
    if ingress["spec"]["ingressClassName"].is_string()
        || ingress["metadata"]["annotations"][INGRESS_CLASS_ANNOTATION].is_string()
    {
        return Ok(());
    }
    let annotation = "ingressclass.kubernetes.io/is-default-class";
    if let Some(class) = newest(write, "networking.k8s.io", "ingressclasses", annotation) {
        object_mut(ingress, &["spec"]).insert("ingressClassName".to_owned(), class.into());
    }
    Ok(())
}
