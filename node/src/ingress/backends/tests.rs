use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;

fn service(change: impl FnOnce(&mut Value)) -> Arc<Service> {
    let mut value = json!({"spec": {"ports": [
        {"name": "web", "port": 80, "protocol": "TCP", "targetPort": "http"},
        {"name": "grpc", "port": 81, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
        {"name": "dns", "port": 53, "protocol": "UDP"}]}});
    change(&mut value);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A slice of addresses with whether they are ready.
fn slice(name: &str, of: &str, endpoints: &[(&str, bool)]) -> EndpointSlice {
    let endpoint = |(ip, ready): &(&str, bool)| json!({"addresses": [ip], "conditions": {"ready": ready}});
    serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": name, "labels": {SERVICE_NAME: of}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080}, {"name": "grpc", "port": 9090}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}))
    .unwrap()
}

fn target(service: &str, port: Port) -> Target {
    Target { service: key("a", service), port }
}

fn named(port: &str) -> Port {
    Port::Name(port.to_owned())
}

fn at(backends: &Backends, target: &Target) -> Result<Vec<String>, Refusal> {
    let backend = backends.get(target).expect("it is wanted");
    let mut all: Vec<_> =
        backend.endpoints.as_ref().map_err(Clone::clone)?.iter().map(|u| u.address().to_string()).collect();
    all.sort();
    Ok(all)
}

#[test]
fn where_a_port_leads() {
    let mut backends = Backends::new("n1");
    backends.set_service(&key("a", "s"), Some(service(|_| ())));
    backends.set_slice(slice("s-1", "s", &[("10.0.0.1", true), ("10.0.0.2", false)]), false);
    backends.set_slice(slice("s-2", "s", &[("10.0.0.3", true)]), false);
    let s = key("a", "s");
    for (port, wanted) in [
        (named("web"), Ok(vec!["10.0.0.1:8080", "10.0.0.3:8080"])),
        (Port::Number(80), Ok(vec!["10.0.0.1:8080", "10.0.0.3:8080"])),
        (Port::Number(81), Ok(vec!["10.0.0.1:9090", "10.0.0.3:9090"])),
        (Port::Number(8080), Err(Refusal::NoPort(s.clone(), Port::Number(8080)))),
        (named("dns"), Err(Refusal::NotTcp(s.clone(), named("dns")))),
    ] {
        let target = target("s", port);
        backends.want(&target, &key("a", "i"));
        let wanted = wanted.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(at(&backends, &target), wanted, "{target:?}");
    }
    let speaks = |port| backends.get(&target("s", port)).unwrap().in_turn().unwrap()[0].speaks();
    assert_eq!(speaks(named("web")), Speaks::Http1);
    assert_eq!(speaks(Port::Number(81)), Speaks::Http2);
}

#[test]
fn why_there_is_nowhere_to_go() {
    let mut backends = Backends::new("n1");
    let (web, s) = (target("s", named("web")), key("a", "s"));
    backends.want(&web, &key("a", "i"));
    assert_eq!(at(&backends, &web), Err(Refusal::NoService(s.clone())));
    backends.set_service(&s, Some(service(|_| ())));
    assert_eq!(at(&backends, &web), Err(Refusal::NoEndpoints(s.clone())));
    backends.set_slice(slice("s-1", "s", &[("10.0.0.1", false)]), false);
    assert_eq!(at(&backends, &web), Err(Refusal::NoEndpoints(s.clone())));
    backends.set_service(&s, Some(service(|v| v["spec"]["type"] = "ExternalName".into())));
    assert_eq!(at(&backends, &web), Err(Refusal::ExternalName(s.clone())));
    assert!(Refusal::ExternalName(s.clone()).is_lasting() && !Refusal::NoEndpoints(s).is_lasting());
}

#[test]
fn endpoints_that_stay_keep_their_connections_and_others_are_untouched() {
    let mut backends = Backends::new("n1");
    let (web, other) = (target("s", named("web")), target("t", named("web")));
    for name in ["s", "t"] {
        backends.set_service(&key("a", name), Some(service(|_| ())));
        backends
            .set_slice(slice(&format!("{name}-1"), name, &[("10.0.0.1", true), ("10.0.0.2", true)]), false);
        backends.want(&target(name, named("web")), &key("a", "i"));
    }
    let find = |backends: &Backends, ip: &str| {
        let all = backends.get(&web).unwrap().endpoints.clone().unwrap();
        all.into_iter().find(|u| u.address().ip().to_string() == ip)
    };
    let (before, untouched) = (find(&backends, "10.0.0.1").unwrap(), backends.get(&other).unwrap().clone());
    backends.set_slice(slice("s-1", "s", &[("10.0.0.1", true), ("10.0.0.9", true)]), false);
    assert!(Arc::ptr_eq(&before, &find(&backends, "10.0.0.1").unwrap()));
    assert!(find(&backends, "10.0.0.2").is_none());
    assert!(Arc::ptr_eq(&untouched, backends.get(&other).unwrap()));
    assert_eq!(backends.users(&key("a", "s")), [key("a", "i")].into());
    // A list says it all.
    backends.replace_slices([slice("s-5", "s", &[("10.0.0.1", true)])]);
    assert_eq!(at(&backends, &web), Ok(vec!["10.0.0.1:8080".to_owned()]));
    assert_eq!(at(&backends, &other), Err(Refusal::NoEndpoints(key("a", "t"))));
    backends.replace_services([]);
    assert_eq!(at(&backends, &web), Err(Refusal::NoService(key("a", "s"))));
    // What nobody wants and nobody tells of is forgotten.
    backends.replace_slices([]);
    backends.unwant(&web, &key("a", "i"));
    backends.unwant(&other, &key("a", "i"));
    assert!(backends.services.is_empty());
}

#[test]
fn endpoints_take_turns() {
    let mut backends = Backends::new("n1");
    backends.set_service(&key("a", "s"), Some(service(|_| ())));
    backends
        .set_slice(slice("s-1", "s", &[("10.0.0.1", true), ("10.0.0.2", true), ("10.0.0.3", true)]), false);
    let web = target("s", named("web"));
    backends.want(&web, &key("a", "i"));
    let backend = backends.get(&web).unwrap();
    let turn = || -> Vec<u8> {
        let last = |u: &Arc<Upstream>| match u.address().ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        backend.in_turn().unwrap().iter().map(last).collect()
    };
    assert_eq!([turn(), turn(), turn(), turn()], [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
}

#[test]
fn endpoints_of_ones_own_zone_are_preferred_where_slices_say_so() {
    let mut backends = Backends::new("n1");
    backends.set_service(&key("a", "s"), Some(service(|_| ())));
    let mut hinted = slice("s-1", "s", &[("10.0.0.1", true), ("10.0.0.2", true)]);
    for (endpoint, zone) in hinted.endpoints.iter_mut().flatten().zip(["east", "west"]) {
        endpoint.hints = serde_json::from_value(json!({"forZones": [{"name": zone}]})).unwrap();
    }
    backends.set_slice(hinted, false);
    let target = target("s", named("web"));
    backends.want(&target, &key("a", "i"));
    let mut check = |zone: Option<&str>, wanted: &[&str]| {
        backends.set_zone(zone.map(str::to_owned));
        assert_eq!(at(&backends, &target).unwrap(), wanted, "{zone:?}");
    };
    check(None, &["10.0.0.1:8080", "10.0.0.2:8080"]);
    check(Some("west"), &["10.0.0.2:8080"]);
    check(Some("north"), &["10.0.0.1:8080", "10.0.0.2:8080"]);
}
