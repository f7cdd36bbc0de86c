//! Owners that an object names twice: each counts once, and its author is told.

use protocol::schema::decode::finish;
use serde_json::Value;

use crate::api::object;

/// When it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In what the client sent.
    Sent,
    /// After patches and admission, who may have added some.
    Admitted,
}

/// Leaves out owners that are there already.
pub fn once(value: &mut Value, stage: Stage, warnings: &mut Vec<String>) {
    let Some(owners) = value.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else {
        return;
    };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut again = Vec::new();
    let definition = protocol::schema::definition("m.OwnerReference");
    for owner in std::mem::take(owners) {
        let form = |owner: &Value| definition.map_or(owner.clone(), |d| finish(d, owner.clone()));
        if kept.iter().any(|before| before["uid"] == owner["uid"] && form(before) == form(&owner)) {
            again.push(object::text(&owner, &["uid"]).to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if again.is_empty() {
        return;
    }
    let when = match stage {
        Stage::Sent => "",
        Stage::Admitted => " after mutating admission happens",
    };
    warnings.push(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and \
         may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        again.join(", ")
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_owner_counts_once() {
        let owner = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "name": "x", "uid": "u"});
        let mut value =
            json!({"metadata": {"ownerReferences": [owner("A"), owner("B"), owner("A"), owner("A")]}});
        let mut warnings = Vec::new();
        once(&mut value, Stage::Sent, &mut warnings);
        assert_eq!(value["metadata"]["ownerReferences"], json!([owner("A"), owner("B")]));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with("observed: u, u"), "{warnings:?}");
        once(&mut value, Stage::Admitted, &mut warnings);
        assert_eq!(warnings.len(), 1);
    }
}
