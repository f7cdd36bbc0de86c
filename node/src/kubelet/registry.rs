//! What this node is to run: the latest word on every pod, and the actor that sees to it.
//!
//! Messages to pod actors carry only a uid: the actor reads here what is wanted now. That is why many
//! changes while a pod is busy cost one more look, not one each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use actors::{ActorRef, message};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;

use super::pod_actor::PodActor;
use super::status::Waiting;

/// Look at the pod again.
#[derive(Clone, Debug)]
pub struct Look {
    /// The pod: `pods/<namespace>/<name>`.
    pub key: Arc<str>,
}
message!(Look => (), |m| Some(m.key.clone()), coalesce);

/// What is wanted of one pod.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The latest object.
    pub pod: Arc<Pod>,
    /// It is no longer in the API (or its manifest is gone): take it down and tell nobody.
    pub gone: bool,
    /// The kubelet itself ends it (`Evicted`, `DeadlineExceeded`).
    pub verdict: Option<Waiting>,
    /// Something that the pod refers to has changed since it was last mounted.
    pub stale: bool,
}

struct Entry {
    wanted: Wanted,
    key: Arc<str>,
    actor: Option<ActorRef<PodActor>>,
    status: Option<PodStatus>,
}

/// All pods of this node by uid. Cloning shares it.
#[derive(Clone, Default)]
pub struct Registry {
    pods: Arc<Mutex<HashMap<String, Entry>>>,
}

/// Whether two versions of a pod differ in what a kubelet acts on. Its own status writes come back too.
fn differs(old: &Pod, new: &Pod) -> bool {
    let (a, b) = (&old.metadata, &new.metadata);
    let conditions = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.and_then(|s| s.conditions.as_ref()).map(|all| {
            all.iter().map(|c| (c.type_.clone(), c.status.clone())).collect::<std::collections::BTreeSet<_>>()
        })
    };
    let gated = new.spec.as_ref().is_some_and(|s| s.readiness_gates.is_some());
    old.spec != new.spec
        || a.deletion_timestamp != b.deletion_timestamp
        || a.deletion_grace_period_seconds != b.deletion_grace_period_seconds
        || a.labels != b.labels
        || a.annotations != b.annotations
        || a.generation != b.generation
        || (gated && conditions(old) != conditions(new))
}

/// Whether the pod is shown with another readiness than this kubelet made of it: the node lifecycle controller
/// turns it for a node that was silent, and only the kubelet can turn it back.
fn overruled(made: Option<&PodStatus>, shown: &Pod) -> bool {
    let ready = |status: &PodStatus| {
        status.conditions.iter().flatten().find(|c| c.type_ == "Ready").map(|c| c.status.clone())
    };
    match (made.and_then(ready), shown.status.as_ref().and_then(ready)) {
        (Some(made), Some(shown)) => made != shown,
        _ => false,
    }
}

/// The trace's name of a pod.
pub fn key_of(pod: &Pod) -> Arc<str> {
    let meta = &pod.metadata;
    format!(
        "pods/{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
    .into()
}

impl Registry {
    /// What is wanted of a pod.
    pub fn wanted(&self, uid: &str) -> Option<Wanted> {
        self.pods.lock().get(uid).map(|e| e.wanted.clone())
    }

    /// Notes the latest object of a pod; answers whether it differs in anything but what this kubelet
    /// itself writes.
    pub fn want(&self, uid: &str, pod: Arc<Pod>) -> bool {
        let mut pods = self.pods.lock();
        match pods.get_mut(uid) {
            Some(entry) => {
                let changed = differs(&entry.wanted.pod, &pod) || overruled(entry.status.as_ref(), &pod);
                entry.wanted.pod = pod;
                changed
            }
            None => {
                let key = key_of(&pod);
                let wanted = Wanted { pod, gone: false, verdict: None, stale: false };
                pods.insert(uid.to_owned(), Entry { wanted, key, actor: None, status: None });
                true
            }
        }
    }

    /// The pod is no longer wanted.
    pub fn unwant(&self, uid: &str) {
        if let Some(entry) = self.pods.lock().get_mut(uid) {
            entry.wanted.gone = true;
        }
    }

    /// The kubelet ends the pod.
    pub fn condemn(&self, uid: &str, reason: &str, message: &str) {
        if let Some(entry) = self.pods.lock().get_mut(uid) {
            entry.wanted.verdict.get_or_insert_with(|| (reason.to_owned(), message.to_owned()));
        }
    }

    /// Gives a pod its actor.
    pub fn assign(&self, uid: &str, actor: ActorRef<PodActor>) {
        if let Some(entry) = self.pods.lock().get_mut(uid) {
            entry.actor = Some(actor);
        }
    }

    /// Whether a live actor sees to the pod.
    pub fn has_actor(&self, uid: &str) -> bool {
        self.pods.lock().get(uid).and_then(|e| e.actor.as_ref()).is_some_and(|a| !a.is_closed())
    }

    /// Makes the pod's actor look again. A full mailbox has such a message in it already.
    pub fn wake(&self, uid: &str) {
        let found = self.pods.lock().get(uid).and_then(|e| Some((e.actor.clone()?, e.key.clone())));
        if let Some((actor, key)) = found {
            let _ = actor.try_tell(Look { key });
        }
    }

    /// Something that the pod refers to has changed.
    pub fn refresh(&self, uid: &str) {
        if let Some(entry) = self.pods.lock().get_mut(uid) {
            entry.wanted.stale = true;
        }
        self.wake(uid);
    }

    /// Whether something has changed since this was last asked.
    pub fn take_stale(&self, uid: &str) -> bool {
        self.pods.lock().get_mut(uid).is_some_and(|e| std::mem::take(&mut e.wanted.stale))
    }

    /// Notes the status that the actor made.
    pub fn set_status(&self, uid: &str, status: PodStatus) {
        if let Some(entry) = self.pods.lock().get_mut(uid) {
            entry.status = Some(status);
        }
    }

    /// The pod is completely gone.
    pub fn forget(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }

    /// All uids.
    pub fn uids(&self) -> Vec<String> {
        self.pods.lock().keys().cloned().collect()
    }

    /// Whether the pod is known.
    pub fn contains(&self, uid: &str) -> bool {
        self.pods.lock().contains_key(uid)
    }

    /// All pods with the latest status, as the kubelet's `/pods` shows them.
    pub fn pods(&self) -> Vec<Pod> {
        let pods = self.pods.lock();
        let mut all: BTreeMap<&Arc<str>, Pod> = BTreeMap::new();
        for entry in pods.values() {
            let mut pod = Pod::clone(&entry.wanted.pod);
            if let Some(status) = &entry.status {
                pod.status = Some(status.clone());
            }
            all.insert(&entry.key, pod);
        }
        all.into_values().collect()
    }
}
