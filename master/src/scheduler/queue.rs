//! The scheduler's queue: what waits, for what, and in which order it is tried. Plain data; its owner tells
//! it the time.
//!
//! A pod is *active* (to be tried, most important first), *backing off* (tried lately), *unschedulable*
//! (waiting for a change that may help), or *gated* (its scheduling gates are not lifted yet, or it has no claims).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use actors::trace::{CAUSES_MAX, TraceContext};
use k8s_openapi::api::core::v1::{PodExtendedResourceClaimStatus, PodResourceClaimStatus};

use super::facts::Facts;
use super::plugins::{ALL, ClusterChange};
use super::pod::PodFacts;
use crate::controllers::machinery::meta::Key;

/// Pause after a pod's first failed attempt; doubles with each further one.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that waits this long is tried again even where no change seemed to help.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// Where a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To be tried.
    Active,
    /// Tried lately; active again at its time.
    BackingOff,
    /// Waits for a change.
    Unschedulable,
    /// Waits for its gates.
    Gated,
    /// Being tried.
    InCycle,
}

/// A pod in the queue.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The pod.
    pub pod: Arc<PodFacts>,
    /// Where it stands.
    pub place: Place,
    /// Failed attempts.
    pub attempts: u32,
    /// Who asked for the next attempt.
    pub causes: Vec<TraceContext>,
    /// Plugins that refused it last time; empty where something else failed.
    pub refused_by: Vec<&'static str>,
    added: u64,
    failed_at: Option<Instant>,
    /// Its place in the set by time.
    due: Option<Instant>,
    /// A change came while it was being tried that may help.
    helped: bool,
    /// The state of the cluster that the last attempt saw.
    seen: u64,
}

type ActiveKey = (Reverse<i32>, u64, Arc<str>);

/// See the module.
#[derive(Default)]
pub struct Queue {
    pods: HashMap<Arc<str>, Waiting>,
    active: BTreeSet<ActiveKey>,
    /// Backing off, and unschedulable ones by the time of their last resort.
    timed: BTreeSet<(Instant, Arc<str>)>,
    /// Gated pods by the claims of devices that they have.
    by_claim: HashMap<Key, BTreeSet<Arc<str>>>,
    serial: u64,
}

impl Queue {
    /// Adds a pod, or learns of its new state. A change of the pod itself may help it.
    pub fn set(&mut self, pod: Arc<PodFacts>, gated: bool, cause: TraceContext, now: Instant) {
        let uid = pod.uid.clone();
        match self.pods.remove(&uid) {
            None => {
                self.serial += 1;
                let place = if gated { Place::Gated } else { Place::Active };
                let waiting = Waiting {
                    pod,
                    place,
                    attempts: 0,
                    causes: Vec::new(),
                    refused_by: Vec::new(),
                    added: self.serial,
                    failed_at: None,
                    due: None,
                    helped: false,
                    seen: 0,
                };
                self.put(waiting, place, now);
            }
            Some(mut waiting) => {
                self.unlink(&waiting);
                let differs = spec_differs(&waiting.pod, &pod);
                waiting.pod = pod;
                let place = match waiting.place {
                    _ if gated => Place::Gated,
                    Place::Gated => Place::Active,
                    Place::Unschedulable if differs => Place::BackingOff,
                    Place::InCycle => {
                        waiting.helped |= differs;
                        Place::InCycle
                    }
                    place => place,
                };
                self.put(waiting, place, now);
            }
        }
        self.cause(&uid, cause);
    }

    fn cause(&mut self, uid: &str, cause: TraceContext) {
        if let Some(waiting) = self.pods.get_mut(uid)
            && !cause.is_none()
            && waiting.causes.len() < CAUSES_MAX
            && !waiting.causes.contains(&cause)
        {
            waiting.causes.push(cause);
        }
    }

    /// Forgets a pod: it is placed, ended or gone.
    pub fn remove(&mut self, uid: &str) -> bool {
        match self.pods.remove(uid) {
            Some(waiting) => {
                self.unlink(&waiting);
                true
            }
            None => false,
        }
    }

    /// A pod in the queue.
    pub fn get(&self, uid: &str) -> Option<&Waiting> {
        self.pods.get(uid)
    }

    /// Gated pods that have this claim of devices, as far as is known yet.
    pub fn gated_on(&self, claim: &Key) -> Vec<Key> {
        let uids = self.by_claim.get(claim).into_iter().flatten();
        let pods = uids.filter_map(|uid| self.pods.get(uid)).map(|w| &w.pod);
        pods.map(|pod| Key::new(&pod.namespace, &pod.name)).collect()
    }

    /// The next pod to try.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        self.wake(now);
        let (_, _, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.place = Place::InCycle;
        waiting.helped = false;
        let out = waiting.clone();
        waiting.causes.clear();
        Some(out)
    }

    /// An attempt begins, on the cluster as it is at a revision. It sees what came before.
    pub fn begin(&mut self, uid: &str, revision: u64) -> Option<&Waiting> {
        let waiting = self.pods.get_mut(uid).filter(|w| w.place == Place::InCycle)?;
        (waiting.helped, waiting.seen) = (false, revision);
        Some(waiting)
    }

    /// An attempt failed: by these plugins, or for another reason (then it is only a matter of time).
    pub fn failed(&mut self, uid: &str, refused_by: Vec<&'static str>, now: Instant) {
        let Some(mut waiting) = self.pods.remove(uid) else { return };
        self.unlink(&waiting);
        waiting.attempts += 1;
        waiting.failed_at = Some(now);
        let soon = waiting.helped || refused_by.is_empty();
        waiting.refused_by = refused_by;
        self.put(waiting, if soon { Place::BackingOff } else { Place::Unschedulable }, now);
    }

    /// Lets every pod try again that a change may help. Pods that saw it, by its revision, were not helped by it.
    pub fn changed(
        &mut self,
        (change, revision): (&ClusterChange, Option<u64>),
        facts: &Facts,
        cause: TraceContext,
        now: Instant,
    ) {
        let is_new = |w: &Waiting| revision.is_none_or(|r| r > w.seen);
        let helps = |w: &Waiting| {
            is_new(w)
                && ALL.iter().any(|p| w.refused_by.contains(&p.name()) && p.may_help(&w.pod, change, facts))
        };
        let mut woken = Vec::new();
        for (uid, waiting) in &mut self.pods {
            match waiting.place {
                // Which plugins will refuse it is not known yet: any change counts.
                Place::InCycle => waiting.helped |= is_new(waiting),
                Place::Unschedulable if helps(waiting) => woken.push(uid.clone()),
                _ => {}
            }
        }
        for uid in woken {
            let Some(waiting) = self.pods.remove(&uid) else { continue };
            self.unlink(&waiting);
            self.put(waiting, Place::BackingOff, now);
            self.cause(&uid, cause);
        }
    }

    /// Lets every unschedulable pod try again: for what no plugin knows of (a pod with no nodes at all).
    pub fn retry_all(&mut self, cause: TraceContext, now: Instant) {
        let all = self.pods.iter().filter(|(_, w)| w.place == Place::Unschedulable);
        for uid in all.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
            let Some(waiting) = self.pods.remove(&uid) else { continue };
            self.unlink(&waiting);
            self.put(waiting, Place::BackingOff, now);
            self.cause(&uid, cause);
        }
    }

    /// When the next pod becomes active by itself.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Whether a pod can be tried now.
    pub fn is_ready(&mut self, now: Instant) -> bool {
        self.wake(now);
        !self.active.is_empty()
    }

    /// How many pods stand at a place.
    pub fn count(&self, place: Place) -> usize {
        self.pods.values().filter(|w| w.place == place).count()
    }

    fn wake(&mut self, now: Instant) {
        while self.timed.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, uid)) = self.timed.pop_first() else { break };
            let Some(mut waiting) = self.pods.remove(&uid) else { continue };
            waiting.due = None;
            let place = match waiting.place {
                // Its last resort: it may still have to back off.
                Place::Unschedulable => Place::BackingOff,
                _ => Place::Active,
            };
            self.put(waiting, place, now);
        }
    }

    fn put(&mut self, mut waiting: Waiting, place: Place, now: Instant) {
        let uid = waiting.pod.uid.clone();
        let ready_at = waiting.failed_at.map_or(now, |at| at + backoff(waiting.attempts));
        waiting.place = match place {
            Place::BackingOff if ready_at <= now => Place::Active,
            place => place,
        };
        waiting.due = match waiting.place {
            Place::BackingOff => Some(ready_at),
            Place::Unschedulable => Some(now + UNSCHEDULABLE_MAX),
            _ => None,
        };
        if waiting.place == Place::Active {
            self.active.insert((Reverse(waiting.pod.priority), waiting.added, uid.clone()));
        } else if let Some(at) = waiting.due {
            self.timed.insert((at, uid.clone()));
        } else if waiting.place == Place::Gated {
            for claim in claims(&waiting.pod) {
                self.by_claim.entry(claim).or_default().insert(uid.clone());
            }
        }
        self.pods.insert(uid, waiting);
    }

    fn unlink(&mut self, waiting: &Waiting) {
        let uid = waiting.pod.uid.clone();
        self.active.remove(&(Reverse(waiting.pod.priority), waiting.added, uid.clone()));
        if let Some(at) = waiting.due {
            self.timed.remove(&(at, uid.clone()));
        }
        if waiting.place == Place::Gated {
            for claim in claims(&waiting.pod) {
                let Some(pods) = self.by_claim.get_mut(&claim) else { continue };
                pods.remove(&uid);
                if pods.is_empty() {
                    self.by_claim.remove(&claim);
                }
            }
        }
    }
}

/// The claims of devices that a pod names.
fn claims(pod: &PodFacts) -> impl Iterator<Item = Key> {
    pod.device_claims.iter().map(|name| Key::new(&pod.namespace, name))
}

/// The pause after so many failed attempts.
pub fn backoff(attempts: u32) -> Duration {
    let doubled =
        BACKOFF_MIN.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(BACKOFF_MAX)
}

type Claims<'a> = (Option<&'a [PodResourceClaimStatus]>, Option<&'a PodExtendedResourceClaimStatus>);

/// Whether a pod changed in what scheduling looks at: of its status (which the scheduler writes) only its claims count.
fn spec_differs(a: &PodFacts, b: &PodFacts) -> bool {
    fn claims(p: &PodFacts) -> Option<Claims<'_>> {
        let status = p.pod.status.as_ref()?;
        Some((status.resource_claim_statuses.as_deref(), status.extended_resource_claim_status.as_ref()))
            .filter(|(named, made)| named.is_some() || made.is_some())
    }
    a.pod.spec != b.pod.spec || a.pod.metadata.labels != b.pod.metadata.labels || claims(a) != claims(b)
}

#[cfg(test)]
mod tests;
