//! The store: the only truth of a cluster.
//!
//! One trait, [`Store`], with two implementations that pass the same contract tests
//! (`master/tests/store_contract.rs`): [`embedded`] (redb, for one process) and [`etcd`] (an external etcd
//! cluster). Nobody but the API pipeline and the watch cache talks to a store, and nobody polls one.
//!
//! - [`bridge`]: the actor that everyone talks to instead.
//! - [`embedded`]: durable and local; concurrent writers share one fsync.
//! - [`etcd`]: the same contract on an etcd cluster, through reconnects.
//! - [`envelope`]: what the stored bytes look like: version, cause of the write, object.
//! - [`shared`]: masters that share an etcd cluster know of one another; one that is alone need not ask what is newest.
//! - [`keys`]: how objects are named in the store.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use actors::TraceContext;

pub mod bridge;
pub mod embedded;
pub mod encrypted;
pub mod envelope;
pub mod etcd;
pub mod keys;
pub mod measured;
pub mod shared;

pub use keys::{KeyParts, ROOT, key, parse_key, prefix};

/// The largest transaction, in bytes of keys and values together; etcd's default request limit.
pub const TXN_BYTES_MAX: usize = 1_572_864;

/// Where objects live: compare-and-swap writes, revisions, and a history that can be followed.
///
/// Every successful transaction makes one new revision of the whole store. Reads are linearizable unless
/// they name a revision.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads one key or a prefix, in key order, at the newest revision or at a given one.
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError>;

    /// Applies all operations if every compare holds, durably, as one revision.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// Follows every change under `prefix` made after `after_revision`: in order, none lost, none
    /// repeated, all changes of a revision in one batch. Survives disconnects by itself; ends with
    /// [`StoreError::Compacted`] when the history that it needs is gone.
    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError>;

    /// Forgets history before `revision`; what is current at `revision` stays readable.
    async fn compact(&self, revision: u64) -> Result<(), StoreError>;

    /// The newest revision.
    async fn current_revision(&self) -> Result<u64, StoreError>;

    /// The newest revision, or that of the newest write that anybody was told of, where that takes no asking.
    fn known_revision(&self) -> Option<u64> {
        None
    }

    /// Makes a lease: keys put under it are deleted when it expires.
    async fn lease_grant(&self, ttl: std::time::Duration) -> Result<LeaseId, StoreError>;

    /// Starts a lease's time anew.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease now, deleting its keys.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}

/// A running watch on a store.
pub type BatchStream = BoxStream<'static, Result<Batch, StoreError>>;

/// A lease's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// Which keys to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// Exactly this key.
    Key(String),
    /// Every key that starts so.
    Prefix(String),
}

/// One read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// Only keys after this one, for paging.
    pub start_after: Option<String>,
    /// At most this many records; 0 is no limit.
    pub limit: usize,
    /// Read as it was at this revision; `None` is the newest.
    pub revision: Option<u64>,
}

impl Range {
    /// Reads one key.
    pub fn key(key: impl Into<String>) -> Self {
        Range { keys: KeyRange::Key(key.into()), start_after: None, limit: 0, revision: None }
    }

    /// Reads all keys under a prefix.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Range { keys: KeyRange::Prefix(prefix.into()), start_after: None, limit: 0, revision: None }
    }

    /// Returns at most `limit` records (0: all).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Begins after `key`.
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.start_after = Some(key.into());
        self
    }

    /// Reads as of `revision`.
    pub fn at(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }
}

/// What a read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The records, in key order.
    pub records: Vec<Record>,
    /// The revision that was read at.
    pub revision: u64,
    /// Whether the limit cut records off.
    pub more: bool,
    /// How many.
    pub remaining: u64,
    /// Keys under the prefix whose values could not be understood; they are left out of `records`.
    pub corrupt: Vec<String>,
}

/// One stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// The object's JSON, without a resourceVersion.
    pub value: Bytes,
    /// The message whose handler wrote it.
    pub trace: TraceContext,
    /// Revision at which the key came to be.
    pub create_revision: u64,
    /// Revision of its last change.
    pub mod_revision: u64,
    /// Number of writes since it came to be.
    pub version: u64,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// Its `mod_revision`; 0 means that the key is absent.
    pub mod_revision: u64,
}

/// A change in a transaction. A transaction changes a key at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// The object's JSON, without a resourceVersion.
        value: Bytes,
        /// The lease to put it under.
        lease: Option<LeaseId>,
    },
    /// Removes a key; no change when it is absent.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// The key that it changes.
    pub fn key(&self) -> &str {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// An atomic compare-and-swap over any keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of these must hold.
    pub compares: Vec<Compare>,
    /// Then all of this is done.
    pub ops: Vec<Op>,
    /// The message whose handler writes; kept with every changed key.
    pub trace: TraceContext,
}

impl Txn {
    /// Puts a key that must be at `mod_revision` (0: absent). The cause is the current message.
    pub fn put(key: impl Into<String>, mod_revision: u64, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Txn {
            compares: vec![Compare { key: key.clone(), mod_revision }],
            ops: vec![Op::Put { key, value: value.into(), lease: None }],
            trace: actors::trace::current(),
        }
    }

    /// Deletes a key that must be at `mod_revision`. The cause is the current message.
    pub fn delete(key: impl Into<String>, mod_revision: u64) -> Self {
        let key = key.into();
        Txn {
            compares: vec![Compare { key: key.clone(), mod_revision }],
            ops: vec![Op::Delete { key }],
            trace: actors::trace::current(),
        }
    }

    /// Puts every written key under `lease`.
    pub fn with_lease(mut self, id: LeaseId) -> Self {
        for op in &mut self.ops {
            if let Op::Put { lease, .. } = op {
                *lease = Some(id);
            }
        }
        self
    }

    /// Names the message whose handler writes.
    pub fn caused_by(mut self, trace: TraceContext) -> Self {
        self.trace = trace;
        self
    }

    /// Refuses what no store could do.
    pub fn check(&self) -> Result<(), StoreError> {
        let mut bytes = 0;
        let mut keys = std::collections::BTreeSet::new();
        for op in &self.ops {
            bytes += op.key().len();
            if let Op::Put { value, .. } = op {
                bytes += value.len() + envelope::HEADER_BYTES;
            }
            if !keys.insert(op.key()) {
                return Err(StoreError::Invalid(format!("the transaction changes {} twice", op.key())));
            }
        }
        if bytes > TXN_BYTES_MAX { Err(StoreError::TooLarge { bytes, max: TXN_BYTES_MAX }) } else { Ok(()) }
    }
}

/// The outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// Done and durable at this revision.
    Committed {
        /// The revision that the transaction made.
        revision: u64,
    },
    /// A compare did not hold; nothing was done.
    Conflict {
        /// What the compared keys hold, in the order of the compares.
        current: Vec<Option<Record>>,
        /// The revision at which that was so.
        revision: u64,
    },
}

/// All changes of one revision (under the watched prefix). An empty batch says that nothing else happened
/// up to its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: u64,
    /// Its changes.
    pub events: Vec<Event>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// The new record; `None` when the key was deleted.
    pub record: Option<Record>,
    /// The message whose handler made the change; no known cause for expired leases.
    pub trace: TraceContext,
}

/// Why a store call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or does not answer; whether a write happened is unknown. Try later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The history at that revision is gone: read the present and start from there.
    #[error("the history asked for is compacted; it begins at revision {oldest}")]
    Compacted {
        /// The oldest revision that can be read; 0 where the store does not say.
        oldest: u64,
    },
    /// The revision does not exist yet.
    #[error("revision {asked} is in the future; the newest is {current}")]
    Future {
        /// What was asked for.
        asked: u64,
        /// The newest revision.
        current: u64,
    },
    /// The transaction is bigger than the store takes.
    #[error("the transaction has {bytes} bytes; the limit is {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The stored value is not one of ours, or is damaged.
    #[error("the value of {key} is not understood: {why}")]
    Corrupt {
        /// Which key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The lease does not exist (any more).
    #[error("lease {0:?} does not exist")]
    LeaseNotFound(LeaseId),
    /// The call makes no sense.
    #[error("{0}")]
    Invalid(String),
}
