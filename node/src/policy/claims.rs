//! Whose an address is. Pure.
//!
//! Statuses lag behind: an address may be another pod's before the one that had it says that it has it no more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::objects::Key;

/// Who says that an address is its own. The greatest is believed: the pod that was plugged in here with it; else
/// the youngest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// It was plugged in here with the address.
    pub plugged: bool,
    /// When the pod was created, in seconds since 1970.
    pub created: i64,
    /// The pod.
    pub pod: Key,
}

/// All claims.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<IpAddr, BTreeSet<Claim>>);

impl Claims {
    /// Takes a claim in.
    pub fn make(&mut self, address: IpAddr, claim: Claim) {
        self.0.entry(address).or_default().insert(claim);
    }

    /// Takes a claim out.
    pub fn withdraw(&mut self, address: IpAddr, claim: &Claim) {
        if let Some(claims) = self.0.get_mut(&address) {
            claims.remove(claim);
            if claims.is_empty() {
                self.0.remove(&address);
            }
        }
    }

    /// The pod whose address it is.
    pub fn owner(&self, address: IpAddr) -> Option<&Key> {
        Some(&self.0.get(&address)?.last()?.pod)
    }

    /// The addresses that are somebody's.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_that_is_plugged_in_has_it_then_the_youngest() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let claim = |pod: &str, plugged, created| Claim { plugged, created, pod: pod.into() };
        let mut claims = Claims::default();
        let owner = |claims: &Claims| claims.owner(address).map(ToString::to_string).unwrap_or_default();
        claims.make(address, claim("a/old", false, 1));
        claims.make(address, claim("a/young", false, 2));
        assert_eq!(owner(&claims), "a/young");
        claims.make(address, claim("a/here", true, 0));
        assert_eq!(owner(&claims), "a/here");
        claims.withdraw(address, &claim("a/here", true, 0));
        claims.withdraw(address, &claim("a/young", false, 2));
        assert_eq!(owner(&claims), "a/old");
        claims.withdraw(address, &claim("a/old", false, 1));
        assert_eq!((owner(&claims).as_str(), claims.addresses().count()), ("", 0));
    }
}
