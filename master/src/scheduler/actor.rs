//! The scheduler's actor: learns of changes, tries pods one after the other, acts on the decisions.
//!
//! - [`changes`]: what changes mean. - [`attempt`]: one attempt. - [`binding`]: what becomes of a decision;
//!   [`preparing`]: where devices have to be made ready first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use actors::trace::TraceContext;
use actors::{
    Actor, ActorRef, AsyncContext, Context, Handler, MessageResult, Props, Rejected, SpawnHandle, message,
};
use protocol::events::Recorder;
use protocol::{Api, Client};

use super::Config;
use super::binder::Binder;
use super::facts::Facts;
use super::followed;
use super::plugins::ClusterChange;
use super::pod::PodFacts;
use super::queue::Queue;
use crate::cache::Cache;
use crate::controllers::machinery::dispatch::{Changed, Dispatch, Unfollowed};
use crate::controllers::machinery::meta::Key;

use preparing::Preparing;

mod attempt;
mod binding;
mod changes;
mod preparing;

/// How long a binding may take.
const BIND_MAX: Duration = Duration::from_secs(100);
/// Verdicts that are kept.
const VERDICTS_MAX: usize = 20_000;

/// Try a pod.
pub struct Try {
    uid: Arc<str>,
    key: Key,
    causes: Vec<TraceContext>,
}
impl actors::actix::Message for Try {
    type Result = ();
}
impl actors::Message for Try {
    fn key(&self) -> Option<Arc<str>> {
        Some(format!("pods/{}", self.key).into())
    }
    fn causes(&self) -> Vec<TraceContext> {
        self.causes.clone()
    }
}

/// Asks why a pod is where it is, or nowhere yet.
pub struct Why {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
message!(Why => Option<Verdict>, |m| Some(format!("pods/{}/{}", m.namespace, m.name).into()));

/// The last word on a pod.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// The pod's uid.
    pub uid: String,
    /// When, in seconds since the epoch.
    pub second: i64,
    /// The chosen node, where there was one.
    pub node: Option<String>,
    /// What people are told.
    pub text: String,
    /// By node: the plugin that refused, and its reasons.
    pub refusals: BTreeMap<String, (String, Vec<String>)>,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// See the module.
pub struct Scheduler {
    cache: Cache,
    dispatch: Dispatch,
    client: Client,
    api: Arc<dyn Api>,
    events: Recorder,
    config: Config,
    facts: Facts,
    queue: Queue,
    /// Uids by namespace and name, for deletions, which the cache answers by absence.
    uids: HashMap<Key, Arc<str>>,
    /// Pods that were given a node, until the cache shows it.
    assumed: HashMap<Arc<str>, Arc<str>>,
    /// Pods for which others were evicted, and the nodes that wait for them.
    nominated: HashMap<Arc<str>, (Arc<str>, Arc<PodFacts>)>,
    /// Pods whose devices are made ready for their nodes.
    preparing: HashMap<Arc<str>, Preparing>,
    /// Claims that have devices or were made for extended resources, and whether they have any.
    holding: HashMap<Key, bool>,
    /// Classes of devices, and the extended resources that they name.
    classes: HashMap<Arc<str>, Option<String>>,
    verdicts: HashMap<Key, Verdict>,
    binders: Vec<ActorRef<Binder>>,
    turn: u64,
    trying: bool,
    timer: Option<(Instant, SpawnHandle)>,
}

impl Scheduler {
    /// With nothing known yet.
    pub fn new(
        cache: Cache,
        dispatch: Dispatch,
        api: Arc<dyn Api>,
        events: Recorder,
        config: Config,
    ) -> Self {
        Scheduler {
            cache,
            dispatch,
            client: Client::new(api.clone(), super::AGENT),
            api,
            events,
            config,
            facts: Facts::default(),
            queue: Queue::default(),
            uids: HashMap::new(),
            assumed: HashMap::new(),
            nominated: HashMap::new(),
            preparing: HashMap::new(),
            holding: HashMap::new(),
            classes: HashMap::new(),
            verdicts: HashMap::new(),
            binders: Vec::new(),
            turn: 0,
            trying: false,
            timer: None,
        }
    }

    fn changed(&mut self, change: &ClusterChange) {
        self.changed_at(change, None);
    }

    /// When an object came to be as it is; `None` for one that is gone.
    fn revision(&self, group: &str, resource: &str, key: &Key) -> Option<u64> {
        self.cache.snapshot().get(group, resource, &key.namespace, &key.name).map(|s| s.revision)
    }

    /// A change of what attempts see in a snapshot, with its revision where that is known.
    fn changed_at(&mut self, change: &ClusterChange, revision: Option<u64>) {
        let cause = actors::trace::current();
        self.queue.changed((change, revision), &self.facts, cause, Instant::now());
    }

    /// Tries the next pod, or sets the alarm for when there is one.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.trying || !self.queue.is_ready(now) {
            self.set_timer(ctx);
            return;
        }
        let Some(next) = self.queue.pop(now) else { return };
        let uid = next.pod.uid.clone();
        let message =
            Try { uid: uid.clone(), key: Key::new(&next.pod.namespace, &next.pod.name), causes: next.causes };
        self.trying = true;
        match ctx.me().try_tell(message) {
            Ok(()) => {}
            Err(Rejected::Full(message)) => {
                let me = ctx.me();
                let wait = async move { me.tell(message).await };
                ctx.run(wait, |_, _, _| {});
            }
            Err(Rejected::Closed(_)) => {}
        }
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.queue.next_due();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = due {
            let wait = at.saturating_duration_since(Instant::now());
            let handle = actors::trace::sync_under(TraceContext::default(), || {
                ctx.run_later(wait, |me, ctx| {
                    me.timer = None;
                    me.go_on(ctx);
                })
            });
            self.timer = Some((at, handle));
        }
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for n in 0..self.config.binders.max(1) {
            let (api, cache) = (self.api.clone(), self.cache.clone());
            let make =
                move || Binder { client: Client::new(api.clone(), super::AGENT), cache: cache.clone() };
            let props = Props::new(format!("{}/binder", ctx.path()), make);
            self.binders.push(ctx.spawn_child(props.instance(n.to_string()).capacity(256)));
        }
        // Nodes are known before the first pod is tried, so that no pod is told that there are none.
        let (me, cache) = (ctx.me(), self.cache.clone());
        let begin = async move {
            cache.ready().await;
            for node in cache.snapshot().list("", "nodes", "") {
                let key = Key::new("", &node.meta.name);
                if me.tell(Changed { resource: "nodes", key }).await.is_err() {
                    return;
                }
            }
        };
        ctx.run(begin, |me, (), ctx| {
            let (changed, unfollowed) = (ctx.me().recipient(), ctx.me().recipient());
            followed::register(&me.dispatch, &me.config.name, &changed, &unfollowed);
        });
    }
}

impl Handler<Changed> for Scheduler {
    type Result = ();

    fn handle(&mut self, m: Changed, ctx: &mut Context<Self>) {
        match m.resource {
            "nodes" => self.node_changed(&m.key.name),
            "namespaces" => self.namespace_changed(&m.key.name),
            "persistentvolumeclaims" | "persistentvolumes" | "storageclasses" => {
                let group = if m.resource == "storageclasses" { "storage.k8s.io" } else { "" };
                let revision = self.revision(group, m.resource, &m.key);
                self.changed_at(&ClusterChange::Storage, revision);
            }
            "resourceclaims" => self.claim_changed(m.key, ctx),
            "deviceclasses" => self.class_changed(&m.key),
            "resourceslices" => {
                let revision = self.revision("resource.k8s.io", m.resource, &m.key);
                self.changed_at(&ClusterChange::Devices, revision);
            }
            _ => self.pod_changed(m.key),
        }
        self.go_on(ctx);
    }
}

impl Handler<Unfollowed> for Scheduler {
    type Result = ();

    fn handle(&mut self, m: Unfollowed, ctx: &mut Context<Self>) {
        ctx.fail(m.why);
    }
}

impl Handler<Try> for Scheduler {
    type Result = ();

    fn handle(&mut self, m: Try, ctx: &mut Context<Self>) {
        self.trying = false;
        self.attempt(&m.uid, ctx);
        self.go_on(ctx);
    }
}

impl Handler<Why> for Scheduler {
    type Result = MessageResult<Why>;

    fn handle(&mut self, m: Why, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.verdicts.get(&Key::new(&m.namespace, &m.name)).cloned())
    }
}
