//! What objects count for, by kind. Pure; admission and the quota controller count the same way.

use std::sync::Arc;

use protocol::Quantity;
use serde_json::Value;
use time::OffsetDateTime;

use super::{claims, pods};
use crate::api::admission::storage::class_of;
use crate::api::kinds::devices::extended::Backed;
use crate::api::kinds::totals::Amounts;
use crate::api::object::{list, text};
use crate::cache::{Cache, Snapshot};

/// What counting looks at beside the object.
pub struct View<'a> {
    /// The namespace's other objects.
    pub snapshot: &'a Snapshot,
    /// Extended resources that classes of devices stand behind. Only claims of devices are counted by them.
    pub backed: Arc<Backed>,
    /// The time.
    pub now: OffsetDateTime,
}

impl<'a> View<'a> {
    /// A state of the cache's, now.
    pub fn of(cache: &Cache, snapshot: &'a Snapshot) -> Self {
        let now = OffsetDateTime::from(actors::time::now());
        View { snapshot, backed: cache.derived_at(snapshot), now }
    }
}

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// The name that objects of a kind are counted by.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// Kinds whose plural alone is an older name of their count.
fn has_short_name(group: &str, plural: &str) -> bool {
    group.is_empty()
        && matches!(
            plural,
            "configmaps"
                | "resourcequotas"
                | "replicationcontrollers"
                | "secrets"
                | "services"
                | "persistentvolumeclaims"
        )
}

/// Whether objects of a kind count for a resource name.
pub fn counts(group: &str, plural: &str, name: &str, view: &View<'_>) -> bool {
    match (group, plural) {
        ("", "pods") => pods::is_counted(name),
        _ if name == count_name(group, plural) || (has_short_name(group, plural) && name == plural) => true,
        claims::KIND => claims::is_counted(name, &view.backed),
        ("", "services") => matches!(name, "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            name == "requests.storage"
                || name
                    .split_once(OF_CLASS)
                    .is_some_and(|(_, what)| matches!(what, "requests.storage" | "persistentvolumeclaims"))
        }
        _ => false,
    }
}

/// What an object counts for.
pub fn usage(group: &str, plural: &str, object: &Value, view: &View<'_>) -> Amounts {
    if (group, plural) == ("", "pods") {
        return pods::usage(object, view.now);
    }
    let one = Quantity::from_units(1);
    let mut out = Amounts::from([(count_name(group, plural), one)]);
    if has_short_name(group, plural) {
        out.insert(plural.to_owned(), one);
    }
    match (group, plural) {
        ("", "services") => service(object, &mut out),
        ("", "persistentvolumeclaims") => claim(object, &mut out),
        claims::KIND => claims::usage(object, view, &mut out),
        _ => {}
    }
    out
}

fn service(service: &Value, out: &mut Amounts) {
    let ports = list(service, &["spec", "ports"]);
    let named = ports.iter().filter(|p| p["nodePort"].as_i64().is_some_and(|n| n != 0)).count();
    let (node_ports, balancers) = match text(service, &["spec", "type"]) {
        "LoadBalancer" if service["spec"]["allocateLoadBalancerNodePorts"] == Value::Bool(false) => {
            (named, 1)
        }
        "LoadBalancer" => (ports.len(), 1),
        "NodePort" => (ports.len(), 0),
        _ => (0, 0),
    };
    let units = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
    out.insert("services.nodeports".to_owned(), units(node_ports));
    out.insert("services.loadbalancers".to_owned(), units(balancers));
}

fn claim(claim: &Value, out: &mut Amounts) {
    let class = class_of(claim);
    if !class.is_empty() {
        out.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), Quantity::from_units(1));
    }
    let size = |path: &[&str]| text(claim, path).parse::<Quantity>().ok();
    let asked = size(&["spec", "resources", "requests", "storage"]);
    // While a claim shrinks back from a failed growth, the larger size is still taken.
    let taken = size(&["status", "allocatedResources", "storage"]);
    if let Some(size) = asked.max(taken) {
        out.insert("requests.storage".to_owned(), size);
        if !class.is_empty() {
            out.insert(format!("{class}{OF_CLASS}requests.storage"), size);
        }
    }
}

/// Whether an object is in all of a quota's scopes.
pub fn in_scopes(group: &str, plural: &str, quota: &Value, object: &Value) -> bool {
    let named = list(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let selected = list(quota, &["spec", "scopeSelector", "matchExpressions"])
        .iter()
        .map(|e| (text(e, &["scopeName"]), text(e, &["operator"]), list(e, &["values"])));
    let none: &[Value] = &[];
    named.map(|scope| (scope, "Exists", none)).chain(selected).all(|(scope, operator, values)| {
        match (group, plural) {
            ("", "pods") => pods::in_scope(object, scope, operator, values),
            ("", "persistentvolumeclaims") if scope == "VolumeAttributesClass" => {
                selects(operator, values, text(object, &["spec", "volumeAttributesClassName"]))
            }
            _ => false,
        }
    })
}

/// Whether a scope's expression selects a name; an empty one is none.
pub(super) fn selects(operator: &str, values: &[Value], name: &str) -> bool {
    match operator {
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        "In" => !name.is_empty() && values.iter().any(|v| v == name),
        "NotIn" => name.is_empty() || !values.iter().any(|v| v == name),
        _ => false,
    }
}
