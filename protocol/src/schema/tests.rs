use serde_json::json;

use super::*;

#[test]
fn every_reference_leads_somewhere() {
    assert!(all().len() > 500);
    for definition in all() {
        for field in &definition.fields {
            assert!(
                field.keys.is_empty() || field.list == ListKind::Map,
                "{} {}",
                definition.name,
                field.name
            );
        }
    }
    let pod = kind("", "v1", "Pod").expect("pod");
    assert_eq!(pod.full_name(), "io.k8s.api.core.v1.Pod");
    let ports = field_at(pod, ["spec", "containers", "ports"]).expect("ports");
    assert_eq!((ports.merge_key, ports.keys), ("containerPort", &["containerPort", "protocol"][..]));
    for resource in crate::resources::all() {
        assert!(
            kind(resource.group, resource.version, resource.kind).is_some(),
            "{} has no fields",
            resource.kind
        );
    }
}

fn read(group: &str, name: &str, text: &str) -> Result<Decoded, String> {
    decode(kind(group, "v1", name).expect(name), text.as_bytes())
}

#[test]
fn objects_come_out_as_go_prints_them() {
    let read = read(
        "",
        "ConfigMap",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","labels":{},"generation":0},"data":{"k":"v"},
            "immutable":false,"binaryData":null}"#,
    );
    let expected = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": false});
    assert_eq!(read.map(|d| d.value), Ok(expected));
}

#[test]
fn absent_structs_and_required_fields_are_printed() {
    let made = read("apps", "Deployment", r#"{"metadata":{"name":"a"}}"#).expect("reads").value;
    let expected = json!({
        "metadata": {"name": "a"},
        "spec": {"selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}},
        "status": {},
    });
    assert_eq!(made, expected);
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    for (group, kind, text, message) in [
        (
            "",
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":["a"]}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "apps",
            "Deployment",
            r#"{"spec":{"replicas":"two"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "",
            "ConfigMap",
            r#"{"metadata":[]}"#,
            "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
        (
            "",
            "ConfigMap",
            r#"{"metadata":{"labels":"x"}}"#,
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "",
            "ConfigMap",
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            r#"{"spec":{"ingress":[{"ports":[{"port":{}}]}]}}"#,
            "json: cannot unmarshal object into Go struct field NetworkPolicyPort.spec.ingress.ports.port of type int32",
        ),
        (
            "coordination.k8s.io",
            "Lease",
            r#"{"spec":{"renewTime":"2020-01-01T00:00:00Z"}}"#,
            "parsing time \"2020-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\"",
        ),
    ] {
        assert_eq!(read(group, kind, text), Err(message.to_owned()));
    }
}

#[test]
fn unknown_and_repeated_fields_are_reported() {
    let text = r#"{"kind":"Pod","kind":"Pod","spec":{"containers":[{"name":"a","oops":1}]},"metadata":{"x":{}},"y":1}"#;
    let strict = read("", "Pod", text).expect("reads").strict;
    assert_eq!(
        strict,
        [
            "duplicate field \"kind\"",
            "unknown field \"spec.containers[0].oops\"",
            "unknown field \"metadata.x\"",
            "unknown field \"y\""
        ]
    );
}

#[test]
fn the_tables_defaults_reach_into_lists() {
    let probe = json!({"grpc": {"port": 1, "service": null}});
    let mut pod = json!({"spec": {"imagePullSecrets": [{}], "containers": [
        {"name": "a", "ports": [{"containerPort": 80}], "livenessProbe": probe}]}});
    apply_defaults(kind("", "v1", "Pod").expect("pod"), &mut pod);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["livenessProbe"]["grpc"]["service"], "", "absent differs from empty there");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{}]), "and not here");
}

#[test]
fn amounts_of_resources_are_kept_in_thousandths() {
    let read = |kind: Option<&'static Definition>, value: Value| {
        decode_value(kind.expect("a kind"), &value).expect("an object").value
    };
    for (given, kept) in [("100u", "1m"), ("1000010u", "1001m"), ("1e-9", "1e-3"), ("1n", "1m"), ("2", "2")] {
        let quota = read(kind("", "v1", "ResourceQuota"), json!({"spec": {"hard": {"cpu": given}}}));
        assert_eq!(quota["spec"]["hard"]["cpu"], kept, "{given}");
    }
    let class = json!({"overhead": {"podFixed": {"cpu": "100u"}}});
    let class = read(kind("node.k8s.io", "v1", "RuntimeClass"), class);
    assert_eq!(class["overhead"]["podFixed"]["cpu"], "100u", "of another API");
}

#[test]
fn what_is_kept_as_written_may_be_an_empty_list() {
    let revision = kind("apps", "v1", "ControllerRevision").expect("revision");
    let finished = decode::finish(revision, json!({"data": [], "metadata": {"finalizers": []}}));
    assert_eq!(finished["data"], json!([]));
    assert_eq!(finished["metadata"].get("finalizers"), None);
}

#[test]
fn types_with_names_of_their_own_are_told_by_these() {
    let read = |group: &str, version: &str, name: &str, text: &str| {
        decode(kind(group, version, name).expect(name), text.as_bytes()).map(|_| ()).unwrap_err()
    };
    for (group, version, name, text, of) in [
        (
            "authorization.k8s.io",
            "v1",
            "SubjectAccessReview",
            r#"{"spec":{"extra":{"a":"b"}}}"#,
            "v1.ExtraValue",
        ),
        (
            "authorization.k8s.io",
            "v1",
            "SubjectAccessReview",
            r#"{"spec":{"extra":[]}}"#,
            "map[string]v1.ExtraValue",
        ),
        (
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            r#"{"spec":{"metrics":[{"type":7}]}}"#,
            "v2.MetricSourceType",
        ),
        (
            "resource.k8s.io",
            "v1",
            "ResourceSlice",
            r#"{"spec":{"devices":[{"capacity":[]}]}}"#,
            "map[v1.QualifiedName]v1.DeviceCapacity",
        ),
        ("", "v1", "Pod", r#"{"spec":{"overhead":[]}}"#, "v1.ResourceList"),
        ("", "v1", "Pod", r#"{"spec":{"nodeSelector":[]}}"#, "map[string]string"),
    ] {
        let told = read(group, version, name, text);
        assert!(told.ends_with(&format!(" of type {of}")), "{told}");
    }
}

#[test]
fn metadata_of_declared_kinds_is_read_by_itself() {
    let read = decode(custom(), br#"{"kind": "A", "metadata": {"uid": true}, "spec": 1}"#);
    let why = "json: cannot unmarshal bool into Go struct field ObjectMeta.uid of type types.UID";
    assert_eq!(read.map(|d| d.strict), Err(why.to_owned()));
}

#[test]
fn what_reads_itself_ends_the_reading() {
    for (kind, text, wanted) in [
        (
            "LimitRange",
            r#"{"metadata": {"generation": "x"}, "spec": {"limits": [{"max": {"cpu": "lots"}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "Pod",
            r#"{"spec": 1, "metadata": {"creationTimestamp": {}}}"#,
            "json: cannot unmarshal object into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            "Secret",
            r#"{"metadata": {"generation": "x"}, "data": {"a": "*"}}"#,
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.generation of type int64",
        ),
        (
            "Service",
            r#"{"metadata": 1, "spec": {"ports": [{"targetPort": 1.5}]}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
    ] {
        let definition = kind_of_core(kind);
        assert_eq!(decode(definition, text.as_bytes()).map(|d| d.value), Err(wanted.to_owned()), "{text}");
    }
}

fn kind_of_core(name: &str) -> &'static Definition {
    kind("", "v1", name).expect("a kind")
}
