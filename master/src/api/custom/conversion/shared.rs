//! Stored objects in versions that they are not stored in, converted once for all who read them.
//!
//! Bounded by the size of the objects; what was converted longest ago goes first. While an object is being
//! converted, whoever else wants it waits for that; where the one who converts gives up, another takes over.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::ApiError;
use tokio::sync::watch;

use crate::cache::Stored;

/// Bytes of the converted objects that are kept.
const BYTES_MAX: usize = 32 << 20;

/// An object in a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The revision of the definition that says how.
    pub since: u64,
    /// The version wanted.
    pub version: &'static str,
    /// The object's key in the store.
    pub object: Arc<str>,
    /// The object's revision.
    pub revision: u64,
}

type Outcome = Option<Result<Arc<Stored>, ApiError>>;

enum Slot {
    Ready(Arc<Stored>),
    Coming(watch::Receiver<Outcome>),
}

#[derive(Default)]
struct Slots {
    slots: HashMap<Key, Slot>,
    /// Those that are ready, oldest first.
    order: VecDeque<(Key, usize)>,
    bytes: usize,
}

/// The converted objects. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shared {
    slots: Arc<Mutex<Slots>>,
}

/// What is there of an object in a version.
pub enum Found {
    /// It was converted.
    Ready(Arc<Stored>),
    /// Somebody converts it.
    Coming(Coming),
    /// Nothing: whoever asked converts it.
    Mine(Claim),
}

/// An object that somebody else converts.
pub struct Coming(watch::Receiver<Outcome>);

impl Coming {
    /// Waits for it; `None` where the other one gave up.
    pub async fn wait(mut self) -> Outcome {
        let outcome = self.0.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone())
    }
}

/// The right, and the duty, to convert an object. Dropped unfulfilled, it passes to the next one who asks.
pub struct Claim {
    shared: Shared,
    key: Key,
    told: watch::Sender<Outcome>,
}

impl Claim {
    /// Says what came of it.
    pub fn fulfil(self, outcome: Result<Arc<Stored>, ApiError>) {
        if let Ok(stored) = &outcome {
            let mut all = self.shared.slots.lock();
            let size = stored.size();
            all.slots.insert(self.key.clone(), Slot::Ready(stored.clone()));
            all.order.push_back((self.key.clone(), size));
            all.bytes += size;
            while all.bytes > BYTES_MAX {
                let Some((oldest, size)) = all.order.pop_front() else { break };
                all.bytes -= size;
                all.slots.remove(&oldest);
            }
        }
        self.told.send_replace(Some(outcome));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = self.shared.slots.lock();
        if matches!(all.slots.get(&self.key), Some(Slot::Coming(_))) {
            all.slots.remove(&self.key);
        }
    }
}

impl Shared {
    /// What is there of an object in a version.
    pub fn find(&self, key: Key) -> Found {
        let mut all = self.slots.lock();
        match all.slots.get(&key) {
            Some(Slot::Ready(stored)) => Found::Ready(stored.clone()),
            Some(Slot::Coming(outcome)) => Found::Coming(Coming(outcome.clone())),
            None => {
                let (told, outcome) = watch::channel(None);
                all.slots.insert(key.clone(), Slot::Coming(outcome));
                Found::Mine(Claim { shared: self.clone(), key, told })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::Cache;
    use crate::store::Record;

    fn key(revision: u64) -> Key {
        Key { since: 1, version: "v2", object: "/registry/example.com/things/n/a".into(), revision }
    }

    fn stored(revision: u64, bytes: usize) -> Arc<Stored> {
        let text = "x".repeat(bytes);
        let record = Record {
            key: "/registry/example.com/things/n/a".to_owned(),
            value: Bytes::from(format!("{{\"metadata\":{{\"name\":\"a\"}},\"spec\":\"{text}\"}}")),
            trace: actors::TraceContext::default(),
            create_revision: 1,
            mod_revision: revision,
            version: 1,
        };
        Cache::new().stored(record).expect("an object")
    }

    #[tokio::test]
    async fn an_object_is_converted_once() {
        let shared = Shared::default();
        let Found::Mine(claim) = shared.find(key(5)) else { panic!("the first one converts") };
        let Found::Coming(coming) = shared.find(key(5)) else { panic!("the second one waits") };
        claim.fulfil(Ok(stored(5, 1)));
        let got = coming.wait().await.expect("converted").expect("well");
        assert_eq!(got.revision, 5);
        assert!(matches!(shared.find(key(5)), Found::Ready(_)));
        assert!(matches!(shared.find(key(6)), Found::Mine(_)));
    }

    #[tokio::test]
    async fn failures_are_told_and_not_kept() {
        let shared = Shared::default();
        let Found::Mine(claim) = shared.find(key(5)) else { panic!("the first one converts") };
        let Found::Coming(coming) = shared.find(key(5)) else { panic!("the second one waits") };
        claim.fulfil(Err(ApiError::new(500, "", "no")));
        assert!(coming.wait().await.expect("told").is_err());
        assert!(matches!(shared.find(key(5)), Found::Mine(_)));
    }

    #[tokio::test]
    async fn who_gives_up_lets_another_convert() {
        let shared = Shared::default();
        let Found::Mine(claim) = shared.find(key(5)) else { panic!("the first one converts") };
        let Found::Coming(coming) = shared.find(key(5)) else { panic!("the second one waits") };
        drop(claim);
        assert!(coming.wait().await.is_none());
        assert!(matches!(shared.find(key(5)), Found::Mine(_)));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let shared = Shared::default();
        for revision in 1..=40 {
            let Found::Mine(claim) = shared.find(key(revision)) else { panic!("nobody converted it") };
            claim.fulfil(Ok(stored(revision, 1 << 20)));
        }
        assert!(shared.slots.lock().bytes <= BYTES_MAX);
        assert!(matches!(shared.find(key(1)), Found::Mine(_)));
        assert!(matches!(shared.find(key(40)), Found::Ready(_)));
    }
}
