//! The life of one actor: built, run, caught when it panics, rebuilt with its mailbox kept.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use actix::dev::{AsyncContextParts, ContextFut, ContextParts};
use actix::{Actor, ActorContext};
use tokio::sync::mpsc;

use crate::context::{Context, ReadMailbox};
use crate::metrics::{ClassMetrics, Metrics, RestartCause};
use crate::reference::ActorRef;
use crate::stage::Stage;
use crate::supervision::{Control, Group, Props, RestartPolicy, Verdict, WeakGroup};
use crate::trace::{self, TraceContext};

/// Everything that a cell needs to begin.
pub(crate) struct Plan<A: Actor> {
    pub(crate) props: Props<A>,
    pub(crate) me: ActorRef<A>,
    pub(crate) orders: mpsc::Receiver<Control>,
    pub(crate) group: WeakGroup,
    pub(crate) stage: Stage,
    pub(crate) metrics: Arc<Metrics>,
    /// The group, where nobody else holds it.
    pub(crate) keep: Option<Group>,
    /// What the spawning code ran under: the actor's `started` has this cause.
    pub(crate) cause: TraceContext,
}

/// Starts the cell on the calling thread.
pub(crate) fn start<A: Actor<Context = Context<A>>>(plan: Plan<A>) {
    actix::spawn(live(plan));
}

/// How one incarnation ended.
enum End {
    Stopped,
    Failed(String),
    Panicked(String),
    Ordered(Control),
}

async fn live<A: Actor<Context = Context<A>>>(mut plan: Plan<A>) {
    let class = ClassMetrics::shared(&plan.props.class, &plan.metrics);
    let path = plan.me.path().clone();
    loop {
        let end = incarnation(&mut plan, &class).await;
        let cause = match &end {
            End::Ordered(Control::Stop) => break,
            End::Stopped if plan.props.policy != RestartPolicy::Permanent => break,
            End::Stopped => RestartCause::Stopped,
            End::Ordered(_) => RestartCause::Sibling,
            End::Failed(why) => {
                tracing::error!(actor = %path, why, "actor failed");
                RestartCause::Failure
            }
            End::Panicked(message) => {
                plan.metrics.panicked(&plan.props.class);
                tracing::error!(actor = %path, panic = message, "actor panicked; only the message it was handling is lost");
                RestartCause::Panic
            }
        };
        if plan.props.policy == RestartPolicy::Never {
            break;
        }
        if !matches!(cause, RestartCause::Sibling) {
            match plan.group.failed(&path) {
                Verdict::Stop => break,
                Verdict::RestartAfter(pause) => {
                    // Orders still count during the pause.
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        order = plan.orders.recv() => if matches!(order, Some(Control::Stop) | None) { break },
                    }
                }
            }
        }
        plan.me.stats.restarts.fetch_add(1, Ordering::Relaxed);
        plan.metrics.restarted(&plan.props.class, cause);
        tracing::info!(actor = %path, cause = cause.as_str(), "actor rebuilt");
    }
    let dropped = plan.me.mailbox.close();
    if dropped > 0 {
        plan.metrics.dead_letters(&plan.props.class, dropped as u64);
    }
    plan.stage.forget(&path);
    drop(plan.keep.take());
}

/// Builds the actor and runs it until it ends in some way.
async fn incarnation<A: Actor<Context = Context<A>>>(plan: &mut Plan<A>, class: &Rc<ClassMetrics>) -> End {
    let built = catch_unwind(AssertUnwindSafe(|| trace::sync_under(plan.cause, || (plan.props.make)())));
    let actor = match built {
        Ok(actor) => actor,
        Err(panic) => return End::Panicked(panic_message(&*panic)),
    };
    // actix's own mailbox carries nothing but the actor's notes to itself.
    let (_, receiver) = actix::dev::channel::channel(16);
    let own = actix::dev::Mailbox::new(receiver);
    let parts = ContextParts::new(own.sender_producer());
    let mut ctx = Context::new(parts, plan.me.clone(), plan.stage.clone(), class.clone());
    ctx.parts().spawn(ReadMailbox { mailbox: plan.me.mailbox.clone() });
    let mut running = ContextFut::new(ctx, actor, own);
    let cause = plan.cause;
    let end = poll_fn(|task| {
        // A panic order is carried out inside the catch, as if the actor had done it.
        let order = match plan.orders.poll_recv(task) {
            Poll::Ready(Some(order)) => Some(order),
            Poll::Ready(None) => Some(Control::Stop),
            Poll::Pending => None,
        };
        if let Some(order @ (Control::Stop | Control::Restart)) = order {
            return Poll::Ready(End::Ordered(order));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            assert!(order != Some(Control::Panic), "panic ordered by a debug command");
            trace::sync_under(cause, || Pin::new(&mut running).poll(task))
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(match running.ctx().take_failure() {
                Some(why) => End::Failed(why),
                None => End::Stopped,
            }),
            Err(panic) => Poll::Ready(End::Panicked(panic_message(&*panic))),
        }
    })
    .await;
    drop(running.ctx().take_children());
    // After a panic the actor is in an unknown state: terminating first keeps its hooks from running when
    // the context drops. A destructor that panics is the actor's last word, not the arbiter's.
    running.ctx().terminate();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(running))) {
        tracing::error!(actor = %plan.me.path(), panic = panic_message(&*panic), "actor panicked while it was dropped");
    }
    end
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

/// Runs a future on the current arbiter that keeps what the caller runs under.
pub fn spawn<F>(future: F) -> actix_rt::task::JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    actix::spawn(trace::under(trace::current(), future))
}
