//! What every new pod gets: its account and token volume, tolerations, priority.

use protocol::ApiError;
use serde_json::{Value, json};

use super::Write;
use crate::api::object::{self, list, list_mut, object_mut, text};
use crate::api::registry::create::suffix;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The kubelet asks for a new token well before the old one ends.
const TOKEN_SECONDS: i64 = 3607;
const TOLERATION_SECONDS: i64 = 300;

pub(super) fn mutate(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if text(pod, &["metadata", "annotations", MIRROR]).is_empty() {
        service_account(write, pod)?;
    }
    tolerations(pod);
    priority(write, pod)
}

fn service_account(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let spec = object_mut(pod, &["spec"]);
    object::default(spec, "serviceAccountName", "default");
    let name = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    spec.insert("serviceAccount".to_owned(), name.clone().into());
    let Some(stored) = write.snapshot.get("", "serviceaccounts", write.subject.namespace, &name) else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            write.subject.namespace
        );
        return Err(ApiError::forbidden("", "pods", object::name(pod), &why));
    };
    let account = stored.value().map_err(ApiError::internal)?;
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

/// A pod stays some minutes on a node that is lost, unless it says otherwise.
fn tolerations(pod: &mut Value) {
    let mut tolerations = list(pod, &["spec", "tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            let (k, effect) = (text(t, &["key"]), text(t, &["effect"]));
            (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    object_mut(pod, &["spec"]).insert("tolerations".to_owned(), tolerations.into());
}

fn priority(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        let mut classes = write.snapshot.list("scheduling.k8s.io", "priorityclasses", "");
        classes.find_map(|s| s.value().ok().filter(|v| v["globalDefault"] == Value::Bool(true)))
    } else {
        let stored = write.snapshot.get("scheduling.k8s.io", "priorityclasses", "", &name);
        let Some(stored) = stored else {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(ApiError::forbidden("", "pods", object::name(pod), &why));
        };
        Some(stored.value().map_err(ApiError::internal)?)
    };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().map_or("PreemptLowerPriority", |c| match text(c, &["preemptionPolicy"]) {
        "Never" => "Never",
        _ => "PreemptLowerPriority",
    });
    if let Some(given) = pod["spec"]["priority"].as_i64()
        && given != value
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden("", "pods", object::name(pod), &why));
    }
    let spec = object_mut(pod, &["spec"]);
    if let (true, Some(class)) = (name.is_empty(), &class) {
        spec.insert("priorityClassName".to_owned(), object::name(class).into());
    }
    spec.insert("priority".to_owned(), value.into());
    object::default(spec, "preemptionPolicy", policy);
    Ok(())
}
