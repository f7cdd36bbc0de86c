//! The folder that a cluster of this program keeps its state in, and the process that runs it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Where a cluster's state lies unless told.
pub const DEFAULT: &str = "/var/lib/troupe";

/// What a cluster was started with: `up` writes it, restarts and `down` read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether a node runs in the process.
    pub node: bool,
    /// External etcd; empty means the embedded store.
    pub etcd_endpoints: Vec<String>,
    /// Port of the API; kept over restarts, as kubeconfigs name it.
    pub api_port: u16,
    /// Port where nodes of other machines link in.
    pub link_port: Option<u16>,
    /// The kubeconfig that the context was merged into.
    pub kubeconfig: PathBuf,
    /// Name of the context in it.
    pub context: String,
    /// Name of the node.
    pub node_name: String,
    /// How pods' packets get from node to node.
    #[serde(default)]
    pub pod_network: node::network::PodNetworkMode,
    /// The pods' addresses, where not the usual ones.
    #[serde(default)]
    pub cluster_cidr: Option<protocol::DualRange>,
    /// The Services' addresses, where not the usual ones.
    #[serde(default)]
    pub service_cidr: Option<protocol::DualRange>,
    /// Addresses for Services of type LoadBalancer.
    #[serde(default)]
    pub load_balancer_pool: Option<String>,
    /// How Services' addresses lead to their endpoints.
    #[serde(default)]
    pub proxy_mode: node::proxy::ProxyMode,
    /// How endpoints are chosen, in the userspace mode.
    #[serde(default)]
    pub proxy_scheduler: node::proxy::Scheduler,
    /// The ports that its node serves Ingresses on, if it does.
    #[serde(default)]
    pub ingress: Option<protocol::ingress::Ports>,
    /// What the API server is told besides.
    #[serde(default)]
    pub serving: master::options::ServingOptions,
}

/// A cluster's folder.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// At `path`; relative to where the program was started.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        Ok(StateDir { path: std::path::absolute(path)? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the process logs.
    pub fn log(&self) -> PathBuf {
        self.path.join("troupe.log")
    }

    /// The administrator's own kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    /// What the cluster was last started with.
    pub fn settings(&self) -> Option<Settings> {
        serde_json::from_slice(&std::fs::read(self.path.join("settings.json")).ok()?).ok()
    }

    /// Remembers what the cluster is started with.
    pub fn keep(&self, settings: &Settings) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.path)?;
        std::fs::write(self.path.join("settings.json"), serde_json::to_vec_pretty(settings)?)
    }

    /// Notes this process as the one that runs the cluster.
    pub fn claim(&self) -> std::io::Result<()> {
        std::fs::write(self.pid_file(), std::process::id().to_string())
    }

    /// The process that runs the cluster, if it lives.
    pub fn running(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        // A recycled pid is somebody else's: only a process that serves this very folder counts.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = command.split(|b| *b == 0);
        let folder = self.path.as_os_str().as_encoded_bytes();
        words.any(|w| w == folder).then(|| Pid::from_raw(pid))
    }

    /// Ends the process that runs the cluster and waits until it is gone. False when it does not go.
    pub fn end_process(&self, patience: Duration) -> bool {
        let Some(pid) = self.running() else { return true };
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + patience;
        while self.running().is_some() {
            if Instant::now() > until {
                let _ = kill(pid, Signal::SIGKILL);
                pause();
                return self.running().is_none();
            }
            pause();
        }
        let _ = std::fs::remove_file(self.pid_file());
        true
    }
}

/// This program's own waiting is not on an arbiter.
#[expect(
    clippy::disallowed_methods,
    reason = "a command-line tool that waits for a process; no arbiter here"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
