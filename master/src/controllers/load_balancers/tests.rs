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
fn what_is_as_it_should_be_is_not_written_again() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let empty = service(json!({"type": "LoadBalancer"}), json!({"kept": "a"}), json!({}));
    assert_eq!(written(&empty, None, None), None);
    let first = written(&empty, Some(address), Some("one".to_owned())).expect("a change");
    assert_eq!(given(&first), Some(address));
    assert_eq!(annotation(&first.metadata, ANNOUNCED_BY), Some("one"));
    assert_eq!(annotation(&first.metadata, "kept"), Some("a"));
    assert_eq!(written(&first, Some(address), Some("one".to_owned())), None);
    let moved = written(&first, Some(address), None).expect("a change");
    assert_eq!((given(&moved), annotation(&moved.metadata, ANNOUNCED_BY)), (Some(address), None));
    let gone = written(&first, None, None).expect("a change");
    assert_eq!((given(&gone), annotation(&gone.metadata, ANNOUNCED_BY)), (None, None));
    // What kubectl or a proxy added beside the address (ports' errors) is no reason to write.
    let extra = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]}});
    let extra = service(json!({"type": "LoadBalancer"}), json!({ANNOUNCED_BY: "one"}), extra);
    assert_eq!(written(&extra, Some(address), Some("one".to_owned())), None);
}
