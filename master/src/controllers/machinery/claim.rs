//! Adoption and release: which of the objects that a selector could select belong to an owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::labels::{Selector, selects};
use super::meta::{controller_of, controller_reference, is_deleting, uid};
use protocol::Object;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn objects_are_kept_adopted_released_or_left_alone() {
        let own = |uid: &str| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "w", "uid": uid,
            "controller": true}]);
        let selected = json!({"app": "web"});
        let cases = [
            ("kept", json!({"labels": selected, "ownerReferences": own("me")}), "keep"),
            ("foreign", json!({"labels": selected, "ownerReferences": own("other")}), ""),
            ("orphan", json!({"labels": selected}), "adopt"),
            ("dying orphan", json!({"labels": selected, "deletionTimestamp": "2026-01-01T00:00:00Z"}), ""),
            ("relabelled", json!({"labels": {"app": "x"}, "ownerReferences": own("me")}), "release"),
            ("unrelated", json!({"labels": {"app": "x"}}), ""),
        ];
        let selector = Selector::from_map(&std::collections::BTreeMap::from([("app".to_owned(), "web".to_owned())]));
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
            assert_eq!(got(&dying), if expected == "keep" { "keep" } else { "" }, "{what}, owner under deletion");
        }
    }
}
