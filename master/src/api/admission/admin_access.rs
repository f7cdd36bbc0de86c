//! Administrators' access to devices that others use: only in namespaces that are meant for it.

use serde_json::Value;

use super::Write;
use crate::api::invalid::{Errors, Path};
use crate::api::object::list;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// What is wrong with a claim, a template of claims or an allocation that wants such access elsewhere: told before
/// whatever else is wrong with it.
pub fn refused(write: &Write<'_>, value: &Value) -> Errors {
    let mut errors = Errors::default();
    let (requests, results) =
        (["spec", "devices", "requests"], ["status", "allocation", "devices", "results"]);
    let stored = write.subject.stored;
    let wanted = match (stored.group, stored.plural) {
        ("resource.k8s.io", "resourceclaims") if write.creates() => {
            first(list(value, &requests), "exactly").map(|i| path(&requests, i))
        }
        // What is said of the template is said of the claim in it.
        ("resource.k8s.io", "resourceclaimtemplates") if write.creates() => {
            first(list(&value["spec"], &requests), "exactly").map(|i| path(&requests, i))
        }
        ("resource.k8s.io", "resourceclaims") if write.subresource() == "status" => {
            let before = first(write.old.map_or(&[], |old| list(old, &results)), "");
            first(list(value, &results), "").filter(|_| before.is_none()).map(|i| path(&results, i))
        }
        _ => None,
    };
    let Some(at) = wanted else { return errors };
    let namespace = write.snapshot.get("", "namespaces", "", write.subject.namespace);
    let labels = namespace.and_then(|stored| stored.value().ok());
    if labels.is_some_and(|namespace| namespace["metadata"]["labels"][LABEL] == "true") {
        return errors;
    }
    let why =
        format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    errors.forbidden(&at, why);
    errors
}

/// The first entry that wants such access, in itself or in a part of it.
fn first(entries: &[Value], part: &str) -> Option<usize> {
    entries.iter().position(|entry| {
        let asks = if part.is_empty() { entry } else { &entry[part] };
        asks["adminAccess"] == true
    })
}

fn path(list: &[&str], entry: usize) -> Path {
    Path::new(&list.join(".")).index(entry).child("adminAccess")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_request_for_access_is_told() {
        let requests = [json!({"firstAvailable": [{}]}), json!({"exactly": {"adminAccess": true}})];
        assert_eq!(first(&requests, "exactly"), Some(1));
        assert_eq!(first(&[json!({"adminAccess": false})], ""), None);
        assert_eq!(
            path(&["spec", "devices", "requests"], 1).to_string(),
            "spec.devices.requests[1].adminAccess"
        );
    }
}
