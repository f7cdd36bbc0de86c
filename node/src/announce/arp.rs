//! Gratuitous ARP: tells a segment that an address is with us now, so that nobody keeps sending to whoever had it.

use std::net::{IpAddr, Ipv4Addr};

use pnet_datalink::{Channel, Config, MacAddr, NetworkInterface};

/// An Ethernet frame with an ARP packet for IPv4.
type Frame = [u8; 42];

/// Ask and answer: hosts differ in which of the two they learn from.
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Why an address was not announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The kernel refused.
    #[error("announcing {address} on \"{interface}\": {source}; does the node have CAP_NET_RAW?")]
    Refused {
        /// Which address.
        address: Ipv4Addr,
        /// Where.
        interface: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// There is nobody to tell.
    #[error("announcing {0}: no interface is up that has this address' network, or the node's own address")]
    Nowhere(Ipv4Addr),
}

fn frame(operation: u16, address: Ipv4Addr, mac: MacAddr) -> Frame {
    let mac = mac.octets();
    let everybody = [0xff; 6];
    let target = if operation == REQUEST { [0; 6] } else { everybody };
    let parts: [&[u8]; 11] = [
        &everybody,
        &mac,
        &[0x08, 0x06],             // ARP
        &[0, 1, 0x08, 0x00, 6, 4], // Ethernet and IPv4, and their addresses' lengths
        &operation.to_be_bytes(),
        &mac,
        &address.octets(),
        &target,
        &address.octets(),
        &[],
        &[],
    ];
    let mut frame = [0; 42];
    for (place, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    frame
}

/// The interfaces to announce an address on: those whose network it is in; where there is none, those that the
/// node's own address is on (a router there may be told to send it to us).
fn places(all: &[NetworkInterface], address: Ipv4Addr, node: IpAddr) -> Vec<&NetworkInterface> {
    let up = || all.iter().filter(|i| i.is_up() && !i.is_loopback() && i.mac.is_some());
    let near = |i: &&NetworkInterface| {
        i.ips.iter().any(|net| net.prefix() < 32 && net.ip().is_ipv4() && net.contains(address.into()))
    };
    let found: Vec<_> = up().filter(near).collect();
    if !found.is_empty() {
        return found;
    }
    up().filter(|i| i.ips.iter().any(|net| net.ip() == node)).collect()
}

/// Announces an address once. Blocks for as long as the kernel takes; not for an arbiter.
pub fn announce(address: Ipv4Addr, node: IpAddr) -> Result<(), AnnounceError> {
    let all = pnet_datalink::interfaces();
    let places = places(&all, address, node);
    if places.is_empty() {
        return Err(AnnounceError::Nowhere(address));
    }
    for interface in places {
        let refused = |source| AnnounceError::Refused { address, interface: interface.name.clone(), source };
        let Some(mac) = interface.mac else { continue };
        let channel = pnet_datalink::channel(interface, Config::default()).map_err(refused)?;
        let Channel::Ethernet(mut out, _) = channel else { continue };
        for operation in [REQUEST, REPLY] {
            if let Some(Err(error)) = out.send_to(&frame(operation, address, mac), None) {
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
    fn frames_tell_where_the_address_is() {
        let mac = MacAddr::new(2, 1, 2, 3, 4, 5);
        let asked = frame(REQUEST, Ipv4Addr::new(192, 0, 2, 9), mac);
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1, 2, 3, 4, 5, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 1, 2, 3,
            4, 5, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
        ];
        assert_eq!(asked, expected);
        let answered = frame(REPLY, Ipv4Addr::new(192, 0, 2, 9), mac);
        assert_eq!((answered[21], &answered[32..38]), (2, &[0xff; 6][..]));
    }

    #[test]
    fn announcements_go_where_the_address_belongs() {
        let all = [
            interface("lo", IFF_UP | IFF_LOOPBACK, true, &["127.0.0.1/8", "192.0.2.9/32"]),
            interface("eth0", IFF_UP, true, &["192.0.2.1/24", "fd00::1/64"]),
            interface("eth1", IFF_UP, true, &["198.51.100.1/24"]),
            interface("down", 0, true, &["192.0.2.2/24"]),
            interface("tun", IFF_UP, false, &["192.0.2.3/24"]),
            interface("taken", IFF_UP, true, &["192.0.2.9/32"]),
        ];
        let names = |address: &str, node: &str| -> Vec<String> {
            let found = places(&all, address.parse().expect("an address"), node.parse().expect("an address"));
            found.iter().map(|i| i.name.clone()).collect()
        };
        assert_eq!(names("192.0.2.9", "198.51.100.1"), ["eth0"]);
        assert_eq!(names("203.0.113.1", "198.51.100.1"), ["eth1"]);
        assert!(names("203.0.113.1", "203.0.113.2").is_empty());
    }
}
