//! Adoption and release: which of the objects that a selector could select belong to an owner.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::{Object, PatchKind};
use serde_json::{Value, json};

use super::labels::{Selector, selects};
use super::meta::{controller_of, controller_reference, is_deleting, name, namespace, uid};
use super::pods::is_active;
use super::{Cx, ReconcileError};

/// What an owner has, wants and gives back.
#[derive(Debug)]
pub struct Claim<T> {
    /// Owned and selected.
    pub keep: Vec<T>,
    /// Selected, owned by nobody.
    pub adopt: Vec<T>,
    /// Owned, no longer selected.
    pub release: Vec<T>,
}

/// Sorts `candidates` by what the owner should do with them. An owner under deletion neither adopts nor
/// releases; an object under deletion is not adopted.
pub fn classify<T>(
    owner: &ObjectMeta,
    selector: &Selector,
    candidates: impl IntoIterator<Item = T>,
    meta: impl Fn(&T) -> &ObjectMeta,
) -> Claim<T> {
    let mut claim = Claim { keep: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in candidates {
        let m = meta(&object);
        let selected = selects(selector, m.labels.as_ref());
        match controller_of(m) {
            Some(controller) if controller.uid != uid(owner) => {}
            Some(_) if selected => claim.keep.push(object),
            Some(_) if !is_deleting(owner) => claim.release.push(object),
            Some(_) => {}
            None if selected && !is_deleting(owner) && !is_deleting(m) => claim.adopt.push(object),
            None => {}
        }
    }
    claim
}

/// The strategic merge patch that makes `owner` the object's controller.
pub fn adopt_patch<K: Object>(owner: &K, object: &ObjectMeta) -> Value {
    json!({"metadata": {"uid": uid(object), "ownerReferences": [controller_reference(owner)]}})
}

/// The strategic merge patch that takes the owner's reference away.
pub fn release_patch(owner: &ObjectMeta, object: &ObjectMeta) -> Value {
    json!({"metadata": {"uid": uid(object), "ownerReferences": [{"$patch": "delete", "uid": uid(owner)}]}})
}

/// Asks the server, not the cache, whether an owner is still the same and not being deleted: an orphan must
/// not be given to an owner that is gone.
pub async fn still_exists<K: Object>(cx: &Cx, owner: &ObjectMeta) -> Result<(), ReconcileError> {
    let fresh: K = cx.client.get(namespace(owner), name(owner)).await?;
    if uid(fresh.metadata()) != uid(owner) {
        return Err(ReconcileError::Other(format!("{} is another object by now", name(owner))));
    }
    if is_deleting(fresh.metadata()) {
        return Err(ReconcileError::Other(format!("{} is being deleted", name(owner))));
    }
    Ok(())
}

/// An owner's pods in its namespace, after adopting and releasing those that need it. Ended pods are left
/// alone unless they are owned already.
pub async fn claim_pods<K: Object>(
    cx: &Cx,
    owner: &K,
    selector: &Selector,
) -> Result<Vec<Arc<Pod>>, ReconcileError> {
    claim_all(cx, owner, selector, |_| true, None).await
}

/// Like [`claim_pods`], for owners that hold their pods by a finalizer: it comes and goes with the owner.
pub async fn claim_pods_held<K: Object>(
    cx: &Cx,
    owner: &K,
    selector: &Selector,
    finalizer: &str,
) -> Result<Vec<Arc<Pod>>, ReconcileError> {
    claim_all(cx, owner, selector, |_| true, Some(finalizer)).await
}

/// Like [`claim_pods`], for owners whose pods have names of a form of their own: others are neither adopted
/// nor released.
pub async fn claim_pods_named<K: Object>(
    cx: &Cx,
    owner: &K,
    selector: &Selector,
    named: impl Fn(&str) -> bool,
) -> Result<Vec<Arc<Pod>>, ReconcileError> {
    claim_all(cx, owner, selector, named, None).await
}

async fn claim_all<K: Object>(
    cx: &Cx,
    owner: &K,
    selector: &Selector,
    named: impl Fn(&str) -> bool,
    finalizer: Option<&str>,
) -> Result<Vec<Arc<Pod>>, ReconcileError> {
    let meta = owner.metadata();
    let snapshot = cx.cache.snapshot();
    // Most pods of a namespace are somebody else's: tell by the metadata, before anything is parsed.
    let candidates =
        snapshot.list("", "pods", namespace(meta)).filter(|stored| match stored.meta.controller() {
            Some(controller) => &*controller.uid == uid(meta),
            None => selector.matches_by(|label| stored.meta.labels.get(label)),
        });
    let candidates =
        candidates.filter(|stored| named(&stored.meta.name)).filter_map(|stored| stored.typed::<Pod>().ok());
    let claimed = classify(meta, selector, candidates, |pod| &pod.metadata);
    let mut pods = claimed.keep;
    let adopt: Vec<_> = claimed.adopt.into_iter().filter(|p| is_active(p)).collect();
    if !adopt.is_empty() {
        still_exists::<K>(cx, meta).await?;
    }
    for pod in adopt {
        let mut patch = adopt_patch(owner, &pod.metadata);
        if let Some(finalizer) = finalizer {
            patch["metadata"]["finalizers"] = json!([finalizer]);
        }
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        match cx.client.patch::<Pod>(ns, n, None, PatchKind::Strategic, &patch).await {
            Ok(pod) => pods.push(Arc::new(pod)),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    for pod in claimed.release.into_iter().filter(|p| is_active(p)) {
        let mut patch = release_patch(meta, &pod.metadata);
        if let Some(finalizer) = finalizer {
            patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
        }
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        match cx.client.patch::<Pod>(ns, n, None, PatchKind::Strategic, &patch).await {
            // Gone, or not the same pod any more: nothing to release.
            Err(e) if !e.is_not_found() && e.code() != 422 => return Err(e.into()),
            _ => {}
        }
    }
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn objects_are_kept_adopted_released_or_left_alone() {
        let own = |uid: &str| {
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "w", "uid": uid,
            "controller": true}])
        };
        let selected = json!({"app": "web"});
        let cases = [
            ("kept", json!({"labels": selected, "ownerReferences": own("me")}), "keep"),
            ("foreign", json!({"labels": selected, "ownerReferences": own("other")}), ""),
            ("orphan", json!({"labels": selected}), "adopt"),
            ("dying orphan", json!({"labels": selected, "deletionTimestamp": "2026-01-01T00:00:00Z"}), ""),
            ("relabelled", json!({"labels": {"app": "x"}, "ownerReferences": own("me")}), "release"),
            ("unrelated", json!({"labels": {"app": "x"}}), ""),
        ];
        let selector =
            Selector::from_map(&std::collections::BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        let owner = meta(json!({"uid": "me"}));
        let dying = meta(json!({"uid": "me", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        for (what, object, expected) in cases {
            let got = |owner: &ObjectMeta| {
                let c = classify(owner, &selector, [meta(object.clone())], |m| m);
                match (c.keep.len(), c.adopt.len(), c.release.len()) {
                    (1, 0, 0) => "keep",
                    (0, 1, 0) => "adopt",
                    (0, 0, 1) => "release",
                    _ => "",
                }
            };
            assert_eq!(got(&owner), expected, "{what}");
            assert_eq!(
                got(&dying),
                if expected == "keep" { "keep" } else { "" },
                "{what}, owner under deletion"
            );
        }
    }
}
