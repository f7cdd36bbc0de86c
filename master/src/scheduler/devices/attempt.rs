//! What a search has chosen so far, and whether one device more goes with it.

use std::collections::HashMap;

use super::capacity::{consumed, has_room};
use super::constraints::Constraint;
use super::counters::{Ledger, has_uses};
use super::request::{Request, Wanted};
use super::slices::{Offered, Pool};
use super::taints::repels;
use super::taken::{Amounts, Taken};

/// Where a device is among the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The pool.
    pub pool: usize,
    /// The device in it.
    pub device: usize,
}

/// A device chosen for a request.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The request's place in its claim.
    pub request: usize,
    /// Which of its alternatives.
    pub alternative: usize,
    /// The device.
    pub spot: Spot,
    /// What is taken of it, if others may have the rest.
    pub share: Option<Amounts>,
    /// Whether its pool's counters were charged for it.
    counted: bool,
}

/// Why a device was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It does not go with the claim's others.
    Constraint,
    /// For any other reason.
    Other,
}

/// See the module.
pub(super) struct Attempt<'a> {
    pools: &'a [Pool],
    taken: &'a Taken,
    /// By pool and device: whether somebody has it alone.
    alone: Vec<Vec<bool>>,
    constraints: Vec<Vec<Constraint>>,
    ledger: Ledger,
    /// Which claims have a device for themselves.
    holders: HashMap<Spot, Vec<usize>>,
    /// What the claims take of shared devices.
    shares: HashMap<Spot, Vec<Amounts>>,
    /// By claim.
    pub chosen: Vec<Vec<Chosen>>,
}

impl<'a> Attempt<'a> {
    /// With nothing chosen.
    pub fn new(wanted: &[Wanted], pools: &'a [Pool], taken: &'a Taken) -> Self {
        let alone = |pool: &Pool| pool.devices.iter().map(|d| taken.is_taken(&d.id())).collect();
        Attempt {
            pools,
            taken,
            alone: pools.iter().map(alone).collect(),
            constraints: wanted.iter().map(|w| w.constraints.clone()).collect(),
            ledger: Ledger::default(),
            holders: HashMap::new(),
            shares: HashMap::new(),
            chosen: vec![Vec::new(); wanted.len()],
        }
    }

    /// The device at a place.
    pub fn offered(&self, spot: Spot) -> &'a Offered {
        &self.pools[spot.pool].devices[spot.device]
    }

    /// Whether a device cannot be had for a claim, whatever is asked for.
    pub fn is_in_use(&self, claim: usize, request: &Request, spot: Spot) -> bool {
        let holders = self.holders.get(&spot);
        if request.admin {
            return holders.is_some_and(|h| h.contains(&claim));
        }
        holders.is_some_and(|h| !h.is_empty()) || self.alone[spot.pool][spot.device]
    }

    /// What a request would take of a device, if there is so much left.
    pub fn share(&self, request: &Request, spot: Spot) -> Option<Amounts> {
        let offered = self.offered(spot);
        let amounts = consumed(offered.device(), request.capacity.as_ref())?;
        let id = offered.id();
        let mut used = vec![self.taken.consumed(&id)];
        used.extend(self.shares.get(&spot).into_iter().flatten().map(Some));
        has_room(offered.device(), &amounts, &used).then_some(amounts)
    }

    /// Chooses a device, if it goes with what is chosen already.
    pub fn choose(
        &mut self,
        claim: usize,
        request: &Request,
        (at, alternative): (usize, usize),
        spot: Spot,
    ) -> Result<(), Unfit> {
        let offered = self.offered(spot);
        let (driver, device) = (&offered.slice.spec.driver, offered.device());
        if self.is_in_use(claim, request, spot) {
            return Err(Unfit::Other);
        }
        if device.taints.iter().flatten().any(|taint| repels(taint, &request.tolerations)) {
            return Err(Unfit::Other);
        }
        let share = self.share(request, spot).ok_or(Unfit::Other)?;
        let shared = offered.is_shared();
        // Whoever was first has paid for all who share.
        let paid = shared
            && (self.taken.consumed(&offered.id()).is_some()
                || self.shares.get(&spot).is_some_and(|s| !s.is_empty()));
        let counted = has_uses(device) && !paid;
        if counted && !self.ledger.add(spot.pool, &self.pools[spot.pool], device, self.taken) {
            return Err(Unfit::Other);
        }
        let constraints = &mut self.constraints[claim];
        if let Some(bad) = (0..constraints.len()).find(|i| !constraints[*i].add(request, driver, device)) {
            constraints[..bad].iter_mut().for_each(|c| c.remove(request));
            if counted {
                self.ledger.remove(spot.pool, device);
            }
            return Err(Unfit::Constraint);
        }
        if shared {
            self.shares.entry(spot).or_default().push(share.clone());
        } else {
            self.holders.entry(spot).or_default().push(claim);
        }
        let share = shared.then_some(share);
        self.chosen[claim].push(Chosen { request: at, alternative, spot, share, counted });
        Ok(())
    }

    /// Gives the device back that was chosen last for a claim.
    pub fn give_back(&mut self, claim: usize, request: &Request) {
        let Some(last) = self.chosen[claim].pop() else { return };
        let device = self.offered(last.spot).device();
        self.constraints[claim].iter_mut().for_each(|c| c.remove(request));
        if last.counted {
            self.ledger.remove(last.spot.pool, device);
        }
        if last.share.is_some() {
            self.shares.get_mut(&last.spot).map(Vec::pop);
        } else if let Some(holders) = self.holders.get_mut(&last.spot) {
            holders.pop();
        }
    }
}
