//! An API that has what the test puts into it, and tells watchers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actors::TraceContext;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Client, Verb, WatchEvent, WatchKind, WatchStream};
use serde_json::Value;
use tokio::sync::broadcast;

struct Inner {
    objects: Mutex<BTreeMap<(String, String), Value>>,
    /// What was created, in order.
    created: Mutex<Vec<Value>>,
    changes: broadcast::Sender<(String, WatchEvent)>,
}

/// The API. Cloning shares it.
#[derive(Clone)]
pub struct Scripted(Arc<Inner>);

impl Default for Scripted {
    fn default() -> Self {
        let changes = broadcast::channel(256).0;
        Scripted(Arc::new(Inner { objects: Mutex::default(), created: Mutex::default(), changes }))
    }
}

/// The one name that a request is about, if it is about one.
fn selected(request: &ApiRequest) -> Option<String> {
    let selector = request.options.field_selector.as_deref()?;
    selector.strip_prefix("metadata.name=").map(str::to_owned)
}

fn is(object: &Value, name: Option<&str>) -> bool {
    name.is_none_or(|name| object["metadata"]["name"] == name)
}

fn event(kind: WatchKind, object: &Value) -> WatchEvent {
    // Each change has a cause, as a real one would.
    let trace = TraceContext::default().child();
    WatchEvent { kind, object: Bytes::from(object.to_string()), revision: 1, trace }
}

impl Scripted {
    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    /// What was created, in order.
    #[allow(dead_code, reason = "not every test that uses this looks at it")]
    pub fn created(&self) -> Vec<Value> {
        self.0.created.lock().unwrap().clone()
    }

    /// Puts an object.
    pub fn set(&self, resource: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = self.0.objects.lock().unwrap().insert((resource.to_owned(), name), object.clone());
        let kind = if before.is_some() { WatchKind::Modified } else { WatchKind::Added };
        let _ = self.0.changes.send((resource.to_owned(), event(kind, &object)));
    }

    /// Removes an object.
    pub fn delete(&self, resource: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.0.objects.lock().unwrap().remove(&(resource.to_owned(), name));
        let _ = self.0.changes.send((resource.to_owned(), event(WatchKind::Deleted, &object)));
    }
}

#[async_trait]
impl Api for Scripted {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if request.verb == Verb::Create {
            let object = serde_json::from_slice(&request.body).unwrap();
            self.0.created.lock().unwrap().push(object);
            return Ok(ApiResponse { code: 201, body: request.body, revision: 1, warnings: Vec::new() });
        }
        if request.verb != Verb::List {
            return Err(ApiError::Unreachable("only lists, watches and creations here".into()));
        }
        let name = selected(&request);
        let objects = self.0.objects.lock().unwrap();
        let mine = objects.iter().filter(|((r, _), _)| *r == request.target.resource);
        let items: Vec<&Value> = mine.map(|(_, object)| object).filter(|o| is(o, name.as_deref())).collect();
        let list = serde_json::json!({"metadata": {"resourceVersion": "1"}, "items": items});
        Ok(ApiResponse { code: 200, body: list.to_string().into(), revision: 1, warnings: Vec::new() })
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
        let name = selected(&request);
        let resource = request.target.resource;
        let changes = self.0.changes.subscribe();
        // What changed since the list is told, and so is everything else: a watch may repeat, not leave out.
        let first: Vec<WatchEvent> = {
            let objects = self.0.objects.lock().unwrap();
            let mine = objects.iter().filter(|((r, _), _)| *r == resource);
            let mine = mine.map(|(_, object)| object).filter(|o| is(o, name.as_deref()));
            mine.map(|object| event(WatchKind::Added, object)).collect()
        };
        let later = futures::stream::unfold(changes, move |mut changes| {
            let (resource, name) = (resource.clone(), name.clone());
            async move {
                loop {
                    let (of, event) = changes.recv().await.ok()?;
                    let object: Value = serde_json::from_slice(&event.object).ok()?;
                    if of == resource && is(&object, name.as_deref()) {
                        return Some((event, changes));
                    }
                }
            }
        });
        Ok(Box::pin(futures::stream::iter(first).chain(later)))
    }
}
