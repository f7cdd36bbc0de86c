//! EndpointSlices for Endpoints that somebody wrote by hand, for a Service without a selector.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

use protocol::labels::SERVICE_NAME;

use super::slices::{self, Frame, MANAGED_BY};
use super::{managed_slices, named, namesake, selector_of, write_slices};
use crate::controllers::machinery::meta::{annotation, controller_reference, is_deleting};
use crate::controllers::machinery::pods::name_prefix;
use crate::controllers::machinery::watches::{mapped, own};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored.
const SUBSET_MAX: usize = 1000;

/// Mirrors Endpoints.
pub struct EndpointSliceMirroringController;

impl Reconciler for EndpointSliceMirroringController {
    const NAME: &'static str = "endpoint_slice_mirroring";
    const ACCOUNT: &'static str = "endpointslicemirroring-controller";
    const RESOURCE: &'static str = "endpoints";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Endpoints>(),
            mapped::<Service>(|change, _| namesake(change)),
            mapped::<EndpointSlice>(|change, _| {
                let meta = &change.stored.meta;
                let of =
                    meta.labels.get(SERVICE_NAME).filter(|_| meta.labels.get(MANAGED_BY) == Some(MANAGER));
                of.map(|name| Key::new(&meta.namespace, name)).into_iter().collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let existing = managed_slices(&cx.cache, key, MANAGER);
        let endpoints = cx.cache.get::<Endpoints>(&key.namespace, &key.name);
        let service = cx.cache.get::<Service>(&key.namespace, &key.name);
        let mirrored = endpoints.filter(|e| {
            let skipped = e.metadata.labels.as_ref().and_then(|l| l.get(SKIP)).is_some_and(|v| v == "true");
            !skipped && annotation(&e.metadata, LEADER).is_none() && !is_deleting(&e.metadata)
        });
        let service = service.filter(|s| selector_of(s).is_none());
        let (Some(endpoints), Some(_)) = (mirrored, service) else {
            let plan = slices::Plan {
                delete: existing.iter().map(|s| named(&s.metadata)).collect(),
                ..Default::default()
            };
            if let Some(slice) = existing.first() {
                write_slices(cx, &**slice, key, plan).await?;
            }
            return Ok(Outcome::DONE);
        };
        let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
        labels.insert(SERVICE_NAME.to_owned(), key.name.to_string());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
        annotations.retain(|k, _| {
            k != "kubectl.kubernetes.io/last-applied-configuration"
                && k != "endpoints.kubernetes.io/last-change-trigger-time"
        });
        let frame = Frame {
            namespace: key.namespace.to_string(),
            generate_name: name_prefix(&key.name),
            owner: controller_reference(&*endpoints),
            labels,
            annotations: (!annotations.is_empty()).then_some(annotations),
        };
        for kind in ["IPv4", "IPv6"] {
            let of_kind: Vec<_> = existing.iter().filter(|s| s.address_type == kind).cloned().collect();
            let plan = slices::plan(&frame, kind, &of_kind, desired(&endpoints, kind == "IPv6"), false);
            write_slices(cx, &*endpoints, key, plan).await?;
        }
        Ok(Outcome::DONE)
    }
}

type Ports = Vec<(String, Option<i32>, String, Option<String>)>;

/// The addresses of one family, grouped by ports. Pure.
fn desired(endpoints: &Endpoints, ipv6: bool) -> BTreeMap<Ports, Vec<Endpoint>> {
    let mut groups: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports: Ports = subset
            .ports
            .iter()
            .flatten()
            .map(|p| {
                let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                (p.name.clone().unwrap_or_default(), Some(p.port), protocol, p.app_protocol.clone())
            })
            .collect();
        ports.sort_by(|a, b| b.cmp(a));
        let of = |list: &Option<Vec<EndpointAddress>>, ready: bool| -> Vec<Endpoint> {
            let family = |a: &&EndpointAddress| a.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == ipv6);
            list.iter().flatten().filter(family).map(|a| mirror(a, ready)).collect()
        };
        let mut all = of(&subset.addresses, true);
        all.extend(of(&subset.not_ready_addresses, false));
        all.truncate(SUBSET_MAX);
        if !all.is_empty() {
            groups.entry(ports).or_default().extend(all);
        }
    }
    groups
}

fn mirror(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_mirrored_by_family_and_ports() {
        let endpoints: Endpoints = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "d"},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 80}]}],
        }))
        .unwrap();
        let groups = desired(&endpoints, false);
        let (ports, list) = groups.iter().next().unwrap();
        assert_eq!(*ports, [(String::new(), Some(80), "TCP".to_owned(), None)]);
        let ready = |e: &Endpoint| (e.addresses[0].clone(), e.conditions.clone().unwrap().ready.unwrap());
        assert_eq!(
            list.iter().map(ready).collect::<Vec<_>>(),
            [("192.0.2.7".to_owned(), true), ("192.0.2.8".to_owned(), false)]
        );
        assert_eq!(desired(&endpoints, true).values().map(Vec::len).sum::<usize>(), 1);
    }
}
