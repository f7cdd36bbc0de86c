//! What an APIService's condition says. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::aggregation::services::Backend;

/// The condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True` or `False`.
    pub status: &'static str,
    /// For programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Verdict { status: "False", reason, message }
    }

    /// What this server serves itself.
    pub fn local() -> Self {
        Verdict {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        }
    }

    /// The server answered.
    pub fn passed() -> Self {
        Verdict { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// The server did not answer, or not well.
    pub fn failed(why: String) -> Self {
        Verdict::no("FailedDiscoveryCheck", why)
    }
}

/// Why a server cannot be there; `None` where it has to be asked. `slices` are those of the Service.
pub fn obstacle(backend: &Backend, service: Option<&Service>, slices: &[&EndpointSlice]) -> Option<Verdict> {
    let what = format!("service/{} in {:?}", backend.service, backend.namespace);
    let Some(service) = service else {
        return Some(Verdict::no("ServiceNotFound", format!("{what} is not present")));
    };
    let spec = service.spec.as_ref();
    if spec.and_then(|s| s.type_.as_deref()).is_some_and(|ty| ty != "ClusterIP") {
        return None;
    }
    let ports = spec.into_iter().flat_map(|s| s.ports.iter().flatten());
    let Some(port) = ports.into_iter().find(|p| p.port == i32::from(backend.port)) else {
        let message = format!("{what} is not listening on port {}", backend.port);
        return Some(Verdict::no("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for {what}");
        return Some(Verdict::no("EndpointsNotFound", message));
    }
    let name = port.name.as_deref().unwrap_or_default();
    let serves = |slice: &&EndpointSlice| {
        let ready = slice
            .endpoints
            .iter()
            .flatten()
            .any(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
        let named = |p: &k8s_openapi::api::discovery::v1::EndpointPort| {
            p.name.as_deref().unwrap_or_default() == name && p.port.is_some()
        };
        ready && slice.ports.iter().flatten().any(named)
    };
    if !slices.iter().any(serves) {
        let message = format!("endpointslices for {what} have no addresses with port name {name:?}");
        return Some(Verdict::no("MissingEndpoints", message));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_missing_is_named() {
        let registration = json!({"spec": {"group": "g", "version": "v1", "service": {"namespace": "n", "name": "s", "port": 443}}});
        let backend = Backend::of("v1.g", &registration).expect("another server's");
        let service = |ty: &str, port: i32| -> Service {
            object(
                json!({"metadata": {"name": "s"}, "spec": {"type": ty, "ports": [{"name": "api", "port": port}]}}),
            )
        };
        let slice = |port: &str, ready: bool| -> EndpointSlice {
            object(json!({"metadata": {"name": "s-1"}, "addressType": "IPv4",
                "ports": [{"name": port, "port": 8443}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]}))
        };
        let good = slice("api", true);
        let reason = |service: Option<Service>, slices: &[&EndpointSlice]| {
            obstacle(&backend, service.as_ref(), slices).map(|v| format!("{}: {}", v.reason, v.message))
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(reason(None, &[]), said("ServiceNotFound: service/s in \"n\" is not present"));
        assert_eq!(
            reason(Some(service("ClusterIP", 80)), &[&good]),
            said("ServicePortError: service/s in \"n\" is not listening on port 443")
        );
        assert_eq!(
            reason(Some(service("ClusterIP", 443)), &[]),
            said("EndpointsNotFound: cannot find endpointslices for service/s in \"n\"")
        );
        let missing = "MissingEndpoints: endpointslices for service/s in \"n\" have no addresses with port name \"api\"";
        assert_eq!(reason(Some(service("ClusterIP", 443)), &[&slice("other", true)]), said(missing));
        assert_eq!(reason(Some(service("ClusterIP", 443)), &[&slice("api", false)]), said(missing));
        assert_eq!(reason(Some(service("ClusterIP", 443)), &[&slice("other", true), &good]), None);
        assert_eq!(reason(Some(service("ExternalName", 1)), &[]), None);
    }
}
