//! The container engine behind a trait.
//!
//! A pod is a *sandbox* (a pause container that holds the namespaces) and containers that join it. The
//! trait knows nothing of pods' specs: the kubelet turns those into [`SandboxConfig`] and
//! [`ContainerConfig`]. All state lives in the engine, found again by labels, so that a kubelet which was
//! killed adopts what runs.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub mod cgroup;
pub mod clock;
mod config;
pub mod docker;
mod info;
pub mod labels;
mod network;
pub mod pause;
mod session;
pub mod simulated;

pub use config::{ContainerConfig, Limits, Mount, NamespaceMode, PodIdentity, SandboxConfig, Security};
pub use info::{
    ContainerInfo, ContainerState, ContainerStats, Image, RuntimeEvent, RuntimeEventKind, RuntimeVersion,
};
pub use network::{NetworkError, PodNetwork, PortMapping};
pub use session::{ExecConfig, LogLine, Output, Session, run};

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
