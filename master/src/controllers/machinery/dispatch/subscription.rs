//! One follower of one kind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Weak;
use std::sync::Arc;

use actors::{Rejected, trace};

use super::{Changed, Follower, Unfollowed};
use crate::cache::{Cache, Change, Cursor, WatchFrom};
use crate::controllers::machinery::{Key, Watch};

/// Changes told in a row by whoever catches up, before others have their turn.
const BURST_MAX: usize = 64;

/// One follower of one kind.
pub(super) struct Subscription {
    pub follower: Arc<Follower>,
    pub watch: Watch,
    /// It ends when this does.
    pub lives: Weak<()>,
    /// It was told of everything up to this revision.
    pub reached: u64,
}

/// How offering changes to a subscription ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// All are told, or concern nobody.
    Told,
    /// The mailbox is full; what came after this revision is untold.
    Late(u64),
    /// It has ended, or its follower has.
    Ended,
    /// Its map panicked.
    Failed(String),
}

impl Subscription {
    /// Group and plural of what it follows.
    pub fn kind(&self) -> (&'static str, &'static str) {
        (self.watch.group, self.watch.resource)
    }

    /// Whether it has not been given up.
    pub fn is_alive(&self) -> bool {
        self.lives.strong_count() > 0
    }

    /// Tells of changes as long as there is room, without waiting.
    pub fn offer(&self, changes: &[Change], cache: &Cache) -> Offered {
        if !self.is_alive() {
            return Offered::Ended;
        }
        for change in changes.iter().filter(|change| change.revision > self.reached) {
            let keys = match self.concerned(change, cache) {
                Ok(keys) => keys,
                Err(why) => return Offered::Failed(why),
            };
            for key in keys {
                match trace::sync_under(change.trace, || self.follower.changed.try_tell(self.changed(key))) {
                    Ok(()) => {}
                    // Changes of one revision belong together: it gets this revision's first ones twice.
                    Err(Rejected::Full(_)) => return Offered::Late(change.revision.saturating_sub(1)),
                    Err(Rejected::Closed(_)) => return Offered::Ended,
                }
            }
        }
        Offered::Told
    }

    /// Tells of what happened since `from` by a cursor of its own, waiting for room; gives itself back once nothing
    /// is left. `None` when it has ended.
    pub async fn catch_up(mut self, cache: Cache, mut from: WatchFrom) -> Option<Self> {
        'anew: loop {
            let mut cursor = match self.open(&cache, from) {
                Some(cursor) => cursor,
                None if from == WatchFrom::InitialState => return None,
                None => {
                    from = WatchFrom::InitialState;
                    continue;
                }
            };
            if from == WatchFrom::InitialState {
                let existing = cursor.next().await.ok()?;
                if !self.tell(existing, &cache).await {
                    return None;
                }
            }
            loop {
                let Ok(changes) = cursor.ready() else {
                    // It fell off the log's tail.
                    from = WatchFrom::InitialState;
                    continue 'anew;
                };
                if changes.is_empty() {
                    self.reached = cursor.revision();
                    return self.is_alive().then_some(self);
                }
                if !self.tell(changes, &cache).await {
                    return None;
                }
            }
        }
    }

    fn open(&self, cache: &Cache, from: WatchFrom) -> Option<Cursor> {
        cache.watch(self.watch.group, self.watch.resource, "", from).ok()
    }

    /// Tells of changes, waiting for room. Whether it goes on.
    async fn tell(&self, changes: Vec<Change>, cache: &Cache) -> bool {
        for (i, change) in changes.iter().enumerate() {
            if i % BURST_MAX == BURST_MAX - 1 {
                tokio::task::yield_now().await;
            }
            if !self.is_alive() {
                return false;
            }
            let keys = match self.concerned(change, cache) {
                Ok(keys) => keys,
                Err(why) => {
                    self.fail(why).await;
                    return false;
                }
            };
            for key in keys {
                let told = self.follower.changed.tell(self.changed(key));
                if trace::under(change.trace, told).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Lets the follower know that it is told of nothing more.
    pub async fn fail(&self, why: String) {
        // A follower that has stopped needs to know nothing.
        let _ = self.follower.unfollowed.tell(Unfollowed { why }).await;
    }

    fn changed(&self, key: Key) -> Changed {
        Changed { key, resource: self.follower.resource }
    }

    /// The keys that a change concerns; an error is the map's panic.
    fn concerned(&self, change: &Change, cache: &Cache) -> Result<Vec<Key>, String> {
        let map = AssertUnwindSafe(|| (self.watch.map)(change, cache));
        catch_unwind(map).map_err(|panic| {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            format!("what it follows of {} panicked: {said}", self.watch.resource)
        })
    }
}
