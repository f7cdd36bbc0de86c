//! What sandboxes and containers are made of, as the kubelet asks for them.

use std::collections::BTreeMap;

/// Whose namespace a sandbox or container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamespaceMode {
    /// Its own (a container: its own; a sandbox: one for the pod).
    #[default]
    Own,
    /// The sandbox's.
    Pod,
    /// The host's.
    Host,
}

/// Which pod something belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
}

/// What a container may do beyond, or below, the engine's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    /// `uid`, `uid:gid` or empty for the image's.
    pub user: String,
    /// Supplemental groups.
    pub groups: Vec<i64>,
    /// Everything allowed.
    pub privileged: bool,
    /// The root file system cannot be written.
    pub read_only_root: bool,
    /// Capabilities added (without `CAP_`).
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped.
    pub drop_capabilities: Vec<String>,
    /// No gaining of privileges by execve.
    pub no_new_privileges: bool,
    /// `unconfined`, `localhost/<file>`, or empty for the engine's default.
    pub seccomp: String,
    /// AppArmor profile, `unconfined`, or empty for the engine's default.
    pub apparmor: String,
}

/// What a container may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// cgroup cpu shares; 0 for the engine's default.
    pub cpu_shares: i64,
    /// CFS quota in µs per period; 0 for none.
    pub cpu_quota: i64,
    /// CFS period in µs; 0 for the engine's default.
    pub cpu_period: i64,
    /// Bytes; 0 for none.
    pub memory: i64,
    /// Processes; 0 for none.
    pub pids: i64,
    /// OOM score adjustment; clamped to 0 where the engine may not lower it.
    pub oom_score_adj: i64,
    /// Parent cgroup; empty for the engine's default.
    pub cgroup_parent: String,
}

/// What a pod's pause container is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxConfig {
    /// Whose it is.
    pub pod: PodIdentity,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// The pod's host name.
    pub hostname: String,
    /// Labels on top of those that identify the pod.
    pub labels: BTreeMap<String, String>,
    /// Uses the host's network.
    pub host_network: bool,
    /// Uses the host's pids.
    pub host_pid: bool,
    /// Uses the host's ipc.
    pub host_ipc: bool,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The content of the pod's /etc/resolv.conf; `None` leaves the engine's.
    pub resolv_conf: Option<String>,
    /// Parent cgroup; empty for the engine's default.
    pub cgroup_parent: String,
    /// Image of the pause container.
    pub image: String,
}

/// A file or directory of the host inside a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mount {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Cannot be written.
    pub read_only: bool,
    /// `None`, `HostToContainer` or `Bidirectional`, as the API spells them; empty is `None`.
    pub propagation: String,
}

/// What one container is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerConfig {
    /// Whose it is.
    pub pod: PodIdentity,
    /// Name within the pod.
    pub name: String,
    /// How many containers of this name there were before.
    pub attempt: u32,
    /// Image id or name; it must be present.
    pub image: String,
    /// Replaces the image's entrypoint unless empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments unless empty.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Working directory; empty for the image's.
    pub working_dir: String,
    /// Bind mounts.
    pub mounts: Vec<Mount>,
    /// Labels on top of those that identify the container.
    pub labels: BTreeMap<String, String>,
    /// Keeps stdin open.
    pub stdin: bool,
    /// Closes stdin after the first attached client leaves.
    pub stdin_once: bool,
    /// Allocates a terminal.
    pub tty: bool,
    /// Whose processes it sees.
    pub pid: NamespaceMode,
    /// Uses the host's network (and so the host's UTS namespace).
    pub host_network: bool,
    /// Uses the host's ipc.
    pub host_ipc: bool,
    /// Security.
    pub security: Security,
    /// Resources.
    pub limits: Limits,
    /// The path of the container's log, kept as a label.
    pub log_path: String,
    /// Signal that ends it; empty for the image's.
    pub stop_signal: String,
}
