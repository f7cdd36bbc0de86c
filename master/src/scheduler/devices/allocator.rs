//! The search for devices: one claim, one request, one device after the other, and back where it leads nowhere. The first
//! solution is taken; the search goes through devices in one order, so that it ends the same way every time.
//!
//! What is to be done next and what has been done lie on a stack of its own, not on the thread's: a pod may claim many
//! devices.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Node;

use super::attempt::{Attempt, Chosen, Spot, Unfit};
use super::request::{Count, Request, Wanted, shown};
use super::slices::{Pool, State};
use super::taken::Taken;
use super::{Budget, DEVICES_MAX, Trouble};
use crate::controllers::machinery::meta::name;

/// One request of one claim, in one of its alternatives.
type Place = (usize, usize, usize);

/// The next device to choose.
#[derive(Clone, Copy, Debug)]
struct Next {
    claim: usize,
    request: usize,
    /// `None` while none is chosen.
    alternative: Option<usize>,
    /// How many devices the request has.
    count: usize,
    /// Where to look from: a request's devices come in order, so that no choice is tried in two orders.
    from: Spot,
}

/// What was done, for going back.
enum Done {
    /// An alternative was begun; whether all before it asked for too many devices.
    Alternative(Next, usize, bool),
    /// A device was chosen.
    Device(Next, Spot),
}

/// Why there is no way on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dead {
    /// There is no such device.
    End,
    /// The claim, by its place, would have too many devices: other devices do not help, fewer might.
    TooMany(usize),
}

const FIRST: Spot = Spot { pool: 0, device: 0 };

struct Search<'a> {
    wanted: &'a [Wanted],
    pools: &'a [Pool],
    node: &'a Node,
    budget: &'a mut Budget,
    attempt: Attempt<'a>,
    /// Where every device is asked for: which.
    all: HashMap<Place, Vec<Spot>>,
    /// What is known of whether a request selects a device.
    selected: HashMap<(Place, Spot), bool>,
}

/// Chooses devices for claims on a node; `None` where there are none.
pub(super) fn search(
    wanted: &[Wanted],
    pools: &[Pool],
    taken: &Taken,
    node: &Node,
    budget: &mut Budget,
) -> Result<Option<Vec<Vec<Chosen>>>, Trouble> {
    let attempt = Attempt::new(wanted, pools, taken);
    let (all, selected) = (HashMap::new(), HashMap::new());
    let mut search = Search { wanted, pools, node, budget, attempt, all, selected };
    for claim in 0..wanted.len() {
        search.measure(claim)?;
    }
    if search.run()? {
        return Ok(Some(search.attempt.chosen));
    }
    if pools.iter().any(|p| p.state == State::Invalid) {
        return Err(Trouble::Node("invalid resource pools were encountered".to_owned()));
    }
    Ok(None)
}

impl Search<'_> {
    fn request(&self, (claim, request, alternative): Place) -> &Request {
        &self.wanted[claim].requests[request][alternative]
    }

    fn spend(&mut self) -> Result<(), Trouble> {
        if self.budget.steps == 0 || self.budget.cost == 0 {
            let node = name(&self.node.metadata);
            return Err(Trouble::Broken(format!("node {node}: timed out trying to allocate devices")));
        }
        self.budget.steps -= 1;
        Ok(())
    }

    fn selects(&mut self, place: Place, spot: Spot) -> Result<bool, Trouble> {
        if let Some(known) = self.selected.get(&(place, spot)) {
            return Ok(*known);
        }
        let request = &self.wanted[place.0].requests[place.1][place.2];
        let selects = request.selects(self.node, self.attempt.offered(spot), self.budget)?;
        self.selected.insert((place, spot), selects);
        Ok(selects)
    }

    /// Finds out how many devices a claim needs at least, and which where it wants all.
    fn measure(&mut self, claim: usize) -> Result<(), Trouble> {
        let mut least = 0usize;
        for request in 0..self.wanted[claim].requests.len() {
            let mut fewest = usize::MAX;
            for alternative in 0..self.wanted[claim].requests[request].len() {
                let place = (claim, request, alternative);
                if self.request(place).count == Count::All {
                    let all = self.every(place)?;
                    self.all.insert(place, all);
                }
                fewest = fewest.min(self.count(place));
            }
            least = least.saturating_add(fewest);
        }
        if least > DEVICES_MAX {
            let claim = shown(&self.wanted[claim].claim);
            return Err(Trouble::Broken(format!(
                "claim {claim}: number of requested devices {least} exceeds the claim limit of {DEVICES_MAX}"
            )));
        }
        Ok(())
    }

    /// Every device that a request selects.
    fn every(&mut self, place: Place) -> Result<Vec<Spot>, Trouble> {
        let mut all = Vec::new();
        for (at, pool) in self.pools.iter().enumerate() {
            let why = match pool.state {
                State::Usable => None,
                State::Incomplete => Some("being updated"),
                State::Invalid => Some("invalid"),
            };
            if let Some(why) = why {
                let (claim, request) = (shown(&self.wanted[place.0].claim), self.request(place).own_name());
                return Err(Trouble::Broken(format!(
                    "claim {claim}, request {request}: asks for all devices, but resource pool {}/{} is currently {why}",
                    pool.driver, pool.name
                )));
            }
            for device in 0..pool.devices.len() {
                let spot = Spot { pool: at, device };
                self.spend()?;
                if self.selects(place, spot)? && self.attempt.share(self.request(place), spot).is_some() {
                    all.push(spot);
                }
            }
        }
        Ok(all)
    }

    fn count(&self, place: Place) -> usize {
        match self.request(place).count {
            Count::Exactly(count) => count,
            Count::All => self.all.get(&place).map_or(0, Vec::len),
        }
    }

    fn run(&mut self) -> Result<bool, Trouble> {
        let mut done: Vec<Done> = Vec::new();
        let mut next = Next { claim: 0, request: 0, alternative: None, count: 0, from: FIRST };
        loop {
            self.spend()?;
            let Some(wanted) = self.wanted.get(next.claim) else { return Ok(true) };
            let Some(alternatives) = wanted.requests.get(next.request) else {
                next = Next { claim: next.claim + 1, request: 0, alternative: None, count: 0, from: FIRST };
                continue;
            };
            let Some(alternative) = next.alternative else {
                if alternatives.first().is_some_and(Request::is_alternative) {
                    done.push(Done::Alternative(next, 0, true));
                }
                next.alternative = Some(0);
                continue;
            };
            let place = (next.claim, next.request, alternative);
            let all = self.request(place).count == Count::All;
            let dead = if all && self.count(place) == 0 {
                Dead::End
            } else if next.count >= self.count(place) {
                next = Next { request: next.request + 1, alternative: None, count: 0, from: FIRST, ..next };
                continue;
            } else if self.attempt.chosen[next.claim].len() + self.count(place) - next.count > DEVICES_MAX {
                Dead::TooMany(next.claim)
            } else if let Some(spot) = self.find(place, next)? {
                done.push(Done::Device(next, spot));
                let from = Spot { pool: spot.pool, device: spot.device + 1 };
                next = Next { count: next.count + 1, from, ..next };
                continue;
            } else {
                Dead::End
            };
            match self.go_back(&mut done, dead)? {
                Ok(other) => next = other,
                Err(Dead::End) => return Ok(false),
                Err(Dead::TooMany(_)) => {
                    return Err(Trouble::Broken("allocation max size exceeded".to_owned()));
                }
            }
        }
    }

    /// Takes back what was done last, as far as something else can be done instead.
    fn go_back(&mut self, done: &mut Vec<Done>, mut dead: Dead) -> Result<Result<Next, Dead>, Trouble> {
        while let Some(last) = done.pop() {
            let (Done::Device(was, _) | Done::Alternative(was, ..)) = &last;
            // Too many for one claim is no reason not to try other devices for the claims before it.
            if matches!(dead, Dead::TooMany(claim) if was.claim < claim) {
                dead = Dead::End;
            }
            match last {
                Done::Device(was, spot) => {
                    let place = (was.claim, was.request, was.alternative.unwrap_or_default());
                    let request = &self.wanted[place.0].requests[place.1][place.2];
                    self.attempt.give_back(was.claim, request);
                    // Where all are wanted there is no other.
                    if dead == Dead::End && request.count != Count::All {
                        let from = Spot { pool: spot.pool, device: spot.device + 1 };
                        return Ok(Ok(Next { from, ..was }));
                    }
                }
                Done::Alternative(was, tried, too_many) => {
                    let too_many = too_many && dead != Dead::End;
                    if tried + 1 < self.wanted[was.claim].requests[was.request].len() {
                        done.push(Done::Alternative(was, tried + 1, too_many));
                        return Ok(Ok(Next { alternative: Some(tried + 1), ..was }));
                    }
                    dead = if too_many { Dead::TooMany(was.claim) } else { Dead::End };
                }
            }
        }
        Ok(Err(dead))
    }

    /// Chooses the next device for a request.
    fn find(&mut self, place: Place, next: Next) -> Result<Option<Spot>, Trouble> {
        let at = (place.1, place.2);
        if let Some(spot) = self.all.get(&place).and_then(|all| all.get(next.count)).copied() {
            let request = &self.wanted[place.0].requests[place.1][place.2];
            return match self.attempt.choose(place.0, request, at, spot) {
                Ok(()) => Ok(Some(spot)),
                Err(Unfit::Other) => Ok(None),
                Err(Unfit::Constraint) => {
                    let claim = shown(&self.wanted[place.0].claim);
                    let (request, device) = (request.own_name(), self.attempt.offered(spot).id());
                    Err(Trouble::Broken(format!(
                        "claim {claim}, request {request}: cannot add device {device} because a claim constraint would not be satisfied"
                    )))
                }
            };
        }
        for pool in next.from.pool..self.pools.len() {
            if self.pools[pool].state != State::Usable {
                continue;
            }
            let first = if pool == next.from.pool { next.from.device } else { 0 };
            for device in first..self.pools[pool].devices.len() {
                let spot = Spot { pool, device };
                self.spend()?;
                let request = &self.wanted[place.0].requests[place.1][place.2];
                if self.attempt.is_in_use(place.0, request, spot) || !self.selects(place, spot)? {
                    continue;
                }
                if self.attempt.choose(place.0, request, at, spot).is_ok() {
                    return Ok(Some(spot));
                }
            }
        }
        Ok(None)
    }
}
