//! The actors that drive a [`Reconciler`].
//!
//! The controller actor is told of changes and owns the queue; its worker actors reconcile one key at a time
//! each. A reconcile is a message that carries the causes of everything that woke it, so it stands in the
//! trace below the writes that it answers. A panicking reconcile takes down its worker alone, and its key
//! is retried like after any failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use actors::trace::TraceContext;
use actors::{
    Actor, ActorFutureExt, ActorRef, AskError, AsyncContext, AtomicResponse, Context, Handler, Props,
    SpawnHandle, Stage, WorkQueue, WrapFuture,
};
use protocol::{Api, Client};

use super::dispatch::{Changed, Dispatch, Follower, Unfollowed};
use super::metrics::{OneQueue, QueueMetrics};
use super::{Cx, Key, Outcome, ReconcileError, Reconciler, Writes, meta, trace_key};
use crate::cache::Cache;
use protocol::events::Recorder;

/// A reconcile that takes longer is given up and retried.
const RECONCILE_MAX: Duration = Duration::from_secs(120);
/// How long the cache may take to show a write before the key is released all the same.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);

/// What a controller needs to run.
pub struct Setup<R> {
    /// The controller.
    pub reconciler: Arc<R>,
    /// What it reads.
    pub cache: Cache,
    /// Who tells it of changes.
    pub dispatch: Dispatch,
    /// Its door to the API, under its identity.
    pub api: Arc<dyn Api>,
    /// Its events.
    pub events: Recorder,
    /// All queues' metrics.
    pub metrics: QueueMetrics,
}

impl<R> Clone for Setup<R> {
    fn clone(&self) -> Self {
        Setup {
            reconciler: self.reconciler.clone(),
            cache: self.cache.clone(),
            dispatch: self.dispatch.clone(),
            api: self.api.clone(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Starts a controller.
pub fn start<R: Reconciler>(stage: &Stage, setup: Setup<R>) -> ActorRef<Controller<R>> {
    let path = format!("master/controllers/{}", R::NAME);
    stage.spawn(Props::new(path, move || Controller::new(setup.clone())).capacity(1024))
}

/// Make one object as it should be.
pub struct Reconcile {
    key: Key,
    resource: &'static str,
    causes: Vec<TraceContext>,
}
impl actors::actix::Message for Reconcile {
    type Result = Result<Outcome, String>;
}
impl actors::Message for Reconcile {
    fn key(&self) -> Option<Arc<str>> {
        Some(trace_key(self.resource, &self.key))
    }
    fn causes(&self) -> Vec<TraceContext> {
        self.causes.clone()
    }
}

/// Queues the keys that it is told of and hands them to workers.
pub struct Controller<R: Reconciler> {
    setup: Setup<R>,
    queue: WorkQueue<Key>,
    metrics: OneQueue,
    idle: VecDeque<ActorRef<Worker<R>>>,
    timer: Option<(Instant, SpawnHandle)>,
}

impl<R: Reconciler> Controller<R> {
    fn new(setup: Setup<R>) -> Self {
        let metrics = setup.metrics.of(R::NAME);
        Controller { setup, queue: WorkQueue::new(), metrics, idle: VecDeque::new(), timer: None }
    }

    /// Gives ready keys to idle workers, and sets the alarm for the next delayed one.
    fn work(&mut self, ctx: &mut Context<Self>) {
        while !self.idle.is_empty() {
            let Some(work) = self.queue.take() else { break };
            let Some(worker) = self.idle.pop_front() else { break };
            self.metrics.waited.observe(work.waited.as_secs_f64());
            let key = work.key.clone();
            let message = Reconcile { key: work.key, resource: R::RESOURCE, causes: work.causes.clone() };
            let started = Instant::now();
            let asked = worker.clone();
            // The worker has limits of its own, so that no second reconcile of a key can begin while a
            // former one may still write.
            let ask = async move { asked.ask(message, RECONCILE_MAX + CATCH_UP_MAX + RECONCILE_MAX).await };
            ctx.run(ask, move |me, answer, ctx| {
                me.metrics.worked.observe(started.elapsed().as_secs_f64());
                me.idle.push_back(worker);
                me.finish(key, work.causes.first().copied().unwrap_or_default(), answer);
                me.work(ctx);
            });
        }
        self.metrics.depth.set(self.queue.depth() as i64);
        self.set_timer(ctx);
    }

    fn finish(&mut self, key: Key, cause: TraceContext, answer: Result<Result<Outcome, String>, AskError>) {
        match answer {
            Ok(Ok(outcome)) => {
                self.queue.done(&key);
                if let Some(after) = outcome.again_after {
                    self.queue.add_after(key, after, cause);
                }
            }
            Ok(Err(error)) => self.retry(key, cause, &error),
            Err(error) => self.retry(key, cause, &error.to_string()),
        }
    }

    fn retry(&mut self, key: Key, cause: TraceContext, error: &str) {
        self.metrics.retries.inc();
        let pause = self.queue.failed(&key, cause);
        tracing::debug!(controller = R::NAME, %key, error, ?pause, "reconcile failed; it is retried");
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.queue.next_due();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = due {
            let wait = at.saturating_duration_since(Instant::now());
            let handle = actors::trace::sync_under(TraceContext::default(), || {
                ctx.run_later(wait, |me, ctx| {
                    me.timer = None;
                    me.work(ctx);
                })
            });
            self.timer = Some((at, handle));
        }
    }
}

impl<R: Reconciler> Actor for Controller<R> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for n in 0..R::WORKERS {
            let setup = self.setup.clone();
            let path = format!("{}/worker", ctx.path());
            let props =
                Props::new(path, move || Worker { setup: setup.clone() }).instance(n.to_string()).capacity(1);
            self.idle.push_back(ctx.spawn_child(props));
        }
        // A controller that was rebuilt is told of everything that exists.
        self.setup.dispatch.register(Follower {
            name: R::NAME,
            resource: R::RESOURCE,
            follows: self.setup.reconciler.clone(),
            changed: ctx.me().recipient(),
            unfollowed: ctx.me().recipient(),
        });
    }
}

impl<R: Reconciler> Handler<Changed> for Controller<R> {
    type Result = ();

    fn handle(&mut self, m: Changed, ctx: &mut Context<Self>) {
        self.metrics.adds.inc();
        self.queue.add(m.key, actors::trace::current());
        self.work(ctx);
    }
}

impl<R: Reconciler> Handler<Unfollowed> for Controller<R> {
    type Result = ();

    fn handle(&mut self, m: Unfollowed, ctx: &mut Context<Self>) {
        ctx.fail(m.why);
    }
}

/// Reconciles one key at a time.
pub struct Worker<R: Reconciler> {
    setup: Setup<R>,
}

impl<R: Reconciler> Actor for Worker<R> {
    type Context = Context<Self>;
}

impl<R: Reconciler> Handler<Reconcile> for Worker<R> {
    type Result = AtomicResponse<Self, Result<Outcome, String>>;

    fn handle(&mut self, m: Reconcile, _: &mut Context<Self>) -> Self::Result {
        let setup = self.setup.clone();
        let reconcile = async move {
            let writes = Writes::new(setup.api.clone());
            let cx = Cx {
                client: Client::new(writes.clone(), R::PROGRAM),
                cache: setup.cache.clone(),
                events: setup.events.clone(),
                now: meta::now(),
            };
            let result = tokio::time::timeout(RECONCILE_MAX, setup.reconciler.reconcile(&cx, &m.key)).await;
            // Whatever came of it: nobody may look at this key again before the cache shows what was written.
            let written = writes.newest();
            if written > setup.cache.revision() {
                let _ = tokio::time::timeout(CATCH_UP_MAX, setup.cache.wait_for(written)).await;
            }
            match result {
                Ok(Ok(outcome)) => Ok(outcome),
                Ok(Err(ReconcileError::Api(e))) if e.is_conflict() => Err(format!("conflict: {e}")),
                Ok(Err(e)) => Err(e.to_string()),
                Err(_) => Err("it took too long".to_owned()),
            }
        };
        AtomicResponse::new(Box::pin(reconcile.into_actor(self).map(|result, _, _| result)))
    }
}
