//! Node IPAM: each node gets a part of the cluster's pod addresses, for good; of each family one, where there are two.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use protocol::{DualRange, PatchKind};
use serde_json::json;

use crate::controllers::machinery::meta::{is_deleting, name};
use crate::controllers::machinery::watches::own;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// Prefix length of a node's part, for each family: 254 and practically any number of pods.
const PART_BITS: (u8, u8) = (24, 64);

/// The controller.
pub struct NodeIpamController {
    cluster: DualRange,
    /// Given, but perhaps not in the cache yet.
    given: Mutex<HashMap<String, DualRange>>,
}

impl NodeIpamController {
    /// Hands out parts of `cluster`. A range that is smaller than a part is one part.
    pub fn new(cluster: DualRange) -> Self {
        NodeIpamController { cluster, given: Mutex::default() }
    }

    /// A part of each range that overlaps none of `used`; `None` when one is exhausted.
    fn free_part(&self, used: &[DualRange]) -> Option<DualRange> {
        let v4: Vec<IpNet> = used.iter().map(|part| IpNet::V4(part.v4)).collect();
        let IpNet::V4(v4) = free_part(IpNet::V4(self.cluster.v4), PART_BITS.0, &v4)? else { return None };
        let v6 = match self.cluster.v6 {
            Some(cluster) => {
                let used: Vec<IpNet> = used.iter().filter_map(|part| Some(IpNet::V6(part.v6?))).collect();
                let IpNet::V6(part) = free_part(IpNet::V6(cluster), PART_BITS.1, &used)? else { return None };
                Some(part)
            }
            None => None,
        };
        Some(DualRange { v4, v6 })
    }
}

/// First and last address, as numbers.
fn ends(net: IpNet) -> (u128, u128) {
    let number = |address| match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    };
    (number(net.network()), number(net.broadcast()))
}

/// The first part of `cluster`, with a prefix of `bits`, that overlaps none of `used`; `None` when it is exhausted. A
/// smaller `cluster` is one part. Pure.
pub fn free_part(cluster: IpNet, bits: u8, used: &[IpNet]) -> Option<IpNet> {
    let bits = bits.max(cluster.prefix_len());
    let rest = u32::from(cluster.max_prefix_len().checked_sub(bits)?);
    // The whole of IPv6 is no cluster's.
    let step = 1u128.checked_shl(rest)?;
    let (mut at, end) = ends(cluster);
    let mut ranges: Vec<(u128, u128)> = used.iter().map(|net| ends(*net)).collect();
    ranges.sort_unstable();
    for (from, to) in ranges {
        if to < at {
            continue;
        }
        if from > at + (step - 1) {
            break;
        }
        // Beyond the end of what is taken, at the next boundary.
        at = (to / step).checked_add(1)?.checked_mul(step)?;
    }
    if at.checked_add(step - 1)? > end {
        return None;
    }
    match cluster {
        IpNet::V4(_) => Ipv4Net::new(Ipv4Addr::from(u32::try_from(at).ok()?), bits).map(IpNet::V4).ok(),
        IpNet::V6(_) => Ipv6Net::new(Ipv6Addr::from(at), bits).map(IpNet::V6).ok(),
    }
}

fn parts(node: &Node) -> Option<DualRange> {
    let spec = node.spec.as_ref()?;
    let ranges = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    DualRange::among(ranges.map(String::as_str))
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
        let Some(node) = cx.cache.get::<Node>("", &key.name) else {
            self.given.lock().remove(&*key.name);
            return Ok(Outcome::DONE);
        };
        // A node keeps what it has, of one family or two: the API lets nobody change it.
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
                    let mut used: Vec<DualRange> = nodes.iter().filter_map(|n| parts(n)).collect();
                    used.extend(given.values());
                    let part = self.free_part(&used);
                    part.inspect(|part| {
                        given.insert(key.name.to_string(), *part);
                    })
                }
            }
        };
        let Some(part) = part else {
            let text = format!("Node {} status is now: CIDRNotAvailable", key.name);
            cx.events.normal(&*node, "CIDRNotAvailable", text);
            return Err(ReconcileError::Other(format!("no pod addresses are left in {}", self.cluster)));
        };
        let ranges: Vec<String> = part.iter().map(|range| range.to_string()).collect();
        let patch = json!({"spec": {"podCIDR": part.v4.to_string(), "podCIDRs": ranges}});
        cx.client.patch::<Node>("", name(&node.metadata), None, PatchKind::Strategic, &patch).await?;
        Ok(Outcome::DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &str, bits: u8, used: &[&str], expected: Option<&str>) {
        let net = |s: &str| s.parse::<IpNet>().unwrap();
        let taken: Vec<_> = used.iter().map(|s| net(s)).collect();
        assert_eq!(free_part(net(cluster), bits, &taken), expected.map(net), "{cluster} {used:?}");
    }

    #[test]
    fn parts_are_handed_out_without_overlap() {
        let check = |used: &[&str], expected| check("10.244.0.0/22", 24, used, expected);
        check(&[], Some("10.244.0.0/24"));
        check(&["10.244.0.0/24"], Some("10.244.1.0/24"));
        check(&["10.244.1.0/24"], Some("10.244.0.0/24"));
        check(&["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check(&["10.244.0.128/26", "10.244.1.0/25"], Some("10.244.2.0/24"));
        check(&["10.244.0.0/23", "10.244.2.0/23"], None);
        check(&["192.168.0.0/16"], Some("10.244.0.0/24"));
    }

    #[test]
    fn parts_of_ipv6_too_and_small_ranges_are_one_part() {
        check("fd00:10::/48", 64, &[], Some("fd00:10::/64"));
        check("fd00:10::/48", 64, &["fd00:10::/64", "fd00:10:0:1::/64"], Some("fd00:10:0:2::/64"));
        check("fd00:10::/63", 64, &["fd00:10::/64", "fd00:10:0:1::/64"], None);
        check("fd00:10::/112", 64, &[], Some("fd00:10::/112"));
        check("fd00:10::/112", 64, &["fd00:10::/112"], None);
        check("10.244.0.0/26", 24, &[], Some("10.244.0.0/26"));
        check("255.255.255.0/24", 24, &["255.255.255.0/24"], None);
        check("ffff:ffff:ffff:ffff::/64", 64, &["ffff:ffff:ffff:ffff::/64"], None);
    }

    #[test]
    fn a_node_gets_a_part_of_both() {
        let ipam = NodeIpamController::new("10.244.0.0/16,fd00:10::/48".parse().unwrap());
        let first = ipam.free_part(&[]).unwrap();
        assert_eq!(first.to_string(), "10.244.0.0/24,fd00:10::/64");
        assert_eq!(ipam.free_part(&[first]).unwrap().to_string(), "10.244.1.0/24,fd00:10:0:1::/64");
        // A node of former times has one family.
        let old = "10.244.0.0/24".parse().unwrap();
        assert_eq!(ipam.free_part(&[old]).unwrap().to_string(), "10.244.1.0/24,fd00:10::/64");
    }
}
