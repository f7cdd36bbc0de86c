//! One look at a Deployment and its ReplicaSets; what to write now. Pure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::hash::{POD_TEMPLATE_HASH, pod_template_hash};
use super::revision::{REVISION, annotate, find_new, revision_of, set_sizes, sort_by_age};
use super::rollback::{self, Rollback};
use super::rolling::{Limits, Size, desired, is_rolling, new_size, replicas, shrink_old};
use super::status::{self, PROGRESSING, condition, has_deadline, new_condition, set_condition};
use super::{recreate, scale};
use crate::controllers::machinery::meta::{
    annotation, controller_reference, created_second, is_deleting, name, namespace,
};
use crate::controllers::machinery::totals::total;

/// What to write. Empty when everything is as it should be.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// A new current ReplicaSet.
    pub create: Option<Box<ReplicaSet>>,
    /// ReplicaSets to replace, with the sizes before and after where those change. One may be there several times:
    /// each time is a step that follows on the one before.
    pub update: Vec<(ReplicaSet, Option<(i32, i32)>)>,
    /// The Deployment with the rollback that it asks for, done or given up.
    pub rollback: Option<Rollback>,
    /// Names of ReplicaSets beyond the history limit.
    pub delete: Vec<String>,
    /// The revision to write on the Deployment.
    pub revision: Option<String>,
    /// The status to write, if it differs.
    pub status: Option<DeploymentStatus>,
    /// Look again after this long.
    pub again_after: Option<Duration>,
}

/// What a decision is made from.
pub struct View<'a> {
    /// The Deployment.
    pub d: &'a Deployment,
    /// Its ReplicaSets, in any order.
    pub sets: Vec<&'a ReplicaSet>,
    /// Pods of those ReplicaSets.
    pub pods: Vec<std::sync::Arc<Pod>>,
    /// The time.
    pub now: Timestamp,
}

impl View<'_> {
    fn split(&self) -> (Option<&ReplicaSet>, Vec<&ReplicaSet>) {
        let new = find_new(self.d, &self.sets);
        let mut old: Vec<&ReplicaSet> = self
            .sets
            .iter()
            .copied()
            .filter(|rs| new.is_none_or(|n| n.metadata.uid != rs.metadata.uid))
            .collect();
        sort_by_age(&mut old);
        (new, old)
    }
}

/// Decides the next writes.
pub fn decide(view: &View<'_>) -> Plan {
    let d = view.d;
    let (new, old) = view.split();
    if is_deleting(&d.metadata) {
        return finish(view, Plan::default(), status::counts(d, new, &view.sets, view.now));
    }
    if let Some(change) = status::paused_condition(d, view.now) {
        let mut next = d.status.clone().unwrap_or_default();
        set_condition(&mut next, change);
        return Plan { status: Some(next), ..Plan::default() };
    }
    let paused = d.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    // The present template has its revision first, so that a rollback to it is seen to be one.
    if !paused
        && new.is_some()
        && let Some(rollback) = rollback::rollback(d, &view.sets)
    {
        return Plan { rollback: Some(rollback), ..Plan::default() };
    }
    if paused || scale::is_scaling(d, &view.sets) {
        return resize(view, new, &old, paused);
    }
    if is_rolling(d) { roll(view, new, &old) } else { recreate(view, new, &old) }
}

/// Paused, or asked for another size: keep the mix of ReplicaSets, change its size.
fn resize(view: &View<'_>, new: Option<&ReplicaSet>, old: &[&ReplicaSet], paused: bool) -> Plan {
    let mut plan = Plan::default();
    let adopted = new.and_then(|rs| refresh(view, rs, old, &mut plan));
    for (name, size) in scale::sizes(view.d, new, old) {
        change_size(view, &mut plan, &name, size);
    }
    if paused {
        clean_up(view.d, old, &mut plan);
    }
    let mut next = status::counts(view.d, new, &view.sets, view.now);
    if let Some(found) = adopted {
        set_condition(&mut next, found);
    }
    finish(view, plan, next)
}

fn roll(view: &View<'_>, new: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> Plan {
    let Some(new) = new else { return create(view, old) };
    let mut plan = Plan::default();
    let found = refresh(view, new, old, &mut plan);
    let limits = Limits::of(view.d);
    let asked = total(view.sets.iter().map(|rs| replicas(rs)));
    let size = new_size(limits, true, replicas(new), asked);
    if size != replicas(new) {
        change_size(view, &mut plan, name(&new.metadata), size);
    } else {
        let sizes: Vec<Size> = old.iter().map(|rs| Size::of(rs)).collect();
        let shrink = shrink_old(limits, &Size::of(new), &sizes);
        if shrink.is_empty() && view.d.status.as_ref().is_some_and(|s| status::is_complete(view.d, s)) {
            clean_up(view.d, old, &mut plan);
        }
        for (name, size) in shrink {
            change_size(view, &mut plan, &name, size);
        }
    }
    rollout(view, plan, Some(new), found)
}

fn recreate(view: &View<'_>, new: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> Plan {
    let mut plan = Plan::default();
    let found = new.and_then(|rs| refresh(view, rs, old, &mut plan));
    let shrink = recreate::shrink_old(old);
    if !shrink.is_empty() {
        for (name, size) in shrink {
            change_size(view, &mut plan, &name, size);
        }
        return rollout(view, plan, new, found);
    }
    if recreate::old_pods_running(new, old, &view.pods) {
        return rollout(view, plan, new, found);
    }
    let Some(new) = new else { return create(view, old) };
    if replicas(new) != desired(view.d) {
        change_size(view, &mut plan, name(&new.metadata), desired(view.d));
    }
    if view.d.status.as_ref().is_some_and(|s| status::is_complete(view.d, s)) {
        clean_up(view.d, old, &mut plan);
    }
    rollout(view, plan, Some(new), found)
}

fn rollout(
    view: &View<'_>,
    plan: Plan,
    new: Option<&ReplicaSet>,
    found: Option<DeploymentCondition>,
) -> Plan {
    let mut next = status::rollout(view.d, new, &view.sets, view.now);
    if let Some(found) = found.filter(|_| condition(&next, PROGRESSING).is_none()) {
        set_condition(&mut next, found);
    }
    finish(view, plan, next)
}

fn finish(view: &View<'_>, mut plan: Plan, next: DeploymentStatus) -> Plan {
    if view.d.status.as_ref() != Some(&next) {
        plan.status = Some(next);
    } else {
        plan.again_after = status::check_again_after(view.d, &next, view.now);
    }
    plan
}

/// Makes the ReplicaSet for a template that has none. The status that follows counts it already, with no pods yet:
/// so that those that come are seen to be progress.
fn create(view: &View<'_>, old: &[&ReplicaSet]) -> Plan {
    let d = view.d;
    let Some(spec) = &d.spec else { return Plan::default() };
    let revision = old.iter().map(|rs| revision_of(rs)).max().unwrap_or(0) + 1;
    let hash = pod_template_hash(&spec.template, d.status.as_ref().and_then(|s| s.collision_count));
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector: LabelSelector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let limits = Limits::of(d);
    let asked = total(old.iter().map(|rs| replicas(rs)));
    let size = new_size(limits, is_rolling(d), 0, asked);
    let mut rs = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", name(&d.metadata))),
            namespace: Some(namespace(&d.metadata).to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(d)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(d, &mut rs, revision);
    set_sizes(&mut rs, limits.desired, limits.max_total());
    let mut next = d.status.clone().unwrap_or_default();
    if has_deadline(d) {
        let message = format!("Created new replica set {:?}", name(&rs.metadata));
        set_condition(
            &mut next,
            new_condition(PROGRESSING, "True", "NewReplicaSetCreated", message, view.now),
        );
    }
    let told = Deployment { status: Some(next), ..d.clone() };
    let sets: Vec<&ReplicaSet> = old.iter().copied().chain([&rs]).collect();
    let next = status::rollout(&told, Some(&rs), &sets, view.now);
    let revision = revision.to_string();
    Plan {
        create: Some(Box::new(rs)),
        revision: (annotation(&d.metadata, REVISION) != Some(&revision)).then_some(revision),
        status: (d.status.as_ref() != Some(&next)).then_some(next),
        ..Plan::default()
    }
}

/// Keeps an existing current ReplicaSet's annotations and the Deployment's revision in step. Returns the
/// condition for a ReplicaSet that was found rather than made.
fn refresh(
    view: &View<'_>,
    new: &ReplicaSet,
    old: &[&ReplicaSet],
    plan: &mut Plan,
) -> Option<DeploymentCondition> {
    let d = view.d;
    let revision = old.iter().map(|rs| revision_of(rs)).max().unwrap_or(0) + 1;
    let mut copy = new.clone();
    let mut changed = annotate(d, &mut copy, revision);
    let min_ready = d.spec.as_ref().and_then(|s| s.min_ready_seconds);
    if let Some(spec) = &mut copy.spec
        && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
    {
        spec.min_ready_seconds = min_ready;
        changed = true;
    }
    let written = annotation(&copy.metadata, REVISION).map(str::to_owned);
    if written.as_deref() != annotation(&d.metadata, REVISION) {
        plan.revision = written;
    }
    if changed {
        plan.update.push((copy, None));
    }
    let unknown = d.status.as_ref().and_then(|s| condition(s, PROGRESSING)).is_none();
    (has_deadline(d) && unknown).then(|| {
        let message = format!("Found new replica set {:?}", name(&new.metadata));
        new_condition(PROGRESSING, "True", "FoundNewReplicaSet", message, view.now)
    })
}

/// Sets a ReplicaSet's size and the sizes it remembers. Joins a change of something else that is planned already;
/// one of the size is a step of its own, with an event of its own.
fn change_size(view: &View<'_>, plan: &mut Plan, set: &str, size: i32) {
    let limits = Limits::of(view.d);
    let Some(rs) = view.sets.iter().find(|rs| name(&rs.metadata) == set) else { return };
    let last = plan.update.iter().rposition(|(u, _)| name(&u.metadata) == set);
    let mut copy = match last {
        Some(at) => plan.update[at].0.clone(),
        None => (*rs).clone(),
    };
    let at = last.filter(|at| plan.update[*at].1.is_none());
    let before = replicas(&copy);
    let resized = (before != size).then_some((before, size));
    if let Some(spec) = &mut copy.spec {
        spec.replicas = Some(size);
    }
    let remembered = set_sizes(&mut copy, limits.desired, limits.max_total());
    if resized.is_none() && !remembered {
        return;
    }
    match at {
        Some(at) => plan.update[at] = (copy, resized),
        None => plan.update.push((copy, resized)),
    }
}

/// Deletes empty old ReplicaSets beyond the history limit, lowest revisions first.
fn clean_up(d: &Deployment, old: &[&ReplicaSet], plan: &mut Plan) {
    let Some(limit) = d.spec.as_ref().and_then(|s| s.revision_history_limit).filter(|n| *n != i32::MAX)
    else {
        return;
    };
    let mut alive: Vec<&ReplicaSet> = old.iter().copied().filter(|rs| !is_deleting(&rs.metadata)).collect();
    alive.sort_by_key(|rs| (revision_of(rs), created_second(&rs.metadata)));
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for rs in alive.into_iter().take(surplus) {
        let settled = rs.status.as_ref().is_none_or(|s| {
            s.replicas == 0 && s.observed_generation.unwrap_or(0) >= rs.metadata.generation.unwrap_or(0)
        });
        if settled && replicas(rs) == 0 {
            plan.delete.push(name(&rs.metadata).to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
