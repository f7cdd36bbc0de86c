//! The history of a pod template, as ControllerRevisions: what StatefulSets and DaemonSets roll out and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use protocol::{Object, PatchKind};
use serde_json::{Value, json};

use super::claim::{adopt_patch, classify, still_exists};
use super::labels::Selector;
use super::meta::{controller_reference, created_second, is_controlled_by, name, namespace, uid};
use super::{Cx, ReconcileError};
use crate::controllers::deployment::hash::safe_encode;

/// Label of a revision with the hash of its template.
pub const HASH: &str = "controller.kubernetes.io/hash";
/// Label of a pod with the revision that it was made from.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// A template as a revision keeps it: a patch that puts it in place of any other.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0["spec"]["template"].clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash in a revision's name: of its data, salted by how often earlier ones collided.
pub fn hash(data: &Value, collisions: i32) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    feed(data.to_string().as_bytes());
    if collisions > 0 {
        feed(&collisions.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// The revisions of an owner, oldest first, after adopting those that it selects and that nobody owns: what an
/// owner of the same name and selector left behind goes on as this one's history.
pub async fn claim<K: Object>(
    cx: &Cx,
    owner: &K,
    selector: &Selector,
) -> Result<Vec<Arc<ControllerRevision>>, ReconcileError> {
    let meta = owner.metadata();
    let snapshot = cx.cache.snapshot();
    let candidates = snapshot
        .list("apps", "controllerrevisions", namespace(meta))
        .filter(|s| s.meta.controller().is_none_or(|c| &*c.uid == uid(meta)))
        .filter_map(|s| s.typed::<ControllerRevision>().ok());
    let claimed = classify(meta, selector, candidates, |r| &r.metadata);
    // One that is owned stays so, whatever its labels say.
    let mut revisions = claimed.keep;
    revisions.extend(claimed.release);
    if !claimed.adopt.is_empty() {
        still_exists::<K>(cx, meta).await?;
    }
    for orphan in claimed.adopt {
        let patch = adopt_patch(owner, &orphan.metadata);
        let (ns, n) = (namespace(meta), name(&orphan.metadata));
        match cx.client.patch::<ControllerRevision>(ns, n, None, PatchKind::Strategic, &patch).await {
            Ok(adopted) => revisions.push(Arc::new(adopted)),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    revisions.sort_by(|a, b| {
        a.revision
            .cmp(&b.revision)
            .then_with(|| created_second(&a.metadata).cmp(&created_second(&b.metadata)))
            .then_with(|| name(&a.metadata).cmp(name(&b.metadata)))
    });
    Ok(revisions)
}

/// What stands for a template in a history.
#[derive(Debug, PartialEq)]
pub enum Place {
    /// This one, as it is.
    Is(Arc<ControllerRevision>),
    /// This one, once it is the newest again.
    Again(Arc<ControllerRevision>, i64),
    /// None yet; a new one has this number.
    New(i64),
}

/// Finds a template in a history (oldest first).
pub fn place(history: &[Arc<ControllerRevision>], wanted: &Value) -> Place {
    let next = history.iter().map(|r| r.revision).max().unwrap_or(0) + 1;
    let same = |r: &&Arc<ControllerRevision>| r.data.as_ref().is_some_and(|d| d.0 == *wanted);
    match history.iter().rev().find(same) {
        None => Place::New(next),
        Some(found) if history.last().is_some_and(|last| last.metadata.uid == found.metadata.uid) => {
            Place::Is(found.clone())
        }
        Some(found) => Place::Again(found.clone(), next),
    }
}

/// What a new revision is made from.
pub struct Wanted<'a> {
    /// The template.
    pub template: &'a PodTemplateSpec,
    /// How often names collided so far; counted on.
    pub collisions: i32,
    /// Label under which the hash is put.
    pub label: &'static str,
}

/// The revision that stands for a template: found, made the newest again, or new.
pub async fn current<K: Object>(
    cx: &Cx,
    owner: &K,
    history: &[Arc<ControllerRevision>],
    wanted: &mut Wanted<'_>,
) -> Result<Arc<ControllerRevision>, ReconcileError> {
    let data = data(wanted.template);
    let number = match place(history, &data) {
        Place::Is(revision) => return Ok(revision),
        Place::Again(revision, number) => {
            let mut copy = (*revision).clone();
            copy.revision = number;
            return Ok(Arc::new(cx.client.update(&copy).await?));
        }
        Place::New(number) => number,
    };
    let meta = owner.metadata();
    loop {
        let hash = hash(&data, wanted.collisions);
        let labels = wanted.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        let labels: BTreeMap<String, String> =
            labels.into_iter().chain([(wanted.label.to_owned(), hash.clone())]).collect();
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(revision_name(name(meta), &hash)),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                annotations: meta.annotations.clone(),
                owner_references: Some(vec![controller_reference(owner)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data.clone())),
            revision: number,
        };
        match cx.client.create(&revision).await {
            Ok(made) => return Ok(Arc::new(made)),
            Err(e) if e.is_already_exists() => {
                let there: ControllerRevision =
                    cx.client.get(namespace(meta), name(&revision.metadata)).await?;
                if there.data == revision.data && is_controlled_by(&there.metadata, uid(meta)) {
                    return Ok(Arc::new(there));
                }
                wanted.collisions += 1;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn revision_name(owner: &str, hash: &str) -> String {
    const OWNER_BYTES_MAX: usize = 223;
    let end =
        owner.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|e| *e <= OWNER_BYTES_MAX).last();
    format!("{}-{hash}", &owner[..end.unwrap_or(0)])
}

/// Deletes the oldest revisions that nothing stands for any more, but for the last `keep`.
pub async fn truncate(
    cx: &Cx,
    history: &[Arc<ControllerRevision>],
    live: impl Fn(&ControllerRevision) -> bool,
    keep: i32,
) -> Result<(), ReconcileError> {
    let dead: Vec<_> = history.iter().filter(|r| !live(r)).collect();
    let surplus = dead.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
    for revision in &dead[..surplus] {
        let meta = &revision.metadata;
        match cx.client.delete::<ControllerRevision>(namespace(meta), name(meta), Some(uid(meta)), None).await
        {
            Err(e) if !e.is_not_found() && !e.is_conflict() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, image: &str) -> Arc<ControllerRevision> {
        let template: PodTemplateSpec =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap();
        let meta =
            ObjectMeta { name: Some(name.to_owned()), uid: Some(name.to_owned()), ..ObjectMeta::default() };
        Arc::new(ControllerRevision {
            metadata: meta,
            data: Some(RawExtension(data(&template))),
            revision: number,
        })
    }

    #[test]
    fn a_template_is_found_brought_back_or_new() {
        let (a, b) = (revision("a", 1, "a"), revision("b", 2, "b"));
        let history = [a.clone(), b.clone()];
        let of = |r: &Arc<ControllerRevision>| r.data.as_ref().unwrap().0.clone();
        assert_eq!(place(&history, &of(&b)), Place::Is(b));
        assert_eq!(place(&history, &of(&a)), Place::Again(a.clone(), 3));
        assert_eq!(place(&history, &of(&revision("c", 0, "c"))), Place::New(3));
        assert_eq!(place(&[], &of(&a)), Place::New(1));
        let kept = template(&a).unwrap();
        assert_eq!(data(&kept), of(&a), "what is kept comes out as it went in");
    }

    #[test]
    fn hashes_differ_by_data_and_by_collision() {
        let (a, b) = (json!({"a": 1}), json!({"a": 2}));
        assert_eq!(hash(&a, 0), hash(&a, 0));
        assert_ne!(hash(&a, 0), hash(&b, 0));
        assert_ne!(hash(&a, 0), hash(&a, 1));
    }
}
