//! The metadata of an object alone, as partial objects and the rows of Tables show it.

use protocol::Resource;
use serde_json::Value;

/// Where a DaemonSet's generation of pods is kept for clients that know it from there. It is no part of the object:
/// only what shows all of the object has it.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The metadata out of an object, as it is shown alone.
pub fn own(resource: &Resource, mut metadata: Value) -> Value {
    if resource.plural == "daemonsets"
        && !resource.custom
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(TEMPLATE_GENERATION);
        if annotations.is_empty() {
            metadata.as_object_mut().and_then(|m| m.remove("annotations"));
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_part_of_the_object_is_left_out() {
        let find = |plural: &str| protocol::resources::find("apps", "v1", plural).expect("a kind");
        let metadata = json!({"name": "x", "annotations": {TEMPLATE_GENERATION: "1"}});
        assert_eq!(own(find("daemonsets"), metadata.clone()), json!({"name": "x"}));
        assert_eq!(own(find("deployments"), metadata.clone()), metadata);
    }
}
