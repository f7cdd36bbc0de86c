//! Which families of addresses a Service has.
//!
//! What a Service had stays as it was when a cluster gets or loses a family: only who changes its policy, or names
//! families or addresses, changes them.

use protocol::{ApiError, DualRange};
use serde_json::{Value, json};

use crate::api::invalid::{Errors, Path, check};
use crate::api::kinds::services;
use crate::api::object::{self, list, object_mut, text};

/// The Service's addresses of a policy are of one family only.
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in a Service's policy and families, where `range` is what the cluster has.
pub(super) fn settle(service: &mut Value, old: Option<&Value>, range: &DualRange) -> Result<(), ApiError> {
    if text(service, &["spec", "type"]) == "ExternalName" || keeps(service, old) {
        return Ok(());
    }
    let name = object::name(service).to_owned();
    let headless = text(service, &["spec", "clusterIP"]) == "None";
    let elsewhere = headless && service["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if service["spec"]["ipFamilyPolicy"].is_null() {
        let before = old.map(|old| &old["spec"]["ipFamilyPolicy"]).filter(|policy| !policy.is_null());
        let policy = before.cloned().unwrap_or_else(|| if elsewhere { REQUIRE } else { SINGLE }.into());
        object_mut(service, &["spec"]).insert("ipFamilyPolicy".to_owned(), policy);
    }
    let mut errors = Errors::default();
    services::addresses(&service["spec"], services::is_headless(&service["spec"]), &mut errors);
    check(errors, "", "Service", &name)?;
    if let Some(old) = old {
        shrink(service, old);
    }
    let mut errors = Errors::default();
    numbers(service, old, &mut errors);
    infer(service, range, &mut errors);
    check(errors, "", "Service", &name)?;
    let errors = if elsewhere { Errors::default() } else { unconfigured(service, range) };
    check(errors, "", "Service", &name)?;
    complete(service, elsewhere || range.v6.is_some());
    Ok(())
}

fn policy(service: &Value) -> &str {
    text(service, &["spec", "ipFamilyPolicy"])
}

fn lengths(service: &Value) -> [usize; 2] {
    ["clusterIPs", "ipFamilies"].map(|field| list(service, &["spec", field]).len())
}

/// Whether a Service that prefers two families and had what it could get is left alone.
fn keeps(service: &mut Value, old: Option<&Value>) -> bool {
    let Some(old) = old.filter(|old| policy(old) == PREFER) else { return false };
    let same = lengths(service).into_iter().zip(lengths(old)).all(|(now, before)| now == 0 || now == before);
    if text(old, &["spec", "type"]) == "ExternalName" || !matches!(policy(service), "" | PREFER) || !same {
        return false;
    }
    for field in ["ipFamilyPolicy", "ipFamilies"] {
        let before = old["spec"][field].clone();
        object_mut(service, &["spec"]).insert(field.to_owned(), before);
    }
    true
}

/// Setting the policy to one family alone is clear enough: the second goes, where neither was touched.
fn shrink(service: &mut Value, old: &Value) {
    if policy(service) != SINGLE {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        let untouched = service["spec"][field] == old["spec"][field];
        if let Some(values) = service["spec"][field].as_array_mut().filter(|_| untouched) {
            values.truncate(1);
        }
    }
}

/// Whether the policy goes with how many addresses and families are named.
fn numbers(service: &Value, old: Option<&Value>, errors: &mut Errors) {
    let at = Path::new("spec.ipFamilyPolicy");
    let [addresses, families] = lengths(service);
    let named = [(addresses, "cluster IP"), (families, "IP family")];
    if policy(service) != SINGLE {
        let before = old.map(lengths).unwrap_or_default();
        for ((now, what), before) in named.into_iter().zip(before) {
            if now > 0 && now < before {
                let detail = format!("must be '{SINGLE}' to release the secondary {what}");
                errors.invalid(&at, policy(service), detail);
            }
        }
        return;
    }
    for (_, what) in named.into_iter().filter(|(count, _)| *count == 2) {
        let many = if what == "cluster IP" { "cluster IPs" } else { "IP families" };
        let detail = format!("must be '{REQUIRE}' or '{PREFER}' when multiple {many} are specified");
        errors.invalid(&at, policy(service), detail);
    }
}

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

fn has(range: &DualRange, family: &str) -> bool {
    family != "IPv6" || range.v6.is_some()
}

/// Addresses that are named say their families.
fn infer(service: &mut Value, range: &DualRange, errors: &mut Errors) {
    let addresses: Vec<Value> = match list(service, &["spec", "clusterIPs"]) {
        [] => Some(&service["spec"]["clusterIP"])
            .filter(|ip| !ip.is_null() && *ip != "")
            .cloned()
            .into_iter()
            .collect(),
        given => given.to_vec(),
    };
    let mut families = list(service, &["spec", "ipFamilies"]).to_vec();
    for (i, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        if address == "None" {
            break;
        }
        // What is no address is refused as one.
        if i < families.len() || address.parse::<std::net::IpAddr>().is_err() {
            continue;
        }
        let family = family_of(address);
        if has(range, family) {
            families.push(family.into());
        } else {
            let at = Path::new("spec.clusterIPs").index(i);
            errors.invalid(&at, addresses.clone(), format!("{family} is not configured on this cluster"));
        }
    }
    object_mut(service, &["spec"]).insert("ipFamilies".to_owned(), families.into());
}

/// What is asked of the cluster and it does not have.
fn unconfigured(service: &Value, range: &DualRange) -> Errors {
    let mut errors = Errors::default();
    if policy(service) == REQUIRE && range.v6.is_none() {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&Path::new("spec.ipFamilyPolicy"), REQUIRE, detail);
    }
    for (i, family) in list(service, &["spec", "ipFamilies"]).iter().enumerate() {
        if !has(range, family.as_str().unwrap_or_default()) {
            let at = Path::new("spec.ipFamilies").index(i);
            errors.invalid(&at, family.clone(), "not configured on this cluster");
        }
    }
    errors
}

/// The families that were not named: the first is the cluster's own; the other one follows where it is wanted and there.
fn complete(service: &mut Value, both: bool) {
    let wants_two = policy(service) != SINGLE;
    let spec = object_mut(service, &["spec"]);
    let families = spec.entry("ipFamilies").or_insert_with(|| json!([]));
    let Some(families) = families.as_array_mut() else { return };
    if families.is_empty() {
        families.push("IPv4".into());
    }
    if wants_two && both && families.len() == 1 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.into());
    }
}

#[cfg(test)]
mod tests;
