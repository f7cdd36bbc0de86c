//! The actor that folds the store's batches into the cache: its only writer.

use actors::{Actor, Context, Handler, Props, Recipient, RestartPolicy, TraceContext, message};

use crate::store::{Batch, Record};

use super::Cache;

/// Folds what the store's watch told.
pub struct CacheActor {
    cache: Cache,
}

/// Everything in the store at one revision.
pub struct Load {
    /// The records.
    pub records: Vec<Record>,
    /// The revision.
    pub revision: u64,
}

message!(Load => ());

/// Batches that follow each other without a gap.
pub struct Fold {
    /// The revision that the sender had reached before them.
    pub after: u64,
    /// The batches.
    pub batches: Vec<Batch>,
    /// Whom to tell when batches before these are missing.
    pub from: Recipient<Resync>,
}

impl actors::actix::Message for Fold {
    type Result = ();
}

impl actors::Message for Fold {
    fn key(&self) -> Option<std::sync::Arc<str>> {
        let event = self.batches.iter().find_map(|batch| batch.events.first())?;
        Some(crate::store::keys::trace_key(&event.key))
    }

    fn causes(&self) -> Vec<TraceContext> {
        let mut causes: Vec<TraceContext> = Vec::new();
        for event in self.batches.iter().flat_map(|batch| &batch.events) {
            if !event.trace.is_none() && causes.last() != Some(&event.trace) {
                causes.push(event.trace);
            }
        }
        causes
    }
}

/// Batches were lost: send them again, from the cache's revision on.
pub struct Resync;

message!(Resync => ());

impl CacheActor {
    /// How to start the actor that fills `cache`.
    pub fn props(cache: Cache) -> Props<Self> {
        Props::new("master/cache", move || CacheActor { cache: cache.clone() })
            .capacity(64)
            .restart(RestartPolicy::Permanent)
    }
}

impl Actor for CacheActor {
    type Context = Context<Self>;
}

impl Handler<Load> for CacheActor {
    type Result = ();

    fn handle(&mut self, load: Load, _: &mut Context<Self>) {
        self.cache.load(load.records, load.revision);
    }
}

impl Handler<Fold> for CacheActor {
    type Result = ();

    fn handle(&mut self, fold: Fold, _: &mut Context<Self>) {
        // A panic loses the message that it happened on; what comes after it must not hide the hole.
        if fold.after > self.cache.revision() {
            // A full mailbox holds an earlier request for the same, or traffic that ends in another gap.
            let _ = fold.from.try_tell(Resync);
            return;
        }
        self.cache.apply(fold.batches);
    }
}
