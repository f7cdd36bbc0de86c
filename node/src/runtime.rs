//! The container engine behind a trait.
//!
//! A pod is a *sandbox* (a pause container that holds the namespaces) and containers that join it. The
//! trait knows nothing of pods' specs: the kubelet turns those into [`SandboxConfig`] and
//! [`ContainerConfig`]. All state lives in the engine, found again by labels, so that a kubelet which was
//! killed adopts what runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

pub mod cgroup;
pub mod clock;
pub mod docker;
pub mod labels;
pub mod pause;
pub mod simulated;

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RuntimeError {
    /// The container, exec or image does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the container is in a state that does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The engine refused; the text is the engine's own.
    #[error("{0}")]
    Refused(String),
    /// The engine did not answer; whether anything happened is unknown.
    #[error("the container engine cannot be reached: {0}")]
    Unavailable(String),
    /// The command did not end in time.
    #[error("command timed out after {0:?}")]
    Timeout(Duration),
}

/// Shorthand of this module.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

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

/// Credentials for one registry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// Registry that the credentials are for.
    pub server: String,
    /// Identity token, in place of user and password.
    pub identity_token: String,
}

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

/// A piece of output.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
}

/// How a command is run in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Allocates a terminal.
    pub tty: bool,
    /// Connects stdin.
    pub stdin: bool,
    /// Connects stdout.
    pub stdout: bool,
    /// Connects stderr.
    pub stderr: bool,
}

/// A running command, or an attached container.
pub struct Session {
    /// Exec id (or container id) for [`ContainerRuntime::resize`] and [`ContainerRuntime::exit_code`].
    pub id: String,
    /// What it writes; ends when it does.
    pub output: BoxStream<'static, Result<Output>>,
    /// What it reads; shut down to signal the end.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// One line (or part of a line) of a container's output.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// When it was written, RFC 3339 with nanoseconds, as the engine says.
    pub time: String,
    /// From standard error.
    pub stderr: bool,
    /// The text; without a final newline it is a part.
    pub text: Bytes,
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

/// Signal number.
pub type Signal = i32;

/// A container engine.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Whether containers are real: volumes, log files and cgroups are made on this host only then.
    fn is_real(&self) -> bool {
        true
    }

    /// Which engine; also the health check.
    async fn version(&self) -> Result<RuntimeVersion>;

    /// Images that the engine holds.
    async fn images(&self) -> Result<Vec<Image>>;

    /// The image of that name or id, if the engine holds it.
    async fn image(&self, name: &str) -> Result<Option<Image>>;

    /// Fetches an image from its registry.
    async fn pull(&self, name: &str, auth: Option<&RegistryAuth>) -> Result<Image>;

    /// Deletes an image by id.
    async fn remove_image(&self, id: &str) -> Result<()>;

    /// Makes and starts a pod's sandbox; answers its id. Left-overs of the same name are replaced.
    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<String>;

    /// Makes a container in a running sandbox; answers its id.
    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<String>;

    /// Starts a container.
    async fn start(&self, id: &str) -> Result<()>;

    /// Asks a container to end, and kills it after `grace`. Returns when it has ended; fine if it had.
    async fn stop(&self, id: &str, grace: Duration) -> Result<()>;

    /// Sends a signal to the container's first process.
    async fn kill(&self, id: &str, signal: Signal) -> Result<()>;

    /// Deletes a container (killing it if needed); fine if it is gone.
    async fn remove(&self, id: &str) -> Result<()>;

    /// Everything (sandboxes too) that bears all of these labels. An empty set means everything that this
    /// node owns.
    async fn list(&self, labels: &[(&str, &str)]) -> Result<Vec<ContainerInfo>>;

    /// One container.
    async fn inspect(&self, id: &str) -> Result<ContainerInfo>;

    /// What happens from now on to this node's containers. The stream ends when the engine goes away.
    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>>;

    /// Starts a command in a container.
    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session>;

    /// The exit code of a command that [`Self::exec`] started; `None` while it runs.
    async fn exit_code(&self, exec: &str) -> Result<Option<i32>>;

    /// Sets the size of a terminal: of a command when `exec`, otherwise of a container.
    async fn resize(&self, id: &str, exec: bool, width: u16, height: u16) -> Result<()>;

    /// Connects to the container's own streams.
    async fn attach(&self, id: &str, stdin: bool) -> Result<Session>;

    /// The container's output from `since` (RFC 3339 or empty) on; goes on until the container ends when
    /// `follow`. With `since` the line of exactly that time is included.
    async fn logs(&self, id: &str, since: &str, follow: bool) -> Result<BoxStream<'static, Result<LogLine>>>;

    /// What the container uses.
    async fn stats(&self, id: &str) -> Result<ContainerStats>;

    /// Where the sandbox's network namespace can be opened; `None` when it is simulated.
    async fn netns(&self, sandbox: &str) -> Result<Option<String>>;
}

/// Runs a command to its end and collects its output (at most `limit` bytes of it).
pub async fn run(
    runtime: &dyn ContainerRuntime,
    id: &str,
    command: &[String],
    timeout: Duration,
    limit: usize,
) -> Result<(i32, Vec<u8>)> {
    use futures::StreamExt;
    let config =
        ExecConfig { command: command.to_vec(), stdout: true, stderr: true, ..ExecConfig::default() };
    let work = async {
        let mut session = runtime.exec(id, &config).await?;
        let mut text = Vec::new();
        while let Some(piece) = session.output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
            let room = limit.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        // The stream closes a moment before the engine notes the exit code.
        for _ in 0..50 {
            if let Some(code) = runtime.exit_code(&session.id).await? {
                return Ok((code, text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(RuntimeError::Unavailable("the command's exit code stays unknown".to_owned()))
    };
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(RuntimeError::Timeout(timeout)))
}

/// A port that a container wants on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the host.
    pub host_port: u16,
    /// Host address; empty for all.
    pub host_ip: String,
}

/// Why a pod has no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Plugs pods into the cluster's network.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the sandbox whose network namespace lies at `netns` an interface; answers its addresses.
    /// Called again for the same sandbox it answers the same.
    async fn attach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> std::result::Result<Vec<IpAddr>, NetworkError>;

    /// Takes the interface away; fine when there is none. `netns` is empty when the namespace is gone.
    async fn detach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> std::result::Result<(), NetworkError>;

    /// Whether pods can be plugged in yet; the text says why not.
    async fn ready(&self) -> std::result::Result<(), NetworkError>;
}
