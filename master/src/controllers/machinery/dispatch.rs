//! The one reader of changes for all controllers: a change is read once, and wakes only those whom it concerns.
//!
//! Controllers say what they follow ([`Dispatch::register`]) and get [`Changed`] messages. The actor here holds one
//! cursor for each kind that anybody follows and asks every follower's map, which is a few look-ups; no mailbox is
//! touched and no task woken for whom a change is nothing to.
//!
//! - [`desk`]: who follows what, and handing out. - [`subscription`]: one follower of one kind, and how it catches up.
//!
//! Promises: every follower is told of everything that exists when it begins, and of every change since; whoever
//! registers anew (a controller that was rebuilt), and everybody when the actor here is rebuilt, begins anew. Nobody
//! waits for a follower whose mailbox is full: it goes on alone with a cursor of its own until it has caught up. A map
//! that panics takes down its controller alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::{Actor, Context, Props, Recipient, RestartPolicy, Stage, message};
use parking_lot::Mutex;
use protocol::Resource;
use tokio::sync::watch;

use super::{Key, Reconciler, Watch, trace_key};
use crate::cache::Cache;

mod desk;
mod subscription;
#[cfg(test)]
mod tests;

/// A key may have changed.
pub struct Changed {
    /// The key.
    pub key: Key,
    /// The plural of what it names, for traces.
    pub resource: &'static str,
}
message!(Changed => (), |m| Some(trace_key(m.resource, &m.key)), coalesce);

/// A follower's own code failed on a change: it is told of nothing more until it registers anew.
pub struct Unfollowed {
    /// What the failure said.
    pub why: String,
}
message!(Unfollowed => ());

/// What somebody follows. Asked anew whenever following begins anew.
pub trait Follows: Send + Sync {
    /// Kinds of the table.
    fn watches(&self) -> Vec<Watch>;
    /// A kind that clients declared; `None` where it is nothing to the follower.
    fn watch_declared(&self, kind: &'static Resource) -> Option<Watch>;
}

impl<R: Reconciler> Follows for R {
    fn watches(&self) -> Vec<Watch> {
        Reconciler::watches(self)
    }
    fn watch_declared(&self, kind: &'static Resource) -> Option<Watch> {
        Reconciler::watch_declared(self, kind)
    }
}

/// Somebody who is told of changes.
pub struct Follower {
    /// A name that no other follower has.
    pub name: &'static str,
    /// The plural of what its keys name.
    pub resource: &'static str,
    /// What it follows.
    pub follows: Arc<dyn Follows>,
    /// Who is told.
    pub changed: Recipient<Changed>,
    /// Who is told that following failed.
    pub unfollowed: Recipient<Unfollowed>,
}

/// Who is registered: by name, each with the number of its registration.
type Registered = BTreeMap<&'static str, (u64, Arc<Follower>)>;

/// Registrations. They outlive the actor that serves them.
struct Registry {
    registered: Mutex<Registered>,
    /// Number of the newest registration.
    newest: watch::Sender<u64>,
}

impl Registry {
    fn all(&self) -> Registered {
        self.registered.lock().clone()
    }
}

/// The dispatcher's handle. Cheap to clone.
#[derive(Clone)]
pub struct Dispatch {
    registry: Arc<Registry>,
}

impl Dispatch {
    /// Starts the dispatcher, on the calling thread: the one that the cache is filled on, so that a change which
    /// concerns nobody wakes no other thread. Once per stage.
    pub fn start(stage: &Stage, cache: Cache) -> Self {
        let registry = Arc::new(Registry { registered: Mutex::default(), newest: watch::Sender::new(0) });
        let served = registry.clone();
        let make = move || Dispatcher { cache: cache.clone(), registry: served.clone() };
        stage.spawn_here(Props::new("master/controllers/dispatcher", make).restart(RestartPolicy::Permanent));
        Dispatch { registry }
    }

    /// Follows from now on, beginning with everything that exists. Takes the place of what the same name followed.
    pub fn register(&self, follower: Follower) {
        self.registry.newest.send_modify(|nth| {
            *nth += 1;
            self.registry.registered.lock().insert(follower.name, (*nth, Arc::new(follower)));
        });
    }
}

/// The actor: serves whoever is registered.
struct Dispatcher {
    cache: Cache,
    registry: Arc<Registry>,
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run(desk::serve(self.cache.clone(), self.registry.clone()), |_, never, _| match never {});
    }
}
