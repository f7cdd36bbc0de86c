//! Changing the size of a Deployment while a rollout is under way or paused: pods are added to, or taken
//! from, its ReplicaSets in proportion to their sizes.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::revision::{desired_of, max_of};
use super::rolling::{Limits, desired, is_rolling, replicas};
use crate::controllers::machinery::meta::{created_second, name};
use crate::controllers::machinery::totals::total;

/// Whether a ReplicaSet that has pods was sized for another number than the Deployment now wants.
pub fn is_scaling(d: &Deployment, all: &[&ReplicaSet]) -> bool {
    all.iter().filter(|rs| replicas(rs) > 0).any(|rs| desired_of(rs).is_some_and(|n| n != desired(d)))
}

/// The sizes that the ReplicaSets should have, by name; those that keep theirs are included, because their
/// annotations may need the new limits.
pub fn sizes(d: &Deployment, new: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> Vec<(String, i32)> {
    let wanted = desired(d);
    if let Some(only) = active_or_latest(new, old) {
        return vec![(name(&only.metadata).to_owned(), wanted)];
    }
    let active_old = || old.iter().copied().filter(|rs| replicas(rs) > 0);
    if new.is_some_and(|rs| is_saturated(d, rs)) {
        return active_old().map(|rs| (name(&rs.metadata).to_owned(), 0)).collect();
    }
    if !is_rolling(d) {
        return Vec::new();
    }
    let limits = Limits::of(d);
    let mut all: Vec<&ReplicaSet> = active_old().chain(new.filter(|rs| replicas(rs) > 0)).collect();
    let total = total(all.iter().map(|rs| replicas(rs)));
    let allowed = if wanted > 0 { limits.max_total() } else { 0 };
    let to_add = allowed.saturating_sub(total);
    // Larger ones first; among equals the newer first when growing, the older first when shrinking.
    all.sort_by(|a, b| {
        let age = created_second(&a.metadata).cmp(&created_second(&b.metadata));
        replicas(b).cmp(&replicas(a)).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0i32;
    let mut out: Vec<(String, i32)> = Vec::with_capacity(all.len());
    for rs in &all {
        let share = share(d, rs, limits, to_add, added);
        added = added.saturating_add(share);
        out.push((name(&rs.metadata).to_owned(), replicas(rs).saturating_add(share)));
    }
    // What rounding left over goes to the largest.
    if let Some(first) = out.first_mut() {
        first.1 = first.1.saturating_add(to_add.saturating_sub(added)).max(0);
    }
    out
}

/// The one ReplicaSet that has pods; the newest when none has; `None` when several have.
fn active_or_latest<'a>(new: Option<&'a ReplicaSet>, old: &[&'a ReplicaSet]) -> Option<&'a ReplicaSet> {
    let mut active = old.iter().copied().chain(new).filter(|rs| replicas(rs) > 0);
    match (active.next(), active.next()) {
        (None, _) => new.or_else(|| old.iter().copied().max_by_key(|rs| created_second(&rs.metadata))),
        (Some(one), None) => Some(one),
        _ => None,
    }
}

fn is_saturated(d: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = desired(d);
    let available = new.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
    replicas(new) == wanted && desired_of(new) == Some(wanted) && available == wanted
}

fn share(d: &Deployment, rs: &ReplicaSet, limits: Limits, to_add: i32, added: i32) -> i32 {
    let size = replicas(rs);
    if size == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if limits.desired == 0 {
        -size
    } else {
        let before = max_of(rs)
            .filter(|n| *n > 0)
            .or_else(|| d.status.as_ref().and_then(|s| s.replicas))
            .filter(|n| *n > 0)
            .unwrap_or(size);
        let scaled = f64::from(size) * f64::from(limits.max_total()) / f64::from(before);
        (scaled.round() as i32).saturating_sub(size)
    };
    let left = to_add.saturating_sub(added);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

#[cfg(test)]
mod tests;
