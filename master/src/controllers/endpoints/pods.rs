//! How a Service's pods become addresses and ports. Pure; shared by Endpoints and EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::machinery::meta::{is_deleting, name, namespace};
use crate::controllers::machinery::pods::is_finished;

/// Label on what serves a headless Service.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether the pod may be behind a Service: it has an address and has not ended. Terminating ones count
/// where the caller tells them apart.
pub fn may_serve(pod: &Pod, include_terminating: bool) -> bool {
    !is_finished(pod)
        && addresses(pod).next().is_some()
        && (include_terminating || !is_deleting(&pod.metadata))
}

/// The pod's addresses, the primary one first.
pub fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
    let primary = status.and_then(|s| s.pod_ip.as_deref()).filter(|_| all.is_empty());
    all.iter().map(|a| a.ip.as_str()).chain(primary).filter(|ip| !ip.is_empty())
}

/// The pod's addresses of one family.
pub fn addresses_of(pod: &Pod, ipv6: bool) -> impl Iterator<Item = &str> {
    addresses(pod).filter(move |ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == ipv6))
}

/// The pod's own hostname, where it is published under the Service's domain.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|h| !h.is_empty())?;
    let under = spec.subdomain.as_deref() == service.metadata.name.as_deref()
        && namespace(&pod.metadata) == namespace(&service.metadata)
        && !name(&service.metadata).is_empty();
    under.then(|| hostname.to_owned())
}

/// The number that a Service's port has on this pod; `None` where no container names it.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(wanted)) => {
            let spec = pod.spec.as_ref()?;
            let protocol = protocol(port);
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let find = |c: &Container| {
                let ports = c.ports.iter().flatten();
                let mut named = ports.filter(|p| p.name.as_ref() == Some(wanted));
                named.find(|p| p.protocol.as_deref().unwrap_or("TCP") == protocol).map(|p| p.container_port)
            };
            spec.containers.iter().chain(sidecars).find_map(find)
        }
    }
}

/// The port's protocol.
pub fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// Whether the Service has no virtual address.
pub fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    ip.is_empty() || ip == "None"
}

/// Whether addresses are published before their pods are ready.
pub fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

/// The Service's ports.
pub fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default()
}
