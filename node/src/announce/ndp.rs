//! Unsolicited neighbour advertisements (RFC 4861, 7.2.6): tell a segment that an address of IPv6 is with us now. Pure.

use std::net::Ipv6Addr;

use pnet_datalink::MacAddr;

/// An Ethernet frame with a neighbour advertisement.
pub type Frame = [u8; 86];

/// All nodes of the segment, and the Ethernet address that stands for them.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Whoever knows another Ethernet address is to forget it. Nobody has asked; and nobody takes a Service for a router.
const OVERRIDE: u8 = 0x20;
/// The option that says the Ethernet address, and its length in units of eight bytes.
const TARGET_LINK_LAYER: [u8; 2] = [2, 1];
/// What comes from further away than the segment has passed a router and is lower: others believe nothing else.
const HOP_LIMIT: u8 = 255;

/// Bytes before the packet of IPv6, of its header, and of the message in it.
const ETHERNET: usize = 14;
const HEADER: usize = 40;
const MESSAGE: usize = 32;

/// What is sent of an address that is with this Ethernet address.
pub fn frame(address: Ipv6Addr, mac: MacAddr) -> Frame {
    let mac = mac.octets();
    let (from, to) = (address.octets(), ALL_NODES.octets());
    let parts: [&[u8]; 14] = [
        &ALL_NODES_MAC,
        &mac,
        &[0x86, 0xdd],       // IPv6
        &[0x60, 0, 0, 0],    // its version; no class, no flow
        &[0, MESSAGE as u8], // how much follows the header
        &[ICMPV6, HOP_LIMIT],
        &from,
        &to,
        &[NEIGHBOUR_ADVERTISEMENT, 0],
        &[0, 0], // the checksum, which follows
        &[OVERRIDE, 0, 0, 0],
        &from,
        &TARGET_LINK_LAYER,
        &mac,
    ];
    let mut frame = [0; ETHERNET + HEADER + MESSAGE];
    for (place, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    let sum = checksum(&from, &to, &frame[ETHERNET + HEADER..]);
    frame[ETHERNET + HEADER + 2..][..2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The checksum of a message of ICMPv6, whose own place holds zero (RFC 4443, 2.3).
fn checksum(from: &[u8; 16], to: &[u8; 16], message: &[u8]) -> u16 {
    let length = [0, 0, 0, message.len() as u8];
    let next = [0, 0, 0, ICMPV6];
    let parts: [&[u8]; 5] = [from, to, &length, &next, message];
    let words = parts.into_iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_tell_where_the_address_is() {
        let frame = frame("2001:db8::9".parse().expect("an address"), MacAddr::new(2, 1, 2, 3, 4, 5));
        let address = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut expected = vec![0x33, 0x33, 0, 0, 0, 1, 2, 1, 2, 3, 4, 5, 0x86, 0xdd];
        expected.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        expected.extend(address);
        expected.extend([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([136, 0, frame[56], frame[57], 0x20, 0, 0, 0]);
        expected.extend(address);
        expected.extend([2, 1, 2, 1, 2, 3, 4, 5]);
        assert_eq!(frame.as_slice(), expected);
    }

    /// As receivers do it: with the checksum in its place, all sums to ones.
    #[test]
    fn receivers_find_the_checksum_right() {
        for (address, mac) in [
            ("2001:db8::9", [2, 1, 2, 3, 4, 5]),
            ("fd00::ffff:ffff:ffff:ffff", [0xfe; 6]),
            ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
        ] {
            let [a, b, c, d, e, f] = mac;
            let frame = frame(address.parse().expect("an address"), MacAddr::new(a, b, c, d, e, f));
            let (from, to) =
                (frame[22..38].try_into().expect("16 bytes"), frame[38..54].try_into().expect("16 bytes"));
            assert_eq!(checksum(&from, &to, &frame[54..]), 0, "{address}");
        }
        // Worked out by hand: 2 × 2db8 + 2 × 9 + ff02 + 1 + 32 + 58 + 8800 + 2000 + 0201 + 0201 + 0203 + 0405.
        let frame = frame("2001:db8::9".parse().expect("an address"), MacAddr::new(2, 1, 2, 3, 4, 5));
        let sum = 2 * (0x2001 + 0x0db8 + 9)
            + 0xff02
            + 1
            + 32
            + 58
            + 0x8800
            + 0x2000
            + 0x0201
            + 0x0201
            + 0x0203
            + 0x0405;
        let folded = (sum & 0xffff) + (sum >> 16);
        assert_eq!(u16::from_be_bytes([frame[56], frame[57]]), !(folded as u16));
    }
}
