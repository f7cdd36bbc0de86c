//! What a pod's claims ask for: read once, then answered node by node.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerExtendedResourceRequest, Node};
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};
use k8s_openapi::jiff::Timestamp;

use super::attempt::Chosen;
use super::claims::{of_pod, wanted};
use super::conditions::{Readiness, readiness};
use super::extended::{Extended, Variant};
use super::outcome::allocation;
use super::request::{Wanted, shown};
use super::selectors::Compiler;
use super::slices::{Pool, Slices};
use super::taken::Taken;
use super::{ALTERNATIVES_MAX, Budget, Cluster, Trouble, allocator};
use crate::controllers::machinery::meta::{name, uid};
use crate::scheduler::pod::{NodeTerm, PodFacts, node_terms};
use crate::scheduler::resources::Amounts;

/// Why a node is refused for a claim that is allocated already.
pub const NOT_AVAILABLE: &str = "resourceclaim not available on the node";

/// See the module.
pub struct Demand {
    pod: Arc<str>,
    /// The claims that the pod names, with where they are allocated to; `None` for anywhere.
    claims: Vec<(Arc<ResourceClaim>, Option<Vec<NodeTerm>>)>,
    /// Those of them that are not allocated.
    wanted: Vec<Wanted>,
    /// Its extended resources, which may be had by a claim that is made for them.
    extended: Option<Extended>,
    slices: Slices,
    taken: Taken,
    now: Timestamp,
    compiler: RefCell<Compiler>,
    budget: RefCell<Budget>,
}

/// Devices found for a pod's claims on a node.
pub struct Found {
    pools: Vec<Pool>,
    /// By claim that is not allocated; the one for extended resources comes last.
    chosen: Vec<Vec<Chosen>>,
    variant: Option<Rc<Variant>>,
}

/// A claim that has to be reserved for its pod before that is bound, unless it is already.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// The claim.
    pub claim: Arc<ResourceClaim>,
    /// Its devices, where it has none yet.
    pub allocation: Option<Arc<AllocationResult>>,
    /// Where the claim is for extended resources, and still to be made: for which container each request is.
    pub made_for: Option<Arc<Vec<ContainerExtendedResourceRequest>>>,
}

fn allocated(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

impl Demand {
    /// What a pod asks for; `Ok(None)` where that is nothing. The error is why no node would do.
    pub fn of(cluster: Cluster<'_>, pod: &PodFacts, now: Timestamp) -> Result<Option<Self>, String> {
        let extended = Extended::of(&cluster, pod);
        if wanted(&pod.pod).is_empty() && extended.is_none() {
            return Ok(None);
        }
        let mut compiler = Compiler::default();
        let (mut claims, mut news) = (Vec::new(), Vec::new());
        for claim in of_pod(cluster.snapshot, &pod.pod)? {
            let Some(allocation) = allocated(&claim) else {
                if cluster.pending.contains_key(uid(&claim.metadata)) {
                    let claim = shown(&claim);
                    return Err(format!("resource claim {claim} is in the process of being allocated"));
                }
                news.push(Wanted::of(cluster.snapshot, &claim, &mut compiler)?);
                claims.push((claim, None));
                continue;
            };
            let terms = allocation.node_selector.as_ref().map(node_terms);
            claims.push((claim, terms));
        }
        if claims.is_empty() && extended.is_none() {
            return Ok(None);
        }
        let (slices, taken) = match news.is_empty() && extended.is_none() {
            true => Default::default(),
            false => (Slices::of(cluster.snapshot), Taken::of(cluster.taken.clone(), cluster.pending)),
        };
        Ok(Some(Demand {
            pod: pod.uid.clone(),
            claims,
            wanted: news,
            extended,
            slices,
            taken,
            now,
            compiler: compiler.into(),
            budget: RefCell::default(),
        }))
    }

    /// Claims that are allocated, but of no use on a node.
    pub fn unavailable(&self, node: &Node) -> impl Iterator<Item = &Arc<ResourceClaim>> {
        let labels = node.metadata.labels.as_ref();
        let label = move |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
        let reached = move |terms: &Option<Vec<NodeTerm>>| {
            terms.as_ref().is_none_or(|t| t.iter().any(|t| t.matches(name(&node.metadata), label)))
        };
        let usable = move |claim: &ResourceClaim| {
            allocated(claim).is_none()
                || matches!(readiness(claim, self.now), Readiness::Ready | Readiness::Pending)
        };
        self.claims.iter().filter(move |(c, terms)| !reached(terms) || !usable(c)).map(|(claim, _)| claim)
    }

    /// Devices for the pod on a node that has so much of everything else.
    pub fn on(&self, node: &Node, has: &Amounts) -> Result<Found, Trouble> {
        let variant = match &self.extended {
            Some(extended) => extended.on(has, &self.wanted, &mut self.compiler.borrow_mut())?,
            None => None,
        };
        let wanted = variant.as_ref().map_or(&self.wanted, |v| &v.wanted);
        let (pools, chosen) = match wanted.is_empty() {
            true => Default::default(),
            false => {
                let pools = self.slices.pools(node);
                let budget = &mut self.budget.borrow_mut();
                let chosen = allocator::search(wanted, &pools, &self.taken, node, budget)?;
                let none = || Trouble::Node("cannot allocate all claims".to_owned());
                (pools, chosen.ok_or_else(none)?)
            }
        };
        if self.unavailable(node).next().is_some() {
            return Err(Trouble::Node(NOT_AVAILABLE.to_owned()));
        }
        Ok(Found { pools, chosen, variant })
    }

    /// How good devices are: the earlier of alternatives is the better one. `None` where the claims have none.
    pub fn score(&self, found: &Found) -> Option<i64> {
        let mut score = None;
        let mut news = self.wanted.iter().zip(&found.chosen);
        for (claim, _) in &self.claims {
            let given: Vec<String> = match allocated(claim) {
                Some(allocation) => {
                    let results = allocation.devices.iter().flat_map(|d| d.results.iter().flatten());
                    results.map(|r| r.request.clone()).collect()
                }
                None => {
                    let Some((wanted, chosen)) = news.next() else { continue };
                    chosen.iter().map(|c| wanted.requests[c.request][c.alternative].full_name()).collect()
                }
            };
            let requests = claim.spec.devices.iter().flat_map(|d| d.requests.iter().flatten());
            for request in requests.filter(|r| r.exactly.is_none()) {
                for (i, sub) in request.first_available.iter().flatten().enumerate() {
                    if given.contains(&format!("{}/{}", request.name, sub.name)) {
                        *score.get_or_insert(0) += ALTERNATIVES_MAX.saturating_sub(i) as i64;
                    }
                }
            }
        }
        score
    }

    /// The pod's claims, with the devices that they get on a node.
    pub fn reservations(
        &self,
        found: &Found,
        node: &str,
        share: &mut dyn FnMut() -> String,
    ) -> Vec<Reservation> {
        let mut news = self.wanted.iter().zip(&found.chosen);
        let mut out = Vec::new();
        for (claim, _) in &self.claims {
            let new = if allocated(claim).is_none() { news.next() } else { None };
            let allocation =
                new.map(|(w, chosen)| Arc::new(allocation(w, chosen, &found.pools, node, share)));
            out.push(Reservation { claim: claim.clone(), allocation, made_for: None });
        }
        if let Some((variant, chosen)) = found.variant.as_ref().zip(found.chosen.last())
            && let Some(wanted) = variant.wanted.last()
        {
            let allocation = allocation(wanted, chosen, &found.pools, node, share);
            out.push(Reservation {
                claim: variant.claim.clone(),
                allocation: Some(Arc::new(allocation)),
                made_for: Some(variant.mappings.clone()),
            });
        }
        out
    }

    /// A claim that an attempt before this one has left behind, made for the pod's extended resources.
    pub fn stale(&self) -> Option<&Arc<ResourceClaim>> {
        self.extended.as_ref()?.stale()
    }

    /// An allocated claim of no use on these nodes that nobody but the pod uses: giving up what it has may help.
    pub fn idle<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> Option<Arc<ResourceClaim>> {
        for node in nodes {
            let idle = |claim: &&Arc<ResourceClaim>| {
                let reserved = claim.status.as_ref().and_then(|s| s.reserved_for.as_deref());
                allocated(claim).is_some() && reserved.unwrap_or_default().iter().all(|r| *r.uid == *self.pod)
            };
            if let Some(claim) = self.unavailable(node).find(idle) {
                return Some(claim.clone());
            }
        }
        None
    }
}
