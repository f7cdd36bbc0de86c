//! Interfaces, addresses and tables of this network namespace's kernel, by netlink.
//!
//! Routes of ours carry a protocol number, by which they are told from everybody else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::{Stream, TryStreamExt};
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{RouteHeader, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVxlan, RouteMessageBuilder};

use super::plan::{Change, Mac, Tables};
use messages::{device_of, link_of, neighbour_of, route, route_of};

mod messages;

pub use messages::{Link, Vxlan};

/// The protocol number of our routes, unused by others (`ip route` shows it as `proto 116`).
pub const ROUTE_PROTOCOL: u8 = 116;

/// Why the kernel does not have what it should.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkFailure {
    /// No netlink socket.
    #[error("netlink is not available: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refused.
    #[error("{what}: {why}")]
    Refused {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        why: String,
        /// Its error number, 0 where it gave none.
        code: i32,
    },
}

impl NetlinkFailure {
    /// Whether the kernel lacks the kind of thing that was asked for.
    pub fn is_unsupported(&self) -> bool {
        self.is(Errno::EOPNOTSUPP)
    }

    /// Whether the kernel forbids what was asked for. An address of IPv6 it forbids where IPv6 is switched off.
    pub fn is_forbidden(&self) -> bool {
        self.is(Errno::EACCES)
    }

    /// Whether the kernel gave this error number.
    fn is(&self, errno: Errno) -> bool {
        matches!(self, NetlinkFailure::Refused { code, .. } if *code == errno as i32)
    }
}

fn refused(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkFailure {
    let what = what.into();
    move |error| match error {
        rtnetlink::Error::NetlinkError(e) => {
            NetlinkFailure::Refused { what, why: e.to_io().to_string(), code: -e.raw_code() }
        }
        other => NetlinkFailure::Refused { what, why: other.to_string(), code: 0 },
    }
}

/// A failure with one of these numbers is none: what is to go is gone.
fn unless_gone(result: Result<(), NetlinkFailure>) -> Result<(), NetlinkFailure> {
    const GONE: [Errno; 4] = [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV, Errno::EADDRNOTAVAIL];
    match result {
        Err(NetlinkFailure::Refused { code, .. }) if GONE.iter().any(|e| *e as i32 == code) => Ok(()),
        other => other,
    }
}

/// Reads a dump to its end: one left half way would disturb the next one.
async fn collect<T>(
    dump: impl Stream<Item = Result<T, rtnetlink::Error>>,
    what: &str,
) -> Result<Vec<T>, NetlinkFailure> {
    dump.try_collect().await.map_err(refused(what))
}

/// A connection to the kernel; it ends when dropped.
pub struct Netlink {
    handle: Handle,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Netlink {
    /// Connects to the kernel of the calling thread's network namespace.
    pub fn connect() -> Result<Netlink, NetlinkFailure> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Netlink { handle, driver: tokio::spawn(connection) })
    }

    /// The interface of this name.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkFailure> {
        let found = self.handle.link().get().match_name(name).execute();
        match collect(found, &format!("looking for interface \"{name}\"")).await {
            Ok(found) => Ok(found.first().map(link_of)),
            Err(NetlinkFailure::Refused { code, .. }) if code == Errno::ENODEV as i32 => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The interface of this index.
    async fn link_at(&self, index: u32) -> Result<Option<Link>, NetlinkFailure> {
        let found = self.handle.link().get().match_index(index).execute();
        Ok(collect(found, &format!("looking for interface {index}")).await?.first().map(link_of))
    }

    /// The interface that has this address.
    pub async fn link_with(&self, address: IpAddr) -> Result<Option<Link>, NetlinkFailure> {
        let has = |attributes: &[AddressAttribute]| {
            attributes.iter().any(
                |a| matches!(a, AddressAttribute::Local(x) | AddressAttribute::Address(x) if *x == address),
            )
        };
        let found = self.addresses().await?.into_iter().find(|m| has(&m.attributes));
        match found {
            Some(message) => self.link_at(message.header.index).await,
            None => Ok(None),
        }
    }

    /// The interface of the default route.
    pub async fn default_link(&self) -> Result<Option<Link>, NetlinkFailure> {
        let routes = self.routes_of_ipv4().await?;
        let device = routes
            .iter()
            .filter(|r| {
                r.header.destination_prefix_length == 0 && r.header.table == RouteHeader::RT_TABLE_MAIN
            })
            .find_map(device_of);
        match device {
            Some(index) => self.link_at(index).await,
            None => Ok(None),
        }
    }

    /// Removes an interface. Fine when it is not there.
    pub async fn remove_link(&self, name: &str) -> Result<(), NetlinkFailure> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let removed = self.handle.link().del(link.index).execute().await;
        unless_gone(removed.map_err(refused(format!("removing interface \"{name}\""))))
    }

    /// Sets an interface's MTU.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkFailure> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.handle.link().set(message).execute().await.map_err(refused(format!("setting MTU {mtu}")))
    }

    /// Adds a VXLAN interface, which is up and learns nothing from what it hears.
    pub async fn add_vxlan(
        &self,
        name: &str,
        vxlan: Vxlan,
        mac: Mac,
        mtu: u32,
        below: u32,
    ) -> Result<(), NetlinkFailure> {
        let message = LinkVxlan::new(name, vxlan.vni)
            .port(vxlan.port)
            .local(vxlan.local)
            .dev(below)
            .learning(false)
            .address(mac.to_vec())
            .mtu(mtu)
            .up()
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(refused(format!("adding VXLAN interface \"{name}\"")))
    }

    /// Adds a bridge, which is up. Fine when it is there.
    pub async fn ensure_bridge(&self, name: &str, mtu: u32) -> Result<(), NetlinkFailure> {
        if self.link(name).await?.is_some() {
            return Ok(());
        }
        let added = self.handle.link().add(LinkBridge::new(name).mtu(mtu).build()).execute().await;
        match added.map_err(refused(format!("adding bridge \"{name}\""))) {
            Err(e) if e.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Brings an interface up.
    pub async fn up(&self, index: u32) -> Result<(), NetlinkFailure> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await.map_err(refused("bringing an interface up"))
    }

    /// All addresses of all interfaces.
    pub async fn addresses(&self) -> Result<Vec<AddressMessage>, NetlinkFailure> {
        collect(self.handle.address().get().execute(), "listing addresses").await
    }

    /// Gives an interface an address of its own, without a network behind it. Fine when it has it. Labels are for
    /// IPv4 only; of IPv6 nobody else is asked first whether they have it, so that it can be used at once.
    pub async fn ensure_address(
        &self,
        index: u32,
        address: IpAddr,
        label: Option<&str>,
    ) -> Result<(), NetlinkFailure> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(index, address, length);
        if let Some(label) = label.filter(|_| address.is_ipv4()) {
            request.message_mut().attributes.push(AddressAttribute::Label(label.to_owned()));
        }
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match request.execute().await.map_err(refused(format!("adding address {address}"))) {
            Err(e) if e.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Gives an interface an address of IPv6 that it answers for and never speaks under by itself, with a route of this
    /// metric. Fine when it has it.
    pub async fn add_guest(&self, index: u32, address: Ipv6Addr, metric: u32) -> Result<(), NetlinkFailure> {
        let mut request = self.handle.address().add(index, address.into(), 128);
        let message = request.message_mut();
        // Nobody is asked whether they have it: who had it may still think so.
        message.header.flags |= AddressHeaderFlags::Nodad;
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        message.attributes.push(AddressAttribute::RoutePriority(metric));
        match request.execute().await.map_err(refused(format!("adding address {address}"))) {
            Err(e) if e.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes an address, as [`Netlink::addresses`] tells it. Fine when it is not there.
    pub async fn remove_address(&self, message: AddressMessage) -> Result<(), NetlinkFailure> {
        let removed = self.handle.address().del(message).execute().await;
        unless_gone(removed.map_err(refused("removing an address")))
    }

    async fn routes_of_ipv4(&self) -> Result<Vec<RouteMessage>, NetlinkFailure> {
        let dump = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        collect(dump, "listing routes").await
    }

    /// None on a kernel without IPv6.
    async fn routes_of_ipv6(&self) -> Result<Vec<RouteMessage>, NetlinkFailure> {
        let dump = self.handle.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build()).execute();
        match collect(dump, "listing routes of IPv6").await {
            Err(e) if e.is_unsupported() || e.is(Errno::EAFNOSUPPORT) => Ok(Vec::new()),
            other => other,
        }
    }

    /// What the kernel holds of ours: all our routes, and the entries of the overlay's interface.
    pub async fn tables(&self, overlay: Option<u32>) -> Result<Tables, NetlinkFailure> {
        let mut tables = Tables::default();
        let ours = RouteProtocol::from(ROUTE_PROTOCOL);
        let routes = self.routes_of_ipv4().await?.into_iter().chain(self.routes_of_ipv6().await?);
        for message in routes.filter(|r| r.header.protocol == ours) {
            if let Some((range, hop)) = route_of(&message) {
                tables.routes.insert(range, hop);
            }
        }
        let Some(overlay) = overlay else { return Ok(tables) };
        for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
            let dump = self.handle.neighbours().get().set_address_family(family).execute();
            for message in collect(dump, "listing neighbours").await? {
                let permanent = message.header.state == NeighbourState::Permanent;
                if message.header.ifindex != overlay || !permanent {
                    continue;
                }
                let Some((address, mac)) = neighbour_of(&message) else { continue };
                match (family, address) {
                    (AddressFamily::Bridge, IpAddr::V4(node)) => drop(tables.forwarding.insert(mac, node)),
                    (AddressFamily::Bridge, IpAddr::V6(_)) => {}
                    _ => drop(tables.neighbours.insert(address, mac)),
                }
            }
        }
        Ok(tables)
    }

    /// Makes one change; `overlay` is the index of the overlay's interface.
    pub async fn apply(&self, change: Change, overlay: Option<u32>) -> Result<(), NetlinkFailure> {
        let overlay = overlay.unwrap_or_default();
        let neighbours = self.handle.neighbours();
        match change {
            Change::SetRoute(range, hop) => {
                let added = self.handle.route().add(route(range, hop, overlay)).replace().execute().await;
                let through = hop.gateway.map_or_else(String::new, |gateway| format!(" through {gateway}"));
                added.map_err(refused(format!("route to {range}{through}")))
            }
            Change::RemoveRoute(range, hop) => {
                let removed = self.handle.route().del(route(range, hop, overlay)).execute().await;
                unless_gone(removed.map_err(refused(format!("removing the route to {range}"))))
            }
            Change::SetNeighbour(end, mac) => {
                let request = neighbours.add(overlay, end).link_layer_address(&mac).replace();
                request.execute().await.map_err(refused(format!("neighbour {end}")))
            }
            Change::RemoveNeighbour(end) => {
                let request = neighbours.add(overlay, end);
                unless_gone(self.remove(request, &format!("removing neighbour {end}")).await)
            }
            Change::SetForwarding(mac, node) => {
                let request = neighbours.add_bridge(overlay, &mac).destination(node.into());
                let request = request.flags(NeighbourFlags::Own).replace();
                request.execute().await.map_err(refused(format!("forwarding to node {node}")))
            }
            Change::RemoveForwarding(mac, node) => {
                let request = neighbours.add_bridge(overlay, &mac).destination(node.into());
                let request = request.flags(NeighbourFlags::Own);
                unless_gone(self.remove(request, &format!("removing the forwarding to node {node}")).await)
            }
        }
    }

    async fn remove(
        &self,
        mut described: rtnetlink::NeighbourAddRequest,
        what: &str,
    ) -> Result<(), NetlinkFailure> {
        let message = described.message_mut().clone();
        self.handle.neighbours().del(message).execute().await.map_err(refused(what))
    }
}
