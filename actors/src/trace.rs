//! Causality: which message made which other message happen.
//!
//! Every message has an id; every handler, and every future that a handler starts, runs "under" the
//! message that caused it. The context travels in envelopes, in stored objects and in link frames, so a
//! chain of causes never breaks. Each thread writes its finished messages into a bounded ring of its own;
//! [`find`] reads them all.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use serde::{Deserialize, Serialize};

use crate::time;

/// Records that each thread's ring holds before it forgets the oldest.
pub const RING_RECORDS_MAX: usize = 8192;

/// Causes that one record keeps beside its first; further ones are dropped.
pub const CAUSES_MAX: usize = 8;

/// The position of a message in its causal chain. The default value means "no known cause".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    /// The chain: the same for everything that one root message caused (a W3C trace id).
    pub trace: u128,
    /// The message within it, unique in the cluster.
    pub message: u64,
}

impl TraceContext {
    /// Whether there is no known cause.
    pub fn is_none(&self) -> bool {
        self.trace == 0
    }

    /// The context of a new message caused by this one; begins a new chain where this one is empty.
    pub fn child(&self) -> TraceContext {
        self.child_at(time::Instant::now())
    }

    /// Like [`child`](Self::child), where the time is known already.
    pub(crate) fn child_at(&self, now: time::Instant) -> TraceContext {
        let message = next_message_id();
        let trace = if self.trace == 0 { new_trace(message, now) } else { self.trace };
        TraceContext { trace, message }
    }

    /// Reads a W3C `traceparent` header; `None` when it is malformed.
    pub fn from_traceparent(header: &str) -> Option<TraceContext> {
        let mut parts = header.trim().split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|t| *t != 0)?;
        let message = u64::from_str_radix(span, 16).ok().filter(|m| *m != 0)?;
        Some(TraceContext { trace, message })
    }

    /// The W3C `traceparent` header of this context.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.message)
    }
}

/// How the handling of a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Still being handled.
    Running,
    /// The handler returned.
    Ok,
    /// The handler, or the step, reported a failure.
    Failed,
    /// The handler panicked.
    Panicked,
}

/// One message, or one step that is not a message, as the ring keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The message.
    pub context: TraceContext,
    /// The message that caused it; 0 for a root.
    pub parent: u64,
    /// Further causes: a reconcile woken by several changes has several.
    pub causes: Vec<TraceContext>,
    /// Path of the sending actor; empty where it was not an actor.
    pub from: Arc<str>,
    /// Path of the receiving actor, or the name of the step's place.
    pub to: Arc<str>,
    /// Message type.
    pub kind: Arc<str>,
    /// The object it was about.
    pub key: Option<Arc<str>>,
    /// When it was sent, µs since the Unix epoch.
    pub enqueued_us: u64,
    /// How long it waited in the mailbox, µs.
    pub wait_us: u64,
    /// How long handling took, futures that the handler started included, µs.
    pub handling_us: u64,
    /// How it ended.
    pub outcome: Outcome,
}

thread_local! {
    static CURRENT: Cell<TraceContext> = const { Cell::new(TraceContext { trace: 0, message: 0 }) };
    static RING: OnceCell<Arc<Mutex<Ring>>> = const { OnceCell::new() };
}

static RINGS: Mutex<Vec<Arc<Mutex<Ring>>>> = Mutex::new(Vec::new());
static COUNTER: AtomicU64 = AtomicU64::new(1);
static INSTANCE: OnceLock<u64> = OnceLock::new();

fn instance() -> u64 {
    *INSTANCE.get_or_init(|| u64::from(rand::random::<u32>() & 0xff_ffff) << 40)
}

/// A message id that no other message in the cluster has: 24 random bits of this process, then a counter.
pub fn next_message_id() -> u64 {
    instance() | (COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff_ffff_ffff)
}

fn new_trace(message: u64, now: time::Instant) -> u128 {
    (u128::from(instance() >> 40 | 1) << 96)
        | (u128::from(time::wall_us_at(now)) << 32)
        | u128::from(message as u32)
}

/// The message under which the calling code runs.
pub fn current() -> TraceContext {
    CURRENT.get()
}

/// Runs `f` under `context`.
pub fn sync_under<R>(context: TraceContext, f: impl FnOnce() -> R) -> R {
    let _guard = enter(context);
    f()
}

/// Makes `context` the current one until the guard drops.
pub(crate) fn enter(context: TraceContext) -> Entered {
    Entered { previous: CURRENT.replace(context) }
}

pub(crate) struct Entered {
    previous: TraceContext,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.previous);
    }
}

pin_project! {
    /// A future that runs under a fixed context, restored at every poll.
    pub struct Under<F> {
        #[pin]
        inner: F,
        context: TraceContext,
    }
}

impl<F: Future> Future for Under<F> {
    type Output = F::Output;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _guard = enter(*this.context);
        this.inner.poll(cx)
    }
}

/// Runs a future under `context`, whoever polls it.
pub fn under<F: Future>(context: TraceContext, inner: F) -> Under<F> {
    Under { inner, context }
}

/// Records work that is no message (an API request, a container call) as a step of the current chain, and
/// runs it under that step. `failed` tells from the output whether it failed.
pub async fn step<F: Future>(
    place: &str,
    kind: &str,
    key: Option<Arc<str>>,
    failed: impl FnOnce(&F::Output) -> bool,
    work: F,
) -> F::Output {
    step_caused_by(current(), place, kind, key, failed, work).await
}

/// Like [`step`], with an explicit cause (a `traceparent`, a stored object's writer).
pub async fn step_caused_by<F: Future>(
    cause: TraceContext,
    place: &str,
    kind: &str,
    key: Option<Arc<str>>,
    failed: impl FnOnce(&F::Output) -> bool,
    work: F,
) -> F::Output {
    let context = cause.child();
    let started = time::Instant::now();
    let slot = push(Record {
        context,
        parent: cause.message,
        causes: Vec::new(),
        from: "".into(),
        to: place.into(),
        kind: kind.into(),
        key,
        enqueued_us: time::wall_us(),
        wait_us: 0,
        handling_us: 0,
        outcome: Outcome::Running,
    });
    let slot = SlotGuard { slot: Some(slot), started };
    let output = under(context, work).await;
    slot.end(if failed(&output) { Outcome::Failed } else { Outcome::Ok });
    output
}

/// Records something that happened at once (an event taken off a link) as a step below `cause`, and returns
/// the context for what follows from it. Nothing is recorded where there is no cause.
pub fn note(cause: TraceContext, place: &str, kind: &str, key: Option<Arc<str>>) -> TraceContext {
    if cause.is_none() {
        return cause;
    }
    let context = cause.child();
    push(Record {
        context,
        parent: cause.message,
        causes: Vec::new(),
        from: "".into(),
        to: place.into(),
        kind: kind.into(),
        key,
        enqueued_us: time::wall_us(),
        wait_us: 0,
        handling_us: 0,
        outcome: Outcome::Ok,
    });
    context
}

/// Ends a step's record even when its future is dropped half way.
struct SlotGuard {
    slot: Option<Slot>,
    started: time::Instant,
}

impl SlotGuard {
    fn end(mut self, outcome: Outcome) {
        if let Some(slot) = self.slot.take() {
            slot.finish(self.started.elapsed().as_micros() as u64, outcome);
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.finish(self.started.elapsed().as_micros() as u64, Outcome::Failed);
        }
    }
}

struct Ring {
    records: Vec<Record>,
    /// Sequence number of the next record; `records[seq % RING_RECORDS_MAX]` is its place.
    next: u64,
}

/// Where a record was put, so that it can be completed later.
#[derive(Clone)]
pub(crate) struct Slot {
    ring: Arc<Mutex<Ring>>,
    sequence: u64,
}

impl Slot {
    /// Completes the record, unless the ring has gone round since.
    pub(crate) fn finish(&self, handling_us: u64, outcome: Outcome) {
        let mut ring = self.ring.lock();
        if self.sequence + RING_RECORDS_MAX as u64 >= ring.next {
            let place = (self.sequence % RING_RECORDS_MAX as u64) as usize;
            if let Some(record) = ring.records.get_mut(place) {
                record.handling_us = handling_us;
                record.outcome = outcome;
            }
        }
    }
}

/// Adds a record to this thread's ring.
pub(crate) fn push(record: Record) -> Slot {
    RING.with(|cell| {
        let ring = cell.get_or_init(|| {
            let ring = Arc::new(Mutex::new(Ring { records: Vec::new(), next: 0 }));
            let mut rings = RINGS.lock();
            // A thread's ring outlives it, so that its last messages can still be asked for; only a bounded
            // number of them does.
            if rings.len() >= 64 {
                rings.remove(0);
            }
            rings.push(ring.clone());
            ring
        });
        let mut guard = ring.lock();
        let sequence = guard.next;
        guard.next += 1;
        let place = (sequence % RING_RECORDS_MAX as u64) as usize;
        if place < guard.records.len() {
            guard.records[place] = record;
        } else {
            guard.records.push(record);
        }
        Slot { ring: ring.clone(), sequence }
    })
}

/// All records that `wanted` accepts, oldest first, at most `limit` (the newest ones are kept).
pub fn find(limit: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
    let rings: Vec<_> = RINGS.lock().clone();
    let mut found = Vec::new();
    for ring in rings {
        let ring = ring.lock();
        found.extend(ring.records.iter().filter(|r| wanted(r)).cloned());
    }
    found.sort_by_key(|r| (r.enqueued_us, r.context.message));
    if found.len() > limit {
        found.drain(..found.len() - limit);
    }
    found
}
