//! What the scheduler knows of nodes and of the pods on them, kept up to date change by change.
//!
//! Numbers that every cycle reads for every node lie in arrays of their own (a structure of arrays), indexed
//! by node slot; slots of removed nodes are used again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass};

use super::devices::Cluster;
use super::devices::taken::{Pending, Tally};
use super::pod::PodFacts;
use super::resources::{Amounts, amounts};
use crate::api::kinds::devices::extended::Backed;
use crate::cache::Snapshot;
use crate::controllers::machinery::labels::Labels;

/// A node's place in the arrays.
pub type Slot = usize;

/// A host port in use: address, protocol, number.
pub type HostPort = (String, String, i32);

/// Facts about all nodes. Cloning is only for trying out what preemption would do.
#[derive(Clone, Default)]
pub struct Facts {
    index: HashMap<Arc<str>, Slot>,
    free: Vec<Slot>,
    live: Vec<bool>,
    names: Vec<Arc<str>>,
    nodes: Vec<Arc<Node>>,
    allocatable: Vec<Amounts>,
    requested: Vec<Amounts>,
    /// Like `requested`, with a default for containers that request nothing: for scores.
    nonzero: Vec<(i64, i64)>,
    pods: Vec<Vec<Arc<PodFacts>>>,
    /// Where each pod is, by uid.
    placed: HashMap<Arc<str>, Slot>,
    /// Pods on nodes that are not known (yet), by node name.
    homeless: HashMap<Arc<str>, Vec<Arc<PodFacts>>>,
    /// Pods with required anti-affinity, which every other pod has to respect.
    anti_affine: BTreeMap<Arc<str>, Slot>,
    /// How many pods on known nodes use a claim of a volume, by namespace and name.
    claimed: HashMap<(String, String), usize>,
    /// Labels of namespaces, for affinity terms that select namespaces.
    namespaces: HashMap<Arc<str>, Arc<Labels>>,
    /// Claims, volumes, devices and their classes, as the cluster held them when a cycle began.
    storage: Arc<Snapshot>,
    /// What claims have of devices there.
    taken: Arc<Tally>,
    /// Extended resources that classes of devices stand behind there.
    backed: Arc<Backed>,
    /// Devices that were given to claims, until the cluster shows it.
    pending: Pending,
}

impl Facts {
    /// Slots of the known nodes.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.live.len()).filter(|slot| self.live[*slot])
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A node's name.
    pub fn name(&self, slot: Slot) -> &Arc<str> {
        &self.names[slot]
    }

    /// A node by name.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.index.get(name).copied()
    }

    /// A node as it was last seen.
    pub fn node(&self, slot: Slot) -> &Arc<Node> {
        &self.nodes[slot]
    }

    /// A label of a node.
    pub fn label(&self, slot: Slot, key: &str) -> Option<&str> {
        self.nodes[slot].metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// A node's taints.
    pub fn taints(&self, slot: Slot) -> &[Taint] {
        self.nodes[slot].spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    /// What a node has for pods.
    pub fn allocatable(&self, slot: Slot) -> &Amounts {
        &self.allocatable[slot]
    }

    /// What its pods request.
    pub fn requested(&self, slot: Slot) -> &Amounts {
        &self.requested[slot]
    }

    /// What its pods request in milli-CPU and bytes, with defaults for those that say nothing.
    pub fn nonzero(&self, slot: Slot) -> (i64, i64) {
        self.nonzero[slot]
    }

    /// The pods on a node.
    pub fn pods(&self, slot: Slot) -> &[Arc<PodFacts>] {
        &self.pods[slot]
    }

    /// Every pod on a known node, with the node's slot.
    pub fn all_pods(&self) -> impl Iterator<Item = (Slot, &Arc<PodFacts>)> {
        self.slots().flat_map(|slot| self.pods[slot].iter().map(move |p| (slot, p)))
    }

    /// Pods whose required anti-affinity others have to respect.
    pub fn anti_affine(&self) -> impl Iterator<Item = (Slot, &Arc<PodFacts>)> {
        self.anti_affine
            .iter()
            .filter_map(|(uid, slot)| self.pods[*slot].iter().find(|p| p.uid == *uid).map(|p| (*slot, p)))
    }

    /// Whether any pod on a known node uses a claim of a volume.
    pub fn is_claimed(&self, namespace: &str, claim: &str) -> bool {
        self.claimed.contains_key(&(namespace.to_owned(), claim.to_owned()))
    }

    /// Labels of a namespace.
    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace).map(AsRef::as_ref)
    }

    /// What there is of devices, and what is taken.
    pub fn devices(&self) -> Cluster<'_> {
        Cluster { snapshot: &self.storage, taken: &self.taken, pending: &self.pending, backed: &self.backed }
    }

    /// Whether a class of devices stands behind a resource. It counts on nodes that do not offer the resource themselves.
    pub fn is_backed(&self, resource: &str) -> bool {
        self.backed.class_of(resource).is_some()
    }

    /// Learns that devices were given to a claim, by its uid.
    pub fn give_devices(&mut self, claim: Arc<str>, allocation: Arc<AllocationResult>) {
        self.pending.insert(claim, allocation);
    }

    /// Learns that the cluster shows it, or never will.
    pub fn settle_devices(&mut self, claim: &str) -> bool {
        self.pending.remove(claim).is_some()
    }

    /// Claims, volumes, devices and their classes.
    pub fn storage(&self) -> &Snapshot {
        &self.storage
    }

    /// Learns of claims, volumes, devices and classes.
    pub fn set_storage(&mut self, snapshot: Arc<Snapshot>) {
        let classes = |of: &Snapshot| of.kind_revision(DeviceClass::GROUP, DeviceClass::URL_PATH_SEGMENT);
        if classes(&self.storage) != classes(&snapshot) {
            self.backed = Arc::new(Backed::of(&snapshot));
        }
        Arc::make_mut(&mut self.taken).follow(&self.storage, &snapshot);
        self.storage = snapshot;
    }

    /// Learns of a namespace.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.into(), Arc::new(labels))),
            None => drop(self.namespaces.remove(name)),
        }
    }

    /// Learns of a node, or of its new state. Returns the former state.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        let has = amounts(node.status.as_ref().and_then(|s| s.allocatable.as_ref()));
        if let Some(slot) = self.slot(&name) {
            self.allocatable[slot] = has;
            return Some(std::mem::replace(&mut self.nodes[slot], node));
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.live[slot] = true;
                self.names[slot] = name.clone();
                self.nodes[slot] = node;
                self.allocatable[slot] = has;
                slot
            }
            None => {
                self.live.push(true);
                self.names.push(name.clone());
                self.nodes.push(node);
                self.allocatable.push(has);
                self.requested.push(Amounts::default());
                self.nonzero.push((0, 0));
                self.pods.push(Vec::new());
                self.live.len() - 1
            }
        };
        self.index.insert(name.clone(), slot);
        for pod in self.homeless.remove(&name).unwrap_or_default() {
            self.place(slot, pod);
        }
        None
    }

    /// Forgets a node; its pods wait for it to come back.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let Some(slot) = self.index.remove(name) else { return false };
        let pods = std::mem::take(&mut self.pods[slot]);
        for pod in &pods {
            self.placed.remove(&pod.uid);
            self.anti_affine.remove(&pod.uid);
            self.unclaim(pod);
        }
        if !pods.is_empty() {
            self.homeless.insert(name.into(), pods);
        }
        self.requested[slot] = Amounts::default();
        self.nonzero[slot] = (0, 0);
        self.live[slot] = false;
        self.free.push(slot);
        true
    }

    /// Learns that a pod is on a node, or of its new state there.
    pub fn set_pod(&mut self, node: &str, pod: Arc<PodFacts>) -> Option<Arc<PodFacts>> {
        let former = self.remove_pod(&pod.uid);
        match self.slot(node) {
            Some(slot) => self.place(slot, pod),
            None => self.homeless.entry(node.into()).or_default().push(pod),
        }
        former
    }

    fn place(&mut self, slot: Slot, pod: Arc<PodFacts>) {
        self.requested[slot].add(&pod.requests);
        self.requested[slot].pods += 1;
        self.nonzero[slot].0 += pod.nonzero.0;
        self.nonzero[slot].1 += pod.nonzero.1;
        self.placed.insert(pod.uid.clone(), slot);
        if !pod.affinity.required_anti.is_empty() {
            self.anti_affine.insert(pod.uid.clone(), slot);
        }
        for claim in &pod.volume_claims {
            *self.claimed.entry((pod.namespace.clone(), claim.clone())).or_insert(0) += 1;
        }
        self.pods[slot].push(pod);
    }

    fn unclaim(&mut self, pod: &PodFacts) {
        for claim in &pod.volume_claims {
            let key = (pod.namespace.clone(), claim.clone());
            if let Some(users) = self.claimed.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claimed.remove(&key);
                }
            }
        }
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodFacts>> {
        let Some(slot) = self.placed.remove(uid) else {
            self.homeless.retain(|_, pods| {
                pods.retain(|p| &*p.uid != uid);
                !pods.is_empty()
            });
            return None;
        };
        self.anti_affine.remove(uid);
        let at = self.pods[slot].iter().position(|p| &*p.uid == uid)?;
        let pod = self.pods[slot].swap_remove(at);
        self.unclaim(&pod);
        self.requested[slot].subtract(&pod.requests);
        self.requested[slot].pods -= 1;
        self.nonzero[slot].0 -= pod.nonzero.0;
        self.nonzero[slot].1 -= pod.nonzero.1;
        Some(pod)
    }

    /// The node that a pod is on.
    pub fn node_of(&self, uid: &str) -> Option<&Arc<str>> {
        self.placed.get(uid).map(|slot| &self.names[*slot])
    }
}
