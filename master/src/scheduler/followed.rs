//! What the scheduler is told of: the dispatcher reads changes, and wakes it only with those that concern it.

use std::sync::Arc;

use actors::Recipient;
use protocol::Resource;

use super::DEFAULT_NAME;
use crate::cache::{Cache, Change, Stored};
use crate::controllers::machinery::Watch;
use crate::controllers::machinery::dispatch::{Changed, Dispatch, Follower, Follows, Unfollowed};
use crate::controllers::machinery::watches::key_of;

/// Each kind with the name that its following is registered under.
const KINDS: [(&str, &str, &str); 9] = [
    ("scheduler/namespaces", "", "namespaces"),
    ("scheduler/nodes", "", "nodes"),
    ("scheduler/pods", "", "pods"),
    ("scheduler/persistentvolumeclaims", "", "persistentvolumeclaims"),
    ("scheduler/persistentvolumes", "", "persistentvolumes"),
    ("scheduler/storageclasses", "storage.k8s.io", "storageclasses"),
    ("scheduler/resourceclaims", "resource.k8s.io", "resourceclaims"),
    ("scheduler/resourceslices", "resource.k8s.io", "resourceslices"),
    ("scheduler/deviceclasses", "resource.k8s.io", "deviceclasses"),
];

/// Follows every kind, for the scheduler of this name.
pub(super) fn register(
    dispatch: &Dispatch,
    scheduler: &str,
    changed: &Recipient<Changed>,
    unfollowed: &Recipient<Unfollowed>,
) {
    for (name, group, resource) in KINDS {
        dispatch.register(Follower {
            name,
            resource,
            follows: Arc::new(Kind { group, resource, scheduler: scheduler.into() }),
            changed: changed.clone(),
            unfollowed: unfollowed.clone(),
        });
    }
}

/// One kind, followed.
struct Kind {
    group: &'static str,
    resource: &'static str,
    scheduler: Arc<str>,
}

impl Follows for Kind {
    fn watches(&self) -> Vec<Watch> {
        let (scheduler, pods) = (self.scheduler.clone(), self.resource == "pods");
        let map = move |change: &Change, _: &Cache| {
            if pods && !concerns(change, &scheduler) { Vec::new() } else { vec![key_of(&change.stored)] }
        };
        vec![Watch { group: self.group, resource: self.resource, map: Box::new(map) }]
    }

    fn watch_declared(&self, _: &'static Resource) -> Option<Watch> {
        None
    }
}

/// Whether a change of a pod is anything to a scheduler: it takes room on a node, or waits for this scheduler, or did.
fn concerns(change: &Change, scheduler: &str) -> bool {
    change.previous.iter().chain([&change.stored]).any(|pod| !is_for_others(pod, scheduler))
}

/// Whether a pod waits for another scheduler. Told without parsing it.
fn is_for_others(pod: &Stored, scheduler: &str) -> bool {
    let asked = pod.meta.field("spec.schedulerName");
    let asked = if asked.is_empty() { DEFAULT_NAME } else { asked };
    asked != scheduler && pod.meta.field("spec.nodeName").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{ChangeKind, WatchFrom};
    use crate::store::{Batch, Event, Record};
    use actors::TraceContext;
    use serde_json::{Value, json};

    /// What came of a pod's states, one after the other; null is its deletion.
    fn changes(states: &[Value]) -> Vec<Change> {
        let key = "/registry/core/pods/default/a".to_owned();
        let cache = Cache::new();
        cache.load(Vec::new(), 1);
        let mut cursor = cache.watch("", "pods", "", WatchFrom::Now).expect("a cursor");
        for (n, spec) in states.iter().enumerate() {
            let revision = n as u64 + 2;
            let json = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec});
            let record = Record {
                key: key.clone(),
                value: json.to_string().into(),
                trace: TraceContext::default(),
                create_revision: 2,
                mod_revision: revision,
                version: 1,
            };
            let record = Some(record).filter(|_| !spec.is_null());
            let event = Event { key: key.clone(), record, trace: TraceContext::default() };
            cache.apply(vec![Batch { revision, events: vec![event] }]);
        }
        cursor.ready().expect("changes")
    }

    #[test]
    fn pods_of_other_schedulers_count_once_they_have_a_node() {
        let of = |scheduler: &str, node: &str| json!({"schedulerName": scheduler, "nodeName": node});
        let told = |states: &[Value]| -> Vec<bool> {
            changes(states).iter().map(|change| concerns(change, DEFAULT_NAME)).collect()
        };
        assert_eq!(told(&[json!({}), Value::Null]), [true, true]);
        assert_eq!(told(&[of(DEFAULT_NAME, ""), of(DEFAULT_NAME, "n")]), [true, true]);
        assert_eq!(told(&[of("mine", ""), of("mine", ""), Value::Null]), [false, false, false]);
        assert_eq!(told(&[of("mine", ""), of("mine", "n"), Value::Null]), [false, true, true]);
        let gone = changes(&[of("mine", "n"), Value::Null]);
        assert_eq!(gone.last().map(|change| change.kind), Some(ChangeKind::Deleted));
    }
}
