//! The garbage collector: deletes what its owners left behind, orphans what they gave up, and holds an
//! owner's foreground deletion until its dependents are gone.
//!
//! Follows every kind of the table; [`graph`] keeps who depends on whom, [`decide`] says what to do about
//! one object. The graph only tells whom to look at: what is done is decided on the cache, and an owner
//! counts as absent only when the server itself says so.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use protocol::{ApiRequest, PatchKind, Resource, Target, Verb, resources};
use serde_json::{Value, json};

use crate::api::custom::Catalog;
use crate::cache::{Cache, Change, ChangeKind, OwnerRef, Stored};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::store;

pub mod decide;
pub mod graph;

use decide::{Action, FOREGROUND, ORPHAN, OwnerState};
use graph::Graph;

/// The controller.
#[derive(Default)]
pub struct GarbageCollector {
    graph: Arc<Mutex<Graph>>,
}

/// The queue's key of an object: its store key, without the root.
fn key_of(stored: &Stored) -> Key {
    Key::new("", stored.key.strip_prefix(store::ROOT).unwrap_or(&stored.key).trim_start_matches('/'))
}

fn stored_of(cache: &Cache, key: &Key) -> Option<Arc<Stored>> {
    let root = store::ROOT.trim_end_matches('/');
    cache.snapshot().get_key(&format!("{root}/{}", key.name)).cloned()
}

fn has_finalizer(stored: &Stored, finalizer: &str) -> bool {
    stored.meta.finalizers.iter().any(|f| **f == *finalizer)
}

/// Kinds that own nothing and are owned by nobody, and change all the time.
fn is_followed(group: &str, plural: &str) -> bool {
    !matches!((group, plural), ("" | "events.k8s.io", "events"))
}

impl GarbageCollector {
    fn concerned(graph: &Mutex<Graph>, change: &Change) -> Vec<Key> {
        let key = key_of(&change.stored);
        let owners: Vec<Box<str>> = change.stored.meta.owners.iter().map(|o| o.uid.clone()).collect();
        let mut graph = graph.lock();
        let uid = &change.stored.meta.uid;
        if change.kind == ChangeKind::Deleted {
            let mut keys = graph.dependents(uid);
            // An owner whose foreground deletion waits for this one may go on.
            keys.extend(owners.iter().filter_map(|o| graph.key(o)));
            graph.remove(uid);
            return keys;
        }
        let left = graph.set(uid, key.clone(), owners);
        // An owner whose foreground deletion waits for this one may go on: it is its own no more, or blocks nobody now.
        let unblocked = change.previous.as_ref().map(|p| p.meta.owners.iter()).into_iter().flatten();
        let unblocked = unblocked.filter(|o| {
            let now = change.stored.meta.owners.iter().find(|owner| owner.uid == o.uid);
            o.block_owner_deletion && now.is_some_and(|now| !now.block_owner_deletion)
        });
        let mut keys: Vec<Key> =
            left.iter().chain(unblocked.map(|o| &o.uid)).filter_map(|owner| graph.key(owner)).collect();
        if change.stored.meta.is_deleting() {
            if has_finalizer(&change.stored, FOREGROUND) {
                keys.extend(graph.dependents(uid));
            }
            if has_finalizer(&change.stored, FOREGROUND) || has_finalizer(&change.stored, ORPHAN) {
                keys.push(key.clone());
            }
        }
        if !change.stored.meta.owners.is_empty() && !keys.contains(&key) {
            let before = change.previous.as_ref().map(|p| &p.meta.owners);
            if before != Some(&change.stored.meta.owners) || change.kind == ChangeKind::Added {
                keys.push(key);
            }
        }
        keys
    }

    /// The object's dependents that still exist and still name it as owner.
    fn dependents(&self, cx: &Cx, uid: &str) -> Vec<Arc<Stored>> {
        let keys = self.graph.lock().dependents(uid);
        keys.iter()
            .filter_map(|key| stored_of(&cx.cache, key))
            .filter(|s| s.meta.owners.iter().any(|o| *o.uid == *uid))
            .collect()
    }

    /// Says that an owner is there, but where the object can have none.
    fn tell_of_other_namespace(&self, cx: &Cx, item: &Stored, owner: &OwnerRef) {
        let key = self.graph.lock().key(&owner.uid);
        let there = key.and_then(|key| stored_of(&cx.cache, &key)).map(|found| found.meta.namespace.clone());
        if there.is_none_or(|namespace| namespace.is_empty() || namespace == item.meta.namespace) {
            return;
        }
        let (group, plural) = item.kind();
        let Some(kind) = cx.cache.derived::<Catalog>().find_any(group, plural) else { return };
        let text = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
        let about = ObjectReference {
            api_version: Some(kind.api_version()),
            kind: text(kind.kind),
            namespace: text(&item.meta.namespace),
            name: text(&item.meta.name),
            uid: text(&item.meta.uid),
            ..ObjectReference::default()
        };
        let namespace = &item.meta.namespace;
        let message = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        cx.events.tell(about, "Warning", "OwnerRefInvalidNamespace", message);
    }

    async fn owner_state(
        &self,
        cx: &Cx,
        item: &Stored,
        owner: &OwnerRef,
    ) -> Result<OwnerState, ReconcileError> {
        let catalog = cx.cache.derived::<Catalog>();
        let Some(kind) = catalog.by_kind(&owner.api_version, &owner.kind) else {
            // A kind that is not served here: nothing is known of it, so it is left alone.
            return Ok(OwnerState::Present);
        };
        if kind.namespaced && item.meta.namespace.is_empty() {
            return Ok(OwnerState::Present);
        }
        let namespace: &str = if kind.namespaced { &item.meta.namespace } else { "" };
        let snapshot = cx.cache.snapshot();
        let cached = snapshot.get(kind.storage_group(), kind.plural, namespace, &owner.name);
        if let Some(found) = cached.filter(|s| s.meta.uid == owner.uid) {
            let waits = found.meta.is_deleting() && has_finalizer(found, FOREGROUND);
            return Ok(if waits { OwnerState::Waiting } else { OwnerState::Present });
        }
        let target = Target {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: kind.namespaced.then(|| namespace.to_owned()),
            name: Some(owner.name.to_string()),
            subresource: None,
        };
        match cx.client.send(ApiRequest::new(Verb::Get, target)).await {
            Err(e) if e.is_not_found() => Ok(OwnerState::Absent),
            Err(e) => Err(e.into()),
            Ok(answer) => {
                let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
                let same = value["metadata"]["uid"].as_str() == Some(&owner.uid);
                Ok(if same { OwnerState::Present } else { OwnerState::Absent })
            }
        }
    }
}

impl Reconciler for GarbageCollector {
    const NAME: &'static str = "garbage_collector_attempt_to_delete";
    const ACCOUNT: &'static str = "generic-garbage-collector";
    const COMPONENT: &'static str = "garbage-collector-controller";
    const RESOURCE: &'static str = "objects";
    const WORKERS: usize = 16;

    fn watches(&self) -> Vec<Watch> {
        // Called when the actor starts: it then sees everything that exists, and what it missed while it was
        // down must not linger.
        self.graph.lock().clear();
        let kinds = resources::all().iter().filter(|r| {
            r.is_stored() && !r.is_view() && r.allows(Verb::Delete) && is_followed(r.group, r.plural)
        });
        let mut seen: Vec<(&str, &str)> = Vec::new();
        let mut watches = Vec::new();
        for kind in kinds {
            // A kind that is served in several versions is stored once.
            if seen.contains(&(kind.storage_group(), kind.plural)) {
                continue;
            }
            seen.push((kind.storage_group(), kind.plural));
            let graph = self.graph.clone();
            watches.push(Watch {
                group: kind.storage_group(),
                resource: kind.plural,
                map: Box::new(move |change, _| GarbageCollector::concerned(&graph, change)),
            });
        }
        watches
    }

    fn watch_declared(&self, kind: &'static Resource) -> Option<Watch> {
        let graph = self.graph.clone();
        let map = Box::new(move |change: &_, _: &_| GarbageCollector::concerned(&graph, change));
        Some(Watch { group: kind.group, resource: kind.plural, map })
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(item) = stored_of(&cx.cache, key) else { return Ok(Outcome::DONE) };
        let deleting = item.meta.is_deleting();
        if deleting && has_finalizer(&item, ORPHAN) {
            for dependent in self.dependents(cx, &item.meta.uid) {
                drop_owners(cx, &dependent, &[&item.meta.uid]).await?;
            }
            return remove_finalizer(cx, &item, ORPHAN).await;
        }
        if deleting && has_finalizer(&item, FOREGROUND) {
            let dependents = self.dependents(cx, &item.meta.uid);
            let blocks = |d: &&Arc<Stored>| {
                d.meta.owners.iter().any(|o| o.uid == item.meta.uid && o.block_owner_deletion)
            };
            if dependents.iter().find(blocks).is_none() {
                return remove_finalizer(cx, &item, FOREGROUND).await;
            }
        } else if deleting {
            return Ok(Outcome::DONE);
        }
        if item.meta.owners.is_empty() {
            return Ok(Outcome::DONE);
        }
        let mut states = Vec::with_capacity(item.meta.owners.len());
        for owner in &item.meta.owners {
            self.tell_of_other_namespace(cx, &item, owner);
            states.push((owner.clone(), self.owner_state(cx, &item, owner).await?));
        }
        let dependents = self.dependents(cx, &item.meta.uid).iter().any(|d| !d.meta.is_deleting());
        match decide::decide(
            &states,
            has_finalizer(&item, ORPHAN),
            has_finalizer(&item, FOREGROUND),
            dependents,
        ) {
            Action::Nothing => {}
            Action::DropOwners(uids) => {
                let uids: Vec<&str> = uids.iter().map(AsRef::as_ref).collect();
                drop_owners(cx, &item, &uids).await?;
            }
            Action::Delete(_) if deleting => {}
            Action::Delete(policy) => delete(cx, &item, policy).await?,
        }
        Ok(Outcome::DONE)
    }
}

fn target(cx: &Cx, item: &Stored) -> Option<Target> {
    let (group, plural) = item.kind();
    let kind = cx.cache.derived::<Catalog>().find_any(group, plural)?;
    Some(Target {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        resource: kind.plural.to_owned(),
        namespace: Some(item.meta.namespace.to_string()).filter(|n| !n.is_empty()),
        name: Some(item.meta.name.to_string()),
        subresource: None,
    })
}

async fn patch(cx: &Cx, item: &Stored, patch: Value) -> Result<(), ReconcileError> {
    let Some(target) = target(cx, item) else { return Ok(()) };
    let mut request = ApiRequest::new(Verb::Patch, target);
    request.patch = Some(PatchKind::Merge);
    request.body = patch.to_string().into();
    match cx.client.send(request).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Takes owner references away. A merge patch replaces the whole list, so it is guarded by the revision
/// that the list was read at.
async fn drop_owners(cx: &Cx, item: &Stored, uids: &[&str]) -> Result<(), ReconcileError> {
    let value = item.value().map_err(|e| ReconcileError::Other(e.to_string()))?;
    let kept: Vec<&Value> = value["metadata"]["ownerReferences"]
        .as_array()
        .map(|list| list.iter().filter(|o| !uids.iter().any(|u| o["uid"].as_str() == Some(u))).collect())
        .unwrap_or_default();
    let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
    let guard = json!({"metadata": {"uid": item.meta.uid, "resourceVersion": item.revision.to_string(),
        "ownerReferences": kept}});
    patch(cx, item, guard).await
}

async fn remove_finalizer(cx: &Cx, item: &Stored, finalizer: &str) -> Result<Outcome, ReconcileError> {
    let kept: Vec<&str> =
        item.meta.finalizers.iter().map(AsRef::as_ref).filter(|f| *f != finalizer).collect();
    let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
    let guard = json!({"metadata": {"uid": item.meta.uid, "resourceVersion": item.revision.to_string(),
        "finalizers": kept}});
    patch(cx, item, guard).await?;
    Ok(Outcome::DONE)
}

async fn delete(cx: &Cx, item: &Stored, policy: &str) -> Result<(), ReconcileError> {
    let Some(target) = target(cx, item) else { return Ok(()) };
    let mut request = ApiRequest::new(Verb::Delete, target);
    request.options.propagation_policy = Some(policy.to_owned());
    request.options.precondition_uid = Some(item.meta.uid.to_string());
    request.options.precondition_resource_version = Some(item.revision.to_string());
    match cx.client.send(request).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}
