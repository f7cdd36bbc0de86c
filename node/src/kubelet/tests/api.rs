//! An API server in a few lines, for tests of the kubelet: objects in a table, patches merged, watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Client, Verb, WatchEvent, WatchKind, WatchStream};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// resource, namespace, name
type Key = (String, String, String);

struct State {
    objects: BTreeMap<Key, Value>,
    revision: u64,
    /// While set, nobody is reached.
    away: bool,
    writes: usize,
}

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(String, WatchEvent)>,
}

impl FakeApi {
    pub fn new() -> Self {
        let (changes, _) = broadcast::channel(4096);
        let state = State { objects: BTreeMap::new(), revision: 1, away: false, writes: 0 };
        FakeApi { state: Arc::new(Mutex::new(state)), changes }
    }

    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    pub fn set_away(&self, away: bool) {
        self.state.lock().away = away;
    }

    pub fn writes(&self) -> usize {
        self.state.lock().writes
    }

    fn put(&self, key: Key, mut object: Value, kind: WatchKind) -> Value {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        match kind {
            WatchKind::Deleted => drop(state.objects.remove(&key)),
            _ => drop(state.objects.insert(key.clone(), object.clone())),
        }
        drop(state);
        let bytes = Bytes::from(object.to_string());
        let event = WatchEvent { kind, object: bytes, revision, trace: actors::trace::current() };
        let _ = self.changes.send((key.0, event));
        object
    }

    pub fn add(&self, resource: &str, object: Value) {
        let text = |k: &str| object["metadata"][k].as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), text("namespace"), text("name"));
        let kind =
            if self.state.lock().objects.contains_key(&key) { WatchKind::Modified } else { WatchKind::Added };
        self.put(key, object, kind);
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().objects.get(&key).cloned()
    }

    pub fn pod(&self, name: &str) -> Option<Pod> {
        self.get("pods", "default", name).map(|v| serde_json::from_value(v).unwrap())
    }

    pub fn all(&self, resource: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|(k, _)| k.0 == resource).map(|(_, v)| v.clone()).collect()
    }

    /// Removes an object without asking anybody.
    pub fn vanish(&self, resource: &str, namespace: &str, name: &str) {
        if let Some(object) = self.get(resource, namespace, name) {
            self.put(
                (resource.to_owned(), namespace.to_owned(), name.to_owned()),
                object,
                WatchKind::Deleted,
            );
        }
    }

    /// What `kubectl delete` does to a pod on a node.
    pub fn delete_pod(&self, name: &str, grace: i64) {
        let Some(mut pod) = self.get("pods", "default", name) else { return };
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.add("pods", pod);
    }

    fn fits(selector: Option<&str>, object: &Value) -> bool {
        selector.is_none_or(|selector| {
            selector.split(',').all(|term| {
                let (path, wanted) = term.split_once('=').unwrap_or((term, ""));
                path.split('.').fold(object, |o, part| &o[part]).as_str() == Some(wanted)
            })
        })
    }

    fn handle(&self, request: &ApiRequest) -> Result<Value, ApiError> {
        let target = &request.target;
        let namespace = target.namespace.clone().unwrap_or_default();
        let name = target.name.clone().unwrap_or_default();
        let key = (target.resource.clone(), namespace.clone(), name.clone());
        let missing = || ApiError::not_found(&target.group, &target.resource, &name);
        let current = self.state.lock().objects.get(&key).cloned();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if request.verb.is_write() {
            self.state.lock().writes += 1;
        }
        match (request.verb, target.subresource.as_deref()) {
            (Verb::Get, _) => current.ok_or_else(missing),
            (Verb::List, _) => {
                let state = self.state.lock();
                let items: Vec<_> = state
                    .objects
                    .iter()
                    .filter(|(k, _)| k.0 == target.resource && (namespace.is_empty() || k.1 == namespace))
                    .filter(|(_, v)| Self::fits(request.options.field_selector.as_deref(), v))
                    .map(|(_, v)| v.clone())
                    .collect();
                Ok(json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}))
            }
            (Verb::Create, Some("token")) => {
                Ok(json!({"status": {"token": format!("token-of-{name}"), "expirationTimestamp": null}}))
            }
            (Verb::Create, _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let key = (target.resource.clone(), namespace, name.clone());
                if self.state.lock().objects.contains_key(&key) {
                    return Err(ApiError::already_exists("", &target.resource, &name));
                }
                let mut object = body;
                object["metadata"]["uid"] = format!("uid-{}-{name}", target.resource).into();
                Ok(self.put(key, object, WatchKind::Added))
            }
            (Verb::Patch, _) => {
                let mut object = current.ok_or_else(missing)?;
                let uid = body["metadata"]["uid"].as_str();
                if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
                    return Err(ApiError::conflict("", &target.resource, &name, "uid mismatch"));
                }
                merge(&mut object, &body);
                Ok(self.put(key, object, WatchKind::Modified))
            }
            (Verb::Delete, _) => {
                let object = current.ok_or_else(missing)?;
                if request.options.precondition_uid.as_deref().is_some_and(|u| object["metadata"]["uid"] != u)
                {
                    return Err(ApiError::conflict("", &target.resource, &name, "uid mismatch"));
                }
                Ok(self.put(key, object, WatchKind::Deleted))
            }
            other => Err(ApiError::bad_request(format!("{other:?}"))),
        }
    }
}

/// A merge patch, with conditions by type and `$patch` markers left out.
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(object.as_object_mut().and_then(|o| o.remove(key))),
            Value::Array(list) if key == "conditions" => {
                let old = object[key].as_array().cloned().unwrap_or_default();
                let keep = old.into_iter().filter(|o| !list.iter().any(|n| n["type"] == o["type"]));
                object[key] = keep.chain(list.iter().cloned()).collect();
            }
            Value::Array(list) => {
                object[key] = list.iter().filter(|v| v.get("$patch").is_none()).cloned().collect();
            }
            _ => merge(&mut object[key], value),
        }
    }
}

#[async_trait]
impl Api for FakeApi {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if self.state.lock().away {
            return Err(ApiError::Unreachable("away".to_owned()));
        }
        let (code, body) = match self.handle(&request) {
            Ok(value) => (200, value),
            Err(e) => (e.code(), e.to_status()),
        };
        let body = Bytes::from(body.to_string());
        Ok(ApiResponse { code, body, revision: 0, warnings: Vec::new() })
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
        if self.state.lock().away {
            return Err(ApiError::Unreachable("away".to_owned()));
        }
        let from: u64 = request.options.resource_version.as_deref().and_then(|r| r.parse().ok()).unwrap_or(0);
        let resource = request.target.resource.clone();
        let selector = request.options.field_selector.clone();
        let changes = self.changes.subscribe();
        // What changed between the list and this watch: everything newer comes as modified.
        let missed: Vec<_> = {
            let state = self.state.lock();
            let newer = |v: &Value| {
                v["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse::<u64>().ok()).unwrap_or(0)
                    > from
            };
            let of = state.objects.iter().filter(|(k, v)| k.0 == resource && newer(v));
            of.map(|(k, v)| {
                let object = Bytes::from(v.to_string());
                (
                    k.0.clone(),
                    WatchEvent { kind: WatchKind::Modified, object, revision: 0, trace: Default::default() },
                )
            })
            .collect()
        };
        let live = futures::stream::unfold(changes, |mut changes| async move {
            changes.recv().await.ok().map(|change| (change, changes))
        });
        Ok(futures::stream::iter(missed)
            .chain(live)
            .filter(move |(of, event)| {
                let value: Value = serde_json::from_slice(&event.object).unwrap_or(Value::Null);
                std::future::ready(*of == resource && Self::fits(selector.as_deref(), &value))
            })
            .map(|(_, event)| event)
            .boxed())
    }
}
