use serde_json::json;

use super::*;

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local", vec!["10.96.0.0/16".parse().unwrap(), "10.244.0.0/16".parse().unwrap()]);
    let mut service = |spec: serde_json::Value, name: &str| {
        let value = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        zone.service(serde_json::from_value(value).unwrap(), false);
    };
    service(json!({"clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}), "web");
    service(json!({"clusterIP": "None", "ports": [{"name": "db", "port": 5432}]}), "db");
    service(json!({"clusterIP": "None"}), "empty");
    service(json!({"type": "ExternalName", "externalName": "example.com"}), "away");
    service(json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}), "alias");
    let slice = json!({
        "metadata": {"namespace": "default", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "ports": [{"name": "db", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.244.0.7"], "hostname": "db-0"},
            {"addresses": ["10.244.0.8"]},
            {"addresses": ["10.244.0.9"], "conditions": {"ready": false}},
        ],
    });
    zone.slice(serde_json::from_value(slice).unwrap(), false);
    zone
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Answer {
    zone.answer(&Name::from_ascii(name).unwrap(), kind)
}

/// The data of the answer's records, or the name of the refusal.
fn check(name: &str, kind: RecordType, expected: &str) {
    let told = match ask(&zone(), name, kind) {
        Answer::Found(records, _) => records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(", "),
        Answer::NoData => "no data".into(),
        Answer::NoName => "no name".into(),
        Answer::Alias(_, target) => format!("alias {target}"),
        Answer::NotOurs => "not ours".into(),
    };
    assert_eq!(told, expected, "{name} {kind}");
}

#[test]
fn names_of_services() {
    use RecordType::*;
    check("web.default.svc.cluster.local.", A, "10.96.0.5");
    check("WEB.default.svc.Cluster.local.", A, "10.96.0.5");
    check("web.default.svc.cluster.local.", AAAA, "no data");
    check("_http._tcp.web.default.svc.cluster.local.", SRV, "0 100 80 web.default.svc.cluster.local.");
    check("_http._udp.web.default.svc.cluster.local.", SRV, "no name");
    check("_tcp.web.default.svc.cluster.local.", SRV, "no data");
    check("nope.default.svc.cluster.local.", A, "no name");
    check("web.nowhere.svc.cluster.local.", A, "no name");
    check("default.svc.cluster.local.", A, "no data");
    check("nowhere.svc.cluster.local.", A, "no name");
    check("away.default.svc.cluster.local.", A, "alias example.com.");
    check("away.default.svc.cluster.local.", CNAME, "example.com.");
    check("dns-version.cluster.local.", TXT, "1.1.0");
    check("cluster.local.", A, "no data");
    check("example.com.", A, "not ours");
    check("local.", A, "not ours");
}

#[test]
fn names_behind_headless_services() {
    use RecordType::*;
    check("db.default.svc.cluster.local.", A, "10.244.0.7, 10.244.0.8");
    check("db-0.db.default.svc.cluster.local.", A, "10.244.0.7");
    check("10-244-0-8.db.default.svc.cluster.local.", A, "10.244.0.8");
    check("10-244-0-9.db.default.svc.cluster.local.", A, "no name");
    check(
        "_db._tcp.db.default.svc.cluster.local.",
        SRV,
        "0 100 5432 db-0.db.default.svc.cluster.local., 0 100 5432 10-244-0-8.db.default.svc.cluster.local.",
    );
    check("empty.default.svc.cluster.local.", A, "no name");
}

#[test]
fn pods_and_reverse_names() {
    use RecordType::*;
    check("10-244-0-33.default.pod.cluster.local.", A, "10.244.0.33");
    check("hello.default.pod.cluster.local.", A, "no name");
    check("5.0.96.10.in-addr.arpa.", PTR, "web.default.svc.cluster.local.");
    check("7.0.244.10.in-addr.arpa.", PTR, "db-0.db.default.svc.cluster.local.");
    check("99.0.244.10.in-addr.arpa.", PTR, "no name");
    check("1.2.0.192.in-addr.arpa.", PTR, "not ours");
}

#[test]
fn what_a_new_list_does_not_tell_is_gone() {
    let mut zone = zone();
    zone.retain_services(&BTreeSet::from([("default".into(), "web".into())]));
    zone.retain_slices(&BTreeSet::new());
    assert_eq!(ask(&zone, "db.default.svc.cluster.local.", RecordType::A), Answer::NoName);
    assert_eq!(ask(&zone, "7.0.244.10.in-addr.arpa.", RecordType::PTR), Answer::NoName);
    assert!(matches!(ask(&zone, "web.default.svc.cluster.local.", RecordType::A), Answer::Found(..)));
}
