//! The embedded store: the contract, durability, and a model that it is checked against.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use master::store::embedded::EmbeddedStore;
use master::store::{LeaseId, Range, Store, StoreError, Txn, TxnResult};
use proptest::prelude::*;

use super::{body, commit, get, pod, take, trace};

async fn on_disk() -> (Arc<dyn Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("folders/that/are/not/there/store.redb")).await.unwrap();
    (Arc::new(store), dir)
}

super::contract!(on_disk());

#[tokio::test]
async fn everything_answered_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).await.unwrap();
    let lease = store.lease_grant(std::time::Duration::from_secs(600)).await.unwrap();
    let first = commit(&store, Txn::put(pod("a"), 0, body("1")).caused_by(trace(3))).await;
    let mut last = first;
    for i in 0..20 {
        last = commit(&store, Txn::put(pod("a"), last, body(&i.to_string()))).await;
        commit(&store, Txn::put(pod(&format!("n{i}")), 0, body("n")).with_lease(lease)).await;
    }
    // The file as it would be found after the power went, while the store still has it open.
    let copy = dir.path().join("found.redb");
    std::fs::copy(&path, &copy).unwrap();
    let found = EmbeddedStore::open(&copy).await.unwrap();
    assert_eq!(found.current_revision().await, store.current_revision().await);
    assert_eq!(get(&found, &pod("a")).await, get(&store, &pod("a")).await);
    assert_eq!(found.range(Range::key(pod("a")).at(first)).await.unwrap().records[0].trace, trace(3));
    // History can be followed, revisions go on, leases still hold their keys.
    let mut watch = found.watch("/registry/", first).await.unwrap();
    assert_eq!(take(&mut watch, 40).await.len(), 40);
    let next = commit(&found, Txn::put(pod("b"), 0, body("1"))).await;
    assert_eq!(next, store.current_revision().await.unwrap() + 1);
    found.lease_revoke(lease).await.unwrap();
    assert!(get(&found, &pod("n1")).await.is_none());
}

#[tokio::test]
async fn a_store_opens_again_after_it_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).await.unwrap();
    let first = commit(&store, Txn::put(pod("a"), 0, body("1"))).await;
    let second = commit(&store, Txn::put(pod("a"), first, body("2"))).await;
    store.compact(second).await.unwrap();
    drop(store);
    // The writer's task lets go of the file when it notices.
    let store = loop {
        match EmbeddedStore::open(&path).await {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    assert_eq!(get(&store, &pod("a")).await.unwrap().mod_revision, second);
    let old = store.range(Range::key(pod("a")).at(first)).await;
    assert_eq!(old, Err(StoreError::Compacted { oldest: second }));
}

#[tokio::test]
async fn waiting_writers_share_a_commit() {
    let (store, _dir) = on_disk().await;
    let alone = std::time::Instant::now();
    for i in 0..20 {
        commit(&*store, Txn::put(pod(&format!("a{i}")), 0, body("1"))).await;
    }
    let alone = alone.elapsed();
    let together = std::time::Instant::now();
    let writes = (0..200).map(|i| {
        let store = store.clone();
        async move { commit(&*store, Txn::put(pod(&format!("b{i}")), 0, body("1"))).await }
    });
    futures::future::join_all(writes).await;
    let together = together.elapsed();
    // Ten times as many writes: far less than ten times as long.
    assert!(together < alone * 5, "20 writes one by one: {alone:?}, 200 at once: {together:?}");
}

#[derive(Clone, Debug)]
enum Step {
    /// Puts or deletes a key, expecting its true version, or a wrong one.
    Write {
        key: u8,
        value: Option<u8>,
        stale: bool,
    },
    Compact {
        back: u64,
    },
    Lease {
        key: u8,
    },
    EndLease,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0u8..5, proptest::option::of(any::<u8>()), proptest::bool::weighted(0.2))
        .prop_map(|(key, value, stale)| Step::Write { key, value, stale });
    let step = prop_oneof![
        8 => write,
        1 => (0u64..6).prop_map(|back| Step::Compact { back }),
        1 => (0u8..5).prop_map(|key| Step::Lease { key }),
        1 => Just(Step::EndLease),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the store must do, done simply: every state of every revision.
struct Model {
    /// Key → (value, mod revision), by revision.
    states: BTreeMap<u64, BTreeMap<u8, (u8, u64)>>,
    compacted: u64,
    leased: Vec<u8>,
}

impl Model {
    fn now(&self) -> (u64, BTreeMap<u8, (u8, u64)>) {
        let (revision, state) = self.states.last_key_value().unwrap();
        (*revision, state.clone())
    }
}

async fn check(steps: Vec<Step>) {
    let store = EmbeddedStore::in_memory().await.unwrap();
    let start = store.current_revision().await.unwrap();
    let mut model = Model { states: [(start, BTreeMap::new())].into(), compacted: 0, leased: Vec::new() };
    let mut lease: Option<LeaseId> = None;
    let mut watch = store.watch("/registry/", start).await.unwrap();
    let name = |key: u8| pod(&key.to_string());
    for step in steps {
        let (revision, mut state) = model.now();
        match step {
            Step::Write { key, value, stale } => {
                let seen = state.get(&key).map_or(0, |(_, at)| *at) + u64::from(stale);
                let txn = match value {
                    Some(value) => Txn::put(name(key), seen, body(&value.to_string())),
                    None => Txn::delete(name(key), seen),
                };
                match store.txn(txn).await.unwrap() {
                    TxnResult::Conflict { current, .. } => {
                        assert!(stale);
                        let current = current[0].as_ref().map(|r| r.mod_revision);
                        assert_eq!(current, state.get(&key).map(|(_, at)| *at));
                    }
                    TxnResult::Committed { revision: made } => {
                        assert!(!stale);
                        let before = state.clone();
                        match value {
                            Some(value) => drop(state.insert(key, (value, made))),
                            None => drop(state.remove(&key)),
                        }
                        // Deleting nothing is no revision.
                        assert_eq!(made, revision + u64::from(state != before));
                        model.leased.retain(|leased| *leased != key);
                        model.states.insert(made, state);
                    }
                }
            }
            Step::Compact { back } => {
                let at = revision.saturating_sub(back);
                let done = store.compact(at).await;
                assert_eq!(done.is_ok(), at > model.compacted, "{done:?}");
                model.compacted = model.compacted.max(at);
            }
            Step::Lease { key } => {
                let id = match lease {
                    Some(id) => id,
                    None => store.lease_grant(std::time::Duration::from_secs(3600)).await.unwrap(),
                };
                lease = Some(id);
                let seen = state.get(&key).map_or(0, |(_, at)| *at);
                let made = commit(&store, Txn::put(name(key), seen, body("0")).with_lease(id)).await;
                state.insert(key, (0, made));
                model.states.insert(made, state);
                model.leased.retain(|leased| *leased != key);
                model.leased.push(key);
            }
            Step::EndLease => {
                let Some(id) = lease.take() else { continue };
                store.lease_revoke(id).await.unwrap();
                if !model.leased.is_empty() {
                    for key in model.leased.drain(..) {
                        state.remove(&key);
                    }
                    model.states.insert(revision + 1, state);
                }
            }
        }
    }
    // Every revision that is left reads as it was; those that are not, say so.
    for (revision, state) in &model.states {
        let read = store.range(Range::prefix("/registry/").at(*revision)).await;
        if *revision < model.compacted {
            assert_eq!(read, Err(StoreError::Compacted { oldest: model.compacted }));
            continue;
        }
        let read: Vec<_> =
            read.unwrap().records.into_iter().map(|r| (r.key, r.value, r.mod_revision)).collect();
        let wanted: Vec<_> = state.iter().map(|(k, (v, at))| (name(*k), body(&v.to_string()), *at)).collect();
        assert_eq!(read, wanted, "at {revision}");
    }
    // The watch, replayed, leads through the same states.
    let mut replayed: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(Some(Ok(batch))) = watch.next().now_or_never() {
        for event in batch.events {
            match event.record {
                Some(record) => drop(replayed.insert(event.key, record.mod_revision)),
                None => assert!(replayed.remove(&event.key).is_some(), "a deletion of nothing"),
            }
        }
        let wanted: BTreeMap<String, u64> =
            model.states[&batch.revision].iter().map(|(k, (_, at))| (name(*k), *at)).collect();
        assert_eq!(replayed, wanted, "watched at {}", batch.revision);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_does_what_the_model_does(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(steps));
    }
}
