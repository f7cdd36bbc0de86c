//! Questions that everything in the kubelet asks of a pod's spec. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec};

use crate::runtime::{PodIdentity, PortMapping};

/// Annotation that says where a pod's manifest came from; `api` or absent for the API server.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of a mirror pod: the hash of the static pod that it mirrors.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation with the hash of a static pod's manifest.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Which list of a spec a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs once, before the others.
    Init,
    /// An init container that goes on running beside the others.
    Sidecar,
    /// An ordinary container.
    Main,
    /// One that was added to the running pod, to look into it. Runs once, and counts for nothing.
    Ephemeral,
}

/// The pod's namespace, name and uid.
pub fn identity(pod: &Pod) -> PodIdentity {
    PodIdentity {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

/// `name_namespace(uid)`, as messages call a pod.
pub fn full_name(pod: &PodIdentity) -> String {
    format!("{}_{}({})", pod.name, pod.namespace, pod.uid)
}

/// Whether the pod comes from a manifest on this node.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Whether the pod only mirrors a static pod in the API.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// An annotation's value.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// All containers with their role, init containers first.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|c| (init_role(c), c));
    init.chain(spec.containers.iter().map(|c| (Role::Main, c)))
}

/// The containers that were added to a running pod, as ordinary ones.
pub fn ephemeral(spec: &PodSpec) -> Vec<Container> {
    let added = spec.ephemeral_containers.iter().flatten();
    // The same fields but for one, and that is not the container's own.
    let same = |c| serde_json::to_value(c).and_then(serde_json::from_value);
    added.filter_map(|c| same(c).ok()).collect()
}

/// The container of a name, whatever its role.
pub fn container(spec: &PodSpec, name: &str) -> Option<(Role, Container)> {
    let declared = containers(spec).find(|(_, c)| c.name == name).map(|(role, c)| (role, c.clone()));
    declared.or_else(|| ephemeral(spec).into_iter().find(|c| c.name == name).map(|c| (Role::Ephemeral, c)))
}

/// Whether an init container is a sidecar.
pub fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// The pod's restart policy, defaulted.
pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Whether the phase says that the pod will not run again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Seconds that the pod gets to end: the deletion's, or the spec's.
pub fn grace_period(pod: &Pod) -> Duration {
    let of_spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let seconds = pod.metadata.deletion_grace_period_seconds.or(of_spec).unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whether the pod uses the host's network.
pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// The ports that the pod's containers want on the host.
pub fn host_ports(spec: &PodSpec) -> Vec<PortMapping> {
    if host_network(spec) {
        return Vec::new();
    }
    let ports = containers(spec).flat_map(|(_, c)| c.ports.iter().flatten());
    let port = |n: i32| u16::try_from(n).ok();
    ports
        .filter_map(|p| {
            Some(PortMapping {
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                container_port: port(p.container_port)?,
                host_port: port(p.host_port?).filter(|n| *n > 0)?,
                host_ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// The host name inside the pod, cut to what the kernel takes.
pub fn hostname(pod: &Pod, node: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(host_network) {
        return node.to_owned();
    }
    let wanted = spec.and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty());
    let mut name = wanted.unwrap_or_else(|| pod.metadata.name.clone().unwrap_or_default());
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// A hash of what a container is made of: a change means that the running one is out of date. Upstream
/// hashes name and image, the only fields that may change in place.
pub fn container_hash(container: &Container) -> String {
    use sha2::{Digest, Sha256};
    let text = format!("{}\0{}", container.name, container.image.as_deref().unwrap_or_default());
    Sha256::digest(text.as_bytes())[..4].iter().map(|b| format!("{b:02x}")).collect()
}

/// The reference by which an event names a pod, or a container of it.
pub fn about_pod(owner: &Pod, container: Option<(Role, &str)>) -> ObjectReference {
    let list = |role: Role| match role {
        Role::Main => "spec.containers",
        Role::Init | Role::Sidecar => "spec.initContainers",
        Role::Ephemeral => "spec.ephemeralContainers",
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: owner.metadata.name.clone(),
        namespace: owner.metadata.namespace.clone(),
        uid: owner.metadata.uid.clone(),
        resource_version: owner.metadata.resource_version.clone(),
        field_path: container.map(|(role, name)| format!("{}{{{name}}}", list(role))),
    }
}
