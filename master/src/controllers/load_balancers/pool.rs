//! The addresses that Services of type LoadBalancer may be given. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Ranges of addresses, of either family: `192.0.2.0/28,198.51.100.10-198.51.100.20,2001:db8:1::/120`.
///
/// A network's first address is left out where it has more than two, and so is the last one of IPv4: few routers take
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// First and last address of each, in order, IPv4 before IPv6, none touching another.
    ranges: Vec<(IpAddr, IpAddr)>,
}

/// Why a text names no pool.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no range of addresses: write one as 192.0.2.0/28, as 192.0.2.10-192.0.2.20 or, of IPv6, as 2001:db8:1::/120"
)]
pub struct PoolError(String);

/// The address after this one; `None` after a family's last.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|n| Ipv4Addr::from(n).into()),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|n| Ipv6Addr::from(n).into()),
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Pool, PoolError> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            ranges.push(range(part).ok_or_else(|| PoolError(part.to_owned()))?);
        }
        ranges.sort_unstable();
        let mut joined: Vec<(IpAddr, IpAddr)> = Vec::new();
        for (first, last) in ranges {
            // A family's last address touches nothing, but what comes after it may overlap all the same.
            match joined.last_mut() {
                Some((_, end)) if first <= *end || next(*end) == Some(first) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Ok(Pool { ranges: joined })
    }
}

fn range(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Ok(net) = text.parse::<IpNet>() {
        let all = net.max_prefix_len() - net.prefix_len() < 2;
        return Some(match net {
            _ if all => (net.network(), net.broadcast()),
            IpNet::V4(net) => {
                let last = u32::from(net.broadcast()) - 1;
                (next(net.network().into())?, Ipv4Addr::from(last).into())
            }
            IpNet::V6(_) => (next(net.network())?, net.broadcast()),
        });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let address = |text: &str| text.trim().parse::<IpAddr>().ok();
    let (first, last) = (address(first)?, address(last)?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some((first, last))
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{first}-{last}")?;
        }
        Ok(())
    }
}

impl Pool {
    /// Whether an address is one of the pool's.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Whether it has addresses of this family at all.
    pub fn has(&self, ipv6: bool) -> bool {
        self.of(ipv6).next().is_some()
    }

    fn of(&self, ipv6: bool) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.ranges.iter().copied().filter(move |(first, _)| first.is_ipv6() == ipv6)
    }

    /// The lowest address of a family that is not taken; `taken` tells, in order, which of a range's are.
    pub fn first_free<T: Iterator<Item = IpAddr>>(
        &self,
        ipv6: bool,
        taken: impl Fn(IpAddr, IpAddr) -> T,
    ) -> Option<IpAddr> {
        self.of(ipv6).find_map(|(first, last)| {
            let mut free = first;
            for address in taken(first, last) {
                if address != free {
                    break;
                }
                free = next(address)?;
            }
            (free <= last).then_some(free)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Pool {
        text.parse().expect("a pool")
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
            ("255.255.255.0-255.255.255.255,255.255.255.9", "255.255.255.0-255.255.255.255"),
            ("2001:db8:1::/120", "2001:db8:1::1-2001:db8:1::ff"),
            ("fd00::7/128", "fd00::7-fd00::7"),
            ("fd00::6/127", "fd00::6-fd00::7"),
            ("fd00::10-fd00::1f, fd00::20", "fd00::10-fd00::20"),
            ("FD00::1,192.0.2.7", "192.0.2.7-192.0.2.7,fd00::1-fd00::1"),
            ("255.255.255.255,::-::1", "255.255.255.255-255.255.255.255,::-::1"),
            ("::/0", "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(pool(text).to_string(), shown, "{text}");
            assert_eq!(pool(shown), pool(text), "what is shown is read again");
        }
        for text in [
            "",
            "x",
            "192.0.2.9-192.0.2.1",
            "192.0.2.0/33",
            "fd00::/129",
            "fd00::9-fd00::1",
            "192.0.2.1-fd00::1",
            "192.0.2.1,,192.0.2.3",
        ] {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_lowest_of_a_family_comes_first() {
        let pool = pool("192.0.2.1-192.0.2.2,192.0.2.9,fd00::1-fd00::2");
        assert!(pool.has(false) && pool.has(true) && !self::pool("fd00::1").has(false));
        let free = |ipv6, taken: &[&str]| {
            let taken: std::collections::BTreeSet<IpAddr> =
                taken.iter().map(|t| t.parse().unwrap()).collect();
            let found = pool.first_free(ipv6, |first, last| {
                taken.range(first..=last).copied().collect::<Vec<_>>().into_iter()
            });
            found.map(|a| a.to_string())
        };
        assert_eq!(free(false, &[]).as_deref(), Some("192.0.2.1"));
        assert_eq!(free(false, &["192.0.2.2"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(free(false, &["192.0.2.1", "192.0.2.2"]).as_deref(), Some("192.0.2.9"));
        assert_eq!(free(true, &["192.0.2.1", "fd00::1"]).as_deref(), Some("fd00::2"));
        assert_eq!(free(true, &["fd00::1", "fd00::2"]), None);
        let whole = "255.255.255.255,::ffff:ffff".parse::<Pool>().unwrap();
        let all = |first: IpAddr, _| std::iter::once(first);
        assert_eq!((whole.first_free(false, all), whole.first_free(true, all)), (None, None));
    }
}
