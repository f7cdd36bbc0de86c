//! ResourceQuotas: what each allows and how much of it is taken, in its status.
//!
//! What writes cost is put on quotas by admission, in the writes' own transactions; what this controller adds
//! is the first count, and what becomes free again. It counts in one snapshot and writes only if the quota
//! has not changed since that snapshot, so a charge is never lost.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::api::resource::v1::DeviceClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use protocol::{Quantity, Resource};

use super::machinery::meta::{is_deleting, revision};
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::api::admission::quota::usage::{self, View};
use crate::api::custom::Catalog;
use crate::api::kinds::devices::extended::IMPLICIT;
use crate::api::kinds::totals::{self, Amounts};
use crate::cache::{Cache, Change, ChangeKind, Snapshot};

/// Pods that are past their time stop to count without an event: they are looked at again after this long.
const RESYNC: Duration = Duration::from_secs(300);

/// The controller.
pub struct ResourceQuotaController;

impl Reconciler for ResourceQuotaController {
    const NAME: &'static str = "resourcequota";
    const ACCOUNT: &'static str = "resourcequota-controller";
    const RESOURCE: &'static str = "resourcequotas";

    fn watches(&self) -> Vec<Watch> {
        let counted = kinds().map(|(group, plural)| Watch {
            group,
            resource: plural,
            map: Box::new(move |change, cache| concerned(group, plural, change, cache)),
        });
        let classes = mapped::<DeviceClass>(of_class);
        [own::<ResourceQuota>(), classes].into_iter().chain(counted).collect()
    }

    fn watch_declared(&self, kind: &'static Resource) -> Option<Watch> {
        let (group, resource) = (kind.group, kind.plural);
        let map = move |change: &Change, cache: &Cache| concerned(group, resource, change, cache);
        kind.namespaced.then(|| Watch { group, resource, map: Box::new(map) })
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let snapshot = cx.cache.snapshot();
        let Some(stored) = snapshot.get("", "resourcequotas", &key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let Ok(quota) = stored.typed::<ResourceQuota>() else { return Ok(Outcome::DONE) };
        if is_deleting(&quota.metadata) {
            return Ok(Outcome::DONE);
        }
        debug_assert_eq!(revision(&quota.metadata), stored.revision);
        let value = stored.value().map_err(|e| ReconcileError::Other(e.to_string()))?;
        let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
        let view = View::of(&cx.cache, &snapshot);
        let count = count(&view, &cx.cache.derived::<Catalog>(), &key.namespace, &value, &hard);
        let before = quota.status.clone().unwrap_or_default();
        let new_limits = before.hard.as_ref() != Some(&hard);
        let used = shown(&count.used, before.used.as_ref());
        if new_limits || before.used.as_ref() != Some(&used) {
            let mut next = (*quota).clone();
            next.status = Some(ResourceQuotaStatus { hard: Some(hard), used: Some(used) });
            cx.client.update_status(&next).await?;
        }
        if new_limits {
            // Until now nothing was charged to the new limits: what came between count and write is found by
            // counting once more.
            return Ok(Outcome::again(Duration::from_millis(1)));
        }
        Ok(Outcome::again(count.again.then_some(RESYNC)))
    }
}

/// The kinds whose objects are counted, each once.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    let counted = |r: &&Resource| r.namespaced && r.is_stored() && !r.is_view() && r.plural != "events";
    let mut seen = std::collections::BTreeSet::new();
    protocol::resources::all()
        .iter()
        .filter(counted)
        .map(|r| (r.group, r.plural))
        .filter(move |kind| seen.insert(*kind))
}

/// The quotas that limit what a class of devices stands behind, or stood before.
fn of_class(change: &Change, cache: &Cache) -> Vec<Key> {
    let states = [Some(&change.stored), change.previous.as_ref()].into_iter().flatten();
    let classes: Vec<_> = states.filter_map(|s| s.typed::<DeviceClass>().ok()).collect();
    let resource = |class: &DeviceClass| class.spec.extended_resource_name.clone();
    // Under their own names claims are counted whatever the class says.
    if change.kind == ChangeKind::Modified && classes.windows(2).all(|c| resource(&c[0]) == resource(&c[1])) {
        return Vec::new();
    }
    let own = format!("{IMPLICIT}{}", change.stored.meta.name);
    let resources = classes.iter().filter_map(|c| resource(c)).chain([own]);
    let names: Vec<String> = resources.map(|resource| format!("requests.{resource}")).collect();
    let snapshot = cache.snapshot();
    let quotas = snapshot.list("", "resourcequotas", "");
    let limits = quotas.filter(|quota| names.iter().any(|name| quota.mentions(name)));
    limits.map(|quota| Key::new(&quota.meta.namespace, &quota.meta.name)).collect()
}

/// The quotas that a change may have freed something of: those of its namespace.
fn concerned(group: &str, plural: &str, change: &Change, cache: &Cache) -> Vec<Key> {
    let namespace = &change.stored.meta.namespace;
    let snapshot = cache.snapshot();
    let mut quotas = snapshot.list("", "resourcequotas", namespace).peekable();
    if quotas.peek().is_none() {
        return Vec::new();
    }
    // Creations were charged already, unless they came before the quota's first count, which counts them.
    let frees = match change.kind {
        ChangeKind::Added => false,
        ChangeKind::Deleted => true,
        ChangeKind::Modified => changes_usage(group, plural, change, cache, &snapshot),
    };
    if !frees {
        return Vec::new();
    }
    quotas.map(|quota| Key::new(namespace, &quota.meta.name)).collect()
}

/// Whether an object counts for something else than before: pods that end, services of another type, claims
/// that grow or shrink.
fn changes_usage(group: &str, plural: &str, change: &Change, cache: &Cache, snapshot: &Snapshot) -> bool {
    if !matches!(
        (group, plural),
        ("", "pods" | "services" | "persistentvolumeclaims") | ("resource.k8s.io", "resourceclaims")
    ) {
        return false;
    }
    let view = View::of(cache, snapshot);
    let Some(before) = change.previous.as_ref().and_then(|p| p.value().ok()) else { return true };
    let Ok(after) = change.stored.value() else { return true };
    // A pod that begins to end stops to count later, which only a look at it then finds.
    plural == "pods" && change.stored.meta.is_deleting()
        || usage::usage(group, plural, &before, &view) != usage::usage(group, plural, &after, &view)
        || (plural == "pods"
            && before["spec"]["activeDeadlineSeconds"] != after["spec"]["activeDeadlineSeconds"])
}

struct Count {
    used: Amounts,
    /// Something will change without an event.
    again: bool,
}

/// Counts what a namespace has of what a quota limits.
fn count(
    view: &View<'_>,
    catalog: &Catalog,
    namespace: &str,
    quota: &serde_json::Value,
    hard: &BTreeMap<String, Text>,
) -> Count {
    let mut out = Count { used: Amounts::new(), again: false };
    let known: Vec<(&str, &str)> = kinds().collect();
    // Kinds that others define are counted by what the limit's name says.
    let foreign =
        hard.keys().filter_map(|name| name.strip_prefix("count/")?.split_once('.').map(|(p, g)| (g, p)));
    let is_served = |(group, plural): &(&str, &str)| catalog.find_any(group, plural).is_some();
    let foreign: Vec<(&str, &str)> = foreign.filter(|kind| !known.contains(kind)).filter(is_served).collect();
    for (group, plural) in known.into_iter().chain(foreign) {
        let names: Vec<&String> = hard.keys().filter(|n| usage::counts(group, plural, n, view)).collect();
        if names.is_empty() {
            continue;
        }
        for name in &names {
            out.used.entry((*name).clone()).or_default();
        }
        for stored in view.snapshot.list(group, plural, namespace) {
            let Ok(object) = stored.value() else { continue };
            out.again |= plural == "pods" && stored.meta.is_deleting();
            if usage::in_scopes(group, plural, quota, &object) {
                let mut counts = usage::usage(group, plural, &object, view);
                // Whoever it is that such a name is for: writes are charged the same way.
                counts.retain(|name, _| hard.contains_key(name));
                totals::add(&mut out.used, &counts);
            }
        }
    }
    out
}

/// Amounts as they are written; those that stayed the same keep their spelling.
fn shown(used: &Amounts, before: Option<&BTreeMap<String, Text>>) -> BTreeMap<String, Text> {
    let spelled = |(name, amount): (&String, &Quantity)| {
        let same = before.and_then(|b| b.get(name)).filter(|t| t.0.parse::<Quantity>() == Ok(*amount));
        (name.clone(), same.cloned().unwrap_or_else(|| Text(amount.to_string())))
    };
    used.iter().map(spelled).collect()
}
