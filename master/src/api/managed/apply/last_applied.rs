//! `kubectl.kubernetes.io/last-applied-configuration`: the annotation in which client-side apply remembers what
//! it applied. A server-side apply by kubectl takes over the fields that it had, and keeps it up.

use protocol::apply::update::Versions;
use protocol::apply::{Set, compare, fields};
use serde_json::Value;

use super::super::versions::KindVersions;
use crate::api::object::{self, text};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

impl KindVersions<'_> {
    /// Fields that client-side apply set, and that are still as it set them. `None` where it left nothing
    /// behind.
    pub fn last_applied(&self, live: &Value, version: &str) -> Option<Set> {
        let applied: Value = serde_json::from_str(last(live)?).ok()?;
        if text(&applied, &["apiVersion"]) != version {
            return None;
        }
        let shape = self.shape(version)?;
        protocol::apply::validate::validate(shape, &applied, false).ok()?;
        let changed = compare(shape, &applied, live).ok()?;
        let kept = fields::fields(shape, &applied);
        Some(kept.difference(&changed.modified).difference(&changed.added).difference(&changed.removed))
    }
}

fn last(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"].get(ANNOTATION)?.as_str().filter(|t| !t.is_empty())
}

/// Writes the configuration into the annotation of an object that has one.
pub fn follow(object: &mut Value, config: &Value) {
    if last(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = object::existing_mut(&mut config, &["metadata", "annotations"]) {
        annotations.remove(ANNOTATION);
    }
    // As Go writes JSON.
    let text = config.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let annotations = object::object_mut(object, &["metadata", "annotations"]);
    annotations.insert(ANNOTATION.to_owned(), format!("{text}\n").into());
    let size: usize = annotations.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}
