use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use super::*;
use crate::ingress::claims::key;

fn ingress(name: &str, backend: Value, secret: &str) -> Arc<Claims> {
    let ingress: Ingress = serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": name},
        "spec": {"tls": [{"hosts": ["h"], "secretName": secret}], "rules": [
            {"host": "h", "http": {"paths": [{"pathType": "Prefix", "path": "/", "backend": backend}]}}]}}))
    .unwrap();
    Arc::new(Claims::of(&ingress))
}

fn to(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

fn service(kind: &str) -> Option<Arc<Service>> {
    Some(Arc::new(serde_json::from_value(json!({"spec": {"type": kind, "ports": [{"port": 80}]}})).unwrap()))
}

fn refusal(table: &Table) -> String {
    match table.find("h", "/") {
        Found::Backend(backend) => backend.refusal().map(Refusal::to_string).unwrap_or_default(),
        Found::Refused(refusal) => refusal.to_string(),
        Found::Nothing => "nothing".to_owned(),
        Found::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn what_is_known_when() {
    let mut table = Table::new("n1");
    assert_eq!(refusal(&table), "unknown");
    table.complete = true;
    assert_eq!(refusal(&table), "nothing");
    let i = key("a", "i");
    assert_eq!(table.set_ingress(&i, Some(ingress("i", to("s"), "one"))), ["a/one".into()].into());
    assert_eq!(refusal(&table), "service \"a/s\" does not exist");
    // As the watch may repeat itself.
    assert!(table.set_ingress(&i, Some(ingress("i", to("s"), "one"))).is_empty());
    table.set_service(&key("a", "s"), service("ClusterIP"));
    assert_eq!(refusal(&table), "service \"a/s\" has no endpoint that is ready");
    assert_eq!(table.users(&key("a", "s")), [i.clone()].into());
    let secrets = table.set_ingress(&i, Some(ingress("i", to("t"), "two")));
    assert_eq!(secrets, ["a/one".into(), "a/two".into()].into());
    assert!(table.users(&key("a", "s")).is_empty());
    assert_eq!(table.certificates.secrets().collect::<Vec<_>>(), [&Key::from("a/two")]);
    table.set_ingress(&i, None);
    assert_eq!(refusal(&table), "nothing");
}

#[test]
fn what_an_owner_is_told() {
    let mut table = Table::new("n1");
    table.complete = true;
    let i = key("a", "i");
    table.set_ingress(&i, Some(ingress("i", to("s"), "one")));
    table.set_service(&key("a", "s"), service("ClusterIP"));
    // A Service without endpoints is everyday life.
    assert!(table.faults(&i).is_empty());
    table.set_service(&key("a", "s"), service("ExternalName"));
    let missing = super::super::certificates::SecretFault::Missing(key("a", "one"));
    table.certificates.set(&key("a", "one"), Err(missing));
    let reasons: Vec<_> = table.faults(&i).into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["BackendRefused", "SecretMissing"]);
    let resource = json!({"resource": {"apiGroup": "x", "kind": "Bucket", "name": "b"}});
    table.set_ingress(&i, Some(ingress("i", resource, "two")));
    let texts: Vec<_> = table.faults(&i).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["Bucket \"b\" is no Service, which alone an Ingress is served from"]);
    assert_eq!(refusal(&table), texts[0]);
}
