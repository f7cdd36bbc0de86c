//! Admission: what the server adds to objects, and what it forbids beyond validation.
//!
//! All of it reads only the snapshot. The plugins are those that upstream has on by default and that this
//! cluster's parts rely on: NamespaceLifecycle, ServiceAccount, DefaultTolerationSeconds, Priority,
//! LimitRanger, TaintNodesByCondition, NodeRestriction.

use protocol::{ApiError, ApiRequest, Verb};
use serde_json::{Value, json};

use super::object;
use super::pipeline::Inner;
use super::registry::Subject;
use crate::cache::Snapshot;

mod limits;
pub(super) mod node_restriction;
mod pods;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// A write on its way through admission.
pub struct Write<'a> {
    /// The request.
    pub request: &'a ApiRequest,
    /// What it is about.
    pub subject: Subject<'a>,
    /// The object as it is stored, for updates.
    pub old: Option<&'a Value>,
    /// What the cluster looks like.
    pub snapshot: &'a Snapshot,
    /// What the client should be told.
    pub warnings: &'a mut Vec<String>,
}

impl Write<'_> {
    fn is(&self, group: &str, plural: &str) -> bool {
        self.subject.stored.group == group && self.subject.stored.plural == plural
    }

    /// A create of the object itself, not of something under it.
    fn creates(&self) -> bool {
        self.old.is_none()
    }
}

/// Changes a new object, or a new state of one.
pub fn mutate(_: &Inner, write: &mut Write<'_>, value: &mut Value) -> Result<(), ApiError> {
    node_restriction::write(write, value)?;
    if write.creates() {
        namespace_lifecycle(write, value)?;
        if write.is("", "pods") {
            pods::mutate(write, value)?;
            limits::apply_defaults(write, value);
        }
        if write.is("", "nodes") {
            not_ready_taint(value);
        }
        if write.is("", "persistentvolumeclaims") {
            default_storage_class(write, value);
        }
        if write.is("certificates.k8s.io", "certificatesigningrequests") {
            let caller = &write.request.caller;
            value["spec"]["username"] = caller.user.clone().into();
            value["spec"]["groups"] = json!(caller.groups);
            if !caller.uid.is_empty() {
                value["spec"]["uid"] = caller.uid.clone().into();
            }
            if !caller.extra.is_empty() {
                value["spec"]["extra"] = json!(caller.extra);
            }
        }
    }
    Ok(())
}

/// Refuses what policy forbids.
pub fn validate(inner: &Inner, write: &mut Write<'_>, value: &Value) -> Result<(), ApiError> {
    if write.creates() && write.is("", "pods") {
        limits::check(write, value)?;
    }
    if write.is("rbac.authorization.k8s.io", write.subject.stored.plural) {
        inner.check_escalation(write, value)?;
    }
    Ok(())
}

/// Refuses to delete what a cluster cannot do without.
pub fn deletion(subject: &Subject<'_>) -> Result<(), ApiError> {
    if subject.stored.plural == "namespaces" && IMMORTAL.contains(&subject.name) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden("", "namespaces", subject.name, why));
    }
    Ok(())
}

fn namespace_lifecycle(write: &Write<'_>, value: &Value) -> Result<(), ApiError> {
    let namespace = write.subject.namespace;
    if namespace.is_empty() || !write.subject.resource.namespaced {
        return Ok(());
    }
    let Some(stored) = write.snapshot.get("", "namespaces", "", namespace) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if stored.meta.is_deleting() && write.request.verb == Verb::Create {
        let resource = write.subject.resource;
        let (name, why) = (
            object::name(value),
            format!("unable to create new content in namespace {namespace} because it is being terminated"),
        );
        let mut details = json!({"kind": resource.plural, "causes": [{
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace"}]});
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !resource.group.is_empty() {
            details["group"] = resource.group.into();
        }
        let qualified = protocol::error::qualified(resource.group, resource.plural);
        return Err(ApiError::about(
            403,
            "Forbidden",
            format!("{qualified} \"{name}\" is forbidden: {why}"),
            details,
        ));
    }
    Ok(())
}

/// A new node takes no pods until it says that it is ready.
fn not_ready_taint(node: &mut Value) {
    let mut taints = object::list(node, &["spec", "taints"]).to_vec();
    let key = "node.kubernetes.io/not-ready";
    if !taints.iter().any(|t| t["key"] == key && t["effect"] == "NoSchedule") {
        taints.push(json!({"key": key, "effect": "NoSchedule"}));
        object::object_mut(node, &["spec"]).insert("taints".to_owned(), taints.into());
    }
}

/// A claim that names no class gets the default one, the newest if there are several.
fn default_storage_class(write: &Write<'_>, claim: &mut Value) {
    if !claim["spec"]["storageClassName"].is_null() {
        return;
    }
    let annotation = "storageclass.kubernetes.io/is-default-class";
    let newest = write
        .snapshot
        .list("storage.k8s.io", "storageclasses", "")
        .filter(|s| {
            s.value().is_ok_and(|v| object::text(&v, &["metadata", "annotations", annotation]) == "true")
        })
        .max_by(|a, b| {
            a.meta.creation_timestamp.cmp(&b.meta.creation_timestamp).then(b.meta.name.cmp(&a.meta.name))
        });
    if let Some(class) = newest {
        object::object_mut(claim, &["spec"])
            .insert("storageClassName".to_owned(), (&*class.meta.name).into());
    }
}
