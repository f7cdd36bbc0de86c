//! Ingress, IngressClass, NetworkPolicy, IPAddress, ServiceCIDR.

use serde_json::{Value, json};

use super::checks::{self, IMMUTABLE, cidr, named, port_name_errors, port_number};
use super::services::balancer_ingress;
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, list_mut, object_mut, text};

const CLASS: &str = "kubernetes.io/ingress.class";
const CONTROLLER_BYTES_MAX: usize = 250;

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

pub(super) fn ingress() -> Strategy {
    Strategy {
        prepare_create: |object| object["status"] = json!({"loadBalancer": {}}),
        validate: |object, errors| {
            ingress_spec(&object["spec"], errors);
            let annotation = text(object, &["metadata", "annotations", CLASS]);
            if let Some(class) = object["spec"]["ingressClassName"].as_str()
                && object["metadata"]["annotations"].get(CLASS).is_some()
                && annotation != class
                && object["metadata"].get("resourceVersion").is_none()
            {
                let path = Path::new("annotations").child(CLASS);
                errors.invalid(&path, annotation, "must match `ingressClassName` when both are specified");
            }
        },
        validate_status: |new, _, errors| {
            let path = Path::new("status.loadBalancer.ingress");
            balancer_ingress(&new["status"]["loadBalancer"], false, &path, errors);
        },
        warnings: |object, old, said| {
            if old.is_none() && object["metadata"]["annotations"].get(CLASS).is_some() {
                said.push(format!(
                    "annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        },
        ..base()
    }
}

fn ingress_spec(ingress: &Value, errors: &mut Errors) {
    let rules = list(ingress, &["rules"]);
    let backend = &ingress["defaultBackend"];
    if rules.is_empty() && backend.is_null() {
        errors.invalid(
            &Path::new("spec"),
            Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if backend.is_object() {
        self::backend(backend, &spec("defaultBackend"), errors);
    }
    for (i, rule) in rules.iter().enumerate() {
        host(text(rule, &["host"]), &spec("rules").index(i).child("host"), errors);
        if rule["http"].is_object() {
            paths(&rule["http"], &spec("rules").index(i).child("http"), errors);
        }
    }
    for (i, tls) in list(ingress, &["tls"]).iter().enumerate() {
        let path = spec("tls").index(i);
        for (j, host) in list(tls, &["hosts"]).iter().filter_map(Value::as_str).enumerate() {
            host_name(host, &path.child("hosts").index(j), errors);
        }
        checks::named_if_set(NameRule::Subdomain, tls, "secretName", &path, errors);
    }
    if let Some(class) = ingress["ingressClassName"].as_str() {
        named(NameRule::Subdomain, class, &spec("ingressClassName"), errors);
    }
}

fn host(host: &str, path: &Path, errors: &mut Errors) {
    if host.is_empty() {
        return;
    }
    if checks::parse_ip(host).is_some() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
    host_name(host, path, errors);
}

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    if host.contains('*') {
        checks::wildcard(host, path, errors);
    } else {
        named(NameRule::Subdomain, host, path, errors);
    }
}

fn paths(http: &Value, path: &Path, errors: &mut Errors) {
    let paths = list(http, &["paths"]);
    if paths.is_empty() {
        errors.required(&path.child("paths"), "");
    }
    for (i, item) in paths.iter().enumerate() {
        let path = path.child("paths").index(i);
        let (at, given) = (path.child("path"), text(item, &["path"]));
        match item["pathType"].as_str() {
            None => {
                errors.required(&path.child("pathType"), "pathType must be specified");
                continue;
            }
            Some("Exact" | "Prefix") => {
                if !given.starts_with('/') {
                    errors.invalid(&at, given, "must be an absolute path");
                }
                if !given.is_empty() {
                    for part in ["//", "/./", "/../", "%2f", "%2F"] {
                        if given.contains(part) {
                            errors.invalid(&at, given, format!("must not contain '{part}'"));
                        }
                    }
                    for end in ["/..", "/."] {
                        if given.ends_with(end) {
                            errors.invalid(&at, given, format!("cannot end with '{end}'"));
                        }
                    }
                }
            }
            Some("ImplementationSpecific") => {
                if !given.is_empty() && !given.starts_with('/') {
                    errors.invalid(&at, given, "must be an absolute path");
                }
            }
            Some(other) => {
                let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
                errors.unsupported(&path.child("pathType"), other, &kinds);
            }
        }
        backend(&item["backend"], &path.child("backend"), errors);
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_object(), resource.is_object()) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (false, true) => local_reference(resource, &path.child("resource"), errors),
        (true, false) => {
            let at = path.child("service");
            checks::required_name(NameRule::Label1035, service, "name", &at, errors);
            let (name, number) =
                (text(service, &["port", "name"]), service["port"]["number"].as_i64().unwrap_or(0));
            let at = at.child("port");
            match (name.is_empty(), number) {
                (false, n) if n != 0 => {
                    errors.invalid(path, "", "cannot set both port name & port number");
                }
                (false, _) => {
                    for error in port_name_errors(name) {
                        errors.invalid(&at.child("name"), name, error);
                    }
                }
                (true, 0) => errors.required(path, "port name or number is required"),
                (true, number) => port_number(number, &at.child("number"), errors),
            }
        }
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn local_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = reference["apiGroup"].as_str() {
        named(NameRule::Subdomain, group, &path.child("apiGroup"), errors);
    }
    for (name, need) in [("kind", "kind is required"), ("name", "name is required")] {
        match text(reference, &[name]) {
            "" => errors.required(&path.child(name), need),
            value => named(NameRule::PathSegment, value, &path.child(name), errors),
        }
    }
}

pub(super) fn ingress_class() -> Strategy {
    Strategy {
        defaults: |object| {
            if object["spec"]["parameters"].is_object() {
                default(object_mut(object, &["spec", "parameters"]), "scope", "Cluster");
            }
        },
        validate: |object, errors| {
            let controller = text(object, &["spec", "controller"]);
            if controller.len() > CONTROLLER_BYTES_MAX {
                errors.too_long(&spec("controller"), CONTROLLER_BYTES_MAX);
            }
            checks::domain_prefixed_path(controller, &spec("controller"), errors);
            if object["spec"]["parameters"].is_object() {
                parameters(&object["spec"]["parameters"], &spec("parameters"), errors);
            }
        },
        validate_update: |new, old, errors| {
            let (new, old) = (&new["spec"]["controller"], &old["spec"]["controller"]);
            checks::immutable(new, old, &spec("controller"), errors);
        },
        change_first: true,
        ..base()
    }
}

fn parameters(parameters: &Value, path: &Path, errors: &mut Errors) {
    local_reference(parameters, path, errors);
    let namespace = parameters["namespace"].as_str();
    match parameters["scope"].as_str() {
        None => errors.required(&path.child("scope"), ""),
        Some("Cluster") if namespace.is_some() => {
            errors.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        Some("Namespace") => match namespace {
            None | Some("") => {
                errors.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'");
            }
            Some(name) => named(NameRule::Label, name, &path.child("namespace"), errors),
        },
        Some("Cluster") => {}
        Some(other) => errors.unsupported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

pub(super) fn network_policy() -> Strategy {
    Strategy {
        defaults: |object| {
            for direction in ["ingress", "egress"] {
                for rule in list_mut(object, &["spec", direction]) {
                    for port in list_mut(rule, &["ports"]) {
                        default(object_mut(port, &[]), "protocol", "TCP");
                    }
                }
            }
            if list(object, &["spec", "policyTypes"]).is_empty() {
                let egress = !list(object, &["spec", "egress"]).is_empty();
                object["spec"]["policyTypes"] =
                    if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            }
        },
        validate: valid_policy,
        // Upstream comes by here twice.
        validate_update: |new, _, errors| valid_policy(new, errors),
        ..base()
    }
}

fn valid_policy(object: &Value, errors: &mut Errors) {
    checks::label_selector(&object["spec"]["podSelector"], &spec("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(object, &["spec", direction]).iter().enumerate() {
            let path = spec(direction).index(i);
            for (j, port) in list(rule, &["ports"]).iter().enumerate() {
                policy_port(port, &path.child("ports").index(j), errors);
            }
            for (j, peer) in list(rule, &[peers]).iter().enumerate() {
                policy_peer(peer, &path.child(peers).index(j), errors);
            }
        }
    }
    let types = list(object, &["spec", "policyTypes"]);
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.invalid(&spec("policyTypes"), types.to_vec(), detail);
        return;
    }
    for (i, kind) in types.iter().enumerate() {
        checks::choice(kind, &["Ingress", "Egress"], &spec("policyTypes").index(i), errors);
    }
}

fn policy_port(port: &Value, path: &Path, errors: &mut Errors) {
    checks::choice(&port["protocol"], &["TCP", "UDP", "SCTP"], &path.child("protocol"), errors);
    let (at, end, given) = (path.child("port"), path.child("endPort"), &port["endPort"]);
    match &port["port"] {
        Value::Null => {
            if !given.is_null() {
                errors.invalid(&end, given.clone(), "may not be specified when `port` is not specified");
            }
        }
        Value::String(name) => {
            if !given.is_null() {
                errors.invalid(&end, given.clone(), "may not be specified when `port` is non-numeric");
            }
            for error in port_name_errors(name) {
                errors.invalid(&at, name.as_str(), error);
            }
        }
        number => {
            let number = number.as_i64().unwrap_or(0);
            port_number(number, &at, errors);
            if let Some(last) = given.as_i64() {
                if last < number {
                    // The message shows the port, though it is about the other.
                    errors.invalid(&end, number, "must be greater than or equal to `port`");
                }
                port_number(last, &end, errors);
            }
        }
    }
}

fn policy_peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let mut peers = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if peer[name].is_object() {
            peers += 1;
            checks::label_selector(&peer[name], &path.child(name), errors);
        }
    }
    if peer["ipBlock"].is_object() {
        peers += 1;
        ip_block(&peer["ipBlock"], &path.child("ipBlock"), errors);
    }
    if peers == 0 {
        errors.required(path, "must specify a peer");
    } else if peers > 1 && peer["ipBlock"].is_object() {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, path: &Path, errors: &mut Errors) {
    let given = text(block, &["cidr"]);
    if given.is_empty() {
        errors.required(&path.child("cidr"), "");
        return;
    }
    let Some(network) = cidr(given, &path.child("cidr"), errors) else { return };
    for (i, except) in list(block, &["except"]).iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("except").index(i);
        let Some(inner) = cidr(except, &path, errors) else { continue };
        if !network.contains(&inner.addr()) || network.prefix_len() >= inner.prefix_len() {
            errors.invalid(&path, except, "must be a strict subset of `cidr`");
        }
    }
}

pub(super) fn ip_address() -> Strategy {
    Strategy {
        names: NameRule::Address,
        validate: |object, errors| {
            let (parent, path) = (&object["spec"]["parentRef"], spec("parentRef"));
            if parent.is_null() {
                errors.required(&path, "");
                return;
            }
            checks::named_if_set(NameRule::Subdomain, parent, "group", &path, errors);
            checks::required_name(NameRule::PathSegment, parent, "resource", &path, errors);
            checks::required_name(NameRule::PathSegment, parent, "name", &path, errors);
            checks::named_if_set(NameRule::PathSegment, parent, "namespace", &path, errors);
        },
        validate_update: |new, old, errors| {
            checks::immutable_struct(
                "a.networking.v1.ParentReference",
                &new["spec"]["parentRef"],
                &old["spec"]["parentRef"],
                &spec("parentRef"),
                errors,
            );
        },
        ..base()
    }
}

pub(super) fn service_cidr() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let (ranges, path) = (list(object, &["spec", "cidrs"]), spec("cidrs"));
            let shown = || checks::internal("a.networking.v1.ServiceCIDRSpec", &object["spec"]);
            if ranges.is_empty() {
                errors.required(&path, "at least one CIDR required");
                return;
            }
            if ranges.len() > 2 {
                errors.invalid_shown(&path, &shown(), "may only hold up to 2 values");
                return;
            }
            let is_v6 = |range: &Value| range.as_str().is_some_and(|r| r.contains(':'));
            if let [one, other] = ranges
                && is_v6(one) == is_v6(other)
            {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.invalid_shown(&path, &shown(), detail);
                return;
            }
            for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
                checks::strict_cidr(range, &path.index(i), errors);
            }
        },
        validate_update: |new, old, errors| {
            let (after, before) = (list(new, &["spec", "cidrs"]), list(old, &["spec", "cidrs"]));
            // A second family may come, and none may go.
            let grows = (before.len(), after.len()) == (1, 2);
            if !grows && before.len() != after.len() {
                errors.invalid(&spec("cidrs"), after.to_vec(), IMMUTABLE);
                return;
            }
            for (i, (is, _)) in after.iter().zip(before).enumerate().filter(|(_, (is, was))| is != was) {
                errors.invalid(&spec("cidrs").index(i), is.clone(), IMMUTABLE);
            }
        },
        prepare_status: super::keep_metadata,
        ..base()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_services_only_grow_by_a_family() {
        let ranges = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        for (was, is, expected) in [
            (&["10.0.0.0/24"][..], &["10.0.0.0/24", "fd00::/112"][..], vec![]),
            (
                &["10.0.0.0/24"],
                &["10.1.0.0/24"],
                vec!["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"],
            ),
            (
                &["10.0.0.0/24", "fd00::/112"],
                &["10.1.0.0/24"],
                vec!["spec.cidrs: Invalid value: [\"10.1.0.0/24\"]: field is immutable"],
            ),
        ] {
            let mut errors = Errors::default();
            (service_cidr().validate_update)(&ranges(is), &ranges(was), &mut errors);
            assert_eq!(errors.messages(), expected, "{was:?} {is:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_ingress_is_told_of_the_rule_it_is_in() {
        let rule = json!({"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {}}]}});
        let mut errors = Errors::default();
        ingress_spec(&json!({"rules": [{}, rule]}), &mut errors);
        let expected = "spec.rules[1].http.paths[0].backend: Invalid value: \"\": resource or service backend is required";
        assert_eq!(errors.messages(), [expected]);
    }
}
