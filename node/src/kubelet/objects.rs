//! ConfigMaps and Secrets that pods of this node refer to: each watched by its name, while a pod needs it.
//!
//! A node may read only what its pods refer to, so there is one narrow watch per object instead of a
//! cache of everything. A change wakes the pods that use the object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use protocol::{ApiError, Client, Object, WatchKind};

use super::registry::Registry;
use crate::volumes::payload::Data;

/// Pause before a broken watch is opened again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What can be referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

type Key = (Kind, String, String);

struct Entry {
    users: BTreeSet<String>,
    /// `None` until first read; then whether it exists, and its data.
    value: Option<Option<Arc<Data>>>,
    watch: Option<tokio::task::AbortHandle>,
}

/// The objects in use. Cloning shares them.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    registry: Registry,
    table: Arc<Mutex<HashMap<Key, Entry>>>,
}

fn data_of_map(object: ConfigMap) -> Data {
    let mut data: Data =
        object.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())).collect();
    data.extend(object.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
    data
}

fn data_of_secret(object: Secret) -> Data {
    let mut data: Data = object.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
    data.extend(object.string_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())));
    data
}

impl Objects {
    /// Reads through `client`, wakes pods of `registry`.
    pub fn new(client: Client, registry: Registry) -> Self {
        Objects { client, registry, table: Arc::default() }
    }

    /// An object's data for a pod that uses it from now on; `None` when it does not exist.
    pub async fn data(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        pod_uid: &str,
    ) -> Result<Option<Arc<Data>>, ApiError> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        {
            let mut table = self.table.lock();
            let entry = table.entry(key.clone()).or_insert_with(|| Entry {
                users: BTreeSet::new(),
                value: None,
                watch: None,
            });
            entry.users.insert(pod_uid.to_owned());
            if let Some(value) = &entry.value {
                return Ok(value.clone());
            }
        }
        match kind {
            Kind::ConfigMap => self.open::<ConfigMap>(key, data_of_map).await,
            Kind::Secret => self.open::<Secret>(key, data_of_secret).await,
        }
    }

    /// Data of several objects.
    pub async fn all(
        &self,
        kind: Kind,
        namespace: &str,
        names: &[String],
        pod_uid: &str,
    ) -> Result<BTreeMap<String, Option<Arc<Data>>>, ApiError> {
        let mut found = BTreeMap::new();
        for name in names {
            if !found.contains_key(name) {
                found.insert(name.clone(), self.data(kind, namespace, name, pod_uid).await?);
            }
        }
        Ok(found)
    }

    /// A pod is gone: watches that only it needed end.
    pub fn release(&self, pod_uid: &str) {
        self.table.lock().retain(|_, entry| {
            entry.users.remove(pod_uid);
            if entry.users.is_empty()
                && let Some(watch) = &entry.watch
            {
                watch.abort();
            }
            !entry.users.is_empty()
        });
    }

    /// Reads an object the first time and begins to watch it.
    async fn open<K: Object>(&self, key: Key, data: fn(K) -> Data) -> Result<Option<Arc<Data>>, ApiError> {
        let (value, revision) = self.read(&key, data).await?;
        let mut table = self.table.lock();
        if let Some(entry) = table.get_mut(&key) {
            entry.value = Some(value.clone());
            if entry.watch.is_none() {
                let this = self.clone();
                let task = actors::spawn(async move { this.follow(key, revision, data).await });
                entry.watch = Some(task.abort_handle());
            }
        }
        Ok(value)
    }

    async fn read<K: Object>(
        &self,
        (_, namespace, name): &Key,
        data: fn(K) -> Data,
    ) -> Result<(Option<Arc<Data>>, u64), ApiError> {
        let Some(object) = self.client.find::<K>(namespace, name).await? else { return Ok((None, 0)) };
        let revision =
            object.metadata().resource_version.as_deref().and_then(|r| r.parse().ok()).unwrap_or(0);
        Ok((Some(Arc::new(data(object))), revision))
    }

    fn changed(&self, key: &Key, value: Option<Arc<Data>>) {
        let users = {
            let mut table = self.table.lock();
            let Some(entry) = table.get_mut(key) else { return };
            if entry.value.as_ref() == Some(&value) {
                return;
            }
            entry.value = Some(value);
            entry.users.clone()
        };
        for uid in users {
            self.registry.refresh(&uid);
        }
    }

    /// Watches one object until aborted.
    async fn follow<K: Object>(&self, key: Key, mut revision: u64, data: fn(K) -> Data) {
        let selector = format!("metadata.name={}", key.2);
        loop {
            if let Ok(mut events) = self.client.watch::<K>(&key.1, revision, Some(&selector)).await {
                while let Some(event) = events.next().await {
                    let value = match event.kind {
                        WatchKind::Added | WatchKind::Modified => {
                            match serde_json::from_slice::<K>(&event.object) {
                                Ok(object) => Some(Arc::new(data(object))),
                                Err(_) => continue,
                            }
                        }
                        WatchKind::Deleted => None,
                        WatchKind::Bookmark => continue,
                        WatchKind::Error => break,
                    };
                    actors::trace::sync_under(event.trace, || self.changed(&key, value));
                }
            }
            tokio::time::sleep(RETRY_PAUSE.mul_f64(actors::random::jitter(0.5))).await;
            if let Ok((value, now)) = self.read(&key, data).await {
                revision = now;
                self.changed(&key, value);
            }
        }
    }
}
