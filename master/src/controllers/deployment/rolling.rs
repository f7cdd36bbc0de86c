//! The rolling strategy: how far each ReplicaSet may grow or shrink now, so that never more than
//! `maxSurge` pods are above the wanted number and never more than `maxUnavailable` are missing.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::machinery::totals::total;

/// What the strategy needs to know of one ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Name of the ReplicaSet.
    pub name: String,
    /// Pods asked for.
    pub replicas: i32,
    /// Pods that count as available.
    pub available: i32,
}

impl Size {
    /// Reads a ReplicaSet.
    pub fn of(rs: &ReplicaSet) -> Self {
        Size {
            name: rs.metadata.name.clone().unwrap_or_default(),
            replicas: replicas(rs),
            available: rs.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0),
        }
    }
}

/// Limits of a rollout, as pod counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pods wanted.
    pub desired: i32,
    /// Pods allowed above that.
    pub max_surge: i32,
    /// Pods allowed to be missing.
    pub max_unavailable: i32,
}

impl Limits {
    /// The limits in a Deployment's strategy; without a rolling strategy both are zero.
    pub fn of(d: &Deployment) -> Self {
        let desired = desired(d);
        let none = Limits { desired, max_surge: 0, max_unavailable: 0 };
        let Some(spec) = &d.spec else { return none };
        if !is_rolling(d) {
            return none;
        }
        let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter);
        let max_surge = resolve(surge, desired, true).unwrap_or(0);
        let mut max_unavailable = resolve(unavailable, desired, false).unwrap_or(0);
        // Both zero would never move; validation forbids it, but percentages can round to it.
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Limits { desired, max_surge, max_unavailable: max_unavailable.min(desired) }
    }

    /// The most pods that may exist.
    pub fn max_total(&self) -> i32 {
        self.desired.saturating_add(self.max_surge)
    }

    /// The fewest pods that must stay available.
    pub fn min_available(&self) -> i32 {
        self.desired.saturating_sub(self.max_unavailable)
    }
}

/// A count, or a percentage of `total` rounded up or down. `None` when the text is no percentage.
pub fn resolve(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(i64::from(total))?;
            let whole = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(whole).ok()
        }
    }
}

/// Pods that a Deployment asks for.
pub fn desired(d: &Deployment) -> i32 {
    d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Pods that a ReplicaSet asks for.
pub fn replicas(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Whether the strategy is the rolling one, which is the default.
pub fn is_rolling(d: &Deployment) -> bool {
    let strategy = d.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// The size that the current ReplicaSet may have now, given all pods asked for by it and the old ones.
pub fn new_size(limits: Limits, rolling: bool, new_replicas: i32, total_replicas: i32) -> i32 {
    if !rolling {
        return limits.desired;
    }
    if new_replicas >= limits.desired {
        return limits.desired;
    }
    let room = limits.max_total().saturating_sub(total_replicas);
    new_replicas + room.clamp(0, limits.desired - new_replicas)
}

/// How the old ReplicaSets' sizes change, step by step: first broken pods go, the oldest set's first, then as many
/// healthy ones as availability allows. A set of which both kinds go is there twice.
pub fn shrink_old(limits: Limits, new: &Size, old: &[Size]) -> Vec<(String, i32)> {
    let mut sizes = old.to_vec();
    let old_total = total(old.iter().map(|s| s.replicas));
    let min_available = limits.min_available();
    let new_unavailable = new.replicas.saturating_sub(new.available).max(0);
    // Pods of the current ReplicaSet that are not available yet may become so: they must not be paid for by
    // taking old ones.
    let needed = min_available.saturating_add(new_unavailable);
    let may_go = total([old_total, new.replicas]).saturating_sub(needed);
    if old_total == 0 || may_go <= 0 {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let mut step = |size: &mut Size, take: i32| {
        if take > 0 {
            size.replicas -= take;
            steps.push((size.name.clone(), size.replicas));
        }
    };
    let mut cleaned = 0;
    for size in &mut sizes {
        let broken = size.replicas.saturating_sub(size.available);
        let take = broken.clamp(0, (may_go - cleaned).max(0));
        step(size, take);
        cleaned += take;
    }
    let available = total(old.iter().map(|s| s.available).chain([new.available]));
    let mut spare = available.saturating_sub(min_available).max(0);
    for size in &mut sizes {
        let take = size.replicas.min(spare);
        step(size, take);
        spare -= take;
    }
    steps
}

#[cfg(test)]
mod tests;
