use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::*;
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::store::{Txn, TxnResult, key};

fn pod(name: &str, node: &str) -> Vec<u8> {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"),
            "labels": {"app": "web", "a": "1"}, "generation": 3, "finalizers": ["x/y"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u1", "controller": true}]},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running"},
    })
    .to_string()
    .into_bytes()
}

fn record(name: &str, node: &str, revision: u64) -> Record {
    Record {
        key: key("", "pods", "default", name),
        value: pod(name, node).into(),
        trace: TraceContext { trace: 1, message: revision },
        create_revision: revision,
        mod_revision: revision,
        version: 1,
    }
}

fn put(name: &str, node: &str, revision: u64) -> Batch {
    let record = record(name, node, revision);
    Batch {
        revision,
        events: vec![Event { key: record.key.clone(), trace: record.trace, record: Some(record) }],
    }
}

fn delete(name: &str, revision: u64) -> Batch {
    let event = Event { key: key("", "pods", "default", name), record: None, trace: TraceContext::default() };
    Batch { revision, events: vec![event] }
}

fn loaded() -> Cache {
    let cache = Cache::new();
    cache.load(vec![record("a", "n1", 3), record("b", "", 5)], 5);
    cache
}

fn seen(changes: &[Change]) -> Vec<(ChangeKind, String, u64)> {
    changes.iter().map(|c| (c.kind, c.stored.meta.name.to_string(), c.revision)).collect()
}

use ChangeKind::{Added, Deleted, Modified};

#[test]
fn objects_carry_their_version_and_metadata() {
    let cache = loaded();
    let snapshot = cache.snapshot();
    let a = snapshot.get("", "pods", "default", "a").unwrap();
    assert_eq!(a.value().unwrap()["metadata"]["resourceVersion"], "3");
    assert_eq!((&*a.meta.name, &*a.meta.namespace, &*a.meta.uid), ("a", "default", "uid-a"));
    assert_eq!((a.meta.labels.get("app"), a.meta.labels.get("b")), (Some("web"), None));
    assert_eq!(a.meta.controller().map(|o| &*o.uid), Some("u1"));
    assert_eq!((a.meta.generation, &*a.meta.finalizers[0]), (3, "x/y"));
    assert_eq!(a.meta.field("spec.nodeName"), "n1");
    assert_eq!(a.meta.field("status.phase"), "Running");
    assert_eq!(a.meta.field("spec.hostNetwork"), "false");
    assert_eq!(a.meta.field("metadata.name"), "a");
    assert_eq!(a.kind(), ("", "pods"));
    let typed = cache.get::<Pod>("default", "a").unwrap();
    assert!(Arc::ptr_eq(&typed, &cache.get::<Pod>("default", "a").unwrap()), "parsed once");
    assert_eq!(cache.list::<Pod>("").len(), 2);
    assert!(cache.list::<Pod>("other").is_empty());
    assert!(cache.get::<Node>("", "a").is_none());
}

#[test]
fn lists_stay_within_their_namespace_and_page() {
    let cache = Cache::new();
    let mut records = Vec::new();
    for (i, namespace) in ["a", "a-b", "b"].iter().enumerate() {
        for name in ["x", "y"] {
            let mut record = record(name, "", i as u64 + 2);
            record.key = key("", "pods", namespace, name);
            records.push(record);
        }
    }
    cache.load(records, 9);
    let snapshot = cache.snapshot();
    let names =
        |namespace: &str| snapshot.list("", "pods", namespace).map(|s| s.key.to_string()).collect::<Vec<_>>();
    assert_eq!(names("a"), ["/registry/core/pods/a/x", "/registry/core/pods/a/y"]);
    assert_eq!(names("").len(), 6);
    let after = snapshot.list_after("", "pods", "", "/registry/core/pods/a-b/x").count();
    assert_eq!(after, 5);
    assert_eq!(snapshot.count("", "pods"), 6);
}

#[tokio::test]
async fn a_cursor_gives_each_change_once_in_order() {
    let cache = loaded();
    let mut now = cache.watch("", "pods", "", WatchFrom::Now).unwrap();
    let mut all = cache.watch("", "pods", "default", WatchFrom::InitialState).unwrap();
    let mut other = cache.watch("", "pods", "elsewhere", WatchFrom::Revision(5)).unwrap();
    assert_eq!(seen(&all.next().await.unwrap()), [(Added, "a".into(), 3), (Added, "b".into(), 5)]);
    cache.apply(vec![put("c", "", 6), put("a", "n2", 7), delete("b", 8)]);
    let wanted = [(Added, "c".to_owned(), 6), (Modified, "a".to_owned(), 7), (Deleted, "b".to_owned(), 8)];
    let changes = now.next().await.unwrap();
    assert_eq!(seen(&changes), wanted);
    assert_eq!(seen(&all.next().await.unwrap()), wanted);
    assert!(other.ready().unwrap().is_empty());
    assert_eq!(other.revision(), 8, "a quiet cursor moves on, for bookmarks");
    assert_eq!(changes[1].previous.as_ref().unwrap().meta.field("spec.nodeName"), "n1");
    assert_eq!(changes[2].stored.value().unwrap()["metadata"]["resourceVersion"], "8");
    assert_eq!(changes[0].trace, TraceContext { trace: 1, message: 6 });
    // What is known already is not told again.
    assert!(cache.apply(vec![put("c", "", 6), delete("b", 8)]).is_empty());
    assert!(tokio::time::timeout(Duration::from_millis(20), now.next()).await.is_err());
    // An empty batch moves the revision only.
    cache.apply(vec![Batch { revision: 12, events: vec![] }]);
    assert_eq!(cache.wait_for(12).await.revision(), 12);
}

#[tokio::test]
async fn a_cursor_that_falls_off_is_gone() {
    let cache = loaded();
    assert_eq!(cache.watch("", "pods", "", WatchFrom::Revision(4)).err(), Some(Gone { asked: 4, oldest: 5 }));
    let mut slow = cache.watch("", "pods", "", WatchFrom::Revision(5)).unwrap();
    let mut fresh = cache.watch("", "pods", "", WatchFrom::Revision(5)).unwrap();
    let mut counted = 0;
    for revision in 6..20_000 {
        cache.apply(vec![put("c", "", revision)]);
        if revision % 100 == 0 {
            counted += fresh.ready().unwrap().len();
        }
    }
    counted += fresh.ready().unwrap().len();
    assert_eq!(counted, 20_000 - 6);
    assert!(slow.next().await.is_err());
    // Another kind's watcher is not pushed off.
    assert!(cache.watch("", "nodes", "", WatchFrom::Revision(5)).is_ok());
}

#[tokio::test]
async fn a_reload_tells_the_differences() {
    let cache = loaded();
    let mut cursor = cache.watch("", "pods", "", WatchFrom::Now).unwrap();
    let mut again = record("a", "n9", 9);
    again.create_revision = 9; // deleted and made anew meanwhile
    let mut changed = record("b", "n2", 8);
    changed.create_revision = 5;
    cache.load(vec![again, changed, record("d", "", 7)], 11);
    let changes = cursor.next().await.unwrap();
    assert_eq!(
        seen(&changes),
        [(Added, "d".into(), 7), (Modified, "b".into(), 8), (Deleted, "a".into(), 9), (Added, "a".into(), 9)]
    );
    cache.load(vec![record("d", "", 7)], 15);
    assert_eq!(seen(&cursor.next().await.unwrap()), [(Deleted, "a".into(), 15), (Deleted, "b".into(), 15)]);
    assert_eq!(cache.revision(), 15);
}

#[tokio::test]
async fn the_feed_keeps_up_with_a_store() {
    let store = Arc::new(EmbeddedStore::in_memory().await.unwrap());
    store.txn(Txn::put(key("", "pods", "default", "a"), 0, pod("a", "n1"))).await.unwrap();
    let cache = Cache::new();
    let feed = tokio::spawn(feed::run(cache.clone(), store.clone()));
    cache.ready().await;
    let made = store.txn(Txn::put(key("", "pods", "default", "b"), 0, pod("b", "n1"))).await.unwrap();
    let TxnResult::Committed { revision } = made else { panic!("{made:?}") };
    cache.wait_for(revision).await;
    assert_eq!(cache.list::<Pod>("default").len(), 2);
    feed.abort();
}

#[test]
fn pods_are_found_by_node_and_by_owner() {
    let cache = loaded();
    let found = |node: &str, uid: &str| {
        let snapshot = cache.snapshot();
        let names =
            |s: Vec<&Arc<Stored>>| s.iter().map(|s| s.meta.name.to_string()).collect::<Vec<_>>().join(" ");
        (names(snapshot.pods_on(node).collect()), names(snapshot.owned_by(uid).collect()))
    };
    assert_eq!(found("n1", "u1"), ("a".into(), "a b".into()));
    assert_eq!(found("", ""), (String::new(), String::new()));
    cache.apply(vec![put("b", "n1", 6), put("c", "n1", 7)]);
    assert_eq!(found("n1", "u1"), ("a b c".into(), "a b c".into()));
    cache.apply(vec![put("a", "n2", 8), delete("c", 9)]);
    assert_eq!(found("n1", "u1"), ("b".into(), "a b".into()));
    assert_eq!(found("n2", "other"), ("a".into(), String::new()));
    cache.apply(vec![delete("a", 10), delete("b", 11)]);
    assert!(cache.snapshot().owned.is_empty() && cache.snapshot().on_node.is_empty());
}
