//! A pod as the scheduler sees it: everything that plugins ask, compiled once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Toleration};
use protocol::Selector;
use protocol::selector::{Operator, Requirement};

use super::devices;
use super::facts::HostPort;
use super::resources::{Amounts, pod_nonzero, pod_requests};
use crate::controllers::machinery::labels::{Labels, selector_option};
use crate::controllers::machinery::meta::{created_second, is_deleting};

/// See the module.
#[derive(Clone, Debug)]
pub struct PodFacts {
    /// The pod's uid.
    pub uid: Arc<str>,
    /// The pod, as last seen.
    pub pod: Arc<Pod>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it requests.
    pub requests: Amounts,
    /// CPU and memory with defaults.
    pub nonzero: (i64, i64),
    /// Host ports.
    pub ports: Vec<HostPort>,
    /// Claims of volumes that it names.
    pub volume_claims: Vec<String>,
    /// Claims of devices that it names, or that are named in its status.
    pub device_claims: Vec<String>,
    /// Priority; higher goes first.
    pub priority: i32,
    /// Affinity to, and against, other pods.
    pub affinity: Affinity,
    /// Node affinity and selector.
    pub nodes: NodeAffinity,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When it was made, or began to run, in seconds.
    pub started: i64,
}

/// Required and preferred pod affinity.
#[derive(Clone, Debug, Default)]
pub struct Affinity {
    /// Must run near such pods.
    pub required: Vec<Term>,
    /// Must not.
    pub required_anti: Vec<Term>,
    /// Would rather; with weights, negative for "would rather not".
    pub preferred: Vec<(i64, Term)>,
}

/// One pod affinity term.
#[derive(Clone, Debug)]
pub struct Term {
    /// What "near" means: equal values of this node label.
    pub topology_key: String,
    selector: Selector,
    namespaces: Vec<String>,
    namespace_selector: Option<Selector>,
}

impl Term {
    fn of(pod: &Pod, term: &PodAffinityTerm) -> Self {
        let own = pod.metadata.namespace.clone().unwrap_or_default();
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        let namespace_selector = term
            .namespace_selector
            .as_ref()
            .map(|s| Selector::from_label_selector(s).unwrap_or_else(|_| Selector::nothing()));
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(own);
        }
        let mut selector = selector_option(term.label_selector.as_ref());
        let labels = pod.metadata.labels.as_ref();
        let value = |key: &String| labels.and_then(|l| l.get(key)).cloned();
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = value(key) {
                selector
                    .requirements
                    .push(Requirement { key: key.clone(), operator: Operator::In(vec![value]) });
            }
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = value(key) {
                selector
                    .requirements
                    .push(Requirement { key: key.clone(), operator: Operator::NotIn(vec![value]) });
            }
        }
        Term { topology_key: term.topology_key.clone(), selector, namespaces, namespace_selector }
    }

    /// Whether the term is about such a pod.
    pub fn selects(&self, other: &PodFacts, namespace_labels: Option<&Labels>) -> bool {
        let here = self.namespaces.contains(&other.namespace)
            || self.namespace_selector.as_ref().is_some_and(|s| {
                s.is_everything() || namespace_labels.is_some_and(|labels| s.matches(labels))
            });
        here && self.selector.matches_by(|key| other.label(key))
    }
}

/// Which nodes a pod may, and would like to, run on.
#[derive(Clone, Debug, Default)]
pub struct NodeAffinity {
    /// From `nodeSelector`.
    pub selector: Option<Selector>,
    /// Any of these terms; `None` for no demand.
    pub required: Option<Vec<NodeTerm>>,
    /// Each adds its weight.
    pub preferred: Vec<(i64, NodeTerm)>,
}

/// One node selector term: all its requirements hold.
#[derive(Clone, Debug)]
pub struct NodeTerm {
    labels: Selector,
    /// What the node may be called, where the term says so.
    pub(super) name: Option<Selector>,
}

impl NodeTerm {
    fn of(term: &NodeSelectorTerm) -> Self {
        let compile = |list: &Option<Vec<k8s_openapi::api::core::v1::NodeSelectorRequirement>>| {
            let mut selector = Selector::default();
            for r in list.iter().flatten() {
                let values = r.values.clone().unwrap_or_default();
                let number = || values.first().and_then(|v| v.parse().ok());
                let operator = match (r.operator.as_str(), number()) {
                    ("In", _) => Operator::In(values),
                    ("NotIn", _) => Operator::NotIn(values),
                    ("Exists", _) => Operator::Exists,
                    ("DoesNotExist", _) => Operator::DoesNotExist,
                    ("Gt", Some(n)) => Operator::Greater(n),
                    ("Lt", Some(n)) => Operator::Less(n),
                    _ => return Selector::nothing(),
                };
                selector.requirements.push(Requirement { key: r.key.clone(), operator });
            }
            selector
        };
        let fields =
            term.match_fields.as_ref().is_some_and(|f| !f.is_empty()).then(|| compile(&term.match_fields));
        let labels = compile(&term.match_expressions);
        // A term that demands nothing matches no node.
        let empty = fields.is_none() && labels.is_everything();
        NodeTerm { labels: if empty { Selector::nothing() } else { labels }, name: fields }
    }

    /// Whether the term allows a node by its name; a term that asks for none allows all.
    pub fn names(&self, node: &str) -> bool {
        self.name.as_ref().is_none_or(|s| s.matches_by(|key| (key == "metadata.name").then_some(node)))
    }

    /// Whether a node is such a one.
    pub fn matches<'a>(&self, name: &'a str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.labels.matches_by(label) && self.names(name)
    }
}

/// The terms of a node selector, any of which is enough.
pub fn node_terms(selector: &NodeSelector) -> Vec<NodeTerm> {
    selector.node_selector_terms.iter().map(NodeTerm::of).collect()
}

impl NodeAffinity {
    /// What a pod's spec says.
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
            .map(node_terms);
        let preferred = affinity
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
            .into_iter()
            .flatten()
            .filter(|t| t.weight != 0)
            .map(|t| (i64::from(t.weight), NodeTerm::of(&t.preference)))
            .collect();
        let selector = spec.node_selector.as_ref().filter(|s| !s.is_empty()).map(Selector::from_map);
        NodeAffinity { selector, required, preferred }
    }

    /// Whether the pod may run on a node.
    pub fn allows<'a>(&self, name: &'a str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.selector.as_ref().is_none_or(|s| s.matches_by(&label))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(name, &label)))
    }
}

impl PodFacts {
    /// Reads a pod.
    pub fn of(pod: Arc<Pod>) -> Self {
        let meta = &pod.metadata;
        let nothing = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&nothing);
        let mut ports: Vec<HostPort> = Vec::new();
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            for port in container.ports.iter().flatten() {
                if let Some(number) = port.host_port.filter(|n| *n > 0) {
                    let ip = port
                        .host_ip
                        .clone()
                        .filter(|ip| !ip.is_empty())
                        .unwrap_or_else(|| "0.0.0.0".to_owned());
                    ports.push((ip, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number));
                }
            }
        }
        let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0.as_second());
        PodFacts {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            requests: pod_requests(spec),
            nonzero: pod_nonzero(spec),
            ports,
            volume_claims: spec
                .volumes
                .iter()
                .flatten()
                .filter_map(|v| v.persistent_volume_claim.as_ref())
                .map(|claim| claim.claim_name.clone())
                .collect(),
            device_claims: devices::claims::names(&pod).map(str::to_owned).collect(),
            priority: spec.priority.unwrap_or(0),
            affinity: affinity(&pod),
            nodes: NodeAffinity::of(spec),
            deleting: is_deleting(meta),
            started: started.unwrap_or_else(|| created_second(meta)),
            pod,
        }
    }

    /// A label of the pod.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its tolerations.
    pub fn tolerations(&self) -> &[Toleration] {
        self.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
    }
}

fn affinity(pod: &Pod) -> Affinity {
    let Some(of) = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else { return Affinity::default() };
    let mut out = Affinity::default();
    if let Some(a) = &of.pod_affinity {
        let required = a.required_during_scheduling_ignored_during_execution.iter().flatten();
        out.required.extend(required.map(|t| Term::of(pod, t)));
        for t in a.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
            out.preferred.push((i64::from(t.weight), Term::of(pod, &t.pod_affinity_term)));
        }
    }
    if let Some(a) = &of.pod_anti_affinity {
        let required = a.required_during_scheduling_ignored_during_execution.iter().flatten();
        out.required_anti.extend(required.map(|t| Term::of(pod, t)));
        for t in a.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
            out.preferred.push((-i64::from(t.weight), Term::of(pod, &t.pod_affinity_term)));
        }
    }
    out
}
