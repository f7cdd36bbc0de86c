//! Ranges of addresses: of IPv4 and, where a cluster is dual-stack, of IPv6 beside it.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses, and perhaps one of IPv6. Written `10.244.0.0/16` or `10.244.0.0/16,fd00:10:244::/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DualRange {
    /// The range of IPv4.
    pub v4: Ipv4Net,
    /// The range of IPv6, where there is one.
    pub v6: Option<Ipv6Net>,
}

/// Why a text is no such ranges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A part of it is no range.
    #[error("\"{0}\" is no range of addresses; write one such as 10.244.0.0/16 or fd00:10:244::/48")]
    Malformed(String),
    /// Not one of IPv4 and at most one of IPv6, in this order.
    #[error("\"{0}\" is not a range of IPv4, or one of IPv4 and one of IPv6 separated by a comma")]
    Families(String),
}

impl DualRange {
    /// Its ranges, that of IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + use<> {
        std::iter::once(IpNet::V4(self.v4)).chain(self.v6.map(IpNet::V6))
    }

    /// Whether an address is in either.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.iter().any(|range| range.contains(address))
    }

    /// The ranges of these texts, of which the first of each family counts; `None` without one of IPv4.
    pub fn among<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<DualRange> {
        let (mut v4, mut v6) = (None, None);
        for range in texts.into_iter().filter_map(|text| text.trim().parse::<IpNet>().ok()) {
            match range.trunc() {
                IpNet::V4(range) => drop(v4.get_or_insert(range)),
                IpNet::V6(range) => drop(v6.get_or_insert(range)),
            }
        }
        Some(DualRange { v4: v4?, v6 })
    }
}

impl From<Ipv4Net> for DualRange {
    fn from(v4: Ipv4Net) -> Self {
        DualRange { v4, v6: None }
    }
}

impl FromStr for DualRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let malformed = |part: &str| RangeError::Malformed(part.to_owned());
        let parts: Vec<IpNet> = text
            .split(',')
            .map(|part| part.trim().parse::<IpNet>().map(|r| r.trunc()).map_err(|_| malformed(part)))
            .collect::<Result<_, _>>()?;
        match parts.as_slice() {
            [IpNet::V4(v4)] => Ok((*v4).into()),
            [IpNet::V4(v4), IpNet::V6(v6)] => Ok(DualRange { v4: *v4, v6: Some(*v6) }),
            _ => Err(RangeError::Families(text.to_owned())),
        }
    }
}

impl fmt::Display for DualRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.v4)?;
        self.v6.map_or(Ok(()), |v6| write!(f, ",{v6}"))
    }
}

impl From<DualRange> for String {
    fn from(range: DualRange) -> String {
        range.to_string()
    }
}

impl TryFrom<String> for DualRange {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        let check = |text: &str, expected: Result<&str, &str>| match (text.parse::<DualRange>(), expected) {
            (Ok(range), Ok(written)) => assert_eq!(range.to_string(), written),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("10.244.0.0/16", Ok("10.244.0.0/16"));
        check("10.244.7.1/16, fd00:10:244::1/48", Ok("10.244.0.0/16,fd00:10:244::/48"));
        check("fd00::/48", Err("separated by a comma"));
        check("fd00::/48,10.0.0.0/8", Err("separated by a comma"));
        check("10.0.0.0/8,10.1.0.0/16", Err("separated by a comma"));
        check("10.0.0.0/8,fd00::/48,fd01::/48", Err("separated by a comma"));
        check("10.0.0.0", Err("\"10.0.0.0\" is no range"));
        check("", Err("no range"));
    }

    #[test]
    fn the_first_of_each_family_counts() {
        let among = |texts: &[&str]| DualRange::among(texts.iter().copied()).map(|r| r.to_string());
        assert_eq!(
            among(&["fd00::/64", "10.0.0.0/24", "10.0.1.0/24", "what"]).as_deref(),
            Some("10.0.0.0/24,fd00::/64")
        );
        assert_eq!(among(&["fd00::/64"]), None);
        let range: DualRange = "10.0.0.0/24,fd00::/64".parse().unwrap();
        assert!(range.contains(&"fd00::7".parse().unwrap()) && !range.contains(&"fd01::".parse().unwrap()));
    }
}
