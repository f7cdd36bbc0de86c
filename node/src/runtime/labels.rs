//! The labels that tie engine containers to pods: the names that cri-dockerd uses, so that its tools
//! (and people's habits) work here too.

/// What kind of container: [`TYPE_SANDBOX`] or [`TYPE_CONTAINER`].
pub const TYPE: &str = "io.kubernetes.docker.type";
/// A pause container.
pub const TYPE_SANDBOX: &str = "podsandbox";
/// A pod's container.
pub const TYPE_CONTAINER: &str = "container";
/// Id of the sandbox that a container joined.
pub const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
/// Name within the pod; `POD` for the sandbox.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Name of the pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Namespace of the pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Uid of the pod.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Path of the log file.
pub const LOG_PATH: &str = "io.kubernetes.container.logpath";
/// How many of the same name came before.
pub const RESTART_COUNT: &str = "annotation.io.kubernetes.container.restartCount";
/// Hash of the container's spec, to see changes.
pub const HASH: &str = "annotation.io.kubernetes.container.hash";
/// Where the container leaves its last words.
pub const TERMINATION_PATH: &str = "annotation.io.kubernetes.container.terminationMessagePath";
/// What to do when it leaves none.
pub const TERMINATION_POLICY: &str = "annotation.io.kubernetes.container.terminationMessagePolicy";
/// Whether the container is an init container (`true`).
pub const INIT: &str = "annotation.io.troupe.container.init";
/// Seconds of back-off that the next restart has to wait: kept here, so that it survives the kubelet.
pub const BACKOFF: &str = "annotation.io.troupe.container.backoff";
/// Grace period of the pod, for when its spec is gone.
pub const GRACE_PERIOD: &str = "annotation.io.kubernetes.pod.terminationGracePeriod";
/// Addresses of the pod, on the sandbox.
pub const SCOPE: &str = "io.troupe.scope";

/// `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`.
pub fn container_name(container: &str, pod: &super::PodIdentity, attempt: u32) -> String {
    format!("k8s_{container}_{}_{}_{}_{attempt}", pod.name, pod.namespace, pod.uid)
}
