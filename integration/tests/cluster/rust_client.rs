//! kube-rs against the cluster: typed calls, a reflector over a watcher, a patch, exec and a log.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::json;
use tokio::io::AsyncReadExt;

/// How long a watch may take to tell.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs all of it; `pod` is one of the sample's, in the namespace default.
pub fn check(kubeconfig: &Path, pod: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE * 3, talk(kubeconfig, pod)).await.expect("in time")
    });
}

async fn talk(kubeconfig: &Path, pod: &str) {
    let read = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");

    let version = client.apiserver_version().await.expect("a version");
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    let nodes: Api<Node> = Api::all(client.clone());
    assert!(nodes.get_opt("e2e").await.expect("an answer").is_some());

    // A reflector's store follows what is created, patched and deleted.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let (store, writer) = reflector::store();
    let chosen = watcher::Config::default().labels("by=kube-rs");
    let changes = reflector(writer, watcher(maps.clone(), chosen)).default_backoff().touched_objects();
    let following = tokio::spawn(changes.for_each(|_| std::future::ready(())));
    tokio::time::timeout(PATIENCE, store.wait_until_ready()).await.expect("in time").expect("a store");
    let map: ConfigMap = serde_json::from_value(
        json!({"metadata": {"name": "from-rust", "labels": {"by": "kube-rs"}}, "data": {"a": "1"}}),
    )
    .expect("a map");
    let made = maps.create(&PostParams::default(), &map).await.expect("created");
    match maps.create(&PostParams::default(), &map).await {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 409, "{status:?}"),
        other => panic!("it exists already: {other:?}"),
    }
    let patch = Patch::Merge(json!({"data": {"b": "2"}}));
    let patched = maps.patch("from-rust", &PatchParams::default(), &patch).await.expect("patched");
    assert_ne!(patched.metadata.resource_version, made.metadata.resource_version);
    let shown = |wanted: usize| {
        let store = store.clone();
        async move {
            let sizes =
                || store.state().iter().map(|m| m.data.as_ref().map_or(0, |d| d.len())).sum::<usize>();
            while sizes() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, shown(2)).await.expect("the store shows the patch");
    let listed = maps.list(&ListParams::default().labels("by=kube-rs").limit(1)).await.expect("a list");
    assert_eq!(listed.items.len(), 1);
    maps.delete("from-rust", &DeleteParams::default()).await.expect("deleted");
    tokio::time::timeout(PATIENCE, shown(0)).await.expect("the store shows the deletion");
    following.abort();

    // Into a pod, over a WebSocket.
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let command = ["sh", "-c", "hostname; exit 5"];
    let mut process = pods.exec(pod, command, &AttachParams::default().stderr(true)).await.expect("exec");
    let mut said = String::new();
    process.stdout().expect("stdout").read_to_string(&mut said).await.expect("text");
    assert_eq!(said.trim(), pod);
    let status = process.take_status().expect("a status").await.expect("a status");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
    let log =
        pods.logs(pod, &LogParams { tail_lines: Some(5), ..LogParams::default() }).await.expect("a log");
    assert!(log.contains("listens on 8080"), "{log}");
}
