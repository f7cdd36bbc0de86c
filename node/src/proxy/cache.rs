//! Services and endpoint slices as the watches report them, and which services changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use protocol::labels::SERVICE_NAME;

use super::ServiceKey;
use super::facts::NodeFacts;
use super::plan::{ServicePlan, plan};

/// Services that another proxy implements carry this label.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// What the watches have told so far.
#[derive(Debug, Default)]
pub struct Cache {
    services: BTreeMap<ServiceKey, Arc<Service>>,
    slices: BTreeMap<ServiceKey, BTreeMap<String, EndpointSlice>>,
    dirty: BTreeSet<ServiceKey>,
}

fn key(namespace: &str, name: &str) -> ServiceKey {
    Arc::from(format!("{namespace}/{name}"))
}

impl Cache {
    /// Takes a service in, or out when `gone`. Returns its key.
    pub fn service(&mut self, service: Arc<Service>, gone: bool) -> ServiceKey {
        let meta = &service.metadata;
        let key =
            key(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let foreign = meta.labels.as_ref().is_some_and(|l| l.contains_key(OTHER_PROXY_LABEL));
        if gone || foreign {
            self.services.remove(&key);
        } else {
            self.services.insert(key.clone(), service);
        }
        self.dirty.insert(key.clone());
        key
    }

    /// Takes a slice in, or out when `gone`. Returns the key of the service that it belongs to.
    pub fn slice(&mut self, slice: EndpointSlice, gone: bool) -> Option<ServiceKey> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let key = key(slice.metadata.namespace.as_deref().unwrap_or_default(), service);
        let name = slice.metadata.name.clone().unwrap_or_default();
        let slices = self.slices.entry(key.clone()).or_default();
        if gone {
            slices.remove(&name);
        } else {
            slices.insert(name, slice);
        }
        if slices.is_empty() {
            self.slices.remove(&key);
        }
        self.dirty.insert(key.clone());
        Some(key)
    }

    /// Forgets the services before a new list of them arrives.
    pub fn clear_services(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.services).into_keys());
    }

    /// Forgets the slices before a new list of them arrives.
    pub fn clear_slices(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.slices).into_keys());
    }

    /// Plans every service again at the next [`Cache::plans`].
    pub fn all_dirty(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
    }

    /// The plans of what changed; of services that are gone, empty ones.
    pub fn plans(&mut self, facts: &NodeFacts) -> Vec<(ServiceKey, ServicePlan)> {
        let none = BTreeMap::new();
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        dirty
            .map(|key| {
                let slices = self.slices.get(&key).unwrap_or(&none);
                let planned = match self.services.get(&key) {
                    Some(service) => plan(service, slices.values(), facts),
                    None => ServicePlan::default(),
                };
                (key, planned)
            })
            .collect()
    }
}
