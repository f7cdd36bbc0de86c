use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actors::{AskError, Rejected, Takes, TellError};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::*;
use crate::cache::{Change, ChangeKind};
use crate::store::{Batch, Event, Record, key};

/// A mailbox of a test, which can have as little room as it wants.
struct Probe<T> {
    sent: mpsc::Sender<T>,
}

impl<T: actors::Message<Result = ()> + Send> Takes<T> for Probe<T> {
    fn take(&self, message: T) -> BoxFuture<'_, Result<(), TellError>> {
        Box::pin(async move { self.sent.send(message).await.map_err(|_| TellError::Closed) })
    }
    fn try_take(&self, message: T) -> Result<(), Rejected<T>> {
        self.sent.try_send(message).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(message) => Rejected::Full(message),
            mpsc::error::TrySendError::Closed(message) => Rejected::Closed(message),
        })
    }
    fn answer(&self, _: T, _: Duration) -> BoxFuture<'_, Result<(), AskError>> {
        Box::pin(async { Err(AskError::Closed) })
    }
}

type Map = Arc<dyn Fn(&Change) -> bool + Send + Sync>;

/// Follows pods, of which those that a test chooses concern it; and all kinds that are declared.
struct Pods {
    concerns: Map,
}

impl Follows for Pods {
    fn watches(&self) -> Vec<Watch> {
        let concerns = self.concerns.clone();
        let map = move |change: &Change, _: &Cache| {
            let mark = if change.kind == ChangeKind::Deleted { "-" } else { "+" };
            let key = Key::new(mark, &change.stored.meta.name);
            if concerns(change) { vec![key] } else { Vec::new() }
        };
        vec![Watch { group: "", resource: "pods", map: Box::new(map) }]
    }

    fn watch_declared(&self, kind: &'static Resource) -> Option<Watch> {
        let map = |change: &Change, _: &Cache| vec![Key::new("declared", &change.stored.meta.name)];
        Some(Watch { group: kind.group, resource: kind.plural, map: Box::new(map) })
    }
}

/// A follower as a test sees it.
struct Seen {
    changed: mpsc::Receiver<Changed>,
    unfollowed: mpsc::Receiver<Unfollowed>,
}

impl Seen {
    /// The next keys, as many as are wanted.
    async fn next(&mut self, count: usize) -> Vec<String> {
        let mut keys = Vec::new();
        while keys.len() < count {
            keys.push(self.changed.recv().await.expect("a follower").key.to_string());
        }
        keys
    }

    fn nothing(&mut self) -> bool {
        self.changed.try_recv().is_err()
    }
}

fn follow(dispatch: &Dispatch, name: &'static str, room: usize, concerns: Map) -> Seen {
    let (changed, seen) = mpsc::channel(room);
    let (unfollowed, failed) = mpsc::channel(1);
    dispatch.register(Follower {
        name,
        resource: "pods",
        follows: Arc::new(Pods { concerns }),
        changed: Recipient::new(Probe { sent: changed }),
        unfollowed: Recipient::new(Probe { sent: unfollowed }),
    });
    Seen { changed: seen, unfollowed: failed }
}

fn all() -> Map {
    Arc::new(|_| true)
}

fn record(key: String, value: &Value, revision: u64) -> Record {
    Record {
        key,
        value: value.to_string().into_bytes().into(),
        trace: actors::TraceContext::default(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
    }
}

fn pod(name: &str, revision: u64) -> Record {
    let value = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}});
    record(key("", "pods", "ns", name), &value, revision)
}

fn put_record(cache: &Cache, record: Record) {
    let revision = record.mod_revision;
    let event = Event { key: record.key.clone(), trace: record.trace, record: Some(record) };
    cache.apply(vec![Batch { revision, events: vec![event] }]);
}

fn put(cache: &Cache, name: &str, revision: u64) {
    put_record(cache, pod(name, revision));
}

fn delete_key(cache: &Cache, key: String, revision: u64) {
    let event = Event { key, record: None, trace: actors::TraceContext::default() };
    cache.apply(vec![Batch { revision, events: vec![event] }]);
}

fn delete(cache: &Cache, name: &str, revision: u64) {
    delete_key(cache, key("", "pods", "ns", name), revision);
}

/// Runs on virtual time with a stage, a dispatcher and a cache that holds one pod, `old`.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Stage, Dispatch, Cache) -> F) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let cache = Cache::new();
        cache.load(vec![pod("old", 2)], 2);
        let stage = Stage::local();
        let dispatch = Dispatch::start(&stage, cache.clone());
        let test = test(stage, dispatch, cache);
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("it ends");
    });
}

/// Lets everybody who has something to do have done it.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_follower_is_told_of_what_exists_and_of_what_changes() {
    run(|_, dispatch, cache| async move {
        let mut seen = follow(&dispatch, "a", 8, all());
        assert_eq!(seen.next(1).await, ["+/old"]);
        put(&cache, "new", 3);
        delete(&cache, "old", 4);
        assert_eq!(seen.next(2).await, ["+/new", "-/old"]);
    });
}

#[test]
fn whom_a_change_does_not_concern_is_not_told() {
    run(|_, dispatch, cache| async move {
        let mut all = follow(&dispatch, "a", 8, all());
        let mut some = follow(&dispatch, "b", 8, Arc::new(|c| &*c.stored.meta.name == "b"));
        assert_eq!(all.next(1).await, ["+/old"]);
        settle().await;
        put(&cache, "a", 3);
        put(&cache, "b", 4);
        assert_eq!(some.next(1).await, ["+/b"]);
        assert_eq!(all.next(2).await, ["+/a", "+/b"]);
        settle().await;
        assert!(some.nothing() && all.nothing());
    });
}

#[test]
fn one_without_room_holds_up_nobody_and_misses_nothing() {
    run(|_, dispatch, cache| async move {
        let mut quick = follow(&dispatch, "quick", 256, all());
        let mut slow = follow(&dispatch, "slow", 1, all());
        assert_eq!(quick.next(1).await, ["+/old"]);
        assert_eq!(slow.next(1).await, ["+/old"]);
        settle().await;
        for revision in 3..103 {
            put(&cache, &format!("p{revision}"), revision);
            settle().await;
        }
        let wanted: Vec<String> = (3..103).map(|n| format!("+/p{n}")).collect();
        assert_eq!(quick.next(100).await, wanted, "while the other takes nothing");
        let mut told = slow.next(100).await;
        // What it could not take at once it may get twice.
        told.dedup();
        while told.last() != wanted.last() {
            told.extend(slow.next(1).await);
            told.dedup();
        }
        assert_eq!(told, wanted);
        // And it is among the others again.
        put(&cache, "last", 103);
        assert_eq!((slow.next(1).await, quick.next(1).await), (vec!["+/last".into()], vec!["+/last".into()]));
    });
}

#[test]
fn one_that_falls_off_the_log_begins_anew() {
    run(|_, dispatch, cache| async move {
        let mut slow = follow(&dispatch, "slow", 1, all());
        assert_eq!(slow.next(1).await, ["+/old"]);
        settle().await;
        // More than a kind's log keeps.
        for revision in 3..20_000 {
            put(&cache, "busy", revision);
            if revision % 64 == 0 {
                settle().await;
            }
        }
        put(&cache, "last", 20_000);
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "+/old") {
            told.extend(slow.next(1).await);
        }
        assert!(told.len() < 2_000, "{}", told.len());
        assert_eq!(told[told.len() - 3..], ["+/busy", "+/last", "+/old"]);
    });
}

#[test]
fn who_registers_anew_takes_its_own_place() {
    run(|_, dispatch, cache| async move {
        let mut first = follow(&dispatch, "a", 8, all());
        assert_eq!(first.next(1).await, ["+/old"]);
        let mut second = follow(&dispatch, "a", 8, all());
        assert_eq!(second.next(1).await, ["+/old"]);
        put(&cache, "new", 3);
        assert_eq!(second.next(1).await, ["+/new"]);
        settle().await;
        assert!(first.changed.recv().await.is_none(), "nobody knows the first any more");
    });
}

#[test]
fn a_rebuilt_dispatcher_tells_everybody_everything() {
    run(|stage, dispatch, cache| async move {
        let mut seen = follow(&dispatch, "a", 8, all());
        assert_eq!(seen.next(1).await, ["+/old"]);
        assert!(stage.inject_panic("master/controllers/dispatcher"));
        put(&cache, "new", 3);
        let mut told = seen.next(2).await;
        while !told.ends_with(&["+/new".to_owned(), "+/old".to_owned()]) {
            // It may have told of the new one before it panicked.
            told.extend(seen.next(1).await);
        }
    });
}

#[test]
fn a_map_that_panics_fails_its_follower_alone() {
    run(|_, dispatch, cache| async move {
        let mut sound = follow(&dispatch, "sound", 8, all());
        let broken = Arc::new(AtomicBool::new(false));
        let breaks = broken.clone();
        let map = move |_: &Change| {
            assert!(!breaks.load(Ordering::Relaxed), "it broke");
            true
        };
        let mut unsound = follow(&dispatch, "unsound", 8, Arc::new(map.clone()));
        assert_eq!(
            (sound.next(1).await, unsound.next(1).await),
            (vec!["+/old".into()], vec!["+/old".into()])
        );
        settle().await;
        broken.store(true, Ordering::Relaxed);
        put(&cache, "a", 3);
        assert_eq!(sound.next(1).await, ["+/a"]);
        let why = unsound.unfollowed.recv().await.expect("told why").why;
        assert!(why.contains("pods") && why.contains("it broke"), "{why}");
        // It registers anew, and breaks on what exists; and once more, when it is mended.
        let mut again = follow(&dispatch, "unsound", 8, Arc::new(map.clone()));
        assert!(again.unfollowed.recv().await.is_some());
        broken.store(false, Ordering::Relaxed);
        let mut mended = follow(&dispatch, "unsound", 8, Arc::new(map));
        assert_eq!(mended.next(2).await, ["+/a", "+/old"]);
        put(&cache, "b", 4);
        assert_eq!((sound.next(1).await, mended.next(1).await), (vec!["+/b".into()], vec!["+/b".into()]));
    });
}

#[test]
fn declared_kinds_are_followed_while_they_are_declared() {
    run(|_, dispatch, cache| async move {
        let mut seen = follow(&dispatch, "a", 8, Arc::new(|_| false));
        settle().await;
        let definition = json!({
            "metadata": {"name": "gems.golden.dev", "uid": "d"},
            "spec": {"group": "golden.dev", "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true}]},
            "status": {"acceptedNames": {"plural": "gems", "kind": "Gem", "listKind": "GemList", "singular": "gem"},
                "conditions": [{"type": "Established", "status": "True"}]},
        });
        let (group, plural) = crate::api::custom::DEFINITIONS;
        let at = key(group, plural, "", "gems.golden.dev");
        let gem = |name: &str, revision: u64| {
            let value = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}});
            record(key("golden.dev", "gems", "ns", name), &value, revision)
        };
        // What was there before its kind was is told too.
        put_record(&cache, gem("first", 3));
        put_record(&cache, record(at.clone(), &definition, 4));
        assert_eq!(seen.next(1).await, ["declared/first"]);
        settle().await;
        put_record(&cache, gem("second", 5));
        assert_eq!(seen.next(1).await, ["declared/second"]);
        delete_key(&cache, at.clone(), 6);
        settle().await;
        put_record(&cache, gem("third", 7));
        settle().await;
        assert!(seen.nothing());
        // Declared again, it is followed again.
        put_record(&cache, record(at, &definition, 8));
        assert_eq!(seen.next(3).await, ["declared/first", "declared/second", "declared/third"]);
    });
}
