//! The Services that Ingresses name, and the endpoints behind them. What a Service or its slices change is its own
//! part here and nothing else; Services that no Ingress names are remembered, as one may name them later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use protocol::labels::SERVICE_NAME;

use super::claims::{Key, Port, Target, key};
use super::upstream::{Speaks, Upstream};
use crate::family::Family;
use crate::proxy::NodeFacts;
use crate::proxy::endpoints::{candidates, choose};

/// What a Service port says of endpoints that speak HTTP/2 without TLS.
const H2C: &str = "kubernetes.io/h2c";

/// Why requests for a backend are refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The Service does not exist.
    #[error("service \"{0}\" does not exist")]
    NoService(Key),
    /// The Service is a name elsewhere: what is there is nobody's to open to the outside by an Ingress.
    #[error("service \"{0}\" is of type ExternalName, which an Ingress is not served from")]
    ExternalName(Key),
    /// The Service has no such port.
    #[error("service \"{0}\" has no port {1}")]
    NoPort(Key, Port),
    /// HTTP needs TCP.
    #[error("port {1} of service \"{0}\" is not TCP")]
    NotTcp(Key, Port),
    /// Nothing is ready.
    #[error("service \"{0}\" has no endpoint that is ready")]
    NoEndpoints(Key),
    /// It is no Service.
    #[error("{0} is no Service, which alone an Ingress is served from")]
    Resource(String),
}

impl Refusal {
    /// Whether the Ingress itself has to change, which is worth an event.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Refusal::ExternalName(_) | Refusal::NotTcp(..) | Refusal::Resource(_))
    }
}

/// Where the requests for one port of a Service go.
#[derive(Debug)]
pub struct Backend {
    endpoints: Result<Vec<Arc<Upstream>>, Refusal>,
    next: AtomicUsize,
}

impl Backend {
    fn of(endpoints: Result<Vec<Arc<Upstream>>, Refusal>) -> Self {
        Backend { endpoints, next: AtomicUsize::new(0) }
    }

    /// The endpoints, in the order in which the next request is to try them: in turn, those that lately did not
    /// answer last.
    ///
    /// # Errors
    /// When there are none.
    pub fn in_turn(&self) -> Result<Vec<Arc<Upstream>>, &Refusal> {
        let endpoints = self.endpoints.as_ref()?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
        let mut order: Vec<_> = endpoints.iter().cycle().skip(turn).take(endpoints.len()).cloned().collect();
        // Stable: the turn is kept within both.
        order.sort_by_key(|endpoint| endpoint.failed_lately());
        Ok(order)
    }

    /// Why there are none.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.endpoints.as_ref().err()
    }
}

fn port_of<'a>(service: &'a Service, port: &Port) -> Option<&'a ServicePort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports.into_iter().flatten().find(|candidate| match port {
        Port::Name(name) => candidate.name.as_ref() == Some(name),
        Port::Number(number) => candidate.port == *number,
    })
}

/// The addresses behind a port of a Service, and what they speak. Pure.
fn resolve<'a>(
    target: &Target,
    service: Option<&Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice> + Clone,
    facts: &NodeFacts,
) -> Result<(Vec<SocketAddr>, Speaks), Refusal> {
    let name = || target.service.clone();
    let service = service.ok_or_else(|| Refusal::NoService(name()))?;
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return Err(Refusal::ExternalName(name()));
    }
    let port = port_of(service, &target.port).ok_or_else(|| Refusal::NoPort(name(), target.port.clone()))?;
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return Err(Refusal::NotTcp(name(), target.port.clone()));
    }
    let speaks = if port.app_protocol.as_deref() == Some(H2C) { Speaks::Http2 } else { Speaks::Http1 };
    // Of a Service with both, one family is enough: its endpoints are the same.
    let of = |family| choose(&candidates(port, slices.clone(), facts, family), facts).cluster;
    let chosen = Family::ALL.into_iter().map(of).find(|chosen| !chosen.is_empty());
    let chosen = chosen.ok_or_else(|| Refusal::NoEndpoints(name()))?;
    Ok((chosen.iter().map(|at| SocketAddr::new(at.ip, at.port)).collect(), speaks))
}

/// What is known of one Service.
#[derive(Debug, Default)]
struct Known {
    service: Option<Arc<Service>>,
    slices: BTreeMap<String, EndpointSlice>,
    /// The ports that Ingresses name.
    backends: HashMap<Port, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    by: BTreeSet<Key>,
    backend: Arc<Backend>,
}

impl Known {
    fn take_slice(&mut self, slice: EndpointSlice, gone: bool) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        if gone {
            self.slices.remove(&name);
        } else {
            self.slices.insert(name, lean_slice(slice));
        }
    }
}

/// All Services.
#[derive(Debug)]
pub struct Backends {
    facts: NodeFacts,
    services: HashMap<Key, Known>,
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let meta = &slice.metadata;
    let service = meta.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(key(meta.namespace.as_deref().unwrap_or_default(), service))
}

/// Without what only people and the master read: it stays in memory.
fn lean_slice(mut slice: EndpointSlice) -> EndpointSlice {
    slice.metadata = Default::default();
    for endpoint in slice.endpoints.iter_mut().flatten() {
        endpoint.target_ref = None;
        endpoint.hostname = None;
        endpoint.deprecated_topology = None;
    }
    slice
}

impl Backends {
    /// None yet, on a node of this name.
    pub fn new(node: &str) -> Self {
        let facts = NodeFacts { name: node.to_owned(), ..NodeFacts::default() };
        Backends { facts, services: HashMap::new() }
    }

    /// The backend of a target that an Ingress wants.
    pub fn get(&self, target: &Target) -> Option<&Arc<Backend>> {
        Some(&self.services.get(&target.service)?.backends.get(&target.port)?.backend)
    }

    /// An Ingress wants a target.
    pub fn want(&mut self, target: &Target, ingress: &Key) {
        let known = self.services.entry(target.service.clone()).or_default();
        let wanted = known.backends.entry(target.port.clone());
        let wanted = wanted.or_insert_with(|| Wanted {
            by: BTreeSet::new(),
            backend: Arc::new(Backend::of(Err(Refusal::NoService(target.service.clone())))),
        });
        wanted.by.insert(ingress.clone());
        if wanted.by.len() == 1 {
            self.compile(&target.service);
        }
    }

    /// An Ingress no longer wants a target.
    pub fn unwant(&mut self, target: &Target, ingress: &Key) {
        let Some(known) = self.services.get_mut(&target.service) else { return };
        if let Some(wanted) = known.backends.get_mut(&target.port) {
            wanted.by.remove(ingress);
            if wanted.by.is_empty() {
                known.backends.remove(&target.port);
            }
        }
        self.compile(&target.service);
    }

    /// A Service as it is now, or that it is gone.
    pub fn set_service(&mut self, key: &Key, service: Option<Arc<Service>>) {
        self.services.entry(key.clone()).or_default().service = service;
        self.compile(key);
    }

    /// All Services.
    pub fn replace_services(&mut self, services: impl IntoIterator<Item = (Key, Arc<Service>)>) {
        self.services.values_mut().for_each(|known| known.service = None);
        for (key, service) in services {
            self.services.entry(key).or_default().service = Some(service);
        }
        self.compile_all();
    }

    /// A slice as it is now, or that it is `gone`.
    pub fn set_slice(&mut self, slice: EndpointSlice, gone: bool) {
        let Some(service) = service_of(&slice) else { return };
        let known = self.services.entry(service.clone()).or_default();
        known.take_slice(slice, gone);
        self.compile(&service);
    }

    /// All slices.
    pub fn replace_slices(&mut self, slices: impl IntoIterator<Item = EndpointSlice>) {
        self.services.values_mut().for_each(|known| known.slices.clear());
        for slice in slices {
            if let Some(service) = service_of(&slice) {
                self.services.entry(service).or_default().take_slice(slice, false);
            }
        }
        self.compile_all();
    }

    /// The Ingresses that name a Service.
    pub fn users(&self, service: &Key) -> BTreeSet<Key> {
        let known = self.services.get(service);
        let backends = known.into_iter().flat_map(|known| known.backends.values());
        backends.flat_map(|wanted| wanted.by.iter().cloned()).collect()
    }

    fn compile_all(&mut self) {
        let all: Vec<Key> = self.services.keys().cloned().collect();
        all.iter().for_each(|key| self.compile(key));
    }

    /// Makes the backends of one Service anew; endpoints that stay keep their connections.
    fn compile(&mut self, key: &Key) {
        let Some(known) = self.services.get_mut(key) else { return };
        for (port, wanted) in &mut known.backends {
            let target = Target { service: key.clone(), port: port.clone() };
            let resolved = resolve(&target, known.service.as_deref(), known.slices.values(), &self.facts);
            wanted.backend = Arc::new(Backend::of(resolved.map(|(addresses, speaks)| {
                let before = wanted.backend.endpoints.as_deref().unwrap_or_default();
                let kept = |at| before.iter().find(|u| u.address() == at && u.speaks() == speaks).cloned();
                let upstream = |at| kept(at).unwrap_or_else(|| Arc::new(Upstream::new(at, speaks)));
                addresses.into_iter().map(upstream).collect()
            })));
        }
        if known.service.is_none() && known.slices.is_empty() && known.backends.is_empty() {
            self.services.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
