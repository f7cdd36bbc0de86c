//! Which address a proxied request is for: decisions on objects, without I/O.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use protocol::ApiError;

/// Where kubelets listen when their node does not say.
const KUBELET_PORT: u16 = 10250;
/// Ports of the schemes.
const HTTP_PORT: u16 = 80;

/// How the name in a proxy's path is written: `[scheme:]name[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub scheme: &'a str,
    pub name: &'a str,
    pub port: &'a str,
}

/// Takes a name apart. `what` is for the refusal.
pub(super) fn named<'a>(id: &'a str, what: &str) -> Result<Named<'a>, ApiError> {
    let parts: Vec<&str> = id.split(':').collect();
    let named = match parts.as_slice() {
        [name] => Named { scheme: "", name, port: "" },
        [name, port] => Named { scheme: "", name, port },
        [scheme @ ("" | "http" | "https"), name, port] => Named { scheme, name, port },
        _ => return Err(ApiError::bad_request(format!("invalid {what} request \"{id}\""))),
    };
    if named.name.is_empty() {
        return Err(ApiError::bad_request(format!("invalid {what} request \"{id}\"")));
    }
    Ok(named)
}

/// What to connect to, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node that dials if it can; `None` where nobody is nearer than the master.
    pub node: Option<String>,
    pub address: IpAddr,
    pub port: u16,
    pub tls: bool,
    /// It is a kubelet's own port, which wants to see our certificate.
    pub kubelet: bool,
}

/// Whether an address may be proxied to: not the machine's own, nor its neighbours' on the link.
fn allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local())
        }
    }
}

fn address(text: Option<&str>) -> Result<IpAddr, ApiError> {
    text.and_then(|ip| ip.parse().ok())
        .filter(|ip| allowed(*ip))
        .ok_or_else(|| ApiError::bad_request("address not allowed"))
}

fn unavailable(why: String) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", why)
}

/// A pod, at a port or at the first that it declares.
pub(super) fn of_pod(pod: &Pod, asked: Named<'_>) -> Result<Place, ApiError> {
    let spec = pod.spec.as_ref();
    let declared = spec.into_iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
    let port = if asked.port.is_empty() {
        declared.map(|p| p.container_port).next().and_then(|p| u16::try_from(p).ok())
    } else {
        asked.port.parse().ok()
    };
    let default = if asked.scheme == "https" { 443 } else { HTTP_PORT };
    let port = match (port, asked.port) {
        (Some(port), _) => port,
        (None, "") => default,
        (None, other) => return Err(ApiError::bad_request(format!("invalid port \"{other}\""))),
    };
    let ip = pod.status.as_ref().and_then(|s| {
        let first = s.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).next();
        first.or(s.pod_ip.as_deref())
    });
    let node = spec.and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty());
    Ok(Place { node, address: address(ip)?, port, tls: asked.scheme == "https", kubelet: false })
}

/// A Service: one of its ready endpoints, `pick` of them all.
pub(super) fn of_service<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    asked: Named<'_>,
    pick: u64,
) -> Result<Place, ApiError> {
    let mut name = asked.port;
    // A number means the port of that number; only then is its name known.
    if let Ok(number) = asked.port.parse::<i32>() {
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let Some(port) = ports.into_iter().find(|p| p.port == number) else {
            return Err(unavailable(format!(
                "no service port {number} found for service \"{}\"",
                asked.name
            )));
        };
        name = port.name.as_deref().unwrap_or_default();
    }
    let mut found = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|p| p.name.as_deref().unwrap_or_default() == name);
        let Some(port) = port.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
                continue;
            }
            if let Some(ip) = endpoint.addresses.first() {
                found.push((endpoint.node_name.clone(), ip.as_str(), port));
            }
        }
    }
    let chosen = usize::try_from(pick % found.len().max(1) as u64).unwrap_or(0);
    let Some((node, ip, port)) = found.get(chosen).cloned() else {
        return Err(unavailable(format!("no endpoints available for service \"{}\"", asked.name)));
    };
    Ok(Place { node, address: address(Some(ip))?, port, tls: asked.scheme == "https", kubelet: false })
}

/// Where a node's kubelet listens.
pub(in crate::streams) fn kubelet_port(node: &Node) -> u16 {
    let said = node.status.as_ref().and_then(|s| s.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref());
    said.and_then(|e| u16::try_from(e.port).ok()).filter(|port| *port != 0).unwrap_or(KUBELET_PORT)
}

/// A node: its kubelet, or another of its ports.
pub(super) fn of_node(node: &Node, asked: Named<'_>) -> Result<Place, ApiError> {
    let kubelet = kubelet_port(node);
    let port = if asked.port.is_empty() {
        kubelet
    } else {
        let wrong = || ApiError::bad_request(format!("invalid port \"{}\"", asked.port));
        asked.port.parse().map_err(|_| wrong())?
    };
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref());
    let internal = addresses.into_iter().flatten().find(|a| a.type_ == "InternalIP");
    let is_kubelet = port == kubelet;
    Ok(Place {
        node: node.metadata.name.clone(),
        address: address(internal.map(|a| a.address.as_str()))?,
        port,
        tls: is_kubelet || asked.scheme == "https",
        kubelet: is_kubelet,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn shown(place: Result<Place, ApiError>) -> String {
        match place {
            Ok(p) => format!(
                "{} {}:{}{}{}",
                p.node.unwrap_or_default(),
                p.address,
                p.port,
                if p.tls { " tls" } else { "" },
                if p.kubelet { " kubelet" } else { "" }
            ),
            Err(e) => format!("{} {e}", e.code()),
        }
    }

    #[test]
    fn names_come_apart() {
        let parts = |id| named(id, "pod").map(|n| [n.scheme, n.name, n.port]).ok();
        assert_eq!(parts("web"), Some(["", "web", ""]));
        assert_eq!(parts("web:80"), Some(["", "web", "80"]));
        assert_eq!(parts("https:web:"), Some(["https", "web", ""]));
        assert_eq!(parts(":web:http"), Some(["", "web", "http"]));
        for wrong in ["", "ftp:web:80", "a:b:c:d", "http::80"] {
            let refusal = named(wrong, "pod").unwrap_err().to_string();
            assert_eq!(refusal, format!("invalid pod request \"{wrong}\""));
        }
    }

    #[test]
    fn pods_have_ports_and_addresses() {
        let pod = |ip: &str| -> Pod {
            object(json!({"metadata": {"name": "web"}, "status": {"podIP": ip},
                "spec": {"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]}}))
        };
        for (ip, id, expected) in [
            ("10.1.0.3", "web", "n1 10.1.0.3:8080"),
            ("10.1.0.3", "https:web:8443", "n1 10.1.0.3:8443 tls"),
            ("10.1.0.3", "web:http", "400 invalid port \"http\""),
            ("127.0.0.1", "web", "400 address not allowed"),
            ("", "web", "400 address not allowed"),
        ] {
            assert_eq!(shown(of_pod(&pod(ip), named(id, "pod").unwrap())), expected, "{ip} {id}");
        }
    }

    #[test]
    fn services_have_ready_endpoints_of_a_port() {
        let service: Service = object(json!({"metadata": {"name": "web"}, "spec": {"ports": [
            {"name": "http", "port": 80}, {"name": "tls", "port": 443}]}}));
        let slice: EndpointSlice = object(json!({"addressType": "IPv4", "metadata": {"name": "web-1"},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.1.0.3"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.1.0.4"], "conditions": {"ready": false}},
                {"addresses": ["10.1.0.5"], "nodeName": "n2"}]}));
        for (id, pick, expected) in [
            ("web:http", 0, "n1 10.1.0.3:8080"),
            ("web:80", 1, "n2 10.1.0.5:8080"),
            ("https:web:http", 2, "n1 10.1.0.3:8080 tls"),
            ("web", 0, "503 no endpoints available for service \"web\""),
            ("web:443", 0, "503 no endpoints available for service \"web\""),
            ("web:81", 0, "503 no service port 81 found for service \"web\""),
        ] {
            let place = of_service(&service, [&slice].into_iter(), named(id, "service").unwrap(), pick);
            assert_eq!(shown(place), expected, "{id}");
        }
    }

    #[test]
    fn nodes_have_a_kubelet() {
        let node: Node = object(json!({"metadata": {"name": "n1"}, "status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.7"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}));
        for (id, expected) in [
            ("n1", "n1 192.0.2.7:10250 tls kubelet"),
            ("n1:10250", "n1 192.0.2.7:10250 tls kubelet"),
            ("n1:10255", "n1 192.0.2.7:10255"),
            ("https:n1:9100", "n1 192.0.2.7:9100 tls"),
        ] {
            assert_eq!(shown(of_node(&node, named(id, "node").unwrap())), expected, "{id}");
        }
    }
}
