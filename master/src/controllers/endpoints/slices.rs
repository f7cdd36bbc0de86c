//! The EndpointSlices of a Service: at most a hundred endpoints each, grouped by ports, and changed with as
//! few writes as possible, because every node watches them. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use protocol::labels::SERVICE_NAME;

use super::pods::{
    HEADLESS, addresses_of, hostname, is_headless, may_serve, ports, protocol, publishes_unready, target_port,
};
use super::subsets::pod_reference;
use super::trigger::TRIGGER_TIME;
use crate::controllers::machinery::labels::Labels;
use crate::controllers::machinery::meta::{is_deleting, name, namespace};
use crate::controllers::machinery::pods::{is_ready, name_prefix, node_name};

/// Endpoints that one slice holds.
pub const ENDPOINTS_MAX: usize = 100;
/// Label that names who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Ports of a slice, in an order that makes equal sets equal.
type Ports = Vec<(String, Option<i32>, String, Option<String>)>;

/// What to write.
#[derive(Debug, Default)]
pub struct Plan {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Slices with new content.
    pub update: Vec<EndpointSlice>,
    /// Names of slices to delete.
    pub delete: Vec<String>,
}

impl Plan {
    /// Puts an annotation on all that is written.
    pub fn annotate(&mut self, key: &str, value: &str) {
        for slice in self.create.iter_mut().chain(&mut self.update) {
            let annotations = slice.metadata.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// What slices are made of: who owns them, how they are named and labelled.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Namespace.
    pub namespace: String,
    /// Prefix of generated names.
    pub generate_name: String,
    /// The object that they are garbage-collected with.
    pub owner: OwnerReference,
    /// Labels, [`SERVICE_NAME`] and [`MANAGED_BY`] included.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Option<Labels>,
}

impl Frame {
    /// The frame of a Service's slices.
    pub fn of(service: &Service, owner: OwnerReference) -> Self {
        let reserved = [SERVICE_NAME, MANAGED_BY, HEADLESS];
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.retain(|k, _| !reserved.contains(&k.as_str()));
        labels.insert(SERVICE_NAME.to_owned(), name(&service.metadata).to_owned());
        labels.insert(MANAGED_BY.to_owned(), "endpointslice-controller.k8s.io".to_owned());
        if is_headless(service) {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        Frame {
            namespace: namespace(&service.metadata).to_owned(),
            generate_name: name_prefix(name(&service.metadata)),
            owner,
            labels,
            annotations: None,
        }
    }
}

/// The address types of a Service.
pub fn address_types(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.as_deref()).unwrap_or_default();
    let mut types: Vec<&str> = Vec::new();
    for family in families {
        types.push(if family == "IPv6" { "IPv6" } else { "IPv4" });
    }
    if types.is_empty() {
        let v6 = spec.and_then(|s| s.cluster_ip.as_deref()).is_some_and(|ip| ip.contains(':'));
        types.push(if v6 { "IPv6" } else { "IPv4" });
    }
    types
}

/// Endpoints of one address type, grouped by the ports that their pods serve. `zone_of` knows the nodes and their zones:
/// a pod on a node that there is not is left out, unless the Service publishes whatever there is.
pub fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    address_type: &str,
    zone_of: impl Fn(&str) -> Option<Option<String>>,
) -> BTreeMap<Ports, Vec<Endpoint>> {
    let mut groups: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
    let unready_too = publishes_unready(service);
    for pod in pods.iter().filter(|p| may_serve(p, true)) {
        let addresses: Vec<String> = addresses_of(pod, address_type == "IPv6").map(str::to_owned).collect();
        if addresses.is_empty() {
            continue;
        }
        let mut served: Ports = Vec::new();
        for port in ports(service) {
            if let Some(number) = target_port(pod, port) {
                let name = port.name.clone().unwrap_or_default();
                served.push((name, Some(number), protocol(port).to_owned(), port.app_protocol.clone()));
            }
        }
        sort_ports(&mut served);
        let serving = is_ready(pod);
        let terminating = is_deleting(&pod.metadata);
        let node = Some(node_name(pod).to_owned()).filter(|n| !n.is_empty());
        let ready = unready_too || (serving && !terminating);
        let zone = match node.as_deref().and_then(&zone_of) {
            Some(zone) => zone,
            None if unready_too => None,
            None => continue,
        };
        groups.entry(served).or_default().push(Endpoint {
            addresses,
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: hostname(pod, service),
            hints: if ready { hints(service, zone.as_deref(), node.as_deref()) } else { None },
            zone,
            node_name: node,
            target_ref: Some(pod_reference(pod)),
            ..Endpoint::default()
        });
    }
    groups
}

/// Whom an endpoint is for, where its Service prefers endpoints that are close. Nodes that prefer their own endpoints
/// prefer their zone's before all.
fn hints(service: &Service, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let node = match service.spec.as_ref()?.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => None,
        "PreferSameNode" => node,
        _ => return None,
    };
    let hints = EndpointHints {
        for_zones: zone.map(|name| vec![ForZone { name: name.to_owned() }]),
        for_nodes: node.map(|name| vec![ForNode { name: name.to_owned() }]),
    };
    (hints != EndpointHints::default()).then_some(hints)
}

fn sort_ports(ports: &mut Ports) {
    // Any fixed order does.
    ports.sort_by(|a, b| b.cmp(a));
}

fn ports_of(slice: &EndpointSlice) -> Ports {
    let mut ports: Ports = slice
        .ports
        .iter()
        .flatten()
        .map(|p| {
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            (p.name.clone().unwrap_or_default(), p.port, protocol, p.app_protocol.clone())
        })
        .collect();
    sort_ports(&mut ports);
    ports
}

/// Whom an endpoint stands for: an endpoint that changes otherwise stays in its slice.
fn identity(endpoint: &Endpoint) -> (String, Vec<String>) {
    let target = endpoint.target_ref.as_ref().and_then(|t| t.uid.clone().or_else(|| t.name.clone()));
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    (target.unwrap_or_default(), addresses)
}

/// Fits the desired endpoints of one address type into the existing slices. With `placeholder`, one empty
/// slice stays where there are no endpoints at all, so that readers can tell "none" from "not yet".
pub fn plan(
    frame: &Frame,
    address_type: &str,
    existing: &[Arc<EndpointSlice>],
    desired: BTreeMap<Ports, Vec<Endpoint>>,
    placeholder: bool,
) -> Plan {
    let mut plan = Plan::default();
    let mut by_ports: BTreeMap<Ports, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing.iter().filter(|s| !is_deleting(&s.metadata)) {
        if slice.address_type == address_type {
            by_ports.entry(ports_of(slice)).or_default().push(slice);
        } else {
            plan.delete.push(name(&slice.metadata).to_owned());
        }
    }
    let mut wanted = desired;
    if wanted.values().all(Vec::is_empty) {
        wanted.clear();
        if placeholder {
            wanted.insert(Ports::new(), Vec::new());
        }
    }
    for (ports, slices) in &by_ports {
        if !wanted.contains_key(ports) {
            plan.delete.extend(slices.iter().map(|s| name(&s.metadata).to_owned()));
        }
    }
    for (ports, endpoints) in wanted {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        fit(frame, address_type, &ports, &slices, endpoints, placeholder, &mut plan);
    }
    reuse(address_type, existing, &mut plan);
    plan
}

/// Lets slices that would go take the place of those that would come, so that nobody sees both, or neither.
fn reuse(address_type: &str, existing: &[Arc<EndpointSlice>], plan: &mut Plan) {
    let spare =
        |n: &String| existing.iter().find(|s| name(&s.metadata) == n && s.address_type == address_type);
    let mut create = std::mem::take(&mut plan.create);
    while let Some(at) = plan.delete.iter().position(|n| spare(n).is_some())
        && let Some(new) = create.pop()
    {
        let Some(old) = spare(&plan.delete.remove(at)) else { break };
        let mut copy = (**old).clone();
        copy.endpoints = new.endpoints;
        copy.ports = new.ports;
        copy.metadata.labels = new.metadata.labels;
        copy.metadata.annotations = new.metadata.annotations;
        plan.update.push(copy);
    }
    plan.create = create;
}

struct Draft<'a> {
    slice: &'a EndpointSlice,
    kept: Vec<Endpoint>,
    changed: bool,
}

fn fit(
    frame: &Frame,
    address_type: &str,
    ports: &Ports,
    slices: &[&Arc<EndpointSlice>],
    endpoints: Vec<Endpoint>,
    placeholder: bool,
    plan: &mut Plan,
) {
    let mut order: Vec<(String, Vec<String>)> = Vec::with_capacity(endpoints.len());
    let mut open: HashMap<(String, Vec<String>), Endpoint> = HashMap::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let id = identity(&endpoint);
        order.push(id.clone());
        open.insert(id, endpoint);
    }
    let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(slices.len());
    for slice in slices {
        let before = slice.endpoints.as_deref().unwrap_or_default();
        let mut kept = Vec::with_capacity(before.len());
        let mut changed = !framed(frame, slice);
        for endpoint in before {
            match open.remove(&identity(endpoint)) {
                Some(now) => {
                    changed |= now != *endpoint;
                    kept.push(now);
                }
                None => changed = true,
            }
        }
        drafts.push(Draft { slice, kept, changed });
    }
    let mut left: Vec<Endpoint> = order.iter().filter_map(|id| open.remove(id)).collect();
    // Slices that are written anyway take new endpoints first, the fullest of them before the others.
    drafts.sort_by_key(|d| (!d.changed, std::cmp::Reverse(d.kept.len())));
    for draft in drafts.iter_mut().filter(|d| d.changed) {
        let room = ENDPOINTS_MAX.saturating_sub(draft.kept.len()).min(left.len());
        draft.kept.extend(left.drain(..room));
    }
    // Then one unchanged slice that has room for all the rest; otherwise full new slices come first.
    while left.len() >= ENDPOINTS_MAX {
        let rest = left.split_off(ENDPOINTS_MAX);
        plan.create.push(new_slice(frame, address_type, ports, std::mem::replace(&mut left, rest)));
    }
    if !left.is_empty() {
        let fits = drafts.iter_mut().filter(|d| !d.changed && d.kept.len() + left.len() <= ENDPOINTS_MAX);
        match fits.max_by_key(|d| d.kept.len()) {
            Some(draft) => {
                draft.kept.append(&mut left);
                draft.changed = true;
            }
            None => plan.create.push(new_slice(frame, address_type, ports, left)),
        }
    }
    // An empty slice goes, but the last one of a Service without endpoints stays as its placeholder.
    let mut survivors = plan.create.len() + drafts.iter().filter(|d| !d.kept.is_empty()).count();
    for draft in drafts {
        if draft.kept.is_empty() && (survivors > 0 || !placeholder) {
            plan.delete.push(name(&draft.slice.metadata).to_owned());
        } else {
            survivors += usize::from(draft.kept.is_empty());
            if draft.changed {
                let mut slice = draft.slice.clone();
                slice.metadata.labels = Some(frame.labels.clone());
                slice.metadata.annotations = frame.annotations.clone();
                slice.endpoints = Some(draft.kept);
                plan.update.push(slice);
            }
        }
    }
    if survivors == 0 && placeholder {
        plan.create.push(new_slice(frame, address_type, ports, Vec::new()));
    }
}

fn framed(frame: &Frame, slice: &EndpointSlice) -> bool {
    let told = |annotations: &Option<Labels>| -> Labels {
        annotations
            .iter()
            .flatten()
            .filter(|(k, _)| *k != TRIGGER_TIME)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    slice.metadata.labels.as_ref() == Some(&frame.labels)
        && told(&slice.metadata.annotations) == told(&frame.annotations)
}

fn new_slice(frame: &Frame, address_type: &str, ports: &Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let ports = ports.iter().map(|(name, port, protocol, app_protocol)| EndpointPort {
        name: Some(name.clone()),
        port: *port,
        protocol: Some(protocol.clone()),
        app_protocol: app_protocol.clone(),
    });
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(frame.generate_name.clone()),
            namespace: Some(frame.namespace.clone()),
            labels: Some(frame.labels.clone()),
            annotations: frame.annotations.clone(),
            owner_references: Some(vec![frame.owner.clone()]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.collect()),
    }
}

#[cfg(test)]
mod tests;
