//! ReplicaSets, and ReplicationControllers, which differ only in their kind: keep a number of pods.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use protocol::{ApiError, Object};

use crate::controllers::deployment::is_namespace_terminating;
use crate::controllers::machinery::claim::claim_pods;
use crate::controllers::machinery::labels::selector;
use crate::controllers::machinery::meta::{
    controller_of, controller_reference, is_deleting, name, namespace, uid,
};
use crate::controllers::machinery::pods::{from_template, is_active, is_terminating, name_prefix};
use crate::controllers::machinery::watches::{own, owned_or_selected};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

pub mod decide;

use decide::{Change, Failure, Status};

/// A kind that keeps a number of pods.
pub trait Replicas: Object {
    /// Pods wanted.
    fn wanted(&self) -> i32;
    /// Which pods are its own.
    fn selector(&self) -> Option<LabelSelector>;
    /// What pods are made from.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// How long a pod must be ready to count as available.
    fn min_ready_seconds(&self) -> i32;
    /// The status in the shared form.
    fn status(&self) -> Status;
    /// Sets the status.
    fn set_status(&mut self, status: Status);
}

fn positive(n: i32) -> Option<i32> {
    (n > 0).then_some(n)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

impl Replicas for ReplicaSet {
    fn wanted(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref().map(|s| s.selector.clone())
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().and_then(|s| s.template.as_ref())
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    fn status(&self) -> Status {
        let s = self.status.clone().unwrap_or_default();
        Status {
            replicas: s.replicas,
            fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
            ready: s.ready_replicas.unwrap_or(0),
            available: s.available_replicas.unwrap_or(0),
            // Told even when it is none, so "not told yet" must differ.
            terminating: s.terminating_replicas.unwrap_or(-1),
            observed_generation: s.observed_generation,
            conditions: s.conditions.unwrap_or_default(),
        }
    }
    fn set_status(&mut self, s: Status) {
        self.status = Some(ReplicaSetStatus {
            replicas: s.replicas,
            fully_labeled_replicas: positive(s.fully_labeled),
            ready_replicas: positive(s.ready),
            available_replicas: positive(s.available),
            terminating_replicas: Some(s.terminating),
            observed_generation: s.observed_generation,
            conditions: some(s.conditions),
        });
    }
}

impl Replicas for ReplicationController {
    fn wanted(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn selector(&self) -> Option<LabelSelector> {
        let labels = self.spec.as_ref()?.selector.clone()?;
        // An empty map would select every pod there is.
        (!labels.is_empty()).then(|| LabelSelector { match_labels: Some(labels), ..LabelSelector::default() })
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().and_then(|s| s.template.as_ref())
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    fn status(&self) -> Status {
        let s = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        Status {
            replicas: s.replicas,
            fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
            ready: s.ready_replicas.unwrap_or(0),
            available: s.available_replicas.unwrap_or(0),
            terminating: 0,
            observed_generation: s.observed_generation,
            conditions: s.conditions.unwrap_or_default().into_iter().map(condition).collect(),
        }
    }
    fn set_status(&mut self, s: Status) {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        self.status = Some(ReplicationControllerStatus {
            replicas: s.replicas,
            fully_labeled_replicas: positive(s.fully_labeled),
            ready_replicas: positive(s.ready),
            available_replicas: positive(s.available),
            observed_generation: s.observed_generation,
            conditions: some(s.conditions.into_iter().map(condition).collect()),
        });
    }
}

/// The controller of ReplicaSets.
pub struct ReplicaSetController;

impl Reconciler for ReplicaSetController {
    const NAME: &'static str = "replicaset";
    const ACCOUNT: &'static str = "replicaset-controller";
    const RESOURCE: &'static str = "replicasets";
    const WORKERS: usize = 8;

    fn watches(&self) -> Vec<Watch> {
        vec![own::<ReplicaSet>(), owned_or_selected::<Pod, ReplicaSet>(Replicas::selector)]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        reconcile::<ReplicaSet>(cx, key).await
    }
}

/// The controller of ReplicationControllers.
pub struct ReplicationControllerController;

impl Reconciler for ReplicationControllerController {
    const NAME: &'static str = "replicationcontroller";
    const ACCOUNT: &'static str = "replication-controller";
    const RESOURCE: &'static str = "replicationcontrollers";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<ReplicationController>(),
            owned_or_selected::<Pod, ReplicationController>(Replicas::selector),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        reconcile::<ReplicationController>(cx, key).await
    }
}

async fn reconcile<K: Replicas>(cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
    let Some(owner) = cx.cache.get::<K>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
    let Some(labels) = owner.selector() else { return Ok(Outcome::DONE) };
    let pods = claim_pods(cx, &*owner, &selector(&labels)).await?;
    let terminating = pods.iter().filter(|p| is_terminating(p)).count();
    let active: Vec<Arc<Pod>> = pods.into_iter().filter(|p| is_active(p)).collect();

    let mut failure = None;
    let mut made = 0;
    if !is_deleting(owner.metadata()) {
        match decide::change(&active, owner.wanted(), &related(cx, &*owner, &active), cx.now) {
            Change::Nothing => {}
            Change::Create(count) => (made, failure) = create(cx, &*owner, count).await,
            Change::Delete(doomed) => {
                for pod in doomed {
                    match delete(cx, &*owner, &pod).await {
                        Ok(()) => made -= 1,
                        Err(error) => failure = failure.or(Some(("FailedDelete", error))),
                    }
                }
            }
        }
    }

    let told = failure.as_ref().map(|(reason, e)| Failure { reason, message: e.to_string() });
    let current = owner.status();
    let template = owner.template().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
    let mut next = decide::status(
        &active,
        terminating,
        template,
        owner.min_ready_seconds(),
        current.conditions.clone(),
        told,
        cx.now,
    );
    if K::KIND == "ReplicationController" {
        next.terminating = 0;
    }
    next.observed_generation = owner.metadata().generation;
    // Pods made or deleted just now come back as changes, and the counts with them; writing the counts from
    // before them would only be one write more. A failure is told at once.
    if next != current && (made == 0 || failure.is_some()) {
        let mut copy = (*owner).clone();
        copy.set_status(next);
        cx.client.update_status(&copy).await?;
    }
    match failure {
        Some((_, error)) => Err(error.into()),
        None => Ok(Outcome::again(decide::next_available_after(&active, owner.min_ready_seconds(), cx.now))),
    }
}

/// Active pods of all owners that share this one's own owner (a Deployment), this one's included.
fn related<K: Replicas>(cx: &Cx, owner: &K, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    if usize::try_from(owner.wanted()).unwrap_or(0) >= own.len() {
        // Only asked for when pods have to go.
        return Vec::new();
    }
    let Some(parent) = controller_of(owner.metadata()) else { return own.to_vec() };
    let siblings: Vec<String> = cx
        .cache
        .list::<K>(namespace(owner.metadata()))
        .iter()
        .filter(|s| controller_of(s.metadata()).is_some_and(|r| r.uid == parent.uid))
        .map(|s| uid(s.metadata()).to_owned())
        .collect();
    let snapshot = cx.cache.snapshot();
    let pods = snapshot.list("", "pods", namespace(owner.metadata()));
    pods.filter(|p| p.meta.controller().is_some_and(|r| siblings.iter().any(|s| **s == *r.uid)))
        .filter_map(|p| p.typed::<Pod>().ok())
        .collect()
}

async fn create<K: Replicas>(cx: &Cx, owner: &K, count: usize) -> (i32, Option<(&'static str, ApiError)>) {
    let Some(template) = owner.template() else { return (0, None) };
    let meta = owner.metadata();
    let pod = from_template(template, namespace(meta), &name_prefix(name(meta)), controller_reference(owner));
    let mut made = 0;
    for batch in decide::batches(count) {
        let mut failure = None;
        let pods = (0..batch).map(|_| cx.client.create(&pod));
        for result in futures::future::join_all(pods).await {
            match result {
                Ok(pod) => {
                    made += 1;
                    cx.events.normal(
                        owner,
                        "SuccessfulCreate",
                        format!("Created pod: {}", name(&pod.metadata)),
                    );
                }
                // Everything in the namespace is going, this owner too.
                Err(e) if is_namespace_terminating(&e) => return (made, None),
                Err(e) => {
                    cx.events.warning(owner, "FailedCreate", format!("Error creating: {e}"));
                    failure = failure.or(Some(("FailedCreate", e)));
                }
            }
        }
        if failure.is_some() {
            return (made, failure);
        }
    }
    (made, None)
}

async fn delete<K: Replicas>(cx: &Cx, owner: &K, pod: &Pod) -> Result<(), ApiError> {
    let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
    match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), None).await {
        Ok(()) => {
            cx.events.normal(owner, "SuccessfulDelete", format!("Deleted pod: {n}"));
            Ok(())
        }
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(()),
        Err(e) => {
            cx.events.warning(owner, "FailedDelete", format!("Error deleting: {e}"));
            Err(e)
        }
    }
}
