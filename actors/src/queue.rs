//! A work queue of keys: what a reconciler works off.
//!
//! A key is queued once however often it is added, is never handed out twice at a time, and comes back
//! after a failure with a growing pause. Adding a key while it is worked on queues it again for afterwards.
//! The queue is plain data on the actor that owns it: the actor's timers tell it the time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::time::Instant;
use crate::trace::{CAUSES_MAX, TraceContext};

/// Pause after a key's first failure; doubles with each further one.
pub const RETRY_MIN: Duration = Duration::from_millis(5);
/// Longest pause between a key's failures.
pub const RETRY_MAX: Duration = Duration::from_secs(1000);

/// A key to work on, with what woke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work<K> {
    /// What to work on.
    pub key: K,
    /// The messages that asked for it, oldest first, at most [`CAUSES_MAX`].
    pub causes: Vec<TraceContext>,
    /// How long it waited since it was first added.
    pub waited: Duration,
}

struct Waiting {
    causes: Vec<TraceContext>,
    since: Instant,
}

/// The queue. See the module.
pub struct WorkQueue<K> {
    ready: VecDeque<K>,
    /// Every key that is ready or, while in progress, to be queued again.
    waiting: HashMap<K, Waiting>,
    in_progress: HashSet<K>,
    /// Keys that come later: by time and, for look-up, by key.
    later: BTreeSet<(Instant, K)>,
    due: HashMap<K, (Instant, TraceContext)>,
    failures: HashMap<K, u32>,
    adds: u64,
    retries: u64,
}

impl<K: Clone + Eq + Hash + Ord> Default for WorkQueue<K> {
    fn default() -> Self {
        WorkQueue {
            ready: VecDeque::new(),
            waiting: HashMap::new(),
            in_progress: HashSet::new(),
            later: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            adds: 0,
            retries: 0,
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for work on `key`.
    pub fn add(&mut self, key: K, cause: TraceContext) {
        self.adds += 1;
        let fresh = !self.waiting.contains_key(&key);
        let entry = self
            .waiting
            .entry(key.clone())
            .or_insert_with(|| Waiting { causes: Vec::new(), since: Instant::now() });
        if !cause.is_none() && entry.causes.len() < CAUSES_MAX && !entry.causes.contains(&cause) {
            entry.causes.push(cause);
        }
        if fresh && !self.in_progress.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Asks for work on `key` after a pause; an earlier time that stands already wins.
    pub fn add_after(&mut self, key: K, pause: Duration, cause: TraceContext) {
        let at = Instant::now() + pause;
        match self.due.get(&key) {
            Some((standing, _)) if *standing <= at => return,
            Some((standing, _)) => {
                self.later.remove(&(*standing, key.clone()));
            }
            None => {}
        }
        self.later.insert((at, key.clone()));
        self.due.insert(key, (at, cause));
    }

    /// The next key to work on, if one is ready. It is in progress until [`WorkQueue::done`].
    pub fn take(&mut self) -> Option<Work<K>> {
        self.promote(Instant::now());
        let key = self.ready.pop_front()?;
        let waiting = self.waiting.remove(&key)?;
        self.in_progress.insert(key.clone());
        Some(Work { key, causes: waiting.causes, waited: waiting.since.elapsed() })
    }

    /// When the next delayed key becomes ready; `None` when none is delayed.
    pub fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    fn promote(&mut self, now: Instant) {
        while let Some((at, _)) = self.later.first() {
            if *at > now {
                break;
            }
            if let Some((_, key)) = self.later.pop_first() {
                let cause = self.due.remove(&key).map(|(_, cause)| cause).unwrap_or_default();
                self.add(key, cause);
            }
        }
    }

    /// Work on `key` has ended well: its failures are forgotten.
    pub fn done(&mut self, key: &K) {
        self.failures.remove(key);
        self.release(key);
    }

    /// Work on `key` has failed: it comes back after a growing pause, which is returned.
    pub fn failed(&mut self, key: &K, cause: TraceContext) -> Duration {
        self.retries += 1;
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let pause = RETRY_MIN.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(RETRY_MAX);
        *failures = failures.saturating_add(1).min(31);
        self.release(key);
        self.add_after(key.clone(), pause, cause);
        pause
    }

    fn release(&mut self, key: &K) {
        if self.in_progress.remove(key) && self.waiting.contains_key(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// Keys ready to be worked on.
    pub fn depth(&self) -> usize {
        self.ready.len()
    }

    /// Keys being worked on.
    pub fn in_progress(&self) -> usize {
        self.in_progress.len()
    }

    /// How often keys were asked for, and how often they failed, since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.adds, self.retries)
    }
}
