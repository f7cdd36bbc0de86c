//! Deletes Jobs that have been over for `ttlSecondsAfterFinished`.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use protocol::{ApiRequest, Client, Verb};

use super::decide::is_over;
use crate::controllers::machinery::meta::{is_deleting, plus_seconds, until};
use crate::controllers::machinery::watches::own;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct TtlAfterFinishedController;

impl Reconciler for TtlAfterFinishedController {
    const NAME: &'static str = "ttl_jobs_to_delete";
    const ACCOUNT: &'static str = "ttl-after-finished-controller";
    const RESOURCE: &'static str = "jobs";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![own::<Job>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(job) = cx.cache.get::<Job>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        let Some(at) = expires(&job) else { return Ok(Outcome::DONE) };
        let left = until(cx.now, at);
        if !left.is_zero() {
            return Ok(Outcome::again(left));
        }
        // The server's copy counts: its time may have been prolonged.
        let Some(fresh) = cx.client.find::<Job>(&key.namespace, &key.name).await? else {
            return Ok(Outcome::DONE);
        };
        if expires(&fresh).is_none_or(|at| at > cx.now) {
            return Ok(Outcome::DONE);
        }
        let target = Client::target::<Job>(&key.namespace, Some(&key.name), None);
        let mut request = ApiRequest::new(Verb::Delete, target);
        request.options.propagation_policy = Some("Foreground".to_owned());
        request.options.precondition_uid = fresh.metadata.uid.clone();
        request.options.precondition_resource_version = fresh.metadata.resource_version.clone();
        match cx.client.send(request).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// When a Job may go; `None` where it may stay.
fn expires(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if !is_over(job) || is_deleting(&job.metadata) {
        return None;
    }
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let over = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    over.last_transition_time.as_ref().map(|t| plus_seconds(t.0, i64::from(seconds)))
}
