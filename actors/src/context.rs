//! What a running actor can do: start futures and timers, have children, stop.

use std::any::TypeId;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use actix::dev::{AsyncContextParts, ContextParts, ToEnvelope};
use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorState, Addr, AsyncContext, SpawnHandle};

use crate::mailbox::Mailbox;
use crate::message::Scene;
use crate::metrics::{ClassMetrics, MessageMetrics};
use crate::reference::ActorRef;
use crate::stage::Stage;
use crate::supervision::{Group, Props};

/// Messages handled in a row before the actor lets its siblings on the arbiter run.
const BURST_MAX: usize = 64;

/// The context of every actor on a [`Stage`].
pub struct Context<A: Actor<Context = Context<A>>> {
    parts: ContextParts<A>,
    me: ActorRef<A>,
    stage: Stage,
    metrics: Rc<ClassMetrics>,
    by_type: Vec<(TypeId, Rc<MessageMetrics>)>,
    /// Children stop when the actor stops or is rebuilt.
    children: Option<Group>,
    stop_reason: Option<String>,
}

impl<A: Actor<Context = Self>> Context<A> {
    pub(crate) fn new(
        parts: ContextParts<A>,
        me: ActorRef<A>,
        stage: Stage,
        metrics: Rc<ClassMetrics>,
    ) -> Self {
        Context { parts, me, stage, metrics, by_type: Vec::new(), children: None, stop_reason: None }
    }

    /// A reference to this actor.
    pub fn me(&self) -> ActorRef<A> {
        self.me.clone()
    }

    /// This actor's path.
    pub fn path(&self) -> &Arc<str> {
        self.me.path()
    }

    /// The actor system.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Does I/O in a future, then continues on the actor with its output. Runs beside other messages, under
    /// the message that started it; ends unfinished when the actor stops or is rebuilt.
    pub fn run<F, T>(&mut self, future: F, then: impl FnOnce(&mut A, T, &mut Self) + 'static) -> SpawnHandle
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        self.spawn(Run { future: Box::pin(future), then: Some(then) })
    }

    /// Starts a child. It lives on the same arbiter, restarts by its own policy, and stops with this actor.
    pub fn spawn_child<B>(&mut self, props: Props<B>) -> ActorRef<B>
    where
        B: Actor<Context = Context<B>>,
    {
        let stage = self.stage.clone();
        let path = self.path().clone();
        let group = self.children.get_or_insert_with(|| Group::under_actor(&stage, &path));
        stage.spawn_local(props, Some(group))
    }

    /// Stops with a failure: the supervisor treats it like a panic (restart by policy, backoff, escalation).
    pub fn fail(&mut self, why: impl Into<String>) {
        self.stop_reason = Some(why.into());
        self.parts.stop();
    }

    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.stop_reason.take()
    }

    pub(crate) fn take_children(&mut self) -> Option<Group> {
        self.children.take()
    }

    pub(crate) fn message_metrics(&mut self, id: TypeId, name: &'static str) -> Rc<MessageMetrics> {
        if let Some((_, found)) = self.by_type.iter().find(|(t, _)| *t == id) {
            return found.clone();
        }
        let made = Rc::new(self.metrics.message(name));
        self.by_type.push((id, made.clone()));
        made
    }
}

impl<A: Actor<Context = Self>> ActorContext for Context<A> {
    fn stop(&mut self) {
        self.parts.stop();
    }
    fn terminate(&mut self) {
        self.parts.terminate();
    }
    fn state(&self) -> ActorState {
        self.parts.state()
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for Context<A> {
    fn spawn<F: ActorFuture<A, Output = ()> + 'static>(&mut self, future: F) -> SpawnHandle {
        let scene = Scene::here(self.path().clone());
        self.parts.spawn(OnSceneFuture { future: Box::pin(future), scene })
    }
    fn wait<F: ActorFuture<A, Output = ()> + 'static>(&mut self, future: F) {
        let scene = Scene::here(self.path().clone());
        self.parts.wait(OnSceneFuture { future: Box::pin(future), scene });
    }
    fn waiting(&self) -> bool {
        self.parts.waiting()
    }
    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.parts.cancel_future(handle)
    }
    fn address(&self) -> Addr<A> {
        self.parts.address()
    }
    // A timer is no part of the handling time of the message that set it, but keeps its cause.
    fn run_later<F>(&mut self, after: Duration, then: F) -> SpawnHandle
    where
        F: FnOnce(&mut A, &mut Self) + 'static,
    {
        let scene = Scene { open: None, ..Scene::here(self.path().clone()) };
        let timer = Run {
            future: Box::pin(tokio::time::sleep(after)),
            then: Some(move |actor: &mut A, (), ctx: &mut Self| then(actor, ctx)),
        };
        self.parts.spawn(OnSceneFuture { future: Box::pin(timer), scene })
    }
}

impl<A: Actor<Context = Self>> AsyncContextParts<A> for Context<A> {
    fn parts(&mut self) -> &mut ContextParts<A> {
        &mut self.parts
    }
}

// Needed for `AsyncContext::notify` and for streams; such messages bypass the bounded mailbox, so they are
// only ever the actor's own.
impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + actix::Handler<M>,
    M: actix::Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, reply: Option<actix::dev::OneshotSender<M::Result>>) -> actix::dev::Envelope<A> {
        actix::dev::Envelope::with_proxy(Box::new(Plain { message: Some(message), reply }))
    }
}

struct Plain<M: actix::Message> {
    message: Option<M>,
    reply: Option<actix::dev::OneshotSender<M::Result>>,
}

impl<A, M> actix::dev::EnvelopeProxy<A> for Plain<M>
where
    A: Actor + actix::Handler<M>,
    A::Context: AsyncContext<A>,
    M: actix::Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, ctx: &mut A::Context) {
        if let Some(message) = self.message.take() {
            let response = actor.handle(message, ctx);
            actix::dev::MessageResponse::handle(response, ctx, self.reply.take());
        }
    }
}

struct Run<F, Then> {
    future: Pin<Box<F>>,
    then: Option<Then>,
}

impl<A, F, T, Then> ActorFuture<A> for Run<F, Then>
where
    A: Actor<Context = Context<A>>,
    F: Future<Output = T>,
    Then: FnOnce(&mut A, T, &mut Context<A>),
{
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, task: &mut Task<'_>) -> Poll<()> {
        let Poll::Ready(output) = self.future.as_mut().poll(task) else { return Poll::Pending };
        if let Some(then) = self.then.take() {
            then(actor, output, ctx);
        }
        Poll::Ready(())
    }
}

impl<F, Then> Unpin for Run<F, Then> {}

struct OnSceneFuture<F> {
    future: Pin<Box<F>>,
    scene: Scene,
}

impl<A, F> ActorFuture<A> for OnSceneFuture<F>
where
    A: Actor,
    F: ActorFuture<A>,
{
    type Output = F::Output;
    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        task: &mut Task<'_>,
    ) -> Poll<F::Output> {
        let this = &mut *self;
        let _on = this.scene.enter();
        this.future.as_mut().poll(actor, ctx, task)
    }
}

/// Reads the mailbox, as one of the actor's futures: so a `wait` holds messages back, as actix promises.
pub(crate) struct ReadMailbox<A: Actor> {
    pub(crate) mailbox: Arc<Mailbox<A>>,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for ReadMailbox<A> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, task: &mut Task<'_>) -> Poll<()> {
        self.mailbox.register(task.waker());
        for _ in 0..BURST_MAX {
            if ctx.waiting() {
                return Poll::Pending;
            }
            let Some(envelope) = self.mailbox.take() else { return Poll::Pending };
            envelope.deliver(actor, ctx);
        }
        // More may wait: let the others on this arbiter run first.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
