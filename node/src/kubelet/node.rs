//! The node's own object: registration, status, lease.

use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, AsyncContext, Context, Handler, message};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
    NodeStatus, ObjectReference, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use protocol::{ApiError, PatchKind};
use serde_json::json;

use super::Shared;
use super::machine;
use crate::runtime::{RuntimeVersion, clock};

#[cfg(test)]
mod tests;

/// Looks at a network that is being made, at most.
const NETWORK_LOOKS: u32 = 100;
/// Pause between such looks.
const NETWORK_PAUSE: Duration = Duration::from_millis(20);
/// Namespace of node leases.
const LEASES: &str = "kube-node-lease";
/// Seconds without a renewal after which the node counts as lost.
const LEASE_SECONDS: i32 = 40;
/// Pause before a failed registration is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the conditions are looked at; they are written only when they change, or are shown otherwise.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Images in the node's status at most, the largest first.
const IMAGES_MAX: usize = 50;

/// Look at the node's state now: something changed that may make it ready.
#[derive(Clone, Copy, Debug)]
pub struct LookAtNode;
message!(LookAtNode => (), |_m| Some("nodes".into()), coalesce);

/// Keeps the node's object and lease.
pub struct NodeActor {
    shared: Arc<Shared>,
    registered: bool,
    uid: String,
    last: Option<NodeStatus>,
    written_at: Option<actors::time::Instant>,
    looking: bool,
}

impl NodeActor {
    /// The actor of this kubelet's node.
    pub fn new(shared: Arc<Shared>) -> Self {
        NodeActor {
            shared,
            registered: false,
            uid: String::new(),
            last: None,
            written_at: None,
            looking: false,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.looking {
            return;
        }
        self.looking = true;
        let shared = self.shared.clone();
        let last = self.last.clone();
        let registered = self.registered;
        let interval = shared.config.status_interval;
        let due = self.written_at.is_none_or(|at| at.elapsed() >= interval);
        let work = async move {
            let mut status = current_status(&shared, last.as_ref()).await;
            let uid = if registered { None } else { Some(register(&shared, &status).await?) };
            // The network gets its range with the registration. Saying "not ready" for the moment that this
            // takes would make the running pods of a restarted kubelet unready, and their Services flap.
            if uid.is_some() && network_comes(&shared).await {
                status = current_status(&shared, last.as_ref()).await;
            }
            let changed = last.as_ref().is_none_or(|old| significant(old) != significant(&status));
            let mut to_write = changed || due || uid.is_some();
            if !to_write {
                let shown = shared.client.get::<Node>("", &shared.config.node_name).await?.status;
                if let Some(shown) = shown.filter(|shown| overruled(&status, shown)) {
                    // From what is shown, so that the conditions say since when they hold again.
                    status = current_status(&shared, Some(&shown)).await;
                    to_write = true;
                }
            }
            if to_write {
                write_status(&shared, &status).await?;
                return Ok::<_, ApiError>((uid, Some(status)));
            }
            Ok((uid, None))
        };
        ctx.run(work, |actor, result, ctx| {
            actor.looking = false;
            let pause = match result {
                Ok((uid, status)) => {
                    if let Some(uid) = uid {
                        actor.uid = uid;
                        actor.registered = true;
                        actor.note("Starting", "Starting kubelet.");
                        actor.renew(ctx);
                    }
                    if let Some(status) = status {
                        let ready =
                            |s: &NodeStatus| condition_of(s, "Ready").is_some_and(|c| c.status == "True");
                        if ready(&status) && !actor.last.as_ref().is_some_and(ready) {
                            let text =
                                format!("Node {} status is now: NodeReady", actor.shared.config.node_name);
                            actor.note("NodeReady", &text);
                        }
                        actor.last = Some(status);
                        actor.written_at = Some(actors::time::Instant::now());
                    }
                    match actor.last.as_ref().and_then(|s| condition_of(s, "Ready")) {
                        Some(c) if c.status == "True" => LOOK_INTERVAL,
                        _ => RETRY_PAUSE,
                    }
                }
                Err(e) => {
                    tracing::debug!(error = %e, "node status not written");
                    if e.is_not_found() {
                        actor.registered = false;
                    }
                    RETRY_PAUSE
                }
            };
            ctx.run_later(pause.mul_f64(actors::random::jitter(0.1)), |actor, ctx| actor.look(ctx));
        });
    }

    fn renew(&mut self, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        let uid = self.uid.clone();
        ctx.run(async move { renew_lease(&shared, &uid).await }, |actor, result, ctx| {
            let pause = match result {
                Ok(()) => actor.shared.config.lease_interval,
                Err(e) => {
                    tracing::debug!(error = %e, "lease not renewed");
                    RETRY_PAUSE
                }
            };
            ctx.run_later(pause, |actor, ctx| actor.renew(ctx));
        });
    }

    fn note(&self, reason: &'static str, message: &str) {
        let name = self.shared.config.node_name.clone();
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            api_version: Some("v1".to_owned()),
            uid: Some(name.clone()),
            name: Some(name),
            ..ObjectReference::default()
        };
        self.shared.recorder.tell(about, "Normal", reason, message.to_owned());
    }
}

impl Actor for NodeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<LookAtNode> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: LookAtNode, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

fn condition_of<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a NodeCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// A status without heartbeat times, for comparing.
fn significant(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    status
}

/// Whether the node is shown with other conditions than this kubelet found: the node lifecycle controller turns them
/// for a node that was silent, and only the kubelet can turn them back.
fn overruled(found: &NodeStatus, shown: &NodeStatus) -> bool {
    let status = |of: &NodeStatus, kind: &str| condition_of(of, kind).map(|c| c.status.clone());
    let all = found.conditions.iter().flatten();
    all.into_iter().any(|c| status(shown, &c.type_) != Some(c.status.clone()))
}

/// What is true of the node now.
async fn current_status(shared: &Shared, last: Option<&NodeStatus>) -> NodeStatus {
    let version = shared.runtime.version().await;
    let network = shared.network.ready().await;
    let images = shared.runtime.images().await.unwrap_or_default();
    let mut images: Vec<_> = images
        .into_iter()
        .map(|i| ContainerImage {
            names: Some(i.digests.into_iter().chain(i.tags).collect()),
            size_bytes: i64::try_from(i.size).ok(),
        })
        .filter(|i| i.names.as_ref().is_some_and(|n| !n.is_empty()))
        .collect();
    images.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    images.truncate(IMAGES_MAX);
    let problem = match (&version, &network) {
        (Err(e), _) => Some(format!("container runtime is down: {e}")),
        (_, Err(e)) => Some(format!("container runtime network not ready: NetworkReady=false {e}")),
        _ => None,
    };
    let engine =
        version.unwrap_or_else(|_| RuntimeVersion { name: shared.engine.clone(), ..Default::default() });
    let config = &shared.config;
    let now = clock::now();
    NodeStatus {
        capacity: Some(shared.capacity.amounts(config.pods_max)),
        allocatable: Some(shared.allocatable.clone()),
        addresses: Some(addresses(config)),
        conditions: Some(conditions(problem.as_deref(), last, &now)),
        daemon_endpoints: config.server.as_ref().map(|s| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(s.port) }),
        }),
        node_info: Some(machine::system_info(&engine)),
        images: Some(images),
        ..NodeStatus::default()
    }
}

fn conditions(problem: Option<&str>, last: Option<&NodeStatus>, now: &Time) -> Vec<NodeCondition> {
    let ready = match problem {
        None => ("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("Ready", "False", "KubeletNotReady", why.to_owned()),
    };
    let fine = |kind, reason, message: &str| (kind, "False", reason, message.to_owned());
    [
        fine("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        fine("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        fine("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ready,
    ]
    .into_iter()
    .map(|(kind, status, reason, message)| {
        let before = last.and_then(|s| condition_of(s, kind)).filter(|c| c.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
        }
    })
    .collect()
}

/// The labels that every node has.
fn labels(shared: &Shared) -> std::collections::BTreeMap<String, String> {
    let arch = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
    let mut all = shared.config.node_labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", shared.config.hostname.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ] {
        all.insert(key.to_owned(), value.to_owned());
    }
    all
}

/// A taint from `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Option<Taint> {
    let (key, effect) = text.rsplit_once(':')?;
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    Some(Taint {
        key: key.to_owned(),
        value: (!value.is_empty()).then(|| value.to_owned()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// Waits a little for the pods' network.
async fn network_comes(shared: &Shared) -> bool {
    for _ in 0..NETWORK_LOOKS {
        if shared.network.ready().await.is_ok() {
            return true;
        }
        tokio::time::sleep(NETWORK_PAUSE).await;
    }
    false
}

/// Creates the node's object, or brings labels and annotations of an existing one up to date; answers its uid.
async fn register(shared: &Shared, status: &NodeStatus) -> Result<String, ApiError> {
    let name = &shared.config.node_name;
    let taints: Vec<_> = shared.config.node_taints.iter().filter_map(|t| taint(t)).collect();
    let annotations = &shared.config.node_annotations;
    let given = annotations.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
    let given: std::collections::BTreeMap<_, _> = given.collect();
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels(shared)),
            annotations: (!given.is_empty()).then_some(given),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { taints: (!taints.is_empty()).then_some(taints), ..NodeSpec::default() }),
        status: Some(status.clone()),
    };
    let made = match shared.client.create(&node).await {
        Ok(made) => made,
        Err(e) if e.is_already_exists() => {
            let patch = json!({"metadata": {"labels": labels(shared), "annotations": annotations}});
            shared.client.patch::<Node>("", name, None, PatchKind::Strategic, &patch).await?
        }
        Err(e) => return Err(e),
    };
    Ok(made.metadata.uid.unwrap_or_default())
}

fn addresses(config: &super::KubeletConfig) -> Vec<NodeAddress> {
    let ips = config.node_ips().into_iter();
    let mut addresses: Vec<NodeAddress> =
        ips.map(|address| NodeAddress { type_: "InternalIP".to_owned(), address }).collect();
    addresses.push(NodeAddress { type_: "Hostname".to_owned(), address: config.hostname.clone() });
    addresses
}

async fn write_status(shared: &Shared, status: &NodeStatus) -> Result<(), ApiError> {
    let mut value = serde_json::to_value(status).map_err(|e| ApiError::Malformed(e.to_string()))?;
    if let Some(list) = value["addresses"].as_array_mut() {
        // The list merges by type; an address of another kind must not stay.
        list.push(json!({"$patch": "replace"}));
    }
    let patch = json!({"status": value});
    let name = &shared.config.node_name;
    shared.client.patch::<Node>("", name, Some("status"), PatchKind::Strategic, &patch).await.map(drop)
}

async fn renew_lease(shared: &Shared, uid: &str) -> Result<(), ApiError> {
    let name = &shared.config.node_name;
    let now = clock::micro_time(actors::time::now());
    let patch = json!({"spec": {"renewTime": now, "holderIdentity": name}});
    match shared.client.patch::<Lease>(LEASES, name, None, PatchKind::Merge, &patch).await {
        Err(e) if e.is_not_found() => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(LEASES.to_owned()),
                    owner_references: Some(vec![OwnerReference {
                        api_version: "v1".to_owned(),
                        kind: "Node".to_owned(),
                        name: name.clone(),
                        uid: uid.to_owned(),
                        ..OwnerReference::default()
                    }]),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(name.clone()),
                    lease_duration_seconds: Some(LEASE_SECONDS),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
            };
            shared.client.create(&lease).await.map(drop)
        }
        other => other.map(drop),
    }
}
