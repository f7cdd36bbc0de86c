//! The actor in front of the store: every read and write is a message to it, and it forwards what the
//! store's watch tells to the cache's actor.
//!
//! Many calls are in flight at once, each a task of its own; the actor itself never waits for the store. Rebuilt after
//! a panic, it goes on from the cache's revision: nobody notices but who asked for the newest revision just then, and
//! whose message it panicked on. They get [`StoreError::Unavailable`].

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::{
    Actor, ActorRef, AskError, AsyncContext, Context, Handler, Props, ResponseFuture, RestartPolicy, Stage,
    handling, message, trace,
};
use async_trait::async_trait;
use tokio::sync::oneshot;

use super::keys::trace_key;
use super::{BatchStream, KeyRange, LeaseId, ROOT, Range, RangeResult, Store, StoreError, Txn, TxnResult};
use crate::cache::actor::{CacheActor, Fold, Load, Resync};
use crate::cache::{Cache, feed};

/// Calls in flight at once; further ones are refused.
const IN_FLIGHT_MAX: usize = 4096;
/// A call is answered, or fails, within this time: the store's own deadline and some waiting.
const DEADLINE: Duration = Duration::from_secs(10);
/// History is kept for between one and two of these.
const COMPACT_EVERY: Duration = Duration::from_secs(300);
/// After a failed watch.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The store's actor.
pub struct StoreBridge {
    store: Arc<dyn Store>,
    cache: Cache,
    folding: ActorRef<CacheActor>,
    in_flight: Rc<Cell<usize>>,
    /// Who asked for the newest revision since the store was asked last.
    revision_asked: Vec<oneshot::Sender<Result<u64, StoreError>>>,
    /// The store is being asked for its newest revision.
    asking_revision: bool,
    /// Tells a watch that was given up from the one that replaced it.
    generation: u64,
    /// What is compacted next: the newest revision of one period ago.
    compact_next: Option<u64>,
}

/// A read.
pub struct ReadRange(pub Range);

message!(ReadRange => Result<RangeResult, StoreError>, |m| Some(match &m.0.keys {
    KeyRange::Key(key) | KeyRange::Prefix(key) => trace_key(key),
}));

/// A write.
pub struct Commit(pub Txn);

message!(Commit => Result<TxnResult, StoreError>, |m| m.0.ops.first().map(|op| trace_key(op.key())));

/// Asks for the newest revision.
pub struct CurrentRevision;

message!(CurrentRevision => Result<u64, StoreError>);

/// A change of a lease.
pub enum Lease {
    /// A new one.
    Grant(Duration),
    /// Starts its time anew.
    KeepAlive(LeaseId),
    /// Ends it.
    Revoke(LeaseId),
}

message!(Lease => Result<LeaseId, StoreError>);

/// Forgets history.
pub struct Compact(pub u64);

message!(Compact => Result<(), StoreError>);

/// Starts the actors of store and cache, on the calling thread: the one that the store's connection was made on.
/// Returns the store as everyone else sees it.
pub fn start(stage: &Stage, store: Arc<dyn Store>, cache: &Cache) -> Arc<dyn Store> {
    let folding = stage.spawn_here(CacheActor::props(cache.clone()));
    let (inner, cache) = (store.clone(), cache.clone());
    let make = move || StoreBridge {
        store: inner.clone(),
        cache: cache.clone(),
        folding: folding.clone(),
        in_flight: Rc::default(),
        revision_asked: Vec::new(),
        asking_revision: false,
        generation: 0,
        compact_next: None,
    };
    let props = Props::new("master/store/bridge", make).capacity(1024).restart(RestartPolicy::Permanent);
    Arc::new(Bridged { bridge: stage.spawn_here(props), store })
}

/// A watch under way: its stream, how far it was forwarded.
struct Watching {
    stream: BatchStream,
    reached: u64,
    generation: u64,
}

impl StoreBridge {
    /// Loads the cache where that is needed, and opens the watch.
    fn open(&mut self, load: bool, ctx: &mut Context<Self>) {
        self.generation += 1;
        let generation = self.generation;
        let (store, cache, folding) = (self.store.clone(), self.cache.clone(), self.folding.clone());
        let opening = async move {
            let mut reached = cache.revision();
            if load || reached == 0 {
                let (records, revision) = feed::read_all(&*store).await?;
                folding.tell(Load { records, revision }).await.map_err(|_| closed())?;
                reached = revision;
            }
            let stream = store.watch(ROOT, reached).await?;
            Ok(Watching { stream, reached, generation })
        };
        ctx.run(opening, move |bridge, opened, ctx| match opened {
            Ok(watching) => bridge.follow(watching, ctx),
            Err(error) => bridge.reopen(generation, error, ctx),
        });
    }

    /// Forwards what the watch tells, for as long as it is the current one.
    fn follow(&mut self, mut watching: Watching, ctx: &mut Context<Self>) {
        let generation = watching.generation;
        if generation != self.generation {
            return;
        }
        let (folding, from) = (self.folding.clone(), ctx.me().recipient::<Resync>());
        let step = async move {
            let batches = feed::take(&mut watching.stream).await?;
            let after = watching.reached;
            watching.reached = batches.last().map_or(after, |last| last.revision);
            // What a watch tells has its own causes; it is nobody's message that made this loop turn.
            let fold = Fold { after, batches, from };
            trace::under(Default::default(), folding.tell(fold)).await.map_err(|_| closed())?;
            Ok(watching)
        };
        ctx.run(step, move |bridge, followed, ctx| match followed {
            Ok(watching) => bridge.follow(watching, ctx),
            Err(error) => bridge.reopen(generation, error, ctx),
        });
    }

    fn reopen(&mut self, generation: u64, error: StoreError, ctx: &mut Context<Self>) {
        if generation != self.generation {
            return;
        }
        let load = matches!(error, StoreError::Compacted { .. });
        tracing::warn!(%error, load, "the store's watch broke");
        ctx.run_later(RETRY_AFTER, move |bridge, ctx| bridge.open(load, ctx));
    }

    /// Has the store forget history, and the cache know it.
    fn compact(&self, at: u64) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let (store, cache) = (self.store.clone(), self.cache.clone());
        async move {
            let done = store.compact(at).await;
            if matches!(done, Ok(()) | Err(StoreError::Compacted { .. })) {
                cache.forget(at);
            }
            done
        }
    }

    fn compact_later(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(COMPACT_EVERY, |bridge, ctx| {
            let revision = bridge.cache.revision();
            if let Some(at) = bridge.compact_next.replace(revision).filter(|at| *at < revision) {
                ctx.run(bridge.compact(at), move |_, done, _| match done {
                    Ok(()) => tracing::debug!(at, "history was compacted"),
                    // Another master was first.
                    Err(StoreError::Compacted { .. }) => {}
                    Err(error) => tracing::warn!(%error, at, "history was not compacted"),
                });
            }
            bridge.compact_later(ctx);
        });
    }

    /// Does a call beside all others: each is a task of its own, so that an answer wakes nothing but its call.
    fn call<T: 'static>(
        &mut self,
        call: impl Future<Output = Result<T, StoreError>> + 'static,
    ) -> ResponseFuture<Result<T, StoreError>> {
        let Some(place) = Place::take(&self.in_flight) else {
            return Box::pin(std::future::ready(Err(full())));
        };
        Box::pin(handling(async move {
            let _place = place;
            call.await
        }))
    }

    /// Asks the store for its newest revision, for all who wait by now. Who comes later asks anew: the answer to a
    /// question that was put before is older than what may have been acknowledged since.
    fn ask_revision(&mut self, ctx: &mut Context<Self>) {
        if self.asking_revision || self.revision_asked.is_empty() {
            return;
        }
        self.asking_revision = true;
        let (asked, store) = (std::mem::take(&mut self.revision_asked), self.store.clone());
        ctx.run(async move { store.current_revision().await }, move |bridge, answer, ctx| {
            bridge.asking_revision = false;
            for one in asked {
                // Who gave up waiting needs no answer.
                let _ = one.send(answer.clone());
            }
            bridge.ask_revision(ctx);
        });
    }
}

/// A place among the calls in flight.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(all: &Rc<Cell<usize>>) -> Option<Self> {
        if all.get() >= IN_FLIGHT_MAX {
            return None;
        }
        all.set(all.get() + 1);
        Some(Place(all.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn full() -> StoreError {
    StoreError::Unavailable(format!("{IN_FLIGHT_MAX} calls are in flight already"))
}

fn rebuilt() -> StoreError {
    StoreError::Unavailable("its actor was rebuilt meanwhile".to_owned())
}

fn closed() -> StoreError {
    StoreError::Unavailable("the cache has ended".to_owned())
}

impl Actor for StoreBridge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.open(false, ctx);
        self.compact_later(ctx);
    }
}

impl Handler<Resync> for StoreBridge {
    type Result = ();

    fn handle(&mut self, _: Resync, ctx: &mut Context<Self>) {
        tracing::warn!(revision = self.cache.revision(), "the cache missed something; the watch starts over");
        self.open(false, ctx);
    }
}

impl Handler<ReadRange> for StoreBridge {
    type Result = ResponseFuture<Result<RangeResult, StoreError>>;

    fn handle(&mut self, ReadRange(range): ReadRange, _: &mut Context<Self>) -> Self::Result {
        let store = self.store.clone();
        self.call(async move { store.range(range).await })
    }
}

impl Handler<Commit> for StoreBridge {
    type Result = ResponseFuture<Result<TxnResult, StoreError>>;

    fn handle(&mut self, Commit(txn): Commit, _: &mut Context<Self>) -> Self::Result {
        let store = self.store.clone();
        // The change hangs below this message, which hangs below the writer's.
        let txn = txn.caused_by(trace::current());
        self.call(async move { store.txn(txn).await })
    }
}

impl Handler<CurrentRevision> for StoreBridge {
    type Result = ResponseFuture<Result<u64, StoreError>>;

    fn handle(&mut self, _: CurrentRevision, ctx: &mut Context<Self>) -> Self::Result {
        if self.revision_asked.len() >= IN_FLIGHT_MAX {
            return Box::pin(std::future::ready(Err(full())));
        }
        let (answer, answered) = oneshot::channel();
        self.revision_asked.push(answer);
        self.ask_revision(ctx);
        Box::pin(handling(async move { answered.await.unwrap_or_else(|_| Err(rebuilt())) }))
    }
}

impl Handler<Lease> for StoreBridge {
    type Result = ResponseFuture<Result<LeaseId, StoreError>>;

    fn handle(&mut self, lease: Lease, _: &mut Context<Self>) -> Self::Result {
        let store = self.store.clone();
        self.call(async move {
            match lease {
                Lease::Grant(ttl) => store.lease_grant(ttl).await,
                Lease::KeepAlive(id) => store.lease_keep_alive(id).await.map(|()| id),
                Lease::Revoke(id) => store.lease_revoke(id).await.map(|()| id),
            }
        })
    }
}

impl Handler<Compact> for StoreBridge {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, Compact(revision): Compact, _: &mut Context<Self>) -> Self::Result {
        let compacting = self.compact(revision);
        self.call(compacting)
    }
}

/// The store behind its actor.
struct Bridged {
    bridge: ActorRef<StoreBridge>,
    store: Arc<dyn Store>,
}

impl Bridged {
    async fn ask<M, T>(&self, message: M) -> Result<T, StoreError>
    where
        M: actors::Message + actors::actix::Message<Result = Result<T, StoreError>>,
        StoreBridge: Handler<M>,
        T: Send + 'static,
    {
        self.bridge.ask(message, DEADLINE).await.unwrap_or_else(|error| {
            let why = match error {
                AskError::Timeout => "it does not answer".to_owned(),
                other => other.to_string(),
            };
            Err(StoreError::Unavailable(why))
        })
    }
}

#[async_trait]
impl Store for Bridged {
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        self.ask(ReadRange(range)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.ask(Commit(txn)).await
    }

    /// Streams are no messages: a further watch goes to the store itself.
    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError> {
        self.store.watch(prefix, after_revision).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.ask(Compact(revision)).await
    }

    async fn current_revision(&self) -> Result<u64, StoreError> {
        match self.store.known_revision() {
            Some(revision) => Ok(revision),
            None => self.ask(CurrentRevision).await,
        }
    }

    fn known_revision(&self) -> Option<u64> {
        self.store.known_revision()
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.ask(Lease::Grant(ttl)).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(Lease::KeepAlive(lease)).await.map(drop)
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(Lease::Revoke(lease)).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
