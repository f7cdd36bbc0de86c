//! Who follows what, and handing out changes.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::{AbortHandle, Abortable, FuturesUnordered, LocalBoxStream, SelectAll, unfold};

use super::subscription::{Offered, Subscription};
use super::{Follower, Registered, Registry};
use crate::api::custom::{Catalog, DEFINITIONS};
use crate::cache::{Cache, Change, Gone, WatchFrom};
use crate::controllers::machinery::Watch;

/// Group and plural.
type Kind = (&'static str, &'static str);
/// What a kind's cursor gives.
type Read = (Kind, Result<Vec<Change>, Gone>);

/// Serves whoever is registered. Never ends.
pub(super) async fn serve(cache: Cache, registry: Arc<Registry>) -> Infallible {
    cache.ready().await;
    let mut newest = registry.newest.subscribe();
    newest.mark_changed();
    let mut desk = Desk {
        cache,
        seats: BTreeMap::new(),
        kinds: HashMap::new(),
        cursors: SelectAll::new(),
        catching_up: FuturesUnordered::new(),
    };
    desk.open(DEFINITIONS);
    loop {
        tokio::select! {
            // The registry lives as long as this.
            _ = newest.changed() => desk.seat(&registry.all()),
            Some((kind, changes)) = desk.cursors.next() => desk.hand_out(kind, changes),
            Some(caught) = desk.catching_up.next() => desk.join(caught),
        }
    }
}

/// A registered follower. Its subscriptions end with it.
struct Seat {
    nth: u64,
    follower: Arc<Follower>,
    _lives: Rc<()>,
    /// Declared kinds that it follows; each subscription ends with its entry.
    declared: BTreeMap<Kind, Rc<()>>,
}

/// Who follows a kind, beside those who still catch up. Its cursor ends with it.
struct Followed {
    members: Vec<Subscription>,
    cursor: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.cursor.abort();
    }
}

struct Desk {
    cache: Cache,
    seats: BTreeMap<&'static str, Seat>,
    kinds: HashMap<Kind, Followed>,
    cursors: SelectAll<Abortable<LocalBoxStream<'static, Read>>>,
    /// Subscriptions that go on alone. What they come to is one that joins the others, or nothing.
    catching_up: FuturesUnordered<LocalBoxFuture<'static, Option<Subscription>>>,
}

impl Desk {
    /// Begins with those who registered since the last time.
    fn seat(&mut self, registered: &Registered) {
        let mut ended = false;
        for (name, (nth, follower)) in registered {
            if self.seats.get(name).is_some_and(|seat| seat.nth == *nth) {
                continue;
            }
            let (nth, follower, lives) = (*nth, follower.clone(), Rc::new(()));
            for watch in follower.follows.watches() {
                self.follow(&follower, watch, &lives);
            }
            let seat = Seat { nth, follower, _lives: lives, declared: BTreeMap::new() };
            ended |= self.seats.insert(name, seat).is_some();
        }
        self.follow_declared();
        if ended {
            self.clear();
        }
    }

    /// Brings everybody's declared kinds to those that are declared now.
    fn follow_declared(&mut self) {
        let catalog = self.cache.derived::<Catalog>();
        let stored: BTreeMap<Kind, _> =
            catalog.stored().filter(|k| k.custom).map(|k| ((k.group, k.plural), k)).collect();
        let mut begun = Vec::new();
        let mut ended = false;
        for seat in self.seats.values_mut() {
            seat.declared.retain(|kind, _| {
                let stays = stored.contains_key(kind);
                ended |= !stays;
                stays
            });
            for (kind, resource) in &stored {
                if seat.declared.contains_key(kind) {
                    continue;
                }
                if let Some(watch) = seat.follower.follows.watch_declared(resource) {
                    let lives = Rc::new(());
                    begun.push((seat.follower.clone(), watch, lives.clone()));
                    seat.declared.insert(*kind, lives);
                }
            }
        }
        for (follower, watch, lives) in begun {
            self.follow(&follower, watch, &lives);
        }
        if ended {
            self.clear();
        }
    }

    /// Begins a subscription with everything that exists.
    fn follow(&mut self, follower: &Arc<Follower>, watch: Watch, lives: &Rc<()>) {
        let lives = Rc::downgrade(lives);
        let begun = Subscription { follower: follower.clone(), watch, lives, reached: 0 };
        self.go_alone(begun, WatchFrom::InitialState);
    }

    /// Lets a subscription catch up on its own. The kind's cursor is opened before its: so nothing that comes after
    /// what it reads last escapes the kind's.
    fn go_alone(&mut self, subscription: Subscription, from: WatchFrom) {
        if !self.kinds.contains_key(&subscription.kind()) {
            self.open(subscription.kind());
        }
        self.catching_up.push(Box::pin(subscription.catch_up(self.cache.clone(), from)));
    }

    /// Opens a kind's cursor, at what comes after now.
    fn open(&mut self, kind: Kind) {
        let Ok(cursor) = self.cache.watch(kind.0, kind.1, "", WatchFrom::Now) else { return };
        let reading = unfold(Some(cursor), move |cursor| async move {
            let mut cursor = cursor?;
            let read = cursor.next().await;
            let goes_on = read.is_ok().then_some(cursor);
            Some(((kind, read), goes_on))
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.cursors.push(Abortable::new(reading.boxed_local(), registration));
        self.kinds.insert(kind, Followed { members: Vec::new(), cursor: handle });
    }

    /// Tells the followers of a kind what changed.
    fn hand_out(&mut self, kind: Kind, changes: Result<Vec<Change>, Gone>) {
        let Some(followed) = self.kinds.get_mut(&kind) else { return };
        let members = std::mem::take(&mut followed.members);
        match changes {
            Ok(changes) => {
                for member in members {
                    match member.offer(&changes, &self.cache) {
                        Offered::Told => self.keep(member),
                        Offered::Late(after) => self.go_alone(member, WatchFrom::Revision(after)),
                        Offered::Ended => {}
                        Offered::Failed(why) => self.catching_up.push(Box::pin(async move {
                            member.fail(why).await;
                            None
                        })),
                    }
                }
            }
            // The cursor fell off the log's tail: everybody begins anew with what exists.
            Err(_) => {
                self.open(kind);
                for member in members {
                    self.go_alone(member, WatchFrom::InitialState);
                }
            }
        }
        if kind == DEFINITIONS {
            self.follow_declared();
        }
    }

    fn keep(&mut self, member: Subscription) {
        if let Some(followed) = self.kinds.get_mut(&member.kind()) {
            followed.members.push(member);
        }
    }

    /// Takes a subscription that has caught up among the others of its kind.
    fn join(&mut self, caught: Option<Subscription>) {
        let Some(subscription) = caught else { return };
        if self.kinds.contains_key(&subscription.kind()) {
            self.keep(subscription);
        } else {
            let reached = subscription.reached;
            self.go_alone(subscription, WatchFrom::Revision(reached));
        }
    }

    /// Forgets subscriptions that have ended, and kinds that nobody follows.
    fn clear(&mut self) {
        self.kinds.retain(|kind, followed| {
            followed.members.retain(Subscription::is_alive);
            *kind == DEFINITIONS || !followed.members.is_empty()
        });
    }
}
