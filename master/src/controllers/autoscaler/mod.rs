//! HorizontalPodAutoscalers: size workloads by what their pods use.
//!
//! [`metrics`] and [`others`] know what is used, of resources and of whatever other servers measure; [`measure`]
//! what that calls for, [`decide`] how much of it is done. Any kind with a `scale` can be sized.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use protocol::request::Target;
use protocol::{ApiError, ApiRequest, Selector, Verb};
use serde_json::{Value, json};

use super::machinery::meta::{is_deleting, time};
use super::machinery::watches::own;
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::api::custom::Catalog;
use crate::api::object::{int, text};

pub mod decide;
pub mod measure;
pub mod metrics;
pub mod others;

use decide::{Memory, bounds, set_condition, settle};
use measure::View;

/// How often use is looked at.
const PERIOD: Duration = Duration::from_secs(15);
/// A look may come earlier by so much.
const EARLY: Duration = Duration::from_millis(500);

/// The controller.
#[derive(Default)]
pub struct AutoscalerController {
    /// What is remembered of the autoscalers that exist.
    memory: Mutex<HashMap<Key, Kept>>,
}

#[derive(Clone, Default)]
struct Kept {
    /// Recent recommendations.
    memory: Memory,
    /// When it was looked at last, and in which generation.
    looked: Option<(Timestamp, Option<i64>)>,
}

/// How long an autoscaler waits that was looked at already, or made then, and did not change since: what is written about a look is no
/// reason for another.
fn pause(
    looked: Option<(Timestamp, Option<i64>)>,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Duration> {
    let (at, _) = looked.filter(|(_, seen)| *seen == generation)?;
    let left = PERIOD.checked_sub(Duration::try_from(now.duration_since(at)).ok()?)?;
    (left > EARLY).then_some(left)
}

impl Reconciler for AutoscalerController {
    const NAME: &'static str = "horizontalpodautoscaler";
    const ACCOUNT: &'static str = "horizontal-pod-autoscaler";
    const RESOURCE: &'static str = "horizontalpodautoscalers";

    fn watches(&self) -> Vec<Watch> {
        vec![own::<HorizontalPodAutoscaler>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(hpa) = cx.cache.get::<HorizontalPodAutoscaler>(&key.namespace, &key.name) else {
            self.memory.lock().remove(key);
            return Ok(Outcome::DONE);
        };
        if is_deleting(&hpa.metadata) {
            return Ok(Outcome::DONE);
        }
        let mut kept = self.memory.lock().get(key).cloned().unwrap_or_default();
        let generation = hpa.metadata.generation;
        // What was made just now has its target's pods to come yet.
        let made = hpa.metadata.creation_timestamp.as_ref().map(|at| (at.0, generation));
        if let Some(left) = pause(kept.looked.or(made), generation, cx.now) {
            return Ok(Outcome::again(left));
        }
        let status = scale(cx, &hpa, &mut kept.memory).await;
        kept.looked = Some((cx.now, generation));
        self.memory.lock().insert(key.clone(), kept);
        if hpa.status.as_ref() != Some(&status) {
            let mut copy = (*hpa).clone();
            copy.status = Some(status);
            cx.client.update_status(&copy).await?;
        }
        Ok(Outcome::again(PERIOD))
    }
}

/// Looks and sizes once; what comes of it is the status.
async fn scale(cx: &Cx, hpa: &HorizontalPodAutoscaler, memory: &mut Memory) -> HorizontalPodAutoscalerStatus {
    let mut status = hpa.status.clone().unwrap_or_default();
    status.observed_generation = hpa.metadata.generation;
    let mut conditions = status.conditions.take().unwrap_or_default();
    let (target, scale) = match read_scale(cx, hpa).await {
        Ok(found) => found,
        Err(why) => {
            cx.events.warning(hpa, "FailedGetScale", why.clone());
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            set_condition(&mut conditions, "AbleToScale", false, "FailedGetScale", message, cx.now);
            status.conditions = Some(conditions);
            return status;
        }
    };
    let message = "the HPA controller was able to get the target's current scale".to_owned();
    set_condition(&mut conditions, "AbleToScale", true, "SucceededGetScale", message, cx.now);
    let current = int(&scale, &["spec", "replicas"]).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    let seen = int(&scale, &["status", "replicas"]).and_then(|n| i32::try_from(n).ok());
    status.current_replicas = seen.or(Some(current));
    let (min, max) = bounds(hpa);
    let (desired, reason) = if current == 0 && min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero".to_owned();
        set_condition(&mut conditions, "ScalingActive", false, "ScalingDisabled", message, cx.now);
        (0, String::new())
    } else if current > max {
        (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
    } else if current < min {
        (min, "Current number of replicas below Spec.MinReplicas".to_owned())
    } else {
        match measure(cx, hpa, &scale, current, &mut conditions).await {
            Ok(measured) => {
                status.current_metrics = (!measured.statuses.is_empty()).then_some(measured.statuses);
                let reason = if measured.replicas > current {
                    format!("{} above target", measured.name)
                } else {
                    "All metrics below target".to_owned()
                };
                (settle(hpa, memory, current, measured.replicas, &mut conditions, cx.now), reason)
            }
            Err(Unmeasured { why, statuses }) => {
                cx.events.warning(hpa, "FailedComputeMetricsReplicas", why);
                status.current_metrics = (!statuses.is_empty()).then_some(statuses);
                status.conditions = Some(conditions);
                return status;
            }
        }
    };
    status.desired_replicas = current;
    if desired != current {
        match write_scale(cx, target, scale, desired).await {
            Ok(()) => {
                let message = format!("the HPA controller was able to update the target scale to {desired}");
                set_condition(&mut conditions, "AbleToScale", true, "SucceededRescale", message, cx.now);
                let told = format!("New size: {desired}; reason: {reason}");
                cx.events.normal(hpa, "SuccessfulRescale", told);
                memory.scaled(cx.now, desired - current);
                status.desired_replicas = desired;
                status.last_scale_time = Some(time(cx.now));
            }
            Err(e) => {
                let told = format!("New size: {desired}; reason: {reason}; error: {e}");
                cx.events.warning(hpa, "FailedRescale", told);
                let message = format!("the HPA controller was unable to update the target scale: {e}");
                set_condition(&mut conditions, "AbleToScale", false, "FailedUpdateScale", message, cx.now);
            }
        }
    }
    status.conditions = Some(conditions);
    status
}

/// The target's `scale`, and where it is.
async fn read_scale(cx: &Cx, hpa: &HorizontalPodAutoscaler) -> Result<(Target, Value), String> {
    let reference = &hpa.spec.scale_target_ref;
    let api_version = reference.api_version.as_deref().unwrap_or("v1");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = &reference.kind;
    let catalog = cx.cache.derived::<Catalog>();
    let resource = catalog
        .by_kind(api_version, kind)
        .ok_or_else(|| format!("no matches for kind {kind:?} in group {group:?}"))?;
    let target = Target {
        group: resource.group.to_owned(),
        version: resource.version.to_owned(),
        resource: resource.plural.to_owned(),
        namespace: hpa.metadata.namespace.clone(),
        name: Some(reference.name.clone()),
        subresource: Some("scale".to_owned()),
    };
    let answer =
        cx.client.send(ApiRequest::new(Verb::Get, target.clone())).await.map_err(|e| e.to_string())?;
    let scale = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
    Ok((target, scale))
}

async fn write_scale(cx: &Cx, target: Target, mut scale: Value, replicas: i32) -> Result<(), ApiError> {
    scale["spec"]["replicas"] = json!(replicas);
    let mut request = ApiRequest::new(Verb::Update, target);
    request.body = scale.to_string().into();
    cx.client.send(request).await.map(drop)
}

/// What the metrics together call for.
struct Measured {
    replicas: i32,
    /// The metric that calls for most.
    name: String,
    statuses: Vec<MetricStatus>,
}

/// Why nothing follows from the metrics, and what is known of each.
struct Unmeasured {
    why: String,
    statuses: Vec<MetricStatus>,
}

impl From<String> for Unmeasured {
    fn from(why: String) -> Self {
        Unmeasured { why, statuses: Vec::new() }
    }
}

type Conditions = Vec<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition>;

async fn measure(
    cx: &Cx,
    hpa: &HorizontalPodAutoscaler,
    scale: &Value,
    current: i32,
    conditions: &mut Conditions,
) -> Result<Measured, Unmeasured> {
    let selector = text(scale, &["status", "selector"]);
    let Ok(selects) = Selector::parse(selector) else {
        let why = "couldn't convert selector into a corresponding internal selector object".to_owned();
        set_condition(conditions, "ScalingActive", false, "InvalidSelector", why.clone(), cx.now);
        return Err(why.into());
    };
    if selector.is_empty() {
        let message = "the HPA target's scale is missing a selector".to_owned();
        cx.events.warning(hpa, "SelectorRequired", "selector is required");
        set_condition(conditions, "ScalingActive", false, "InvalidSelector", message, cx.now);
        return Err("selector is required".to_owned().into());
    }
    let namespace = hpa.metadata.namespace.as_deref().unwrap_or_default();
    let pods = metrics::selected(cx, namespace, &selects);
    let running = int(scale, &["status", "replicas"]).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    let view = View { namespace, selector, pods: &pods, current, running };
    let specs = hpa.spec.metrics.clone().unwrap_or_default();
    let mut best: Option<(i32, String)> = None;
    let (mut statuses, mut failures) = (Vec::new(), Vec::new());
    for spec in &specs {
        match measure::one(cx, &view, spec).await {
            Ok(proposal) => {
                statuses.push(proposal.status);
                if best.as_ref().is_none_or(|(most, _)| proposal.replicas > *most) {
                    best = Some((proposal.replicas, proposal.name));
                }
            }
            Err(failure) => {
                cx.events.warning(hpa, failure.reason, failure.said.clone());
                failures.push(failure);
                // Its place stays empty.
                statuses.push(MetricStatus::default());
            }
        }
    }
    // What could not be measured might call for more pods: then none are taken away.
    let lowers = best.as_ref().is_none_or(|(replicas, _)| *replicas < current);
    if let Some(failure) = failures.first()
        && lowers
    {
        let message = format!("the HPA was unable to compute the replica count: {}", failure.said);
        set_condition(conditions, "ScalingActive", false, failure.reason, message, cx.now);
        let why = format!(
            "invalid metrics ({} invalid out of {}), first error is: {}",
            failures.len(),
            specs.len(),
            failure.error
        );
        return Err(Unmeasured { why, statuses });
    }
    let (replicas, name) = best.unwrap_or((current, String::new()));
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    set_condition(conditions, "ScalingActive", true, "ValidMetricFound", message, cx.now);
    Ok(Measured { replicas, name, statuses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_a_period_unless_the_autoscaler_changed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let looked = Some((at(100), Some(1)));
        assert_eq!(pause(None, Some(1), at(100)), None, "never looked at");
        assert_eq!(pause(looked, Some(2), at(101)), None, "changed since");
        assert_eq!(pause(looked, Some(1), at(101)), Some(Duration::from_secs(14)));
        assert_eq!(pause(looked, Some(1), at(115)), None, "the period is over");
    }
}
