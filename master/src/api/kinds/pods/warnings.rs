//! What pods and templates may say but had better not.

use protocol::selector::label_value_error;
use serde_json::Value;

use super::{annotations, overlaps};
use crate::api::invalid::{Path, go_quote};
use crate::api::kinds::checks::{address_note, address_notes, amount};
use crate::api::kinds::volume_notes;
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, name, text};

/// Labels that nodes have no more, or under better names.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
/// Kinds of volumes that are no more.
pub(in crate::api::kinds) const OLD_VOLUMES: &[(&str, &str)] = &[
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
/// Annotations that do nothing any more.
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// What is said about a pod's spec and its metadata; `root` is where both stand.
pub fn spec(pod: &Value, root: &Path, said: &mut Vec<String>) {
    let (spec, path) = (&pod["spec"], root.child("spec"));
    for (key, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        old_label(key, &path.child("nodeSelector").key(key), said);
    }
    node_affinity(&spec["affinity"]["nodeAffinity"], &path.child("affinity").child("nodeAffinity"), said);
    for (i, constraint) in list(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(i);
        let key = text(constraint, &["topologyKey"]);
        if let Some(why) = old_label_words(key) {
            said.push(format!("{}: {key} is {why}", path.child("topologyKey")));
        }
        if constraint["labelSelector"].is_null() {
            said.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
        }
    }
    let annotated_with = &pod["metadata"]["annotations"];
    let annotated = root.child("metadata").child("annotations");
    for (key, why) in OLD_ANNOTATIONS.iter().filter(|(key, _)| annotated_with.get(*key).is_some()) {
        said.push(format!("{}: {why}", annotated.key(key)));
    }
    for (i, volume) in list(spec, &["volumes"]).iter().enumerate() {
        for (kind, why) in OLD_VOLUMES.iter().filter(|(kind, _)| !volume[*kind].is_null()) {
            let shown = if *kind == "storageos" { "storageOS" } else { kind };
            said.push(format!("{}: {why}", path.child("volumes").index(i).child(shown)));
        }
        let template = path.child("volumes").index(i).child("ephemeral").child("volumeClaimTemplate");
        let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        volume_notes::claim_spec(claim, &template.child("spec"), said);
    }
    overlaps::volumes(spec, said);
    repeated(spec, "hostAliases", "ip", &path, said);
    for (i, alias) in list(spec, &["hostAliases"]).iter().enumerate() {
        address_note(text(alias, &["ip"]), &path.child("hostAliases").index(i).child("ip"), said);
    }
    address_notes(
        list(spec, &["dnsConfig", "nameservers"]),
        &path.child("dnsConfig").child("nameservers"),
        said,
    );
    repeated(spec, "imagePullSecrets", "name", &path, said);
    for (i, secret) in list(spec, &["imagePullSecrets"]).iter().enumerate() {
        if text(secret, &["name"]).is_empty() {
            let at = path.child("imagePullSecrets").index(i).child("name");
            said.push(format!("{at}: invalid empty name \"\""));
        }
    }
    fractions(&spec["overhead"], &["memory", "ephemeral-storage"], &path.child("overhead"), said);
    if !spec["securityContext"]["seccompProfile"].is_object() && annotated_with.get(SECCOMP_POD).is_some() {
        said.push(format!("{}: {NO_SECCOMP}", annotated.key(SECCOMP_POD)));
    }
    let whole = &spec["securityContext"]["appArmorProfile"];
    // Of a pod this was said when it came.
    let is_template = root.child("spec").to_string() != "spec";
    for (container, path) in containers(spec, &path) {
        let name = text(container, &["name"]);
        let noted = |prefix: &str, field: &str| {
            let key = format!("{prefix}{name}");
            (!container["securityContext"][field].is_object() && annotated_with.get(&key).is_some())
                .then_some(key)
        };
        if let Some(key) = noted(SECCOMP_CONTAINER, "seccompProfile") {
            said.push(format!("{}: {NO_SECCOMP}", annotated.key(&key)));
        }
        if let Some(key) = noted(annotations::APP_ARMOR, "appArmorProfile").filter(|_| is_template) {
            let named = annotated_with[&key].as_str().and_then(annotations::app_armor_profile);
            if named.as_ref() != Some(whole) {
                said.push(format!("{}: {}", annotated.key(&key), annotations::APP_ARMOR_OLD));
            }
        }
        self::container(container, &path, said);
    }
    ports(spec, &path, said);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n < 0) {
        let at = path.child("terminationGracePeriodSeconds");
        said.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    pod_affinity(&spec["affinity"], &path.child("affinity"), said);
}

/// The containers of a pod, with where they stand.
fn containers<'s>(spec: &'s Value, path: &Path) -> Vec<(&'s Value, Path)> {
    let mut all = Vec::new();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let each = list(spec, &[kind]).iter().enumerate();
        all.extend(each.map(|(i, container)| (container, path.child(kind).index(i))));
    }
    all
}

/// Entries of which another has the same name.
fn repeated(spec: &Value, field: &str, by: &str, path: &Path, said: &mut Vec<String>) {
    let entries = list(spec, &[field]);
    for (i, entry) in entries.iter().enumerate() {
        let name = text(entry, &[by]);
        if entries[..i].iter().any(|e| text(e, &[by]) == name) {
            let at = path.child(field).index(i).child(by);
            said.push(format!("{at}: duplicate {by} {}", go_quote(name)));
        }
    }
}

fn fractions(amounts: &Value, resources: &[&str], path: &Path, said: &mut Vec<String>) {
    for resource in resources {
        let value = &amounts[*resource];
        if amount(value).is_some_and(|q| !q.passes_for_whole()) {
            let path = path.key(resource);
            said.push(format!("{path}: fractional byte value {value} is invalid, must be an integer"));
        }
    }
}

/// Ports that are there twice, or may get in each other's way.
fn ports(spec: &Value, path: &Path, said: &mut Vec<String>) {
    let mut seen: Vec<(&Value, Path)> = Vec::new();
    let host = |port: &Value| port["hostPort"].as_i64().unwrap_or(0);
    for (container, path) in containers(spec, path) {
        for (i, port) in list(container, &["ports"]).iter().enumerate() {
            let at = path.child("ports").index(i);
            let (ip, number) = (text(port, &["hostIP"]), host(port));
            if !ip.is_empty() && number == 0 {
                said.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                    text(port, &["name"]),
                    port["containerPort"],
                    text(port, &["protocol"]),
                ));
            }
            let same = |p: &Value| ["containerPort", "protocol"].iter().all(|f| p[*f] == port[*f]);
            for (other, there) in seen.iter().filter(|(other, _)| same(other)) {
                let (other_ip, other_number) = (text(other, &["hostIP"]), host(other));
                let how = if ip == other_ip && number == other_number {
                    "duplicate"
                } else if number == 0 || other_number == 0 {
                    "overlapping"
                } else if number == other_number && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                said.push(format!("{at}: {how} port definition with {there}"));
            }
            seen.push((port, at));
        }
    }
    port_names(spec, path, said);
}

/// Names of ports that are there twice, of which only the first is found.
fn port_names(spec: &Value, path: &Path, said: &mut Vec<String>) {
    let mut seen: Vec<(&str, Path)> = Vec::new();
    for (container, path) in containers(spec, path) {
        for (i, port) in list(container, &["ports"]).iter().enumerate() {
            let (name, at) = (text(port, &["name"]), path.child("ports").index(i));
            match seen.iter().find(|(other, _)| *other == name) {
                _ if name.is_empty() => {}
                Some((_, first)) => said.push(format!(
                    "{at}: duplicate port name {} with {first}, services and probes that select ports by name will use \
                     {first}",
                    go_quote(name)
                )),
                None => seen.push((name, at)),
            }
        }
    }
}

fn old_label_words(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

/// Says that a label is one that nodes have no more.
pub(in crate::api::kinds) fn old_label(key: &str, path: &Path, said: &mut Vec<String>) {
    if let Some(why) = old_label_words(key) {
        said.push(format!("{path}: {why}"));
    }
}

/// What is said about a term that selects nodes; of one that only prefers them values are not checked elsewhere.
pub(in crate::api::kinds) fn node_term(term: &Value, preferred: bool, path: &Path, said: &mut Vec<String>) {
    for (i, expression) in list(term, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let key = text(expression, &["key"]);
        if let Some(why) = old_label_words(key) {
            said.push(format!("{}: {key} is {why}", path.child("key")));
        }
        for (j, value) in list(expression, &["values"]).iter().filter_map(Value::as_str).enumerate() {
            for why in label_value_error(value).into_iter().filter(|_| preferred) {
                said.push(format!("{}: {value} is invalid, {why}", path.child("values").index(j)));
            }
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(affinity: &Value, path: &Path, said: &mut Vec<String>) {
    let at = path.child(REQUIRED).child("nodeSelectorTerms");
    for (i, term) in list(affinity, &[REQUIRED, "nodeSelectorTerms"]).iter().enumerate() {
        node_term(term, false, &at.index(i), said);
    }
    let at = path.child(PREFERRED);
    for (i, term) in list(affinity, &[PREFERRED]).iter().enumerate() {
        node_term(&term["preference"], true, &at.index(i).child("preference"), said);
    }
}

fn pod_affinity(affinity: &Value, path: &Path, said: &mut Vec<String>) {
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
    for resource in ["memory", "ephemeral-storage"] {
        for which in ["limits", "requests"] {
            let resources = &container["resources"][which];
            fractions(resources, &[resource], &path.child("resources").child(which), said);
        }
    }
    let variables = list(container, &["env"]);
    for (i, variable) in variables.iter().enumerate() {
        let (name, value) = (text(variable, &["name"]), text(variable, &["value"]));
        let reference = format!("$({name})");
        // A value may be made of the former one, but not be just that.
        let extends = variable["valueFrom"].is_null() && value != reference && value.contains(&reference);
        if !extends && variables[..i].iter().any(|v| text(v, &["name"]) == name) {
            let (path, name) = (path.child("env").index(i), go_quote(name));
            said.push(format!(
                "{path}: hides previous definition of {name}, which may be dropped when using apply"
            ));
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
        spec(pod, &Path::default(), said);
    }
}

/// What is said about a pod's status.
pub(super) fn status(pod: &Value, said: &mut Vec<String>) {
    for which in ["podIPs", "hostIPs"] {
        let path = Path::new("status").child(which);
        for (i, address) in list(pod, &["status", which]).iter().enumerate() {
            address_note(text(address, &["ip"]), &path.index(i).child("ip"), said);
        }
    }
}

/// What is said about an object with a template at `spec.template`.
pub fn templated(object: &Value, old: Option<&Value>, said: &mut Vec<String>) {
    if old.is_none() {
        label_is_better(object, said);
    }
    if is_next(object, old) {
        spec(&object["spec"]["template"], &Path::new("spec.template"), said);
    }
}

/// Whether an object is new, or its specification is: then what is said about it is said again.
pub fn is_next(object: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| old["metadata"]["generation"] != object["metadata"]["generation"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_hides_or_matches_nothing_is_said() {
        let pod = json!({"spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "topologySpreadConstraints": [{"topologyKey": "beta.kubernetes.io/os"}],
            "hostAliases": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.1"}],
            "imagePullSecrets": [{"name": "a"}, {"name": "a"}],
            "terminationGracePeriodSeconds": -1,
            "containers": [{
                "name": "c",
                "env": [{"name": "A"}, {"name": "A"}, {"name": "B", "value": "1"}, {"name": "B", "value": "$(B)2"}],
                "resources": {"limits": {"memory": "100m"}},
                "ports": [
                    {"containerPort": 80, "protocol": "TCP", "hostPort": 1},
                    {"containerPort": 80, "protocol": "TCP"},
                    {"containerPort": 80, "protocol": "TCP", "hostPort": 1, "hostIP": "192.0.2.1"},
                ],
            }],
        }});
        let mut said = Vec::new();
        spec(&pod, &Path::default(), &mut said);
        assert_eq!(
            said,
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/os is deprecated since v1.14; use \
                 \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.hostAliases[1].ip: duplicate ip \"192.0.2.1\"",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an \
                 integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ]
        );
    }

    #[test]
    fn a_template_is_talked_about_again_with_each_generation() {
        let object = |generation: i64| {
            json!({"metadata": {"name": "d", "generation": generation}, "spec": {"template": {"spec": {
                "hostAliases": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.1"}],
            }}}})
        };
        for (old, notes) in [(None, 1), (Some(object(1)), 1), (Some(object(2)), 0)] {
            let mut said = Vec::new();
            templated(&object(2), old.as_ref(), &mut said);
            assert_eq!(said.len(), notes, "{said:?}");
        }
    }
}
