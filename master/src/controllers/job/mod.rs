//! Jobs: run pods until enough of them have succeeded.
//!
//! [`decide`] is the thinking; [`account`], [`backoff`], [`failure_policy`], [`success_policy`], [`per_index`] and
//! [`indexes`] are its parts; [`ttl`] deletes Jobs that have
//! been over for long enough.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use parking_lot::Mutex;
use protocol::PatchKind;
use serde_json::json;

use super::deployment::is_namespace_terminating;
use super::machinery::claim::claim_pods_held;
use super::machinery::labels::selector;
use super::machinery::meta::{controller_reference, name, namespace, uid};
use super::machinery::pods::{from_template, name_prefix};
use super::machinery::watches::{own, owned_or_selected};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use super::replicaset::decide::batches;

pub mod account;
pub mod backoff;
pub mod decide;
pub mod failure_policy;
pub mod indexes;
pub mod per_index;
pub mod success_policy;
pub mod ttl;

use backoff::Streak;
use decide::{INDEX, TRACKING, Wanted};
use per_index::{COUNTED, IGNORED};

/// The controller.
#[derive(Default)]
pub struct JobController {
    /// The failures of Jobs that are not over, with their UIDs.
    streaks: Mutex<HashMap<Key, (String, Streak)>>,
}

impl JobController {
    fn streak(&self, key: &Key, job: &Job) -> Option<Streak> {
        let streaks = self.streaks.lock();
        streaks.get(key).filter(|(of, _)| of == uid(&job.metadata)).map(|(_, streak)| *streak)
    }

    fn remember(&self, key: &Key, streak: Option<(String, Streak)>) {
        let mut streaks = self.streaks.lock();
        match streak {
            Some(streak) => streaks.insert(key.clone(), streak),
            None => streaks.remove(key),
        };
    }
}

impl Reconciler for JobController {
    const NAME: &'static str = "job";
    const ACCOUNT: &'static str = "job-controller";
    const RESOURCE: &'static str = "jobs";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Job>(),
            owned_or_selected::<Pod, Job>(|job| job.spec.as_ref().and_then(|s| s.selector.clone())),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(job) = cx.cache.get::<Job>(&key.namespace, &key.name) else {
            self.remember(key, None);
            return release_orphans(cx, key).await;
        };
        let spec = job.spec.as_ref();
        // Somebody else's: the field names who.
        if spec.and_then(|s| s.managed_by.as_deref()).is_some_and(|by| by != "kubernetes.io/job-controller") {
            return Ok(Outcome::DONE);
        }
        let Some(labels) = spec.and_then(|s| s.selector.as_ref()) else { return Ok(Outcome::DONE) };
        let pods = claim_pods_held(cx, &*job, &selector(labels), TRACKING).await?;
        let plan = decide::decide(&job, &pods, self.streak(key, &job), cx.now);
        // First the note, then what it notes.
        if let Some(status) = plan.status {
            let mut next = (*job).clone();
            next.status = Some(status);
            cx.client.update_status(&next).await?;
        }
        self.remember(key, plan.streak.map(|streak| (uid(&job.metadata).to_owned(), streak)));
        for pod in plan.release {
            release(cx, &pod).await?;
        }
        for (pod, uncounted) in plan.delete {
            if uncounted {
                release(cx, &pod).await?;
            }
            let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
            match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), None).await {
                Ok(()) => cx.events.normal(&*job, "SuccessfulDelete", format!("Deleted pod: {n}")),
                Err(e) if e.is_not_found() || e.is_conflict() => {}
                Err(e) => {
                    cx.events.warning(&*job, "FailedDelete", format!("Error deleting: {e}"));
                    return Err(e.into());
                }
            }
        }
        create(cx, &job, &plan.create).await?;
        for told in plan.tell {
            cx.events.tell(protocol::events::reference(&*job), told.kind, &told.reason, told.message);
        }
        Ok(Outcome::again(plan.again_after))
    }
}

async fn create(cx: &Cx, job: &Job, wanted: &[Wanted]) -> Result<(), ReconcileError> {
    let mut left = wanted;
    for batch in batches(wanted.len()) {
        let (now, later) = left.split_at(batch);
        left = later;
        let pods: Vec<Pod> = now.iter().filter_map(|one| pod_of(job, *one)).collect();
        let mut failure = None;
        for result in futures::future::join_all(pods.iter().map(|p| cx.client.create(p))).await {
            match result {
                Ok(pod) => {
                    cx.events.normal(job, "SuccessfulCreate", format!("Created pod: {}", name(&pod.metadata)))
                }
                Err(e) if is_namespace_terminating(&e) => return Ok(()),
                Err(e) => {
                    cx.events.warning(job, "FailedCreate", format!("Error creating: {e}"));
                    failure = failure.or(Some(e));
                }
            }
        }
        if let Some(e) = failure {
            return Err(e.into());
        }
    }
    Ok(())
}

/// How the name of an index' pod begins: the Job's name gives way where both are too long.
fn indexed_prefix(owner: &str, index: i32) -> String {
    const PREFIX_CHARS_MAX: usize = 58;
    let end = format!("-{index}-");
    if owner.len() + end.len() <= PREFIX_CHARS_MAX {
        return format!("{owner}{end}");
    }
    owner.chars().take(PREFIX_CHARS_MAX.saturating_sub(end.len())).chain(end.chars()).collect()
}

/// The pod to make, with its index where it has one.
fn pod_of(job: &Job, wanted: Wanted) -> Option<Pod> {
    let index = wanted.index;
    let template = &job.spec.as_ref()?.template;
    let owner = name(&job.metadata);
    let prefix = match index {
        Some(index) => indexed_prefix(owner, index),
        None => name_prefix(owner),
    };
    let mut pod = from_template(template, namespace(&job.metadata), &prefix, controller_reference(job));
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(failures) = wanted.failures {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(COUNTED.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED.to_owned(), failures.ignored.to_string());
        }
    }
    if let Some(index) = index {
        for map in [&mut pod.metadata.labels, &mut pod.metadata.annotations] {
            map.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
        }
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(format!("{owner}-{index}"));
        let inits = spec.init_containers.iter_mut().flatten();
        for container in spec.containers.iter_mut().chain(inits) {
            let env = container.env.get_or_insert_default();
            if env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
                continue;
            }
            env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_owned(),
                value: None,
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        api_version: None,
                        field_path: format!("metadata.labels['{INDEX}']"),
                    }),
                    ..EnvVarSource::default()
                }),
            });
        }
    }
    Some(pod)
}

async fn release(cx: &Cx, pod: &Pod) -> Result<(), ReconcileError> {
    let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
    let patch =
        json!({"metadata": {"uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
    match cx.client.patch::<Pod>(ns, n, None, PatchKind::Strategic, &patch).await {
        Err(e) if !e.is_not_found() && !e.is_conflict() && e.code() != 422 => Err(e.into()),
        _ => Ok(()),
    }
}

/// Pods of a Job that is gone: nobody will account for them, so nothing may hold them.
async fn release_orphans(cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
    let snapshot = cx.cache.snapshot();
    let orphans: Vec<Arc<Pod>> = snapshot
        .list("", "pods", &key.namespace)
        .filter(|p| p.meta.controller().is_some_and(|o| &*o.kind == "Job" && *o.name == *key.name))
        .filter(|p| p.meta.finalizers.iter().any(|f| **f == *TRACKING))
        .filter_map(|p| p.typed::<Pod>().ok())
        .collect();
    for pod in orphans {
        release(cx, &pod).await?;
    }
    Ok(Outcome::DONE)
}
