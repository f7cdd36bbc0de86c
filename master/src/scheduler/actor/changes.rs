//! What the scheduler makes of changes: new facts, and pods for which another attempt may be worth it.

use std::sync::Arc;

use actors::Context;
use actors::time::Instant;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};

use super::Scheduler;
use crate::controllers::machinery::meta::{self, Key};
use crate::controllers::machinery::pods::{is_finished, node_name};
use crate::scheduler::DEFAULT_NAME;
use crate::scheduler::devices::claims::{is_extended, of_pod};
use crate::scheduler::plugins::ClusterChange;
use crate::scheduler::pod::PodFacts;

impl Scheduler {
    pub(super) fn node_changed(&mut self, name: &str) {
        let Some(node) = self.cache.get::<Node>("", name) else {
            if self.facts.remove_node(name) {
                self.changed(&ClusterChange::NodeRemoved);
            }
            return;
        };
        let first = self.facts.is_empty();
        let former = self.facts.set_node(node.clone());
        let Some(slot) = self.facts.slot(name) else { return };
        let Some(former) = former else {
            self.changed(&ClusterChange::NodeAdded(slot));
            if first {
                // Those that waited for any node at all were refused by no plugin.
                self.queue.retry_all(actors::trace::current(), Instant::now());
            }
            return;
        };
        let spec = |n: &Node| n.spec.clone().unwrap_or_default();
        if former.metadata.labels != node.metadata.labels {
            self.changed(&ClusterChange::NodeLabels(slot));
        }
        if spec(&former).taints != spec(&node).taints
            || spec(&former).unschedulable != spec(&node).unschedulable
        {
            self.changed(&ClusterChange::NodeTaints(slot));
        }
        let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
        if allocatable(&former) != allocatable(&node) {
            self.changed(&ClusterChange::NodeAllocatable(slot));
        }
    }

    pub(super) fn namespace_changed(&mut self, name: &str) {
        let namespace = self.cache.get::<Namespace>("", name);
        let labels = namespace.map(|n| n.metadata.labels.clone().unwrap_or_default());
        if self.facts.namespace_labels(name) != labels.as_ref() {
            self.facts.set_namespace(name, labels);
            self.changed(&ClusterChange::Namespace);
        }
    }

    pub(super) fn pod_changed(&mut self, key: Key) {
        let pod = self.cache.get::<Pod>(&key.namespace, &key.name).filter(|p| !is_finished(p));
        let uid: Option<Arc<str>> = pod.as_ref().map(|p| meta::uid(&p.metadata).into());
        if let Some(former) = self.uids.get(&key).cloned().filter(|f| Some(f) != uid.as_ref()) {
            self.forget(&former);
            self.uids.remove(&key);
            self.verdicts.remove(&key);
        }
        let (Some(pod), Some(uid)) = (pod, uid) else { return };
        self.uids.insert(key, uid.clone());
        if node_name(&pod).is_empty() {
            let spec = pod.spec.as_ref();
            let asked = spec.and_then(|s| s.scheduler_name.as_deref()).filter(|n| !n.is_empty());
            if asked.unwrap_or(DEFAULT_NAME) != self.config.name || self.assumed.contains_key(&uid) {
                return;
            }
            if meta::is_deleting(&pod.metadata) {
                self.queue.remove(&uid);
                self.release(&uid);
                return;
            }
            let gated = spec.and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
            let unclaimed = of_pod(&self.cache.snapshot(), &pod).err();
            let facts = Arc::new(PodFacts::of(pod));
            // What a scheduler before this one promised stands.
            let promised = facts.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref());
            if let Some(node) = promised.filter(|n| !n.is_empty() && self.queue.get(&uid).is_none()) {
                self.nominated.insert(uid, (node.into(), facts.clone()));
            }
            let gated = gated || unclaimed.is_some();
            if let Some(why) = unclaimed {
                self.verdict(&facts, 0, None, why, &[]);
            }
            self.queue.set(facts, gated, actors::trace::current(), Instant::now());
        } else {
            let node = node_name(&pod).to_owned();
            self.queue.remove(&uid);
            self.assumed.remove(&uid);
            self.nominated.remove(&uid);
            let facts = Arc::new(PodFacts::of(pod));
            let former = self.facts.set_pod(&node, facts.clone());
            let same = former.is_some_and(|f| {
                f.pod.metadata.labels == facts.pod.metadata.labels
                    && f.deleting == facts.deleting
                    && f.requests == facts.requests
            });
            if !same {
                self.changed(&ClusterChange::PodPlaced(facts));
            }
        }
    }

    /// A claim of devices came, changed or went.
    pub(super) fn claim_changed(&mut self, key: Key, ctx: &mut Context<Self>) {
        let claim = self.cache.get::<ResourceClaim>(&key.namespace, &key.name);
        let has = claim.as_ref().and_then(|c| c.status.as_ref()).is_some_and(|s| s.allocation.is_some());
        // As long as a claim is there that was made for a pod's extended resources, the pod gets no other.
        let holds = has || claim.as_deref().is_some_and(is_extended);
        let freed = match holds {
            true => self.holding.insert(key.clone(), has) == Some(true) && !has,
            false => self.holding.remove(&key).is_some(),
        };
        for pod in self.queue.gated_on(&key) {
            self.pod_changed(pod);
        }
        self.facts.set_storage(self.cache.snapshot());
        let Some(claim) = claim else {
            if freed {
                self.changed(&ClusterChange::Devices);
            }
            return;
        };
        let revision = self.revision("resource.k8s.io", "resourceclaims", &key);
        self.changed_at(&ClusterChange::Claim { claim, freed }, revision);
        self.look_at_prepared(&key.namespace, ctx);
    }

    /// A class of devices came, changed or went.
    pub(super) fn class_changed(&mut self, key: &Key) {
        let revision = self.revision("resource.k8s.io", "deviceclasses", key);
        let class = self.cache.get::<DeviceClass>("", &key.name);
        self.facts.set_storage(self.cache.snapshot());
        // Compared with what was told before, not with what attempts have seen meanwhile.
        let before = match &class {
            Some(class) => self.classes.insert(key.name.clone(), class.spec.extended_resource_name.clone()),
            None => self.classes.remove(&key.name),
        };
        let change = match class {
            Some(class) if before.as_ref() != Some(&class.spec.extended_resource_name) => {
                ClusterChange::DeviceClass(class)
            }
            _ => ClusterChange::Devices,
        };
        self.changed_at(&change, revision);
    }

    fn forget(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.preparing.remove(uid);
        self.release(uid);
        if let Some(gone) = self.facts.remove_pod(uid) {
            self.changed(&ClusterChange::PodGone(gone));
        }
    }
}
