//! Admission: what the server adds to objects, and what it forbids beyond validation.
//!
//! All of it reads only the snapshot. The plugins are those that upstream has on by default, one file each,
//! in upstream's order.

use std::sync::Arc;

use protocol::schema::Empties;
use protocol::{ApiError, ApiRequest};
use serde_json::Value;

use self::reinvocation::Reinvocation;
use super::pipeline::Inner;
use super::registry::Subject;
use crate::cache::Snapshot;

mod admin_access;
pub use admin_access::refused as refused_access;
pub mod calls;
mod certificates;
pub mod config;
mod default_class;
mod default_tolerations;
mod limit_ranger;
mod mirror_pods;
mod namespace_lifecycle;
pub(super) mod node_restriction;
mod node_taint;
mod pod_security;
pub mod pod_topology;
mod priority;
pub mod quota;
pub mod reinvocation;
mod runtime_class;
mod secret_references;
mod service_account;
pub mod storage;

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
    /// What was given as empty, where a new object is written.
    pub given_empty: Option<&'a Empties>,
}

impl Write<'_> {
    fn is(&self, group: &str, plural: &str) -> bool {
        self.subject.stored.group == group && self.subject.stored.plural == plural
    }

    /// The refusal of an object, which may have no name yet.
    fn forbidden(&self, name: &str, why: &str) -> ApiError {
        let resource = self.subject.resource;
        let name = if name.is_empty() { "Unknown" } else { name };
        ApiError::forbidden(resource.group, resource.plural, name, why)
    }

    /// A create of the object itself, not of something under it.
    fn creates(&self) -> bool {
        self.old.is_none()
    }

    /// The part of the object that is written; empty for the object itself.
    pub fn subresource(&self) -> &str {
        self.request.target.subresource.as_deref().unwrap_or_default()
    }
}

/// A snapshot to admit a new object by: with what was written here before, with its namespace if there is one, and with
/// what the cluster is just about to make. A dry run is not told at its end that the object exists: it sees all there is.
pub async fn settled(
    inner: &Inner,
    request: &ApiRequest,
    subject: &Subject<'_>,
    value: &Value,
) -> Result<Arc<Snapshot>, ApiError> {
    let snapshot = if request.options.dry_run { inner.fresh().await? } else { inner.recent().await? };
    let snapshot = with_namespace(inner, snapshot, subject.namespace).await?;
    if !inner.config.admission.is_on("ServiceAccount") {
        return Ok(snapshot);
    }
    Ok(service_account::awaited(inner, subject, value, snapshot).await)
}

/// A snapshot that shows a namespace, if there is one; the one given does if it can.
pub async fn with_namespace(
    inner: &Inner,
    snapshot: Arc<Snapshot>,
    namespace: &str,
) -> Result<Arc<Snapshot>, ApiError> {
    let known = namespace.is_empty() || snapshot.get("", "namespaces", "", namespace).is_some();
    if known { Ok(snapshot) } else { inner.fresh().await }
}

/// Changes a new object, or a new state of one. What policies and webhooks change is looked at by everybody as if it had
/// been sent.
pub async fn mutate(inner: &Inner, write: &mut Write<'_>, value: &mut Value) -> Result<(), ApiError> {
    let mut looks = Reinvocation::default();
    loop {
        own_changes(inner, write, value)?;
        inner.apply_policies(write, value, &mut looks).await?;
        inner.call_mutating(write, value, &mut looks).await?;
        if !looks.again() {
            break;
        }
    }
    // Who may not grant what a role says does not learn whether it is valid.
    if write.is("rbac.authorization.k8s.io", write.subject.stored.plural) {
        inner.check_escalation(write, value)?;
    }
    Ok(())
}

/// The changes of the server's own plugins, which may be made twice.
fn own_changes(inner: &Inner, write: &mut Write<'_>, value: &mut Value) -> Result<(), ApiError> {
    let on = |plugin| inner.config.admission.is_on(plugin);
    namespace_lifecycle::mutate(write, value)?;
    if on("LimitRanger") {
        limit_ranger::mutate(write, value);
    }
    if on("ServiceAccount") {
        service_account::mutate(write, value)?;
    }
    node_restriction::write(write, value)?;
    if on("TaintNodesByCondition") {
        node_taint::mutate(write, value);
    }
    if on("Priority") {
        priority::mutate(write, value)?;
    }
    if on("DefaultTolerationSeconds") {
        default_tolerations::mutate(write, value);
    }
    if on("DefaultStorageClass") {
        default_class::storage(write, value);
    }
    if on("StorageObjectInUseProtection") {
        storage::protect(write, value);
    }
    if on("RuntimeClass") {
        runtime_class::mutate(write, value)?;
    }
    certificates::mutate(write, value);
    if on("DefaultIngressClass") {
        default_class::ingress(write, value)?;
    }
    Ok(())
}

/// Refuses what policy forbids.
pub async fn validate(inner: &Inner, write: &mut Write<'_>, value: &Value) -> Result<(), ApiError> {
    let config = &inner.config.admission;
    let on = |plugin| config.is_on(plugin);
    if on("LimitRanger") {
        limit_ranger::validate(write, value)?;
    }
    if on("ServiceAccount") {
        service_account::validate(write, value)?;
    }
    if on("PodSecurity") {
        pod_security::validate(&config.pod_security, write, value)?;
    }
    if on("Priority") {
        priority::validate(write, value)?;
    }
    if on("PersistentVolumeClaimResize") {
        storage::resize(write, value)?;
    }
    if on("RuntimeClass") {
        runtime_class::validate(write, value)?;
    }
    certificates::validate(inner, write, value)?;
    inner.check_policies(write, Some(value)).await
}

/// Refuses to delete what a cluster cannot do without.
pub async fn deletion(inner: &Inner, write: &mut Write<'_>) -> Result<(), ApiError> {
    namespace_lifecycle::deletion(&write.subject)?;
    priority::deletion(&write.subject)?;
    inner.check_policies(write, None).await
}
