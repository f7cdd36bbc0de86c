use super::*;
use crate::cache::WatchFrom;
use crate::store::embedded::EmbeddedStore;
use crate::store::key;

fn pod(name: &str) -> String {
    key("", "pods", "default", name)
}

fn body(name: &str) -> String {
    format!("{{\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"default\"}}}}")
}

async fn put(store: &dyn Store, name: &str) -> u64 {
    // A call that is in flight when the actor panics fails; its writer asks again.
    loop {
        match store.txn(Txn::put(pod(name), 0, body(name))).await {
            Ok(TxnResult::Committed { revision }) => return revision,
            Ok(TxnResult::Conflict { current, .. }) => return current[0].as_ref().unwrap().mod_revision,
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(test: impl Future<Output = ()> + 'static) {
    actix_rt::System::new().block_on(async move {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("it ends");
    });
}

#[test]
fn writes_reach_the_cache_with_their_cause() {
    run(async {
        let stage = Stage::new(1);
        let cache = Cache::new();
        let inner = Arc::new(EmbeddedStore::in_memory().await.unwrap());
        let store = start(&stage, inner, &cache);
        cache.ready().await;
        let mut cursor = cache.watch("", "pods", "default", WatchFrom::Now).unwrap();
        let root = actors::TraceContext { trace: 77, message: actors::trace::next_message_id() };
        let revision = trace::under(root, put(&*store, "a")).await;
        let snapshot = cache.wait_for(revision).await;
        assert!(snapshot.get("", "pods", "default", "a").is_some());
        assert_eq!(store.current_revision().await, Ok(revision));
        let change = cursor.next().await.unwrap().remove(0);
        assert_eq!(change.trace.trace, 77, "the chain goes through the store");
        // The write, and the cache's hearing of it, are links of the chain.
        let chain = actors::trace::find(100, |record| record.context.trace == 77);
        let types: Vec<_> = chain.iter().map(|record| record.kind.to_string()).collect();
        assert!(types.iter().any(|t| t == "Commit") && types.iter().any(|t| t == "Fold"), "{types:?}");
        let leased = store.lease_grant(Duration::from_secs(60)).await.unwrap();
        store.lease_keep_alive(leased).await.unwrap();
        store.lease_revoke(leased).await.unwrap();
    });
}

#[test]
fn the_cache_knows_which_history_is_gone() {
    run(async {
        let stage = Stage::new(3);
        let cache = Cache::new();
        let inner = Arc::new(EmbeddedStore::in_memory().await.unwrap());
        let store = start(&stage, inner, &cache);
        let (first, second) = (put(&*store, "a").await, put(&*store, "b").await);
        put(&*store, "c").await;
        assert_eq!(cache.forgotten(), 0);
        assert_eq!(store.compact(second).await, Ok(()));
        assert_eq!(cache.forgotten(), second);
        // Another one was further already.
        assert!(matches!(store.compact(first).await, Err(StoreError::Compacted { .. })));
        assert_eq!(cache.forgotten(), second);
    });
}

#[test]
fn nothing_is_lost_when_either_actor_panics() {
    run(async {
        let stage = Stage::new(2);
        let cache = Cache::new();
        let inner = Arc::new(EmbeddedStore::in_memory().await.unwrap());
        let store = start(&stage, inner, &cache);
        cache.ready().await;
        let mut cursor = cache.watch("", "pods", "", WatchFrom::Now).unwrap();
        for i in 0..60 {
            match i {
                10 | 30 => assert!(stage.inject_panic("master/store/bridge")),
                20 | 40 => assert!(stage.inject_panic("master/cache")),
                _ => {}
            }
            put(&*store, &format!("p{i:02}")).await;
        }
        let last = put(&*store, "last").await;
        let snapshot = cache.wait_for(last).await;
        assert_eq!(snapshot.count("", "pods"), 61);
        let mut told = 0;
        while told < 61 {
            told += cursor.next().await.unwrap().len();
        }
        assert!(cursor.ready().unwrap().is_empty());
        let restarts: u32 = stage.actors().iter().map(|actor| actor.restarts).sum();
        assert_eq!(restarts, 4);
    });
}
