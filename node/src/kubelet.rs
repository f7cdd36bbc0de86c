//! Desired pods to running containers.
//!
//! ## Layout
//!
//! - [`config`]: settings. [`registry`]: what is wanted of each pod. [`start`]: the entry point.
//! - `kubelet_actor`: learns which pods are wanted, from the API and from manifests; one `pod_actor` each.
//! - `sync`: one look at a pod: observe, [`plan`], act, [`status`]; `outbox` writes the status.
//! - [`environment`], [`resources`], `container`, `images`, `network_files`, `probe`: parts of a container.
//! - `objects`: ConfigMaps and Secrets in use. `node`: the node's object, lease.
//! - [`streams`]: exec, attach, port-forward, logs. [`server`]: the kubelet's HTTP ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::{Group, Intensity, Props, RestartPolicy, Stage, Strategy};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use protocol::Client;
use protocol::events::{Recorder, Source};

use crate::logs::Logs;
use crate::runtime::{ContainerRuntime, PodNetwork};
use crate::services::Services;
use crate::volumes::Volumes;

pub mod config;
mod container;
pub mod environment;
mod images;
mod kubelet_actor;
mod machine;
mod network_files;
mod node;
mod objects;
mod outbox;
pub mod plan;
pub mod pod;
mod pod_actor;
mod probe;
pub mod registry;
pub mod resources;
pub mod server;
mod static_pods;
pub mod status;
pub mod streams;
mod sync;
#[cfg(test)]
mod tests;

pub use config::{KubeletConfig, ServerConfig};
use kubelet_actor::KubeletActor;
pub use pod_actor::PodActor;
use registry::Registry;
use streams::Streams;

/// What the actors of one kubelet share.
pub struct Shared {
    /// Settings.
    pub config: KubeletConfig,
    pub(crate) stage: Stage,
    /// The supervisor of pod actors.
    pub(crate) pods: Group,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) services: Services,
    pub(crate) volumes: Volumes,
    pub(crate) logs: Arc<Logs>,
    pub(crate) registry: Registry,
    pub(crate) objects: objects::Objects,
    pub(crate) recorder: Recorder,
    /// The engine's name, the scheme of container ids.
    pub(crate) engine: String,
    systemd_cgroups: bool,
    pub(crate) capacity: machine::Capacity,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    pub(crate) memory_bytes: i64,
}

impl Shared {
    /// The cgroup of a pod; empty where the engine decides.
    pub(crate) fn cgroup_of(&self, owner: &Pod) -> String {
        let uid = owner.metadata.uid.as_deref().unwrap_or_default();
        match &owner.spec {
            Some(spec) if self.runtime.is_real() => {
                resources::cgroup(&self.config.cgroup_root, spec, uid, self.systemd_cgroups)
            }
            _ => String::new(),
        }
    }
}

/// A running kubelet.
#[derive(Clone)]
pub struct Kubelet {
    shared: Arc<Shared>,
    group: Group,
}

/// Why a kubelet did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The container engine does not answer.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// The HTTP ports cannot be served.
    #[error("the kubelet's ports cannot be served: {0}")]
    Server(String),
}

/// Starts a kubelet: it registers its node, and runs the pods that are assigned to it. Containers that an
/// earlier process started are adopted.
pub async fn start(
    stage: &Stage,
    config: KubeletConfig,
    client: Client,
    runtime: Arc<dyn ContainerRuntime>,
    network: Arc<dyn PodNetwork>,
    services: Services,
) -> Result<Kubelet, StartError> {
    // Probes over HTTPS need one; the program may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let engine = runtime.version().await?;
    let group = stage.group("node/kubelet", Strategy::OneForOne);
    let recorder = Recorder::start_in(&group, Source::kubelet(&config.node_name), client.api().clone());
    let capacity = machine::capacity(&config);
    let registry = Registry::default();
    let shared = Arc::new(Shared {
        volumes: Volumes::new(&config.root_dir),
        logs: Arc::new(Logs::new(
            &config.pod_logs_dir,
            &config.container_logs_dir,
            config.log_bytes_max,
            config.log_files_max,
        )),
        objects: objects::Objects::new(client.clone(), registry.clone()),
        allocatable: capacity.amounts(config.pods_max),
        memory_bytes: i64::try_from(capacity.memory_bytes).unwrap_or(i64::MAX),
        capacity,
        engine: engine.name,
        stage: stage.clone(),
        // A pod that keeps failing must not take its neighbours along: only a storm escalates.
        pods: Group::new(
            stage,
            "node/kubelet/pods",
            Strategy::OneForOne,
            Intensity { restarts_max: 100, window: Duration::from_secs(60) },
            None,
        ),
        systemd_cgroups: engine.systemd_cgroups,
        config,
        client,
        runtime,
        network,
        services,
        registry,
        recorder,
    });
    let name = shared.config.node_name.clone();
    let of_node = shared.clone();
    group.spawn(
        Props::new("node/kubelet/node", move || node::NodeActor::new(of_node.clone()))
            .instance(&name)
            .restart(RestartPolicy::Permanent),
    );
    let of_kubelet = shared.clone();
    group.spawn(
        Props::new("node/kubelet", move || KubeletActor::new(of_kubelet.clone()))
            .instance(&name)
            .restart(RestartPolicy::Permanent),
    );
    if let Some(settings) = shared.config.server.clone() {
        let of_server = shared.clone();
        server::check(&settings).map_err(StartError::Server)?;
        group.spawn(
            Props::new("node/kubelet/server", move || {
                server::ServerActor::new(of_server.clone(), settings.clone())
            })
            .instance(&name)
            .restart(RestartPolicy::Permanent),
        );
    }
    Ok(Kubelet { shared, group })
}

impl Kubelet {
    /// Streams into this node's pods.
    pub fn streams(&self) -> Streams {
        Streams::new(self.shared.runtime.clone(), self.shared.logs.clone())
    }

    /// This node's pods with their latest status.
    pub fn pods(&self) -> Vec<Pod> {
        self.shared.registry.pods()
    }

    /// What its actors share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops the kubelet's actors. Containers go on running: the next kubelet adopts them.
    pub fn stop(&self) {
        self.group.stop();
        self.shared.pods.stop();
    }
}
