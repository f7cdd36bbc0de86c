//! TaintNodesByCondition: a new node takes no pods until it says that it is ready.

use serde_json::{Value, json};

use super::Write;
use crate::api::object;

pub(super) fn mutate(write: &Write<'_>, node: &mut Value) {
    if !write.is("", "nodes") || !write.creates() {
        return;
    }
    let mut taints = object::list(node, &["spec", "taints"]).to_vec();
    let key = "node.kubernetes.io/not-ready";
    if !taints.iter().any(|t| t["key"] == key && t["effect"] == "NoSchedule") {
        taints.push(json!({"key": key, "effect": "NoSchedule"}));
        object::object_mut(node, &["spec"]).insert("taints".to_owned(), taints.into());
    }
}
