//! What becomes of a search: what is written into a claim.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::attempt::Chosen;
use super::request::{Request, Wanted};
use super::slices::{Offered, Pool};

fn offered<'a>(pools: &'a [Pool], chosen: &Chosen) -> &'a Offered {
    &pools[chosen.spot.pool].devices[chosen.spot.device]
}

/// The allocation of one claim on a node. `share` names what is taken of a device that others share.
pub(super) fn allocation(
    wanted: &Wanted,
    chosen: &[Chosen],
    pools: &[Pool],
    node: &str,
    share: &mut dyn FnMut() -> String,
) -> AllocationResult {
    let results: Vec<_> = chosen.iter().map(|c| result(wanted, c, offered(pools, c), share)).collect();
    let config = config(wanted, chosen);
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            config: (!config.is_empty()).then_some(config),
            results: (!results.is_empty()).then_some(results),
        }),
        node_selector: node_selector(chosen, pools, node),
    }
}

fn result(
    wanted: &Wanted,
    chosen: &Chosen,
    offered: &Offered,
    share: &mut dyn FnMut() -> String,
) -> DeviceRequestAllocationResult {
    let request = &wanted.requests[chosen.request][chosen.alternative];
    let (id, device) = (offered.id(), offered.device());
    let amounts = chosen.share.as_ref().filter(|amounts| !amounts.is_empty());
    let amounts = amounts.map(|a| a.iter().map(|(n, q)| (n.clone(), Text(q.to_string()))).collect());
    DeviceRequestAllocationResult {
        admin_access: request.admin.then_some(true),
        binding_conditions: device.binding_conditions.clone(),
        binding_failure_conditions: device.binding_failure_conditions.clone(),
        consumed_capacity: amounts,
        device: id.device,
        driver: id.driver,
        pool: id.pool,
        request: request.full_name(),
        share_id: chosen.share.as_ref().map(|_| share()),
        tolerations: Some(request.tolerations.clone()).filter(|t| !t.is_empty()),
    }
}

/// What drivers are told beside: first what the classes say, each once, then what the claim says.
fn config(wanted: &Wanted, chosen: &[Chosen]) -> Vec<DeviceAllocationConfiguration> {
    let alternative = |at: usize| chosen.iter().find(|c| c.request == at).map_or(0, |c| c.alternative);
    let requests: Vec<&Request> =
        wanted.requests.iter().enumerate().filter_map(|(at, all)| all.get(alternative(at))).collect();
    let mut out: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut classes: BTreeMap<Option<&str>, std::ops::Range<usize>> = BTreeMap::new();
    for request in &requests {
        let class = request.class.metadata.name.as_deref();
        if let Some(known) = classes.get(&class) {
            for config in &mut out[known.clone()] {
                config.requests.get_or_insert_default().push(request.full_name());
            }
            continue;
        }
        let from = out.len();
        out.extend(request.class.spec.config.iter().flatten().map(|c| DeviceAllocationConfiguration {
            opaque: c.opaque.clone(),
            requests: Some(vec![request.full_name()]),
            source: "FromClass".to_owned(),
        }));
        classes.insert(class, from..out.len());
    }
    let said = wanted.claim.spec.devices.as_ref().and_then(|d| d.config.as_ref());
    for config in said.into_iter().flatten() {
        let named = config.requests.as_deref().unwrap_or_default();
        let about = |r: &&&Request| named.iter().any(|n| n == r.base_name() || *n == r.full_name());
        // One that names several requests is there for each of them, as upstream has it.
        let times = if named.is_empty() { 1 } else { requests.iter().filter(about).count() };
        out.extend((0..times).map(|_| DeviceAllocationConfiguration {
            opaque: config.opaque.clone(),
            requests: config.requests.clone(),
            source: "FromClaim".to_owned(),
        }));
    }
    out
}

/// Where the devices can be reached from; `None` for everywhere.
fn node_selector(chosen: &[Chosen], pools: &[Pool], node: &str) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    for chosen in chosen {
        let offered = offered(pools, chosen);
        let (spec, device) = (&offered.slice.spec, offered.device());
        let (one, some) = match spec.per_device_node_selection {
            Some(true) => (&device.node_name, &device.node_selector),
            _ => (&spec.node_name, &spec.node_selector),
        };
        if one.is_some() || device.binds_to_node == Some(true) {
            let own = NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            };
            let term = NodeSelectorTerm { match_fields: Some(vec![own]), ..NodeSelectorTerm::default() };
            return Some(NodeSelector { node_selector_terms: vec![term] });
        }
        // Slices have one term.
        if let Some(only) = some.as_ref().and_then(|s| s.node_selector_terms.first()) {
            add(&mut term.match_fields, only.match_fields.as_deref());
            add(&mut term.match_expressions, only.match_expressions.as_deref());
        }
    }
    let empty = term.match_fields.is_none() && term.match_expressions.is_none();
    (!empty).then(|| NodeSelector { node_selector_terms: vec![term] })
}

/// Adds the requirements that are not there yet.
fn add(to: &mut Option<Vec<NodeSelectorRequirement>>, more: Option<&[NodeSelectorRequirement]>) {
    let sorted = |r: &NodeSelectorRequirement| {
        let mut values = r.values.clone().unwrap_or_default();
        values.sort();
        values.dedup();
        values
    };
    for requirement in more.unwrap_or_default() {
        let same = |r: &NodeSelectorRequirement| {
            r.key == requirement.key && r.operator == requirement.operator && sorted(r) == sorted(requirement)
        };
        if !to.as_ref().is_some_and(|all| all.iter().any(same)) {
            to.get_or_insert_default().push(requirement.clone());
        }
    }
}
