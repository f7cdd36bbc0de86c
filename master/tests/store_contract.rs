//! The store's contract, held by both implementations: compare-and-swap, revisions, paging, watching,
//! compaction, leases. What only one of them can go through (a power cut, a dead server) follows in
//! `embedded` and `etcd`.

// Clippy's leave for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use actors::TraceContext;
use bytes::Bytes;
use futures::StreamExt;
use master::store::{
    Batch, BatchStream, Compare, Event, Op, Range, Record, Store, StoreError, Txn, TxnResult,
};

#[path = "store_contract/embedded.rs"]
mod embedded;
#[path = "store_contract/etcd.rs"]
mod etcd;

/// Runs every rule of the contract on the stores that a factory makes.
macro_rules! contract {
    ($make:expr) => {
        $crate::contract!(@ $make,
            a_transaction_happens_whole_or_not_at_all, concurrent_writers_lose_nothing,
            pages_show_one_revision, the_past_can_be_read, a_watch_tells_everything_once,
            causes_travel_with_changes, compaction_ends_history, leases_end, oversized_writes_are_refused);
    };
    (@ $make:expr, $($rule:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let (store, _keep) = $make.await;
            super::$rule(store).await;
        })*
    };
}
pub(crate) use contract;

const PODS: &str = "/registry/core/pods/";

fn pod(name: &str) -> String {
    format!("{PODS}default/{name}")
}

fn body(text: &str) -> Bytes {
    format!("{{\"x\":\"{text}\"}}").into()
}

fn trace(message: u64) -> TraceContext {
    TraceContext { trace: 7, message }
}

async fn commit(store: &dyn Store, txn: Txn) -> u64 {
    match store.txn(txn).await.expect("the store answers") {
        TxnResult::Committed { revision } => revision,
        conflict => panic!("{conflict:?}"),
    }
}

async fn get(store: &dyn Store, key: &str) -> Option<Record> {
    store.range(Range::key(key)).await.expect("the store answers").records.into_iter().next()
}

/// Takes events until `count` of them were seen.
async fn take(stream: &mut BatchStream, count: usize) -> Vec<(u64, Event)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        let batch = next.unwrap_or_else(|_| panic!("only {} of {count} events came", seen.len()));
        let Batch { revision, events } = batch.expect("the watch goes on").expect("the watch is good");
        seen.extend(events.into_iter().map(|event| (revision, event)));
    }
    seen
}

async fn a_transaction_happens_whole_or_not_at_all(store: Arc<dyn Store>) {
    let (a, b) = (pod("a"), pod("b"));
    let first = commit(&*store, Txn::put(&a, 0, body("1"))).await;
    assert_eq!(store.current_revision().await.unwrap(), first);
    let again = store.txn(Txn::put(&a, 0, body("2"))).await.unwrap();
    let TxnResult::Conflict { current, .. } = again else { panic!("{again:?}") };
    assert_eq!(current.len(), 1);
    assert_eq!(current[0].as_ref().unwrap().value, body("1"));

    let second = commit(&*store, Txn::put(&a, first, body("2"))).await;
    assert!(second > first);
    let record = get(&*store, &a).await.unwrap();
    assert_eq!((record.create_revision, record.mod_revision, record.version), (first, second, 2));

    // Two keys: one compare fails, so neither changes.
    let both = |seen_a: u64, seen_b: u64| Txn {
        compares: vec![
            Compare { key: a.clone(), mod_revision: seen_a },
            Compare { key: b.clone(), mod_revision: seen_b },
        ],
        ops: vec![Op::Delete { key: a.clone() }, Op::Put { key: b.clone(), value: body("3"), lease: None }],
        trace: TraceContext::default(),
    };
    let TxnResult::Conflict { current, .. } = store.txn(both(second, 5)).await.unwrap() else { panic!() };
    assert_eq!(current.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert!(get(&*store, &a).await.is_some() && get(&*store, &b).await.is_none());
    let third = commit(&*store, both(second, 0)).await;
    assert!(get(&*store, &a).await.is_none());
    assert_eq!(get(&*store, &b).await.unwrap().mod_revision, third);

    // A key that comes again begins anew.
    let fourth = commit(&*store, Txn::put(&a, 0, body("4"))).await;
    let record = get(&*store, &a).await.unwrap();
    assert_eq!((record.create_revision, record.version), (fourth, 1));

    let twice = Txn { ops: vec![Op::Delete { key: a.clone() }, Op::Delete { key: a }], ..Txn::default() };
    assert!(matches!(store.txn(twice).await, Err(StoreError::Invalid(_))));
}

async fn concurrent_writers_lose_nothing(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 20;
    let key = pod("counter");
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (store, key) = (store.clone(), key.clone());
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for _ in 0..ROUNDS {
                let mut seen = get(&*store, &key).await;
                loop {
                    let count: u64 = seen.as_ref().map_or(0, |r| {
                        String::from_utf8_lossy(&r.value[6..r.value.len() - 2]).parse().unwrap()
                    });
                    let at = seen.as_ref().map_or(0, |r| r.mod_revision);
                    match store.txn(Txn::put(&key, at, body(&(count + 1).to_string()))).await.unwrap() {
                        TxnResult::Committed { revision } => break revisions.push(revision),
                        TxnResult::Conflict { mut current, .. } => seen = current.remove(0),
                    }
                }
            }
            revisions
        });
    }
    let mut all = Vec::new();
    while let Some(revisions) = writers.join_next().await {
        let revisions = revisions.unwrap();
        assert!(revisions.is_sorted());
        all.extend(revisions);
    }
    assert_eq!(get(&*store, &key).await.unwrap().value, body(&(WRITERS * ROUNDS).to_string()));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len() as u64, WRITERS * ROUNDS, "every write has a revision of its own");
}

async fn pages_show_one_revision(store: Arc<dyn Store>) {
    for i in 0..25 {
        commit(&*store, Txn::put(pod(&format!("p{i:02}")), 0, body("1"))).await;
    }
    commit(&*store, Txn::put("/registry/core/podtemplates/default/x", 0, body("1"))).await;
    let first = store.range(Range::prefix(PODS).limit(10)).await.unwrap();
    assert_eq!((first.records.len(), first.more, first.remaining), (10, true, 15));
    let revision = first.revision;
    // What happens between pages does not show in them.
    let third = get(&*store, &pod("p15")).await.unwrap();
    commit(&*store, Txn::delete(pod("p15"), third.mod_revision)).await;
    commit(&*store, Txn::put(pod("p10x"), 0, body("1"))).await;
    let mut names: Vec<String> = first.records.iter().map(|r| r.key.clone()).collect();
    loop {
        let after = names.last().unwrap().clone();
        let page = store.range(Range::prefix(PODS).limit(10).after(after).at(revision)).await.unwrap();
        assert_eq!(page.revision, revision);
        names.extend(page.records.into_iter().map(|r| r.key));
        if !page.more {
            break;
        }
    }
    assert_eq!(names, (0..25).map(|i| pod(&format!("p{i:02}"))).collect::<Vec<_>>());
    let now = store.range(Range::prefix(PODS)).await.unwrap();
    assert_eq!((now.records.len(), now.more, now.remaining), (25, false, 0));
    let rest = store.range(Range::prefix(PODS).after(pod("p22"))).await.unwrap();
    assert_eq!(rest.records.len(), 2);
}

async fn the_past_can_be_read(store: Arc<dyn Store>) {
    let key = pod("a");
    let first = commit(&*store, Txn::put(&key, 0, body("1"))).await;
    let second = commit(&*store, Txn::put(&key, first, body("2"))).await;
    let third = commit(&*store, Txn::delete(&key, second)).await;
    let at = |revision| {
        let (store, key) = (store.clone(), key.clone());
        async move {
            let read = store.range(Range::key(key).at(revision)).await?;
            Ok::<_, StoreError>(read.records.first().map(|r| r.value.clone()))
        }
    };
    assert_eq!(at(first).await, Ok(Some(body("1"))));
    assert_eq!(at(second).await, Ok(Some(body("2"))));
    assert_eq!(at(third).await, Ok(None));
    assert!(matches!(at(third + 100).await, Err(StoreError::Future { asked, .. }) if asked == third + 100));
}

async fn a_watch_tells_everything_once(store: Arc<dyn Store>) {
    let start = commit(&*store, Txn::put(pod("start"), 0, body("0"))).await;
    let mut early = store.watch(PODS, start).await.unwrap();
    let mut revisions = Vec::new();
    let mut at = [0; 3];
    for i in 0..30usize {
        let key = pod(&format!("k{}", i % 3));
        let txn = if i % 7 == 6 {
            Txn::delete(&key, at[i % 3])
        } else {
            Txn::put(&key, at[i % 3], body(&i.to_string()))
        };
        let deletes = matches!(txn.ops[0], Op::Delete { .. });
        let gone = deletes && at[i % 3] == 0;
        if gone {
            continue;
        }
        let revision = commit(&*store, txn).await;
        at[i % 3] = if deletes { 0 } else { revision };
        revisions.push(revision);
        // Other prefixes are not told.
        commit(&*store, Txn::put(format!("/registry/core/other/n{i}"), 0, body("x"))).await;
    }
    let all = take(&mut early, revisions.len()).await;
    assert_eq!(all.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), revisions);
    for from in [start, revisions[0], revisions[10], revisions[20]] {
        let mut late = store.watch(PODS, from).await.unwrap();
        let wanted: Vec<_> = all.iter().filter(|(revision, _)| *revision > from).cloned().collect();
        assert_eq!(take(&mut late, wanted.len()).await, wanted);
    }
    // All changes of a revision come in one batch, in order.
    let keys = [pod("m1"), pod("m2"), pod("m3")];
    let ops = keys.iter().map(|key| Op::Put { key: key.clone(), value: body("m"), lease: None }).collect();
    let revision = commit(&*store, Txn { ops, ..Txn::default() }).await;
    let batch = loop {
        let batch = early.next().await.unwrap().unwrap();
        if !batch.events.is_empty() {
            break batch;
        }
    };
    assert_eq!(batch.revision, revision);
    assert_eq!(batch.events.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), keys);
    // A watch may begin in the future.
    let mut future = store.watch(PODS, revision + 1).await.unwrap();
    commit(&*store, Txn::put(pod("not-told"), 0, body("1"))).await;
    let told = commit(&*store, Txn::put(pod("told"), 0, body("1"))).await;
    let seen = take(&mut future, 1).await;
    assert_eq!((seen[0].0, seen[0].1.key.as_str()), (told, pod("told").as_str()));
}

async fn causes_travel_with_changes(store: Arc<dyn Store>) {
    let key = pod("a");
    let mut watch = store.watch(PODS, store.current_revision().await.unwrap()).await.unwrap();
    let first = commit(&*store, Txn::put(&key, 0, body("1")).caused_by(trace(11))).await;
    assert_eq!(get(&*store, &key).await.unwrap().trace, trace(11));
    let second = commit(&*store, Txn::put(&key, first, body("2")).caused_by(trace(12))).await;
    commit(&*store, Txn::delete(&key, second).caused_by(trace(13))).await;
    let seen = take(&mut watch, 3).await;
    assert_eq!(seen.iter().map(|(_, e)| e.trace).collect::<Vec<_>>(), [trace(11), trace(12), trace(13)]);
    assert_eq!(seen.iter().map(|(_, e)| e.record.is_some()).collect::<Vec<_>>(), [true, true, false]);
}

async fn compaction_ends_history(store: Arc<dyn Store>) {
    let (a, b) = (pod("a"), pod("b"));
    let first = commit(&*store, Txn::put(&a, 0, body("1"))).await;
    commit(&*store, Txn::put(&b, 0, body("1"))).await;
    let mut last = first;
    for i in 2..20 {
        last = commit(&*store, Txn::put(&a, last, body(&i.to_string()))).await;
    }
    store.compact(last).await.unwrap();
    let old = store.range(Range::prefix(PODS).at(first)).await;
    assert!(matches!(old, Err(StoreError::Compacted { .. })), "{old:?}");
    let mut watch = store.watch(PODS, first).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    assert!(matches!(told, Err(StoreError::Compacted { .. })), "{told:?}");
    assert!(watch.next().await.is_none());
    // The present is untouched, and so is what comes after.
    let now = store.range(Range::prefix(PODS).at(last)).await.unwrap();
    assert_eq!(now.records.iter().map(|r| r.value.clone()).collect::<Vec<_>>(), [body("19"), body("1")]);
    let mut watch = store.watch(PODS, last).await.unwrap();
    let next = commit(&*store, Txn::put(&a, last, body("20"))).await;
    assert_eq!(take(&mut watch, 1).await[0].0, next);
    assert!(matches!(store.compact(first).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.compact(next + 1000).await, Err(StoreError::Future { .. })));
}

async fn leases_end(store: Arc<dyn Store>) {
    let mut watch = store.watch(PODS, store.current_revision().await.unwrap()).await.unwrap();
    let short = store.lease_grant(Duration::from_secs(2)).await.unwrap();
    let kept = store.lease_grant(Duration::from_secs(2)).await.unwrap();
    let long = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    commit(&*store, Txn::put(pod("short"), 0, body("1")).with_lease(short)).await;
    let detached = commit(&*store, Txn::put(pod("detached"), 0, body("1")).with_lease(short)).await;
    commit(&*store, Txn::put(pod("detached"), detached, body("2"))).await;
    commit(&*store, Txn::put(pod("kept"), 0, body("1")).with_lease(kept)).await;
    commit(&*store, Txn::put(pod("long"), 0, body("1")).with_lease(long)).await;
    let renewing = {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                store.lease_keep_alive(kept).await.unwrap();
            }
        })
    };
    let seen = take(&mut watch, 6).await;
    let (_, gone) = &seen[5];
    assert_eq!((gone.key.as_str(), gone.record.is_none()), (pod("short").as_str(), true));
    assert!(get(&*store, &pod("kept")).await.is_some());
    assert!(get(&*store, &pod("detached")).await.is_some(), "a put without a lease takes the key out of it");
    renewing.abort();
    store.lease_revoke(long).await.unwrap();
    assert!(get(&*store, &pod("long")).await.is_none());
    assert_eq!(store.lease_keep_alive(short).await, Err(StoreError::LeaseNotFound(short)));
    assert_eq!(store.lease_revoke(long).await, Err(StoreError::LeaseNotFound(long)));
    let late = store.txn(Txn::put(pod("late"), 0, body("1")).with_lease(long)).await;
    assert_eq!(late, Err(StoreError::LeaseNotFound(long)));
}

async fn oversized_writes_are_refused(store: Arc<dyn Store>) {
    let fits = Bytes::from(format!("{{\"x\":\"{}\"}}", "y".repeat(1_400_000)));
    commit(&*store, Txn::put(pod("big"), 0, fits.clone())).await;
    assert_eq!(get(&*store, &pod("big")).await.unwrap().value, fits);
    let huge = Bytes::from(format!("{{\"x\":\"{}\"}}", "y".repeat(1_600_000)));
    let refused = store.txn(Txn::put(pod("huge"), 0, huge)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}
