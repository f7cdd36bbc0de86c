//! The Services that Ingresses name, and the endpoints behind them. What a Service or its slices change is its own
//! part here and nothing else; Services that no Ingress names are remembered, as one may name them later.

use std::collections::{BTreeSet, HashMap};
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

/// What endpoints of a Service port speak, as the port says it. WebSockets are HTTP/1.1 to begin with.
fn speaks(port: &ServicePort) -> Speaks {
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => Speaks::Http2,
        // The name of the service that IANA assigned, in either case, and WebSockets in TLS.
        Some(text) if text.eq_ignore_ascii_case("https") || text == "kubernetes.io/wss" => Speaks::Tls,
        _ => Speaks::Http1,
    }
}

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

/// A Service, without all that is not needed here: it stays in memory.
#[derive(Debug)]
struct Exposed {
    external_name: bool,
    ports: Box<[ServicePort]>,
}

impl Exposed {
    fn of(service: &Service) -> Exposed {
        let spec = service.spec.as_ref();
        let lean = |port: &ServicePort| ServicePort { node_port: None, target_port: None, ..port.clone() };
        Exposed {
            external_name: spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName"),
            ports: spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).map(lean).collect(),
        }
    }
}

fn port_of<'a>(service: &'a Exposed, port: &Port) -> Option<&'a ServicePort> {
    service.ports.iter().find(|candidate| match port {
        Port::Name(name) => candidate.name.as_ref() == Some(name),
        Port::Number(number) => candidate.port == *number,
    })
}

/// The addresses behind a port of a Service, and what they speak. Pure.
fn resolve<'a>(
    target: &Target,
    service: Option<&Exposed>,
    slices: impl IntoIterator<Item = &'a EndpointSlice> + Clone,
    facts: &NodeFacts,
) -> Result<(Vec<SocketAddr>, Speaks), Refusal> {
    let name = || target.service.clone();
    let service = service.ok_or_else(|| Refusal::NoService(name()))?;
    if service.external_name {
        return Err(Refusal::ExternalName(name()));
    }
    let port = port_of(service, &target.port).ok_or_else(|| Refusal::NoPort(name(), target.port.clone()))?;
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return Err(Refusal::NotTcp(name(), target.port.clone()));
    }
    // Of a Service with both, one family is enough: its endpoints are the same.
    let of = |family| choose(&candidates(port, slices.clone(), facts, family), facts).cluster;
    let chosen = Family::ALL.into_iter().map(of).find(|chosen| !chosen.is_empty());
    let chosen = chosen.ok_or_else(|| Refusal::NoEndpoints(name()))?;
    Ok((chosen.iter().map(|at| SocketAddr::new(at.ip, at.port)).collect(), speaks(port)))
}

/// What is known of one Service.
#[derive(Debug, Default)]
struct Known {
    service: Option<Exposed>,
    /// By name. Few, and there are many Services: a map would have room for more than there are.
    slices: Vec<(Box<str>, EndpointSlice)>,
    /// The ports that Ingresses name, few too.
    backends: Vec<(Port, Wanted)>,
}

#[derive(Debug)]
struct Wanted {
    /// Each once.
    by: Vec<Key>,
    backend: Arc<Backend>,
}

impl Known {
    fn take_slice(&mut self, slice: EndpointSlice, gone: bool) {
        let name: Box<str> = slice.metadata.name.clone().unwrap_or_default().into();
        let before = self.slices.iter().position(|(known, _)| *known == name);
        match (before, gone) {
            (Some(at), true) => drop(self.slices.swap_remove(at)),
            (Some(at), false) => {
                if let Some((_, known)) = self.slices.get_mut(at) {
                    *known = lean_slice(slice);
                }
            }
            (None, true) => {}
            (None, false) => {
                self.slices.reserve_exact(1);
                self.slices.push((name, lean_slice(slice)));
            }
        }
    }

    fn wanted(&mut self, port: &Port) -> Option<&mut Wanted> {
        self.backends.iter_mut().find(|(known, _)| known == port).map(|(_, wanted)| wanted)
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
        endpoint.addresses.shrink_to_fit();
    }
    slice.endpoints.iter_mut().for_each(Vec::shrink_to_fit);
    slice.ports.iter_mut().for_each(Vec::shrink_to_fit);
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
        let backends = &self.services.get(&target.service)?.backends;
        backends.iter().find(|(port, _)| *port == target.port).map(|(_, wanted)| &wanted.backend)
    }

    /// An Ingress wants a target.
    pub fn want(&mut self, target: &Target, ingress: &Key) {
        let known = self.services.entry(target.service.clone()).or_default();
        match known.wanted(&target.port) {
            Some(wanted) if wanted.by.contains(ingress) => {}
            Some(wanted) => wanted.by.push(ingress.clone()),
            None => {
                let backend = Arc::new(Backend::of(Err(Refusal::NoService(target.service.clone()))));
                let wanted = Wanted { by: vec![ingress.clone()], backend };
                known.backends.reserve_exact(1);
                known.backends.push((target.port.clone(), wanted));
                self.compile(&target.service);
            }
        }
    }

    /// An Ingress no longer wants a target.
    pub fn unwant(&mut self, target: &Target, ingress: &Key) {
        let Some(known) = self.services.get_mut(&target.service) else { return };
        if let Some(wanted) = known.wanted(&target.port) {
            wanted.by.retain(|other| other != ingress);
        }
        known.backends.retain(|(_, wanted)| !wanted.by.is_empty());
        self.compile(&target.service);
    }

    /// A Service as it is now, or that it is gone.
    pub fn set_service(&mut self, key: &Key, service: Option<Arc<Service>>) {
        self.services.entry(key.clone()).or_default().service = service.map(|service| Exposed::of(&service));
        self.compile(key);
    }

    /// All Services.
    pub fn replace_services(&mut self, services: impl IntoIterator<Item = (Key, Arc<Service>)>) {
        self.services.values_mut().for_each(|known| known.service = None);
        for (key, service) in services {
            self.services.entry(key).or_default().service = Some(Exposed::of(&service));
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

    /// The node is in this zone from now on.
    pub fn set_zone(&mut self, zone: Option<String>) {
        if self.facts.zone != zone {
            self.facts.zone = zone;
            self.compile_all();
        }
    }

    /// The Ingresses that name a Service.
    pub fn users(&self, service: &Key) -> BTreeSet<Key> {
        let known = self.services.get(service);
        let backends = known.into_iter().flat_map(|known| known.backends.iter().map(|(_, wanted)| wanted));
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
            let resolved = resolve(
                &target,
                known.service.as_ref(),
                known.slices.iter().map(|(_, slice)| slice),
                &self.facts,
            );
            wanted.backend = Arc::new(Backend::of(resolved.map(|(addresses, speaks)| {
                let before = wanted.backend.endpoints.as_deref().unwrap_or_default();
                let kept = |at| before.iter().find(|u| u.address() == at && u.speaks() == speaks).cloned();
                let upstream =
                    |at| kept(at).unwrap_or_else(|| Arc::new(Upstream::new(at, speaks, key.clone())));
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
