use serde_json::json;

use super::*;

#[test]
fn references_in_text_are_expanded() {
    let value = |name: &str| match name {
        "A" => Some("a"),
        "EMPTY" => Some(""),
        _ => None,
    };
    for (text, wanted) in [
        ("plain", "plain"),
        ("$(A)-$(A)", "a-a"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$(EMPTY)x", "x"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
    ] {
        assert_eq!(expand(text, value), wanted, "{text}");
    }
}

fn pod(container: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
        "spec": {"containers": [container], "serviceAccountName": "sa"},
    }))
    .unwrap()
}

fn sources() -> Sources {
    let service = |ns: &str, name: &str, ip: &str| -> Arc<Service> {
        let service = serde_json::from_value(json!({"metadata": {"name": name, "namespace": ns},
            "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}));
        Arc::new(service.unwrap())
    };
    Sources {
        config_maps: [
            ("cm".to_owned(), Some([("k".to_owned(), "from map".to_owned())].into())),
            ("gone".to_owned(), None),
        ]
        .into(),
        secrets: [("sec".to_owned(), Some([("p".to_owned(), b"word".to_vec())].into()))].into(),
        services: vec![
            service("default", "kubernetes", "10.96.0.1"),
            service("ns", "my-db", "10.96.0.7"),
            service("ns", "headless", "None"),
            service("other", "far", "10.96.0.9"),
        ],
        pod_ips: vec!["10.0.0.5".to_owned()],
        host_ips: vec!["192.168.0.1".to_owned(), "2001:db8::1".to_owned()],
        node_name: "n1".to_owned(),
        ..Sources::default()
    }
}

#[test]
fn every_source_of_a_variable() {
    let owner = pod(json!({"name": "c",
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "sec"}},
                {"configMapRef": {"name": "gone", "optional": true}}],
    "env": [
        {"name": "PLAIN", "value": "1"}, {"name": "TWICE", "value": "$(PLAIN)$(P_k)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "p"}}},
        {"name": "SKIPPED", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "no", "optional": true}}},
        {"name": "MY_DB_SERVICE_PORT", "value": "overridden"},
    ]}));
    let found = environment(&owner, &owner.spec.as_ref().unwrap().containers[0], &sources()).unwrap();
    let get = |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    for (name, wanted) in [
        ("P_k", Some("from map")),
        ("p", Some("word")),
        ("TWICE", Some("1from map")),
        ("IP", Some("10.0.0.5")),
        ("LABEL", Some("x")),
        ("KEY", Some("word")),
        ("SKIPPED", None),
        ("KUBERNETES_SERVICE_HOST", Some("10.96.0.1")),
        ("KUBERNETES_PORT_80_TCP", Some("tcp://10.96.0.1:80")),
        ("MY_DB_SERVICE_HOST", Some("10.96.0.7")),
        ("MY_DB_SERVICE_PORT_HTTP", Some("80")),
        ("MY_DB_SERVICE_PORT", Some("overridden")),
        ("HEADLESS_SERVICE_HOST", None),
        ("FAR_SERVICE_HOST", None),
    ] {
        assert_eq!(get(name), wanted, "{name}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let sources = sources();
    for (env, wanted) in [
        (
            json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k"}}}]),
            "configmap \"gone\" not found",
        ),
        (
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "nix", "key": "k"}}}]),
            "secret \"nix\" not found",
        ),
        (
            json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "x"}}}]),
            "couldn't find key x in ConfigMap ns/cm",
        ),
        (
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
            "unsupported fieldPath: spec.x",
        ),
    ] {
        let owner = pod(json!({"name": "c", "env": env}));
        let error = environment(&owner, &owner.spec.as_ref().unwrap().containers[0], &sources).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}
