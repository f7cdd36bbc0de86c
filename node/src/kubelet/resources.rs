//! From requests and limits to QoS classes, cgroup settings and OOM scores. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use protocol::quantity::Quantity;

use super::pod;
use crate::runtime::Limits;

#[cfg(test)]
mod tests;

/// CFS period in µs.
const PERIOD_US: i64 = 100_000;
/// The least quota that the kernel takes, in µs.
const QUOTA_US_MIN: i64 = 1000;
/// The least cpu shares that the kernel takes.
const SHARES_MIN: i64 = 2;
/// The most cpu shares that the kernel takes.
const SHARES_MAX: i64 = 262_144;

/// How sure a pod's resources are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Every container's limits are set and equal its requests.
    Guaranteed,
    /// Something is requested.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// A list of amounts by resource name.
pub type Amounts = BTreeMap<String, ApiQuantity>;

/// CPU in millicores; 0 when absent or unreadable.
pub fn cpu_milli(amounts: Option<&Amounts>) -> i64 {
    parsed(amounts, "cpu").map_or(0, |q| q.milli())
}

/// An amount in whole units (bytes); 0 when absent or unreadable.
pub fn units(amounts: Option<&Amounts>, name: &str) -> i64 {
    parsed(amounts, name).map_or(0, |q| q.units())
}

fn parsed(amounts: Option<&Amounts>, name: &str) -> Option<Quantity> {
    amounts?.get(name)?.0.parse().ok()
}

fn resources(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// The pod's QoS class, from cpu and memory of all its containers.
pub fn qos(spec: &PodSpec) -> Qos {
    let mut any = false;
    let mut guaranteed = true;
    for (_, container) in pod::containers(spec) {
        let r = resources(container);
        for (name, request, limit) in [
            ("cpu", cpu_milli(r.requests.as_ref()), cpu_milli(r.limits.as_ref())),
            ("memory", units(r.requests.as_ref(), "memory"), units(r.limits.as_ref(), "memory")),
        ] {
            any |= request > 0 || limit > 0;
            let absent = r.requests.as_ref().is_none_or(|all| !all.contains_key(name));
            // A limit without a request is a request of the same size.
            guaranteed &= limit > 0 && (absent || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// cgroup cpu shares of a request.
pub fn shares(milli: i64) -> i64 {
    if milli == 0 { SHARES_MIN } else { (milli * 1024 / 1000).clamp(SHARES_MIN, SHARES_MAX) }
}

/// CFS quota per [`PERIOD_US`] of a limit; 0 for none.
pub fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * PERIOD_US / 1000).max(QUOTA_US_MIN) }
}

/// How eagerly the kernel kills the container for want of memory.
pub fn oom_score(qos: Qos, memory_request: i64, memory_capacity: i64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable if memory_capacity <= 0 => 999,
        Qos::Burstable => {
            let share = i64::try_from(1000 * i128::from(memory_request) / i128::from(memory_capacity));
            (1000 - share.unwrap_or(1000)).clamp(3, 999)
        }
    }
}

/// A container's cgroup settings.
pub fn limits(spec: &PodSpec, container: &Container, memory_capacity: i64, pids: i64) -> Limits {
    let r = resources(container);
    let cpu_limit = cpu_milli(r.limits.as_ref());
    let request = r.requests.as_ref().filter(|all| all.contains_key("cpu"));
    // Without a request the limit is one.
    let cpu_request = request.map_or(cpu_limit, |all| cpu_milli(Some(all)));
    let memory = units(r.limits.as_ref(), "memory");
    let memory_request = match units(r.requests.as_ref(), "memory") {
        0 => memory,
        n => n,
    };
    let quota = quota(cpu_limit);
    Limits {
        cpu_shares: shares(cpu_request),
        cpu_quota: quota,
        cpu_period: if quota > 0 { PERIOD_US } else { 0 },
        memory,
        pids,
        oom_score_adj: oom_score(qos(spec), memory_request, memory_capacity),
        cgroup_parent: String::new(),
    }
}

/// The pod's own cgroup below `root`; empty when `root` is.
pub fn cgroup(root: &str, spec: &PodSpec, uid: &str, systemd: bool) -> String {
    if root.is_empty() {
        return String::new();
    }
    let class = match qos(spec) {
        Qos::Guaranteed => "",
        Qos::Burstable => "burstable",
        Qos::BestEffort => "besteffort",
    };
    match (systemd, class) {
        (false, "") => format!("/{root}/pod{uid}"),
        (false, class) => format!("/{root}/{class}/pod{uid}"),
        (true, "") => format!("{root}-pod{}.slice", uid.replace('-', "_")),
        (true, class) => format!("{root}-{class}-pod{}.slice", uid.replace('-', "_")),
    }
}

/// What `resourceFieldRef` says, divided and rounded up. Without a limit it is the node's allocatable.
pub fn resource_field(
    container: &Container,
    resource: &str,
    divisor: &str,
    node: &Amounts,
) -> Option<String> {
    let r = resources(container);
    let (list, name) = resource.split_once('.')?;
    let own = if list == "limits" { r.limits } else { r.requests };
    let amount = own
        .as_ref()
        .and_then(|all| all.get(name))
        .or_else(|| if list == "limits" { node.get(name) } else { None })
        .map_or("0", |q| q.0.as_str());
    let amount = amount.parse::<Quantity>().ok()?;
    let divisor = match divisor {
        "" | "0" => "1",
        given => given,
    };
    let divisor = divisor.parse::<Quantity>().ok()?;
    // Bytes overflow an i64 of thousandths beyond a few PiB, so that whole units are divided as such.
    let (amount, divisor) = match name {
        "cpu" => (i128::from(amount.milli()), i128::from(divisor.milli())),
        _ => (i128::from(amount.units()), i128::from(divisor.units())),
    };
    if divisor <= 0 { None } else { Some(((amount + divisor - 1) / divisor).to_string()) }
}
