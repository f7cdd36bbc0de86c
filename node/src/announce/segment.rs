//! The segments that an address is announced on, and announcing it there, so that nobody keeps sending to whoever had it.

use std::net::IpAddr;

use pnet_datalink::{Channel, Config, MacAddr, NetworkInterface};

use super::{arp, ndp};

/// Why an address was not announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The kernel refused.
    #[error("announcing {address} on \"{interface}\": {source}; does the node have CAP_NET_RAW?")]
    Refused {
        /// Which address.
        address: IpAddr,
        /// Where.
        interface: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// There is nobody to tell.
    #[error("announcing {0}: no interface is up that has this address' network, or the node's own address")]
    Nowhere(IpAddr),
}

/// The interfaces to announce an address on: those whose network it is in; where there is none, those that the
/// node's own address is on (a router there may be told to send it to us).
fn among(all: &[NetworkInterface], address: IpAddr, node: IpAddr) -> Vec<&NetworkInterface> {
    let up = || all.iter().filter(|i| i.is_up() && !i.is_loopback() && i.mac.is_some());
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let near = |i: &&NetworkInterface| {
        let same_family = |ip: IpAddr| ip.is_ipv4() == address.is_ipv4();
        i.ips.iter().any(|net| same_family(net.ip()) && net.prefix() < whole && net.contains(address))
    };
    let found: Vec<_> = up().filter(near).collect();
    if !found.is_empty() {
        return found;
    }
    up().filter(|i| i.ips.iter().any(|net| net.ip() == node)).collect()
}

/// The interfaces of this machine to announce an address on. Blocks for as long as the kernel takes.
pub fn interfaces(address: IpAddr, node: IpAddr) -> Result<Vec<NetworkInterface>, AnnounceError> {
    let all = pnet_datalink::interfaces();
    let found: Vec<NetworkInterface> = among(&all, address, node).into_iter().cloned().collect();
    if found.is_empty() { Err(AnnounceError::Nowhere(address)) } else { Ok(found) }
}

fn frames(address: IpAddr, mac: MacAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => arp::frames(address, mac).map(|frame| frame.to_vec()).into(),
        IpAddr::V6(address) => vec![ndp::frame(address, mac).to_vec()],
    }
}

/// Announces an address once. Blocks for as long as the kernel takes; not for an arbiter.
pub fn announce(address: IpAddr, node: IpAddr) -> Result<(), AnnounceError> {
    for interface in interfaces(address, node)? {
        let refused = |source| AnnounceError::Refused { address, interface: interface.name.clone(), source };
        let Some(mac) = interface.mac else { continue };
        let channel = pnet_datalink::channel(&interface, Config::default()).map_err(refused)?;
        let Channel::Ethernet(mut out, _) = channel else { continue };
        for frame in frames(address, mac) {
            if let Some(Err(error)) = out.send_to(&frame, None) {
                return Err(refused(error));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IFF_UP: u32 = 1;
    const IFF_LOOPBACK: u32 = 8;

    fn interface(name: &str, flags: u32, mac: bool, nets: &[&str]) -> NetworkInterface {
        NetworkInterface {
            name: name.to_owned(),
            description: String::new(),
            index: 1,
            mac: mac.then(|| MacAddr::new(2, 0, 0, 0, 0, 1)),
            ips: nets.iter().map(|n| n.parse().expect("a network")).collect(),
            flags,
        }
    }

    #[test]
    fn announcements_go_where_the_address_belongs() {
        let all = [
            interface("lo", IFF_UP | IFF_LOOPBACK, true, &["127.0.0.1/8", "192.0.2.9/32", "::1/128"]),
            interface("eth0", IFF_UP, true, &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"]),
            interface("eth1", IFF_UP, true, &["198.51.100.1/24", "fe80::2/64"]),
            interface("down", 0, true, &["192.0.2.2/24", "2001:db8::2/64"]),
            interface("tun", IFF_UP, false, &["192.0.2.3/24", "2001:db8::3/64"]),
            interface("taken", IFF_UP, true, &["192.0.2.9/32", "2001:db8::9/128"]),
        ];
        let names = |address: &str, node: &str| -> Vec<String> {
            let found = among(&all, address.parse().expect("an address"), node.parse().expect("an address"));
            found.iter().map(|i| i.name.clone()).collect()
        };
        assert_eq!(names("192.0.2.9", "198.51.100.1"), ["eth0"]);
        assert_eq!(names("203.0.113.1", "198.51.100.1"), ["eth1"]);
        assert!(names("203.0.113.1", "203.0.113.2").is_empty());
        assert_eq!(names("2001:db8::9", "198.51.100.1"), ["eth0"]);
        // A node that has no address of IPv6 is where its own address is.
        assert_eq!(names("2001:db8:1::9", "198.51.100.1"), ["eth1"]);
        assert_eq!(names("::ffff:192.0.2.9", "198.51.100.1"), ["eth1"], "the families are told apart");
    }

    #[test]
    fn each_family_has_its_own_way_of_telling() {
        let mac = MacAddr::new(2, 0, 0, 0, 0, 1);
        let kinds = |address: &str| -> Vec<(u8, u8)> {
            let frames = frames(address.parse().expect("an address"), mac);
            frames.iter().map(|frame| (frame[12], frame[13])).collect()
        };
        assert_eq!(kinds("192.0.2.9"), [(8, 6), (8, 6)]);
        assert_eq!(kinds("2001:db8::9"), [(0x86, 0xdd)]);
    }
}
