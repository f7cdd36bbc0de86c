//! What pods ask for as a whole.

use std::collections::BTreeMap;

use protocol::Quantity;
use serde_json::Value;

use crate::api::object::{list, text};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what is no quantity is left out.
pub fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, v)| Some((name.clone(), v.as_str()?.parse().ok()?))).collect()
}

/// Adds amounts up.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).copied().unwrap_or_default() + *amount;
        to.insert(name.clone(), sum);
    }
}

fn max(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = to.get(name).map_or(*amount, |mine| (*mine).max(*amount));
        to.insert(name.clone(), most);
    }
}

/// `requests` or `limits` of a pod's containers: those that run along together, or the largest of those that run
/// before where that is more.
pub fn of_containers(spec: &Value, which: &str) -> Amounts {
    let mut sum = Amounts::new();
    for container in list(spec, &["containers"]) {
        add(&mut sum, &amounts(&container["resources"][which]));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for init in list(spec, &["initContainers"]) {
        let mut wants = amounts(&init["resources"][which]);
        if text(init, &["restartPolicy"]) == "Always" {
            add(&mut sum, &wants);
            add(&mut sidecars, &wants);
            max(&mut peak, &sidecars);
        } else {
            add(&mut wants, &sidecars);
            max(&mut peak, &wants);
        }
    }
    max(&mut sum, &peak);
    sum
}

/// `requests` or `limits` of a pod as a whole: its containers', or what it says for itself, and its overhead.
pub fn total(spec: &Value, which: &str) -> Amounts {
    let mut sum = of_containers(spec, which);
    for (name, whole) in amounts(&spec["resources"][which]) {
        sum.insert(name, whole);
    }
    for (name, more) in amounts(&spec["overhead"]) {
        // Nothing is limited by an overhead alone.
        if which == "requests" || sum.contains_key(&name) {
            add(&mut sum, &Amounts::from([(name, more)]));
        }
    }
    sum
}
