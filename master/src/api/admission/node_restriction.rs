//! NodeRestriction: what a node may write, beyond what it may touch.
//!
//! The Node authorizer decides by path; here the object's content is looked at. A node writes its own Node,
//! Lease and CSINode, its own pods' status, mirror pods of itself, and asks for tokens of its own pods.

use protocol::{ApiError, ApiRequest, Verb};
use serde_json::Value;

use super::Write;
use super::mirror_pods::{self, MIRROR};
use crate::api::kinds::certificates;
use crate::api::object::{self, list, text};
use crate::api::registry::Subject;
use crate::auth::node::node_name;
use crate::cache::Snapshot;
use crate::controllers::certificates::rules::{KUBELET_CLIENT, KUBELET_SERVING};

const LEASES: &str = "kube-node-lease";

/// Labels of the project's namespaces that kubelets set.
const KUBELET_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// Refuses a node's create or update of what is not its own.
pub(super) fn write(write: &Write<'_>, value: &Value) -> Result<(), ApiError> {
    let Some(node) = node_name(&write.request.caller) else { return Ok(()) };
    let resource = write.subject.resource;
    let subresource = write.request.target.subresource.as_deref().unwrap_or_default();
    let name = object::name(value);
    let why = match (resource.group, resource.plural, subresource, write.old) {
        ("", "pods", "", None) => {
            let stored = write.snapshot.get("", "nodes", "", node);
            mirror_pod(node, stored.map_or("", |stored| &*stored.meta.uid), value)
        }
        ("", "pods", "status", Some(old)) => pod_status(node, old, value),
        ("", "pods", "eviction", _) => None,
        ("", "pods", "", Some(_)) => Some(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
        ("", "pods", other, _) => {
            Some(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _, old) => own_node(node, name, old, value),
        ("", "persistentvolumeclaims", "", _) => Some("may only update PVC status".to_owned()),
        ("coordination.k8s.io", "leases", ..) => own_lease(node, write.subject.namespace, name),
        ("certificates.k8s.io", "certificatesigningrequests", "", None) => own_request(node, value),
        ("resource.k8s.io", "resourceslices", "", None) => own_slice(node, "create", value),
        ("storage.k8s.io", "csinodes", ..) if name != node => {
            Some("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => None,
    };
    why.map_or(Ok(()), |why| Err(write.forbidden(name, &why)))
}

/// Refuses a node's deletion of a pod that does not run on it, and of what others say of their devices.
pub(crate) fn deletion(request: &ApiRequest, stored: &Value) -> Result<(), ApiError> {
    let Some(node) = node_name(&request.caller) else { return Ok(()) };
    let target = &request.target;
    let why = match (target.group.as_str(), target.resource.as_str()) {
        ("", "pods") if !on(stored, node) => {
            Some(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        ("resource.k8s.io", "resourceslices") => own_slice(node, "delete", stored),
        _ => None,
    };
    let name = object::name(stored);
    why.map_or(Ok(()), |why| Err(ApiError::forbidden(&target.group, &target.resource, name, &why)))
}

/// Refuses a node's eviction of a pod that does not run on it.
pub(crate) fn eviction(
    snapshot: &Snapshot,
    request: &ApiRequest,
    subject: &Subject<'_>,
) -> Result<(), ApiError> {
    let Some(node) = node_name(&request.caller) else { return Ok(()) };
    // Upstream looks for the pod in a list of its own, which calls it so.
    let stored = subject.find(snapshot).ok_or_else(|| ApiError::not_found("", "pod", subject.name))?;
    if on(&stored.value().map_err(ApiError::internal)?, node) {
        return Ok(());
    }
    let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
    Err(ApiError::forbidden("", "pods", subject.name, &why))
}

/// Refuses a node's request of a token that is not bound to one of its pods.
pub(crate) fn token(snapshot: &Snapshot, request: &ApiRequest, body: &Value) -> Result<(), ApiError> {
    let Some(node) = node_name(&request.caller) else { return Ok(()) };
    debug_assert_eq!(request.verb, Verb::Create);
    let target = &request.target;
    let account = target.name.as_deref().unwrap_or_default();
    let refuse = |why: &str| Err(ApiError::forbidden("", "serviceaccounts", account, why));
    let bound = &body["spec"]["boundObjectRef"];
    let (kind, name, uid) = (text(bound, &["kind"]), text(bound, &["name"]), text(bound, &["uid"]));
    if text(bound, &["apiVersion"]) != "v1" || kind != "Pod" || name.is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let Some(pod) = snapshot.get("", "pods", namespace, name) else {
        return Err(ApiError::not_found("", "pods", name));
    };
    if uid != &*pod.meta.uid {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        ));
    }
    if pod.meta.field("spec.nodeName") != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}

fn on(pod: &Value, node: &str) -> bool {
    text(pod, &["spec", "nodeName"]) == node
}

fn mirror_pod(node: &str, uid: &str, pod: &Value) -> Option<String> {
    if !mirror_pods::is_mirror(pod) {
        return Some(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if !on(pod, node) {
        return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match list(pod, &["metadata", "ownerReferences"]) {
        [] => {
            return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        [owner] => owner,
        _ => {
            return Some(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Some(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Some(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let claimed = text(owner, &["uid"]);
    if claimed != uid {
        return Some(format!("node {node} UID mismatch: expected {claimed} got {uid}"));
    }
    mirror_pods::reference(pod).map(|what| format!("node {node:?} can not create pods that reference {what}"))
}

fn pod_status(node: &str, old: &Value, new: &Value) -> Option<String> {
    if !on(old, node) {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if !object::same(old, new, &["metadata", "labels"]) {
        return Some(format!("node {node:?} cannot update labels through pod status"));
    }
    if !object::same(old, new, &["status", "resourceClaimStatuses"]) {
        return Some(format!("node {node:?} cannot update resource claim statues"));
    }
    if !object::same(old, new, &["status", "extendedResourceClaimStatus"]) {
        return Some(format!("node {node:?} cannot update extended resource claim status"));
    }
    None
}

fn own_node(node: &str, name: &str, old: Option<&Value>, new: &Value) -> Option<String> {
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let none = Value::Null;
    let changed = changed_labels(old.unwrap_or(&none), new);
    let forbidden: Vec<&str> = changed.into_iter().filter(|label| !may_set(label)).collect();
    let Some(old) = old else {
        // What lies behind it, the node could read then.
        if new["spec"]["configSource"].is_object() {
            return Some(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
        }
        let labels = forbidden.join(", ");
        return (!labels.is_empty())
            .then(|| format!("node {node:?} is not allowed to set the following labels: {labels}"));
    };
    let source = &new["spec"]["configSource"];
    if source.is_object() && *source != old["spec"]["configSource"] {
        return Some(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if !object::same(old, new, &["spec", "taints"]) {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    if !object::same(old, new, &["metadata", "ownerReferences"]) {
        return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    (!forbidden.is_empty()).then(|| format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

/// A node tells of its own devices.
fn own_slice(node: &str, verb: &str, slice: &Value) -> Option<String> {
    (!on(slice, node))
        .then(|| format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

/// A node asks for certificates of itself only, of those that name a node.
fn own_request(node: &str, request: &Value) -> Option<String> {
    if ![KUBELET_CLIENT, KUBELET_SERVING].contains(&text(request, &["spec", "signerName"])) {
        return None;
    }
    let wanted = format!("system:node:{node}");
    match certificates::common_name(text(request, &["spec", "request"])) {
        Err(why) => Some(format!("unable to parse csr: {why}")),
        Ok(name) => (name != wanted).then(|| format!("can only create a node CSR with CN={wanted}")),
    }
}

/// Labels that are in one of two objects only, or have another value, in order.
fn changed_labels<'a>(old: &'a Value, new: &'a Value) -> Vec<&'a str> {
    fn of(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        object["metadata"]["labels"].as_object().into_iter().flatten()
    }
    let mut changed: Vec<&str> = of(new)
        .filter(|(key, value)| old["metadata"]["labels"].get(key.as_str()) != Some(*value))
        .chain(of(old).filter(|(key, _)| new["metadata"]["labels"].get(key.as_str()).is_none()))
        .map(|(key, _)| key.as_str())
        .collect();
    changed.sort_unstable();
    changed
}

/// Whether a node may set a label of itself.
fn may_set(label: &str) -> bool {
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let within =
        |of: &str| namespace == of || namespace.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved
        || KUBELET_LABELS.contains(&label)
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
}

fn own_lease(node: &str, namespace: &str, name: &str) -> Option<String> {
    if namespace != LEASES {
        return Some(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    (name != node).then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_labels_itself_within_limits() {
        for (label, allowed) in [
            ("golden", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("kubernetes.io/other", false),
            ("x.k8s.io/other", false),
            ("node.kubernetes.io/anything", true),
            ("sub.kubelet.kubernetes.io/x", true),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("notkubernetes.io/x", true),
        ] {
            assert_eq!(may_set(label), allowed, "{label}");
        }
    }

    #[test]
    fn what_is_said_of_a_pods_claims_is_not_a_nodes() {
        let pod = |status: Value| json!({"metadata": {}, "spec": {"nodeName": "n"}, "status": status});
        let said = json!({"phase": "Pending", "resourceClaimStatuses": [{"name": "x", "resourceClaimName": "c"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "d"}});
        let without = |field: &str| {
            let mut less = said.clone();
            less.as_object_mut().map(|all| all.remove(field));
            pod_status("n", &pod(said.clone()), &pod(less))
        };
        assert_eq!(without("phase"), None);
        let why = "node \"n\" cannot update resource claim statues";
        assert_eq!(without("resourceClaimStatuses").as_deref(), Some(why));
        let why = "node \"n\" cannot update extended resource claim status";
        assert_eq!(without("extendedResourceClaimStatus").as_deref(), Some(why));
    }

    #[test]
    fn only_its_own_node_and_no_taints() {
        let plain = json!({"metadata": {"labels": {"a": "1"}}, "spec": {}});
        let tainted = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"taints": [{"key": "k"}]}});
        let labelled = json!({"metadata": {"labels": {"a": "2", "kubernetes.io/x": "y"}}, "spec": {}});
        let owned =
            json!({"metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "x"}]}, "spec": {}});
        let configured = json!({"metadata": {}, "spec": {"configSource": {}}});
        for (name, old, new, expected) in [
            ("n", None, &plain, None),
            ("n", None, &tainted, None),
            ("o", None, &plain, Some("node \"n\" is not allowed to modify node \"o\"")),
            ("n", Some(&plain), &tainted, Some("node \"n\" is not allowed to modify taints")),
            ("n", Some(&plain), &owned, Some("node \"n\" is not allowed to modify ownerReferences")),
            ("n", None, &owned, None),
            (
                "n",
                None,
                &configured,
                Some("node \"n\" is not allowed to create pods with a non-nil configSource"),
            ),
            (
                "n",
                Some(&plain),
                &configured,
                Some("node \"n\" is not allowed to update configSource to a new non-nil configSource"),
            ),
            ("n", Some(&plain), &labelled, Some("is not allowed to modify labels: kubernetes.io/x")),
            (
                "n",
                None,
                &labelled,
                Some("node \"n\" is not allowed to set the following labels: kubernetes.io/x"),
            ),
        ] {
            assert_eq!(own_node("n", name, old, new).as_deref(), expected, "{name} {new}");
        }
    }

    #[test]
    fn requests_of_certificates_are_in_the_nodes_name() {
        let of = |signer: &str| own_request("n", &json!({"spec": {"signerName": signer, "request": "eA=="}}));
        assert_eq!(of("example.com/x"), None);
        let why = "unable to parse csr: PEM block type must be CERTIFICATE REQUEST";
        assert_eq!(of("kubernetes.io/kubelet-serving").as_deref(), Some(why));
    }

    #[test]
    fn mirror_pods_are_the_nodes_own() {
        let pod = |annotated: bool, on: &str, owner: Value| {
            let annotations = if annotated { json!({MIRROR: "x"}) } else { json!({}) };
            json!({
                "metadata": {"annotations": annotations, "ownerReferences": owner}, "spec": {"nodeName": on},
            })
        };
        let own = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]);
        for (pod, expected) in [
            (pod(true, "n", own.clone()), None),
            (
                pod(false, "n", own.clone()),
                Some(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
                ),
            ),
            (
                pod(
                    true,
                    "n",
                    json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "w", "controller": true}]),
                ),
                Some("node n UID mismatch: expected w got u"),
            ),
            (pod(true, "o", own), Some("node \"n\" can only create pods with spec.nodeName set to itself")),
            (
                pod(true, "n", json!([])),
                Some("node \"n\" can only create pods with an owner reference set to itself"),
            ),
        ] {
            assert_eq!(mirror_pod("n", "u", &pod).as_deref(), expected, "{pod}");
        }
    }
}
