//! What is noted about a Service that is accepted.

use serde_json::Value;

use super::{TOPOLOGY_HINTS, TOPOLOGY_MODE, is, is_headless, path};
use crate::api::kinds::checks;
use crate::api::object::{list, text};

pub(super) fn warnings(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    let spec = &object["spec"];
    let external_ips = !list(spec, &["externalIPs"]).is_empty();
    if !object["metadata"]["annotations"][TOPOLOGY_HINTS].is_null() {
        said.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    if !is_headless(spec) {
        checks::address_notes(list(spec, &["clusterIPs"]), &path("clusterIPs"), said);
    }
    if is_headless(spec) {
        if !text(spec, &["loadBalancerIP"]).is_empty() {
            said.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external_ips {
            said.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if text(spec, &["sessionAffinity"]) != "None" {
            said.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    checks::address_notes(list(spec, &["externalIPs"]), &path("externalIPs"), said);
    if external_ips && !is_headless(spec) && !is(object, "ExternalName") {
        said.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    checks::address_note(text(spec, &["loadBalancerIP"]), &path("loadBalancerIP"), said);
    checks::range_notes(list(spec, &["loadBalancerSourceRanges"]), &path("loadBalancerSourceRanges"), said);
    if is(object, "ExternalName") && external_ips {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is(object, "ExternalName") && !text(spec, &["externalName"]).is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(spec, &["trafficDistribution"]) == "PreferClose" {
        said.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
}
