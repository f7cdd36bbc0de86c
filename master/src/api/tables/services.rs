//! The columns of services and what routes to them.

use serde_json::Value;

use super::{age, joined, labels, n, or, s, selector};
use crate::api::object::{list, text};

/// How many endpoints are shown.
const SHOWN_MAX: usize = 3;

pub(super) fn service(item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    let ports: Vec<String> = list(spec, &["ports"])
        .iter()
        .map(|p| {
            let port = p["port"].as_i64().unwrap_or(0);
            match p["nodePort"].as_i64().filter(|n| *n > 0) {
                Some(node) => format!("{port}:{node}/{}", text(p, &["protocol"])),
                None => format!("{port}/{}", text(p, &["protocol"])),
            }
        })
        .collect();
    vec![
        n(item),
        s(text(spec, &["type"])),
        or(text(spec, &["clusterIP"]), "<none>"),
        external(item).into(),
        or(&ports.join(","), "<none>"),
        age(item),
        labels(&spec["selector"]),
    ]
}

fn external(item: &Value) -> String {
    let spec = &item["spec"];
    let ips = joined(list(spec, &["externalIPs"]));
    match text(spec, &["type"]) {
        "ExternalName" => text(spec, &["externalName"]).to_owned(),
        "LoadBalancer" => {
            let ingress: Vec<&str> = list(item, &["status", "loadBalancer", "ingress"])
                .iter()
                .map(|i| match text(i, &["ip"]) {
                    "" => text(i, &["hostname"]),
                    ip => ip,
                })
                .collect();
            let both: Vec<String> = [ingress.join(","), ips].into_iter().filter(|s| !s.is_empty()).collect();
            if both.is_empty() { "<pending>".to_owned() } else { both.join(",") }
        }
        _ if ips.is_empty() => "<none>".to_owned(),
        _ => ips,
    }
}

pub(super) fn endpoints(item: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    for subset in list(item, &["subsets"]) {
        let addresses = || list(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
        let ports = list(subset, &["ports"]);
        if ports.is_empty() {
            found.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let number = port["port"].as_i64().unwrap_or(0);
            found.extend(addresses().map(|ip| format!("{ip}:{number}")));
        }
    }
    vec![n(item), shortened(&found), age(item)]
}

fn shortened(found: &[String]) -> Value {
    let shown = found.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    if found.is_empty() {
        "<none>".into()
    } else if found.len() > SHOWN_MAX {
        format!("{shown} + {} more...", found.len() - SHOWN_MAX).into()
    } else {
        shown.into()
    }
}

pub(super) fn slice(item: &Value) -> Vec<Value> {
    let ports: Vec<String> = list(item, &["ports"])
        .iter()
        .map(|p| match p["port"].as_i64() {
            Some(port) => port.to_string(),
            None => text(p, &["name"]).to_owned(),
        })
        .collect();
    let ports = match ports.len() {
        0 => "<unset>".to_owned(),
        _ => shortened(&ports).as_str().unwrap_or_default().to_owned(),
    };
    let addresses: Vec<String> = list(item, &["endpoints"])
        .iter()
        .flat_map(|e| list(e, &["addresses"]))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let addresses = if addresses.is_empty() { "<unset>".into() } else { shortened(&addresses) };
    vec![n(item), s(text(item, &["addressType"])), ports.into(), addresses, age(item)]
}

pub(super) fn ingress(item: &Value) -> Vec<Value> {
    let rules = list(item, &["spec", "rules"]);
    let hosts: Vec<&str> = rules.iter().map(|r| text(r, &["host"])).filter(|h| !h.is_empty()).collect();
    let addresses: Vec<&str> = list(item, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|i| match text(i, &["ip"]) {
            "" => text(i, &["hostname"]),
            ip => ip,
        })
        .collect();
    let ports = if list(item, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        n(item),
        or(text(item, &["spec", "ingressClassName"]), "<none>"),
        or(&hosts.join(","), "*"),
        addresses.join(",").into(),
        ports.into(),
        age(item),
    ]
}

pub(super) fn ingress_class(item: &Value) -> Vec<Value> {
    let parameters = &item["spec"]["parameters"];
    let shown = if parameters.is_object() {
        let (kind, name) = (text(parameters, &["kind"]), text(parameters, &["name"]));
        match text(parameters, &["apiGroup"]) {
            "" => format!("{kind}/{name}"),
            group => format!("{kind}.{group}/{name}"),
        }
    } else {
        "<none>".to_owned()
    };
    vec![n(item), s(text(item, &["spec", "controller"])), shown.into(), age(item)]
}

pub(super) fn network_policy(item: &Value) -> Vec<Value> {
    vec![n(item), selector(&item["spec"]["podSelector"]), age(item)]
}

pub(super) fn address(item: &Value) -> Vec<Value> {
    let parent = &item["spec"]["parentRef"];
    let parts = [text(parent, &["resource"]), text(parent, &["namespace"]), text(parent, &["name"])];
    let group = text(parent, &["group"]);
    let shown = parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("/");
    let shown =
        if group.is_empty() { shown } else { format!("{}.{group}/{}/{}", parts[0], parts[1], parts[2]) };
    vec![n(item), or(&shown, "<none>"), age(item)]
}

pub(super) fn cidr(item: &Value) -> Vec<Value> {
    vec![n(item), joined(list(item, &["spec", "cidrs"])).into(), age(item)]
}
