//! The watch cache: what the store holds, as an immutable snapshot that anyone reads without asking.
//!
//! One writer folds the store's batches into a new [`Snapshot`] and a bounded log of changes per kind.
//! Readers take the snapshot from an `ArcSwap`; watchers are a [`Cursor`] into a log, not a queue: ten
//! thousand slow watchers cost ten thousand positions, and one that falls off the log's end is [`Gone`].
//!
//! Objects lie here once, as the JSON that clients get, with the parts that selectors and controllers ask
//! for beside them ([`Stored`]).
//!
//! Invariant: whoever sees a change through a cursor finds it in the snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use actors::TraceContext;
use protocol::Object;

use crate::store::{self, Batch, Event, Record};

pub mod actor;
mod announced;
pub mod derived;
pub mod feed;
pub mod log;
mod meta;
mod splice;
pub mod stored;

pub use derived::Derived;
pub use log::{Cursor, Gone, WatchFrom};
use log::{KindLog, LogShare};
pub use meta::{Labels, Meta, OwnerRef};
pub use splice::{member, with_first_resource_version, with_resource_version};
use stored::Parsed;
pub use stored::Stored;

/// Key prefix of the kind that is indexed by node.
const PODS: &str = "/registry/core/pods/";

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It came to be.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the change carries its last state.
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The object after the change; for a deletion its last state with the deletion's resourceVersion.
    pub stored: Arc<Stored>,
    /// The object before the change.
    pub previous: Option<Arc<Stored>>,
    /// Store revision of the change.
    pub revision: u64,
    /// The message whose handler made it.
    pub trace: TraceContext,
}

/// All objects of one kind.
#[derive(Clone, Debug, Default)]
struct Kind {
    objects: OrdMap<Arc<str>, Arc<Stored>>,
    /// Revision of the kind's last change.
    revision: u64,
}

/// Everything in the store at one revision. Immutable and cheap to hold.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: u64,
    kinds: OrdMap<Arc<str>, Kind>,
    /// Keys of the objects that name an owner, by the owner's uid.
    owned: Index,
    /// Keys of the pods bound to a node, by its name.
    on_node: Index,
}

/// Store keys by something that their objects say. Persistent, like the rest of a snapshot.
type Index = OrdMap<Box<str>, OrdSet<Arc<str>>>;

impl Snapshot {
    /// The store revision that this shows.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn kind(&self, group: &str, resource: &str) -> Option<&Kind> {
        self.kinds.get(store::prefix(group, resource, "").as_str())
    }

    /// Revision of the last change to any object of a kind; 0 when there was none.
    pub fn kind_revision(&self, group: &str, resource: &str) -> u64 {
        self.kind(group, resource).map_or(0, |kind| kind.revision)
    }

    /// One object. `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Stored>> {
        self.get_key(&store::key(group, resource, namespace, name))
    }

    /// One object by its store key.
    pub fn get_key(&self, key: &str) -> Option<&Arc<Stored>> {
        self.kinds.get(kind_prefix(key)?)?.objects.get(key)
    }

    /// Objects of a kind in key order; an empty `namespace` is all of them.
    pub fn list<'a>(
        &'a self,
        group: &str,
        resource: &str,
        namespace: &str,
    ) -> Box<dyn Iterator<Item = &'a Arc<Stored>> + Send + 'a> {
        match self.kind(group, resource) {
            None => Box::new(std::iter::empty()),
            Some(kind) if namespace.is_empty() => Box::new(kind.objects.values()),
            Some(kind) => {
                let prefix = store::prefix(group, resource, namespace);
                let from: Arc<str> = prefix.as_str().into();
                let within = move |stored: &&Arc<Stored>| stored.key.starts_with(prefix.as_str());
                Box::new(kind.objects.range(from..).map(|(_, stored)| stored).take_while(within))
            }
        }
    }

    /// Objects of a kind in key order, only those after a key: for paging.
    pub fn list_after<'a>(
        &'a self,
        group: &str,
        resource: &str,
        namespace: &str,
        after: &str,
    ) -> Box<dyn Iterator<Item = &'a Arc<Stored>> + Send + 'a> {
        let Some(kind) = self.kind(group, resource) else { return Box::new(std::iter::empty()) };
        let prefix = store::prefix(group, resource, namespace);
        let after: Arc<str> = after.into();
        let within = move |stored: &&Arc<Stored>| stored.key.starts_with(prefix.as_str());
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        Box::new(kind.objects.range(range).map(|(_, stored)| stored).take_while(within))
    }

    /// How many objects of a kind there are.
    pub fn count(&self, group: &str, resource: &str) -> usize {
        self.kind(group, resource).map_or(0, |kind| kind.objects.len())
    }

    /// What is different from an older snapshot, for one kind: key and present object (`None`: gone). Costs
    /// no more than what changed.
    pub fn changed_since(
        &self,
        older: &Snapshot,
        group: &str,
        resource: &str,
    ) -> Vec<(Arc<str>, Option<Arc<Stored>>)> {
        let empty = OrdMap::new();
        let before = older.kind(group, resource).map_or(&empty, |kind| &kind.objects);
        let now = self.kind(group, resource).map_or(&empty, |kind| &kind.objects);
        let changed = before.diff(now).map(|item| match item {
            DiffItem::Add(key, stored) | DiffItem::Update { new: (key, stored), .. } => {
                (key.clone(), Some(stored.clone()))
            }
            DiffItem::Remove(key, _) => (key.clone(), None),
        });
        changed.collect()
    }

    /// Objects of any kind that name this uid among their owners, in key order.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        self.owned.get(uid).into_iter().flatten().filter_map(|key| self.get_key(key))
    }

    /// Pods bound to a node, in key order.
    pub fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Stored>> + use<'a> {
        self.on_node.get(node).into_iter().flatten().filter_map(|key| self.get_key(key))
    }

    /// Puts an object in, and returns the one that it replaces.
    fn put(&mut self, prefix: &str, stored: &Arc<Stored>) -> Option<Arc<Stored>> {
        let kind = match self.kinds.get_mut(prefix) {
            Some(kind) => kind,
            None => self.kinds.entry(prefix.into()).or_default(),
        };
        kind.revision = kind.revision.max(stored.revision);
        let previous = kind.objects.insert(stored.key.clone(), stored.clone());
        self.reindex(&stored.key, previous.as_deref(), Some(stored));
        previous
    }

    /// Takes an object out, and returns it.
    fn remove(&mut self, prefix: &str, key: &str, revision: u64) -> Option<Arc<Stored>> {
        let kind = self.kinds.get_mut(prefix)?;
        let previous = kind.objects.remove(key)?;
        kind.revision = revision;
        self.reindex(&previous.key, Some(&previous), None);
        Some(previous)
    }

    fn reindex(&mut self, key: &Arc<str>, before: Option<&Stored>, after: Option<&Stored>) {
        fn node(stored: &Stored) -> &str {
            if stored.key.starts_with(PODS) { stored.meta.field("spec.nodeName") } else { "" }
        }
        fn owners(stored: Option<&Stored>) -> &[OwnerRef] {
            stored.map_or(&[], |stored| &stored.meta.owners)
        }
        let (old, new) = (owners(before), owners(after));
        if old != new {
            old.iter().for_each(|owner| forget(&mut self.owned, &owner.uid, key));
            new.iter().for_each(|owner| remember(&mut self.owned, &owner.uid, key));
        }
        let (old, new) = (before.map_or("", node), after.map_or("", node));
        if old != new {
            forget(&mut self.on_node, old, key);
            remember(&mut self.on_node, new, key);
        }
    }

    /// Every object, kind by kind.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.kinds.values().flat_map(|kind| kind.objects.values())
    }
}

/// `/registry/apps/deployments/` of `/registry/apps/deployments/default/web`.
fn kind_prefix(key: &str) -> Option<&str> {
    let end = key.match_indices('/').nth(3)?.0;
    Some(&key[..=end])
}

/// The cache's handle. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// The snapshot's revision, for waiting.
    revision: watch::Sender<u64>,
    logs: RwLock<std::collections::BTreeMap<Arc<str>, Arc<KindLog>>>,
    /// The logs' common budget.
    log_share: Arc<LogShare>,
    /// Logs know every change after this revision (unless they dropped some).
    begins: Mutex<u64>,
    /// The store's history before this revision is gone.
    forgotten: AtomicU64,
    parsed: Arc<Parsed>,
    announced: announced::Announced,
    /// What is computed from objects of some kinds.
    memo: derived::Memo,
}

impl Default for Cache {
    fn default() -> Self {
        Cache::new()
    }
}

impl Cache {
    /// An empty cache, at revision 0; [`feed::run`] fills it.
    pub fn new() -> Self {
        Cache {
            shared: Arc::new(Shared {
                snapshot: ArcSwap::default(),
                revision: watch::Sender::new(0),
                logs: RwLock::default(),
                log_share: Arc::default(),
                begins: Mutex::new(0),
                forgotten: AtomicU64::new(0),
                parsed: Arc::default(),
                announced: announced::Announced::default(),
                memo: derived::Memo::default(),
            }),
        }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// The newest snapshot's revision; 0 before the first load.
    pub fn revision(&self) -> u64 {
        self.shared.snapshot.load().revision
    }

    /// The oldest revision whose state the store still had when its history was last forgotten; 0 before that.
    pub fn forgotten(&self) -> u64 {
        self.shared.forgotten.load(Ordering::Relaxed)
    }

    /// The store's history before this revision is gone: the bridge says so.
    pub fn forget(&self, before: u64) {
        self.shared.forgotten.fetch_max(before, Ordering::Relaxed);
    }

    /// Waits until the snapshot shows `revision`, and returns it. Give it a deadline.
    pub async fn wait_for(&self, revision: u64) -> Arc<Snapshot> {
        let mut newest = self.shared.revision.subscribe();
        // The sender lives in `shared`, which `self` keeps.
        let _ = newest.wait_for(|at| *at >= revision).await;
        self.snapshot()
    }

    /// Waits until the first load is done.
    pub async fn ready(&self) -> Arc<Snapshot> {
        self.wait_for(1).await
    }

    /// One object, parsed; `None` when it is absent (or not understood, which is logged).
    pub fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let namespace = if K::NAMESPACED { namespace } else { "" };
        let snapshot = self.snapshot();
        let stored = snapshot.get(K::GROUP, K::URL_PATH_SEGMENT, namespace, name)?;
        typed_or_log(stored)
    }

    /// Objects of a kind, parsed; an empty `namespace` is all of them.
    pub fn list<K: Object>(&self, namespace: &str) -> Vec<Arc<K>> {
        let namespace = if K::NAMESPACED { namespace } else { "" };
        self.snapshot().list(K::GROUP, K::URL_PATH_SEGMENT, namespace).filter_map(typed_or_log).collect()
    }

    /// Follows a kind, in one namespace or (empty) all of them.
    pub fn watch(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        from: WatchFrom,
    ) -> Result<Cursor, Gone> {
        let prefix = store::prefix(group, resource, "");
        let within = store::prefix(group, resource, namespace);
        Cursor::open(self.clone(), self.log(&prefix), within, from)
    }

    fn log(&self, prefix: &str) -> Arc<KindLog> {
        if let Some(log) = self.shared.logs.read().get(prefix) {
            return log.clone();
        }
        let mut logs = self.shared.logs.write();
        let begins = *self.shared.begins.lock();
        logs.entry(prefix.into())
            .or_insert_with(|| Arc::new(KindLog::new(begins, self.shared.log_share.clone())))
            .clone()
    }

    /// Replaces everything by what the store holds at `revision`. Where the cache held something before,
    /// watchers get the differences as changes. Returns those changes.
    pub fn load(&self, records: Vec<Record>, revision: u64) -> Vec<Change> {
        let before = self.snapshot();
        if before.revision == 0 {
            *self.shared.begins.lock() = revision;
            let mut snapshot = Snapshot { revision, ..Snapshot::default() };
            for record in records {
                let Some(stored) = self.stored(record) else { continue };
                let Some(prefix) = kind_prefix(&stored.key) else { continue };
                snapshot.put(prefix, &stored);
            }
            for log in self.shared.logs.read().values() {
                log.begin(revision);
            }
            self.publish(snapshot);
            return Vec::new();
        }

        let mut gone: std::collections::BTreeMap<&str, &Arc<Stored>> =
            before.all().map(|stored| (&*stored.key, stored)).collect();
        let mut events = Vec::new();
        for record in records {
            let known = gone.remove(record.key.as_str());
            if known.is_some_and(|known| known.revision == record.mod_revision) {
                continue;
            }
            let (key, at, trace) = (record.key.clone(), record.mod_revision, record.trace);
            let successor = known.is_some_and(|known| known.create_revision != record.create_revision);
            if successor {
                events.push((at, Event { key: key.clone(), record: None, trace }));
            }
            events.push((at, Event { key, record: Some(record), trace }));
        }
        for key in gone.keys() {
            events.push((
                revision,
                Event { key: (*key).to_owned(), record: None, trace: TraceContext::default() },
            ));
        }
        events.sort_by_key(|(at, _)| *at);
        let mut batches: Vec<Batch> = Vec::new();
        for (at, event) in events {
            match batches.last_mut() {
                Some(last) if last.revision == at => last.events.push(event),
                _ => batches.push(Batch { revision: at, events: vec![event] }),
            }
        }
        batches.push(Batch { revision, events: Vec::new() });
        self.apply(batches)
    }

    /// Folds batches in, in revision order; those already known are passed over. Returns the changes.
    ///
    /// Only the one task (or actor) that feeds the cache calls this.
    pub fn apply(&self, batches: Vec<Batch>) -> Vec<Change> {
        let mut snapshot = Snapshot::clone(&self.shared.snapshot.load());
        let mut changes = Vec::new();
        for batch in batches {
            if batch.revision < snapshot.revision
                || (batch.revision == snapshot.revision && !batch.events.is_empty())
            {
                continue;
            }
            for event in batch.events {
                changes.extend(self.fold(&mut snapshot, event, batch.revision));
            }
            snapshot.revision = batch.revision;
        }
        // First the logs, then the snapshot, then the wake-ups: a cursor hands out only what the snapshot
        // shows, and is not woken before that.
        let mut touched: std::collections::BTreeMap<Arc<str>, Arc<KindLog>> = Default::default();
        for change in &changes {
            let Some(prefix) = kind_prefix(&change.stored.key) else { continue };
            let log = match touched.get(prefix) {
                Some(log) => log,
                None => touched.entry(prefix.into()).or_insert_with(|| self.log(prefix)),
            };
            log.push(change.clone());
        }
        let revision = snapshot.revision;
        self.publish(snapshot);
        for log in touched.values() {
            log.wake(revision);
        }
        changes
    }

    fn publish(&self, snapshot: Snapshot) {
        let revision = snapshot.revision;
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.revision.send_replace(revision);
    }

    fn fold(&self, snapshot: &mut Snapshot, event: Event, revision: u64) -> Option<Change> {
        let prefix = kind_prefix(&event.key)?;
        match event.record {
            Some(record) => {
                let stored = self.stored(record)?;
                let previous = snapshot.put(prefix, &stored);
                let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
                Some(Change { kind, stored, previous, revision, trace: event.trace })
            }
            None => {
                let previous = snapshot.remove(prefix, &event.key, revision)?;
                let stored = Arc::new(previous.at_deletion(revision, event.trace));
                let kind = ChangeKind::Deleted;
                Some(Change { kind, stored, previous: Some(previous), revision, trace: event.trace })
            }
        }
    }

    pub(crate) fn stored(&self, record: Record) -> Option<Arc<Stored>> {
        if let Some(stored) = self.as_announced(&record) {
            return Some(Arc::new(stored));
        }
        match Stored::parse(&record, self.shared.parsed.clone()) {
            Ok(stored) => Some(Arc::new(stored)),
            Err(error) => {
                tracing::error!(key = record.key, %error, "a stored object is passed over");
                None
            }
        }
    }
}

fn remember(index: &mut Index, at: &str, key: &Arc<str>) {
    if !at.is_empty() {
        index.entry(at.into()).or_default().insert(key.clone());
    }
}

fn forget(index: &mut Index, at: &str, key: &Arc<str>) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

fn typed_or_log<K: Object>(stored: &Arc<Stored>) -> Option<Arc<K>> {
    match stored.typed::<K>() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(key = &*stored.key, %error, "a stored object does not fit its type");
            None
        }
    }
}

#[cfg(test)]
mod tests;
