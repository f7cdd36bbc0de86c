//! Which ReplicaSet is the current one, and the annotations in which revisions and sizes are kept.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::hash::without_hash;
use crate::controllers::machinery::meta::{annotation, created_second, name};

/// The revision of a Deployment, or of a ReplicaSet in its history.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions that a ReplicaSet stood for before a rollback made it current again.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when it last sized this ReplicaSet.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods that the Deployment allowed then, surge included.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

const HISTORY_BYTES_MAX: usize = 2000;

/// The revision that a Deployment shall go back to; 0 for the one before.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// Annotations of a Deployment that say nothing about its ReplicaSets.
pub const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];

/// The revision in an object's annotations; 0 where there is none.
pub fn revision_of(rs: &ReplicaSet) -> i64 {
    annotation(&rs.metadata, REVISION).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Oldest first; names break ties.
pub fn sort_by_age(list: &mut [&ReplicaSet]) {
    list.sort_by(|a, b| {
        created_second(&a.metadata)
            .cmp(&created_second(&b.metadata))
            .then_with(|| name(&a.metadata).cmp(name(&b.metadata)))
    });
}

/// The oldest ReplicaSet whose template is the Deployment's. The oldest, so that the choice stays the same
/// should two match.
pub fn find_new<'a>(d: &Deployment, all: &[&'a ReplicaSet]) -> Option<&'a ReplicaSet> {
    let wanted = d.spec.as_ref().map(|s| without_hash(&s.template))?;
    let mut sorted = all.to_vec();
    sort_by_age(&mut sorted);
    sorted.into_iter().find(|rs| {
        rs.spec.as_ref().and_then(|s| s.template.as_ref()).is_some_and(|t| without_hash(t) == wanted)
    })
}

/// Brings a current ReplicaSet's annotations up to date: the Deployment's own, the revision and, after a
/// rollback, the history. Returns whether anything changed.
pub fn annotate(d: &Deployment, rs: &mut ReplicaSet, new_revision: i64) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_with(BTreeMap::new);
    let mut changed = false;
    for (k, v) in d.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&k.as_str()) && annotations.get(k) != Some(v) {
            annotations.insert(k.clone(), v.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref() {
        None | Some("") => 0,
        // A revision that is no number was written by somebody else: leave it.
        Some(text) => match text.parse::<i64>() {
            Ok(n) => n,
            Err(_) => return changed,
        },
    };
    if old_number < new_revision {
        annotations.insert(REVISION.to_owned(), new_revision.to_string());
        changed = true;
        if let Some(old) = old {
            let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
            annotations.insert(REVISION_HISTORY.to_owned(), append_history(&history, &old));
        }
    }
    changed
}

/// Appends a revision, dropping the oldest ones where the list grows too long.
fn append_history(history: &str, revision: &str) -> String {
    let mut list: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    list.push(revision);
    let mut joined = list.join(",");
    while joined.len() > HISTORY_BYTES_MAX && list.len() > 1 {
        list.remove(0);
        joined = list.join(",");
    }
    joined
}

/// Writes the Deployment's size and its limit on the ReplicaSet; returns whether they changed.
pub fn set_sizes(rs: &mut ReplicaSet, desired: i32, max: i32) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_with(BTreeMap::new);
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, desired.to_string()), (MAX_REPLICAS, max.to_string())] {
        if annotations.get(key) != Some(&value) {
            annotations.insert(key.to_owned(), value);
            changed = true;
        }
    }
    changed
}

/// The Deployment's size when it last sized this ReplicaSet.
pub fn desired_of(rs: &ReplicaSet) -> Option<i32> {
    annotation(&rs.metadata, DESIRED_REPLICAS)?.parse().ok()
}

/// The most pods that the Deployment allowed then.
pub fn max_of(rs: &ReplicaSet) -> Option<i32> {
    annotation(&rs.metadata, MAX_REPLICAS)?.parse().ok()
}
