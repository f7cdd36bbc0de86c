//! What pods and templates may say but had better not.

use serde_json::Value;

use crate::api::invalid::Path;
use crate::api::kinds::checks::amount;
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, name, text};

/// Labels that nodes have under better names: old, since when, new.
const OLD_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];
/// Kinds of volumes that are no more.
const OLD_VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// What is said about a pod's spec.
pub fn spec(spec: &Value, path: &Path, said: &mut Vec<String>) {
    for (key, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        old_label(key, &path.child("nodeSelector").key(key), said);
    }
    affinity(&spec["affinity"], &path.child("affinity"), said);
    for (i, constraint) in list(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(i);
        old_label(text(constraint, &["topologyKey"]), &path.child("topologyKey"), said);
        if constraint["labelSelector"].is_null() {
            said.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
        }
    }
    for (i, volume) in list(spec, &["volumes"]).iter().enumerate() {
        for (kind, why) in OLD_VOLUMES.iter().filter(|(kind, _)| !volume[*kind].is_null()) {
            said.push(format!("{}: {why}", path.child("volumes").index(i).child(kind)));
        }
    }
    for (i, secret) in list(spec, &["imagePullSecrets"]).iter().enumerate() {
        let path = path.child("imagePullSecrets").index(i);
        let name = text(secret, &["name"]);
        if name.is_empty() {
            said.push(format!("{}: invalid empty name {name:?}", path.child("name")));
        }
    }
    for kind in ["initContainers", "containers"] {
        for (i, container) in list(spec, &[kind]).iter().enumerate() {
            self::container(container, &path.child(kind).index(i), said);
        }
    }
}

fn old_label(key: &str, path: &Path, said: &mut Vec<String>) {
    if let Some((_, since, new)) = OLD_LABELS.iter().find(|(old, _, _)| *old == key) {
        said.push(format!("{path}: deprecated since {since}; use \"{new}\" instead"));
    }
}

fn affinity(affinity: &Value, path: &Path, said: &mut Vec<String>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let expressions = |term: &Value, path: &Path, said: &mut Vec<String>| {
        for (i, expression) in list(term, &["matchExpressions"]).iter().enumerate() {
            let path = path.child("matchExpressions").index(i).child("key");
            old_label(text(expression, &["key"]), &path, said);
        }
    };
    let at = path.child("nodeAffinity").child(REQUIRED).child("nodeSelectorTerms");
    for (i, term) in list(affinity, &["nodeAffinity", REQUIRED, "nodeSelectorTerms"]).iter().enumerate() {
        expressions(term, &at.index(i), said);
    }
    let at = path.child("nodeAffinity").child(PREFERRED);
    for (i, term) in list(affinity, &["nodeAffinity", PREFERRED]).iter().enumerate() {
        expressions(&term["preference"], &at.index(i).child("preference"), said);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (i, term) in list(affinity, &[kind, REQUIRED]).iter().enumerate() {
            pod_term(term, &path.child(kind).child(REQUIRED).index(i), said);
        }
        for (i, term) in list(affinity, &[kind, PREFERRED]).iter().enumerate() {
            let path = path.child(kind).child(PREFERRED).index(i).child("podAffinityTerm");
            pod_term(&term["podAffinityTerm"], &path, said);
        }
    }
}

fn pod_term(term: &Value, path: &Path, said: &mut Vec<String>) {
    if term["labelSelector"].is_null() {
        said.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
    }
}

fn container(container: &Value, path: &Path, said: &mut Vec<String>) {
    for which in ["limits", "requests"] {
        for resource in ["ephemeral-storage", "memory"] {
            let value = &container["resources"][which][resource];
            if amount(value).is_some_and(|q| q.milli() % 1000 != 0) {
                let path = path.child("resources").child(which).key(resource);
                said.push(format!("{path}: fractional byte value {value} is invalid, must be an integer"));
            }
        }
    }
    let variables = list(container, &["env"]);
    for (i, variable) in variables.iter().enumerate() {
        let name = text(variable, &["name"]);
        if variables[..i].iter().any(|v| text(v, &["name"]) == name) {
            let path = path.child("env").index(i);
            said.push(format!(
                "{path}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
    let ports = list(container, &["ports"]);
    for (i, port) in ports.iter().enumerate() {
        let same =
            |p: &Value| ["containerPort", "protocol", "hostPort", "hostIP"].iter().all(|f| p[*f] == port[*f]);
        if let Some(first) = ports[..i].iter().position(same) {
            let at = path.child("ports");
            said.push(format!("{}: duplicate port definition with {}", at.index(i), at.index(first)));
        }
    }
}

/// What is said about a name that becomes a part of names of pods.
pub fn label_is_better(object: &Value, said: &mut Vec<String>) {
    let wrong = name_errors(NameRule::Label, name(object), false);
    if !wrong.is_empty() {
        said.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

/// What is said about a new pod or a changed one.
pub(super) fn pod(pod: &Value, old: Option<&Value>, said: &mut Vec<String>) {
    let wrong = name_errors(NameRule::Label, name(pod), false);
    if old.is_none() && !wrong.is_empty() {
        said.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
             is recommended: [{}]",
            wrong.join(" ")
        ));
    }
    // What was said when the pod was made is not said again.
    if old.is_none() {
        spec(&pod["spec"], &Path::new("spec"), said);
    }
}

/// What is said about an object with a template at `spec.template`.
pub fn templated(object: &Value, old: Option<&Value>, said: &mut Vec<String>) {
    if old.is_none() {
        label_is_better(object, said);
    }
    if old.is_none_or(|old| old["spec"]["template"] != object["spec"]["template"]) {
        spec(&object["spec"]["template"]["spec"], &Path::new("spec.template.spec"), said);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_hides_or_matches_nothing_is_said() {
        let pod = json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "topologySpreadConstraints": [{"topologyKey": "x"}],
            "containers": [{"env": [{"name": "A"}, {"name": "A"}], "resources": {"limits": {"memory": "100m"}}}],
        });
        let mut said = Vec::new();
        spec(&pod, &Path::new("spec"), &mut said);
        assert_eq!(
            said,
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an \
                 integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            ]
        );
    }
}
