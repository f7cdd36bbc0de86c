//! The addresses that Services of type LoadBalancer may be given. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

use crate::controllers::machinery::Key;

/// Ranges of addresses: `192.0.2.0/28,198.51.100.10-198.51.100.20`.
///
/// A network's first and last addresses are left out where it has more than two: few routers take them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// First and last address of each, in order, none touching another.
    ranges: Vec<(u32, u32)>,
}

/// Why a text names no pool.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no range of IPv4 addresses: write one as 192.0.2.0/28 or as 192.0.2.10-192.0.2.20")]
pub struct PoolError(String);

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Pool, PoolError> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            ranges.push(range(part).ok_or_else(|| PoolError(part.to_owned()))?);
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Ok(Pool { ranges: joined })
    }
}

fn range(text: &str) -> Option<(u32, u32)> {
    if let Ok(net) = text.parse::<Ipv4Net>() {
        let ends = (u32::from(net.network()), u32::from(net.broadcast()));
        return Some(if net.prefix_len() < 31 { (ends.0 + 1, ends.1 - 1) } else { ends });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let address = |text: &str| text.trim().parse::<Ipv4Addr>().map(u32::from).ok();
    let ends = (address(first)?, address(last)?);
    (ends.0 <= ends.1).then_some(ends)
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", Ipv4Addr::from(*first), Ipv4Addr::from(*last))?;
        }
        Ok(())
    }
}

impl Pool {
    /// Whether an address is one of the pool's.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let number = u32::from(address);
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// The lowest address that is not taken.
    fn first_free(&self, taken: &BTreeMap<Ipv4Addr, Key>) -> Option<Ipv4Addr> {
        for (first, last) in &self.ranges {
            let mut next = *first;
            for address in
                taken.range(Ipv4Addr::from(*first)..=Ipv4Addr::from(*last)).map(|(a, _)| u32::from(*a))
            {
                if address != next {
                    break;
                }
                next = address.checked_add(1)?;
            }
            if next <= *last {
                return Some(Ipv4Addr::from(next));
            }
        }
        None
    }
}

/// Why a Service gets no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// All are in use.
    #[error("no address is left in the pool {0}")]
    Exhausted(Pool),
    /// `spec.loadBalancerIP` is not one of the pool's.
    #[error("the address {asked:?} that spec.loadBalancerIP asks for is not in the pool {pool}")]
    Foreign {
        /// What was asked for.
        asked: String,
        /// The pool.
        pool: Pool,
    },
    /// `spec.loadBalancerIP` is another Service's.
    #[error("the address {asked} that spec.loadBalancerIP asks for is in use by the Service {by}")]
    Taken {
        /// What was asked for.
        asked: Ipv4Addr,
        /// Who has it.
        by: Key,
    },
}

/// Which Service has which address. The truth lies in the Services; this is what was read of it, and given since.
#[derive(Debug, Default)]
pub struct Ledger {
    taken: BTreeMap<Ipv4Addr, Key>,
    of: HashMap<Key, Ipv4Addr>,
}

impl Ledger {
    /// Notes that a Service has an address already. The first to say so keeps it.
    pub fn note(&mut self, service: &Key, address: Ipv4Addr) {
        if !self.taken.contains_key(&address) {
            self.release(service);
            self.taken.insert(address, service.clone());
            self.of.insert(service.clone(), address);
        }
    }

    /// A Service needs no address any more.
    pub fn release(&mut self, service: &Key) {
        if let Some(address) = self.of.remove(service) {
            self.taken.remove(&address);
        }
    }

    /// Gives a Service its address: the one that it asks for, else the one that it has, else the lowest free one.
    pub fn give(&mut self, pool: &Pool, service: &Key, asked: Option<&str>) -> Result<Ipv4Addr, Refusal> {
        let has = self.of.get(service).copied().filter(|a| pool.contains(*a));
        let address = match asked.filter(|a| !a.is_empty()) {
            Some(asked) => {
                let address = asked.parse().ok().filter(|a| pool.contains(*a));
                let foreign = || Refusal::Foreign { asked: asked.to_owned(), pool: pool.clone() };
                let address = address.ok_or_else(foreign)?;
                match self.taken.get(&address) {
                    Some(by) if by != service => {
                        return Err(Refusal::Taken { asked: address, by: by.clone() });
                    }
                    _ => address,
                }
            }
            None => match has {
                Some(address) => address,
                None => pool.first_free(&self.taken).ok_or_else(|| Refusal::Exhausted(pool.clone()))?,
            },
        };
        self.release(service);
        self.taken.insert(address, service.clone());
        self.of.insert(service.clone(), address);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(text: &str) -> Pool {
        text.parse().expect("a pool")
    }

    fn key(name: &str) -> Key {
        Key::new("n", name)
    }

    #[test]
    fn pools_are_read() {
        for (text, shown) in [
            ("192.0.2.0/28", "192.0.2.1-192.0.2.14"),
            ("192.0.2.7/32", "192.0.2.7-192.0.2.7"),
            ("192.0.2.8/31", "192.0.2.8-192.0.2.9"),
            ("192.0.2.7", "192.0.2.7-192.0.2.7"),
            ("192.0.2.10 - 192.0.2.20, 192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.20"),
            (
                "192.0.2.4-192.0.2.9,192.0.2.1-192.0.2.5,198.51.100.1",
                "192.0.2.1-192.0.2.9,198.51.100.1-198.51.100.1",
            ),
            ("0.0.0.0-255.255.255.255", "0.0.0.0-255.255.255.255"),
        ] {
            assert_eq!(pool(text).to_string(), shown, "{text}");
            assert_eq!(pool(shown), pool(text), "what is shown is read again");
        }
        for text in ["", "x", "192.0.2.9-192.0.2.1", "192.0.2.0/33", "fd00::/120", "192.0.2.1,,192.0.2.3"] {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_given_kept_asked_for_and_freed() {
        let pool = pool("192.0.2.1-192.0.2.3");
        let address = |n| Ipv4Addr::new(192, 0, 2, n);
        let mut ledger = Ledger::default();
        ledger.note(&key("old"), address(2));
        ledger.note(&key("liar"), address(2));
        assert_eq!(ledger.give(&pool, &key("a"), None), Ok(address(1)));
        assert_eq!(ledger.give(&pool, &key("liar"), None), Ok(address(3)));
        assert_eq!(ledger.give(&pool, &key("old"), None), Ok(address(2)));
        assert_eq!(ledger.give(&pool, &key("b"), None), Err(Refusal::Exhausted(pool.clone())));
        let taken = Refusal::Taken { asked: address(2), by: key("old") };
        assert_eq!(ledger.give(&pool, &key("b"), Some("192.0.2.2")), Err(taken));
        for asked in ["192.0.2.4", "fd00::1", "example"] {
            let refused = ledger.give(&pool, &key("b"), Some(asked));
            assert!(matches!(refused, Err(Refusal::Foreign { .. })), "{asked}");
        }
        ledger.release(&key("old"));
        assert_eq!(ledger.give(&pool, &key("a"), Some("192.0.2.2")), Ok(address(2)));
        assert_eq!(ledger.give(&pool, &key("b"), Some("")), Ok(address(1)));
        ledger.release(&key("nobody"));
    }

    proptest! {
        #[test]
        fn nobody_shares_and_nothing_is_lost(steps in prop::collection::vec((0u8..12, any::<bool>(), prop::option::of(0u8..10)), 1..80)) {
            let pool = pool("192.0.2.0-192.0.2.5,192.0.2.8");
            let mut ledger = Ledger::default();
            let mut given: BTreeMap<u8, Ipv4Addr> = BTreeMap::new();
            for (who, releases, asks) in steps {
                let service = key(&who.to_string());
                if releases {
                    ledger.release(&service);
                    given.remove(&who);
                    continue;
                }
                let asked = asks.map(|n| format!("192.0.2.{n}"));
                let others: Vec<Ipv4Addr> = given.iter().filter(|(w, _)| **w != who).map(|(_, a)| *a).collect();
                match ledger.give(&pool, &service, asked.as_deref()) {
                    Ok(address) => {
                        prop_assert!(pool.contains(address) && !others.contains(&address));
                        prop_assert!(asked.is_none_or(|a| a == address.to_string()));
                        given.insert(who, address);
                    }
                    Err(Refusal::Exhausted(_)) => prop_assert_eq!(others.len(), 7),
                    Err(Refusal::Taken { asked, .. }) => prop_assert!(others.contains(&asked)),
                    Err(Refusal::Foreign { .. }) => prop_assert!(asks.is_some_and(|n| n > 5 && n != 8)),
                }
            }
        }
    }
}
