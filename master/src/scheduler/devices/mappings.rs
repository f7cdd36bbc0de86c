//! What is requested in the claim for a pod's extended resources, and for which container.
//!
//! What containers that run as long as the pod request is theirs alone. Init containers that end before others start use
//! what is meant for those, and of what else they need all have the same.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerExtendedResourceRequest, Pod, PodSpec};
use k8s_openapi::api::resource::v1::{DeviceRequest, ExactDeviceRequest};
use protocol::Quantity;

use crate::api::kinds::devices::extended::Backed;

/// See the module.
#[derive(Debug, Default, PartialEq)]
pub struct Mappings {
    /// Requests, by their names' order.
    pub requests: Vec<DeviceRequest>,
    /// Which containers use which of them.
    pub mappings: Vec<ContainerExtendedResourceRequest>,
}

/// A request for one container.
#[derive(Clone)]
struct Asked {
    name: String,
    count: i64,
}

/// A container, with its place among all of the pod's and how it runs.
struct Place<'a> {
    index: usize,
    container: &'a Container,
    /// It ends before those after it start.
    ends: bool,
}

fn places(spec: &PodSpec) -> Vec<Place<'_>> {
    let ends = |c: &Container| c.restart_policy.as_deref() != Some("Always");
    let init = spec.init_containers.iter().flatten().map(|c| (c, ends(c)));
    let all = init.chain(spec.containers.iter().map(|c| (c, false)));
    all.enumerate().map(|(index, (container, ends))| Place { index, container, ends }).collect()
}

impl Place<'_> {
    /// What the container requests of a resource, as a request of its own: named by their places.
    fn asked(&self, resource: &str) -> Option<Asked> {
        let requests = self.container.resources.as_ref()?.requests.as_ref()?;
        let amount: Quantity = requests.get(resource)?.0.parse().ok()?;
        let at = requests.keys().position(|name| name == resource)?;
        let count = amount.units();
        (count != 0).then(|| Asked { name: format!("container-{}-request-{at}", self.index), count })
    }
}

/// What to request for these resources of a pod.
pub fn mappings(pod: &Pod, resources: &[String], backed: &Backed) -> Mappings {
    let nothing = PodSpec::default();
    let places = places(pod.spec.as_ref().unwrap_or(&nothing));
    let mut out = Mappings::default();
    for resource in resources {
        let Some(class) = backed.class_of(resource) else { continue };
        let (requests, used) = of_resource(&places, resource);
        out.requests.extend(requests.into_iter().map(|asked| DeviceRequest {
            name: asked.name,
            exactly: Some(ExactDeviceRequest {
                device_class_name: class.to_owned(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some(asked.count),
                ..ExactDeviceRequest::default()
            }),
            first_available: None,
        }));
        out.mappings.extend(used.into_iter().map(|(place, request)| ContainerExtendedResourceRequest {
            container_name: place.container.name.clone(),
            resource_name: resource.clone(),
            request_name: request,
        }));
    }
    out.requests.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// Requests for one resource, and which container uses which.
fn of_resource<'a>(places: &'a [Place<'a>], resource: &str) -> (Vec<Asked>, Vec<(&'a Place<'a>, String)>) {
    let (mut lasting, mut used) = (BTreeMap::new(), Vec::new());
    for place in places.iter().filter(|p| !p.ends) {
        if let Some(asked) = place.asked(resource) {
            used.push((place, asked.name.clone()));
            lasting.insert(place.index, asked);
        }
    }
    // What the short-lived need that is nobody else's; the largest does for all.
    let mut own: Option<Asked> = None;
    let mut users = Vec::new();
    for place in places.iter().filter(|p| p.ends) {
        let Some(mut asked) = place.asked(resource) else { continue };
        for later in lasting.range(place.index..).map(|(_, later)| later) {
            if asked.count <= 0 {
                break;
            }
            used.push((place, later.name.clone()));
            asked.count -= later.count;
        }
        if asked.count <= 0 {
            continue;
        }
        users.push(used.len());
        used.push((place, asked.name.clone()));
        if own.as_ref().is_none_or(|largest| largest.count < asked.count) {
            own = Some(asked);
        }
    }
    if let Some(own) = &own {
        users.into_iter().for_each(|at| used[at].1.clone_from(&own.name));
    }
    (own.into_iter().chain(lasting.into_values()).collect(), used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Requests as `name=count`, and mappings as `container:request`, for a pod of such containers: what each requests, after
    /// `i` for init containers and `s` for those that stay.
    fn check(containers: &[(&str, i64)], requests: &[&str], mapped: &[&str]) {
        let (mut init, mut main) = (Vec::<Value>::new(), Vec::<Value>::new());
        for (name, count) in containers {
            let mut c = json!({"name": name, "resources": {"requests": {"cpu": "1"}}});
            if *count > 0 {
                c["resources"]["requests"]["deviceclass.resource.kubernetes.io/gpu"] =
                    json!(count.to_string());
            }
            if name.starts_with('s') {
                c["restartPolicy"] = "Always".into();
            }
            if name.starts_with(['i', 's']) { init.push(c) } else { main.push(c) }
        }
        let pod = json!({"metadata": {}, "spec": {"containers": main, "initContainers": init}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let resource = "deviceclass.resource.kubernetes.io/gpu".to_owned();
        let backed = Backed::with_class("gpu");
        let got = super::mappings(&pod, &[resource], &backed);
        let count = |r: &DeviceRequest| r.exactly.as_ref().and_then(|e| e.count).unwrap_or(0);
        let shown: Vec<_> = got.requests.iter().map(|r| format!("{}={}", r.name, count(r))).collect();
        assert_eq!(shown, requests, "{containers:?}");
        let shown: Vec<_> =
            got.mappings.iter().map(|m| format!("{}:{}", m.container_name, m.request_name)).collect();
        assert_eq!(shown, mapped, "{containers:?}");
    }

    #[test]
    fn containers_that_run_at_once_have_their_own() {
        check(&[("c", 2)], &["container-0-request-1=2"], &["c:container-0-request-1"]);
        check(
            &[("c", 1), ("n", 0), ("d", 3)],
            &["container-0-request-1=1", "container-2-request-1=3"],
            &["c:container-0-request-1", "d:container-2-request-1"],
        );
    }

    #[test]
    fn init_containers_use_what_is_there_for_those_after_them() {
        check(
            &[("i", 1), ("c", 2)],
            &["container-1-request-1=2"],
            &["c:container-1-request-1", "i:container-1-request-1"],
        );
        check(
            &[("i", 3), ("c", 2)],
            &["container-0-request-1=1", "container-1-request-1=2"],
            &["c:container-1-request-1", "i:container-1-request-1", "i:container-0-request-1"],
        );
        check(&[("i", 2), ("c", 0)], &["container-0-request-1=2"], &["i:container-0-request-1"]);
        // A sidecar before it is in use by then.
        check(
            &[("s", 1), ("i", 1), ("c", 0)],
            &["container-0-request-1=1", "container-1-request-1=1"],
            &["s:container-0-request-1", "i:container-1-request-1"],
        );
    }

    #[test]
    fn init_containers_share_what_they_need_more() {
        check(
            &[("i", 2), ("i2", 4), ("i3", 1), ("c", 1)],
            &["container-1-request-1=3", "container-3-request-1=1"],
            &[
                "c:container-3-request-1",
                "i:container-3-request-1",
                "i:container-1-request-1",
                "i2:container-3-request-1",
                "i2:container-1-request-1",
                "i3:container-3-request-1",
            ],
        );
    }
}
