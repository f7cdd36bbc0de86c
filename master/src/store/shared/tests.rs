use super::*;
use crate::store::embedded::EmbeddedStore;

/// A store behind which something else decides: it has no revision that is known without asking.
async fn etcd() -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory().await.unwrap())
}

async fn master(inner: &Arc<dyn Store>, identity: &str) -> SharedStore {
    let store = SharedStore::new(inner.clone(), identity);
    store.registration().await.unwrap();
    store.look().await.unwrap();
    store
}

async fn put(store: &dyn Store, name: &str) -> u64 {
    match store.txn(Txn::put(format!("/registry/core/pods/default/{name}"), 0, "{}")).await {
        Ok(TxnResult::Committed { revision }) => revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_master_that_is_alone_knows_what_is_newest() {
    let inner = etcd().await;
    let before = put(&*inner, "before").await;
    let store = master(&inner, "a").await;
    assert!(store.known_revision().unwrap() > before, "its registration came last");
    let written = put(&store, "a").await;
    assert_eq!(store.known_revision(), Some(written));
    tokio::time::advance(ALONE_FOR).await;
    assert_eq!(store.known_revision(), None, "it has not looked since");
    let other = put(&*inner, "b").await;
    assert_eq!(store.current_revision().await, Ok(other), "so it asks");
    store.look().await.unwrap();
    assert_eq!(store.known_revision(), Some(other));
}

#[tokio::test(start_paused = true)]
async fn a_second_master_writes_when_the_first_is_alone_no_more() {
    let inner = etcd().await;
    let first = Arc::new(master(&inner, "a").await);
    let begun = Instant::now();
    let writing = {
        let inner = inner.clone();
        tokio::spawn(async move {
            let second = SharedStore::new(inner, "b");
            (put(&second, "b").await, second)
        })
    };
    // The first is paused, and so learns nothing.
    while first.known_revision().is_some() {
        assert!(!writing.is_finished(), "nobody writes beside one that is alone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (written, second) = writing.await.unwrap();
    assert!(begun.elapsed() > ALONE_FOR);
    first.look().await.unwrap();
    second.look().await.unwrap();
    assert_eq!((first.known_revision(), second.known_revision()), (None, None));
    assert_eq!(first.current_revision().await, Ok(written));
    // The second goes; what it registered stays for a while.
    let lease = second.own.lock().lease;
    inner.lease_revoke(lease).await.unwrap();
    first.look().await.unwrap();
    assert!(first.known_revision().unwrap() >= written);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_without_a_registration_does_not_happen() {
    let inner = etcd().await;
    let first = master(&inner, "a").await;
    let second = master(&inner, "b").await;
    // The first was away for so long that the second came to be alone.
    let (key, revision) = first.registration().await.unwrap();
    let lease = first.own.lock().lease;
    inner.lease_revoke(lease).await.unwrap();
    second.look().await.unwrap();
    assert!(second.known_revision().is_some());
    let mut late = Txn::put("/registry/core/pods/default/late", 0, "{}");
    late.compares.push(Compare { key, mod_revision: revision });
    assert!(matches!(inner.txn(late).await, Ok(TxnResult::Conflict { .. })));
    let begun = Instant::now();
    put(&first, "late").await;
    assert!(begun.elapsed() > ALONE_FOR, "it registers anew, and waits");
    assert_eq!(second.known_revision(), None);
    // A conflict that is not about the registration is the caller's.
    let again = first.txn(Txn::put("/registry/core/pods/default/late", 0, "{}")).await;
    assert!(matches!(again, Ok(TxnResult::Conflict { current, .. }) if current.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_master_that_comes_back_waits_for_nobody() {
    let inner = etcd().await;
    let before = master(&inner, "a").await;
    let begun = Instant::now();
    let after = master(&inner, "a").await;
    put(&after, "a").await;
    assert!(begun.elapsed() < Duration::from_secs(1) && after.known_revision().is_some());
    // Should the one before be there still, it is another one from now on.
    before.look().await.unwrap();
    assert_eq!(before.known_revision(), None);
    put(&before, "b").await;
    after.look().await.unwrap();
    assert_eq!(after.known_revision(), None);
}
