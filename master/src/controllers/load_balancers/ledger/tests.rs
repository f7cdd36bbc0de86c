use proptest::prelude::*;

use super::*;

fn pool(text: &str) -> Pool {
    text.parse().expect("a pool")
}

fn key(name: &str) -> Key {
    Key::new("n", name)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn claim(asked: &str, ports: &[i32]) -> Claim {
    Claim {
        asked: Some(asked.to_owned()).filter(|a| !a.is_empty()),
        ipv6: vec![false],
        ports: ports.iter().map(|p| ("TCP".to_owned(), *p)).collect(),
        local: false,
        selector: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
    }
}

fn of(families: &[bool], claim: Claim) -> Claim {
    Claim { ipv6: families.to_vec(), ..claim }
}

fn addresses(granted: Result<Grant, Refusal>) -> Vec<String> {
    let grant = granted.expect("addresses");
    assert_eq!(grant.lacks, None);
    grant.addresses.iter().map(IpAddr::to_string).collect()
}

#[test]
fn addresses_are_given_kept_asked_for_and_freed() {
    let pool = pool("192.0.2.1-192.0.2.3");
    let any = || claim("", &[80]);
    let mut ledger = Ledger::default();
    ledger.note(&key("old"), any(), &[ip("192.0.2.2")]);
    ledger.note(&key("liar"), any(), &[ip("192.0.2.2")]);
    assert_eq!(addresses(ledger.give(&pool, &key("a"), any())), ["192.0.2.1"]);
    assert_eq!(addresses(ledger.give(&pool, &key("liar"), any())), ["192.0.2.3"]);
    assert_eq!(addresses(ledger.give(&pool, &key("old"), any())), ["192.0.2.2"]);
    let exhausted = Refusal::Exhausted { ipv6: false, pool: pool.clone() };
    assert_eq!(ledger.give(&pool, &key("b"), any()), Err(exhausted));
    let taken = Refusal::Taken { asked: ip("192.0.2.2"), by: key("old") };
    assert_eq!(ledger.give(&pool, &key("b"), claim("192.0.2.2", &[81])), Err(taken));
    for asked in ["192.0.2.4", "fd00::1", "example"] {
        let refused = ledger.give(&pool, &key("b"), claim(asked, &[80]));
        assert!(matches!(refused, Err(Refusal::Foreign { .. })), "{asked}");
    }
    ledger.release(&key("old"));
    assert_eq!(addresses(ledger.give(&pool, &key("a"), claim("192.0.2.2", &[80]))), ["192.0.2.2"]);
    assert_eq!(addresses(ledger.give(&pool, &key("b"), any())), ["192.0.2.1"]);
    ledger.release(&key("nobody"));
}

#[test]
fn each_family_has_an_address_of_its_own() {
    let both = pool("192.0.2.1-192.0.2.2,fd00::1");
    let any = |families: &[bool]| of(families, claim("", &[80]));
    let mut ledger = Ledger::default();
    assert_eq!(addresses(ledger.give(&both, &key("a"), any(&[true, false]))), ["fd00::1", "192.0.2.1"]);
    // In the Service's order, whoever it is and has.
    assert_eq!(addresses(ledger.give(&both, &key("a"), any(&[false, true]))), ["192.0.2.1", "fd00::1"]);
    // Of a family that is used up it gets none, and is told.
    let exhausted = Refusal::Exhausted { ipv6: true, pool: both.clone() };
    let half = Grant { addresses: vec![ip("192.0.2.2")], lacks: Some(exhausted) };
    assert_eq!(ledger.give(&both, &key("b"), any(&[false, true])), Ok(half));
    let exhausted = Refusal::Exhausted { ipv6: true, pool: both.clone() };
    assert_eq!(ledger.give(&both, &key("c"), any(&[true])), Err(exhausted));
    // What it is no longer of goes, and what it is again of comes.
    assert_eq!(addresses(ledger.give(&both, &key("a"), any(&[false]))), ["192.0.2.1"]);
    assert_eq!(addresses(ledger.give(&both, &key("b"), any(&[false, true]))), ["192.0.2.2", "fd00::1"]);
    // A family that the pool has nothing of is left out, unless there is no other.
    let (v4, mut ledger) = (pool("192.0.2.1"), Ledger::default());
    let other = Refusal::OtherFamily { ipv6: true, pool: v4.clone() };
    assert_eq!(ledger.give(&v4, &key("a"), any(&[true])), Err(other));
    assert_eq!(addresses(ledger.give(&v4, &key("a"), any(&[true, false]))), ["192.0.2.1"]);
}

#[test]
fn the_address_that_is_asked_for_is_of_one_family() {
    let pool = pool("192.0.2.1-192.0.2.9,fd00::1-fd00::9");
    let mut ledger = Ledger::default();
    let asks = |families: &[bool], asked: &str| of(families, claim(asked, &[80]));
    assert_eq!(
        addresses(ledger.give(&pool, &key("a"), asks(&[false, true], "fd00::7"))),
        ["192.0.2.1", "fd00::7"]
    );
    let not = Refusal::NotOfIts { asked: ip("fd00::8") };
    assert_eq!(ledger.give(&pool, &key("b"), asks(&[false], "fd00::8")), Err(not));
    assert_eq!(addresses(ledger.give(&pool, &key("b"), asks(&[true], "fd00::8"))), ["fd00::8"]);
}

#[test]
fn who_names_an_address_shares_it_by_port() {
    let pool = pool("192.0.2.1-192.0.2.9");
    let address = ip("192.0.2.5");
    let asks = |ports: &[i32]| claim("192.0.2.5", ports);
    let mut ledger = Ledger::default();
    assert_eq!(addresses(ledger.give(&pool, &key("a"), asks(&[80, 443]))), ["192.0.2.5"]);
    assert_eq!(addresses(ledger.give(&pool, &key("b"), asks(&[53]))), ["192.0.2.5"]);
    let clash = |port, by: &str| {
        Err(Refusal::Clash { asked: address, port, protocol: "TCP".to_owned(), by: key(by) })
    };
    assert_eq!(ledger.give(&pool, &key("c"), asks(&[443])), clash(443, "a"));
    let udp = Claim { ports: [("UDP".to_owned(), 443)].into(), ..asks(&[]) };
    assert_eq!(
        addresses(ledger.give(&pool, &key("c"), udp)),
        ["192.0.2.5"],
        "another protocol is another port"
    );
    assert_eq!(ledger.holders(address).map(|k| &*k.name).collect::<Vec<_>>(), ["a", "b", "c"]);
    // Another namespace is as good.
    let elsewhere = Key::new("m", "d");
    assert_eq!(addresses(ledger.give(&pool, &elsewhere, asks(&[22]))), ["192.0.2.5"]);
    ledger.release(&elsewhere);
    // Who comes to want a port of another's loses the address; the others keep it.
    assert_eq!(ledger.give(&pool, &key("b"), asks(&[80])), clash(80, "a"));
    assert_eq!(ledger.holders(address).count(), 2);
    // When one goes, the other keeps it, and its ports are free.
    ledger.release(&key("a"));
    assert_eq!(addresses(ledger.give(&pool, &key("b"), asks(&[80]))), ["192.0.2.5"]);
    // Who no longer names it shares it with nobody.
    assert_eq!(addresses(ledger.give(&pool, &key("b"), claim("", &[80]))), ["192.0.2.1"]);
    // And who has it alone without naming it keeps it for itself.
    let taken = Refusal::Taken { asked: ip("192.0.2.1"), by: key("b") };
    assert_eq!(ledger.give(&pool, &key("e"), claim("192.0.2.1", &[90])), Err(taken));
    // Nobody is given by chance what is shared.
    for n in 0..7 {
        let given = addresses(ledger.give(&pool, &key(&format!("x{n}")), claim("", &[n])));
        assert_ne!(given, ["192.0.2.5"]);
    }
    assert!(ledger.give(&pool, &key("y"), claim("", &[1])).is_err());
}

#[test]
fn local_traffic_is_shared_with_the_same_pods_alone() {
    let pool = pool("192.0.2.1-192.0.2.9");
    let asks = |ports: &[i32], local, app: Option<&str>| Claim {
        local,
        selector: app.map(|app| BTreeMap::from([("app".to_owned(), app.to_owned())])),
        ..claim("192.0.2.5", ports)
    };
    let other = Err(Refusal::OtherPods { asked: ip("192.0.2.5"), by: key("a") });
    let shared: [(Claim, Claim, bool); 6] = [
        (asks(&[80], true, Some("web")), asks(&[443], true, Some("web")), true),
        (asks(&[80], true, Some("web")), asks(&[443], false, Some("web")), true),
        (asks(&[80], true, Some("web")), asks(&[443], true, Some("db")), false),
        (asks(&[80], false, Some("web")), asks(&[443], true, Some("db")), false),
        (asks(&[80], false, Some("web")), asks(&[443], false, Some("db")), true),
        (asks(&[80], true, None), asks(&[443], true, None), false),
    ];
    for (first, second, may) in shared {
        let mut ledger = Ledger::default();
        assert!(ledger.give(&pool, &key("a"), first.clone()).is_ok());
        let granted = ledger.give(&pool, &key("b"), second.clone());
        if may {
            assert_eq!(addresses(granted), ["192.0.2.5"], "{first:?} {second:?}");
        } else {
            assert_eq!(granted, other, "{first:?} {second:?}");
        }
        // What selects pods selects those of its own namespace.
        let granted = ledger.give(
            &pool,
            &Key::new("m", "c"),
            Claim { ports: [("TCP".to_owned(), 1)].into(), ..second.clone() },
        );
        assert_eq!(granted.is_ok(), !first.local && !second.local, "{first:?} {second:?}");
    }
}

/// A step: who, whether it goes, the address that it names, a port, its families, whether its traffic stays.
type Step = (u8, bool, Option<u8>, i32, u8, bool);

proptest! {
    #[test]
    fn nobody_has_what_is_anothers_and_nothing_is_lost(
        steps in prop::collection::vec(
            (0u8..12, any::<bool>(), prop::option::of(0u8..10), 0i32..4, 0u8..4, any::<bool>()), 1..80),
    ) {
        let pool = pool("192.0.2.0-192.0.2.5,192.0.2.8,fd00::0-fd00::3");
        let all: Vec<IpAddr> = (0..12).map(|n| ip(&format!("192.0.2.{n}")))
            .chain((0..12).map(|n| ip(&format!("fd00::{n:x}")))).filter(|a| pool.contains(*a)).collect();
        let mut ledger = Ledger::default();
        let mut given: BTreeMap<u8, (Vec<IpAddr>, Claim)> = BTreeMap::new();
        let each: Vec<Step> = steps;
        for (who, goes, asks, port, families, local) in each {
            let service = key(&who.to_string());
            if goes {
                ledger.release(&service);
                given.remove(&who);
                continue;
            }
            let families = [&[false][..], &[true], &[false, true], &[true, false]][usize::from(families)];
            let asked = asks.map(|n| if n % 3 == 0 { format!("fd00::{n:x}") } else { format!("192.0.2.{n}") });
            let claim = Claim { local, ..of(families, claim(&asked.clone().unwrap_or_default(), &[port])) };
            let before = given.remove(&who);
            let taken = |address: &IpAddr| given.values().any(|(has, _)| has.contains(address));
            match ledger.give(&pool, &service, claim.clone()) {
                Ok(grant) => {
                    let found: Vec<bool> = grant.addresses.iter().map(IpAddr::is_ipv6).collect();
                    let rest: Vec<bool> = families.iter().copied().filter(|f| found.contains(f)).collect();
                    prop_assert_eq!(&found, &rest, "one a family, in order");
                    prop_assert_eq!(grant.lacks.is_some(), found.len() < families.len());
                    for ipv6 in families.iter().filter(|f| !found.contains(f)) {
                        prop_assert!(all.iter().filter(|a| a.is_ipv6() == *ipv6).all(taken), "none was free");
                    }
                    for address in &grant.addresses {
                        prop_assert!(pool.contains(*address));
                        for (_, other) in given.values().filter(|(has, _)| has.contains(address)) {
                            let both = (claim.named(), other.named()) == (Some(*address), Some(*address));
                            prop_assert!(both && claim.ports.is_disjoint(&other.ports));
                        }
                    }
                    prop_assert!(claim.named().is_none_or(|a| grant.addresses.contains(&a)));
                    if let Some((had, _)) = before.filter(|_| asked.is_none()) {
                        let shared = |a: &IpAddr| taken(a);
                        for kept in had.iter().filter(|a| families.contains(&a.is_ipv6()) && !shared(a)) {
                            prop_assert!(grant.addresses.contains(kept), "what it has stays");
                        }
                    }
                    given.insert(who, (grant.addresses, claim));
                }
                Err(Refusal::Exhausted { .. }) => {
                    for address in all.iter().filter(|a| families.contains(&a.is_ipv6())) {
                        prop_assert!(taken(address));
                    }
                }
                Err(Refusal::Taken { asked, by } | Refusal::Clash { asked, by, .. }) => {
                    let number: u8 = by.name.parse().unwrap();
                    prop_assert!(given[&number].0.contains(&asked));
                }
                Err(Refusal::Foreign { .. }) => prop_assert!(claim.named().is_some_and(|a| !pool.contains(a))),
                Err(Refusal::NotOfIts { asked }) => prop_assert!(!families.contains(&asked.is_ipv6())),
                Err(other) => prop_assert!(false, "{other}: all have the same pods, and the pool both families"),
            }
        }
        for (who, (addresses, _)) in &given {
            for address in addresses {
                prop_assert!(ledger.holders(*address).any(|k| *k == key(&who.to_string())));
            }
        }
    }
}
