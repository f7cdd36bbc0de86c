//! What the statuses of a pod's containers may say: who they run as, and how the devices are that they got.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

/// The largest id of a user or group.
const ID_MAX: i64 = i32::MAX as i64;

/// How many bytes may be said about a device's health.
const MESSAGE_MAX: usize = 1024;

const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];

/// Fields of statuses, and where their containers stand in the spec if those may have devices.
const FIELDS: [(&str, Option<&str>); 3] = [
    ("containerStatuses", Some("containers")),
    ("initContainerStatuses", Some("initContainers")),
    ("ephemeralContainerStatuses", None),
];

/// Checks the statuses of all containers.
pub fn validate(pod: &Value, path: &Path, errors: &mut Errors) {
    let is_windows = text(pod, &["spec", "os", "name"]) == "windows";
    let each = |field: &str| list(&pod["status"], &[field]).iter().enumerate();
    for (field, _) in FIELDS {
        for (i, status) in each(field) {
            let path = path.child(field).index(i).child("user").child("linux");
            let linux = &status["user"]["linux"];
            match linux.is_object() {
                true if is_windows => errors.forbidden(&path, "cannot be set for a windows pod"),
                true => user(linux, &path, errors),
                false => {}
            }
        }
    }
    for (field, kind) in FIELDS {
        for (i, status) in each(field) {
            let path = path.child(field).index(i).child("allocatedResourcesStatus");
            let devices = list(status, &["allocatedResourcesStatus"]);
            match kind {
                None if !devices.is_empty() => {
                    errors.forbidden(&path, "must not be specified in container status");
                }
                None => {}
                Some(kind) => {
                    let mut containers = list(pod, &["spec", kind]).iter();
                    let container = containers.find(|c| c["name"] == status["name"]);
                    for (j, device) in devices.iter().enumerate() {
                        health(device, container, &path.index(j), errors);
                    }
                }
            }
        }
    }
}

fn user(user: &Value, path: &Path, errors: &mut Errors) {
    let mut id = |value: &Value, path: &Path| {
        if let Some(number) = value.as_i64().filter(|id| !(0..=ID_MAX).contains(id)) {
            errors.invalid(path, number, format!("must be between 0 and {ID_MAX}, inclusive"));
        }
    };
    id(&user["uid"], &path.child("uid"));
    id(&user["gid"], &path.child("gid"));
    for (i, group) in list(user, &["supplementalGroups"]).iter().enumerate() {
        id(group, &path.child("supplementalGroups").index(i));
    }
}

/// How a resource is that a container got; it must have asked for it.
fn health(resource: &Value, container: Option<&Value>, path: &Path, errors: &mut Errors) {
    let name = text(resource, &["name"]);
    if let Some(container) = container {
        let (known, detail) = if name.starts_with("claim:") {
            let claimed = |claim: &Value| {
                let (claim, request) = (text(claim, &["name"]), text(claim, &["request"]));
                let part = if request.is_empty() { String::new() } else { format!("/{request}") };
                name == format!("claim:{claim}{part}")
            };
            let detail = "must match one of the container's resource claims in a format \
                          'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
            (list(container, &["resources", "claims"]).iter().any(claimed), detail)
        } else {
            let detail = "must match one of the container's resource requests";
            (!container["resources"]["requests"][name].is_null(), detail)
        };
        if !known {
            errors.invalid(&path.child("name"), name, detail);
        }
    }
    let devices = list(resource, &["resources"]);
    for (k, device) in devices.iter().enumerate() {
        let (path, id) = (path.child("resources").index(k), text(device, &["resourceID"]));
        let health = text(device, &["health"]);
        if !HEALTH.contains(&health) {
            errors.unsupported(&path.child("health"), health, &HEALTH);
        }
        match device["message"].as_str() {
            Some("") => errors.required(&path.child("message"), "must be non-empty if specified"),
            Some(message) if message.len() > MESSAGE_MAX => {
                errors.too_long(&path.child("message"), MESSAGE_MAX);
            }
            _ => {}
        }
        if devices[..k].iter().any(|other| text(other, &["resourceID"]) == id) {
            errors.duplicate(&path.child("resourceID"), id);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_about_what_containers_asked_for() {
        let pod = |os: &str, status: Value| {
            json!({
                "spec": {"os": {"name": os}, "containers": [{
                    "name": "c",
                    "resources": {"requests": {"example.com/x": "1"}, "claims": [{"name": "a", "request": "r"}]},
                }]},
                "status": {"containerStatuses": [status]},
            })
        };
        let device = |name: &str, devices: Value| {
            json!({"name": "c", "allocatedResourcesStatus": [
                {"name": name, "resources": devices},
            ]})
        };
        let at = "status.containerStatuses[0]";
        for (pod, wanted) in [
            (pod("", device("example.com/x", json!([{"resourceID": "1", "health": "Healthy"}]))), vec![]),
            (pod("", device("claim:a/r", json!([]))), vec![]),
            (
                pod(
                    "",
                    device(
                        "cpu",
                        json!([{"resourceID": "1", "health": "Ill"}, {"resourceID": "1", "health": "Unknown"}]),
                    ),
                ),
                vec![
                    format!(
                        "{at}.allocatedResourcesStatus[0].name: Invalid value: \"cpu\": must match one of the \
                         container's resource requests"
                    ),
                    format!(
                        "{at}.allocatedResourcesStatus[0].resources[0].health: Unsupported value: \"Ill\": \
                         supported values: \"Healthy\", \"Unhealthy\", \"Unknown\""
                    ),
                    format!(
                        "{at}.allocatedResourcesStatus[0].resources[1].resourceID: Duplicate value: \"1\""
                    ),
                ],
            ),
            (
                pod("", json!({"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}})),
                vec![format!(
                    "{at}.user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive"
                )],
            ),
            (
                pod("windows", json!({"name": "c", "user": {"linux": {"uid": 1, "gid": 0}}})),
                vec![format!("{at}.user.linux: Forbidden: cannot be set for a windows pod")],
            ),
        ] {
            let mut errors = Errors::default();
            validate(&pod, &Path::new("status"), &mut errors);
            assert_eq!(errors.messages(), wanted);
        }
    }
}
