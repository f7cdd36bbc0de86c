//! One metric of an autoscaler: what it says, and how many pods that calls for.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricSource,
    PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use protocol::Quantity;

use super::metrics::{self, Goal};
use super::others;
use crate::controllers::machinery::Cx;
use crate::controllers::machinery::labels::shown;
use crate::controllers::machinery::pods::{condition, phase};

/// What an autoscaler looks at.
pub struct View<'a> {
    /// Namespace of autoscaler, target and pods.
    pub namespace: &'a str,
    /// The selector of the target's pods.
    pub selector: &'a str,
    /// The pods.
    pub pods: &'a [Arc<Pod>],
    /// Pods that the target should have.
    pub current: i32,
    /// Pods that the target has.
    pub running: i32,
}

/// What a metric calls for.
pub struct Proposal {
    /// Pods.
    pub replicas: i32,
    /// What it is called when it is told of.
    pub name: String,
    /// What the autoscaler's status says of it.
    pub status: MetricStatus,
}

/// Why a metric calls for nothing.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Of event and condition.
    pub reason: &'static str,
    /// What they say.
    pub said: String,
    /// What is said of it among others.
    pub error: String,
}

impl Failure {
    fn of(reason: &'static str, said: String) -> Self {
        Failure { reason, error: said.clone(), said }
    }

    fn among_others(self, what: &str) -> Self {
        Failure { error: format!("{what}: {}", self.said), ..self }
    }
}

fn text(milli: i64) -> Text {
    Text(Quantity::from_milli(milli).to_string())
}

fn milli(quantity: Option<&Text>) -> Option<i64> {
    quantity?.0.parse::<Quantity>().ok().map(|q| q.milli())
}

/// Pods that run and are ready.
fn ready(pods: &[Arc<Pod>]) -> usize {
    let is_ready = |pod: &Pod| condition(pod, "Ready").is_some_and(|c| c.status == "True");
    pods.iter().filter(|pod| phase(pod) == "Running" && is_ready(pod)).count()
}

/// Measures by one metric.
pub async fn one(cx: &Cx, view: &View<'_>, spec: &MetricSpec) -> Result<Proposal, Failure> {
    match (spec.type_.as_str(), &spec.pods, &spec.object, &spec.external) {
        ("Pods", Some(source), ..) => {
            by_pods(cx, view, source).await.map_err(|f| f.among_others("failed to get pods metric value"))
        }
        ("Object", _, Some(source), _) => {
            by_object(cx, view, source).await.map_err(|f| f.among_others("failed to get object metric value"))
        }
        ("External", _, _, Some(source)) => by_external(cx, view, source).await.map_err(|failure| {
            let name = &source.metric.name;
            let metric = match source.target.average_value {
                Some(_) => format!("{name} external metric"),
                None => format!("external metric {name}"),
            };
            failure
                .among_others(&format!("failed to get {name} external metric value: failed to get {metric}"))
        }),
        _ => by_resource(cx, view, spec).await.map_err(|failure| {
            let of_pods = spec.resource.as_ref().map(|r| format!("{} resource", r.name));
            let of_one = spec.container_resource.as_ref().map(|r| format!("{} container", r.container));
            match of_pods.or(of_one) {
                Some(what) => failure.among_others(&format!("failed to get {what} metric value")),
                None => failure,
            }
        }),
    }
}

async fn by_pods(cx: &Cx, view: &View<'_>, source: &PodsMetricSource) -> Result<Proposal, Failure> {
    let failed = |why: String| Failure::of("FailedGetPodsMetric", why);
    let name = &source.metric.name;
    let target = milli(source.target.average_value.as_ref()).unwrap_or(0);
    let samples = others::of_pods(cx, view.namespace, view.selector, &source.metric).await;
    let samples = samples.map_err(|why| failed(format!("unable to get metric {name}: {why}")))?;
    let goal = Goal::Average(target);
    let proposal =
        metrics::propose(view.pods, samples, "", None, &goal, view.current, cx.now).map_err(failed)?;
    let current = MetricValueStatus {
        average_value: Some(text(proposal.average_milli)),
        ..MetricValueStatus::default()
    };
    Ok(Proposal {
        replicas: proposal.replicas,
        name: format!("pods metric {name}"),
        status: MetricStatus {
            type_: "Pods".to_owned(),
            pods: Some(PodsMetricStatus { metric: source.metric.clone(), current }),
            ..MetricStatus::default()
        },
    })
}

/// What a single value calls for: pods, and what the status says of it.
fn by_single(
    value: i64,
    target: &MetricTarget,
    view: &View<'_>,
) -> Option<Result<(i32, MetricValueStatus), String>> {
    let none = MetricValueStatus::default();
    let whole = milli(target.value.as_ref()).filter(|_| target.type_ == "Value");
    if let Some(wanted) = whole {
        if view.current != 0 && view.pods.is_empty() {
            let why = "unable to calculate ready pods: no pods returned by selector while calculating replica count";
            return Some(Err(why.to_owned()));
        }
        let replicas = others::by_value(value, wanted, view.current, ready(view.pods));
        return Some(Ok((replicas, MetricValueStatus { value: Some(text(value)), ..none })));
    }
    let wanted = milli(target.average_value.as_ref()).filter(|_| target.type_ == "AverageValue")?;
    let (replicas, each) = others::by_average(value, wanted, view.running);
    Some(Ok((replicas, MetricValueStatus { average_value: Some(text(each)), ..none })))
}

async fn by_object(cx: &Cx, view: &View<'_>, source: &ObjectMetricSource) -> Result<Proposal, Failure> {
    let failed = |why: String| Failure::of("FailedGetObjectMetric", why);
    let (name, object) = (&source.metric.name, &source.described_object);
    let value = others::of_object(cx, view.namespace, object, &source.metric).await.map_err(|why| {
        // The order is upstream's.
        failed(format!(
            "unable to get metric {name}: {} on {} {}/{why}",
            object.kind, view.namespace, object.name
        ))
    })?;
    let made = by_single(value, &source.target, view).ok_or_else(|| {
        let why = "invalid object metric source: neither a value target nor an average value target was set";
        failed(why.to_owned())
    })?;
    let (replicas, current) = made.map_err(failed)?;
    let shown = match current.value {
        Some(_) => format!("{} metric {name}", object.kind),
        None => format!("external metric {name}({})", shown(source.metric.selector.as_ref())),
    };
    let status =
        ObjectMetricStatus { described_object: object.clone(), metric: source.metric.clone(), current };
    let status = MetricStatus { type_: "Object".to_owned(), object: Some(status), ..MetricStatus::default() };
    Ok(Proposal { replicas, name: shown, status })
}

async fn by_external(cx: &Cx, view: &View<'_>, source: &ExternalMetricSource) -> Result<Proposal, Failure> {
    let failed = |why: String| Failure::of("FailedGetExternalMetric", why);
    let name = &source.metric.name;
    let selector = shown(source.metric.selector.as_ref());
    let value = others::external(cx, view.namespace, &source.metric).await;
    let value = value.map_err(|why| {
        failed(format!("unable to get external metric {}/{name}/{selector}: {why}", view.namespace))
    })?;
    let made = by_single(value, &source.target, view).ok_or_else(|| {
        let why =
            "invalid external metric source: neither a value target nor an average value target was set";
        failed(why.to_owned())
    })?;
    let (replicas, current) = made.map_err(failed)?;
    let status = ExternalMetricStatus { metric: source.metric.clone(), current };
    let status =
        MetricStatus { type_: "External".to_owned(), external: Some(status), ..MetricStatus::default() };
    Ok(Proposal { replicas, name: format!("external metric {name}({selector})"), status })
}

async fn by_resource(cx: &Cx, view: &View<'_>, spec: &MetricSpec) -> Result<Proposal, Failure> {
    let (resource, container, target, reason) =
        match (spec.type_.as_str(), &spec.resource, &spec.container_resource) {
            ("Resource", Some(r), _) => (&r.name, None, &r.target, "FailedGetResourceMetric"),
            ("ContainerResource", _, Some(r)) => {
                (&r.name, Some(r.container.as_str()), &r.target, "FailedGetContainerResourceMetric")
            }
            (kind, _, _) => {
                let why = format!("unknown metric source type {kind:?}");
                return Err(Failure::of("InvalidMetricSourceType", why));
            }
        };
    let unable = |why: String| {
        let what = if target.average_utilization.is_some() { "utilization" } else { "usage" };
        Failure::of(reason, format!("failed to get {resource} {what}: {why}"))
    };
    let goal = goal(target).ok_or_else(|| {
        let why = "invalid resource metric source: neither an average utilization target nor an average value (usage) \
                   target was set";
        Failure::of(reason, why.to_owned())
    })?;
    let samples = metrics::fetch(cx, view.namespace, view.selector, resource, container)
        .await
        .map_err(|why| unable(format!("unable to get metrics for resource {resource}: {why}")))?;
    let proposal = metrics::propose(view.pods, samples, resource, container, &goal, view.current, cx.now)
        .map_err(unable)?;
    let value = MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: Some(text(proposal.average_milli)),
        value: None,
    };
    let measure = if proposal.utilization.is_some() {
        "resource utilization (percentage of request)"
    } else {
        "resource"
    };
    let (shown, status) = match container {
        None => (
            format!("{resource} {measure}"),
            MetricStatus {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricStatus { name: resource.clone(), current: value }),
                ..MetricStatus::default()
            },
        ),
        Some(container) => (
            format!("{resource} container {measure}"),
            MetricStatus {
                type_: "ContainerResource".to_owned(),
                container_resource: Some(ContainerResourceMetricStatus {
                    container: container.to_owned(),
                    name: resource.clone(),
                    current: value,
                }),
                ..MetricStatus::default()
            },
        ),
    };
    Ok(Proposal { replicas: proposal.replicas, name: shown, status })
}

fn goal(target: &MetricTarget) -> Option<Goal> {
    match (target.average_utilization, &target.average_value) {
        (Some(percent), _) => Some(Goal::Utilization(percent)),
        (None, Some(value)) => milli(Some(value)).map(Goal::Average),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let pod =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn single_values_are_held_against_their_targets() {
        let pods = [pod(true), pod(true), pod(false)];
        let view = |pods| View { namespace: "n", selector: "a=b", pods, current: 3, running: 3 };
        let target =
            |target: serde_json::Value| serde_json::from_value::<MetricTarget>(target).expect("a target");
        let whole = target(json!({"type": "Value", "value": "10"}));
        let (replicas, current) = by_single(30_000, &whole, &view(&pods)).expect("a target").expect("pods");
        assert_eq!((replicas, current.value), (6, Some(text(30_000))), "two of three pods are ready");
        assert!(by_single(30_000, &whole, &view(&[])).expect("a target").is_err());
        let each = target(json!({"type": "AverageValue", "averageValue": "10"}));
        let (replicas, current) = by_single(60_000, &each, &view(&pods)).expect("a target").expect("pods");
        assert_eq!((replicas, current.average_value), (6, Some(text(20_000))));
        assert!(
            by_single(1, &target(json!({"type": "Utilization", "averageUtilization": 5})), &view(&pods))
                .is_none()
        );
    }
}
