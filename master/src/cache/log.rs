//! The change log of one kind, and the cursors in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Cache, Change, ChangeKind, Stored};

/// Changes of a kind that are kept at most.
const COUNT_MAX: usize = 16_384;
/// Bytes of a kind's changes that are kept at most.
const BYTES_MAX: usize = 8 << 20;
/// Bytes of all kinds' changes together, beyond which a growing log gives up its oldest changes.
const TOTAL_BYTES_MAX: usize = 16 << 20;
/// Changes younger than this are kept unless a limit is hit; a client that was away for less can go on.
const AGE: Duration = Duration::from_secs(300);
/// This many changes are kept whatever their age.
const COUNT_MIN: usize = 64;
/// Changes handed out at once.
const HAND_OUT: usize = 512;

/// The budget that all logs of a cache share.
#[derive(Default)]
pub(super) struct LogShare {
    bytes: AtomicUsize,
}

/// The recent changes of one kind.
pub(super) struct KindLog {
    entries: Mutex<Entries>,
    /// The newest revision that this kind was woken for.
    newest: watch::Sender<u64>,
    share: Arc<LogShare>,
}

struct Entries {
    changes: VecDeque<(Change, Instant)>,
    bytes: usize,
    /// Every change after this revision is here.
    complete_after: u64,
}

impl KindLog {
    pub(super) fn new(begins: u64, share: Arc<LogShare>) -> Self {
        let entries = Entries { changes: VecDeque::new(), bytes: 0, complete_after: begins };
        KindLog { entries: Mutex::new(entries), newest: watch::Sender::new(begins), share }
    }

    /// Says at which revision the cache was loaded first.
    pub(super) fn begin(&self, revision: u64) {
        self.entries.lock().complete_after = revision;
        self.newest.send_replace(revision);
    }

    pub(super) fn push(&self, change: Change) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let size = size(&change);
        entries.bytes += size;
        let mut total = self.share.bytes.fetch_add(size, Ordering::Relaxed) + size;
        entries.changes.push_back((change, now));
        while let Some((oldest, at)) = entries.changes.front() {
            let count = entries.changes.len();
            let over = count > COUNT_MAX || entries.bytes > BYTES_MAX;
            let dispensable = count > COUNT_MIN && (total > TOTAL_BYTES_MAX || now - *at > AGE);
            // The newest change always stays: it is about to be handed out.
            if count == 1 || !(over || dispensable) {
                break;
            }
            let (revision, size) = (oldest.revision, self::size(oldest));
            entries.changes.pop_front();
            entries.bytes -= size;
            entries.complete_after = revision;
            total = self.share.bytes.fetch_sub(size, Ordering::Relaxed) - size;
        }
    }

    pub(super) fn wake(&self, revision: u64) {
        self.newest.send_replace(revision);
    }

    /// Whole revisions after `after` and up to `until`, about [`HAND_OUT`] changes; and the revision
    /// that the reader has reached with them.
    fn read(&self, after: u64, until: u64) -> Result<(Vec<Change>, u64), Gone> {
        let entries = self.entries.lock();
        if after < entries.complete_after {
            return Err(Gone { asked: after, oldest: entries.complete_after });
        }
        let from = entries.changes.partition_point(|(change, _)| change.revision <= after);
        let mut read: Vec<Change> = Vec::new();
        for (change, _) in entries.changes.range(from..) {
            if change.revision > until {
                break;
            }
            if read.len() >= HAND_OUT && read.last().is_some_and(|last| last.revision != change.revision) {
                let reached = read.last().map_or(after, |last| last.revision);
                return Ok((read, reached));
            }
            read.push(change.clone());
        }
        Ok((read, until.max(after)))
    }
}

/// What a change holds that nothing else does, roughly: the object that it replaced.
fn size(change: &Change) -> usize {
    64 + change.previous.as_ref().map_or(0, |previous| previous.size())
        + if change.kind == ChangeKind::Deleted { change.stored.size() } else { 0 }
}

/// The changes that were asked for are not kept any more: list again, and watch from there (410 Gone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Gone {
    /// The revision asked for.
    pub asked: u64,
    /// The oldest revision from which the log is complete.
    pub oldest: u64,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// With changes after this revision.
    Revision(u64),
    /// With changes from now on.
    Now,
    /// With everything that exists, as additions, and then changes.
    InitialState,
}

/// A watch on one kind: a position in its log.
pub struct Cursor {
    cache: Cache,
    log: Arc<KindLog>,
    newest: watch::Receiver<u64>,
    /// Key prefix of what is followed.
    within: String,
    position: u64,
    initial: Option<Vec<Arc<Stored>>>,
}

impl Cursor {
    pub(super) fn open(
        cache: Cache,
        log: Arc<KindLog>,
        within: String,
        from: WatchFrom,
    ) -> Result<Self, Gone> {
        let newest = log.newest.subscribe();
        let snapshot = cache.snapshot();
        let mut initial = None;
        let position = match from {
            WatchFrom::Revision(revision) => {
                log.read(revision, revision)?;
                revision
            }
            WatchFrom::Now => snapshot.revision(),
            WatchFrom::InitialState => {
                let kind = super::kind_prefix(&within).and_then(|prefix| snapshot.kinds.get(prefix));
                let start: Arc<str> = within.as_str().into();
                let objects = kind.into_iter().flat_map(|kind| kind.objects.range(start.clone()..));
                let objects = objects.map(|(_, stored)| stored).take_while(|s| s.key.starts_with(&within));
                initial = Some(objects.cloned().collect());
                snapshot.revision()
            }
        };
        Ok(Cursor { cache, log, newest, within, position, initial })
    }

    /// Everything up to this revision was handed out: what a bookmark may say.
    pub fn revision(&self) -> u64 {
        self.position
    }

    /// The next changes, in revision order, waiting for some. The first answer of a cursor opened at
    /// [`WatchFrom::InitialState`] is the initial state, and may be empty.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Change>, Gone> {
        if let Some(initial) = self.initial.take() {
            let added = |stored: Arc<Stored>| Change {
                kind: ChangeKind::Added,
                revision: stored.revision,
                trace: stored.trace,
                stored,
                previous: None,
            };
            return Ok(initial.into_iter().map(added).collect());
        }
        loop {
            self.newest.borrow_and_update();
            let changes = self.ready()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            // The sender lives in `self.log`.
            let _ = self.newest.changed().await;
        }
    }

    /// The changes that are there already; empty when there are none.
    pub fn ready(&mut self) -> Result<Vec<Change>, Gone> {
        loop {
            let until = self.cache.revision();
            if until <= self.position {
                return Ok(Vec::new());
            }
            let (mut changes, reached) = self.log.read(self.position, until)?;
            self.position = reached;
            let done = changes.is_empty();
            changes.retain(|change| change.stored.key.starts_with(&self.within));
            if done || !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}
