//! Events about pods and the node, as `kubectl describe` shows them.
//!
//! One actor writes them, one at a time: an event that repeats is counted on the object that the first one
//! made. Events are for people: when the mailbox is full they are dropped, never waited for.

use std::collections::{HashMap, VecDeque};

use actors::{Actor, AtomicResponse, Context, Handler, WrapFuture, message};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use protocol::{Client, PatchKind};
use serde_json::json;

use super::pod;
use crate::runtime::clock;

/// Events that are remembered for counting.
const REMEMBERED_MAX: usize = 1024;

/// An event to write.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it is about.
    pub about: ObjectReference,
    /// Whether it tells of a failure.
    pub warning: bool,
    /// Machine-readable reason.
    pub reason: &'static str,
    /// Text.
    pub message: String,
}

message!(Note => (), |m| Some(format!("events/{}/{}", m.about.namespace.as_deref().unwrap_or("default"),
    m.about.name.as_deref().unwrap_or_default()).into()));

/// The reference by which an event names a pod, or a container of it.
pub fn about_pod(owner: &Pod, container: Option<(pod::Role, &str)>) -> ObjectReference {
    let list = |role: pod::Role| match role {
        pod::Role::Main => "spec.containers",
        pod::Role::Init | pod::Role::Sidecar => "spec.initContainers",
        pod::Role::Ephemeral => "spec.ephemeralContainers",
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: owner.metadata.name.clone(),
        namespace: owner.metadata.namespace.clone(),
        uid: owner.metadata.uid.clone(),
        resource_version: owner.metadata.resource_version.clone(),
        field_path: container.map(|(role, name)| format!("{}{{{name}}}", list(role))),
    }
}

type Key = (String, String, String, String);

/// The actor that writes events.
pub struct Recorder {
    client: Client,
    node: String,
    written: HashMap<Key, (String, i32, Time)>,
    order: VecDeque<Key>,
}

impl Recorder {
    /// Writes through `client` as the kubelet of `node`.
    pub fn new(client: Client, node: &str) -> Self {
        Recorder { client, node: node.to_owned(), written: HashMap::new(), order: VecDeque::new() }
    }
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Note> for Recorder {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, note: Note, _: &mut Context<Self>) -> Self::Result {
        let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let now = clock::now();
        let field = note.about.field_path.clone().unwrap_or_default();
        let key =
            (note.about.uid.clone().unwrap_or_default(), field, note.reason.to_owned(), note.message.clone());
        let (name, count, first) = match self.written.get_mut(&key) {
            Some((name, count, first)) => {
                *count += 1;
                (name.clone(), *count, first.clone())
            }
            None => {
                let stamp = clock::timestamp(actors::time::now()).as_nanosecond();
                let of = note.about.name.as_deref().unwrap_or_default();
                let name = format!("{of}.{stamp:x}{:04x}", actors::random::within(0..0x1_0000));
                self.written.insert(key.clone(), (name.clone(), 1, now.clone()));
                self.order.push_back(key);
                if self.order.len() > REMEMBERED_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.written.remove(&oldest);
                }
                (name, 1, now.clone())
            }
        };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..Default::default()
            },
            involved_object: note.about,
            reason: Some(note.reason.to_owned()),
            message: Some(note.message),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            count: Some(count),
            first_timestamp: Some(first),
            last_timestamp: Some(now.clone()),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        };
        let client = self.client.clone();
        let work = async move {
            if count > 1 {
                let patch = json!({"count": count, "lastTimestamp": now});
                match client.patch::<Event>(&namespace, &name, None, PatchKind::Merge, &patch).await {
                    Err(e) if e.is_not_found() => {}
                    _ => return,
                }
            }
            if let Err(e) = client.create(&event).await {
                tracing::debug!(error = %e, "event not written");
            }
        };
        AtomicResponse::new(Box::pin(work.into_actor(self)))
    }
}
