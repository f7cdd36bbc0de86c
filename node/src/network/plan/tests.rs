use proptest::prelude::*;

use super::*;

fn ranges(nodes: &[(u8, u8)]) -> Ranges {
    let net = |n: u8| Ipv4Net::new(Ipv4Addr::new(10, 244, n, 0), 24).unwrap();
    nodes.iter().map(|(n, host)| (net(*n), Ipv4Addr::new(192, 0, 2, *host).into())).collect()
}

/// The same, with IPv6 beside it.
fn dual(nodes: &[(u8, u8)]) -> Ranges {
    let mut ranges = ranges(nodes);
    for (range, peer) in &mut ranges {
        let n = u16::from(range.network().octets()[2]);
        peer.range6 = Some(Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, 0, n, 0, 0, 0, 0), 64).unwrap());
        // Not all nodes have an address of IPv6.
        peer.v6 =
            (n % 2 == 0).then(|| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(peer.v4.octets()[3])));
    }
    ranges
}

/// What the kernel holds after a change.
fn take(tables: &mut Tables, change: Change) {
    match change {
        Change::RemoveRoute(range, hop) => assert_eq!(tables.routes.remove(&range), Some(hop)),
        Change::RemoveNeighbour(end) => assert!(tables.neighbours.remove(&end).is_some()),
        Change::RemoveForwarding(mac, node) => assert_eq!(tables.forwarding.remove(&mac), Some(node)),
        Change::SetForwarding(mac, node) => drop(tables.forwarding.insert(mac, node)),
        Change::SetNeighbour(end, mac) => drop(tables.neighbours.insert(end, mac)),
        Change::SetRoute(range, hop) => drop(tables.routes.insert(range, hop)),
    }
}

#[test]
fn one_node_more_is_three_entries() {
    let before = through_overlay(&ranges(&[(1, 1), (2, 2)]), 7);
    let after = through_overlay(&ranges(&[(1, 1), (2, 2), (3, 3)]), 7);
    let (end, mac) = (Ipv4Addr::new(10, 244, 3, 0), [0x0a, 0x58, 10, 244, 3, 0]);
    let hop = Hop { gateway: Some(end.into()), device: 7 };
    let range = IpNet::V4(Ipv4Net::new(end, 24).unwrap());
    let end = IpAddr::V4(end);
    assert_eq!(
        changes(&before, &after),
        [
            Change::SetForwarding(mac, Ipv4Addr::new(192, 0, 2, 3)),
            Change::SetNeighbour(end, mac),
            Change::SetRoute(range, hop),
        ]
    );
    assert_eq!(
        changes(&after, &before),
        [
            Change::RemoveRoute(range, hop),
            Change::RemoveNeighbour(end),
            Change::RemoveForwarding(mac, Ipv4Addr::new(192, 0, 2, 3)),
        ]
    );
    assert_eq!(changes(&after, &after), []);
}

#[test]
fn a_node_that_moves_is_one_entry_either_way() {
    let check = |tables: fn(&Ranges, u32) -> Tables, expected: Change| {
        let (before, after) = (tables(&ranges(&[(1, 1)]), 7), tables(&ranges(&[(1, 9)]), 7));
        assert_eq!(changes(&before, &after), [expected]);
    };
    let node = Ipv4Addr::new(192, 0, 2, 9);
    check(through_overlay, Change::SetForwarding([0x0a, 0x58, 10, 244, 1, 0], node));
    let range = IpNet::V4(Ipv4Net::new(Ipv4Addr::new(10, 244, 1, 0), 24).unwrap());
    check(by_routes, Change::SetRoute(range, Hop { gateway: Some(node.into()), device: 7 }));
}

#[test]
fn both_families_share_one_end_of_the_overlay() {
    let tables = through_overlay(&dual(&[(1, 1)]), 7);
    let mac = [0x0a, 0x58, 10, 244, 1, 0];
    let ends: Vec<_> = tables.neighbours.iter().map(|(end, mac)| (end.to_string(), *mac)).collect();
    assert_eq!(ends, [("10.244.1.0".to_owned(), mac), ("fd00:0:0:1::".to_owned(), mac)]);
    assert_eq!(tables.routes.len(), 2);
    assert_eq!(tables.forwarding.len(), 1);
}

#[test]
fn services_are_one_entry() {
    let mut tables = through_overlay(&dual(&[(1, 1)]), 7);
    let before = tables.clone();
    let services: Ipv6Net = "fd00:96::/112".parse().unwrap();
    lead_to_services(&mut tables, services, 9);
    let hop = Hop { gateway: None, device: 9 };
    assert_eq!(changes(&before, &tables), [Change::SetRoute(services.into(), hop)]);
    assert_eq!(changes(&tables, &before), [Change::RemoveRoute(services.into(), hop)]);
}

#[test]
fn routes_of_ipv6_need_a_nodes_address_of_it() {
    let ranges = dual(&[(1, 1), (2, 2)]);
    let routes = by_routes(&ranges, 7).routes;
    let texts: Vec<_> = routes.iter().map(|(r, h)| format!("{r} {}", h.gateway.unwrap())).collect();
    assert_eq!(texts, ["10.244.1.0/24 192.0.2.1", "10.244.2.0/24 192.0.2.2", "fd00:0:0:2::/64 2001:db8::2"]);
    let left: Vec<_> = unreached(&ranges).map(|(r, a)| format!("{r} {a}")).collect();
    assert_eq!(left, ["fd00:0:0:1::/64 192.0.2.1"]);
}

proptest! {
    #[test]
    fn whatever_the_kernel_holds_becomes_what_is_wanted(
        held in proptest::collection::vec((0u8..8, 1u8..6), 0..8),
        wanted in proptest::collection::vec((0u8..8, 1u8..6), 0..8),
        (held_overlay, wanted_overlay) in (any::<bool>(), any::<bool>()),
        (held_dual, wanted_dual) in (any::<bool>(), any::<bool>()),
        (held_services, wanted_services) in (0u32..3, 0u32..3),
    ) {
        let tables = |nodes: &[(u8, u8)], overlay: bool, both: bool, services: u32| {
            let ranges = if both { dual(nodes) } else { ranges(nodes) };
            let mut tables = if overlay { through_overlay(&ranges, 7) } else { by_routes(&ranges, 2) };
            if services > 0 {
                lead_to_services(&mut tables, "fd00:96::/112".parse().unwrap(), 8 + services);
            }
            tables
        };
        let mut held = tables(&held, held_overlay, held_dual, held_services);
        let wanted = tables(&wanted, wanted_overlay, wanted_dual, wanted_services);
        for change in changes(&held, &wanted) {
            take(&mut held, change);
            // No route of the overlay without its end.
            for hop in held.routes.values().filter(|h| h.device == 7) {
                prop_assert!(hop.gateway.is_some_and(|end| held.neighbours.contains_key(&end)));
            }
        }
        prop_assert_eq!(held, wanted);
    }
}
