//! What quotas count of claims of devices: by class, and by the extended resource that a class stands behind, as though
//! containers had requested it. What a claim was made for has been counted with its pod already.

use std::collections::BTreeMap;

use protocol::Quantity;
use serde_json::Value;

use super::pods;
use super::usage::View;
use crate::api::kinds::devices::extended::{Backed, CLAIM, IMPLICIT};
use crate::api::kinds::totals::Amounts;
use crate::api::object::{list, text};
use crate::cache::Snapshot;

/// Group and plural of claims.
pub(super) const KIND: (&str, &str) = ("resource.k8s.io", "resourceclaims");
const OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that a claim can get that wants all.
const DEVICES_MAX: i64 = 32;

/// Whether claims count for a resource name.
pub(super) fn is_counted(name: &str, backed: &Backed) -> bool {
    let requested = name.strip_prefix("requests.");
    name.ends_with(OF_CLASS) || requested.is_some_and(|resource| backed.class_of(resource).is_some())
}

/// What a claim counts for, beside itself.
pub(super) fn usage(claim: &Value, view: &View<'_>, out: &mut Amounts) {
    let devices = devices(claim);
    let with_pod = with_pod(claim, view);
    for (class, count) in devices {
        let amount = Quantity::from_units(count);
        out.insert(format!("{class}{OF_CLASS}"), amount);
        let own = format!("{IMPLICIT}{class}");
        let named = view.backed.resource_of(class).flatten().map(str::to_owned);
        for name in [Some(own), named].into_iter().flatten().map(|resource| format!("requests.{resource}")) {
            let left = amount - with_pod.get(&name).copied().unwrap_or_default();
            if left > Quantity::default() {
                out.insert(name, left);
            }
        }
    }
}

/// How many devices of each class a claim may get at most.
fn devices(claim: &Value) -> BTreeMap<&str, i64> {
    let count = |request: &Value| match text(request, &["allocationMode"]) {
        "ExactCount" => request["count"].as_i64().unwrap_or(0),
        "All" => DEVICES_MAX,
        _ => 0,
    };
    let mut devices = BTreeMap::new();
    for request in list(claim, &["spec", "devices", "requests"]) {
        let alternatives = list(request, &["firstAvailable"]);
        let exactly = Some(&request["exactly"]).filter(|e| !e.is_null() && alternatives.is_empty());
        // Of alternatives it will be one.
        let mut most = BTreeMap::new();
        for one in alternatives.iter().chain(exactly) {
            let of = most.entry(text(one, &["deviceClassName"])).or_insert(0);
            *of = count(one).max(*of);
        }
        for (class, count) in most {
            let of = devices.entry(class).or_insert(0i64);
            *of = of.saturating_add(count);
        }
    }
    devices
}

fn made_for(claim: &Value) -> Option<&Value> {
    if text(claim, &["metadata", "annotations", CLAIM]) != "true" {
        return None;
    }
    let owner = list(claim, &["metadata", "ownerReferences"]).iter().find(|o| o["controller"] == true)?;
    (text(owner, &["kind"]) == "Pod" && text(owner, &["apiVersion"]) == "v1").then_some(owner)
}

/// What was counted with the pod that a claim was made for; nothing where the claim only says so.
fn with_pod(claim: &Value, view: &View<'_>) -> Amounts {
    let none = Amounts::new();
    let Some(owner) = made_for(claim) else { return none };
    let (ns, id) = (text(claim, &["metadata", "namespace"]), text(owner, &["uid"]));
    let stored = view.snapshot.get("", "pods", ns, text(owner, &["name"]));
    let Some(pod) = stored.filter(|s| &*s.meta.uid == id).and_then(|s| s.value().ok()) else { return none };
    let is_its_own = match text(&pod, &["status", "extendedResourceClaimStatus", "resourceClaimName"]) {
        // It does not say so yet: the first has it.
        "" => !has_another(claim, view.snapshot, ns, id),
        claimed => claimed == text(claim, &["metadata", "name"]),
    };
    if is_its_own { pods::usage(&pod, view.now) } else { none }
}

/// Whether an older claim was made for a pod.
fn has_another(claim: &Value, snapshot: &Snapshot, ns: &str, pod: &str) -> bool {
    fn age(claim: &Value) -> (&str, &str) {
        (text(claim, &["metadata", "creationTimestamp"]), text(claim, &["metadata", "name"]))
    }
    let owned = snapshot.owned_by(pod).filter(|s| s.kind() == KIND && &*s.meta.namespace == ns);
    owned.filter_map(|s| s.value().ok()).any(|other| {
        made_for(&other).is_some_and(|owner| text(owner, &["uid"]) == pod) && age(&other) < age(claim)
    })
}
