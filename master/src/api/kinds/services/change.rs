//! What a change of a Service may do.

use serde_json::Value;

use super::checks::balancer_class;
use super::{is, is_headless, path};
use crate::api::invalid::Errors;
use crate::api::kinds::checks;
use crate::api::object::{list, text};

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !is(new, "ExternalName") && !is(old, "ExternalName") {
        let headless = [old, new].map(|service| is_headless(&service["spec"]));
        if headless != [true, true] {
            kept(new, old, "clusterIPs", "clusterIP", errors);
        }
        if headless == [false, false] {
            kept(new, old, "ipFamilies", "ipFamily", errors);
        }
    }
    let class = |service: &Value| service["spec"]["loadBalancerClass"].clone();
    if is(new, "LoadBalancer") && is(old, "LoadBalancer") && class(new) != class(old) {
        errors.invalid(&path("loadBalancerClass"), class(new), "may not change once set");
    }
    balancer_class(&new["spec"], text(new, &["spec", "type"]), errors);
    let health = [old, new].map(|service| {
        let local = text(service, &["spec", "externalTrafficPolicy"]) == "Local";
        (is(service, "LoadBalancer") && local).then(|| service["spec"]["healthCheckNodePort"].clone())
    });
    if let [Some(was), Some(now)] = health
        && was != now
    {
        errors.forbidden(&path("healthCheckNodePort"), checks::IMMUTABLE);
    }
}

/// Of addresses and their families the first stays, and a second may come or go.
fn kept(new: &Value, old: &Value, field: &str, one: &str, errors: &mut Errors) {
    let (before, after) = (list(old, &["spec", field]), list(new, &["spec", field]));
    let families = field == "ipFamilies";
    let at = |i: usize| path(field).index(i);
    let once = "may not change once set";
    if before.len() == after.len() {
        for (i, _) in before.iter().zip(after).enumerate().filter(|(_, (was, is))| was != is) {
            // Of families, the place of the first is shown.
            errors.invalid(&at(if families { 0 } else { i }), after.to_vec(), once);
        }
        return;
    }
    let addresses = list(new, &["spec", "clusterIPs"]);
    if before.len() > after.len() && addresses.is_empty() {
        errors.invalid(&at(0), after.to_vec(), format!("primary {one} can not be unset"));
    }
    if let (Some(was), Some(is)) = (before.first(), after.first())
        && was != is
    {
        errors.invalid(&at(0), addresses.to_vec(), once);
    }
    let policy = &new["spec"]["ipFamilyPolicy"];
    if before.len() > after.len() && after.len() == 1 && policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.invalid(&path("ipFamilyPolicy"), policy.clone(), detail);
    }
}
