//! The actor system: arbiters, the registry of live actors, metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, Arbiter, ArbiterHandle};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::cell;
use crate::context::Context;
use crate::mailbox::{Inspect, Mailbox};
use crate::metrics::{Metrics, exposition};
use crate::reference::ActorRef;
use crate::supervision::{Control, ControlHandle, Group, Intensity, Props, Strategy};
use crate::time::Instant;

/// An actor waits, with messages waiting for it and none taken, this long before it is reported as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A handle to an actor system. Cloning shares it.
#[derive(Clone)]
pub struct Stage {
    inner: Arc<Inner>,
}

pub(crate) struct WeakStage(Weak<Inner>);

impl WeakStage {
    pub(crate) fn upgrade(&self) -> Option<Stage> {
        self.0.upgrade().map(|inner| Stage { inner })
    }
}

struct Inner {
    /// Where actors run; empty means on the thread that spawns them (tests on virtual time).
    arbiters: Vec<ArbiterHandle>,
    next: AtomicUsize,
    cells: Mutex<BTreeMap<Arc<str>, Entry>>,
    metrics: Arc<Metrics>,
}

struct Entry {
    stats: Arc<CellStats>,
    mailbox: Arc<dyn Inspect>,
    control: ControlHandle,
}

/// What is counted of one actor, across its restarts.
pub(crate) struct CellStats {
    pub(crate) path: Arc<str>,
    pub(crate) class: Arc<str>,
    pub(crate) restarts: AtomicU32,
    /// Actors that wait for an answer of this one, for longer than a turn.
    askers: Mutex<Vec<Arc<str>>>,
    metrics: Arc<Metrics>,
}

/// An edge of who waits for whom, while it lives.
pub(crate) struct Awaited<'a> {
    of: &'a CellStats,
    by: Arc<str>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut askers = self.of.askers.lock();
        if let Some(at) = askers.iter().position(|a| *a == self.by) {
            askers.swap_remove(at);
        }
    }
}

impl CellStats {
    /// Notes that an actor waits for this one's answer; nothing where it is no actor that waits.
    pub(crate) fn awaited_by(&self, by: Arc<str>) -> Option<Awaited<'_>> {
        if by.is_empty() {
            return None;
        }
        self.askers.lock().push(by.clone());
        Some(Awaited { of: self, by })
    }

    pub(crate) fn rejected(&self) {
        self.metrics.rejected(&self.class);
    }
    pub(crate) fn dead_letter(&self) {
        self.metrics.dead_letters(&self.class, 1);
    }
}

/// One live actor, as `troupe actors` shows it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ActorInfo {
    /// Where it stands in the tree.
    pub path: Arc<str>,
    /// Its path without the instance.
    pub class: Arc<str>,
    /// Messages waiting.
    pub depth: usize,
    /// Room in its mailbox, in messages.
    pub capacity: usize,
    /// Wait of the oldest waiting message.
    pub oldest_wait: Duration,
    /// Messages handled since it was first started.
    pub handled: u64,
    /// Times it was rebuilt.
    pub restarts: u32,
    /// Actors that wait for an answer of this one: a circle of these waits until its first deadline.
    pub awaited_by: Vec<Arc<str>>,
}

impl Stage {
    /// A stage on `arbiters` threads of its own. Needs a running actix `System`.
    pub fn new(arbiters: usize) -> Self {
        Self::on((0..arbiters).map(|_| Arbiter::new().handle()).collect())
    }

    /// A stage on the calling thread, for tests on virtual time and one-arbiter programs. Actors must be
    /// spawned from within a `LocalSet` (an actix `System` has one).
    pub fn local() -> Self {
        Self::on(Vec::new())
    }

    fn on(arbiters: Vec<ArbiterHandle>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let stage = Stage {
            inner: Arc::new(Inner {
                arbiters,
                next: AtomicUsize::new(0),
                cells: Mutex::default(),
                metrics: metrics.clone(),
            }),
        };
        metrics.collect_cells(WeakStage(Arc::downgrade(&stage.inner)));
        stage
    }

    /// An outermost supervisor.
    pub fn group(&self, path: &str, strategy: Strategy) -> Group {
        Group::new(self, path, strategy, Intensity::default(), None)
    }

    /// Starts an actor under a supervisor of its own, on the next arbiter.
    pub fn spawn<A>(&self, props: Props<A>) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let group = self.group(&props.path(), Strategy::OneForOne);
        // The cell keeps it alive: nobody else has a handle to this group.
        self.place(props, &group, Some(group.clone()))
    }

    /// Starts an actor under a supervisor of its own, on the calling thread: next to what it works with, such as a
    /// connection whose tasks run here, so that a message to it is the only change of threads on the way.
    pub fn spawn_here<A>(&self, props: Props<A>) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
    {
        self.spawn_local(props, None)
    }

    pub(crate) fn spawn_in<A>(&self, props: Props<A>, group: &Group) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
    {
        self.place(props, group, None)
    }

    fn place<A>(&self, props: Props<A>, group: &Group, keep: Option<Group>) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let (reference, start) = self.prepare(props, group, keep);
        let arbiters = &self.inner.arbiters;
        if arbiters.is_empty() {
            start();
        } else {
            let at = self.inner.next.fetch_add(1, Ordering::Relaxed) % arbiters.len();
            if !arbiters[at].spawn_fn(start) {
                tracing::error!(actor = %reference.path(), "not started: its arbiter has stopped");
            }
        }
        reference
    }

    /// Starts an actor on the calling thread.
    pub(crate) fn spawn_local<A>(&self, props: Props<A>, group: Option<&Group>) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let own;
        let (group, keep) = match group {
            Some(group) => (group, None),
            None => {
                own = self.group(&props.path(), Strategy::OneForOne);
                (&own, Some(own.clone()))
            }
        };
        let (reference, start) = self.prepare(props, group, keep);
        start();
        reference
    }

    fn prepare<A>(
        &self,
        props: Props<A>,
        group: &Group,
        keep: Option<Group>,
    ) -> (ActorRef<A>, impl FnOnce() + Send + 'static)
    where
        A: Actor<Context = Context<A>>,
    {
        let mut path = props.path();
        let (control, orders) = ControlHandle::new();
        let mailbox = Arc::new(Mailbox::new(props.capacity));
        let stats = {
            let mut cells = self.inner.cells.lock();
            // Two live actors never share a path: the later one gets a number.
            let mut number = 2;
            while cells.contains_key(&path) {
                path = format!("{}#{number}", props.path()).into();
                number += 1;
            }
            let stats = Arc::new(CellStats {
                path: path.clone(),
                class: props.class.clone(),
                restarts: AtomicU32::new(0),
                askers: Mutex::default(),
                metrics: self.inner.metrics.clone(),
            });
            let entry = Entry { stats: stats.clone(), mailbox: mailbox.clone(), control: control.clone() };
            cells.insert(path.clone(), entry);
            stats
        };
        group.enrol(path, control.clone());
        let reference = ActorRef { mailbox, stats, control };
        let plan = cell::Plan {
            props,
            me: reference.clone(),
            orders,
            group: group.downgrade(),
            stage: self.clone(),
            metrics: self.inner.metrics.clone(),
            keep,
            cause: crate::trace::current(),
        };
        (reference, move || cell::start(plan))
    }

    pub(crate) fn forget(&self, path: &Arc<str>) {
        self.inner.cells.lock().remove(path);
    }

    pub(crate) fn escalated(&self, group: &str) {
        tracing::error!(group, "actors fail more often than their supervisor bears; escalating");
        self.inner.metrics.escalated();
    }

    /// The live actors, by path.
    pub fn actors(&self) -> Vec<ActorInfo> {
        let cells = self.inner.cells.lock();
        cells
            .values()
            .map(|entry| ActorInfo {
                path: entry.stats.path.clone(),
                class: entry.stats.class.clone(),
                depth: entry.mailbox.depth(),
                capacity: entry.mailbox.capacity(),
                oldest_wait: entry.mailbox.oldest_wait(),
                handled: entry.mailbox.taken(),
                restarts: entry.stats.restarts.load(Ordering::Relaxed),
                awaited_by: {
                    let mut askers = entry.stats.askers.lock().clone();
                    askers.sort();
                    askers.dedup();
                    askers
                },
            })
            .collect()
    }

    /// Makes the actor at `path` panic, to see it rebuilt. False when there is none.
    pub fn inject_panic(&self, path: &str) -> bool {
        let control = self.inner.cells.lock().get(path).map(|entry| entry.control.clone());
        control.is_some_and(|control| control.order(Control::Panic))
    }

    /// Stops every actor and waits until they are gone, for at most `deadline`. Returns the paths of those
    /// that remain.
    pub async fn shut_down(&self, deadline: Duration) -> Vec<Arc<str>> {
        let until = Instant::now() + deadline;
        loop {
            let remaining: Vec<_> = {
                let cells = self.inner.cells.lock();
                cells.values().for_each(|entry| {
                    entry.control.order(Control::Stop);
                });
                cells.keys().cloned().collect()
            };
            if remaining.is_empty() || Instant::now() >= until {
                return remaining;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything counted, in OpenMetrics' text format.
    pub fn encode_metrics(&self) -> String {
        self.inner.metrics.encode()
    }

    /// Everything counted, with its media type: OpenMetrics' text for those whose `Accept` names it, Prometheus' older
    /// format for others.
    pub fn exposition(&self, accept: &str) -> (&'static str, String) {
        exposition::negotiated(self.encode_metrics(), accept)
    }

    /// Adds metrics of one's own to the stage's.
    pub fn with_metrics<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        self.inner.metrics.with_registry(f)
    }

    /// Reports, once each, actors that take no message for [`STUCK_AFTER`] while some wait. Runs until
    /// dropped; start it once per program.
    pub async fn watch_for_stuck_actors(&self) {
        let mut seen: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        loop {
            tokio::time::sleep(STUCK_AFTER).await;
            let mut waiting = BTreeMap::new();
            for actor in self.actors() {
                if actor.depth == 0 {
                    continue;
                }
                if seen.get(&actor.path) == Some(&actor.handled) && actor.oldest_wait >= STUCK_AFTER {
                    tracing::warn!(actor = %actor.path, depth = actor.depth, oldest_wait = ?actor.oldest_wait,
                        "actor is stuck: messages wait and none is taken");
                }
                waiting.insert(actor.path, actor.handled);
            }
            seen = waiting;
        }
    }
}
