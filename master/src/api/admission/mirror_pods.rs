//! Mirror pods: what nodes tell of pods that they run from files of their own. They may need nothing of the API, whoever
//! makes them.

use serde_json::Value;

use crate::api::object::{list, text};

/// The annotation of a pod that says what of its node it mirrors.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod says that it mirrors one of its node's.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// Why a mirror pod may not be, for the account and the secrets that it refers to.
pub(super) fn refusal(pod: &Value) -> Option<&'static str> {
    if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    if has_secrets(pod) {
        return Some("a mirror pod may not reference secrets");
    }
    let projects_token = list(pod, &["spec", "volumes"])
        .iter()
        .flat_map(|volume| list(volume, &["projected", "sources"]))
        .any(|source| source["serviceAccountToken"].is_object());
    projects_token.then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// What a pod refers to that its node would have to ask the API for.
pub(super) fn reference(pod: &Value) -> Option<&'static str> {
    if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    if has_secrets(pod) {
        return Some("secrets");
    }
    if has_config_maps(pod) {
        return Some("configmaps");
    }
    if !list(pod, &["spec", "resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    list(pod, &["spec", "volumes"]).iter().find_map(of_volume)
}

fn of_volume(volume: &Value) -> Option<&'static str> {
    const SOURCES: &[(&str, &str)] = &[
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: &[(&str, &str)] = &[
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let among = |value: &Value, kinds: &[(&str, &'static str)]| {
        kinds.iter().find(|(kind, _)| value[kind].is_object()).map(|(_, what)| *what)
    };
    let projected = list(volume, &["projected", "sources"]);
    among(volume, SOURCES).or_else(|| projected.iter().find_map(|source| among(source, PROJECTED)))
}

/// Volumes whose drivers are given a secret, and where they name it.
const BY_SECRET: &[(&str, &str)] = &[
    ("secret", ""),
    ("azureFile", "secretName"),
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("storageos", "secretRef"),
    ("csi", "nodePublishSecretRef"),
];

fn has_secrets(pod: &Value) -> bool {
    let named = |volume: &Value| {
        BY_SECRET.iter().any(|(kind, field)| match *field {
            "" => volume[kind].is_object(),
            field => !volume[kind][field].is_null(),
        })
    };
    !list(pod, &["spec", "imagePullSecrets"]).is_empty()
        || has_variables(pod, "secretKeyRef", "secretRef")
        || list(pod, &["spec", "volumes"]).iter().any(|volume| named(volume) || projects(volume, "secret"))
}

fn has_config_maps(pod: &Value) -> bool {
    has_variables(pod, "configMapKeyRef", "configMapRef")
        || list(pod, &["spec", "volumes"])
            .iter()
            .any(|volume| volume["configMap"].is_object() || projects(volume, "configMap"))
}

fn projects(volume: &Value, kind: &str) -> bool {
    list(volume, &["projected", "sources"]).iter().any(|source| source[kind].is_object())
}

/// Whether variables of a container come from objects: one of them, or all at once.
fn has_variables(pod: &Value, one: &str, all: &str) -> bool {
    ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|kind| list(pod, &["spec", kind]))
        .any(|container| {
            list(container, &["env"]).iter().any(|variable| variable["valueFrom"][one].is_object())
                || list(container, &["envFrom"]).iter().any(|source| source[all].is_object())
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_mirror_pod_needs_of_the_api_is_found_wherever_it_stands() {
        let secrets = Some("a mirror pod may not reference secrets");
        for (spec, refused, referred) in [
            (json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}), None, None),
            (
                json!({"serviceAccountName": "a"}),
                Some("a mirror pod may not reference service accounts"),
                Some("serviceaccounts"),
            ),
            (json!({"imagePullSecrets": [{"name": "s"}]}), secrets, Some("secrets")),
            (
                json!({"initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}),
                secrets,
                Some("secrets"),
            ),
            (
                json!({"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
                secrets,
                Some("secrets"),
            ),
            (json!({"volumes": [{"rbd": {"secretRef": {"name": "s"}}}]}), secrets, Some("secrets")),
            (json!({"volumes": [{"projected": {"sources": [{"secret": {}}]}}]}), secrets, Some("secrets")),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
                Some("a mirror pod may not use ServiceAccountToken volume projections"),
                Some("serviceaccounts (via projected volumes)"),
            ),
            (json!({"containers": [{"envFrom": [{"configMapRef": {}}]}]}), None, Some("configmaps")),
            (json!({"volumes": [{"configMap": {"name": "m"}}]}), None, Some("configmaps")),
            (json!({"resourceClaims": [{"name": "d"}]}), None, Some("resourceclaims")),
            (json!({"volumes": [{"csi": {"driver": "d"}}]}), None, Some("csidrivers (via CSI volumes)")),
            (
                json!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}),
                None,
                Some("persistentvolumeclaims"),
            ),
        ] {
            let pod = json!({"spec": spec});
            assert_eq!((refusal(&pod), reference(&pod)), (refused, referred), "{pod}");
        }
    }
}
