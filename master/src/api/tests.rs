//! The pipeline as in-process callers use it, on an embedded store in memory.

use std::sync::Arc;

use protocol::{Api, ApiRequest, ApiResponse, Caller, PatchKind, Target, Verb};
use serde_json::{Value, json};

use super::pipeline::{Config, Pipeline};
use crate::auth::tokens::TokenKeys;
use crate::auth::{Authenticator, ClusterAuthorizer};
use crate::cache::{Cache, feed};
use crate::pki::Pki;
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;

mod declared;
mod extension;

struct Cluster {
    api: Arc<dyn Api>,
    pipeline: Pipeline,
    _feed: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn cluster() -> Cluster {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path()).expect("keys");
    let keys = TokenKeys::from_pem(&pki.service_account_key().expect("key")).expect("token key");
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().await.expect("store"));
    let cache = Cache::new();
    feed::load(&cache, &*store).await.expect("loads");
    let task = tokio::spawn(feed::run(cache.clone(), store.clone()));
    let authorizer = Arc::new(ClusterAuthorizer::new(cache.clone()));
    let authenticator = Authenticator::new(cache.clone(), Arc::new(keys));
    let pipeline = Pipeline::new(Config::default(), store, cache, authorizer, authenticator);
    let api = pipeline.as_caller(Caller::component("admin", &["system:masters"]));
    let made = Cluster { api, pipeline, _feed: task, _dir: dir };
    for (plural, object) in [
        ("namespaces", json!({"metadata": {"name": "default"}})),
        ("serviceaccounts", json!({"metadata": {"name": "default"}})),
    ] {
        let namespace = if plural == "namespaces" { "" } else { "default" };
        assert_eq!(made.create("", plural, namespace, object).await.code, 201);
    }
    made
}

impl Cluster {
    fn request(verb: Verb, group: &str, plural: &str, namespace: &str, name: &str) -> ApiRequest {
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let target = Target {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: plural.to_owned(),
            namespace: some(namespace),
            name: some(name),
            subresource: None,
        };
        ApiRequest::new(verb, target)
    }

    async fn send(&self, mut request: ApiRequest, body: Value) -> ApiResponse {
        if !body.is_null() {
            request.body = body.to_string().into();
        }
        self.api.call(request).await.expect("in process")
    }

    async fn create(&self, group: &str, plural: &str, namespace: &str, object: Value) -> ApiResponse {
        self.send(Self::request(Verb::Create, group, plural, namespace, ""), object).await
    }

    async fn get(&self, plural: &str, name: &str) -> ApiResponse {
        self.send(Self::request(Verb::Get, "", plural, "default", name), Value::Null).await
    }
}

fn body(response: &ApiResponse) -> Value {
    serde_json::from_slice(&response.body).expect("json")
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn an_object_lives_and_dies() {
    let cluster = cluster().await;
    let made = cluster.create("", "configmaps", "default", config_map("c")).await;
    assert_eq!(made.code, 201);
    assert_eq!(body(&made)["metadata"]["resourceVersion"], made.revision.to_string());
    let again = cluster.create("", "configmaps", "default", config_map("c")).await;
    assert_eq!((again.code, body(&again)["reason"].clone()), (409, "AlreadyExists".into()));

    let mut stale = body(&made);
    stale["data"]["a"] = "2".into();
    let update = || Cluster::request(Verb::Update, "", "configmaps", "default", "c");
    assert_eq!(cluster.send(update(), stale.clone()).await.code, 200);
    let lost = cluster.send(update(), stale).await;
    assert_eq!((lost.code, body(&lost)["reason"].clone()), (409, "Conflict".into()));

    let mut patch = Cluster::request(Verb::Patch, "", "configmaps", "default", "c");
    patch.patch = Some(PatchKind::Merge);
    let patched = cluster.send(patch, json!({"data": {"a": null, "b": "3"}})).await;
    assert_eq!(body(&patched)["data"], json!({"b": "3"}));

    let delete = Cluster::request(Verb::Delete, "", "configmaps", "default", "c");
    assert_eq!(cluster.send(delete, Value::Null).await.code, 200);
    assert_eq!(cluster.get("configmaps", "c").await.code, 404);
}

/// Upstream looks at a volume twice when it is replaced, each time at the whole of it.
#[tokio::test]
async fn a_volume_that_is_wrong_is_told_so_twice() {
    let cluster = cluster().await;
    let volume = |source: Value, generate: &str| {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
        spec.as_object_mut().expect("an object").extend(source.as_object().cloned().unwrap_or_default());
        json!({"metadata": {"name": "v", "generateName": generate}, "spec": spec})
    };
    let path = json!({"hostPath": {"path": "/tmp/v"}});
    assert_eq!(cluster.create("", "persistentvolumes", "", volume(path.clone(), "")).await.code, 201);
    let update = Cluster::request(Verb::Update, "", "persistentvolumes", "", "v");
    let refused = cluster.send(update, volume(json!({"hostPath": {"path": ""}}), "Bogus")).await;
    let causes = body(&refused)["details"]["causes"].as_array().cloned().unwrap_or_default();
    let fields: Vec<&str> = causes.iter().filter_map(|cause| cause["field"].as_str()).collect();
    let once = ["metadata.generateName", "spec.hostPath.path"];
    assert_eq!(fields[..4], [once, once].concat(), "{fields:?}");
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let cluster = cluster().await;
    let mut object = config_map("c");
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    cluster.create("", "configmaps", "default", object).await;
    let delete = || Cluster::request(Verb::Delete, "", "configmaps", "default", "c");
    let marked = body(&cluster.send(delete(), Value::Null).await);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let mut patch = Cluster::request(Verb::Patch, "", "configmaps", "default", "c");
    patch.patch = Some(PatchKind::Merge);
    assert_eq!(cluster.send(patch, json!({"metadata": {"finalizers": null}})).await.code, 200);
    assert_eq!(cluster.get("configmaps", "c").await.code, 404);
}

#[tokio::test]
async fn status_and_spec_keep_out_of_each_other() {
    let cluster = cluster().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]},
        "status": {"phase": "Running"}});
    let made = body(&cluster.create("", "pods", "default", pod).await);
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert!(made["spec"]["volumes"][0]["name"].as_str().is_some_and(|n| n.starts_with("kube-api-access-")));
    let mut status = Cluster::request(Verb::Patch, "", "pods", "default", "p");
    status.patch = Some(PatchKind::Merge);
    status.target.subresource = Some("status".to_owned());
    let changed =
        cluster.send(status, json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}})).await;
    let changed = body(&changed);
    assert_eq!(
        (changed["status"]["phase"].clone(), changed["spec"]["nodeName"].clone()),
        ("Running".into(), Value::Null)
    );
}

#[tokio::test]
async fn concurrent_services_get_addresses_and_ports_of_their_own() {
    let cluster = cluster().await;
    let service = |i: usize| json!({"metadata": {"name": format!("s{i}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let all = (0..24).map(|i| cluster.create("", "services", "default", service(i)));
    let made: Vec<Value> = futures::future::join_all(all).await.iter().map(body).collect();
    let unique =
        |of: &dyn Fn(&Value) -> String| made.iter().map(of).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(unique(&|s| s["spec"]["clusterIP"].to_string()), 24);
    assert_eq!(unique(&|s| s["spec"]["ports"][0]["nodePort"].to_string()), 24);

    let taken = made[0]["spec"]["clusterIP"].clone();
    let same = json!({"metadata": {"name": "same"}, "spec": {"clusterIP": taken, "ports": [{"port": 80}]}});
    assert_eq!(cluster.create("", "services", "default", same.clone()).await.code, 422);
    let delete = Cluster::request(Verb::Delete, "", "services", "default", "s0");
    assert_eq!(cluster.send(delete, Value::Null).await.code, 200);
    assert_eq!(cluster.create("", "services", "default", same).await.code, 201);
}

#[tokio::test]
async fn refusals_are_upstreams() {
    let cluster = cluster().await;
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let refused = cluster
        .create("apps", "deployments", "default", json!({"metadata": {"name": "x"}, "spec": spec}))
        .await;
    let message = "Deployment.apps \"x\" is invalid: spec.template.metadata.labels: Invalid value: {\"a\":\"x\"}: \
                   `selector` does not match template `labels`";
    assert_eq!((refused.code, body(&refused)["message"].clone()), (422, message.into()));

    let stranger = cluster.pipeline.as_caller(Caller::component("eve", &[]));
    let request = Cluster::request(Verb::List, "", "pods", "default", "");
    let denied = stranger.call(request).await.expect("in process");
    let message = "pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!((denied.code, body(&denied)["message"].clone()), (403, message.into()));
}

#[tokio::test]
async fn what_is_wrong_first_is_told_first() {
    let cluster = cluster().await;
    let container = json!([{"name": "c", "image": "i"}]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": container}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let made = cluster
        .create("apps", "deployments", "default", json!({"metadata": {"name": "x"}, "spec": spec}))
        .await;
    assert_eq!(made.code, 201, "{}", body(&made));
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name, "controller": true});
    let mirror = json!({"kubernetes.io/config.mirror": "m"});
    let two = "metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"a\",\
               \"uid\":\"a\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"b\",\
               \"uid\":\"b\",\"controller\":true}]: Only one reference can have Controller set to true. Found \"true\" in \
               references for ConfigMap/a and ConfigMap/b";
    for (verb, group, path, object, code, message) in [
        (
            Verb::Update,
            "apps",
            "deployments/x",
            json!({"metadata": {"name": "y", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            Verb::Update,
            "apps",
            "deployments/x/scale",
            json!({"metadata": {"name": "x", "ownerReferences": [owner("a"), owner("b")]}, "spec": {"replicas": 1}}),
            422,
            &format!("Scale.autoscaling \"x\" is invalid: {two}"),
        ),
        (
            Verb::Create,
            "",
            "bindings",
            json!({"target": {"kind": "Node", "name": "n"}}),
            400,
            "Name parameter required.",
        ),
        (
            Verb::Create,
            "",
            "pods",
            json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "a/b", "containers": container}}),
            403,
            "pods \"p\" is forbidden: error looking up service account default/a/b: invalid resource name \"a/b\": [may \
             not contain '/']",
        ),
        (
            Verb::Create,
            "",
            "pods",
            json!({"metadata": {"name": "p", "annotations": mirror},
                "spec": {"serviceAccountName": "default", "containers": container}}),
            403,
            "pods \"p\" is forbidden: a mirror pod may not reference service accounts",
        ),
        (
            Verb::Create,
            "",
            "configmaps",
            json!({"apiVersion": "v1", "kind": "\n", "metadata": {"name": "a"}}),
            400,
            "\n in version \"v1\" cannot be handled as a ConfigMap: no kind \"\\n\" is registered for version \"v1\" in \
             scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
    ] {
        let parts: Vec<&str> = path.split('/').collect();
        let name = parts.get(1).copied().unwrap_or_default();
        let mut request = Cluster::request(verb, group, parts[0], "default", name);
        request.target.subresource = parts.get(2).map(|part| (*part).to_owned());
        let refused = cluster.send(request, object).await;
        assert_eq!((refused.code, body(&refused)["message"].as_str()), (code, Some(message)), "{path}");
    }
}
