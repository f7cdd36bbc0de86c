//! Which node tells the network that a Service's addresses are to be found with it. Pure.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The nodes with endpoints that take traffic.
pub fn nodes_with_endpoints<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> BTreeSet<String> {
    let endpoints = slices.into_iter().flat_map(|s| s.endpoints.iter().flatten());
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    ready.filter_map(|e| e.node_name.clone()).collect()
}

/// The node for an address: the present one while it is among the candidates, so that connections stay; else one
/// that depends on the address, so that many addresses spread over the nodes.
pub fn choose<'a>(
    address: IpAddr,
    present: Option<&str>,
    candidates: &'a BTreeSet<String>,
) -> Option<&'a str> {
    let stays = present.and_then(|present| candidates.get(present));
    let spread = || {
        candidates.iter().max_by_key(|node| {
            let mut hasher = DefaultHasher::new();
            (address, node).hash(&mut hasher);
            hasher.finish()
        })
    };
    stays.or_else(spread).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn endpoints_that_are_not_ready_count_for_nothing() {
        let slice: EndpointSlice =
            serde_json::from_value(json!({"addressType": "IPv4", "ports": [], "endpoints": [
                {"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "nodeName": "b", "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"], "nodeName": "c"},
                {"addresses": ["10.0.0.4"]},
            ]}))
            .expect("a slice");
        assert_eq!(nodes_with_endpoints([&slice, &EndpointSlice::default()]), set(&["a", "c"]));
    }

    #[test]
    fn an_address_stays_where_it_is_and_addresses_spread() {
        let nodes = set(&["a", "b", "c"]);
        let address = |n| IpAddr::from([192, 0, 2, n]);
        assert_eq!(choose(address(1), Some("b"), &nodes), Some("b"));
        assert_eq!(choose(address(1), Some("gone"), &BTreeSet::new()), None);
        let used: BTreeSet<_> = (0..40).filter_map(|n| choose(address(n), None, &nodes)).collect();
        assert_eq!(used.len(), 3, "{used:?}");
        // A node that goes moves its own addresses only.
        let fewer = set(&["a", "c"]);
        for n in 0..40 {
            let before = choose(address(n), None, &nodes);
            if before != Some("b") {
                assert_eq!(choose(address(n), None, &fewer), before);
            }
        }
    }
}
