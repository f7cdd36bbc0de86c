//! Amounts of resources: what pods request and nodes have, as plain integers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use protocol::Quantity;

/// CPU that a container without a request counts with in scores, in thousandths.
pub const DEFAULT_CPU_MILLI: i64 = 100;
/// Memory that a container without a request counts with in scores, in bytes.
pub const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of every resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// CPU, in thousandths.
    pub cpu_milli: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// Ephemeral storage, in bytes.
    pub storage_bytes: i64,
    /// Pods.
    pub pods: i64,
    /// Anything else, by name.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    /// Adds everything but the number of pods.
    pub fn add(&mut self, more: &Amounts) {
        self.combine(more, i64::saturating_add);
    }

    /// Takes everything but the number of pods away.
    pub fn subtract(&mut self, less: &Amounts) {
        self.combine(less, i64::saturating_sub);
    }

    fn max(&mut self, other: &Amounts) {
        self.combine(other, std::cmp::max);
    }

    fn combine(&mut self, other: &Amounts, f: fn(i64, i64) -> i64) {
        self.cpu_milli = f(self.cpu_milli, other.cpu_milli);
        self.memory_bytes = f(self.memory_bytes, other.memory_bytes);
        self.storage_bytes = f(self.storage_bytes, other.storage_bytes);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_insert(0);
            *mine = f(*mine, *amount);
        }
    }
}

/// Reads a resource list; what is no quantity counts as nothing.
pub fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    let mut out = Amounts::default();
    for (name, text) in list.into_iter().flatten() {
        let Ok(quantity) = text.0.parse::<Quantity>() else { continue };
        match name.as_str() {
            "cpu" => out.cpu_milli = quantity.milli(),
            "memory" => out.memory_bytes = quantity.units(),
            "ephemeral-storage" => out.storage_bytes = quantity.units(),
            "pods" => out.pods = quantity.units(),
            _ => drop(out.others.insert(name.clone(), quantity.units())),
        }
    }
    out
}

fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    amounts(resources.and_then(|r| r.requests.as_ref()))
}

fn with_defaults(resources: Option<&ResourceRequirements>) -> Amounts {
    let list = resources.and_then(|r| r.requests.as_ref());
    let mut out = amounts(list);
    if list.is_none_or(|l| !l.contains_key("cpu")) {
        out.cpu_milli = DEFAULT_CPU_MILLI;
    }
    if list.is_none_or(|l| !l.contains_key("memory")) {
        out.memory_bytes = DEFAULT_MEMORY_BYTES;
    }
    out
}

/// What a pod requests: its containers together with its sidecars, or its largest init container (which runs
/// beside the sidecars started before it) where that is more; then its overhead. Requests of the pod as a
/// whole, where given, stand in place of the containers'.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    total(spec, requests)
}

/// [`pod_requests`] in CPU and memory, with defaults for containers that request none.
pub fn pod_nonzero(spec: &PodSpec) -> (i64, i64) {
    let out = total(spec, with_defaults);
    (out.cpu_milli, out.memory_bytes)
}

fn total(spec: &PodSpec, of: fn(Option<&ResourceRequirements>) -> Amounts) -> Amounts {
    let mut sum = Amounts::default();
    for container in &spec.containers {
        sum.add(&of(container.resources.as_ref()));
    }
    let mut sidecars = Amounts::default();
    let mut peak = Amounts::default();
    for init in spec.init_containers.iter().flatten() {
        let wants = of(init.resources.as_ref());
        if is_sidecar(init) {
            sum.add(&wants);
            sidecars.add(&wants);
            peak.max(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&wants);
            peak.max(&now);
        }
    }
    sum.max(&peak);
    if let Some(list) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let whole = amounts(Some(list));
        if list.contains_key("cpu") {
            sum.cpu_milli = whole.cpu_milli;
        }
        if list.contains_key("memory") {
            sum.memory_bytes = whole.memory_bytes;
        }
    }
    sum.add(&amounts(spec.overhead.as_ref()));
    sum
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, cpu_milli: i64, memory_bytes: i64) {
        let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        let got = pod_requests(&parsed);
        assert_eq!((got.cpu_milli, got.memory_bytes), (cpu_milli, memory_bytes), "{spec}");
    }

    #[test]
    fn requests_add_up_as_the_pod_runs() {
        let c = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Ki"}}});
        let sidecar = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        check(json!({"containers": [c("100m"), c("0.2")]}), 300, 2048);
        check(json!({"containers": [c("100m")], "initContainers": [c("1"), c("2")]}), 2000, 1024);
        check(json!({"containers": [c("100m")], "initContainers": [sidecar("1"), c("500m")]}), 1500, 1024);
        check(json!({"containers": [c("1")], "initContainers": [c("500m"), sidecar("1")]}), 2000, 1024);
        check(json!({"containers": [c("1")], "overhead": {"cpu": "10m"}}), 1010, 1024);
        check(json!({"containers": [c("1")], "resources": {"requests": {"cpu": "3"}}}), 3000, 1024);
    }

    #[test]
    fn scores_count_what_says_nothing() {
        let spec: PodSpec =
            serde_json::from_value(json!({"containers": [{"name": "c"}, {"name": "d"}]})).unwrap();
        assert_eq!(pod_nonzero(&spec), (2 * DEFAULT_CPU_MILLI, 2 * DEFAULT_MEMORY_BYTES));
        assert_eq!(pod_requests(&spec), Amounts::default());
    }
}
