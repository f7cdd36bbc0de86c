//! Which container of which pod a request means, and whether it can be reached.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use protocol::ApiError;
use protocol::streams::ContainerTarget;

/// Names the container that a request leaves out.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The node and the container for an exec or attach.
pub(super) fn running(pod: &Pod, container: Option<&str>) -> Result<(String, ContainerTarget), ApiError> {
    let container = container_name(pod, container)?;
    Ok((host(pod)?, target(pod, container)))
}

/// The node and the pod for a port-forward.
pub(super) fn whole_pod(pod: &Pod) -> Result<(String, ContainerTarget), ApiError> {
    Ok((host(pod)?, target(pod, String::new())))
}

/// The node and the container for a log; `None` when there cannot be a log yet.
pub(super) fn logged(
    pod: &Pod,
    container: Option<&str>,
    previous: bool,
) -> Result<Option<(String, ContainerTarget)>, ApiError> {
    let container = container_name(pod, container)?;
    let Some(node) = node(pod) else { return Ok(None) };
    readable(pod, &container, previous).map_err(ApiError::bad_request)?;
    Ok(Some((node.to_owned(), target(pod, container))))
}

fn target(pod: &Pod, container: String) -> ContainerTarget {
    ContainerTarget {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        container,
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty())
}

fn host(pod: &Pod) -> Result<String, ApiError> {
    let missing = || ApiError::bad_request(format!("pod {} does not have a host assigned", name(pod)));
    node(pod).map(str::to_owned).ok_or_else(missing)
}

fn container_name(pod: &Pod, asked: Option<&str>) -> Result<String, ApiError> {
    let spec = pod.spec.as_ref();
    let containers: Vec<&str> =
        spec.into_iter().flat_map(|s| &s.containers).map(|c| c.name.as_str()).collect();
    let init: Vec<&str> =
        spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).map(|c| c.name.as_str()).collect();
    let ephemeral =
        spec.into_iter().flat_map(|s| s.ephemeral_containers.iter().flatten()).map(|c| c.name.as_str());
    let by_annotation = || {
        let found = pod.metadata.annotations.as_ref()?.get(DEFAULT_CONTAINER)?.as_str();
        containers.contains(&found).then_some(found)
    };
    match (asked.or_else(by_annotation), containers.as_slice()) {
        (Some(asked), _) => {
            if containers.contains(&asked)
                || init.contains(&asked)
                || ephemeral.into_iter().any(|c| c == asked)
            {
                return Ok(asked.to_owned());
            }
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {}", name(pod))))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => {
            Err(ApiError::bad_request(format!("a container name must be specified for pod {}", name(pod))))
        }
        (None, several) => {
            let mut why = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                name(pod),
                several.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(why))
        }
    }
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|s| s.name == container)
}

/// Whether a container has ever written a log, by its status.
fn readable(pod: &Pod, container: &str, previous: bool) -> Result<(), String> {
    let which = format!("container \"{container}\" in pod \"{}\"", name(pod));
    let Some(status) = status(pod, container) else {
        return if previous {
            Err(format!("previous terminated {which} not found"))
        } else {
            Err(format!("{which} is waiting to start: {}", waiting_reason(pod)))
        };
    };
    let ran_before = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .is_some_and(|t| t.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    if previous {
        return if ran_before { Ok(()) } else { Err(format!("previous terminated {which} not found")) };
    }
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() || ran_before {
        return Ok(());
    }
    if let Some(terminated) = state.terminated {
        let started = terminated.container_id.is_some_and(|id| !id.is_empty());
        return if started { Ok(()) } else { Err(format!("{which} is terminated")) };
    }
    match state.waiting.and_then(|w| w.reason).as_deref() {
        None | Some("") => Err(format!("{which} is waiting to start - no logs yet")),
        Some("ErrImagePull") => Err(format!("{which} is waiting to start: image can't be pulled")),
        Some("ImagePullBackOff") => {
            Err(format!("{which} is waiting to start: trying and failing to pull image"))
        }
        Some(reason) => Err(format!("{which} is waiting to start: {reason}")),
    }
}

/// What a container whose status is not written yet waits for.
fn waiting_reason(pod: &Pod) -> &'static str {
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref()).is_some_and(|c| !c.is_empty());
    if init { "PodInitializing" } else { "ContainerCreating" }
}

#[cfg(test)]
mod tests;
