//! Learns which pods this node is to run, and gives each an actor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, AsyncContext, Context, Handler, Props, RestartPolicy, TraceContext, message};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Shared;
use super::pod;
use super::pod_actor::PodActor;
use super::registry::key_of;
use super::static_pods;
use crate::follow::{Followed, follow};
use crate::runtime::{RuntimeEvent, RuntimeEventKind, labels};

/// Pause before a broken list, watch or event stream is opened again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often what nobody wants is looked for.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);

/// A pod of this node changed in the API.
struct PodChanged {
    pod: Arc<Pod>,
    deleted: bool,
}
message!(PodChanged => (), |m| Some(key_of(&m.pod)));

/// All pods that the API assigns to this node.
struct PodsListed {
    pods: Vec<Arc<Pod>>,
}
message!(PodsListed => ());

/// Something happened to a container.
struct ContainerChanged {
    event: RuntimeEvent,
}
message!(ContainerChanged => (), |m| Some(format!("containers/{}", m.event.id).into()));

/// The engine's events were interrupted: anything may have happened.
struct EventsLost;
message!(EventsLost => ());

/// The manifests on this node.
pub struct ManifestsRead {
    /// Every pod that has one.
    pub pods: Vec<Arc<Pod>>,
}
message!(ManifestsRead => ());

/// Keeps the set of pods.
pub struct KubeletActor {
    shared: Arc<Shared>,
    /// The API's pods have been listed: what it does not know may be cleaned away.
    listed: bool,
    manifests_read: bool,
    manifests: BTreeSet<String>,
}

impl KubeletActor {
    /// The actor of this kubelet.
    pub fn new(shared: Arc<Shared>) -> Self {
        KubeletActor { shared, listed: false, manifests_read: false, manifests: BTreeSet::new() }
    }

    /// Notes a pod and sees to it that its actor looks.
    fn want(&self, owner: Arc<Pod>) {
        let uid = owner.metadata.uid.clone().unwrap_or_default();
        let instance = format!(
            "{}/{}",
            owner.metadata.namespace.as_deref().unwrap_or_default(),
            owner.metadata.name.as_deref().unwrap_or_default()
        );
        let changed = self.shared.registry.want(&uid, owner);
        if !self.shared.registry.has_actor(&uid) {
            let (shared, of) = (self.shared.clone(), Arc::<str>::from(uid.as_str()));
            let props = Props::new("node/kubelet/pod", move || PodActor::new(shared.clone(), of.clone()))
                .instance(instance)
                .restart(RestartPolicy::Transient);
            let actor = self.shared.pods.spawn(props);
            self.shared.registry.assign(&uid, actor);
        } else if changed {
            // Labels and annotations may be mounted as files.
            self.shared.registry.refresh(&uid);
        }
    }

    fn unwant(&self, uid: &str) {
        self.shared.registry.unwant(uid);
        self.shared.registry.wake(uid);
    }

    fn follow_pods(&self, ctx: &mut Context<Self>) {
        let selector = format!("spec.nodeName={}", self.shared.config.node_name);
        let me = ctx.me();
        let work = follow::<Pod, _>(self.shared.client.clone(), Some(selector), move |told| {
            let me = me.clone();
            async move {
                let told = match told {
                    Followed::Listed(pods) => {
                        me.tell(PodsListed { pods: pods.into_iter().map(Arc::new).collect() }).await
                    }
                    Followed::Changed(pod) => {
                        me.tell(PodChanged { pod: Arc::from(pod), deleted: false }).await
                    }
                    Followed::Gone(pod) => me.tell(PodChanged { pod: Arc::from(pod), deleted: true }).await,
                };
                told.is_ok()
            }
        });
        ctx.run(work, |_, (), _| {});
    }

    fn follow_engine(&self, ctx: &mut Context<Self>) {
        let runtime = self.shared.runtime.clone();
        let me = ctx.me();
        let work = async move {
            loop {
                if let Ok(mut events) = runtime.events().await {
                    // What happened before the stream began is seen by looking.
                    let _ = me.tell(EventsLost).await;
                    while let Some(event) = events.next().await {
                        // A container's own beginning is nobody's effect that is known here.
                        let told = me.tell(ContainerChanged { event });
                        let _ = actors::trace::under(TraceContext::default(), told).await;
                    }
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        ctx.run(work, |_, (), _| {});
    }

    /// Takes down what runs here and is wanted by nobody.
    fn clean(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(CLEANING_INTERVAL.mul_f64(actors::random::jitter(0.1)), |actor, ctx| actor.clean(ctx));
        let manifests = self.shared.config.static_pods_dir.is_none() || self.manifests_read;
        if !self.listed || !manifests {
            return;
        }
        let shared = self.shared.clone();
        let work =
            async move { (shared.runtime.list(&[]).await.unwrap_or_default(), left_behind(&shared).await) };
        ctx.run(work, |actor, (containers, directories), ctx| {
            for container in containers {
                let identity = container.pod();
                if identity.uid.is_empty() || actor.shared.registry.contains(&identity.uid) {
                    continue;
                }
                let grace = container.label_or_empty(labels::GRACE_PERIOD).parse().ok();
                let meta = ObjectMeta {
                    name: Some(identity.name),
                    namespace: Some(identity.namespace),
                    uid: Some(identity.uid.clone()),
                    ..ObjectMeta::default()
                };
                let spec = PodSpec { termination_grace_period_seconds: grace, ..PodSpec::default() };
                let orphan = Pod { metadata: meta, spec: Some(spec), status: None };
                actor.shared.registry.want(&identity.uid, Arc::new(orphan.clone()));
                actor.shared.registry.unwant(&identity.uid);
                actor.want(Arc::new(orphan));
            }
            let stale: Vec<_> =
                directories.into_iter().filter(|uid| !actor.shared.registry.contains(uid)).collect();
            let volumes = actor.shared.volumes.clone();
            let remove = move || {
                for uid in stale {
                    if let Err(e) = volumes.remove(&uid) {
                        tracing::warn!(uid, error = %e, "a gone pod's directory cannot be removed");
                    }
                }
            };
            ctx.run(async move { tokio::task::spawn_blocking(remove).await }, |_, _, _| {});
        });
    }
}

/// Directories of pods, whoever they belonged to.
async fn left_behind(shared: &Shared) -> Vec<String> {
    if !shared.runtime.is_real() {
        return Vec::new();
    }
    let volumes = shared.volumes.clone();
    tokio::task::spawn_blocking(move || volumes.pods()).await.unwrap_or_default()
}

impl Actor for KubeletActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.follow_pods(ctx);
        self.follow_engine(ctx);
        if let Some(dir) = self.shared.config.static_pods_dir.clone() {
            let me = ctx.me();
            let node = self.shared.config.node_name.clone();
            ctx.run(static_pods::follow(dir, node, me), |_, (), _| {});
        }
        ctx.run_later(Duration::from_secs(2), |actor, ctx| actor.clean(ctx));
    }
}

impl Handler<PodChanged> for KubeletActor {
    type Result = ();

    fn handle(&mut self, m: PodChanged, ctx: &mut Context<Self>) {
        let uid = m.pod.metadata.uid.clone().unwrap_or_default();
        if pod::is_mirror(&m.pod) {
            static_pods::mirror_seen(&self.shared, &m.pod, m.deleted, ctx);
            return;
        }
        if m.deleted {
            self.unwant(&uid);
            return;
        }
        self.want(m.pod);
    }
}

impl Handler<PodsListed> for KubeletActor {
    type Result = ();

    fn handle(&mut self, m: PodsListed, ctx: &mut Context<Self>) {
        let mut seen: BTreeSet<String> = self.manifests.clone();
        let mut mirrors = Vec::new();
        for owner in m.pods {
            if pod::is_mirror(&owner) {
                mirrors.push(owner);
                continue;
            }
            seen.extend(owner.metadata.uid.clone());
            self.want(owner);
        }
        for uid in self.shared.registry.uids() {
            if !seen.contains(&uid) {
                self.unwant(&uid);
            }
        }
        self.listed = true;
        static_pods::mirror(&self.shared, &mirrors, ctx);
    }
}

impl Handler<ManifestsRead> for KubeletActor {
    type Result = ();

    fn handle(&mut self, m: ManifestsRead, ctx: &mut Context<Self>) {
        let now: BTreeSet<String> = m.pods.iter().filter_map(|p| p.metadata.uid.clone()).collect();
        let gone: Vec<_> = self.manifests.difference(&now).cloned().collect();
        for uid in gone {
            static_pods::unmirror(&self.shared, &uid, ctx);
            self.unwant(&uid);
        }
        self.manifests = now;
        self.manifests_read = true;
        for owner in m.pods {
            self.want(owner);
        }
        if self.listed {
            static_pods::mirror(&self.shared, &[], ctx);
        }
    }
}

impl Handler<ContainerChanged> for KubeletActor {
    type Result = ();

    fn handle(&mut self, m: ContainerChanged, _: &mut Context<Self>) {
        if matches!(m.event.kind, RuntimeEventKind::Died | RuntimeEventKind::OutOfMemory)
            || m.event.container.is_empty()
        {
            self.shared.registry.wake(&m.event.pod_uid);
        }
    }
}

impl Handler<EventsLost> for KubeletActor {
    type Result = ();

    fn handle(&mut self, _: EventsLost, _: &mut Context<Self>) {
        for uid in self.shared.registry.uids() {
            self.shared.registry.wake(&uid);
        }
    }
}
