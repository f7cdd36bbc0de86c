//! Which secrets a pod may refer to, where its account says that it may to no others.

use serde_json::Value;

use crate::api::object::{list, name, text};

/// The annotation of an account that says so.
pub(super) const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";

/// Whether pods of an account may refer to no secrets but those that it names.
pub(super) fn is_enforced(account: &Value) -> bool {
    matches!(
        text(account, &["metadata", "annotations", ENFORCED]),
        "1" | "t" | "T" | "true" | "True" | "TRUE"
    )
}

/// Why a new pod may not be, if it refers to what its account does not name.
pub(super) fn refusal(account: &Value, pod: &Value) -> Option<String> {
    let volume = list(pod, &["spec", "volumes"]).iter().filter(|volume| volume["secret"].is_object());
    for secret in volume.map(|volume| text(volume, &["secret", "secretName"])) {
        if !names(account, "secrets", secret) {
            return Some(of_secret("volume with", secret, account));
        }
    }
    refusal_of(account, pod, "initContainers", "init container")
        .or_else(|| refusal_of(account, pod, "containers", "container"))
        .or_else(|| pull(account, pod))
}

/// Why containers of one kind may not be, for the secrets that their variables come from.
pub(super) fn refusal_of(account: &Value, pod: &Value, kind: &str, shown: &str) -> Option<String> {
    for container in list(pod, &["spec", kind]) {
        let named = name_of(container);
        for variable in list(container, &["env"]) {
            let secret = &variable["valueFrom"]["secretKeyRef"];
            if secret.is_object() && !names(account, "secrets", name_of(secret)) {
                let what = format!("{shown} {named} with envVar {} referencing", name_of(variable));
                return Some(of_secret(&what, name_of(secret), account));
            }
        }
        for source in list(container, &["envFrom"]) {
            let secret = &source["secretRef"];
            if secret.is_object() && !names(account, "secrets", name_of(secret)) {
                let what = format!("{shown} {named} with envFrom referencing");
                return Some(of_secret(&what, name_of(secret), account));
            }
        }
    }
    None
}

fn pull(account: &Value, pod: &Value) -> Option<String> {
    let mut secrets = list(pod, &["spec", "imagePullSecrets"]).iter().map(name_of).enumerate();
    let (i, secret) = secrets.find(|(_, secret)| !names(account, "imagePullSecrets", secret))?;
    Some(format!(
        "imagePullSecrets[{i}].name=\"{secret}\" is not allowed because service account {} does not reference that \
         imagePullSecret",
        name(account)
    ))
}

fn of_secret(what: &str, secret: &str, account: &Value) -> String {
    format!(
        "{what} secret.secretName=\"{secret}\" is not allowed because service account {} does not reference that secret",
        name(account)
    )
}

fn names(account: &Value, field: &str, secret: &str) -> bool {
    list(account, &[field]).iter().any(|known| name_of(known) == secret)
}

fn name_of(value: &Value) -> &str {
    text(value, &["name"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_may_bound_what_its_pods_refer_to() {
        let account = |annotation: &str| {
            json!({
                "metadata": {"name": "a", "annotations": {ENFORCED: annotation}},
                "secrets": [{"name": "known"}],
                "imagePullSecrets": [{"name": "pull"}],
            })
        };
        assert!(is_enforced(&account("true")) && is_enforced(&account("1")));
        assert!(!is_enforced(&account("yes")) && !is_enforced(&json!({})));
        let end = "is not allowed because service account a does not reference that";
        for (spec, wanted) in [
            (json!({"volumes": [{"secret": {"secretName": "known"}}, {"emptyDir": {}}]}), None),
            (
                json!({"volumes": [{"secret": {"secretName": "x"}}]}),
                Some(format!("volume with secret.secretName=\"x\" {end} secret")),
            ),
            (
                json!({"containers": [{"name": "c", "env": [
                    {"name": "V", "valueFrom": {"secretKeyRef": {"name": "known"}}},
                    {"name": "W", "valueFrom": {"secretKeyRef": {"name": "x"}}},
                ]}]}),
                Some(format!("container c with envVar W referencing secret.secretName=\"x\" {end} secret")),
            ),
            (
                json!({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "x"}}]}]}),
                Some(format!(
                    "init container i with envFrom referencing secret.secretName=\"x\" {end} secret"
                )),
            ),
            (
                json!({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]}),
                Some(format!("imagePullSecrets[1].name=\"x\" {end} imagePullSecret")),
            ),
        ] {
            assert_eq!(refusal(&account("true"), &json!({ "spec": spec })), wanted, "{spec}");
        }
    }
}
