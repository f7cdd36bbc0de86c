//! All that the cluster says about Ingresses, ready for requests: routes, backends, certificates. Pure but for the
//! endpoints' connections; the actor is its only writer, and requests read it under a short lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::backends::{Backend, Backends, Refusal};
use super::certificates::Certificates;
use super::claims::{Claims, Goal, Key};
use super::routes::Routes;

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Found {
    /// To a backend, which may have nothing ready.
    Backend(Arc<Backend>),
    /// Nowhere, though an Ingress says where.
    Refused(Refusal),
    /// No Ingress says where.
    Nothing,
    /// Not all is known yet.
    Unknown,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    /// Whether all has been listed, so that what is not here does not exist.
    pub complete: bool,
    routes: Routes,
    backends: Backends,
    /// By host.
    pub certificates: Certificates,
}

impl Table {
    /// Nothing yet, on a node of this name.
    pub fn new(node: &str) -> Self {
        Table {
            complete: false,
            routes: Routes::default(),
            backends: Backends::new(node),
            certificates: Certificates::default(),
        }
    }

    /// What an Ingress of ours asks for now; `None` where it is gone, or no longer ours. Answers the Secrets that it
    /// named before or names now.
    pub fn set_ingress(&mut self, key: &Key, now: Option<Arc<Claims>>) -> BTreeSet<Key> {
        if now.as_ref() == self.routes.claims(key) {
            return BTreeSet::new();
        }
        if let Some(now) = &now {
            // First: what stays is not to be forgotten for a moment.
            now.targets().into_iter().for_each(|target| self.backends.want(target, key));
        }
        let before = self.routes.set(key, now);
        let now = self.routes.claims(key);
        if let Some(before) = &before {
            let kept = now.map(|now| now.targets()).unwrap_or_default();
            for target in before.targets().into_iter().filter(|target| !kept.contains(target)) {
                self.backends.unwant(target, key);
            }
        }
        self.certificates.change(before.as_deref(), now.map(|now| &**now));
        before.iter().chain(now).flat_map(|claims| claims.secrets()).cloned().collect()
    }

    /// The Ingresses in it.
    pub fn ingresses(&self) -> impl Iterator<Item = &Key> {
        self.routes.ingresses()
    }

    /// A Service as it is now; `None` where it is gone.
    pub fn set_service(&mut self, key: &Key, service: Option<Arc<Service>>) {
        self.backends.set_service(key, service);
    }

    /// All Services.
    pub fn replace_services(&mut self, services: impl IntoIterator<Item = (Key, Arc<Service>)>) {
        self.backends.replace_services(services);
    }

    /// The node is in this zone from now on: endpoints may be meant for some zones.
    pub fn set_zone(&mut self, zone: Option<String>) {
        self.backends.set_zone(zone);
    }

    /// A slice as it is now, or that it is `gone`.
    pub fn set_slice(&mut self, slice: EndpointSlice, gone: bool) {
        self.backends.set_slice(slice, gone);
    }

    /// All slices.
    pub fn replace_slices(&mut self, slices: impl IntoIterator<Item = EndpointSlice>) {
        self.backends.replace_slices(slices);
    }

    /// Where a request goes: `host` in lower case and without port, `path` as it was sent, without the query.
    pub fn find(&self, host: &str, path: &str) -> Found {
        match self.routes.find(host, path).map(|route| &*route.goal) {
            _ if !self.complete => Found::Unknown,
            None => Found::Nothing,
            Some(goal) => self.reach(goal),
        }
    }

    fn reach(&self, goal: &Goal) -> Found {
        match goal {
            Goal::Resource(what) => Found::Refused(Refusal::Resource(what.clone())),
            Goal::Service(target) => match self.backends.get(target) {
                Some(backend) => Found::Backend(backend.clone()),
                None => Found::Refused(Refusal::NoService(target.service.clone())),
            },
        }
    }

    /// The Ingresses that name a Service.
    pub fn users(&self, service: &Key) -> BTreeSet<Key> {
        self.backends.users(service)
    }

    /// What is wrong with an Ingress that its owner should know: reason and text of each, in order.
    pub fn faults(&self, ingress: &Key) -> BTreeSet<(&'static str, String)> {
        let Some(claims) = self.routes.claims(ingress) else { return BTreeSet::new() };
        let secrets = claims.secrets();
        let secrets = secrets.into_iter().filter_map(|secret| self.certificates.fault(secret));
        let secrets = secrets.map(|fault| (fault.reason(), fault.to_string()));
        let refused = claims.goals().filter_map(|goal| match self.reach(goal) {
            Found::Backend(backend) => backend.refusal().cloned(),
            Found::Refused(refusal) => Some(refusal),
            Found::Nothing | Found::Unknown => None,
        });
        let refused = refused.filter(Refusal::is_lasting).map(|r| ("BackendRefused", r.to_string()));
        secrets.chain(refused).collect()
    }
}

#[cfg(test)]
mod tests;
