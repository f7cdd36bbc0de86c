use protocol::resources;
use serde_json::json;

use super::*;

/// What is said of a new object.
fn said(group: &str, plural: &str, object: Value) -> Vec<String> {
    let mut said = Vec::new();
    (strategy(resources::find(group, "v1", plural).expect(plural)).warnings)(&object, None, &mut said);
    said
}

#[test]
fn what_is_odd_is_said() {
    const FORM: &str = "should be in RFC 5952 canonical format";
    let addresses = json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "FD00::1"}]}]);
    let block = json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.1/16"]});
    let labels = json!({"beta.kubernetes.io/os": "linux", "other": ""});
    for (group, plural, object, wanted) in [
        ("", "endpoints", json!({"subsets": addresses}), Some(("subsets[0].addresses[1].ip: ", FORM))),
        (
            "",
            "endpoints",
            json!({"subsets": addresses, "metadata": {"labels": {
                "endpoints.kubernetes.io/managed-by": "endpoint-controller"}}}),
            None,
        ),
        (
            "networking.k8s.io",
            "networkpolicies",
            json!({"spec": {"egress": [{"to": [{"ipBlock": block}]}]}}),
            Some(("spec.egress[0].to[0].ipBlock.except[0]: ", "is ambiguous")),
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}}),
            Some(("annotation", "is deprecated")),
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
                "spec": {"ingressClassName": "a"}}),
            None,
        ),
        ("", "nodes", json!({"spec": {"podCIDRs": ["FD00::/64"]}}), Some(("spec.podCIDRs[0]: ", FORM))),
        (
            "",
            "serviceaccounts",
            json!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}),
            Some(("metadata.annotations[kubernetes.io/enforce-mountable-secrets]: ", "deprecated")),
        ),
        (
            "node.k8s.io",
            "runtimeclasses",
            json!({"scheduling": {"nodeSelector": labels}}),
            Some(("scheduling.nodeSelector: ", "deprecated since v1.14")),
        ),
        (
            "storage.k8s.io",
            "csistoragecapacities",
            json!({"nodeTopology": {"matchLabels": labels}}),
            Some(("nodeTopology.matchLabels.beta.kubernetes.io/os: ", "deprecated since v1.14")),
        ),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            json!({"metadata": {"name": "a.static.k8s.io"}}),
            Some(("metadata.name: ", "reserved for static")),
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["010.0.0.0/8"]}}),
            Some(("spec.loadBalancerSourceRanges[0]: ", "use \"10.0.0.0/8\"")),
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "ExternalName", "externalIPs": ["192.0.2.1"]}}),
            Some(("spec.externalIPs is ignored", "ExternalName")),
        ),
        (
            "",
            "services",
            json!({"spec": {"externalIPs": ["192.0.2.1"]}}),
            Some(("spec.externalIPs", "deprecated")),
        ),
    ] {
        let said = said(group, plural, object);
        match wanted {
            None => assert_eq!(said, Vec::<String>::new(), "{plural}"),
            Some((start, part)) => {
                assert!(said.len() == 1 && said[0].starts_with(start) && said[0].contains(part), "{said:?}");
            }
        }
    }
}

#[test]
fn of_a_status_alone_something_else_is_said() {
    let points = json!([{"ip": "FD00::1"}, {"hostname": "a"}]);
    let volume = json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}});
    for (group, plural, object, wanted) in [
        ("", "services", json!({"status": {"loadBalancer": {"ingress": points}}}), 1),
        ("networking.k8s.io", "ingresses", json!({"status": {"loadBalancer": {"ingress": points}}}), 1),
        ("", "pods", json!({"status": {"podIPs": [{"ip": "FD00::1"}], "hostIPs": [{"ip": "fd00::1"}]}}), 1),
        ("", "persistentvolumes", volume, 0),
    ] {
        let mut said = Vec::new();
        let strategy = strategy(resources::find(group, "v1", plural).expect(plural));
        strategy.say(Part::Status, &object, &object, &mut said);
        assert_eq!(said.len(), wanted, "{plural}: {said:?}");
    }
}

#[test]
fn annotations_of_nodes_and_volumes_are_looked_at() {
    let told = |plural: &str, object: &Value| {
        let strategy = strategy(resources::find("", "v1", plural).expect(plural));
        crate::api::invalid::said(|errors| {
            (strategy.validate)(object, errors);
            (strategy.validate_once)(object, errors);
        })
    };
    for (given, wanted) in [
        ("", None),
        ("{}", None),
        ("x", Some("metadata.annotations.AvoidPods: Invalid value: ")),
        (r#"{"preferAvoidPods":[{}]}"#, Some("preferAvoidPods[0].PodSignature: Required value")),
        (
            r#"{"preferAvoidPods":[{"podSignature":{"podController":{"controller":false}}}]}"#,
            Some("must point to a controller"),
        ),
    ] {
        let annotations = json!({"scheduler.alpha.kubernetes.io/preferAvoidPods": given});
        let told = told("nodes", &json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {}}));
        assert_eq!(told.len(), usize::from(wanted.is_some()), "{told:?}");
        assert!(told.iter().all(|told| told.contains(wanted.unwrap_or_default())), "{told:?}");
    }
    for (kind, wanted) in [("hostPath", true), ("nfs", false)] {
        let annotations = json!({"volume.beta.kubernetes.io/mount-options": "ro"});
        let volume = json!({"metadata": {"name": "a", "annotations": annotations},
            "spec": {kind: {"path": "/a", "server": "s"}}});
        let told = told("persistentvolumes", &volume);
        assert_eq!(
            told.iter().any(|told| told.contains("may not specify mount options")),
            wanted,
            "{told:?}"
        );
    }
}

#[test]
fn a_nodes_first_range_is_its_range() {
    let mut node = json!({"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}});
    (strategy(resources::find("", "v1", "nodes").expect("nodes")).defaults)(&mut node);
    assert_eq!(node["spec"]["podCIDR"], "10.0.0.0/24");
}

#[test]
fn what_once_was_in_annotations_is_dropped() {
    for (group, version, plural, annotation) in [
        ("", "v1", "pods", "pod.alpha.kubernetes.io/init-containers"),
        ("autoscaling", "v2", "horizontalpodautoscalers", "autoscaling.alpha.kubernetes.io/metrics"),
    ] {
        let defaults = strategy(resources::find(group, version, plural).expect(plural)).defaults;
        let mut object = json!({"metadata": {"annotations": {annotation: "x", "other": "y"}}, "spec": {}});
        defaults(&mut object);
        assert_eq!(object["metadata"]["annotations"], json!({"other": "y"}), "{plural}");
        let mut object = json!({"metadata": {"annotations": {annotation: "x"}}, "spec": {}});
        defaults(&mut object);
        assert_eq!(object["metadata"], json!({}), "{plural}");
    }
}

#[test]
fn a_number_in_an_annotation_must_be_one() {
    for (given, wanted) in [
        ("7", None),
        ("+3", None),
        ("", Some("strconv.ParseInt: parsing \"\": invalid syntax")),
        ("x", Some("strconv.ParseInt: parsing \"x\": invalid syntax")),
        (
            "9223372036854775808",
            Some("strconv.ParseInt: parsing \"9223372036854775808\": value out of range"),
        ),
    ] {
        let annotations = json!({"deprecated.daemonset.template.generation": given});
        let object = json!({"metadata": {"annotations": annotations}});
        assert_eq!(unconvertible("apps", "DaemonSet", &object).as_deref(), wanted, "{given}");
        assert_eq!(unconvertible("apps", "Deployment", &object), None);
    }
}

#[test]
fn an_ingress_has_one_class_when_it_is_made() {
    let strategy = strategy(resources::find("networking.k8s.io", "v1", "ingresses").expect("ingresses"));
    let ingress = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
        "spec": {"ingressClassName": "b", "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let made = crate::api::invalid::said(|errors| (strategy.validate_create)(&ingress, errors));
    assert_eq!(made.len(), 1, "{made:?}");
    let kept = crate::api::invalid::said(|errors| (strategy.validate)(&ingress, errors));
    assert_eq!(kept, Vec::<String>::new());
}

#[test]
fn updates_look_in_the_order_of_the_kind() {
    for (group, plural, part, order, once) in [
        ("", "persistentvolumeclaims", Part::Main, UpdateOrder::MetadataFirst, false),
        ("", "persistentvolumes", Part::Main, UpdateOrder::ObjectFirst, true),
        ("", "persistentvolumes", Part::Status, UpdateOrder::MetadataFirst, false),
        ("", "configmaps", Part::Main, UpdateOrder::ChangeFirst, false),
        ("", "events", Part::Main, UpdateOrder::MetadataFirst, true),
        ("events.k8s.io", "events", Part::Main, UpdateOrder::ObjectFirst, false),
        ("apps", "statefulsets", Part::Main, UpdateOrder::MetadataFirst, false),
    ] {
        let resource = resources::find(group, "v1", plural).expect("a kind");
        let again = part == Part::Main && checked_again(resource) > 0;
        assert_eq!(update_order(resource, &strategy(resource), again), order, "{plural} {part:?}");
        assert_eq!(checked_once(resource, part), once, "{plural} {part:?}");
    }
}
