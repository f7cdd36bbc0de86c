//! What happens to interfaces, addresses and our routes in this network namespace's kernel, as it happens.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::RouteProtocol;

use super::netlink::{NetlinkFailure, ROUTE_PROTOCOL};

/// Something that happened in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// One of our routes went.
    RouteGone,
    /// An interface came or changed; pods' ends of a bridge are not told of.
    Link {
        /// Its index.
        index: u32,
        /// Whether it carries packets.
        up: bool,
    },
    /// An interface went.
    LinkGone(u32),
    /// An interface got an address, or lost it.
    Address(IpAddr),
}

/// Pause before trying again to listen.
const RETRY: Duration = Duration::from_millis(500);

/// Tells what happens in the kernel, for as long as somebody hears it: `tell` says whether.
pub async fn hear<F: Future<Output = bool>>(tell: impl Fn(Happened) -> F) {
    loop {
        match Happenings::listen() {
            Ok(mut happenings) => {
                while let Some(happened) = happenings.next().await {
                    if !tell(happened).await {
                        return;
                    }
                }
            }
            Err(why) => tracing::warn!(%why, "what happens in the kernel is not heard"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What happens in the kernel from now on. What comes faster than it is read is lost without a word.
pub struct Happenings {
    driver: tokio::task::JoinHandle<()>,
    messages: futures::stream::BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
}

impl Drop for Happenings {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Happenings {
    /// Of the calling thread's network namespace.
    pub fn listen() -> Result<Happenings, NetlinkFailure> {
        const GROUPS: [MulticastGroup; 5] = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        let messages = messages.map(|(message, _)| message.payload).boxed();
        Ok(Happenings { driver: tokio::spawn(connection), messages })
    }

    /// The next thing; `None` when there is no connection any more.
    pub async fn next(&mut self) -> Option<Happened> {
        loop {
            if let NetlinkPayload::InnerMessage(message) = self.messages.next().await?
                && let Some(happened) = happened(&message)
            {
                return Some(happened);
            }
        }
    }
}

/// What the names of pods' ends begin with, as the CNI plugins and engines call them.
const POD_ENDS: &str = "veth";

fn happened(message: &RouteNetlinkMessage) -> Option<Happened> {
    let of_pod = |link: &LinkMessage| {
        link.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(name) if name.starts_with(POD_ENDS)))
    };
    match message {
        RouteNetlinkMessage::NewLink(link) if !of_pod(link) => Some(Happened::Link {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        }),
        RouteNetlinkMessage::DelLink(link) if !of_pod(link) => Some(Happened::LinkGone(link.header.index)),
        RouteNetlinkMessage::DelRoute(route)
            if route.header.protocol == RouteProtocol::from(ROUTE_PROTOCOL) =>
        {
            Some(Happened::RouteGone)
        }
        RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message) => {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(address) | AddressAttribute::Address(address) => {
                    Some(Happened::Address(*address))
                }
                _ => None,
            })
        }
        _ => None,
    }
}
