use super::*;

fn facts() -> NodeFacts {
    NodeFacts { name: "n1".into(), zone: Some("a".into()), ..NodeFacts::default() }
}

/// `ready serving terminating local node-hints zone-hints`, as letters and names: `"rsL n:n1 z:a"`.
fn candidate(last: u8, spec: &str) -> Candidate {
    let mut words = spec.split(' ');
    let flags = words.next().unwrap();
    let mut c = Candidate {
        backend: Backend { ip: [10, 0, 0, last].into(), port: 80 },
        ready: flags.contains('r'),
        serving: flags.contains('s'),
        terminating: flags.contains('t'),
        local: flags.contains('L'),
        for_nodes: vec![],
        for_zones: vec![],
    };
    for word in words {
        match word.split_once(':') {
            Some(("n", name)) => c.for_nodes.push(name.into()),
            Some(("z", name)) => c.for_zones.push(name.into()),
            _ => panic!("{word}"),
        }
    }
    c
}

/// The last byte of an IPv4 address.
fn last_of(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => panic!("{ip}"),
    }
}

fn check(specs: &[&str], cluster: &[u8], local: &[u8]) {
    let candidates: Vec<_> = specs.iter().enumerate().map(|(i, s)| candidate(i as u8 + 1, s)).collect();
    let choice = choose(&candidates, &facts());
    let last = |b: &[Backend]| b.iter().map(|b| last_of(b.ip)).collect::<Vec<_>>();
    assert_eq!(last(&choice.cluster), cluster, "cluster endpoints of {specs:?}");
    assert_eq!(last(&choice.local), local, "local endpoints of {specs:?}");
}

#[test]
fn the_ready_ones_are_chosen() {
    check(&[], &[], &[]);
    check(&["rs", "s", "rsL"], &[1, 3], &[3]);
    check(&["", ""], &[], &[]);
}

#[test]
fn terminating_ones_that_serve_are_the_last_resort() {
    check(&["st", "t", "stL"], &[1, 3], &[3]);
    check(&["rs", "stL"], &[1], &[2]);
    check(&["rsL", "stL"], &[1], &[1]);
    // Unready and not terminating is no resort at all.
    check(&["s", "sL"], &[], &[]);
}

#[test]
fn hints_narrow_only_when_complete_and_naming_us() {
    check(&["rs n:n1", "rs n:n2"], &[1], &[]);
    check(&["rs n:n1", "rs"], &[1, 2], &[]);
    check(&["rs n:n2", "rs n:n3"], &[1, 2], &[]);
    check(&["rs z:a", "rs z:b", "rs z:a"], &[1, 3], &[]);
    check(&["rs z:b"], &[1], &[]);
    check(&["rs z:a n:n2", "rs z:b n:n3"], &[1], &[]);
}

#[test]
fn slices_match_by_port_name_and_protocol() {
    let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"},
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "TCP"},
            {"name": "dns", "port": 5353, "protocol": "UDP"}
        ],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "n1"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["bogus"]}
        ]
    }))
    .unwrap();
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        port: 1,
        ..ServicePort::default()
    };
    let found = candidates(&port("http", "TCP"), [&slice, &slice], &facts(), Family::V4);
    assert_eq!(found.len(), 2, "an address in two slices counts once");
    assert!(found[0].ready && found[0].serving && found[0].local);
    assert!(!found[1].ready && found[1].serving && found[1].terminating && !found[1].local);
    assert_eq!(candidates(&port("dns", "UDP"), [&slice], &facts(), Family::V4)[0].backend.port, 5353);
    assert!(candidates(&port("dns", "SCTP"), [&slice], &facts(), Family::V4).is_empty());
}

#[test]
fn families_keep_apart() {
    let slice = |kind: &str, address: &str| -> EndpointSlice {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "x"}, "addressType": kind, "ports": [{"port": 80}],
            "endpoints": [{"addresses": [address]}],
        }))
        .unwrap()
    };
    let slices = [slice("IPv4", "10.0.0.1"), slice("IPv6", "fd00::1"), slice("FQDN", "example.com")];
    let port = ServicePort { port: 80, ..ServicePort::default() };
    let found = |family| candidates(&port, &slices, &facts(), family);
    let addresses =
        |family| found(family).iter().map(|c| c.backend.address().to_string()).collect::<Vec<_>>();
    assert_eq!(addresses(Family::V4), ["10.0.0.1:80"]);
    assert_eq!(addresses(Family::V6), ["[fd00::1]:80"]);
}
