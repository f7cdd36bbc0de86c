//! Keeping something outside (the kernel's rules) as an actor knows that it should be: changes that come close together
//! go out together, one batch at a time; after a failure, everything is written anew, a little later each time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, AsyncContext, Context, SpawnHandle, TraceContext, trace};
use futures::future::LocalBoxFuture;

/// Changes that come within this time of one another share a batch.
pub const BATCH: Duration = Duration::from_millis(5);
/// First pause after a refusal.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest pause after a refusal.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How keeping goes.
#[derive(Debug)]
pub struct Keeping {
    /// A batch is on its way.
    busy: bool,
    /// The next batch, and how long it was to wait.
    scheduled: Option<(SpawnHandle, Duration)>,
    /// What is outside is not known: the next batch replaces it all.
    replace: bool,
    retry: Duration,
    /// What is outside is as it should be.
    pub settled: bool,
    /// Batches that were taken.
    pub applied: u64,
    /// Why the last batch was refused, if it was.
    pub error: Option<String>,
}

impl Default for Keeping {
    fn default() -> Self {
        Keeping {
            busy: false,
            scheduled: None,
            replace: true,
            retry: RETRY_MIN,
            settled: false,
            applied: 0,
            error: None,
        }
    }
}

/// Something that a batch does; ends with whether it was taken.
pub type Batch<E> = LocalBoxFuture<'static, Result<(), E>>;

/// An actor that keeps something outside.
pub trait Keeper: Actor<Context = Context<Self>> {
    /// Why a batch was not taken.
    type Error: std::fmt::Display + 'static;

    /// What is kept, for the log.
    const WHAT: &'static str;

    /// How it goes.
    fn keeping(&mut self) -> &mut Keeping;

    /// Whether all was listed that the first batch needs: half of it would undo the other half.
    fn complete(&self) -> bool;

    /// The next batch: everything, or what changed; `None` when that is nothing.
    fn batch(&mut self, everything: bool) -> Option<Batch<Self::Error>>;

    /// The last batch is in place.
    fn applied(&mut self, _ctx: &mut Context<Self>) {}

    /// The last batch is not in place, or not all of it. Everything will be tried again.
    fn refused(&mut self, _ctx: &mut Context<Self>) {}

    /// Something changed, and is to go out soon.
    fn schedule(&mut self, after: Duration, ctx: &mut Context<Self>) {
        let complete = self.complete();
        let keeping = self.keeping();
        keeping.settled = false;
        if !complete || keeping.busy || keeping.scheduled.is_some_and(|(_, waits)| waits <= after) {
            return;
        }
        // A change does not wait for the end of a pause after a failure.
        if let Some((later, _)) = keeping.scheduled.take() {
            ctx.cancel_future(later);
        }
        let due = ctx.run_later(after, |actor, ctx| {
            actor.keeping().scheduled = None;
            apply(actor, ctx);
        });
        self.keeping().scheduled = Some((due, after));
    }

    /// What is outside is not known any more, and is to be replaced soon.
    fn replace(&mut self, ctx: &mut Context<Self>) {
        self.keeping().replace = true;
        self.schedule(BATCH, ctx);
    }
}

fn apply<A: Keeper>(actor: &mut A, ctx: &mut Context<A>) {
    if actor.keeping().busy || !actor.complete() {
        return;
    }
    // Cleared before, so that one who finds out meanwhile that all is lost is heard.
    let everything = std::mem::take(&mut actor.keeping().replace);
    let Some(work) = actor.batch(everything) else {
        actor.keeping().settled = true;
        actor.applied(ctx);
        return;
    };
    actor.keeping().busy = true;
    ctx.run(work, |actor, result, ctx| {
        let keeping = actor.keeping();
        keeping.busy = false;
        match result {
            Ok(()) => {
                keeping.retry = RETRY_MIN;
                keeping.applied += 1;
                keeping.error = None;
                actor.applied(ctx);
                // More may have come meanwhile; with nothing to do this only settles.
                apply(actor, ctx);
            }
            Err(error) => {
                tracing::error!(%error, "{} not applied; all will be written anew", A::WHAT);
                keeping.error = Some(error.to_string());
                keeping.replace = true;
                let pause = keeping.retry;
                keeping.retry = (pause * 2).min(RETRY_MAX);
                actor.refused(ctx);
                actor.schedule(pause, ctx);
            }
        }
    });
}

/// Does a piece of work, recorded under each of the objects that it is about, by whoever changed them.
pub async fn applied_under<T, E>(
    place: &str,
    kind: &str,
    causes: Vec<(Arc<str>, TraceContext)>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match causes.split_first() {
        Some(((first, cause), rest)) => {
            let key = Some(first.clone());
            let done = trace::step_caused_by(*cause, place, kind, key, Result::is_err, work).await?;
            for (key, cause) in rest {
                trace::note(*cause, place, kind, Some(key.clone()));
            }
            Ok(done)
        }
        None => work.await,
    }
}

#[cfg(test)]
mod tests;
