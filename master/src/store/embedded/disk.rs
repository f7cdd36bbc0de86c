//! The embedded store's tables and what is done to them. Everything here blocks: call it on a blocking
//! thread.
//!
//! History is kept per change: `log` holds each change by (revision, number within it), `keys` each
//! version of a key by (key, revision). A deletion is a change with version 0. Compaction removes the
//! versions that nobody can ask for any more.

use std::collections::BTreeMap;
use std::time::Duration;

use actors::TraceContext;
use bytes::Bytes;
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::super::{
    Batch, Compare, Event, KeyRange, LeaseId, Op, Range, RangeResult, Record, StoreError, Txn, TxnResult,
    envelope,
};

/// Where a version of a key lies in the log: its number within the revision, the revision at which the
/// key came to be, its version (0: deleted) and its lease (0: none).
type Version = (u32, u64, u64, i64);
/// A change: key, revision at which the key came to be, version (0: deleted), envelope.
type Change = (&'static str, u64, u64, &'static [u8]);

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const KEYS: TableDefinition<(&str, u64), Version> = TableDefinition::new("keys");
const LOG: TableDefinition<(u64, u32), Change> = TableDefinition::new("log");
const LEASES: TableDefinition<i64, u64> = TableDefinition::new("leases");
const LEASE_KEYS: TableDefinition<(i64, &str), ()> = TableDefinition::new("lease_keys");

const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";
const LEASE_LAST: &str = "lease_last";
const FORMAT: &str = "format";

/// The layout of the tables that this program reads and writes.
const FORMAT_VERSION: u64 = 1;
/// The revision of an empty store; 0 is left to mean "absent".
const REVISION_FIRST: u64 = 1;

/// How to open the database, the first time and again.
pub type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The database.
pub struct Disk {
    /// None while it could not be opened again after a failure.
    db: RwLock<Option<Database>>,
    open: Opener,
}

/// What is known after opening.
pub struct Opened {
    /// The newest revision.
    pub revision: u64,
    /// Leases and their times to live.
    pub leases: BTreeMap<LeaseId, Duration>,
}

/// One piece of work for the writer.
#[derive(Clone, Debug)]
pub enum Work {
    /// A transaction.
    Txn(Txn),
    /// A new lease.
    Grant(Duration),
    /// Ends these leases; those that don't exist are passed over.
    End(Vec<LeaseId>),
    /// Forgets history before a revision.
    Compact(u64),
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Done {
    /// The transaction's outcome.
    Txn(Result<TxnResult, StoreError>),
    /// The new lease.
    Granted(LeaseId, Duration),
    /// These leases existed and are gone.
    Ended(Vec<LeaseId>),
    /// History before this revision is gone.
    Compacted(Result<u64, StoreError>),
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl Disk {
    /// Opens the database, creates the tables where they are missing and reads where the store stands.
    pub fn open(open: Opener) -> Result<(Disk, Opened), StoreError> {
        let db = open().map_err(unavailable)?;
        let opened = Self::prepare(&db)?;
        Ok((Disk { db: RwLock::new(Some(db)), open }, opened))
    }

    /// Opens the database anew: after a failed write it refuses everything else. What is durable, and
    /// only that, is there again. Waits for reads that are under way.
    pub fn reopen(&self) -> Result<Opened, StoreError> {
        let mut place = self.db.write();
        // The old one goes first: it has the file locked.
        *place = None;
        let db = (self.open)().map_err(unavailable)?;
        let opened = Self::prepare(&db)?;
        *place = Some(db);
        Ok(opened)
    }

    fn db(&self) -> Result<MappedRwLockReadGuard<'_, Database>, StoreError> {
        RwLockReadGuard::try_map(self.db.read(), Option::as_ref).map_err(|_| {
            StoreError::Unavailable("the store's file failed and is not open again yet".to_owned())
        })
    }

    fn prepare(db: &Database) -> Result<Opened, StoreError> {
        let write = db.begin_write().map_err(unavailable)?;
        let opened = {
            let mut meta = write.open_table(META).map_err(unavailable)?;
            let format = get_meta(&meta, FORMAT)?;
            if format != 0 && format != FORMAT_VERSION {
                return Err(StoreError::Corrupt {
                    key: "(the store's file)".to_owned(),
                    why: format!("its format is {format}, this program reads {FORMAT_VERSION}"),
                });
            }
            if format == 0 {
                meta.insert(FORMAT, FORMAT_VERSION).map_err(unavailable)?;
                meta.insert(REVISION, REVISION_FIRST).map_err(unavailable)?;
            }
            write.open_table(KEYS).map_err(unavailable)?;
            write.open_table(LOG).map_err(unavailable)?;
            write.open_table(LEASE_KEYS).map_err(unavailable)?;
            let leases = write.open_table(LEASES).map_err(unavailable)?;
            let mut known = BTreeMap::new();
            for entry in leases.iter().map_err(unavailable)? {
                let (id, ttl) = entry.map_err(unavailable)?;
                known.insert(LeaseId(id.value()), Duration::from_millis(ttl.value()));
            }
            Opened { revision: get_meta(&meta, REVISION)?, leases: known }
        };
        write.commit().map_err(unavailable)?;
        Ok(opened)
    }

    /// Does all the work in one durable commit; later work sees what earlier work did. Returns what came
    /// of each, the new revisions' batches and the newest revision.
    pub fn commit(&self, work: &[Work]) -> Result<(Vec<Done>, Vec<Batch>, u64), StoreError> {
        let db = self.db()?;
        let write = db.begin_write().map_err(unavailable)?;
        let mut done = Vec::with_capacity(work.len());
        let mut batches = Vec::new();
        let revision = {
            let mut meta = write.open_table(META).map_err(unavailable)?;
            let mut writer = Writer {
                revision: get_meta(&meta, REVISION)?,
                compacted: get_meta(&meta, COMPACTED)?,
                keys: write.open_table(KEYS).map_err(unavailable)?,
                log: write.open_table(LOG).map_err(unavailable)?,
                leases: write.open_table(LEASES).map_err(unavailable)?,
                lease_keys: write.open_table(LEASE_KEYS).map_err(unavailable)?,
            };
            for piece in work {
                let (outcome, batch) = match piece {
                    Work::Txn(txn) => writer.txn(txn)?,
                    Work::Grant(ttl) => {
                        let id = get_meta(&meta, LEASE_LAST)? + 1;
                        meta.insert(LEASE_LAST, id).map_err(unavailable)?;
                        let lease = LeaseId(i64::try_from(id).map_err(unavailable)?);
                        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                        writer.leases.insert(lease.0, millis).map_err(unavailable)?;
                        (Done::Granted(lease, *ttl), None)
                    }
                    Work::End(leases) => writer.end_leases(leases)?,
                    Work::Compact(at) => (Done::Compacted(writer.compact(*at)?.map(|()| *at)), None),
                };
                done.push(outcome);
                batches.extend(batch);
            }
            let (revision, compacted) = (writer.revision, writer.compacted);
            meta.insert(REVISION, revision).map_err(unavailable)?;
            meta.insert(COMPACTED, compacted).map_err(unavailable)?;
            revision
        };
        write.commit().map_err(unavailable)?;
        Ok((done, batches, revision))
    }

    /// Reads a range.
    pub fn range(&self, range: &Range) -> Result<RangeResult, StoreError> {
        let db = self.db()?;
        let read = db.begin_read().map_err(unavailable)?;
        let meta = read.open_table(META).map_err(unavailable)?;
        let keys = read.open_table(KEYS).map_err(unavailable)?;
        let log = read.open_table(LOG).map_err(unavailable)?;
        let current = get_meta(&meta, REVISION)?;
        let at = range.revision.unwrap_or(current);
        check_revision(at, current, get_meta(&meta, COMPACTED)?)?;
        let mut result = RangeResult { revision: at, ..RangeResult::default() };

        let prefix = match &range.keys {
            KeyRange::Key(key) => {
                if range.start_after.as_ref().is_none_or(|after| key > after)
                    && let Some(found) = version_at(&keys, key, at)?
                {
                    result.records.extend(load(&log, key, found)?);
                }
                return Ok(result);
            }
            KeyRange::Prefix(prefix) => prefix.as_str(),
        };

        // The versions of a key lie together, oldest first: the last one not after `at` is the one.
        let from = match &range.start_after {
            Some(after) if after.as_str() >= prefix => (after.as_str(), u64::MAX),
            _ => (prefix, 0),
        };
        let mut pending: Option<(String, (u64, Version))> = None;
        let mut emit = |entry: Option<(String, (u64, Version))>| -> Result<(), StoreError> {
            let Some((key, version)) = entry else { return Ok(()) };
            if version.1.2 == 0 {
                return Ok(());
            }
            if range.limit > 0 && result.records.len() >= range.limit {
                result.remaining += 1;
                return Ok(());
            }
            match load(&log, &key, version) {
                Ok(record) => result.records.extend(record),
                Err(StoreError::Corrupt { key, .. }) => result.corrupt.push(key),
                Err(other) => return Err(other),
            }
            Ok(())
        };
        for entry in keys.range(from..).map_err(unavailable)? {
            let (position, version) = entry.map_err(unavailable)?;
            let (key, revision) = position.value();
            if !key.starts_with(prefix) {
                if key < prefix {
                    continue;
                }
                break;
            }
            if range.start_after.as_ref().is_some_and(|after| key <= after.as_str()) || revision > at {
                continue;
            }
            let version = (revision, version.value());
            match &mut pending {
                Some((same, newest)) if same == key => *newest = version,
                _ => emit(pending.replace((key.to_owned(), version)))?,
            }
        }
        emit(pending)?;
        result.more = result.remaining > 0;
        Ok(result)
    }

    /// Reads changes made after a revision, at most about `limit` of them but whole revisions.
    pub fn changes(&self, prefix: &str, after: u64, limit: usize) -> Result<(Vec<Batch>, u64), StoreError> {
        let db = self.db()?;
        let read = db.begin_read().map_err(unavailable)?;
        let meta = read.open_table(META).map_err(unavailable)?;
        let log = read.open_table(LOG).map_err(unavailable)?;
        let (current, compacted) = (get_meta(&meta, REVISION)?, get_meta(&meta, COMPACTED)?);
        if after < compacted {
            return Err(StoreError::Compacted { oldest: compacted });
        }
        let mut batches: Vec<Batch> = Vec::new();
        let mut count = 0;
        for entry in log.range((after + 1, 0)..).map_err(unavailable)? {
            let (position, change) = entry.map_err(unavailable)?;
            let (revision, _) = position.value();
            if count >= limit && batches.last().is_some_and(|last| last.revision != revision) {
                return Ok((batches, revision - 1));
            }
            let (key, created, version, bytes) = change.value();
            if !key.starts_with(prefix) {
                continue;
            }
            let Some(event) = event(key, created, version, revision, bytes) else { continue };
            count += 1;
            match batches.last_mut() {
                Some(last) if last.revision == revision => last.events.push(event),
                _ => batches.push(Batch { revision, events: vec![event] }),
            }
        }
        Ok((batches, current))
    }

    /// The newest revision.
    pub fn revision(&self) -> Result<u64, StoreError> {
        let db = self.db()?;
        let read = db.begin_read().map_err(unavailable)?;
        get_meta(&read.open_table(META).map_err(unavailable)?, REVISION)
    }
}

/// The tables during a commit.
struct Writer<'t> {
    revision: u64,
    compacted: u64,
    keys: Table<'t, (&'static str, u64), Version>,
    log: Table<'t, (u64, u32), Change>,
    leases: Table<'t, i64, u64>,
    lease_keys: Table<'t, (i64, &'static str), ()>,
}

impl Writer<'_> {
    fn txn(&mut self, txn: &Txn) -> Result<(Done, Option<Batch>), StoreError> {
        if let Err(refused) = self.admissible(txn)? {
            return Ok((Done::Txn(Err(refused)), None));
        }
        let mut holds = true;
        for Compare { key, mod_revision } in &txn.compares {
            let found = version_at(&self.keys, key, u64::MAX)?.filter(|v| v.1.2 != 0);
            holds &= found.map_or(0, |v| v.0) == *mod_revision;
        }
        if !holds {
            let mut current = Vec::with_capacity(txn.compares.len());
            for compare in &txn.compares {
                let version = version_at(&self.keys, &compare.key, u64::MAX)?;
                match version.map(|version| load(&self.log, &compare.key, version)).transpose() {
                    Ok(found) => current.push(found.flatten()),
                    // One damaged value is its own writer's trouble, not the whole commit's.
                    Err(error @ StoreError::Corrupt { .. }) => return Ok((Done::Txn(Err(error)), None)),
                    Err(error) => return Err(error),
                }
            }
            return Ok((Done::Txn(Ok(TxnResult::Conflict { current, revision: self.revision })), None));
        }
        let batch = self.apply(&txn.ops, txn.trace)?;
        Ok((Done::Txn(Ok(TxnResult::Committed { revision: self.revision })), batch))
    }

    /// Whether the leases that a transaction names exist.
    fn admissible(&self, txn: &Txn) -> Result<Result<(), StoreError>, StoreError> {
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && self.leases.get(lease.0).map_err(unavailable)?.is_none()
            {
                return Ok(Err(StoreError::LeaseNotFound(*lease)));
            }
        }
        Ok(Ok(()))
    }

    /// Makes one revision of the operations; none when they change nothing.
    fn apply(&mut self, ops: &[Op], trace: TraceContext) -> Result<Option<Batch>, StoreError> {
        let revision = self.revision + 1;
        let mut events = Vec::with_capacity(ops.len());
        for op in ops {
            let found = version_at(&self.keys, op.key(), u64::MAX)?.filter(|v| v.1.2 != 0);
            let sequence = u32::try_from(events.len()).map_err(unavailable)?;
            if let Some((_, (_, _, _, lease))) = found
                && lease != 0
            {
                self.lease_keys.remove((lease, op.key())).map_err(unavailable)?;
            }
            match op {
                Op::Put { key, value, lease } => {
                    let (created, version) =
                        found.map_or((revision, 1), |(_, (_, created, v, _))| (created, v + 1));
                    let lease = lease.map_or(0, |l| l.0);
                    if lease != 0 {
                        self.lease_keys.insert((lease, key.as_str()), ()).map_err(unavailable)?;
                    }
                    let bytes = envelope::encode(trace, value);
                    let place = (sequence, created, version, lease);
                    self.keys.insert((key.as_str(), revision), place).map_err(unavailable)?;
                    let change = (key.as_str(), created, version, bytes.as_slice());
                    self.log.insert((revision, sequence), change).map_err(unavailable)?;
                    let record = Record {
                        key: key.clone(),
                        value: value.clone(),
                        trace,
                        create_revision: created,
                        mod_revision: revision,
                        version,
                    };
                    events.push(Event { key: key.clone(), record: Some(record), trace });
                }
                Op::Delete { key } => {
                    if found.is_none() {
                        continue;
                    }
                    let bytes = envelope::encode(trace, b"");
                    self.keys.insert((key.as_str(), revision), (sequence, 0, 0, 0)).map_err(unavailable)?;
                    let change = (key.as_str(), 0, 0, bytes.as_slice());
                    self.log.insert((revision, sequence), change).map_err(unavailable)?;
                    events.push(Event { key: key.clone(), record: None, trace });
                }
            }
        }
        if events.is_empty() {
            return Ok(None);
        }
        self.revision = revision;
        Ok(Some(Batch { revision, events }))
    }

    /// Ends leases: their keys go in one revision.
    fn end_leases(&mut self, leases: &[LeaseId]) -> Result<(Done, Option<Batch>), StoreError> {
        let mut ended = Vec::new();
        let mut ops = Vec::new();
        for lease in leases {
            if self.leases.remove(lease.0).map_err(unavailable)?.is_none() {
                continue;
            }
            ended.push(*lease);
            for entry in
                self.lease_keys.range((lease.0, "")..(lease.0.saturating_add(1), "")).map_err(unavailable)?
            {
                let (position, ()) = entry.map(|(k, _)| (k, ())).map_err(unavailable)?;
                ops.push(Op::Delete { key: position.value().1.to_owned() });
            }
        }
        let batch = self.apply(&ops, TraceContext::default())?;
        Ok((Done::Ended(ended), batch))
    }

    /// Forgets versions that were already replaced, and deletions, at revision `at`. Only what changed
    /// since the last compaction is looked at.
    fn compact(&mut self, at: u64) -> Result<Result<(), StoreError>, StoreError> {
        if at > self.revision {
            return Ok(Err(StoreError::Future { asked: at, current: self.revision }));
        }
        if at <= self.compacted {
            return Ok(Err(StoreError::Compacted { oldest: self.compacted }));
        }
        let mut changed = Vec::new();
        for entry in self.log.range((self.compacted + 1, 0)..(at + 1, 0)).map_err(unavailable)? {
            let (position, change) = entry.map_err(unavailable)?;
            let (key, _, version, _) = change.value();
            changed.push((key.to_owned(), position.value().0, version == 0));
        }
        let mut gone = Vec::new();
        for (key, revision, deleted) in &changed {
            // Everything older than this change of the key goes.
            for entry in self.keys.range((key.as_str(), 0)..(key.as_str(), *revision)).map_err(unavailable)? {
                let (position, version) = entry.map_err(unavailable)?;
                gone.push((key.as_str(), position.value().1, version.value().0));
            }
            let next = (key.as_str(), revision + 1)..=(key.as_str(), at);
            let newest = self.keys.range(next).map_err(unavailable)?.next().is_none();
            if *deleted && newest {
                let version = self.keys.get((key.as_str(), *revision)).map_err(unavailable)?;
                gone.extend(version.map(|v| (key.as_str(), *revision, v.value().0)));
            }
            for (key, revision, sequence) in gone.drain(..) {
                self.keys.remove((key, revision)).map_err(unavailable)?;
                self.log.remove((revision, sequence)).map_err(unavailable)?;
            }
        }
        self.compacted = at;
        Ok(Ok(()))
    }
}

fn get_meta(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, StoreError> {
    Ok(meta.get(name).map_err(unavailable)?.map_or(0, |v| v.value()))
}

fn check_revision(at: u64, current: u64, compacted: u64) -> Result<(), StoreError> {
    if at > current {
        return Err(StoreError::Future { asked: at, current });
    }
    if at < compacted {
        return Err(StoreError::Compacted { oldest: compacted });
    }
    Ok(())
}

/// The newest version of a key not after a revision, deletions included.
fn version_at(
    keys: &impl ReadableTable<(&'static str, u64), Version>,
    key: &str,
    at: u64,
) -> Result<Option<(u64, Version)>, StoreError> {
    match keys.range((key, 0)..=(key, at)).map_err(unavailable)?.next_back() {
        None => Ok(None),
        Some(entry) => {
            let (position, version) = entry.map_err(unavailable)?;
            Ok(Some((position.value().1, version.value())))
        }
    }
}

/// Reads a version's record; `None` for a deletion.
fn load(
    log: &impl ReadableTable<(u64, u32), Change>,
    key: &str,
    (revision, (sequence, created, version, _)): (u64, Version),
) -> Result<Option<Record>, StoreError> {
    if version == 0 {
        return Ok(None);
    }
    let missing = || StoreError::Corrupt {
        key: key.to_owned(),
        why: format!("its change of revision {revision} is missing from the log"),
    };
    let change = log.get((revision, sequence)).map_err(unavailable)?.ok_or_else(missing)?;
    let (trace, value) = envelope::decode(key, Bytes::copy_from_slice(change.value().3))?;
    Ok(Some(Record {
        key: key.to_owned(),
        value,
        trace,
        create_revision: created,
        mod_revision: revision,
        version,
    }))
}

/// A change as an event; `None` (and a loud line) when its value is damaged.
fn event(key: &str, created: u64, version: u64, revision: u64, bytes: &[u8]) -> Option<Event> {
    let decoded = if version == 0 {
        let trace = envelope::decode_trace(bytes).unwrap_or_default();
        Ok((trace, None))
    } else {
        envelope::decode(key, Bytes::copy_from_slice(bytes)).map(|(trace, value)| (trace, Some(value)))
    };
    match decoded {
        Ok((trace, value)) => {
            let record = value.map(|value| Record {
                key: key.to_owned(),
                value,
                trace,
                create_revision: created,
                mod_revision: revision,
                version,
            });
            Some(Event { key: key.to_owned(), record, trace })
        }
        Err(error) => {
            tracing::error!(key, revision, %error, "a stored value is passed over");
            None
        }
    }
}
