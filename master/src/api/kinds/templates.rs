//! Kinds that hold the pods that they, or somebody, will make.

use protocol::Resource;
use serde_json::Value;

use super::pods::drop_disabled;
use crate::api::object::{at, existing_mut};

/// Where a kind keeps the pod that it describes.
pub fn template(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    Some(match (group, plural) {
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    })
}

/// Drops from a template what is not switched on, but where the stored object has it already.
pub fn without_disabled(resource: &Resource, object: &mut Value, old: Option<&Value>) {
    let Some(path) = template(resource.group, resource.plural) else { return };
    let before = old.map_or(&Value::Null, |old| &at(old, path)["spec"]);
    let Some(template) = existing_mut(object, path) else { return };
    if let Some(spec) = template.get_mut("spec") {
        drop_disabled(spec, before);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_say_only_what_is_switched_on() {
        let with = json!({"spec": {"template": {"spec": {"containers": [{"lifecycle": {"stopSignal": "SIGHUP"}}]}}}});
        let resource = protocol::resources::find("apps", "v1", "deployments").expect("deployments");
        let mut new = with.clone();
        without_disabled(resource, &mut new, None);
        assert_eq!(new, json!({"spec": {"template": {"spec": {"containers": [{}]}}}}));
        let mut kept = with.clone();
        without_disabled(resource, &mut kept, Some(&with));
        assert_eq!(kept, with);
    }
}
