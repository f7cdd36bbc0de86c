use serde_json::{Value, json};

use super::*;

fn service(spec: Value, annotations: Value, status: Value) -> Service {
    let meta = json!({"name": "s", "namespace": "n", "annotations": annotations});
    serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).expect("a service")
}

#[test]
fn only_our_class_and_no_class_are_ours() {
    let ours = |spec: Value| is_ours(&service(spec, json!({}), json!({})));
    assert!(ours(json!({"type": "LoadBalancer"})));
    assert!(ours(json!({"type": "LoadBalancer", "loadBalancerClass": LOAD_BALANCER_CLASS})));
    assert!(!ours(json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/other"})));
    assert!(!ours(json!({"type": "NodePort"})));
    assert!(!is_ours(&Service::default()));
}

#[test]
fn what_a_service_wants_is_read() {
    let spec = json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1", "ipFamilies": ["IPv6", "IPv4"],
        "externalTrafficPolicy": "Local", "selector": {"app": "web"},
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]});
    let found = claim(&service(spec, json!({}), json!({})));
    assert_eq!(found.named(), "192.0.2.1".parse().ok());
    assert_eq!(found.ipv6, [true, false]);
    assert_eq!(found.ports, [("UDP".to_owned(), 53), ("TCP".to_owned(), 80)].into());
    assert!(found.local && found.selector.is_some_and(|s| s["app"] == "web"));
    // Older objects name no families.
    let found = claim(&service(json!({"loadBalancerIP": "", "clusterIP": "fd00::1"}), json!({}), json!({})));
    assert_eq!((found.asked, found.ipv6, found.local, found.selector), (None, vec![true], false, None));
}

#[test]
fn what_is_as_it_should_be_is_not_written_again() {
    let (a, b) = (IpAddr::from([192, 0, 2, 1]), "fd00::1".parse::<IpAddr>().expect("an address"));
    let empty = service(json!({"type": "LoadBalancer"}), json!({"kept": "a"}), json!({}));
    assert_eq!(written(&empty, &[], None), None);
    for addresses in [&[a][..], &[b, a]] {
        let first = written(&empty, addresses, Some("one".to_owned())).expect("a change");
        assert_eq!(given(&first), addresses);
        assert_eq!(annotation(&first.metadata, ANNOUNCED_BY), Some("one"));
        assert_eq!(annotation(&first.metadata, "kept"), Some("a"));
        assert_eq!(written(&first, addresses, Some("one".to_owned())), None);
        let moved = written(&first, addresses, None).expect("a change");
        assert_eq!((given(&moved).as_slice(), annotation(&moved.metadata, ANNOUNCED_BY)), (addresses, None));
        let gone = written(&first, &[], None).expect("a change");
        assert_eq!((given(&gone), annotation(&gone.metadata, ANNOUNCED_BY)), (Vec::new(), None));
    }
    // What kubectl or a proxy added beside the address (ports' errors) is no reason to write.
    let extra = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]}});
    let extra = service(json!({"type": "LoadBalancer"}), json!({ANNOUNCED_BY: "one"}), extra);
    assert_eq!(written(&extra, &[a], Some("one".to_owned())), None);
    // A family more, or the other order, is.
    assert_eq!(given(&written(&extra, &[a, b], Some("one".to_owned())).expect("a change")), [a, b]);
}
