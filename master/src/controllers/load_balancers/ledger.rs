//! Which Service has which addresses of the pool, and who may share one. Pure.
//!
//! Services share an address that each of them names in `spec.loadBalancerIP`, as long as no two of them have a port in
//! common. An address is announced by one node: where one of them wants its traffic to stay on that node
//! (`externalTrafficPolicy: Local`), all must have the same pods, or some would find none there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::pool::Pool;
use crate::controllers::machinery::Key;

/// What a Service wants of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// `spec.loadBalancerIP`, where it says anything.
    pub asked: Option<String>,
    /// For each of its families, the first first, whether that is IPv6.
    pub ipv6: Vec<bool>,
    /// Protocols and ports.
    pub ports: BTreeSet<(String, i32)>,
    /// Its traffic stays on the node that it comes to.
    pub local: bool,
    /// What selects its pods; `None` where nothing does.
    pub selector: Option<BTreeMap<String, String>>,
}

impl Claim {
    /// The address that it names.
    pub fn named(&self) -> Option<IpAddr> {
        self.asked.as_deref()?.parse().ok()
    }
}

/// Why a Service gets no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// All are in use.
    #[error("no address of {} is left in the pool {pool}", family(*.ipv6))]
    Exhausted {
        /// Which family it is about.
        ipv6: bool,
        /// The pool.
        pool: Pool,
    },
    /// The pool has none of the Service's families.
    #[error("the pool {pool} has no address of {}, which is what the Service has addresses of", family(*.ipv6))]
    OtherFamily {
        /// The Service's first family.
        ipv6: bool,
        /// The pool.
        pool: Pool,
    },
    /// `spec.loadBalancerIP` is not one of the pool's.
    #[error("the address {asked:?} that spec.loadBalancerIP asks for is not in the pool {pool}")]
    Foreign {
        /// What was asked for.
        asked: String,
        /// The pool.
        pool: Pool,
    },
    /// `spec.loadBalancerIP` is of a family that the Service is not of.
    #[error(
        "the address {asked} that spec.loadBalancerIP asks for is of {}, which is not among spec.ipFamilies",
        family(.asked.is_ipv6())
    )]
    NotOfIts {
        /// What was asked for.
        asked: IpAddr,
    },
    /// `spec.loadBalancerIP` is another Service's, which does not name it.
    #[error(
        "the address {asked} that spec.loadBalancerIP asks for is in use by the Service {by}, which does not name it itself \
         and so shares it with none"
    )]
    Taken {
        /// What was asked for.
        asked: IpAddr,
        /// Who has it.
        by: Key,
    },
    /// The address may be shared, a port of it not.
    #[error(
        "port {port}/{protocol} of the address {asked} that spec.loadBalancerIP asks for is in use by the Service {by}"
    )]
    Clash {
        /// What was asked for.
        asked: IpAddr,
        /// The port.
        port: i32,
        /// Its protocol.
        protocol: String,
        /// Who has it.
        by: Key,
    },
    /// One node announces the address, and the pods may be on different ones.
    #[error(
        "the address {asked} that spec.loadBalancerIP asks for is in use by the Service {by}: with externalTrafficPolicy \
         Local, Services share an address only in one namespace and with the same selector"
    )]
    OtherPods {
        /// What was asked for.
        asked: IpAddr,
        /// Who has it.
        by: Key,
    },
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

impl Refusal {
    /// The Service that is in the way, if one is.
    pub fn by(&self) -> Option<&Key> {
        match self {
            Refusal::Taken { by, .. } | Refusal::Clash { by, .. } | Refusal::OtherPods { by, .. } => Some(by),
            Refusal::Exhausted { .. }
            | Refusal::OtherFamily { .. }
            | Refusal::Foreign { .. }
            | Refusal::NotOfIts { .. } => None,
        }
    }
}

/// What a Service is given: an address of each of its families that there is one of, in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The addresses; one at least.
    pub addresses: Vec<IpAddr>,
    /// Why a family is missing of which the pool has addresses.
    pub lacks: Option<Refusal>,
}

/// Which Service has which addresses. The truth lies in the Services; this is what was read of it, and given since.
#[derive(Debug, Default)]
pub struct Ledger {
    holders: BTreeMap<IpAddr, BTreeSet<Key>>,
    /// Their addresses, and what they wanted when they got them.
    of: HashMap<Key, (Vec<IpAddr>, Claim)>,
}

impl Ledger {
    /// Notes that a Service has addresses already. Those that another one has that may not share them stay with that one.
    pub fn note(&mut self, service: &Key, claim: Claim, addresses: &[IpAddr]) {
        let free = addresses.iter().copied().filter(|a| self.may_have(*a, service, &claim).is_ok()).collect();
        self.put(service, claim, free);
    }

    /// A Service needs no address any more.
    pub fn release(&mut self, service: &Key) {
        let Some((addresses, _)) = self.of.remove(service) else { return };
        for address in addresses {
            if let Some(holders) = self.holders.get_mut(&address) {
                holders.remove(service);
                if holders.is_empty() {
                    self.holders.remove(&address);
                }
            }
        }
    }

    fn put(&mut self, service: &Key, claim: Claim, addresses: Vec<IpAddr>) {
        self.release(service);
        for address in &addresses {
            self.holders.entry(*address).or_default().insert(service.clone());
        }
        self.of.insert(service.clone(), (addresses, claim));
    }

    /// What a Service wanted when it got what it has.
    pub fn claim(&self, service: &Key) -> Option<&Claim> {
        self.of.get(service).map(|(_, claim)| claim)
    }

    /// Who has an address.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = &Key> {
        self.holders.get(&address).into_iter().flatten()
    }

    /// Whether a Service may have an address beside those who have it.
    fn may_have(&self, address: IpAddr, service: &Key, claim: &Claim) -> Result<(), Refusal> {
        let asked = address;
        for by in self.holders(address).filter(|by| *by != service) {
            let Some(other) = self.claim(by) else { continue };
            let by = by.clone();
            if claim.named() != Some(address) || other.named() != Some(address) {
                return Err(Refusal::Taken { asked, by });
            }
            if let Some((protocol, port)) = claim.ports.intersection(&other.ports).next() {
                return Err(Refusal::Clash { asked, port: *port, protocol: protocol.clone(), by });
            }
            let same_pods = service.namespace == by.namespace
                && claim.selector.is_some()
                && claim.selector == other.selector;
            if (claim.local || other.local) && !same_pods {
                return Err(Refusal::OtherPods { asked, by });
            }
        }
        Ok(())
    }

    /// The address that a Service names, if it may have it.
    fn named(&self, pool: &Pool, service: &Key, claim: &Claim) -> Result<Option<IpAddr>, Refusal> {
        let Some(asked) = &claim.asked else { return Ok(None) };
        let address = claim.named().filter(|a| pool.contains(*a));
        let foreign = || Refusal::Foreign { asked: asked.clone(), pool: pool.clone() };
        let address = address.ok_or_else(foreign)?;
        if !claim.ipv6.contains(&address.is_ipv6()) {
            return Err(Refusal::NotOfIts { asked: address });
        }
        self.may_have(address, service, claim)?;
        Ok(Some(address))
    }

    /// Gives a Service its addresses, one a family: the one that it asks for, else the one that it has, else the lowest
    /// free one. Who is refused has none afterwards.
    pub fn give(&mut self, pool: &Pool, service: &Key, claim: Claim) -> Result<Grant, Refusal> {
        let granted = self.choose(pool, service, &claim);
        match &granted {
            Ok(grant) => self.put(service, claim, grant.addresses.clone()),
            Err(_) => self.release(service),
        }
        granted
    }

    fn choose(&self, pool: &Pool, service: &Key, claim: &Claim) -> Result<Grant, Refusal> {
        let named = self.named(pool, service, claim)?;
        let has = self.of.get(service).map(|(addresses, _)| addresses.as_slice()).unwrap_or_default();
        let (mut addresses, mut lacks) = (Vec::new(), None);
        for ipv6 in claim.ipv6.iter().copied().filter(|ipv6| pool.has(*ipv6)) {
            let of_family = |address: &IpAddr| address.is_ipv6() == ipv6;
            let kept = || {
                let mine = has.iter().copied().find(of_family).filter(|a| pool.contains(*a));
                mine.filter(|a| self.may_have(*a, service, claim).is_ok())
            };
            let taken = |first, last| self.holders.range(first..=last).map(|(address, _)| *address);
            let address = named.filter(of_family).or_else(kept).or_else(|| pool.first_free(ipv6, taken));
            match address {
                Some(address) => addresses.push(address),
                None => lacks = lacks.or(Some(Refusal::Exhausted { ipv6, pool: pool.clone() })),
            }
        }
        if addresses.is_empty() {
            let ipv6 = claim.ipv6.first().copied().unwrap_or_default();
            return Err(lacks.unwrap_or_else(|| Refusal::OtherFamily { ipv6, pool: pool.clone() }));
        }
        Ok(Grant { addresses, lacks })
    }
}

#[cfg(test)]
mod tests;
