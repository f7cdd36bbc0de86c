//! Events: what controllers, the scheduler and kubelets tell people about objects.
//!
//! A [`Recorder`] hands events to one actor per component, which writes them in order, under the component's
//! identity. Equal events become one with a count, similar ones are combined, and an object that is talked
//! about without end is cut off ([`correlate`]). Events are best effort: a full mailbox or a failing server
//! loses them, never the work that they tell about.

use std::sync::Arc;

use crate::{Api, ApiError, Client, Object, PatchKind};
use actors::{
    Actor, ActorFutureExt, ActorRef, AtomicResponse, Context, Group, Handler, Props, RestartPolicy, Stage,
    WrapFuture, message,
};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::jiff::Timestamp;

pub mod correlate;

use correlate::{Correlator, Write};

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    /// About which object.
    pub about: ObjectReference,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// One word, for machines.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// What was done or tried, where the component tells it the newer way: without count, at a moment of its own.
    pub action: Option<&'static str>,
    /// When.
    pub at: Timestamp,
}
message!(Telling => (), |m| {
    let name = m.about.name.as_deref().unwrap_or_default();
    Some(match m.about.namespace.as_deref().filter(|n| !n.is_empty()) {
        Some(namespace) => format!("events/{namespace}/{name}").into(),
        None => format!("events/{name}").into(),
    })
});

/// Who tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where its writer stands in the tree of actors.
    pub path: &'static str,
    /// What events name as their source.
    pub component: Arc<str>,
    /// The node that it is on; empty where that says nothing.
    pub host: Arc<str>,
    /// The program whose part it is upstream, which is what the fields of events belong to.
    pub agent: &'static str,
}

impl Source {
    /// A component of the master.
    pub fn master(component: &str, agent: &'static str) -> Self {
        Source { path: "master/events", component: component.into(), host: "".into(), agent }
    }

    /// The kubelet of a node.
    pub fn kubelet(node: &str) -> Self {
        Source {
            path: "node/kubelet/events",
            component: "kubelet".into(),
            host: node.into(),
            agent: "kubelet",
        }
    }
}

fn props(source: Source, api: Arc<dyn Api>) -> Props<Writer> {
    let instance = if source.host.is_empty() { &source.component } else { &source.host }.to_string();
    let path = source.path;
    let props = Props::new(path, move || Writer::new(source.clone(), api.clone()));
    props.instance(instance).capacity(1024).restart(RestartPolicy::Permanent)
}

/// Records events of one component. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Recorder {
    writer: Option<ActorRef<Writer>>,
}

impl Recorder {
    /// Starts a writer under a supervisor of its own.
    pub fn start(stage: &Stage, source: Source, api: Arc<dyn Api>) -> Self {
        Recorder { writer: Some(stage.spawn(props(source, api))) }
    }

    /// Starts a writer that ends with its group.
    pub fn start_in(group: &Group, source: Source, api: Arc<dyn Api>) -> Self {
        Recorder { writer: Some(group.spawn(props(source, api))) }
    }

    /// Records nothing; for tests of what does not concern events.
    pub fn silent() -> Self {
        Recorder { writer: None }
    }

    /// Tells that all is well.
    pub fn normal<K: Object>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.tell(reference(about), "Normal", reason, message.into());
    }

    /// Tells that something is not.
    pub fn warning<K: Object>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.tell(reference(about), "Warning", reason, message.into());
    }

    /// Tells what was done with an object or tried, as components of the newer API do.
    pub fn act<K: Object>(
        &self,
        about: &K,
        kind: &'static str,
        reason: &str,
        action: &'static str,
        message: impl Into<String>,
    ) {
        self.pass_on(Telling {
            about: reference(about),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            action: Some(action),
            at: now(),
        });
    }

    /// Tells about an object by its reference.
    pub fn tell(&self, about: ObjectReference, kind: &'static str, reason: &str, message: String) {
        self.pass_on(Telling { about, kind, reason: reason.to_owned(), message, action: None, at: now() });
    }

    fn pass_on(&self, telling: Telling) {
        let Some(writer) = &self.writer else { return };
        if let Err(rejected) = writer.try_tell(telling) {
            tracing::warn!(%rejected, "an event is lost");
        }
    }
}

/// The current time; virtual in tests.
fn now() -> Timestamp {
    let micros = i64::try_from(actors::time::wall_us()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A reference to an object, as events carry it.
pub fn reference<K: Object>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Writes one component's events, in order.
pub struct Writer {
    source: Source,
    client: Client,
    correlator: Correlator,
}

impl Writer {
    fn new(source: Source, api: Arc<dyn Api>) -> Self {
        let client = Client::new(api, source.agent);
        Writer { source, client, correlator: Correlator::default() }
    }
}

impl Actor for Writer {
    type Context = Context<Self>;
}

impl Handler<Telling> for Writer {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, m: Telling, _: &mut Context<Self>) -> Self::Result {
        let write = self.correlator.correlate(&self.source, m);
        let client = self.client.clone();
        let send = async move {
            let write = write?;
            match send(&client, &write).await {
                Ok(event) => Some((write, event)),
                Err(error) => {
                    tracing::debug!(%error, "an event is lost");
                    None
                }
            }
        };
        AtomicResponse::new(Box::pin(send.into_actor(self).map(|written, me: &mut Self, _| {
            if let Some((write, event)) = written {
                me.correlator.written(&write, event.metadata.name.unwrap_or_default());
            }
        })))
    }
}

async fn send(client: &Client, write: &Write) -> Result<Event, ApiError> {
    match write {
        Write::Create { event, .. } => client.create(&**event).await,
        Write::Patch { event, name, patch, .. } => {
            let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
            match client.patch::<Event>(namespace, name, None, PatchKind::Strategic, patch).await {
                // The earlier event has expired meanwhile.
                Err(e) if e.is_not_found() => client.create(&**event).await,
                other => other,
            }
        }
    }
}
