//! What pods use, as the resource metrics API tells it, where there is one; and how many pods that calls for.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use protocol::request::Target;
use protocol::{ApiError, ApiRequest, Quantity, Selector, Verb};
use serde_json::Value;

use crate::api::object::{list, text};
use crate::controllers::machinery::Cx;
use crate::controllers::machinery::meta::{is_deleting, name};
use crate::controllers::machinery::pods::{condition, phase};
use crate::controllers::machinery::totals::total_amount;

/// For so long after its start, what a pod uses may be its start-up.
const INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that was not ready within this time from its start has never been.
const FIRST_READINESS: SignedDuration = SignedDuration::from_secs(30);
/// Ratios nearer to one than this are left alone.
pub const TOLERANCE: f64 = 0.1;

/// What one pod used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Thousandths of a unit.
    pub milli: i64,
    /// When it was measured.
    pub at: Timestamp,
    /// Over how long.
    pub window: SignedDuration,
}

/// What a metric is held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// Percent of what the pods request.
    Utilization(i32),
    /// Thousandths of a unit for each pod.
    Average(i64),
}

/// What a metric calls for.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Pods.
    pub replicas: i32,
    /// Percent in use, where that is the measure.
    pub utilization: Option<i32>,
    /// Thousandths of a unit that a pod uses.
    pub average_milli: i64,
}

/// Asks the metrics API what the selected pods use of a resource.
pub async fn fetch(
    cx: &Cx,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<String, Sample>, String> {
    let target = Target {
        group: "metrics.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        resource: "pods".to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Target::default()
    };
    let mut request = ApiRequest::new(Verb::List, target);
    request.options.label_selector = Some(selector.to_owned());
    let unable = |e: ApiError| {
        let said = if e.is_not_found() {
            "the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned()
        } else {
            e.to_string()
        };
        format!("unable to fetch metrics from resource metrics API: {said}")
    };
    let answer = cx.client.send(request).await.map_err(unable)?;
    let body: Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
    let items = list(&body, &["items"]);
    if items.is_empty() {
        return Err("no metrics returned from resource metrics API".to_owned());
    }
    let samples = items.iter().filter_map(|item| {
        let containers = list(item, &["containers"]).iter();
        let chosen = containers.filter(|c| container.is_none_or(|n| text(c, &["name"]) == n));
        // A pod of which a container is not measured yet would look idle.
        let amounts: Option<Vec<i64>> = chosen
            .map(|c| text(c, &["usage", resource]).parse::<Quantity>().ok().map(|q| q.milli()))
            .collect();
        let sample = Sample {
            milli: total_amount(amounts.filter(|a| !a.is_empty())?),
            at: text(item, &["timestamp"]).parse().ok()?,
            window: window(text(item, &["window"])),
        };
        Some((text(item, &["metadata", "name"]).to_owned(), sample))
    });
    Ok(samples.collect())
}

fn window(text: &str) -> SignedDuration {
    text.parse().unwrap_or(SignedDuration::from_mins(1))
}

/// What the selected pods request of a resource, by pod.
fn requests(pods: &[Arc<Pod>], resource: &str, only: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let mut out = BTreeMap::new();
    for pod in pods {
        let spec = pod.spec.as_ref();
        let sidecars = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = spec.into_iter().flat_map(|s| &s.containers).chain(sidecars);
        let mut sum = 0;
        for container in containers.filter(|c| only.is_none_or(|n| c.name == n)) {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let amount = requests.and_then(|r| r.get(resource)).and_then(|q| q.0.parse::<Quantity>().ok());
            let Some(amount) = amount else {
                return Err(format!(
                    "missing request for {resource} in container {} of Pod {}",
                    container.name,
                    name(&pod.metadata)
                ));
            };
            sum += amount.milli();
        }
        out.insert(name(&pod.metadata).to_owned(), sum);
    }
    Ok(out)
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

fn group(pods: &[Arc<Pod>], samples: &BTreeMap<String, Sample>, cpu: bool, now: Timestamp) -> Groups {
    let mut out = Groups::default();
    for pod in pods {
        let n = name(&pod.metadata).to_owned();
        if is_deleting(&pod.metadata) || phase(pod) == "Failed" {
            out.ignored.push(n);
        } else if phase(pod) == "Pending" {
            out.unready.push(n);
        } else {
            match samples.get(&n) {
                None => out.missing.push(n),
                Some(sample) if cpu && is_unready(pod, sample, now) => out.unready.push(n),
                Some(_) => out.ready += 1,
            }
        }
    }
    out
}

fn is_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(started, |t| t.0);
    let not_ready = ready.status == "False";
    if started + INITIALIZATION > now {
        not_ready || sample.at < changed + sample.window
    } else {
        not_ready && started + FIRST_READINESS > changed
    }
}

/// How many pods a metric calls for.
pub fn propose(
    pods: &[Arc<Pod>],
    mut samples: BTreeMap<String, Sample>,
    resource: &str,
    container: Option<&str>,
    goal: &Goal,
    current: i32,
    now: Timestamp,
) -> Result<Proposal, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(pods, &samples, resource == "cpu", now);
    for n in groups.ignored.iter().chain(&groups.unready) {
        samples.remove(n);
    }
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let requests = match goal {
        Goal::Utilization(_) => requests(pods, resource, container)?,
        Goal::Average(_) => BTreeMap::new(),
    };
    let mut usage: BTreeMap<String, i64> = samples.into_iter().map(|(n, s)| (n, s.milli)).collect();
    let (before, utilization, average_milli) = ratio(&usage, &requests, goal)?;
    let done = |replicas| Ok(Proposal { replicas, utilization, average_milli });
    let near = |ratio: f64| (1.0 - ratio).abs() <= TOLERANCE;
    let with_unready = !groups.unready.is_empty() && before > 1.0;
    if !with_unready && groups.missing.is_empty() {
        return done(if near(before) { current } else { up(before * groups.ready as f64) });
    }
    // What is not known is assumed so that the change is as small as can be.
    for n in &groups.missing {
        let assumed = match goal {
            _ if before > 1.0 => 0,
            Goal::Utilization(target) => {
                requests.get(n).copied().unwrap_or(0) * i64::from((*target).max(100)) / 100
            }
            Goal::Average(target) => *target,
        };
        if before != 1.0 {
            usage.insert(n.clone(), assumed);
        }
    }
    if with_unready {
        usage.extend(groups.unready.iter().map(|n| (n.clone(), 0)));
    }
    let (after, _, _) = ratio(&usage, &requests, goal)?;
    if near(after) || (before < 1.0) != (after < 1.0) {
        return done(current);
    }
    let replicas = up(after * usage.len() as f64);
    let backwards = (after < 1.0 && replicas > current) || (after > 1.0 && replicas < current);
    done(if backwards { current } else { replicas })
}

/// Rounds up, but not for what floating point adds.
fn up(pods: f64) -> i32 {
    (pods - 1e-9).ceil() as i32
}

/// How far use is from the goal; percent and amount in use.
fn ratio(
    usage: &BTreeMap<String, i64>,
    requests: &BTreeMap<String, i64>,
    goal: &Goal,
) -> Result<(f64, Option<i32>, i64), String> {
    let total = total_amount(usage.values().copied());
    let average = total / i64::try_from(usage.len().max(1)).unwrap_or(1);
    match goal {
        Goal::Average(target) => Ok((average as f64 / (*target).max(1) as f64, None, average)),
        Goal::Utilization(target) => {
            let asked = total_amount(usage.keys().filter_map(|n| requests.get(n)).copied());
            if asked == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let percent = i32::try_from(total.saturating_mul(100) / asked).unwrap_or(i32::MAX);
            Ok((f64::from(percent) / f64::from((*target).max(1)), Some(percent), average))
        }
    }
}

/// The pods that a scale's selector selects.
pub fn selected(cx: &Cx, namespace: &str, selector: &Selector) -> Vec<Arc<Pod>> {
    let snapshot = cx.cache.snapshot();
    let pods = snapshot.list("", "pods", namespace);
    pods.filter(|p| selector.matches_by(|k| p.meta.labels.get(k)))
        .filter_map(|p| p.typed::<Pod>().ok())
        .collect()
}
