//! Events: what controllers tell people about objects.
//!
//! A [`Recorder`] hands events to one actor per component, which writes them in order, under the component's
//! identity. Equal events become one with a count, similar ones are combined, and an object that is talked
//! about without end is cut off ([`correlate`]). Events are best effort: a full mailbox or a failing server
//! loses them, never the work that they tell about.

use std::sync::Arc;

use actors::{
    Actor, ActorFutureExt, ActorRef, AtomicResponse, Context, Handler, Props, Stage, WrapFuture, message,
};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use protocol::{Api, ApiError, Client, Object, PatchKind};

use crate::controllers::machinery::meta;

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

/// Records events of one component. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Recorder {
    writer: Option<ActorRef<Writer>>,
}

impl Recorder {
    /// Starts the component's writer. `component` is what events name as their source, `agent` the program
    /// whose part it is upstream, which is what the fields of events belong to.
    pub fn start(stage: &Stage, component: &str, agent: &'static str, api: Arc<dyn Api>) -> Self {
        let component: Arc<str> = component.into();
        let instance = component.to_string();
        let props = Props::new("master/events", move || Writer::new(component.clone(), agent, api.clone()));
        Recorder { writer: Some(stage.spawn(props.instance(instance).capacity(1024))) }
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

    /// Tells about an object by its reference.
    pub fn tell(&self, about: ObjectReference, kind: &'static str, reason: &str, message: String) {
        let Some(writer) = &self.writer else { return };
        let telling = Telling { about, kind, reason: reason.to_owned(), message, at: meta::now() };
        if let Err(rejected) = writer.try_tell(telling) {
            tracing::warn!(%rejected, "an event is lost");
        }
    }
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
    component: Arc<str>,
    client: Client,
    correlator: Correlator,
}

impl Writer {
    fn new(component: Arc<str>, agent: &str, api: Arc<dyn Api>) -> Self {
        let client = Client::new(api, agent);
        Writer { component, client, correlator: Correlator::default() }
    }
}

impl Actor for Writer {
    type Context = Context<Self>;
}

impl Handler<Telling> for Writer {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, m: Telling, _: &mut Context<Self>) -> Self::Result {
        let write = self.correlator.correlate(&self.component, m);
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
