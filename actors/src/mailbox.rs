//! A mailbox: two bounded lanes, and one waiting message per key where the message type asks for that.
//!
//! actix's own mailbox neither bounds what it holds nor tells its depth, and it dies with a panic. This one
//! outlives the actor that reads it, so a restart loses only the message that failed.

use std::any::TypeId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use actix::Actor;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, TryAcquireError};

use crate::time::Instant;
use crate::trace::TraceContext;

/// A message on its way, with what delivering it needs.
pub(crate) trait Deliver<A: Actor>: Send {
    /// Hands the message to the actor.
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut A::Context);
    /// When it was sent.
    fn enqueued(&self) -> Instant;
    /// The key under which equal waiting messages are one.
    fn coalesce_key(&self) -> Option<(TypeId, Arc<str>)>;
    /// Another message of the same key was sent while this one waits.
    fn add_cause(&mut self, cause: TraceContext);
}

pub(crate) type Envelope<A> = Box<dyn Deliver<A>>;

/// Which lane a message takes. Control messages overtake ordinary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    High,
    Normal,
}

struct Queues<A: Actor> {
    high: VecDeque<Envelope<A>>,
    normal: VecDeque<Envelope<A>>,
    /// Sequence number of `normal`'s front.
    normal_front: u64,
    /// Where the waiting message of a key stands in `normal`.
    waiting: HashMap<(TypeId, Arc<str>), u64>,
}

pub(crate) struct Mailbox<A: Actor> {
    queues: Mutex<Queues<A>>,
    room: Semaphore,
    high_room: Semaphore,
    capacity: usize,
    reader: AtomicWaker,
    closed: AtomicBool,
    taken: AtomicU64,
}

/// Room in the high lane of every mailbox.
const HIGH_CAPACITY: usize = 64;

pub(crate) enum Refused {
    Full,
    Closed,
}

/// The actor has stopped for good.
pub(crate) struct Closed;

/// A mailbox as the actor system sees it: whatever actor it belongs to.
pub(crate) trait Inspect: Send + Sync {
    /// Messages waiting, in both lanes.
    fn depth(&self) -> usize;
    /// Room in the normal lane, in messages.
    fn capacity(&self) -> usize;
    /// How long the oldest waiting message has waited.
    fn oldest_wait(&self) -> Duration;
    /// Messages taken out so far: progress.
    fn taken(&self) -> u64;
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(capacity: usize) -> Self {
        Mailbox {
            queues: Mutex::new(Queues {
                high: VecDeque::new(),
                normal: VecDeque::new(),
                normal_front: 0,
                waiting: HashMap::new(),
            }),
            room: Semaphore::new(capacity),
            high_room: Semaphore::new(HIGH_CAPACITY),
            capacity,
            reader: AtomicWaker::new(),
            closed: AtomicBool::new(false),
            taken: AtomicU64::new(0),
        }
    }

    fn room(&self, lane: Lane) -> &Semaphore {
        match lane {
            Lane::High => &self.high_room,
            Lane::Normal => &self.room,
        }
    }

    /// Waits for room and puts the envelope in. Cancelling the wait sends nothing.
    pub(crate) async fn send<D: Deliver<A> + 'static>(
        &self,
        lane: Lane,
        envelope: Box<D>,
    ) -> Result<(), Closed> {
        if self.joins_waiting(lane, &*envelope) {
            return Ok(());
        }
        let permit = self.room(lane).acquire().await.map_err(|_| Closed)?;
        permit.forget();
        self.put(lane, envelope).map_err(|_| Closed)
    }

    /// Puts the envelope in if there is room now; otherwise gives it back.
    pub(crate) fn try_send<D: Deliver<A> + 'static>(
        &self,
        lane: Lane,
        envelope: Box<D>,
    ) -> Result<(), (Refused, Box<D>)> {
        if self.joins_waiting(lane, &*envelope) {
            return Ok(());
        }
        match self.room(lane).try_acquire() {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => return Err((Refused::Closed, envelope)),
            Err(TryAcquireError::NoPermits) => return Err((Refused::Full, envelope)),
        }
        self.put(lane, envelope)
    }

    /// Lets an equal message that waits already stand for this one.
    fn joins_waiting(&self, lane: Lane, envelope: &dyn Deliver<A>) -> bool {
        if lane == Lane::High {
            return false;
        }
        let Some(key) = envelope.coalesce_key() else { return false };
        let mut queues = self.queues.lock();
        let Some(at) = queues.waiting.get(&key).copied() else { return false };
        let place = (at - queues.normal_front) as usize;
        match queues.normal.get_mut(place) {
            Some(waiting) => {
                waiting.add_cause(crate::trace::current());
                true
            }
            None => false,
        }
    }

    fn put<D: Deliver<A> + 'static>(&self, lane: Lane, envelope: Box<D>) -> Result<(), (Refused, Box<D>)> {
        {
            let mut queues = self.queues.lock();
            // Checked under the lock: close() drains under it, so nothing is put behind its back.
            if self.closed.load(Ordering::Acquire) {
                return Err((Refused::Closed, envelope));
            }
            match lane {
                Lane::High => queues.high.push_back(envelope),
                Lane::Normal => {
                    if let Some(key) = envelope.coalesce_key() {
                        let at = queues.normal_front + queues.normal.len() as u64;
                        queues.waiting.insert(key, at);
                    }
                    queues.normal.push_back(envelope);
                }
            }
        }
        self.reader.wake();
        Ok(())
    }

    /// Takes the next message: the high lane first.
    pub(crate) fn take(&self) -> Option<Envelope<A>> {
        let mut queues = self.queues.lock();
        let (envelope, room) = if let Some(envelope) = queues.high.pop_front() {
            (envelope, &self.high_room)
        } else {
            let envelope = queues.normal.pop_front()?;
            let at = queues.normal_front;
            queues.normal_front += 1;
            if let Some(key) = envelope.coalesce_key()
                && queues.waiting.get(&key) == Some(&at)
            {
                queues.waiting.remove(&key);
            }
            (envelope, &self.room)
        };
        drop(queues);
        room.add_permits(1);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(envelope)
    }

    /// Whom to wake when a message comes.
    pub(crate) fn register(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// Refuses further messages and drops those that wait, whose askers see `Closed`. Returns how many.
    pub(crate) fn close(&self) -> usize {
        let dropped = {
            let mut queues = self.queues.lock();
            self.closed.store(true, Ordering::Release);
            queues.waiting.clear();
            let mut dropped = std::mem::take(&mut queues.high);
            dropped.append(&mut queues.normal);
            dropped
        };
        self.room.close();
        self.high_room.close();
        dropped.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl<A: Actor> Inspect for Mailbox<A> {
    fn depth(&self) -> usize {
        let queues = self.queues.lock();
        queues.high.len() + queues.normal.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn oldest_wait(&self) -> Duration {
        let queues = self.queues.lock();
        let oldest = [queues.high.front(), queues.normal.front()];
        oldest.into_iter().flatten().map(|e| e.enqueued().elapsed()).max().unwrap_or(Duration::ZERO)
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
