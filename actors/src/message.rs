//! What may be sent to an actor, and the envelope it travels in.

use std::any::TypeId;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Handler};

use crate::context::Context;
use crate::mailbox::Deliver;
use crate::time::{self, Instant};
use crate::trace::{self, Outcome, Record, Slot, TraceContext};

/// A message. Implement it with [`message!`](crate::message), which makes it an `actix::Message` too.
pub trait Message: actix::Message<Result: Send> + Send + 'static {
    /// The object that the message is about, for the trace: `deployments/default/web`.
    fn key(&self) -> Option<Arc<str>> {
        None
    }

    /// Messages of this type with equal keys that wait in one mailbox are one message (the later ones only
    /// add their causes). For level-triggered messages that carry nothing but the key.
    const COALESCE: bool = false;

    /// Causes beyond the one under which it is sent, for messages that stand for several changes.
    fn causes(&self) -> Vec<TraceContext> {
        Vec::new()
    }
}

/// Makes a type a message: `message!(Type => Answer)`, with `|m| Option<Arc<str>>` as its key for the
/// trace, and `coalesce` when equal keys that wait are one message.
#[macro_export]
macro_rules! message {
    ($t:ty => $r:ty) => {
        impl $crate::actix::Message for $t {
            type Result = $r;
        }
        impl $crate::Message for $t {}
    };
    ($t:ty => $r:ty, |$m:ident| $key:expr) => {
        impl $crate::actix::Message for $t {
            type Result = $r;
        }
        impl $crate::Message for $t {
            fn key(&self) -> Option<::std::sync::Arc<str>> {
                let $m = self;
                $key
            }
        }
    };
    ($t:ty => $r:ty, |$m:ident| $key:expr, coalesce) => {
        impl $crate::actix::Message for $t {
            type Result = $r;
        }
        impl $crate::Message for $t {
            fn key(&self) -> Option<::std::sync::Arc<str>> {
                let $m = self;
                $key
            }
            const COALESCE: bool = true;
        }
    };
}

/// The last part of a type's path, without its parameters' paths.
pub(crate) fn short_name<T: ?Sized>() -> &'static str {
    let full = std::any::type_name::<T>();
    let end = full.find('<').unwrap_or(full.len());
    match full[..end].rfind("::") {
        Some(at) => &full[at + 2..],
        None => full,
    }
}

pub(crate) struct Envelope<M: actix::Message> {
    message: M,
    reply: Option<OneshotSender<M::Result>>,
    context: TraceContext,
    parent: TraceContext,
    causes: Vec<TraceContext>,
    from: Arc<str>,
    enqueued: Instant,
}

impl<M: Message> Envelope<M> {
    /// Seals a message: its cause is whatever the caller runs under.
    pub(crate) fn new(message: M, reply: Option<OneshotSender<M::Result>>, now: Instant) -> Self {
        let parent = trace::current();
        let causes = message.causes();
        // A message that knows its causes better than its sender does (a change notification carries the
        // writers of the changes) hangs below the first of them.
        let parent = causes.first().copied().filter(|c| !c.is_none()).unwrap_or(parent);
        Envelope {
            context: parent.child_at(now),
            parent,
            causes,
            from: sender(),
            enqueued: now,
            message,
            reply,
        }
    }

    pub(crate) fn into_message(self) -> M {
        self.message
    }
}

thread_local! {
    static SENDER: RefCell<Arc<str>> = RefCell::new("".into());
    static OPEN: RefCell<Option<Rc<OpenRecord>>> = const { RefCell::new(None) };
}

/// The path of the actor that the calling code belongs to; empty where it belongs to none.
pub(crate) fn sender() -> Arc<str> {
    SENDER.with_borrow(Arc::clone)
}

/// Restores, while one of an actor's futures is polled, what a handler of it saw: the sender's name, the
/// current cause, and the record whose handling time the future adds to.
pub(crate) struct Scene {
    pub(crate) path: Arc<str>,
    pub(crate) context: TraceContext,
    pub(crate) open: Option<Rc<OpenRecord>>,
}

pub(crate) struct OnScene {
    path: Option<Arc<str>>,
    open: Option<Rc<OpenRecord>>,
    _trace: trace::Entered,
}

impl Scene {
    /// What the calling code runs under.
    pub(crate) fn here(path: Arc<str>) -> Self {
        Scene { path, context: trace::current(), open: OPEN.with_borrow(Clone::clone) }
    }

    pub(crate) fn enter(&self) -> OnScene {
        OnScene {
            path: Some(SENDER.replace(self.path.clone())),
            open: OPEN.replace(self.open.clone()),
            _trace: trace::enter(self.context),
        }
    }
}

impl Drop for OnScene {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            SENDER.set(path);
        }
        OPEN.set(self.open.take());
    }
}

/// A future that goes on with the handling of a message, apart from the actor: it runs under the message's cause, and
/// its time counts as the message's. For answers that need nothing of the actor any more; as one of the actor's own
/// futures each of them would be polled whenever any is woken.
pub fn handling<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let scene = Scene::here(sender());
    let mut future = Box::pin(future);
    std::future::poll_fn(move |task| {
        let _on = scene.enter();
        future.as_mut().poll(task)
    })
}

/// A record that is completed when the handler and every future it started are done.
pub(crate) struct OpenRecord {
    slot: Slot,
    started: Instant,
    metrics: Rc<crate::metrics::MessageMetrics>,
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        let handling = self.started.elapsed();
        self.metrics.handling.observe(handling.as_secs_f64());
        let outcome = if std::thread::panicking() { Outcome::Panicked } else { Outcome::Ok };
        self.slot.finish(handling.as_micros() as u64, outcome);
    }
}

impl<A, M> Deliver<A> for Envelope<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<A>) {
        let started = Instant::now();
        let wait = started.saturating_duration_since(self.enqueued);
        let metrics = ctx.message_metrics(TypeId::of::<M>(), short_name::<M>());
        metrics.wait.observe(wait.as_secs_f64());
        let path = ctx.path().clone();
        let slot = trace::push(Record {
            context: self.context,
            parent: self.parent.message,
            causes: self.causes,
            from: self.from,
            to: path.clone(),
            kind: metrics.kind.clone(),
            key: self.message.key(),
            enqueued_us: time::wall_us_at(started).saturating_sub(wait.as_micros() as u64),
            wait_us: wait.as_micros() as u64,
            handling_us: 0,
            outcome: Outcome::Running,
        });
        let open = Rc::new(OpenRecord { slot, started, metrics });
        let scene = Scene { path, context: self.context, open: Some(open) };
        let _on = scene.enter();
        let response = actor.handle(self.message, ctx);
        response.handle(ctx, self.reply);
    }

    fn enqueued(&self) -> Instant {
        self.enqueued
    }

    fn coalesce_key(&self) -> Option<(TypeId, Arc<str>)> {
        if M::COALESCE { self.message.key().map(|key| (TypeId::of::<M>(), key)) } else { None }
    }

    fn add_cause(&mut self, cause: TraceContext) {
        if !cause.is_none() && self.causes.len() < trace::CAUSES_MAX && !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }
}
