//! The columns of services and what routes to them.

use std::collections::BTreeSet;

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
        or(list(spec, &["clusterIPs"]).first().and_then(Value::as_str).unwrap_or_default(), "<none>"),
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
            let both: Vec<String> = [balanced(item), ips].into_iter().filter(|s| !s.is_empty()).collect();
            if both.is_empty() { "<pending>".to_owned() } else { both.join(",") }
        }
        _ if ips.is_empty() => "<none>".to_owned(),
        _ => ips,
    }
}

/// Where a load balancer is reached: each address once, in order.
fn balanced(item: &Value) -> String {
    let places: BTreeSet<&str> = list(item, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|i| match text(i, &["ip"]) {
            "" => text(i, &["hostname"]),
            ip => ip,
        })
        .filter(|place| !place.is_empty())
        .collect();
    places.into_iter().collect::<Vec<_>>().join(",")
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
            found.extend(addresses().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{number}"),
                false => format!("{ip}:{number}"),
            }));
        }
    }
    let shown = if list(item, &["subsets"]).is_empty() { "<none>".to_owned() } else { shortened(&found) };
    vec![n(item), shown.into(), age(item)]
}

/// The first few of many.
fn shortened(found: &[String]) -> String {
    let shown = found.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    match found.len().checked_sub(SHOWN_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}

pub(super) fn slice(item: &Value) -> Vec<Value> {
    let ports: Vec<String> = list(item, &["ports"])
        .iter()
        .map(|p| match (p["port"].as_i64(), p["name"].as_str()) {
            (Some(port), _) => port.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = list(item, &["endpoints"])
        .iter()
        .flat_map(|e| list(e, &["addresses"]))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let [ports, addresses] = [ports, addresses].map(|found| or(&shortened(&found), "<unset>"));
    vec![n(item), s(text(item, &["addressType"])), ports, addresses, age(item)]
}

pub(super) fn ingress(item: &Value) -> Vec<Value> {
    let ports = if list(item, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        n(item),
        or(text(item, &["spec", "ingressClassName"]), "<none>"),
        hosts(list(item, &["spec", "rules"])).into(),
        balanced(item).into(),
        ports.into(),
        age(item),
    ]
}

/// The hosts of an Ingress's rules. What is left out is counted in rules, with a host or without.
fn hosts(rules: &[Value]) -> String {
    let (mut shown, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= shown.len() == SHOWN_MAX;
        let host = text(rule, &["host"]);
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - SHOWN_MAX),
        (false, false) => shown.join(","),
    }
}

pub(super) fn ingress_class(item: &Value) -> Vec<Value> {
    let parameters = &item["spec"]["parameters"];
    let shown = if parameters.is_object() {
        let (kind, name) = (text(parameters, &["kind"]), text(parameters, &["name"]));
        match parameters["apiGroup"].as_str() {
            None => format!("{kind}/{name}"),
            Some(group) => format!("{kind}.{group}/{name}"),
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
    let part = |field: &str| text(parent, &[field]);
    let mut shown = match part("group") {
        "" => part("resource").to_lowercase(),
        group => format!("{}.{group}", part("resource")).to_lowercase(),
    };
    if !part("namespace").is_empty() {
        shown.push_str(&format!("/{}", part("namespace")));
    }
    shown.push_str(&format!("/{}", part("name")));
    vec![n(item), if parent.is_object() { shown } else { "<none>".to_owned() }.into(), age(item)]
}

pub(super) fn cidr(item: &Value) -> Vec<Value> {
    vec![n(item), joined(list(item, &["spec", "cidrs"])).into(), age(item)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(of: fn(&Value) -> Vec<Value>, item: Value, cell: usize, expected: &str) {
        assert_eq!(of(&item)[cell], expected, "{item}");
    }

    #[test]
    fn a_few_of_many_are_shown() {
        let rule = |host: &str| json!({"host": host});
        let rules =
            |hosts: &[&str]| json!({"spec": {"rules": hosts.iter().map(|h| rule(h)).collect::<Vec<_>>()}});
        check(ingress, rules(&[""]), 2, "*");
        check(ingress, rules(&["a", "", "b"]), 2, "a,b");
        check(ingress, rules(&["a", "b", "c", "d", "e"]), 2, "a,b,c + 2 more...");
        check(ingress, rules(&["a", "", "b", "c"]), 2, "a,b,c");
        let subset =
            |addresses: Value, ports: Value| json!({"subsets": [{"addresses": addresses, "ports": ports}]});
        check(endpoints, json!({}), 1, "<none>");
        check(endpoints, json!({"subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}]}]}), 1, "");
        check(endpoints, subset(json!([{"ip": "fd00::1"}]), json!([{"port": 80}])), 1, "[fd00::1]:80");
        let four = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]);
        let shown = "10.0.0.1:1,10.0.0.2:1,10.0.0.1:2 + 1 more...";
        check(endpoints, subset(four, json!([{"port": 1}, {"port": 2}])), 1, shown);
        check(slice, json!({"ports": [{"name": "", "port": null}]}), 2, "<unset>");
        check(slice, json!({"ports": [{}, {"port": 53}]}), 2, "*,53");
    }

    #[test]
    fn addresses_of_balancers_are_told_once() {
        let places = json!([{"ip": "192.0.2.2"}, {"hostname": "a.example.com"}, {"ip": "192.0.2.2"}, {}]);
        let item = json!({
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "externalIPs": ["198.51.100.1"]},
            "status": {"loadBalancer": {"ingress": places}},
        });
        check(service, item.clone(), 3, "192.0.2.2,a.example.com,198.51.100.1");
        check(service, item.clone(), 2, "10.96.0.9");
        check(ingress, item, 3, "192.0.2.2,a.example.com");
        check(service, json!({"spec": {"type": "LoadBalancer"}}), 3, "<pending>");
    }

    #[test]
    fn an_address_names_who_holds_it() {
        let of = |parent: Value| json!({"spec": {"parentRef": parent}});
        check(address, of(json!({"resource": "services", "namespace": "a", "name": "b"})), 1, "services/a/b");
        check(address, of(json!({"group": "x.io", "resource": "Things", "name": "b"})), 1, "things.x.io/b");
        check(address, json!({}), 1, "<none>");
    }
}
