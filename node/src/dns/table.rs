//! What the cluster says about names: services, endpoints, pods and namespaces, indexed for queries.
//!
//! Pure: changes in, look-ups out, no I/O and no clock. A change touches only what it is about; a relist
//! replaces one kind as a whole.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::labels::SERVICE_NAME;

/// The kinds that the table is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    Slice,
    /// Pods, only followed where pod records are verified.
    Pod,
    /// Namespaces.
    Namespace,
}

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Virtual addresses.
    Virtual(Vec<IpAddr>),
    /// The endpoints themselves.
    Headless {
        /// Endpoints that are not ready count too.
        publish_not_ready: bool,
    },
    /// Another name.
    External(String),
}

/// A named or unnamed port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name, empty for none.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub number: u16,
}

impl Port {
    fn read(name: Option<&String>, protocol: Option<&String>, number: Option<i32>) -> Option<Port> {
        Some(Port {
            name: name.map(|n| n.to_ascii_lowercase()).unwrap_or_default(),
            protocol: protocol.map_or_else(|| "tcp".to_owned(), |p| p.to_ascii_lowercase()),
            number: u16::try_from(number?).ok()?,
        })
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What its name stands for.
    pub target: Target,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses; all mean the same endpoint.
    pub addresses: Vec<IpAddr>,
    /// The host name that the pod asked for.
    pub hostname: Option<String>,
    /// Whether it takes traffic; unknown counts as yes.
    pub ready: bool,
}

impl Endpoint {
    /// Its label below the service's name: the host name, or one made of the address.
    pub fn label(&self, address: IpAddr) -> String {
        self.hostname.clone().unwrap_or_else(|| dashed(address))
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name of its service.
    pub service: String,
    /// Ports that all its endpoints have.
    pub ports: Vec<Port>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// What a change says about one object; `None` is that it is gone, or has nothing to say in the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A service.
    Service(Option<Service>),
    /// An EndpointSlice.
    Slice(Option<Slice>),
    /// A pod's addresses.
    Pod(Option<Vec<IpAddr>>),
    /// A namespace.
    Namespace(Option<()>),
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its namespace; empty for a namespace itself.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is known of it now.
    pub fact: Fact,
}

/// A kind that the table can read.
pub trait Watched: protocol::client::Object {
    /// Which part of the table it feeds.
    const PART: Kind;
    /// What the object says; `gone` when it was deleted.
    fn fact(&self, gone: bool) -> Fact;
    /// The change that the object stands for.
    fn change(&self, gone: bool) -> Change {
        let ObjectMeta { namespace, name, .. } = self.metadata();
        Change {
            namespace: namespace.clone().unwrap_or_default(),
            name: name.clone().unwrap_or_default(),
            fact: self.fact(gone),
        }
    }
}

impl Watched for v1::Service {
    const PART: Kind = Kind::Service;
    fn fact(&self, gone: bool) -> Fact {
        let Some(spec) = self.spec.as_ref().filter(|_| !gone) else { return Fact::Service(None) };
        let ports = spec.ports.iter().flatten();
        let ports =
            ports.filter_map(|p| Port::read(p.name.as_ref(), p.protocol.as_ref(), Some(p.port))).collect();
        let given = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let mut addresses: Vec<IpAddr> = given.filter_map(|ip| ip.parse().ok()).collect();
        let mut seen = HashSet::new();
        addresses.retain(|ip| seen.insert(*ip));
        let target = if spec.type_.as_deref() == Some("ExternalName") {
            match spec.external_name.as_deref().filter(|n| !n.is_empty()) {
                Some(name) => Target::External(name.to_owned()),
                None => return Fact::Service(None),
            }
        } else if spec.cluster_ip.as_deref() == Some("None") {
            Target::Headless { publish_not_ready: spec.publish_not_ready_addresses == Some(true) }
        } else if addresses.is_empty() {
            // Not allocated yet: no name yet either.
            return Fact::Service(None);
        } else {
            Target::Virtual(addresses)
        };
        Fact::Service(Some(Service { target, ports }))
    }
}

impl Watched for EndpointSlice {
    const PART: Kind = Kind::Slice;
    fn fact(&self, gone: bool) -> Fact {
        let service = self.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME));
        let Some(service) = service.filter(|_| !gone) else { return Fact::Slice(None) };
        let ports = self.ports.iter().flatten();
        let ports = ports.filter_map(|p| Port::read(p.name.as_ref(), p.protocol.as_ref(), p.port)).collect();
        // Addresses of type FQDN do not parse, and have no records.
        let endpoints = self.endpoints.iter().flatten().map(|e| Endpoint {
            addresses: e.addresses.iter().filter_map(|ip| ip.parse().ok()).collect(),
            hostname: e.hostname.as_ref().filter(|h| !h.is_empty()).map(|h| h.to_ascii_lowercase()),
            ready: e.conditions.as_ref().and_then(|c| c.ready) != Some(false),
        });
        Fact::Slice(Some(Slice { service: service.clone(), ports, endpoints: endpoints.collect() }))
    }
}

impl Watched for v1::Pod {
    const PART: Kind = Kind::Pod;
    fn fact(&self, gone: bool) -> Fact {
        let Some(status) = self.status.as_ref().filter(|_| !gone) else { return Fact::Pod(None) };
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Fact::Pod(None);
        }
        let more = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
        let addresses: BTreeSet<IpAddr> =
            more.chain(&status.pod_ip).filter_map(|ip| ip.parse().ok()).collect();
        Fact::Pod(Some(addresses.into_iter().collect()).filter(|a: &Vec<_>| !a.is_empty()))
    }
}

impl Watched for v1::Namespace {
    const PART: Kind = Kind::Namespace;
    fn fact(&self, gone: bool) -> Fact {
        Fact::Namespace((!gone).then_some(()))
    }
}

/// `10-0-0-1` for 10.0.0.1, `fd00--1` for fd00::1.
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// Reads [`dashed`] back.
pub fn undashed(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().or_else(|_| label.replace('-', ":").parse()).ok()
}

#[derive(Default)]
struct Space {
    /// The namespace object exists.
    declared: bool,
    services: HashMap<String, Service>,
    slices: HashMap<String, Slice>,
    /// Names of the slices of each service.
    slices_of: HashMap<String, BTreeSet<String>>,
    pods: HashMap<String, Vec<IpAddr>>,
    /// How many pods have an address: pods on the host's network share theirs.
    pod_addresses: HashMap<IpAddr, usize>,
}

impl Space {
    fn is_empty(&self) -> bool {
        !self.declared && self.services.is_empty() && self.slices.is_empty() && self.pods.is_empty()
    }
}

/// The table.
#[derive(Default)]
pub struct Table {
    spaces: HashMap<String, Space>,
    /// Namespace and name of the service that has an address.
    virtual_addresses: HashMap<IpAddr, BTreeSet<(String, String)>>,
    /// Namespaces and names of the slices that an address is in.
    endpoint_addresses: HashMap<IpAddr, BTreeSet<(String, String)>>,
    listed: HashSet<Kind>,
}

impl Table {
    /// Whether services and endpoints were listed once: before that, absence means nothing.
    pub fn is_ready(&self) -> bool {
        self.has_listed(Kind::Service) && self.has_listed(Kind::Slice)
    }

    /// Whether a kind was listed once.
    pub fn has_listed(&self, kind: Kind) -> bool {
        self.listed.contains(&kind)
    }

    /// Replaces all objects of a kind by those of a list.
    pub fn replace(&mut self, kind: Kind, changes: Vec<Change>) {
        let kept: HashSet<(&str, &str)> =
            changes.iter().map(|c| (c.namespace.as_str(), c.name.as_str())).collect();
        let mut gone = Vec::new();
        for (namespace, space) in &self.spaces {
            let (names, fact): (Vec<&String>, Fact) = match kind {
                Kind::Service => (space.services.keys().collect(), Fact::Service(None)),
                Kind::Slice => (space.slices.keys().collect(), Fact::Slice(None)),
                Kind::Pod => (space.pods.keys().collect(), Fact::Pod(None)),
                Kind::Namespace => {
                    if space.declared && !kept.contains(&("", namespace.as_str())) {
                        let name = namespace.clone();
                        gone.push(Change { namespace: String::new(), name, fact: Fact::Namespace(None) });
                    }
                    continue;
                }
            };
            for name in names.into_iter().filter(|n| !kept.contains(&(namespace.as_str(), n.as_str()))) {
                gone.push(Change { namespace: namespace.clone(), name: name.clone(), fact: fact.clone() });
            }
        }
        for change in gone.into_iter().chain(changes) {
            self.apply(change);
        }
        self.listed.insert(kind);
    }

    /// Takes one change in.
    pub fn apply(&mut self, change: Change) {
        let Change { namespace, name, fact } = change;
        let space_name = if matches!(fact, Fact::Namespace(_)) { name.clone() } else { namespace };
        let space = self.spaces.entry(space_name.clone()).or_default();
        let owner = (space_name.clone(), name.clone());
        match fact {
            Fact::Namespace(there) => space.declared = there.is_some(),
            Fact::Service(new) => {
                let addresses = |service: Option<&Service>| match service.map(|s| &s.target) {
                    Some(Target::Virtual(addresses)) => addresses.clone(),
                    _ => Vec::new(),
                };
                let new_addresses = addresses(new.as_ref());
                let old = put(&mut space.services, name, new);
                reindex(&mut self.virtual_addresses, &owner, addresses(old.as_ref()), new_addresses);
            }
            Fact::Slice(new) => {
                let addresses = |slice: Option<&Slice>| -> Vec<IpAddr> {
                    slice.iter().flat_map(|s| &s.endpoints).flat_map(|e| e.addresses.clone()).collect()
                };
                let new_addresses = addresses(new.as_ref());
                let new_service = new.as_ref().map(|s| s.service.clone());
                let old = put(&mut space.slices, name.clone(), new);
                if let Some(old) = &old
                    && let Some(slices) = space.slices_of.get_mut(&old.service)
                {
                    slices.remove(&name);
                    if slices.is_empty() {
                        space.slices_of.remove(&old.service);
                    }
                }
                if let Some(service) = new_service {
                    space.slices_of.entry(service).or_default().insert(name);
                }
                reindex(&mut self.endpoint_addresses, &owner, addresses(old.as_ref()), new_addresses);
            }
            Fact::Pod(new) => {
                for address in new.iter().flatten() {
                    *space.pod_addresses.entry(*address).or_default() += 1;
                }
                for address in put(&mut space.pods, name, new).iter().flatten() {
                    if let Some(count) = space.pod_addresses.get_mut(address) {
                        *count -= 1;
                        if *count == 0 {
                            space.pod_addresses.remove(address);
                        }
                    }
                }
            }
        }
        if space.is_empty() {
            self.spaces.remove(&space_name);
        }
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.spaces.contains_key(namespace)
    }

    /// Whether a pod of the namespace has the address.
    pub fn has_pod(&self, namespace: &str, address: IpAddr) -> bool {
        self.spaces.get(namespace).is_some_and(|s| s.pod_addresses.contains_key(&address))
    }

    /// A service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.spaces.get(namespace)?.services.get(name)
    }

    /// The slices of a service.
    pub fn slices(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Slice> {
        let space = self.spaces.get(namespace);
        let names = space.and_then(|s| s.slices_of.get(service)).into_iter().flatten();
        names.filter_map(move |name| space?.slices.get(name))
    }

    /// The endpoints of a service that have records.
    pub fn endpoints(&self, namespace: &str, name: &str) -> Vec<(&Slice, &Endpoint)> {
        let all = matches!(
            self.service(namespace, name).map(|s| &s.target),
            Some(Target::Headless { publish_not_ready: true })
        );
        let slices = self.slices(namespace, name);
        slices.flat_map(|s| s.endpoints.iter().filter(move |e| e.ready || all).map(move |e| (s, e))).collect()
    }

    /// The names below the cluster's domain that an address has: those of services whose virtual address it
    /// is, then those of endpoints of headless services.
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        let services = self.virtual_addresses.get(&address).into_iter().flatten();
        let services = services.map(|(namespace, name)| format!("{name}.{namespace}.svc"));
        let mut names: BTreeSet<String> = services.collect();
        for (namespace, slice) in self.endpoint_addresses.get(&address).into_iter().flatten() {
            let Some(slice) = self.spaces.get(namespace).and_then(|s| s.slices.get(slice)) else { continue };
            let Some(Service { target: Target::Headless { publish_not_ready }, .. }) =
                self.service(namespace, &slice.service)
            else {
                continue;
            };
            for endpoint in slice.endpoints.iter().filter(|e| e.addresses.contains(&address)) {
                if endpoint.ready || *publish_not_ready {
                    let label = endpoint.label(address);
                    names.insert(format!("{label}.{}.{namespace}.svc", slice.service));
                }
            }
        }
        names.into_iter().collect()
    }
}

fn put<V>(map: &mut HashMap<String, V>, name: String, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(name, value),
        None => map.remove(&name),
    }
}

fn reindex(
    index: &mut HashMap<IpAddr, BTreeSet<(String, String)>>,
    owner: &(String, String),
    old: Vec<IpAddr>,
    new: Vec<IpAddr>,
) {
    for address in old {
        if let Some(owners) = index.get_mut(&address) {
            owners.remove(owner);
            if owners.is_empty() {
                index.remove(&address);
            }
        }
    }
    for address in new {
        index.entry(address).or_default().insert(owner.clone());
    }
}
