//! Keeps the kernel so that other nodes' pods are reached: the overlay's interface, and the tables.

use std::net::IpAddr;

use protocol::DualRange;

use super::host;
use super::mode::PodNetworkMode;
use super::netlink::{Link, Netlink, NetlinkFailure, Vxlan};
use super::peers::Ranges;
use super::plan::{self, Tables};
use super::pods::BRIDGE;

/// The overlay's interface.
pub const OVERLAY: &str = "troupe-vxlan";
/// The overlay's number ("trp" in ASCII): other overlays on the same port go on undisturbed.
pub const OVERLAY_VNI: u32 = 0x74_72_70;
/// The overlay's UDP port; Linux' own default, which the firewalls of clusters are used to.
pub const OVERLAY_PORT: u16 = 8472;

/// Why other nodes' pods are not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The kernel lacks the driver.
    #[error(
        "this kernel has no VXLAN ({0}): load its module \"vxlan\", or start every node and master of the \
         cluster with --pod-network routes, if the nodes share a network segment"
    )]
    NoVxlan(NetlinkFailure),
    /// No interface has the node's address.
    #[error(
        "no interface of this machine has the node's address {0}: start the node with the right --address"
    )]
    NoInterface(IpAddr),
    /// An address of this machine alone.
    #[error("the node's address {0} is seen by no other machine: start the node with another --address")]
    Unseen(IpAddr),
    /// Not IPv4.
    #[error("pods' packets go from node to node over IPv4, and the node's address is {0}")]
    NotIpv4(IpAddr),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] NetlinkFailure),
    /// The node could not be prepared.
    #[error("the overlay's interface: {0}")]
    Host(String),
    /// The kernel refused ways to some nodes.
    #[error("some nodes' pods are not reached; do nodes share a network segment? {}", .0.join("; "))]
    Some(Vec<String>),
}

impl ReachError {
    /// Why the overlay's interface was not made.
    fn of_overlay(failure: NetlinkFailure) -> ReachError {
        if failure.is_unsupported() { ReachError::NoVxlan(failure) } else { failure.into() }
    }
}

/// A node as seen from the network: how it reaches others.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// How.
    pub mode: PodNetworkMode,
    /// The node's address.
    pub address: IpAddr,
    /// The node's pods.
    pub range: DualRange,
    /// The cluster's Services.
    pub services: DualRange,
}

/// What a look at the kernel came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries that were added, changed or removed.
    pub changed: usize,
    /// Entries that the kernel refused, and why.
    pub refused: Vec<String>,
}

/// The interface by which the node reaches others: that of its address.
async fn own_link(netlink: &Netlink, address: IpAddr) -> Result<Link, ReachError> {
    if address.is_loopback() || address.is_unspecified() {
        return Err(ReachError::Unseen(address));
    }
    netlink.link_with(address).await?.ok_or(ReachError::NoInterface(address))
}

/// The MTU of the network that the node is on: that of the interface of its address, or of its default route.
pub async fn host_mtu(netlink: &Netlink, address: IpAddr) -> Result<Option<u32>, NetlinkFailure> {
    let link = match netlink.link_with(address).await? {
        // Over loopback nobody else is reached.
        Some(link) if !address.is_loopback() => Some(link),
        _ => netlink.default_link().await?,
    };
    Ok(link.map(|l| l.mtu).filter(|mtu| *mtu > 0))
}

/// Brings the kernel to where the pods of `ranges` are reached, and no others. What it holds already stays
/// untouched.
pub async fn reconcile(place: Place, ranges: &Ranges) -> Result<Outcome, ReachError> {
    let netlink = Netlink::connect()?;
    let (mut wanted, way) = match place.mode {
        // Nobody to reach: a lone node asks nothing of the kernel, but keeps nothing stale either.
        _ if ranges.is_empty() && place.mode == PodNetworkMode::Routes => (Tables::default(), None),
        PodNetworkMode::Routes => {
            let link = own_link(&netlink, place.address).await?;
            (plan::by_routes(ranges, link.index), Some(link.index))
        }
        PodNetworkMode::Vxlan => match ensure_overlay(&netlink, place).await {
            Ok(index) => (plan::through_overlay(ranges, index), Some(index)),
            Err(why) if ranges.is_empty() => {
                tracing::debug!(%why, "no overlay; it is not needed while there is no other node");
                (Tables::default(), None)
            }
            Err(why) => return Err(why),
        },
    };
    if place.range.v6.is_some()
        && let Some(services) = place.services.v6
        && let Some(device) = match way {
            // Where nobody else is reached there still is the pods' bridge. It is no better where there is another way:
            // what a pod sends goes back to where it came from, which the kernel tells it first, and only a second
            // later that it is refused.
            None => netlink.link(BRIDGE).await?.map(|bridge| bridge.index),
            way => way,
        }
    {
        plan::lead_to_services(&mut wanted, services, device);
    }
    let overlay = way.filter(|_| place.mode == PodNetworkMode::Vxlan);
    let mut outcome = Outcome::default();
    if place.mode == PodNetworkMode::Routes {
        let no_address = |(range, node)| {
            format!(
                "route to {range}: its node, {node}, has no address of IPv6; start it with --address {node},<IPv6>, \
                 or all nodes with --pod-network vxlan"
            )
        };
        outcome.refused.extend(plan::unreached(ranges).map(no_address));
    }
    for change in plan::changes(&netlink.tables(overlay).await?, &wanted) {
        match netlink.apply(change, overlay).await {
            Ok(()) => outcome.changed += 1,
            Err(why) => outcome.refused.push(why.to_string()),
        }
    }
    if place.mode == PodNetworkMode::Routes {
        // Left by a node that was started in the other mode; its routes are replaced by now.
        netlink.remove_link(OVERLAY).await?;
    }
    Ok(outcome)
}

/// Makes the overlay's interface, or finds that it is as it should be. Answers its index.
async fn ensure_overlay(netlink: &Netlink, place: Place) -> Result<u32, ReachError> {
    let IpAddr::V4(local) = place.address else { return Err(ReachError::NotIpv4(place.address)) };
    let below = own_link(netlink, place.address).await?;
    let vxlan = Vxlan { vni: OVERLAY_VNI, port: OVERLAY_PORT, local };
    let mac = plan::overlay_mac(place.range.v4);
    let mtu = place.mode.pod_mtu(below.mtu);
    let mut found = netlink.link(OVERLAY).await?;
    if found.as_ref().is_some_and(|l| l.vxlan != Some(vxlan) || l.mac != Some(mac)) {
        tracing::info!("the overlay's interface is of another address or range; it is made anew");
        netlink.remove_link(OVERLAY).await?;
        found = None;
    }
    let link = match found {
        Some(link) => link,
        None => {
            netlink.add_vxlan(OVERLAY, vxlan, mac, mtu, below.index).await.map_err(ReachError::of_overlay)?;
            netlink.link(OVERLAY).await?.ok_or(NetlinkFailure::Refused {
                what: format!("interface \"{OVERLAY}\""),
                why: "it went as soon as it was made".to_owned(),
                code: 0,
            })?
        }
    };
    if link.mtu != mtu {
        netlink.set_mtu(link.index, mtu).await?;
    }
    netlink.up(link.index).await?;
    if place.range.v6.is_some() {
        host::use_ipv6(OVERLAY).await.map_err(ReachError::Host)?;
    }
    // The node's own packets to other nodes' pods leave from here, so that answers come back the same way.
    let v4 = plan::overlay_address(place.range.v4).into();
    let v6 = place.range.v6.map(|range| plan::overlay_address6(range).into());
    for address in [Some(v4), v6].into_iter().flatten() {
        netlink.ensure_address(link.index, address, None).await?;
    }
    Ok(link.index)
}

/// Removes the overlay and our routes. Safe to repeat.
pub async fn clean_up() -> Result<(), NetlinkFailure> {
    let netlink = Netlink::connect()?;
    netlink.remove_link(OVERLAY).await?;
    for change in plan::changes(&netlink.tables(None).await?, &Tables::default()) {
        netlink.apply(change, None).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_vxlan_is_told_from_one_that_refuses() {
        let refused = |errno: nix::errno::Errno| {
            ReachError::of_overlay(NetlinkFailure::Refused {
                what: "adding".to_owned(),
                why: errno.desc().to_owned(),
                code: errno as i32,
            })
            .to_string()
        };
        let text = refused(nix::errno::Errno::EOPNOTSUPP);
        assert!(text.contains("no VXLAN") && text.contains("--pod-network routes"), "{text}");
        assert!(!refused(nix::errno::Errno::EPERM).contains("VXLAN"));
    }
}
