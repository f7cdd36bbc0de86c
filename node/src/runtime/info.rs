//! What the engine says: of itself, its images, its containers, and what happens to them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::{PodIdentity, labels};

/// Which engine this is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeVersion {
    /// Such as `docker`.
    pub name: String,
    /// The engine's version.
    pub version: String,
    /// The engine's API version that is spoken.
    pub api_version: String,
    /// Operating system as the engine describes it.
    pub os_image: String,
    /// Whether cgroups are made by systemd (their parents must then be slices).
    pub systemd_cgroups: bool,
}

/// An image that the engine holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// The engine's id (`sha256:…`).
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// The user that the image runs as; a name or number, perhaps with a group.
    pub user: String,
    /// Labels, from which the simulated runtime reads its scripts.
    pub labels: BTreeMap<String, String>,
}

/// Where in its life a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    #[default]
    Created,
    /// Running (or paused).
    Running,
    /// Ended.
    Exited,
}

/// What the engine knows of one container or sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerInfo {
    /// The engine's id.
    pub id: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Life.
    pub state: ContainerState,
    /// Made at.
    pub created_at: SystemTime,
    /// Started at, if ever.
    pub started_at: Option<SystemTime>,
    /// Ended at, if it did.
    pub finished_at: Option<SystemTime>,
    /// Exit code, when ended.
    pub exit_code: i32,
    /// Ended by the kernel for want of memory.
    pub oom_killed: bool,
    /// The engine's text on a failed start.
    pub error: String,
    /// Image as named at creation.
    pub image: String,
    /// Image id.
    pub image_id: String,
    /// Process id on the host; 0 when not running.
    pub pid: u32,
    /// Has a terminal.
    pub tty: bool,
    /// Its stdin is open.
    pub stdin: bool,
    /// cgroup parent as configured.
    pub cgroup_parent: String,
    /// Signal that killed it, where known.
    pub signal: i32,
}

impl ContainerInfo {
    fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// Whether it is a pause container.
    pub fn is_sandbox(&self) -> bool {
        self.label(labels::TYPE) == labels::TYPE_SANDBOX
    }

    /// Name within the pod.
    pub fn name(&self) -> &str {
        self.label(labels::CONTAINER_NAME)
    }

    /// Whose it is.
    pub fn pod(&self) -> PodIdentity {
        PodIdentity {
            namespace: self.label(labels::POD_NAMESPACE).to_owned(),
            name: self.label(labels::POD_NAME).to_owned(),
            uid: self.label(labels::POD_UID).to_owned(),
        }
    }

    /// How many of its name came before it.
    pub fn attempt(&self) -> u32 {
        self.label(labels::RESTART_COUNT).parse().unwrap_or(0)
    }

    /// A label's value, empty when absent.
    pub fn label_or_empty(&self, key: &str) -> &str {
        self.label(key)
    }
}

/// Something happened to a container.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeEvent {
    /// The container's id.
    pub id: String,
    /// Uid of its pod, empty if it has none.
    pub pod_uid: String,
    /// Name of the container within the pod; empty for a sandbox.
    pub container: String,
    /// What happened.
    pub kind: RuntimeEventKind,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeEventKind {
    /// It began to run.
    Started,
    /// It ended.
    Died,
    /// It is gone.
    Removed,
    /// The kernel killed one of its processes for want of memory.
    OutOfMemory,
}

/// What a container uses now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerStats {
    /// CPU time ever used, in nanoseconds.
    pub cpu_nanos: u64,
    /// CPU time in user mode, in nanoseconds.
    pub cpu_user_nanos: u64,
    /// CPU time in the kernel, in nanoseconds.
    pub cpu_system_nanos: u64,
    /// Bytes, page cache included.
    pub memory_usage: u64,
    /// Bytes without inactive page cache: what eviction and `kubectl top` look at.
    pub memory_working_set: u64,
    /// Anonymous bytes.
    pub memory_rss: u64,
    /// Page cache bytes.
    pub memory_cache: u64,
    /// Highest memory usage.
    pub memory_max: u64,
    /// Times the limit was hit.
    pub memory_failures: u64,
    /// Memory limit; 0 for none.
    pub memory_limit: u64,
    /// Processes.
    pub pids: u64,
    /// Periods in which the quota applied.
    pub cpu_periods: u64,
    /// Periods in which it was throttled.
    pub cpu_throttled_periods: u64,
    /// Time throttled, in nanoseconds.
    pub cpu_throttled_nanos: u64,
}
