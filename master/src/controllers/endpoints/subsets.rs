//! The subsets of an Endpoints object: addresses with equal ports stand together, each address once. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service,
};

use super::pods::{
    addresses_of, hostname, is_headless, may_serve, ports, protocol, publishes_unready, target_port,
};
use crate::controllers::machinery::pods::{is_ready, node_name};

/// Addresses that one Endpoints object holds; further ones are left out.
pub const ADDRESSES_MAX: usize = 1000;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: Option<String>,
    number: i32,
    protocol: String,
    app_protocol: Option<String>,
}

impl Port {
    /// The place of a port among others: by the hash of how Go prints it, as upstream has it, so that an object that
    /// one of the two wrote is no change to the other.
    fn rank(&self) -> u128 {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        let app = self.app_protocol.as_deref().unwrap_or("<nil>");
        let printed = format!(
            "(v1.EndpointPort){{Name:(string){} Port:(int32){} Protocol:(v1.Protocol){} AppProtocol:(*string){app}}}",
            text(&self.name),
            self.number,
            self.protocol,
        );
        fnv128a(printed.as_bytes())
    }
}

/// The 128-bit FNV-1a hash.
fn fnv128a(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

struct Entry {
    address: EndpointAddress,
    ready: bool,
    ports: BTreeSet<Port>,
}

/// The subsets for a Service and the pods that its selector selects. The second value tells whether
/// addresses were left out for their number.
pub fn subsets(service: &Service, pods: &[impl AsRef<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let unready_too = publishes_unready(service);
    let ipv6 = service
        .spec
        .as_ref()
        .and_then(|s| s.ip_families.as_ref())
        .and_then(|f| f.first())
        .is_some_and(|f| f == "IPv6");
    // Keyed by address and pod, so that a pod's ports join; ordered by the address' text, as upstream has it, so that
    // the result does not depend on the order of pods.
    let mut entries: BTreeMap<(String, String), Entry> = BTreeMap::new();
    let bound = |pod: &&Pod| !node_name(pod).is_empty();
    for pod in pods.iter().map(AsRef::as_ref).filter(|p| may_serve(p, unready_too)).filter(bound) {
        let Some(ip) = addresses_of(pod, ipv6).next() else { continue };
        let mut found = BTreeSet::new();
        for port in ports(service) {
            if let Some(number) = target_port(pod, port) {
                found.insert(Port {
                    name: port.name.clone().filter(|n| !n.is_empty()),
                    number,
                    protocol: protocol(port).to_owned(),
                    app_protocol: port.app_protocol.clone(),
                });
            }
        }
        let portless = ports(service).is_empty() && is_headless(service);
        if found.is_empty() && !portless {
            continue;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(pod, service),
            node_name: Some(node_name(pod).to_owned()),
            target_ref: Some(pod_reference(pod)),
        };
        let ready = unready_too || is_ready(pod);
        entries.insert((ip.to_owned(), uid), Entry { address, ready, ports: found });
    }
    let over = entries.len() > ADDRESSES_MAX;
    let mut kept: Vec<Entry> = entries.into_values().collect();
    if over {
        // Ready addresses are the more useful ones; the sort is stable.
        kept.sort_by_key(|e| !e.ready);
        kept.truncate(ADDRESSES_MAX);
    }
    let mut groups: BTreeMap<BTreeSet<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for entry in kept {
        let group = groups.entry(entry.ports).or_default();
        if entry.ready { group.0.push(entry.address) } else { group.1.push(entry.address) }
    }
    let some = |v: Vec<EndpointAddress>| (!v.is_empty()).then_some(v);
    let out = groups.into_iter().map(|(ports, (ready, unready))| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(unready),
        ports: (!ports.is_empty()).then(|| {
            let mut ports: Vec<Port> = ports.into_iter().collect();
            ports.sort_by_cached_key(Port::rank);
            ports.into_iter().map(endpoint_port).collect()
        }),
    });
    (out.collect(), over)
}

fn endpoint_port(port: Port) -> EndpointPort {
    EndpointPort {
        name: port.name,
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

/// A reference to the pod behind an address.
pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ip: &str, ready: bool, port_name: Option<(&str, i32)>) -> Arc<Pod> {
        let ports: Value = port_name.map_or(json!([]), |(n, p)| json!([{"name": n, "containerPort": p}]));
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "d", "uid": name},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    fn check(spec: Value, pods: &[Arc<Pod>], expected: Value) {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "d"}, "spec": spec}))
                .unwrap();
        let mut got = serde_json::to_value(subsets(&service, pods).0).unwrap();
        for subset in got.as_array_mut().unwrap() {
            for list in ["addresses", "notReadyAddresses"] {
                for a in subset.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    *a = a["ip"].take();
                }
            }
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn addresses_group_by_ports_and_readiness() {
        let pods = [
            pod("b", "10.0.0.10", true, None),
            pod("a", "10.0.0.9", true, None),
            pod("c", "10.0.0.3", false, None),
        ];
        check(
            json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": 8080}]}),
            &pods,
            json!([{"addresses": ["10.0.0.10", "10.0.0.9"], "notReadyAddresses": ["10.0.0.3"],
                "ports": [{"port": 8080, "protocol": "TCP"}]}]),
        );
        check(
            json!({"clusterIP": "10.96.0.1", "publishNotReadyAddresses": true, "ports": [{"port": 80}]}),
            &pods[2..],
            json!([{"addresses": ["10.0.0.3"], "ports": [{"port": 80, "protocol": "TCP"}]}]),
        );
    }

    #[test]
    fn ports_stand_in_the_order_of_their_hashes() {
        let port = |name: Option<&str>, number, protocol: &str, app: Option<&str>| Port {
            name: name.map(str::to_owned),
            number,
            protocol: protocol.to_owned(),
            app_protocol: app.map(str::to_owned),
        };
        for (port, hash) in [
            (port(Some("a"), 1, "TCP", None), 0x779a_0e07_deaa_a6f2_8b27_bf2e_ba0b_2ef1),
            (port(Some("b"), 2, "UDP", Some("x")), 0x6b39_97c6_876e_9abd_6d00_cedf_6fa6_9b2c),
            (port(None, 80, "TCP", None), 0x19cb_ad18_34a7_8aba_d87a_0935_8085_8485),
        ] {
            assert_eq!(port.rank(), hash, "{:?}", port.name);
        }
        check(
            json!({"clusterIP": "None", "ports": [
                {"name": "a", "port": 1}, {"name": "b", "port": 2, "protocol": "UDP", "appProtocol": "x"},
            ]}),
            &[pod("p", "10.0.0.1", true, None)],
            json!([{"addresses": ["10.0.0.1"], "ports": [
                {"name": "b", "port": 2, "protocol": "UDP", "appProtocol": "x"},
                {"name": "a", "port": 1, "protocol": "TCP"},
            ]}]),
        );
    }

    #[test]
    fn named_ports_resolve_per_pod() {
        let pods = [
            pod("a", "10.0.0.1", true, Some(("http", 8080))),
            pod("b", "10.0.0.2", true, Some(("http", 9090))),
            pod("c", "10.0.0.3", true, None),
        ];
        check(
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}),
            &pods,
            json!([
                {"addresses": ["10.0.0.1"], "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}]},
                {"addresses": ["10.0.0.2"], "ports": [{"name": "web", "port": 9090, "protocol": "TCP"}]},
            ]),
        );
    }

    #[test]
    fn a_headless_service_needs_no_ports() {
        check(
            json!({"clusterIP": "None"}),
            &[pod("a", "10.0.0.1", true, None)],
            json!([{"addresses": ["10.0.0.1"]}]),
        );
        check(json!({"clusterIP": "10.96.0.1"}), &[pod("a", "10.0.0.1", true, None)], json!([]));
    }
}
