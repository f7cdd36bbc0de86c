//! Who rebuilds a failed actor, how often, and what happens to its siblings.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::Actor;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::reference::ActorRef;
use crate::stage::Stage;
use crate::time::Instant;

/// When an actor that ended is built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// However it ended.
    Permanent,
    /// When it panicked or failed; stopping by itself is its end.
    Transient,
    /// Never.
    Never,
}

/// Which siblings are rebuilt with a failed actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// None.
    OneForOne,
    /// Those started after it, which may depend on it.
    RestForOne,
    /// All.
    OneForAll,
}

/// How many failures a group bears within a window before it escalates to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Failures allowed.
    pub restarts_max: usize,
    /// Within this time.
    pub window: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Intensity { restarts_max: 10, window: Duration::from_secs(60) }
    }
}

/// First pause before a failed actor is rebuilt; doubles with each failure in the window.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause before a failed actor is rebuilt.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The pause before the `nth` restart within the window (0 is the first), before jitter.
pub fn backoff(nth: usize) -> Duration {
    let factor = 1u32.checked_shl(nth.min(16) as u32).unwrap_or(u32::MAX);
    BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX)
}

/// How to build an actor, and what it is called.
pub struct Props<A: Actor> {
    pub(crate) class: Arc<str>,
    pub(crate) instance: Option<String>,
    pub(crate) capacity: usize,
    pub(crate) policy: RestartPolicy,
    pub(crate) make: Box<dyn Fn() -> A + Send>,
}

impl<A: Actor<Context = Context<A>>> Props<A> {
    /// An actor of a path class (`node/kubelet/pod`), built by `make` at its start and after each failure.
    pub fn new(class: impl Into<Arc<str>>, make: impl Fn() -> A + Send + 'static) -> Self {
        Props {
            class: class.into(),
            instance: None,
            capacity: 256,
            policy: RestartPolicy::Transient,
            make: Box::new(make),
        }
    }

    /// Which of its class it is: the path becomes `class[instance]`.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Room in its mailbox, in messages (256 unless told).
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity.max(1);
        self
    }

    /// When it is rebuilt ([`RestartPolicy::Transient`] unless told).
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    pub(crate) fn path(&self) -> Arc<str> {
        match &self.instance {
            Some(instance) => format!("{}[{instance}]", self.class).into(),
            None => self.class.clone(),
        }
    }
}

/// An order to a cell from its supervisor (or a debug command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// End for good.
    Stop,
    /// Rebuild: a sibling failed.
    Restart,
    /// Panic now (the debug command that tests use).
    Panic,
}

#[derive(Clone)]
pub(crate) struct ControlHandle {
    orders: mpsc::Sender<Control>,
}

impl ControlHandle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Control>) {
        let (orders, received) = mpsc::channel(8);
        (ControlHandle { orders }, received)
    }

    /// Gives an order. Eight unread ones mean that the cell is going down anyway.
    pub(crate) fn order(&self, order: Control) -> bool {
        self.orders.try_send(order).is_ok()
    }

    fn is_gone(&self) -> bool {
        self.orders.is_closed()
    }
}

/// A supervisor: actors that share a fate. Cloning shares it. Groups nest; the outermost one never gives
/// up, it only waits longer.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    stage: Stage,
    path: Arc<str>,
    strategy: Strategy,
    intensity: Intensity,
    parent: Option<Group>,
    state: Mutex<State>,
    /// Children stop when the actor that owns the group is gone.
    stop_on_drop: bool,
}

#[derive(Default)]
struct State {
    children: Vec<(Arc<str>, ControlHandle)>,
    failures: VecDeque<Instant>,
    stopped: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.stop_on_drop {
            stop_children(&mut self.state.lock());
        }
    }
}

fn stop_children(state: &mut State) {
    state.stopped = true;
    for (_, child) in state.children.drain(..).rev() {
        child.order(Control::Stop);
    }
}

/// What a cell does after its actor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Build it again after a pause.
    RestartAfter(Duration),
    /// End for good.
    Stop,
}

impl Group {
    /// A group under `parent`, or an outermost one.
    pub fn new(
        stage: &Stage,
        path: &str,
        strategy: Strategy,
        intensity: Intensity,
        parent: Option<&Group>,
    ) -> Self {
        Group {
            inner: Arc::new(Inner {
                stage: stage.clone(),
                path: path.into(),
                strategy,
                intensity,
                parent: parent.cloned(),
                state: Mutex::default(),
                stop_on_drop: false,
            }),
        }
    }

    /// The children of an actor.
    pub(crate) fn under_actor(stage: &Stage, path: &str) -> Self {
        Group {
            inner: Arc::new(Inner {
                stage: stage.clone(),
                path: path.into(),
                strategy: Strategy::OneForOne,
                intensity: Intensity::default(),
                parent: None,
                state: Mutex::default(),
                stop_on_drop: true,
            }),
        }
    }

    /// Starts an actor in this group, on the stage's next arbiter.
    pub fn spawn<A>(&self, props: Props<A>) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
    {
        self.inner.stage.spawn_in(props, self)
    }

    /// Stops every actor of the group, the last started first.
    pub fn stop(&self) {
        stop_children(&mut self.inner.state.lock());
    }

    pub(crate) fn downgrade(&self) -> WeakGroup {
        WeakGroup { inner: Arc::downgrade(&self.inner) }
    }

    pub(crate) fn enrol(&self, path: Arc<str>, child: ControlHandle) {
        let mut state = self.inner.state.lock();
        if state.stopped {
            child.order(Control::Stop);
            return;
        }
        state.children.retain(|(_, c)| !c.is_gone());
        state.children.push((path, child));
    }

    /// Decides after a failure of one child, and orders its siblings about.
    fn failed(&self, path: &str) -> Verdict {
        let now = Instant::now();
        let (pause, escalate) = {
            let mut state = self.inner.state.lock();
            if state.stopped {
                return Verdict::Stop;
            }
            while state.failures.front().is_some_and(|t| now.duration_since(*t) > self.inner.intensity.window)
            {
                state.failures.pop_front();
            }
            state.failures.push_back(now);
            let escalate = state.failures.len() > self.inner.intensity.restarts_max;
            if state.failures.len() > self.inner.intensity.restarts_max + 16 {
                state.failures.pop_front();
            }
            let pause = backoff(state.failures.len() - 1).mul_f64(crate::random::jitter(0.2));
            let strategy = if escalate { Strategy::OneForAll } else { self.inner.strategy };
            let at = state.children.iter().position(|(p, _)| &**p == path);
            let restarted = match (strategy, at) {
                (Strategy::OneForOne, _) | (_, None) => 0..0,
                (Strategy::RestForOne, Some(at)) => at + 1..state.children.len(),
                (Strategy::OneForAll, Some(_)) => 0..state.children.len(),
            };
            for (sibling, control) in &state.children[restarted] {
                if &**sibling != path {
                    control.order(Control::Restart);
                }
            }
            (pause, escalate)
        };
        if !escalate {
            return Verdict::RestartAfter(pause);
        }
        self.inner.stage.escalated(&self.inner.path);
        match &self.inner.parent {
            // The parent sees the whole group as its failed child; its verdict holds for the group.
            Some(parent) => match parent.failed(&self.inner.path) {
                Verdict::RestartAfter(longer) => Verdict::RestartAfter(longer.max(pause)),
                Verdict::Stop => Verdict::Stop,
            },
            None => Verdict::RestartAfter(BACKOFF_MAX.mul_f64(crate::random::jitter(0.2))),
        }
    }
}

/// A cell's view of its group: it does not keep the group alive.
#[derive(Clone)]
pub(crate) struct WeakGroup {
    inner: Weak<Inner>,
}

impl WeakGroup {
    pub(crate) fn failed(&self, path: &str) -> Verdict {
        match self.inner.upgrade() {
            Some(inner) => Group { inner }.failed(path),
            None => Verdict::Stop,
        }
    }
}
