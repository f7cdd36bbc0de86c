//! What the kernel says of interfaces, routes and neighbours, and what it is asked: from netlink's messages, and into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};

use super::ROUTE_PROTOCOL;
use crate::network::plan::{Hop, Mac};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// How it is set up, where it is a VXLAN interface.
    pub vxlan: Option<Vxlan>,
}

/// How a VXLAN interface is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network's number.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// The address that packets leave from.
    pub local: Ipv4Addr,
}

pub(super) fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, mtu: 0, mac: None, vxlan: None };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Data(InfoData::Vxlan(data)) = info {
                        link.vxlan = Some(vxlan_of(data));
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn vxlan_of(data: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan { vni: 0, port: 0, local: Ipv4Addr::UNSPECIFIED };
    for info in data {
        match info {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(local) => vxlan.local = *local,
            _ => {}
        }
    }
    vxlan
}

/// A route as a request. Ends of the overlay lie in no connected network, so the kernel is told that they are
/// there; a machine beside us is checked by the kernel to be so.
pub(super) fn route(range: IpNet, hop: Hop, overlay: u32) -> RouteMessage {
    let (destination, length) = (RouteAddress::from(range.network()), range.prefix_len());
    let onlink = hop.gateway.is_some() && hop.device == overlay;
    let mut message = match range {
        IpNet::V4(_) => described(RouteMessageBuilder::<Ipv4Addr>::new(), hop, onlink),
        IpNet::V6(_) => described(RouteMessageBuilder::<Ipv6Addr>::new(), hop, onlink),
    };
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(destination));
    message
        .attributes
        .extend(hop.gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway))));
    message
}

fn described<T>(builder: RouteMessageBuilder<T>, hop: Hop, onlink: bool) -> RouteMessage {
    let builder = builder.output_interface(hop.device).protocol(RouteProtocol::from(ROUTE_PROTOCOL));
    if onlink { builder.onlink().build() } else { builder.build() }
}

pub(super) fn device_of(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

pub(super) fn route_of(message: &RouteMessage) -> Option<(IpNet, Hop)> {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let mut range = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => range = address(found),
            RouteAttribute::Gateway(found) => gateway = address(found),
            _ => {}
        }
    }
    let range = IpNet::new(range?, message.header.destination_prefix_length).ok()?;
    Some((range, Hop { gateway, device: device_of(message)? }))
}

pub(super) fn neighbour_of(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(*found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(*found));
            }
            // A forwarding entry's address comes as bytes: its family is the bridge's.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                address = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    Some((address?, mac?))
}
