//! Node IPAM: each node gets a part of the cluster's pod addresses, for good.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use protocol::PatchKind;
use serde_json::json;

use crate::controllers::machinery::meta::{is_deleting, name};
use crate::controllers::machinery::watches::own;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct NodeIpamController {
    cluster: Option<Ipv4Net>,
    bits: u8,
    /// Given, but perhaps not in the cache yet.
    given: Mutex<HashMap<String, Ipv4Net>>,
}

impl NodeIpamController {
    /// Hands out parts of `cluster` with a prefix of `bits`. A range that is none hands out nothing.
    pub fn new(cluster: &str, bits: u8) -> Self {
        let cluster =
            cluster.parse::<Ipv4Net>().map(|net| net.trunc()).ok().filter(|net| net.prefix_len() <= bits);
        NodeIpamController { cluster, bits, given: Mutex::default() }
    }
}

/// The first part of `cluster` that overlaps none of `used`; `None` when it is exhausted. Pure.
pub fn free_part(cluster: Ipv4Net, bits: u8, used: &[Ipv4Net]) -> Option<Ipv4Net> {
    let step = 1u64 << (32 - u32::from(bits));
    let mut at = u64::from(u32::from(cluster.network()));
    let end = u64::from(u32::from(cluster.broadcast()));
    let mut ranges: Vec<(u64, u64)> = used
        .iter()
        .map(|net| (u64::from(u32::from(net.network())), u64::from(u32::from(net.broadcast()))))
        .collect();
    ranges.sort_unstable();
    for (from, to) in ranges {
        if to < at {
            continue;
        }
        if from >= at + step {
            break;
        }
        // Beyond the end of what is taken, at the next boundary.
        at = (to / step + 1) * step;
    }
    if at + step - 1 > end {
        return None;
    }
    Ipv4Net::new(Ipv4Addr::from(u32::try_from(at).ok()?), bits).ok()
}

fn cidr(node: &Node) -> Option<Ipv4Net> {
    node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()
}

impl Reconciler for NodeIpamController {
    const NAME: &'static str = "node_ipam_controller";
    const ACCOUNT: &'static str = "node-controller";
    const COMPONENT: &'static str = "cidrAllocator";
    const RESOURCE: &'static str = "nodes";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![own::<Node>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(cluster) = self.cluster else { return Ok(Outcome::DONE) };
        let Some(node) = cx.cache.get::<Node>("", &key.name) else {
            self.given.lock().remove(&*key.name);
            return Ok(Outcome::DONE);
        };
        let has = node.spec.as_ref().is_some_and(|s| s.pod_cidr.as_ref().is_some_and(|c| !c.is_empty()));
        if has || is_deleting(&node.metadata) {
            self.given.lock().remove(&*key.name);
            return Ok(Outcome::DONE);
        }
        let part = {
            let mut given = self.given.lock();
            match given.get(&*key.name).copied() {
                Some(part) => Some(part),
                None => {
                    let nodes = cx.cache.list::<Node>("");
                    let mut used: Vec<Ipv4Net> = nodes.iter().filter_map(|n| cidr(n)).collect();
                    used.extend(given.values());
                    let part = free_part(cluster, self.bits, &used);
                    part.inspect(|part| {
                        given.insert(key.name.to_string(), *part);
                    })
                }
            }
        };
        let Some(part) = part else {
            let text = format!("Node {} status is now: CIDRNotAvailable", key.name);
            cx.events.normal(&*node, "CIDRNotAvailable", text);
            return Err(ReconcileError::Other(format!("no pod addresses are left in {cluster}")));
        };
        let patch = json!({"spec": {"podCIDR": part.to_string(), "podCIDRs": [part.to_string()]}});
        cx.client.patch::<Node>("", name(&node.metadata), None, PatchKind::Strategic, &patch).await?;
        Ok(Outcome::DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_handed_out_without_overlap() {
        let net = |s: &str| s.parse::<Ipv4Net>().unwrap();
        let check = |used: &[&str], expected: Option<&str>| {
            let used: Vec<_> = used.iter().map(|s| net(s)).collect();
            assert_eq!(free_part(net("10.244.0.0/22"), 24, &used), expected.map(net), "{used:?}");
        };
        check(&[], Some("10.244.0.0/24"));
        check(&["10.244.0.0/24"], Some("10.244.1.0/24"));
        check(&["10.244.1.0/24"], Some("10.244.0.0/24"));
        check(&["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check(&["10.244.0.128/26", "10.244.1.0/25"], Some("10.244.2.0/24"));
        check(&["10.244.0.0/23", "10.244.2.0/23"], None);
        check(&["192.168.0.0/16"], Some("10.244.0.0/24"));
    }
}
