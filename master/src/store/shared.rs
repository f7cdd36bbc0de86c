//! A store that several masters may use: each registers before it writes, and who finds itself alone need not ask what
//! the newest revision is. It wrote it itself.
//!
//! A registration is a key under a lease. Every transaction demands that its master's is there still, so what a master
//! without one writes, however late it arrives, does not happen. A master that finds no other registered is alone for
//! [`ALONE_FOR`] from when it began to look; one that registers and finds others waits longer than that before its first
//! write. So while a master takes itself to be alone, nobody else's writes happen.
//!
//! All this is measured on each master's own clock, as lengths of time. What a paused process answers when it goes on was
//! true when it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actors::time::Instant;
use actors::{Actor, AsyncContext, Context, Props, RestartPolicy, Stage};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{BatchStream, Compare, LeaseId, Op, Range, RangeResult, Store, StoreError, Txn, TxnResult};

/// Where masters register. It lies before all that is watched.
const MASTERS: &str = "/registry-masters/";
/// How long a master is alone that found no other, from when it began to look.
const ALONE_FOR: Duration = Duration::from_secs(5);
/// How long one waits that found others: each of them has looked again by then, or has stopped to be alone.
const WAIT: Duration = Duration::from_millis(5500);
/// How often a master looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A registration stays so long without its master; longer than anybody is alone on its account.
const STAYS: Duration = Duration::from_secs(15);
/// Transactions are tried so often when their registration turns out to be gone.
const TRIES: usize = 3;

/// See the module.
pub struct SharedStore {
    inner: Arc<dyn Store>,
    /// One registration at a time.
    registering: tokio::sync::Mutex<()>,
    own: Mutex<Own>,
    begun: Instant,
    /// Until when this master is alone, in milliseconds since it began.
    alone_until: AtomicU64,
    /// The newest revision of which anybody was told.
    acknowledged: AtomicU64,
}

/// This master's registration.
#[derive(Clone)]
struct Own {
    key: String,
    /// Of the key; 0 while there is none.
    revision: u64,
    lease: LeaseId,
}

fn key_of(identity: &str) -> String {
    let digest = Sha256::digest(identity);
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{MASTERS}{name}")
}

impl SharedStore {
    fn new(inner: Arc<dyn Store>, identity: &str) -> Self {
        let own = Own { key: key_of(identity), revision: 0, lease: LeaseId(0) };
        SharedStore {
            inner,
            registering: tokio::sync::Mutex::default(),
            own: Mutex::new(own),
            begun: Instant::now(),
            alone_until: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
        }
    }

    /// Registers a master, and starts the actor that looks for others. A master's identity is its own for as long as
    /// it runs, and is the same when it comes back: then it waits for nobody.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn start(
        stage: &Stage,
        inner: Arc<dyn Store>,
        identity: &str,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let store = Arc::new(SharedStore::new(inner, identity));
        // Reads are tried again for a while, so that a store which only begins is waited for; writes are not.
        store.inner.range(Range::prefix(MASTERS)).await?;
        store.registration().await?;
        store.look().await?;
        let looked_after = store.clone();
        let make = move || Lookout { store: looked_after.clone() };
        stage.spawn_here(Props::new("master/store/lookout", make).restart(RestartPolicy::Permanent));
        Ok(store)
    }

    fn is_alone(&self, at: Instant) -> bool {
        let since = at.saturating_duration_since(self.begun);
        (since.as_millis() as u64) < self.alone_until.load(Ordering::Acquire)
    }

    /// The key of the registration and its revision. Registers first where that is needed.
    async fn registration(&self) -> Result<(String, u64), StoreError> {
        let known = || Some(self.own.lock().clone()).filter(|own| own.revision != 0);
        if let Some(own) = known() {
            return Ok((own.key, own.revision));
        }
        let _turn = self.registering.lock().await;
        if let Some(own) = known() {
            return Ok((own.key, own.revision));
        }
        let key = self.own.lock().key.clone();
        let lease = self.inner.lease_grant(STAYS).await?;
        let op = Op::Put { key: key.clone(), value: Bytes::from_static(b"{}"), lease: Some(lease) };
        let put = Txn { ops: vec![op], ..Txn::default() };
        let TxnResult::Committed { revision } = self.inner.txn(put).await? else {
            return Err(StoreError::Unavailable("this master could not register".to_owned()));
        };
        let found = self.inner.range(Range::prefix(MASTERS)).await?;
        let others = found.records.iter().filter(|record| record.key != key).count();
        if others > 0 {
            tracing::warn!(others, wait = ?WAIT, "other masters use this store, or did just now; the first write waits");
            tokio::time::sleep(WAIT).await;
        }
        *self.own.lock() = Own { key: key.clone(), revision, lease };
        Ok((key, revision))
    }

    /// A registration is not there any more; whether another master has it now.
    fn lapsed(&self, revision: u64, taken: bool) {
        let mut own = self.own.lock();
        if own.revision != revision {
            return;
        }
        own.revision = 0;
        self.alone_until.store(0, Ordering::Release);
        if taken {
            own.key = key_of(&actors::random::bits().to_string());
        }
        tracing::warn!(taken, "this master's registration with the store is gone; it registers anew");
    }

    /// Looks whether other masters are registered.
    async fn look(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let own = self.own.lock().clone();
        if own.revision == 0 {
            return Ok(());
        }
        match self.inner.lease_keep_alive(own.lease).await {
            Err(StoreError::LeaseNotFound(_)) => {
                self.lapsed(own.revision, false);
                return Ok(());
            }
            other => other?,
        }
        let found = self.inner.range(Range::prefix(MASTERS)).await?;
        let ours = found.records.iter().find(|record| record.key == own.key);
        if ours.is_none_or(|record| record.mod_revision != own.revision) {
            self.lapsed(own.revision, ours.is_some());
            return Ok(());
        }
        let alone = found.records.len() == 1 && found.corrupt.is_empty();
        if alone && !self.is_alone(begun) {
            // What others wrote before; from now on nobody does.
            let newest = self.inner.current_revision().await?;
            self.acknowledged.fetch_max(newest, Ordering::AcqRel);
        }
        let now = self.own.lock();
        if now.revision == own.revision {
            let until = begun.saturating_duration_since(self.begun) + ALONE_FOR;
            let until = if alone { until.as_millis() as u64 } else { 0 };
            self.alone_until.store(until, Ordering::Release);
        }
        Ok(())
    }
}

#[async_trait]
impl Store for SharedStore {
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        self.inner.range(range).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        for _ in 0..TRIES {
            let (key, registered) = self.registration().await?;
            let mut asked = txn.clone();
            asked.compares.push(Compare { key, mod_revision: registered });
            let (mut current, revision) = match self.inner.txn(asked).await? {
                TxnResult::Committed { revision } => {
                    self.acknowledged.fetch_max(revision, Ordering::AcqRel);
                    return Ok(TxnResult::Committed { revision });
                }
                TxnResult::Conflict { current, revision } => (current, revision),
            };
            let own = current.pop().flatten().map(|record| record.mod_revision);
            if own == Some(registered) {
                // Whoever is told of these must find them.
                let newest = current.iter().flatten().map(|record| record.mod_revision).max();
                self.acknowledged.fetch_max(newest.unwrap_or(0), Ordering::AcqRel);
                return Ok(TxnResult::Conflict { current, revision });
            }
            self.lapsed(registered, own.is_some());
        }
        Err(StoreError::Unavailable("this master's registration is lost again and again".to_owned()))
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError> {
        self.inner.watch(prefix, after_revision).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn current_revision(&self) -> Result<u64, StoreError> {
        match self.known_revision() {
            Some(revision) => Ok(revision),
            None => self.inner.current_revision().await,
        }
    }

    fn known_revision(&self) -> Option<u64> {
        self.is_alone(Instant::now()).then(|| self.acknowledged.load(Ordering::Acquire))
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_revoke(lease).await
    }
}

/// Looks for other masters, again and again.
struct Lookout {
    store: Arc<SharedStore>,
}

impl Lookout {
    fn look_later(&self, ctx: &mut Context<Self>) {
        ctx.run_later(LOOK_EVERY, |me, ctx| {
            let store = me.store.clone();
            ctx.run(async move { store.look().await }, |me, looked, ctx| {
                if let Err(error) = looked {
                    tracing::debug!(%error, "whether this master is alone cannot be told");
                }
                me.look_later(ctx);
            });
        });
    }
}

impl Actor for Lookout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look_later(ctx);
    }
}

#[cfg(test)]
mod tests;
