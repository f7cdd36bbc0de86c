//! ServiceAccount: a new pod runs as some account of its namespace, and finds its token.

use std::sync::Arc;
use std::time::Duration;

use protocol::ApiError;
use serde_json::{Value, json};

use super::{Write, mirror_pods, secret_references};
use crate::api::invalid::go_quote;
use crate::api::meta::{self, NameRule};
use crate::api::object::{self, list, list_mut, object_mut, text};
use crate::api::pipeline::Inner;
use crate::api::registry::Subject;
use crate::api::registry::create::suffix;
use crate::cache::{Snapshot, Stored};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The kubelet asks for a new token well before the old one ends.
const TOKEN_SECONDS: i64 = 3607;

/// How long a pod waits for its namespace's default account, which a controller makes.
const ACCOUNT_TIME: Duration = Duration::from_millis(1500);

/// A snapshot with the account that a new pod runs as, if it is the default one and comes in time.
pub(super) async fn awaited(
    inner: &Inner,
    subject: &Subject<'_>,
    pod: &Value,
    snapshot: Arc<Snapshot>,
) -> Arc<Snapshot> {
    let stored = subject.stored;
    if !stored.group.is_empty() || stored.plural != "pods" {
        return snapshot;
    }
    let name = match text(pod, &["spec", "serviceAccountName"]) {
        "" => "default",
        name => name,
    };
    let namespace = subject.namespace;
    let there = |s: &Snapshot| s.get("", "serviceaccounts", namespace, name).is_some();
    if name != "default" || there(&snapshot) || snapshot.get("", "namespaces", "", namespace).is_none() {
        return snapshot;
    }
    let deadline = tokio::time::Instant::now() + ACCOUNT_TIME;
    let mut newest = snapshot;
    while !there(&newest) {
        let next = inner.cache.wait_for(newest.revision() + 1);
        match tokio::time::timeout_at(deadline, next).await {
            Ok(next) => newest = next,
            Err(_) => break,
        }
    }
    newest
}

pub(super) fn mutate(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !write.creates() || !write.is("", "pods") {
        return Ok(());
    }
    if mirror_pods::is_mirror(pod) { mirror(write, pod) } else { service_account(write, pod) }
}

/// What a node says of its own static pods stands for itself: it needs no account, and may have none.
fn mirror(write: &Write<'_>, pod: &Value) -> Result<(), ApiError> {
    let refused = mirror_pods::refusal(pod);
    refused.map_or(Ok(()), |why| Err(write.forbidden(object::name_so_far(pod), why)))
}

fn service_account(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let spec = object_mut(pod, &["spec"]);
    object::default(spec, "serviceAccountName", "default");
    let name = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    spec.insert("serviceAccount".to_owned(), name.clone().into());
    let account = account(write, pod)?;
    // Most accounts say nothing about the pods that run as them.
    let says =
        ["automountServiceAccountToken", "imagePullSecrets"].iter().any(|field| account.mentions(field));
    let account = if says { account.value().map_err(ApiError::internal)? } else { Value::Null };
    let wanted = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount_token(pod);
    }
    if list(pod, &["spec", "imagePullSecrets"]).is_empty() {
        let secrets = list(&account, &["imagePullSecrets"]).to_vec();
        if !secrets.is_empty() {
            object_mut(pod, &["spec"]).insert("imagePullSecrets".to_owned(), secrets.into());
        }
    }
    Ok(())
}

/// The account that a pod runs as.
fn account<'a>(write: &'a Write<'_>, pod: &Value) -> Result<&'a Arc<Stored>, ApiError> {
    let (namespace, name) = (write.subject.namespace, text(pod, &["spec", "serviceAccountName"]));
    write.snapshot.get("", "serviceaccounts", namespace, name).ok_or_else(|| {
        let wrong = meta::name_errors(NameRule::PathSegment, name, false);
        let cause = match wrong.is_empty() {
            true => format!("serviceaccount \"{name}\" not found"),
            false => format!("invalid resource name {}: [{}]", go_quote(name), wrong.join(" ")),
        };
        let why = format!("error looking up service account {namespace}/{name}: {cause}");
        write.forbidden(object::name_so_far(pod), &why)
    })
}

/// Refuses pods that refer to secrets that their account does not let them.
pub(super) fn validate(write: &Write<'_>, pod: &Value) -> Result<(), ApiError> {
    let ephemeral = write.subresource() == "ephemeralcontainers";
    let new = write.creates() && write.subresource().is_empty();
    if !(new || ephemeral) || !write.is("", "pods") {
        return Ok(());
    }
    if mirror_pods::is_mirror(pod) {
        return mirror(write, pod);
    }
    let account = account(write, pod)?;
    // Few accounts bind their pods.
    if !account.mentions(secret_references::ENFORCED) {
        return Ok(());
    }
    let account = account.value().map_err(ApiError::internal)?;
    if !secret_references::is_enforced(&account) {
        return Ok(());
    }
    let refused = if ephemeral {
        secret_references::refusal_of(&account, pod, "ephemeralContainers", "ephemeral container")
    } else {
        secret_references::refusal(&account, pod)
    };
    refused.map_or(Ok(()), |why| Err(write.forbidden(object::name_so_far(pod), &why)))
}

/// Projects the account's token, the cluster's CA and the namespace into containers that have no mount there.
fn mount_token(pod: &mut Value) {
    let existing = list(pod, &["spec", "volumes"])
        .iter()
        .map(|v| text(v, &["name"]))
        .find(|n| n.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let found = existing.is_some();
    let volume = existing.unwrap_or_else(|| format!("kube-api-access-{}", suffix()));
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in list_mut(pod, &["spec", kind]) {
            let mounts = list(container, &["volumeMounts"]);
            if mounts.iter().any(|m| text(m, &["mountPath"]) == TOKEN_PATH) {
                continue;
            }
            let mut mounts = mounts.to_vec();
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
            container["volumeMounts"] = mounts.into();
            used = true;
        }
    }
    if used && !found {
        let mut volumes = list(pod, &["spec", "volumes"]).to_vec();
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
        object_mut(pod, &["spec"]).insert("volumes".to_owned(), volumes.into());
    }
}
