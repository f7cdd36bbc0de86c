//! What a pod's status may say.

use serde_json::{Value, json};

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, ip};
use crate::api::meta::NameRule;
use crate::api::object::{list, object_mut, text};

/// Makes the single address and the list of addresses agree: where they differ the single one is right, since
/// older clients know only that.
pub(super) fn addresses(pod: &mut Value) {
    let single = text(pod, &["status", "podIP"]).to_owned();
    let first = list(pod, &["status", "podIPs"]).first().map(|a| text(a, &["ip"]).to_owned());
    match first {
        Some(first) if single.is_empty() => {
            object_mut(pod, &["status"]).insert("podIP".to_owned(), first.into());
        }
        first if !single.is_empty() && first.as_deref() != Some(&single) => {
            object_mut(pod, &["status"]).insert("podIPs".to_owned(), json!([{"ip": single}]));
        }
        _ => {}
    }
}

pub(super) fn validate(new: &Value, _: &Value, errors: &mut Errors) {
    let (status, path) = (&new["status"], Path::new("status"));
    checks::named_if_set(NameRule::Subdomain, status, "nominatedNodeName", &path, errors);
    if let Some(generation) = status["observedGeneration"].as_i64()
        && generation < 0
    {
        errors.invalid(&path.child("observedGeneration"), generation, "must be a non-negative integer");
    }
    let conditions = list(status, &["conditions"]);
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.child("conditions").index(i);
        if condition["observedGeneration"].as_i64().is_some_and(|g| g < 0) {
            let path = path.child("observedGeneration");
            errors.invalid(&path, condition["observedGeneration"].clone(), "must be a non-negative integer");
        }
    }
    let hosts = list(status, &["hostIPs"]);
    if let Some(first) = hosts.first()
        && text(first, &["ip"]) != text(status, &["hostIP"])
    {
        let path = path.child("hostIPs").index(0).child("ip");
        errors.invalid(&path, text(first, &["ip"]), "must be equal to `hostIP`");
    }
    for field in ["podIPs", "hostIPs"] {
        let found = list(status, &[field]);
        for (i, address) in found.iter().enumerate() {
            ip(text(address, &["ip"]), &path.child(field).index(i), errors);
            if found[..i].contains(address) {
                let shown = checks::internal("a.core.v1.PodIP", address);
                errors.duplicate_shown(&path.child(field).index(i), &shown);
            }
        }
        let is_v6 = |address: &Value| text(address, &["ip"]).contains(':');
        if found.len() > 2 || (found.len() == 2 && is_v6(&found[0]) == is_v6(&found[1])) {
            let detail = "may specify no more than one IP for each IP family";
            errors.invalid(&path.child(field), found.to_vec(), detail);
        }
    }
}
