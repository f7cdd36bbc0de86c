//! DefaultTolerationSeconds: a pod stays some minutes on a node that is lost, unless it says otherwise.

use serde_json::{Value, json};

use super::Write;
use crate::api::object::{list, object_mut, text};

const TOLERATION_SECONDS: i64 = 300;

pub(super) fn mutate(write: &Write<'_>, pod: &mut Value) {
    if !write.is("", "pods") || !write.subresource().is_empty() {
        return;
    }
    let mut tolerations = list(pod, &["spec", "tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            let (k, effect) = (text(t, &["key"]), text(t, &["effect"]));
            (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    object_mut(pod, &["spec"]).insert("tolerations".to_owned(), tolerations.into());
}
