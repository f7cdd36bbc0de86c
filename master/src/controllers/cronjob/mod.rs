//! CronJobs: Jobs that start by the clock.
//!
//! [`schedule`] knows when, [`decide`] whether.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use protocol::{ApiError, ApiRequest, Client, Verb};

use super::deployment::is_namespace_terminating;
use super::job::decide::is_over;
use super::machinery::meta::{controller_reference, is_controlled_by, name, namespace, uid};
use super::machinery::watches::{own, owned};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use protocol::events::reference;

pub mod decide;
pub mod schedule;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The controller.
pub struct CronJobController;

impl Reconciler for CronJobController {
    const NAME: &'static str = "cronjob";
    const ACCOUNT: &'static str = "cronjob-controller";
    const RESOURCE: &'static str = "cronjobs";

    fn watches(&self) -> Vec<Watch> {
        vec![own::<CronJob>(), owned::<Job, CronJob>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(cron) = cx.cache.get::<CronJob>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        let jobs = jobs_of(cx, &cron);
        // First what history drops goes, and is said no more of.
        let mut known = (*cron).clone();
        for job in decide::surplus(&cron, &jobs) {
            delete(cx, &cron, name(&job.metadata), uid(&job.metadata)).await?;
            let active = known.status.as_mut().and_then(|s| s.active.as_mut());
            active.into_iter().for_each(|a| a.retain(|r| r.uid.as_deref() != Some(uid(&job.metadata))));
        }
        let mut plan = decide::decide(&known, &jobs, cx.now);
        for told in &plan.tell {
            cx.events.tell(reference(&*cron), told.kind, told.reason, told.message.clone());
        }
        let mut failure = None;
        if let Some(time) = plan.start {
            for job in &plan.replace {
                let job_name = job.name.as_deref().unwrap_or_default();
                delete(cx, &cron, job_name, job.uid.as_deref().unwrap_or_default()).await?;
                plan.status.active.iter_mut().for_each(|a| a.retain(|r| r.uid != job.uid));
            }
            match start(cx, &cron, time).await {
                Ok(Some(job)) => {
                    plan.status.active.get_or_insert_default().push(job);
                    plan.status.last_schedule_time = Some(Time(time));
                }
                Ok(None) => {}
                Err(e) => failure = Some(e),
            }
        }
        if cron.status.clone().unwrap_or_default() != plan.status {
            let mut next = (*cron).clone();
            next.status = Some(plan.status);
            cx.client.update_status(&next).await?;
        }
        match failure {
            Some(e) => Err(e.into()),
            None => Ok(Outcome::again(plan.again_after)),
        }
    }
}

fn jobs_of(cx: &Cx, cron: &CronJob) -> Vec<Arc<Job>> {
    let snapshot = cx.cache.snapshot();
    let owned = snapshot.owned_by(uid(&cron.metadata)).filter(|s| s.kind() == ("batch", "jobs"));
    owned
        .filter_map(|s| s.typed::<Job>().ok())
        .filter(|j| is_controlled_by(&j.metadata, uid(&cron.metadata)))
        .collect()
}

/// Starts the Job of a time; `None` where there is nothing to note about it.
async fn start(cx: &Cx, cron: &CronJob, time: Timestamp) -> Result<Option<ObjectReference>, ApiError> {
    let Some(job) = job_of(cron, time) else { return Ok(None) };
    match cx.client.create(&job).await {
        Ok(job) => {
            let message = format!("Created job {}", name(&job.metadata));
            cx.events.normal(cron, "SuccessfulCreate", message);
            Ok(Some(reference(&job)))
        }
        Err(e) if is_namespace_terminating(&e) => Ok(None),
        // Made before, and then not noted.
        Err(e) if e.is_already_exists() => {
            let there: Job = cx.client.get(namespace(&cron.metadata), name(&job.metadata)).await?;
            let ours = is_controlled_by(&there.metadata, uid(&cron.metadata)) && !is_over(&there);
            Ok(ours.then(|| reference(&there)))
        }
        Err(e) => {
            cx.events.warning(cron, "FailedCreate", format!("Error creating job: {e}"));
            Err(e)
        }
    }
}

fn job_of(cron: &CronJob, time: Timestamp) -> Option<Job> {
    let spec = &cron.spec;
    let template = &spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let zone = schedule::zone(spec.time_zone.as_deref()).ok()?;
    let shown = if spec.time_zone.is_some() {
        time.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z")
    } else {
        time.to_string()
    };
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), shown);
    Some(Job {
        metadata: ObjectMeta {
            name: Some(decide::job_name(cron, time)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    })
}

async fn delete(cx: &Cx, cron: &CronJob, job: &str, job_uid: &str) -> Result<(), ReconcileError> {
    let target = Client::target::<Job>(namespace(&cron.metadata), Some(job), None);
    let mut request = ApiRequest::new(Verb::Delete, target);
    request.options.propagation_policy = Some("Background".to_owned());
    request.options.precondition_uid = Some(job_uid.to_owned());
    match cx.client.send(request).await {
        Ok(_) => {
            cx.events.normal(cron, "SuccessfulDelete", format!("Deleted job {job}"));
            Ok(())
        }
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(()),
        Err(e) => {
            cx.events.warning(cron, "FailedDelete", format!("Deleted job: {e}"));
            Err(e.into())
        }
    }
}
