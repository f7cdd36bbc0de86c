//! The parts of an object that writes change, and what a write of one keeps of the others.

use protocol::schema::Empties;
use serde_json::Value;

use super::Subject;
use crate::api::kinds::{self, Generation};
use crate::api::object;

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status (and metadata).
    Status,
    /// A namespace's `spec.finalizers`.
    Finalizers,
    /// A pod's ephemeral containers.
    EphemeralContainers,
    /// A signing request's conditions about approval (and metadata).
    Approval,
    /// The resources of a pod's containers.
    Resize,
}

impl Part {
    /// The part that a subresource writes to; `None` for those that are no part of the object.
    pub fn of(subresource: Option<&str>) -> Option<Part> {
        Some(match subresource {
            None => Part::Main,
            Some("resize") => Part::Resize,
            Some("status") => Part::Status,
            Some("finalize") => Part::Finalizers,
            Some("ephemeralcontainers") => Part::EphemeralContainers,
            Some("approval") => Part::Approval,
            Some(_) => return None,
        })
    }
}

/// Keeps what this write may not change.
pub(super) fn prepare(
    subject: &Subject<'_>,
    part: Part,
    strategy: &kinds::Strategy,
    new: &mut Value,
    old: &Value,
) {
    for name in ["creationTimestamp", "generation", "namespace"] {
        object::copy_meta(old, new, name);
    }
    // What an object that is being deleted says about that stays; to make others so is refused.
    let absent = |new: &Value, name: &str| new["metadata"].get(name).is_none_or(Value::is_null);
    if object::is_deleting(old) {
        object::copy_meta(old, new, "deletionTimestamp");
    }
    if absent(new, "deletionGracePeriodSeconds") {
        object::copy_meta(old, new, "deletionGracePeriodSeconds");
    }
    if object::text(new, &["metadata", "uid"]).is_empty() {
        object::copy_meta(old, new, "uid");
    }
    let has_status = subject.stored.subresource("status").is_some();
    match part {
        Part::Main | Part::Resize => {
            if has_status {
                object::copy_field(old, new, "status");
            }
            if part == Part::Main {
                (strategy.prepare_update)(new, old);
                kinds::without_disabled(subject.stored, new, Some(old));
            } else {
                (strategy.prepare_resize)(new, old);
            }
        }
        Part::Status if subject.custom.is_some() => {
            let mut kept = kept_but_managed(old, new);
            object::copy_field(new, &mut kept, "status");
            *new = kept;
        }
        Part::Status => {
            keep_all_but(new, old, "status");
            if subject.stored.plural == "deployments" {
                object::copy_meta(old, new, "labels");
            }
            (strategy.prepare_status)(new, old);
        }
        Part::Finalizers => {
            let finalizers = new["spec"]["finalizers"].clone();
            object::copy_field(old, new, "spec");
            object::copy_field(old, new, "status");
            if finalizers.is_null() {
                object::object_mut(new, &["spec"]).remove("finalizers");
            } else {
                new["spec"]["finalizers"] = finalizers;
            }
        }
        Part::EphemeralContainers => {
            let containers = new["spec"]["ephemeralContainers"].clone();
            let mut kept = kept_but_managed(old, new);
            if containers.is_null() {
                object::object_mut(&mut kept, &["spec"]).remove("ephemeralContainers");
            } else if containers != kept["spec"]["ephemeralContainers"] {
                kept["spec"]["ephemeralContainers"] = containers;
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                kept["metadata"]["generation"] = generation.into();
            }
            *new = kept;
        }
        Part::Approval => {
            let conditions = new["status"]["conditions"].clone();
            keep_all_but(new, old, "");
            object::object_mut(new, &["status"]).insert("conditions".to_owned(), conditions);
            (strategy.prepare_approval)(new, old);
        }
    }
}

/// Counts the generation of an object that was changed, by its author or by whoever looked at it on its way.
pub(super) fn count(
    subject: &Subject<'_>,
    part: Part,
    strategy: &kinds::Strategy,
    new: &mut Value,
    old: &Value,
    empties: &Empties,
) {
    let counted = matches!(strategy.generation, Generation::States | Generation::Changes);
    if !counted || !matches!(part, Part::Main | Part::Resize) {
        return;
    }
    let has_status = subject.stored.subresource("status").is_some();
    let counts = |(name, _): &(&String, &Value)| match name.as_str() {
        "metadata" | "kind" | "apiVersion" => false,
        "status" => !has_status,
        _ => true,
    };
    let fields = |v: &'_ Value| v.as_object().into_iter().flatten().filter(counts).count();
    let mut all = new.as_object().into_iter().flatten().filter(counts);
    let differs = fields(new) != fields(old) || all.any(|(name, value)| old.get(name) != Some(value));
    // Of two kinds some of the metadata is of the spec.
    let marks = match subject.stored.plural {
        "deployments" => Some("annotations"),
        "endpointslices" => Some("labels"),
        _ => None,
    };
    let marked = marks.is_some_and(|name| !object::same(new, old, &["metadata", name]));
    // What these compare tells an empty list from none, and what is stored cannot.
    let exact = kinds::compared_exactly(subject.stored).is_some_and(|at| empties.remain_in(at, &new[at]));
    if differs || marked || exact {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = generation.into();
    }
}

/// The object as it is, with the managers (and the demanded revision) of a write.
fn kept_but_managed(old: &Value, new: &Value) -> Value {
    let mut kept = old.clone();
    for name in ["resourceVersion", "managedFields"] {
        object::copy_meta(new, &mut kept, name);
    }
    kept
}

/// Puts everything but the metadata and this field back as it was.
fn keep_all_but(new: &mut Value, old: &Value, field: &str) {
    let names: Vec<String> = new
        .as_object()
        .into_iter()
        .flatten()
        .chain(old.as_object().into_iter().flatten())
        .map(|(k, _)| k.clone())
        .collect();
    for name in names {
        if name != field && name != "metadata" {
            object::copy_field(old, new, &name);
        }
    }
}
