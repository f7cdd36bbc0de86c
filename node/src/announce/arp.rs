//! Gratuitous ARP: tells a segment that an address of IPv4 is with us now. Pure.

use std::net::Ipv4Addr;

use pnet_datalink::MacAddr;

/// An Ethernet frame with an ARP packet for IPv4.
pub type Frame = [u8; 42];

/// Ask and answer: hosts differ in which of the two they learn from.
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What is sent of an address that is with this Ethernet address.
pub fn frames(address: Ipv4Addr, mac: MacAddr) -> [Frame; 2] {
    [REQUEST, REPLY].map(|operation| frame(operation, address, mac))
}

fn frame(operation: u16, address: Ipv4Addr, mac: MacAddr) -> Frame {
    let mac = mac.octets();
    let everybody = [0xff; 6];
    let target = if operation == REQUEST { [0; 6] } else { everybody };
    let parts: [&[u8]; 9] = [
        &everybody,
        &mac,
        &[0x08, 0x06],             // ARP
        &[0, 1, 0x08, 0x00, 6, 4], // Ethernet and IPv4, and their addresses' lengths
        &operation.to_be_bytes(),
        &mac,
        &address.octets(),
        &target,
        &address.octets(),
    ];
    let mut frame = [0; 42];
    for (place, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_tell_where_the_address_is() {
        let mac = MacAddr::new(2, 1, 2, 3, 4, 5);
        let [asked, answered] = frames(Ipv4Addr::new(192, 0, 2, 9), mac);
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1, 2, 3, 4, 5, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 1, 2, 3,
            4, 5, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
        ];
        assert_eq!(asked, expected);
        assert_eq!((answered[21], &answered[32..38]), (2, &[0xff; 6][..]));
    }
}
