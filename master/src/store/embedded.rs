//! The embedded store: durable in one file (redb), for a control plane in one process.
//!
//! One task owns writing. It takes whatever waits in its bounded queue, does all of it in one database
//! commit on a blocking thread and then answers everyone: concurrent writers share one fsync. Nothing is
//! answered before it is durable. Reads go past the queue.
//!
//! Watches read a bounded list of recent batches in memory; a watch that is further back reads the history
//! from disk. No watcher has a queue of its own.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use redb::Database;
use redb::backends::InMemoryBackend;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{Batch, BatchStream, LeaseId, Range, RangeResult, Store, StoreError, Txn, TxnResult};

mod disk;

use disk::{Disk, Done, Opener, Work};

/// Writes that may wait; further writers wait for room.
const QUEUE_MAX: usize = 1024;
/// Writes that share one commit at most.
const GROUP_MAX: usize = 256;
/// Recent batches kept in memory for watches.
const RECENT_MAX: usize = 1024;
/// Bytes of recent values kept in memory for watches.
const RECENT_BYTES_MAX: usize = 4 << 20;
/// Changes that a watch far behind reads from disk at a time.
const CATCH_UP: usize = 512;
/// After a failure of the file.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// What redb may keep of the file in memory.
const PAGE_CACHE_BYTES: usize = 8 << 20;

/// The embedded store. Cheap to clone; the file is closed when the last clone and watch are gone.
#[derive(Clone)]
pub struct EmbeddedStore {
    disk: Arc<Disk>,
    writer: mpsc::Sender<(Job, oneshot::Sender<Result<Done, StoreError>>)>,
    recent: Arc<Recent>,
}

/// Work, or a lease's new time, which needs no commit.
enum Job {
    Work(Work),
    KeepAlive(LeaseId),
}

/// How long a file that is open elsewhere is waited for: a process that was killed a moment ago holds its
/// lock until the kernel has taken it apart.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Opens the file. Blocks.
#[expect(clippy::disallowed_methods, reason = "runs on a thread for blocking work, not on an arbiter")]
fn create(path: &Path) -> Result<Database, redb::DatabaseError> {
    let until = std::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match Database::builder().set_cache_size(PAGE_CACHE_BYTES).create(path) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) if std::time::Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

impl EmbeddedStore {
    /// Opens (or creates) the store in a file, and the folder that it lies in. Must be called within a tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        if let Some(folder) = path.parent() {
            let unavailable = |e| StoreError::Unavailable(format!("{}: {e}", folder.display()));
            tokio::fs::create_dir_all(folder).await.map_err(unavailable)?;
        }
        Self::opened_by(Box::new(move || create(&path))).await
    }

    /// A store that lives in memory only, for tests and simulations.
    pub async fn in_memory() -> Result<Self, StoreError> {
        // Memory cannot be opened a second time: what was in it is gone.
        let backend = Mutex::new(Some(InMemoryBackend::new()));
        let opener = move || match backend.lock().take() {
            Some(backend) => Database::builder().create_with_backend(backend),
            None => Err(redb::DatabaseError::Storage(redb::StorageError::PreviousIo)),
        };
        Self::opened_by(Box::new(opener)).await
    }

    async fn opened_by(opener: Opener) -> Result<Self, StoreError> {
        blocking(move || Disk::open(opener)).await.map(Self::start)
    }

    fn start((disk, opened): (Disk, disk::Opened)) -> Self {
        let disk = Arc::new(disk);
        let recent = Arc::new(Recent::new(opened.revision));
        let (writer, queue) = mpsc::channel(QUEUE_MAX);
        // A lease that outlived a restart gets its whole time again: its holder could not renew it.
        let now = Instant::now();
        let leases = opened.leases.into_iter().map(|(id, ttl)| (id, (ttl, now + ttl))).collect();
        tokio::spawn(Committer { disk: disk.clone(), recent: recent.clone(), leases }.run(queue));
        EmbeddedStore { disk, writer, recent }
    }

    async fn job(&self, job: Job) -> Result<Done, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("the store's writer has ended".to_owned());
        self.writer.send((job, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        let disk = self.disk.clone();
        blocking(move || disk.range(&range)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        txn.check()?;
        match self.job(Job::Work(Work::Txn(txn))).await? {
            Done::Txn(result) => result,
            other => Err(mismatch(&other)),
        }
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError> {
        let watch = Watch {
            disk: self.disk.clone(),
            newest: self.recent.newest.subscribe(),
            recent: self.recent.clone(),
            prefix: prefix.to_owned(),
            position: after_revision,
            ready: VecDeque::new(),
        };
        let batches = futures::stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(watch))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(batches.boxed())
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        match self.job(Job::Work(Work::Compact(revision))).await? {
            Done::Compacted(result) => result.map(drop),
            other => Err(mismatch(&other)),
        }
    }

    async fn current_revision(&self) -> Result<u64, StoreError> {
        let disk = self.disk.clone();
        blocking(move || disk.revision()).await
    }

    /// Nobody else writes to the file, and no writer has its answer before this shows its write.
    fn known_revision(&self) -> Option<u64> {
        Some(*self.recent.newest.borrow())
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        match self.job(Job::Work(Work::Grant(ttl))).await? {
            Done::Granted(lease, _) => Ok(lease),
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.job(Job::KeepAlive(lease)).await.map(drop)
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.job(Job::Work(Work::End(vec![lease]))).await? {
            Done::Ended(ended) if ended.is_empty() => Err(StoreError::LeaseNotFound(lease)),
            Done::Ended(_) => Ok(()),
            other => Err(mismatch(&other)),
        }
    }
}

fn mismatch(done: &Done) -> StoreError {
    StoreError::Invalid(format!("the store's writer answered another question: {done:?}"))
}

/// Runs database work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => Err(StoreError::Unavailable(format!("the store's work was cut off: {failed}"))),
    }
}

/// The only writer.
struct Committer {
    disk: Arc<Disk>,
    recent: Arc<Recent>,
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
}

impl Committer {
    async fn run(mut self, mut queue: mpsc::Receiver<(Job, oneshot::Sender<Result<Done, StoreError>>)>) {
        let mut jobs = Vec::with_capacity(GROUP_MAX);
        loop {
            let expiry = self.leases.values().map(|(_, deadline)| *deadline).min();
            let expired = async {
                match expiry {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                taken = queue.recv_many(&mut jobs, GROUP_MAX) => if taken == 0 { return },
                () = expired => {}
            }
            self.commit(&mut jobs).await;
        }
    }

    async fn commit(&mut self, jobs: &mut Vec<(Job, oneshot::Sender<Result<Done, StoreError>>)>) {
        let mut work = Vec::with_capacity(jobs.len() + 1);
        let mut replies = Vec::with_capacity(jobs.len());
        for (job, reply) in jobs.drain(..) {
            match job {
                Job::Work(piece) => {
                    work.push(piece);
                    replies.push(reply);
                }
                Job::KeepAlive(lease) => {
                    let renewed = self.leases.get_mut(&lease).map(|(ttl, deadline)| {
                        *deadline = Instant::now() + *ttl;
                        Done::Ended(Vec::new())
                    });
                    // The asker may have gone away; its lease is renewed all the same.
                    let _ = reply.send(renewed.ok_or(StoreError::LeaseNotFound(lease)));
                }
            }
        }
        let now = Instant::now();
        let expired: Vec<LeaseId> =
            self.leases.iter().filter(|(_, (_, deadline))| *deadline <= now).map(|(id, _)| *id).collect();
        if !expired.is_empty() {
            work.push(Work::End(expired));
        }
        if work.is_empty() {
            return;
        }
        let disk = self.disk.clone();
        match blocking(move || disk.commit(&work)).await {
            Ok((done, batches, revision)) => {
                for outcome in &done {
                    match outcome {
                        Done::Granted(lease, ttl) => {
                            self.leases.insert(*lease, (*ttl, Instant::now() + *ttl));
                        }
                        Done::Ended(ended) => self.leases.retain(|id, _| !ended.contains(id)),
                        Done::Compacted(Ok(at)) => self.recent.forget(*at),
                        _ => {}
                    }
                }
                // A writer that has its answer must find its change in a watch that starts now.
                self.recent.publish(batches, revision);
                for (reply, outcome) in replies.into_iter().zip(done) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                self.reopen().await;
            }
        }
    }

    /// Opens the file again after a failure, trying until it works: a disk that was full has room one day.
    /// Writers wait meanwhile, for as long as they like.
    async fn reopen(&mut self) {
        loop {
            let disk = self.disk.clone();
            match blocking(move || disk.reopen()).await {
                // A commit whose outcome was unknown may be among what is there.
                Ok(opened) => return self.recent.begin_at(opened.revision),
                Err(error) => tracing::error!(%error, "the store's file cannot be opened again"),
            }
            tokio::time::sleep(REOPEN_EVERY).await;
        }
    }
}

/// Recent batches, for watches that are up to date.
struct Recent {
    batches: Mutex<RecentBatches>,
    /// The newest revision; changes after the batches are in place.
    newest: watch::Sender<u64>,
}

struct RecentBatches {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Every batch after this revision is in the list.
    complete_after: u64,
}

impl Recent {
    fn new(revision: u64) -> Self {
        Recent {
            batches: Mutex::new(RecentBatches {
                batches: VecDeque::new(),
                bytes: 0,
                complete_after: revision,
            }),
            newest: watch::Sender::new(revision),
        }
    }

    fn publish(&self, new: Vec<Batch>, revision: u64) {
        let mut recent = self.batches.lock();
        for batch in new {
            recent.bytes += size(&batch);
            recent.batches.push_back(Arc::new(batch));
            while recent.batches.len() > RECENT_MAX || recent.bytes > RECENT_BYTES_MAX {
                let Some(oldest) = recent.batches.pop_front() else { break };
                recent.bytes -= size(&oldest);
                recent.complete_after = oldest.revision;
            }
        }
        drop(recent);
        self.newest.send_replace(revision);
    }

    /// Begins anew at a revision; watches that are behind read from disk.
    fn begin_at(&self, revision: u64) {
        *self.batches.lock() = RecentBatches { batches: VecDeque::new(), bytes: 0, complete_after: revision };
        self.newest.send_replace(revision);
    }

    /// Forgets batches up to a revision: what is compacted is gone for everyone alike.
    fn forget(&self, revision: u64) {
        let mut recent = self.batches.lock();
        while recent.batches.front().is_some_and(|oldest| oldest.revision <= revision) {
            recent.bytes -= recent.batches.pop_front().map_or(0, |oldest| size(&oldest));
        }
        recent.complete_after = recent.complete_after.max(revision);
    }

    /// The batches after a revision; `None` when they are not all here any more.
    fn after(&self, revision: u64) -> Option<Vec<Arc<Batch>>> {
        let recent = self.batches.lock();
        if revision < recent.complete_after {
            return None;
        }
        let from = recent.batches.partition_point(|batch| batch.revision <= revision);
        Some(recent.batches.range(from..).cloned().collect())
    }
}

fn size(batch: &Batch) -> usize {
    batch.events.iter().map(|e| e.key.len() + e.record.as_ref().map_or(0, |r| r.value.len())).sum()
}

/// One watch: a position, and what was read but not yet handed out.
struct Watch {
    disk: Arc<Disk>,
    newest: watch::Receiver<u64>,
    recent: Arc<Recent>,
    prefix: String,
    position: u64,
    ready: VecDeque<Batch>,
}

impl Watch {
    async fn next(&mut self) -> Result<Option<Batch>, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let newest = *self.newest.borrow_and_update();
            if newest <= self.position {
                if self.newest.changed().await.is_err() {
                    return Ok(None);
                }
                continue;
            }
            match self.recent.after(self.position) {
                Some(batches) => {
                    // More may have arrived since `newest` was read.
                    self.position = batches.last().map_or(newest, |last| last.revision.max(newest));
                    self.ready.extend(batches.iter().filter_map(|batch| select(batch, &self.prefix)));
                }
                None => {
                    let (disk, prefix, position) = (self.disk.clone(), self.prefix.clone(), self.position);
                    let (batches, reached) =
                        blocking(move || disk.changes(&prefix, position, CATCH_UP)).await?;
                    self.position = reached;
                    self.ready.extend(batches);
                }
            }
            if self.ready.is_empty() {
                return Ok(Some(Batch { revision: self.position, events: Vec::new() }));
            }
        }
    }
}

/// The part of a batch under a prefix.
fn select(batch: &Batch, prefix: &str) -> Option<Batch> {
    let events: Vec<_> = batch.events.iter().filter(|e| e.key.starts_with(prefix)).cloned().collect();
    (!events.is_empty()).then_some(Batch { revision: batch.revision, events })
}

#[cfg(test)]
mod tests;
