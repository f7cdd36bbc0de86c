use proptest::prelude::*;

use super::*;

fn ranges(nodes: &[(u8, u8)]) -> Ranges {
    let net = |n: u8| Ipv4Net::new(Ipv4Addr::new(10, 244, n, 0), 24).unwrap();
    nodes.iter().map(|(n, host)| (net(*n), Ipv4Addr::new(192, 0, 2, *host))).collect()
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
    let hop = Hop { gateway: end, device: 7 };
    let range = Ipv4Net::new(end, 24).unwrap();
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
    let range = Ipv4Net::new(Ipv4Addr::new(10, 244, 1, 0), 24).unwrap();
    check(by_routes, Change::SetRoute(range, Hop { gateway: node, device: 7 }));
}

proptest! {
    #[test]
    fn whatever_the_kernel_holds_becomes_what_is_wanted(
        held in proptest::collection::vec((0u8..8, 1u8..6), 0..8),
        wanted in proptest::collection::vec((0u8..8, 1u8..6), 0..8),
        (held_overlay, wanted_overlay) in (any::<bool>(), any::<bool>()),
    ) {
        let tables = |nodes: &[(u8, u8)], overlay: bool| {
            if overlay { through_overlay(&ranges(nodes), 7) } else { by_routes(&ranges(nodes), 2) }
        };
        let (mut held, wanted) = (tables(&held, held_overlay), tables(&wanted, wanted_overlay));
        for change in changes(&held, &wanted) {
            take(&mut held, change);
            // No route of the overlay without its end.
            for hop in held.routes.values().filter(|h| h.device == 7) {
                prop_assert!(held.neighbours.contains_key(&hop.gateway));
            }
        }
        prop_assert_eq!(held, wanted);
    }
}
