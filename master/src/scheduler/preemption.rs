//! DefaultPreemption: which pods of lower priority would have to go for a pod to fit. Pure.

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::cycle::{Plan, Refusal, explain_reasons};
use super::facts::{Facts, Slot};
use super::plugins::dynamic_resources::Devices;
use super::plugins::{About, Incoming};
use super::pod::PodFacts;
use crate::controllers::machinery::labels::selector_option;
use crate::controllers::machinery::pods::condition;

/// Candidates that are looked at: a tenth of the nodes, but at least this many.
const CANDIDATES_MIN: usize = 100;

/// The reason in the condition of pods that were evicted for others.
pub const PREEMPTED: &str = "PreemptionByScheduler";

/// What preemption would do.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Delete these, and keep the node for the pod.
    Evict {
        /// The node.
        node: Slot,
        /// Pods to delete, the most important first.
        victims: Vec<Arc<PodFacts>>,
    },
    /// It would not help; the text says why, for people. What the pod was promised before is void.
    Helpless(String),
    /// The pod may not, or not yet; the text says why.
    NotEligible(String),
}

struct Candidate {
    node: Slot,
    victims: Vec<Arc<PodFacts>>,
    violations: usize,
}

/// Looks for pods to evict, on nodes that refused the pod for now.
pub fn decide(of: Incoming<'_>, refusals: &[Refusal], budgets: &[Arc<PodDisruptionBudget>]) -> Outcome {
    let Incoming { pod, facts, devices } = of;
    if let Some(why) = forbidden(facts, pod, refusals) {
        return Outcome::NotEligible(format!("not eligible due to {why}."));
    }
    let mut reasons: Vec<String> = Vec::new();
    let mut candidates = Vec::new();
    let limit = (facts.len() / 10).max(CANDIDATES_MIN);
    let mut trial = None;
    for refusal in refusals {
        if refusal.rejection.about != About::Pods {
            reasons.push("Preemption is not helpful for scheduling".to_owned());
            continue;
        }
        if candidates.len() >= limit {
            break;
        }
        let trial = trial.get_or_insert_with(|| facts.clone());
        match victims_on(trial, (pod, devices), refusal.node, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => reasons.extend(why),
        }
    }
    match candidates.into_iter().min_by_key(cost) {
        Some(best) => Outcome::Evict { node: best.node, victims: best.victims },
        None => Outcome::Helpless(explain_reasons(facts.len(), reasons.iter().map(String::as_str))),
    }
}

/// What keeps a pod from pushing others out.
fn forbidden(facts: &Facts, pod: &PodFacts, refusals: &[Refusal]) -> Option<&'static str> {
    let spec = pod.pod.spec.as_ref();
    if spec.and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Some("preemptionPolicy=Never");
    }
    let nominated =
        pod.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).unwrap_or_default();
    let node = facts.slot(nominated)?;
    // A node that will not do whoever leaves it is not worth waiting for.
    let refusal = refusals.iter().find(|r| r.node == node);
    if refusal.is_some_and(|r| r.rejection.about != About::Pods) {
        return None;
    }
    // Its victims are still on their way out.
    let leaves = |p: &Arc<PodFacts>| p.priority < pod.priority && is_victim(p);
    facts.pods(node).iter().any(leaves).then_some("a terminating pod on the nominated node")
}

/// Whether a pod is being deleted to make room for another.
fn is_victim(pod: &PodFacts) -> bool {
    pod.deleting
        && condition(&pod.pod, "DisruptionTarget")
            .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(PREEMPTED))
}

/// Smaller is better: fewer broken budgets, a less important most important victim, less importance in
/// total, fewer victims, and then those that have run for the shortest time.
fn cost(c: &Candidate) -> (usize, i32, i64, usize, i64) {
    let highest = c.victims.iter().map(|v| v.priority).max().unwrap_or(i32::MIN);
    let sum = c.victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
    let earliest = c.victims.iter().filter(|v| v.priority == highest).map(|v| v.started).min().unwrap_or(0);
    (c.violations, highest, sum, c.victims.len(), -earliest)
}

/// The fewest, least important pods that have to leave a node. `facts` is left as it was.
fn victims_on(
    facts: &mut Facts,
    (pod, devices): (&PodFacts, &Devices),
    node: Slot,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Result<Candidate, Vec<String>> {
    let name = facts.name(node).clone();
    let mut lower: Vec<Arc<PodFacts>> =
        facts.pods(node).iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    for victim in &lower {
        facts.remove_pod(&victim.uid);
    }
    let without = Plan::new(Incoming { pod, facts, devices }).filter(node);
    if let Err(refusal) = without {
        for victim in lower {
            facts.set_pod(&name, victim);
        }
        return Err(refusal.rejection.reasons);
    }
    // The important ones, and those whose budgets would break, are the first to be let stay.
    lower.sort_by_key(|p| (std::cmp::Reverse(p.priority), p.started));
    let violating = violating(&lower, budgets);
    let order = lower
        .iter()
        .zip(&violating)
        .filter(|(_, v)| **v)
        .chain(lower.iter().zip(&violating).filter(|(_, v)| !**v));
    let mut victims = Vec::new();
    let mut violations = 0;
    for (candidate, violates) in order {
        facts.set_pod(&name, candidate.clone());
        let still_fits = Plan::new(Incoming { pod, facts, devices }).filter(node).is_ok();
        if !still_fits {
            facts.remove_pod(&candidate.uid);
            victims.push(candidate.clone());
            violations += usize::from(*violates);
        }
    }
    for victim in &victims {
        facts.set_pod(&name, victim.clone());
    }
    victims.sort_by_key(|p| std::cmp::Reverse(p.priority));
    Ok(Candidate { node, victims, violations })
}

/// Which pods, evicted in this order, would break a disruption budget.
fn violating(pods: &[Arc<PodFacts>], budgets: &[Arc<PodDisruptionBudget>]) -> Vec<bool> {
    let mut left: Vec<i32> =
        budgets.iter().map(|b| b.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0)).collect();
    pods.iter()
        .map(|pod| {
            let mut violates = false;
            for (budget, left) in budgets.iter().zip(&mut left) {
                if budget.metadata.namespace.as_deref() != Some(&pod.namespace) {
                    continue;
                }
                let selector = selector_option(budget.spec.as_ref().and_then(|s| s.selector.as_ref()));
                let disrupted = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
                let counted = disrupted.is_some_and(|d| d.contains_key(&pod.name));
                if !counted && pod.pod.metadata.labels.is_some() && selector.matches_by(|key| pod.label(key))
                {
                    *left -= 1;
                    violates |= *left < 0;
                }
            }
            violates
        })
        .collect()
}
