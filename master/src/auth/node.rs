//! What a node may touch: itself, its lease, and what the pods bound to it refer to; and, where it serves
//! Ingresses, the certificates that those name. Anything else that kubelets need is in the rules of the role
//! `system:node`.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Container, Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use protocol::ingress;

use crate::bootstrap;
use crate::cache::Cache;

use super::rbac::{PolicyRule, covers};
use super::{Attributes, Decision};

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What every node may do, beyond its own objects.
static NODE_RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| bootstrap::cluster_role_rules("system:node"));

/// The node authorizer over the watch cache.
pub struct NodeAuthorizer {
    cache: Cache,
}

/// The node that a caller is.
pub fn node_name(caller: &protocol::Caller) -> Option<&str> {
    let name = caller.user.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())?;
    caller.groups.iter().any(|group| group == NODES_GROUP).then_some(name)
}

/// Whether a caller is a node that does not say which.
fn nameless(caller: &protocol::Caller) -> bool {
    caller.user == NODE_PREFIX && caller.groups.iter().any(|group| group == NODES_GROUP)
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

impl NodeAuthorizer {
    /// Decides by what the cache holds.
    pub fn new(cache: Cache) -> Self {
        NodeAuthorizer { cache }
    }

    /// Decides.
    pub fn decide(&self, a: &Attributes) -> Decision {
        let Some(node) = node_name(&a.caller) else {
            return match nameless(&a.caller) {
                true => no(format!("unknown node for user {:?}", a.caller.user)),
                false => no(""),
            };
        };
        if a.is_resource() {
            match (a.group.as_str(), a.resource.as_str()) {
                ("", "secrets" | "configmaps") => return self.read_namespaced(node, a),
                ("", "persistentvolumeclaims") if a.subresource == "status" => {
                    return match a.verb.as_str() {
                        "update" | "patch" => self.related(node, a),
                        _ => no("can only update resources of this type"),
                    };
                }
                ("", "persistentvolumeclaims" | "persistentvolumes")
                | ("storage.k8s.io", "volumeattachments")
                | ("resource.k8s.io", "resourceclaims") => return self.get_one(node, a),
                ("", "serviceaccounts") => return self.account(node, a),
                ("", "nodes") => return own_node(node, a),
                ("", "pods") => return self.pods(node, a),
                ("coordination.k8s.io", "leases") => return own_lease(node, a),
                ("storage.k8s.io", "csinodes") => return own_csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.slices(node, a),
                _ => {}
            }
        }
        if NODE_RULES.iter().any(|rule| covers(rule, a)) { yes() } else { no("") }
    }

    fn read_namespaced(&self, node: &str, a: &Attributes) -> Decision {
        match a.verb.as_str() {
            _ if !a.subresource.is_empty() => no("cannot read subresource"),
            "get" | "list" | "watch" if a.namespace.is_empty() => {
                no("can only read namespaced object of this type")
            }
            "get" | "list" | "watch" => self.related(node, a),
            _ => no("can only read resources of this type"),
        }
    }

    fn get_one(&self, node: &str, a: &Attributes) -> Decision {
        match a.verb.as_str() {
            "get" if !a.subresource.is_empty() => no("cannot get subresource"),
            "get" => self.related(node, a),
            _ => no("can only get individual resources of this type"),
        }
    }

    fn pods(&self, node: &str, a: &Attributes) -> Decision {
        match (a.verb.as_str(), a.subresource.as_str()) {
            ("get", _) => self.get_one(node, a),
            ("list" | "watch", "") => {
                if restricted_to(node, a) {
                    yes()
                } else if !a.name.is_empty() {
                    self.related(node, a)
                } else {
                    no("can only list/watch pods with spec.nodeName field selector")
                }
            }
            // The NodeRestriction admission checks whose pods they are.
            ("create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => yes(),
            _ => no(""),
        }
    }

    /// The accounts of its pods, and tokens of those.
    fn account(&self, node: &str, a: &Attributes) -> Decision {
        match (a.verb.as_str(), a.subresource.as_str()) {
            ("get", "") => self.read_namespaced(node, a),
            ("create", _) if a.name.is_empty() => {
                no("can only create tokens for individual service accounts")
            }
            ("create", "token") => self.related(node, a),
            ("create", _) => no("can only create token subresource of serviceaccount"),
            _ => no("can only create tokens for individual service accounts"),
        }
    }

    /// What the node says of its devices.
    fn slices(&self, node: &str, a: &Attributes) -> Decision {
        match a.verb.as_str() {
            _ if !a.subresource.is_empty() => no("cannot authorize ResourceSlice subresources"),
            // The NodeRestriction admission checks whose it is.
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(node, a),
            "watch" | "list" | "deletecollection" if restricted_to(node, a) => yes(),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
                     update, patch, delete, deletecollection"),
        }
    }

    /// Whether one of the node's pods refers to the object.
    fn related(&self, node: &str, a: &Attributes) -> Decision {
        if a.name.is_empty() {
            return no("No Object name found");
        }
        if self.refers(node, a) {
            yes()
        } else {
            no(format!("no relationship found between node '{node}' and this object"))
        }
    }

    fn refers(&self, node: &str, a: &Attributes) -> bool {
        if a.resource == "volumeattachments" {
            let attachment = self.cache.get::<VolumeAttachment>("", &a.name);
            return attachment.is_some_and(|attachment| attachment.spec.node_name == node);
        }
        let snapshot = self.cache.snapshot();
        if a.resource == "resourceslices" {
            let slice = snapshot.get(&a.group, &a.resource, "", &a.name);
            return slice.is_some_and(|slice| slice.meta.field("spec.nodeName") == node);
        }
        let mut stored = snapshot.pods_on(node);
        if a.resource == "pods" {
            return stored.any(|pod| *pod.meta.namespace == a.namespace && *pod.meta.name == a.name);
        }
        let cluster_wide = a.namespace.is_empty();
        let mut pods = stored
            .filter(|pod| cluster_wide || *pod.meta.namespace == a.namespace)
            .filter_map(|pod| pod.typed::<Pod>().ok());
        match a.resource.as_str() {
            "persistentvolumes" => pods.any(|pod| {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                claims(&pod).any(|claim| self.volume_of(namespace, &claim).is_some_and(|v| v == a.name))
            }),
            "secrets" => {
                pods.any(|pod| refers_to(&pod, &a.resource, &a.name) || self.volume_secret(&pod, &a.name))
                    || self.ingress_secret(node, &a.namespace, &a.name)
            }
            resource => pods.any(|pod| refers_to(&pod, resource, &a.name)),
        }
    }

    /// Whether the node serves Ingresses, and one of those that it serves names the secret. That the node says
    /// so itself opens no more than what Ingresses name: certificates that every such node shows to anybody,
    /// and their keys.
    fn ingress_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        let serves = self.cache.get::<Node>("", node).is_some_and(|n| ingress::served_by(&n).is_some());
        if !serves {
            return false;
        }
        let ingresses = self.cache.list::<Ingress>(namespace);
        let mut naming =
            ingresses.iter().filter(|i| ingress::secrets(i).any(|secret| secret == name)).peekable();
        if naming.peek().is_none() {
            return false;
        }
        let classes = self.cache.list::<IngressClass>("");
        naming.any(|i| ingress::is_ours(i, classes.iter().map(|c| &**c)))
    }

    fn volume_of(&self, namespace: &str, claim: &str) -> Option<String> {
        self.cache.get::<PersistentVolumeClaim>(namespace, claim)?.spec.as_ref()?.volume_name.clone()
    }

    /// Whether the volume of one of the pod's claims names the secret.
    fn volume_secret(&self, pod: &Pod, name: &str) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        claims(pod).filter_map(|claim| self.volume_of(namespace, &claim)).any(|volume| {
            let Some(volume) = self.cache.get::<PersistentVolume>("", &volume) else { return false };
            let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return false };
            let refs = [
                &csi.node_stage_secret_ref,
                &csi.node_publish_secret_ref,
                &csi.node_expand_secret_ref,
                &csi.controller_publish_secret_ref,
                &csi.controller_expand_secret_ref,
            ];
            refs.into_iter().flatten().any(|r| {
                r.name.as_deref() == Some(name) && r.namespace.as_deref().is_none_or(|n| n == namespace)
            })
        })
    }
}

/// Whether only what is of the node is asked for.
fn restricted_to(node: &str, a: &Attributes) -> bool {
    a.field_equals.iter().any(|(field, value)| field == "spec.nodeName" && value == node)
}

fn own_node(node: &str, a: &Attributes) -> Decision {
    match (a.verb.as_str(), a.subresource.as_str()) {
        ("get" | "list" | "watch", "") if a.name == node => yes(),
        ("get" | "list" | "watch", "") if a.name.is_empty() => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("get" | "list" | "watch", "") => {
            no(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        // The NodeRestriction admission checks which node it is.
        ("create" | "update" | "patch", "") | ("update" | "patch", "status") => yes(),
        _ => no(""),
    }
}

fn own_lease(node: &str, a: &Attributes) -> Decision {
    if !matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != LEASE_NAMESPACE {
        return no(format!("can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"));
    }
    // The name of a new lease is in the body, which admission checks.
    if a.verb != "create" && a.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn own_csi_node(node: &str, a: &Attributes) -> Decision {
    if !a.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if !matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// The claims that a pod uses, ephemeral ones by the name that they get.
fn claims(pod: &Pod) -> impl Iterator<Item = String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    volumes(pod).filter_map(move |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
        _ => None,
    })
}

/// Whether a pod refers to an object of its namespace. Mirror pods refer to nothing: nodes write those
/// themselves.
pub fn refers_to(pod: &Pod, resource: &str, name: &str) -> bool {
    let is = |found: &Option<String>| found.as_deref() == Some(name);
    if pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR)) {
        return false;
    }
    let Some(spec) = &pod.spec else { return false };
    match resource {
        "serviceaccounts" => is(&spec.service_account_name),
        "persistentvolumeclaims" => claims(pod).any(|claim| claim == name),
        "resourceclaims" => {
            let direct = spec.resource_claims.iter().flatten().any(|claim| is(&claim.resource_claim_name));
            let made = pod.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
            let extended = pod.status.iter().filter_map(|s| s.extended_resource_claim_status.as_ref());
            direct
                || made.into_iter().any(|status| is(&status.resource_claim_name))
                || extended.into_iter().any(|status| status.resource_claim_name == name)
        }
        "secrets" => {
            let pulls = spec.image_pull_secrets.iter().flatten().any(|secret| secret.name == name);
            let mounts = volumes(pod).any(|volume| {
                let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
                volume.secret.as_ref().is_some_and(|s| is(&s.secret_name))
                    || projected.into_iter().any(|p| p.secret.as_ref().is_some_and(|s| s.name == name))
                    || volume
                        .csi
                        .as_ref()
                        .and_then(|c| c.node_publish_secret_ref.as_ref())
                        .is_some_and(|r| r.name == name)
            });
            pulls || mounts || env_refers(pod, name, true)
        }
        "configmaps" => {
            let mounts = volumes(pod).any(|volume| {
                let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
                volume.config_map.as_ref().is_some_and(|c| c.name == name)
                    || projected.into_iter().any(|p| p.config_map.as_ref().is_some_and(|c| c.name == name))
            });
            mounts || env_refers(pod, name, false)
        }
        _ => false,
    }
}

fn env_refers(pod: &Pod, name: &str, secret: bool) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let refers = |container: &Container| {
        let values = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
        let mut sources = container.env_from.iter().flatten();
        let mut values = values;
        if secret {
            values.any(|v| v.secret_key_ref.as_ref().is_some_and(|r| r.name == name))
                || sources.any(|s| s.secret_ref.as_ref().is_some_and(|r| r.name == name))
        } else {
            values.any(|v| v.config_map_key_ref.as_ref().is_some_and(|r| r.name == name))
                || sources.any(|s| s.config_map_ref.as_ref().is_some_and(|r| r.name == name))
        }
    };
    let ephemeral = spec.ephemeral_containers.iter().flatten().any(|container| {
        refers(&Container {
            env: container.env.clone(),
            env_from: container.env_from.clone(),
            ..Container::default()
        })
    });
    ephemeral || spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(refers)
}
