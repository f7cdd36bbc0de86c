//! Pods, as far as policies need them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::rules::{Protocol, is_port_name};

/// Labels of a pod or namespace.
pub type Labels = BTreeMap<String, String>;

/// `namespace/name` of a pod or policy.
pub type Key = Arc<str>;

/// The key of an object.
pub fn key(namespace: &str, name: &str) -> Key {
    format!("{namespace}/{name}").into()
}

/// The namespace of a key.
pub fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// Pods of static manifests have another uid in the API than on their node; they carry this.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A port that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// What is remembered of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its uid.
    pub uid: String,
    /// It stands for a static pod.
    pub mirror: bool,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its addresses, as its status tells them.
    pub addresses: Vec<IpAddr>,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
    /// It is bound to this node.
    pub here: bool,
    /// It has a network of its own, and has not ended.
    pub alive: bool,
    /// When it was created, in seconds since 1970.
    pub created: i64,
}

impl PodFacts {
    /// What a Pod object says, seen from `node`.
    pub fn of(pod: &Pod, node: &str) -> PodFacts {
        let meta = &pod.metadata;
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let ended = status
            .and_then(|s| s.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        let addresses: BTreeSet<IpAddr> = status
            .into_iter()
            .flat_map(|s| s.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(s.pod_ip.as_deref()))
            .filter_map(|ip| ip.parse().ok())
            .collect();
        let containers = spec.into_iter().flat_map(|s| {
            let sidecars = s.init_containers.iter().flatten();
            s.containers.iter().chain(sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always")))
        });
        let ports = containers.flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
            Some(NamedPort {
                name: port.name.as_deref().filter(|name| is_port_name(name))?.into(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                number: u16::try_from(port.container_port).ok()?,
            })
        });
        PodFacts {
            uid: meta.uid.clone().unwrap_or_default(),
            mirror: meta.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR)),
            labels: Arc::new(meta.labels.clone().unwrap_or_default()),
            addresses: addresses.into_iter().collect(),
            ports: ports.collect(),
            here: spec.and_then(|s| s.node_name.as_deref()) == Some(node),
            alive: !ended && spec.is_some_and(|s| s.host_network != Some(true)),
            created: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        }
    }
}

/// Keeps one copy of labels that many pods have.
#[derive(Debug, Default)]
pub struct LabelPool(BTreeSet<Arc<Labels>>);

/// Sets of labels that nobody has any more are looked for when there are this many more than after the last look.
const POOL_SLACK: usize = 256;

impl LabelPool {
    /// The pool's copy of these labels.
    pub fn share(&mut self, labels: Arc<Labels>) -> Arc<Labels> {
        if let Some(known) = self.0.get(&labels) {
            return known.clone();
        }
        if self.0.len() % POOL_SLACK == POOL_SLACK - 1 {
            self.0.retain(|known| Arc::strong_count(known) > 1);
        }
        self.0.insert(labels.clone());
        labels
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(pod: Value) -> PodFacts {
        PodFacts::of(&serde_json::from_value(pod).unwrap(), "n1")
    }

    #[test]
    fn pods_are_remembered_briefly() {
        let pod = |spec: Value, status: Value| {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "c", "ports": [
                {"name": "http", "containerPort": 80}, {"containerPort": 81},
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            ]}]);
            facts(json!({"metadata": {"uid": "u", "labels": {"a": "b"}}, "spec": spec, "status": status}))
        };
        let found = pod(
            json!({"nodeName": "n1"}),
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}),
        );
        let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
        assert!(found.here && found.alive && !found.mirror);
        let ports: Vec<_> = found.ports.iter().map(|p| (&*p.name, p.protocol, p.number)).collect();
        assert_eq!(ports, [("http", Protocol::Tcp, 80), ("dns", Protocol::Udp, 53)]);
        assert!(!pod(json!({"nodeName": "n2"}), json!({})).here);
        assert!(
            !pod(json!({"hostNetwork": true}), json!({"podIP": "192.0.2.1"})).alive,
            "the node's address"
        );
        assert!(
            !pod(json!({}), json!({"phase": "Failed", "podIP": "10.0.0.1"})).alive,
            "its address is free"
        );
    }

    #[test]
    fn same_labels_are_kept_once_and_lost_ones_not_at_all() {
        let mut pool = LabelPool::default();
        let labels = |n: usize| Arc::new(Labels::from([("n".to_owned(), n.to_string())]));
        let first = pool.share(labels(0));
        assert!(Arc::ptr_eq(&first, &pool.share(labels(0))));
        for n in 1..2000 {
            pool.share(labels(n));
        }
        assert!(pool.0.len() <= POOL_SLACK, "{}", pool.0.len());
        assert!(pool.0.contains(&first));
    }
}
