//! What a pod's status may say.

use serde_json::{Map, Value, json};

use super::{annotations, container_statuses};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, ip};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, list_mut, object_mut, text};

/// Keeps what writers that do not know of it leave out: the class of service, and which generation was seen.
pub(super) fn keep(new: &mut Value, old: &Value) {
    let fields = object_mut(new, &["status"]);
    let class = text(old, &["status", "qosClass"]);
    if !class.is_empty() {
        default(fields, "qosClass", class);
    }
    keep_generation(fields, &old["status"]);
    let mut before: Vec<&Value> = list(old, &["status", "conditions"]).iter().collect();
    for condition in list_mut(new, &["status", "conditions"]) {
        // A type may be there more than once, and then counts in its order.
        let found = before.iter().position(|was| was["type"] == condition["type"]);
        if let Some(was) = found.map(|at| before.remove(at)) {
            keep_generation(object_mut(condition, &[]), was);
        }
    }
}

fn keep_generation(fields: &mut Map<String, Value>, old: &Value) {
    let given = fields.get("observedGeneration").and_then(Value::as_i64).unwrap_or(0);
    if let (0, Some(seen)) = (given, old["observedGeneration"].as_i64()) {
        fields.insert("observedGeneration".to_owned(), seen.into());
    }
}

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

/// Conditions that the cluster itself keeps.
const OWN_CONDITIONS: &[&str] = &["PodScheduled", "Ready", "Initialized"];

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, before, path) = (&new["status"], &old["status"], Path::new("status"));
    let meta = Path::new("metadata.annotations");
    annotations::validate_update(&new["metadata"], &old["metadata"], &meta, errors);
    annotations::validate(&new["metadata"], &new["spec"], &meta, errors);
    conditions(list(status, &["conditions"]), &path.child("conditions"), errors);
    let nominated = text(status, &["nominatedNodeName"]);
    if !nominated.is_empty() && nominated != text(before, &["nominatedNodeName"]) {
        let at = path.child("nominatedNodeName");
        checks::named(NameRule::Subdomain, nominated, &at, errors);
        if !text(old, &["spec", "nodeName"]).is_empty() {
            errors.forbidden(&at, "may not be set on pods that are already bound to a node");
        }
    }
    not_below_zero(&status["observedGeneration"], &path.child("observedGeneration"), errors);
    let class = text(status, &["qosClass"]);
    if class != text(before, &["qosClass"]) {
        errors.invalid(&path.child("qosClass"), class, checks::IMMUTABLE);
    }
    for (field, kind) in [
        ("containerStatuses", Some("containers")),
        ("initContainerStatuses", Some("initContainers")),
        ("ephemeralContainerStatuses", None),
    ] {
        ended_stay_ended(status, old, field, kind, &path.child(field), errors);
    }
    claims(new, &path.child("resourceClaimStatuses"), errors);
    extended_claim(new, &path.child("extendedResourceClaimStatus"), errors);
    let first = list(status, &["hostIPs"]).first();
    addresses_of(status, "podIPs", &path, errors);
    if let Some(first) = first.map(|first| text(first, &["ip"]))
        && first != text(status, &["hostIP"])
    {
        let path = path.child("hostIPs").index(0).child("ip");
        errors.invalid(&path, first, "must be equal to `hostIP`");
    }
    addresses_of(status, "hostIPs", &path, errors);
    container_statuses::validate(new, &path, errors);
}

fn not_below_zero(value: &Value, path: &Path, errors: &mut Errors) {
    if let Some(number) = value.as_i64().filter(|n| *n < 0) {
        errors.invalid(path, number, "must be a non-negative integer");
    }
}

fn conditions(conditions: &[Value], path: &Path, errors: &mut Errors) {
    for (i, condition) in conditions.iter().enumerate() {
        let (path, kind) = (path.index(i), text(condition, &["type"]));
        not_below_zero(&condition["observedGeneration"], &path.child("observedGeneration"), errors);
        if !OWN_CONDITIONS.contains(&kind) {
            checks::qualified(kind, &path.child("Type"), errors);
        }
    }
}

/// A container that ended runs again only where something says so; `kind` is where it stands in the spec, and none
/// for those that nothing ever starts again.
fn ended_stay_ended(
    status: &Value,
    old: &Value,
    field: &str,
    kind: Option<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    for (i, was) in list(old, &["status", field]).iter().enumerate() {
        let ended = &was["state"]["terminated"];
        let now = list(status, &[field]).iter().find(|now| now["name"] == was["name"]);
        if ended.is_null() || now.is_none_or(|now| !now["state"]["terminated"].is_null()) {
            continue;
        }
        let code = ended["exitCode"].as_i64().unwrap_or(0);
        let allowed = kind.is_some_and(|kind| {
            list(old, &["spec", kind])
                .iter()
                .find(|c| c["name"] == was["name"])
                .is_some_and(|c| restarts(c, &old["spec"], code))
        });
        if !allowed {
            errors
                .forbidden(&path.index(i).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// Whether a container is started again after it ended with a code: by its rules, its policy, or its pod's.
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    for rule in list(container, &["restartPolicyRules"]) {
        let within = list(rule, &["exitCodes", "values"]).iter().any(|v| v.as_i64() == Some(code));
        if within == (text(rule, &["exitCodes", "operator"]) == "In") {
            return true;
        }
    }
    let own = text(container, &["restartPolicy"]);
    match if own.is_empty() { text(spec, &["restartPolicy"]) } else { own } {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn claims(pod: &Value, path: &Path, errors: &mut Errors) {
    let statuses = list(pod, &["status", "resourceClaimStatuses"]);
    for (i, status) in statuses.iter().enumerate() {
        let (path, name) = (path.index(i), text(status, &["name"]));
        let known = list(pod, &["spec", "resourceClaims"]).iter().any(|c| text(c, &["name"]) == name);
        if !known {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&path.child("name"), name, detail);
        }
        if statuses[..i].iter().any(|s| text(s, &["name"]) == name) {
            errors.duplicate(&path.child("name"), name);
        }
        if let Some(claim) = status["resourceClaimName"].as_str() {
            checks::named(NameRule::Subdomain, claim, &path.child("resourceClaimName"), errors);
        }
    }
}

/// The claim that was made for the extended resources of a pod's containers, and what in it is for which.
fn extended_claim(pod: &Value, path: &Path, errors: &mut Errors) {
    let status = &pod["status"]["extendedResourceClaimStatus"];
    if !status.is_object() {
        return;
    }
    let at = path.child("requestMappings");
    let mappings = list(status, &["requestMappings"]);
    if mappings.is_empty() {
        errors.required(&at, "at least one request mapping is required");
    }
    let containers =
        || list(pod, &["spec", "containers"]).iter().chain(list(pod, &["spec", "initContainers"]));
    let key = |mapping: &Value| {
        ["containerName", "resourceName", "requestName"].map(|field| text(mapping, &[field]).to_owned())
    };
    for (i, mapping) in mappings.iter().enumerate() {
        let (at, [container, resource, request]) = (at.index(i), key(mapping));
        match containers().find(|c| text(c, &["name"]) == container) {
            Some(found) if found["resources"]["requests"].get(&resource).is_none() => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests \
                              or spec.containers.resources.requests";
                errors.invalid(&at.child("resourceName"), resource.as_str(), detail);
            }
            Some(_) => {}
            None => {
                let detail =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.invalid(&at.child("containerName"), container.as_str(), detail);
            }
        }
        checks::named(NameRule::Label, &request, &path.child("requestName"), errors);
        if mappings[..i].iter().any(|other| key(other) == key(mapping)) {
            errors.duplicate(&at.child("containerName"), container);
            errors.duplicate(&at.child("resourceName"), resource);
            errors.duplicate(&at.child("requestName"), request);
        }
    }
    checks::required_name(NameRule::Subdomain, status, "resourceClaimName", path, errors);
}

/// Addresses: one of each family at most.
fn addresses_of(status: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let (found, path) = (list(status, &[field]), path.child(field));
    for (i, address) in found.iter().enumerate() {
        ip(text(address, &["ip"]), &path.index(i), errors);
    }
    if found.len() < 2 {
        return;
    }
    let parsed: Vec<_> = found.iter().map(|address| checks::parse_ip(text(address, &["ip"]))).collect();
    if let Some(i) = parsed.iter().position(Option::is_none) {
        let bad = text(&found[i], &["ip"]);
        let detail = format!("failed to check for dual stack with error:invalid IP[{i}]: {bad}");
        errors.internal(&path, &detail);
    }
    let both = parsed.iter().flatten().any(std::net::IpAddr::is_ipv4)
        && parsed.iter().flatten().any(std::net::IpAddr::is_ipv6)
        && parsed.iter().all(Option::is_some);
    if !both || found.len() > 2 {
        let shown: Vec<String> = found.iter().map(|a| checks::internal("a.core.v1.PodIP", a)).collect();
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid_shown(&path, &format!("[{}]", shown.join(",")), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_ended_stays_so_unless_something_restarts_it() {
        let old = |policy: &str, rules: Value| {
            json!({
                "spec": {"restartPolicy": policy, "containers": [{"name": "c", "restartPolicyRules": rules}]},
                "status": {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}]},
            })
        };
        let new = json!({"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}});
        let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]);
        for (old, fine) in [
            (old("Always", Value::Null), true),
            (old("OnFailure", Value::Null), true),
            (old("Never", Value::Null), false),
            (old("Never", rule), true),
        ] {
            let mut errors = Errors::default();
            validate(&new, &old, &mut errors);
            assert_eq!(errors.is_empty(), fine, "{old}: {:?}", errors.messages());
        }
    }

    #[test]
    fn what_older_kubelets_leave_out_is_kept() {
        let old = json!({"status": {
            "qosClass": "Burstable",
            "observedGeneration": 2,
            "conditions": [
                {"type": "a", "observedGeneration": 1},
                {"type": "a", "observedGeneration": 2},
                {"type": "b", "observedGeneration": 3},
            ],
        }});
        let conditions =
            json!([{"type": "a"}, {"type": "c"}, {"type": "a"}, {"type": "b", "observedGeneration": 4}]);
        let mut new = json!({"status": {"conditions": conditions}});
        keep(&mut new, &old);
        assert_eq!(
            (&new["status"]["qosClass"], &new["status"]["observedGeneration"]),
            (&json!("Burstable"), &json!(2))
        );
        let seen = |i: usize| new["status"]["conditions"][i]["observedGeneration"].as_i64();
        assert_eq!([0, 1, 2, 3].map(seen), [Some(1), None, Some(2), Some(4)]);
    }
}
