//! One attempt to place a pod, and what is written and told where it has no node yet.

use std::sync::Arc;

use actors::Context;
use actors::time::Instant;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use protocol::PatchKind;
use serde_json::{Value, json};

use super::{Scheduler, VERDICTS_MAX, Verdict};
use crate::controllers::machinery::meta::{self, Key, time};
use crate::controllers::machinery::pods::{condition, disruption};
use crate::scheduler::binder::devices::discard;
use crate::scheduler::cycle::{self, Decision, Refusal};
use crate::scheduler::devices::demand::NOT_AVAILABLE;
use crate::scheduler::plugins::dynamic_resources::{self, Devices};
use crate::scheduler::plugins::{About, ClusterChange, Incoming};
use crate::scheduler::pod::PodFacts;
use crate::scheduler::preemption::{self, Outcome, PREEMPTED};

impl Scheduler {
    pub(super) fn attempt(&mut self, uid: &Arc<str>, ctx: &mut Context<Self>) {
        let snapshot = self.cache.snapshot();
        let Some(waiting) = self.queue.begin(uid, snapshot.revision()) else { return };
        let (pod, attempts) = (waiting.pod.clone(), waiting.attempts);
        self.turn = self.turn.wrapping_add(1);
        // Nodes that were cleared for pods at least as important are not free for this one.
        let held: Vec<_> = self
            .nominated
            .values()
            .filter(|(_, p)| p.uid != *uid && p.priority >= pod.priority)
            .map(|(node, p)| (node.clone(), p.clone()))
            .collect();
        for (node, other) in &held {
            self.facts.set_pod(node, other.clone());
        }
        self.facts.set_storage(snapshot);
        let devices = dynamic_resources::devices(&pod, &self.facts);
        let incoming = Incoming { pod: &pod, facts: &self.facts, devices: &devices };
        let decision = cycle::decide(incoming, self.turn);
        for (_, other) in &held {
            self.facts.remove_pod(&other.uid);
        }
        match decision {
            Decision::Place { node, .. } => {
                let claims = match self.reservations(&devices, node) {
                    Ok(claims) => claims,
                    Err(why) => return self.failed(&pod, why, ctx),
                };
                let node = self.facts.name(node).clone();
                let text = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                self.verdict(&pod, attempts, Some(&node), text, &[]);
                self.bind(pod, node, claims, ctx);
            }
            Decision::NoNodes => {
                let text = "no nodes available to schedule pods".to_owned();
                self.unschedulable(&pod, text, &[], Promise::Void, ctx);
            }
            Decision::Failed(why) => {
                self.failed(&pod, why, ctx);
            }
            Decision::Nowhere(refusals) => {
                let mut text = cycle::explain(self.facts.len(), &refusals);
                let budgets = self.cache.list::<PodDisruptionBudget>("");
                // Where the pod itself is at fault, upstream gives up before it has looked at its devices' claims; it says
                // so in these words.
                let hopeless = refusals
                    .iter()
                    .any(|r| r.rejection.about == About::Pod && r.plugin != dynamic_resources::NAME);
                let outcome = preemption::decide(
                    Incoming { pod: &pod, facts: &self.facts, devices: &devices },
                    &refusals,
                    &budgets,
                );
                let (promise, why) = match outcome {
                    Outcome::Helpless(_) | Outcome::NotEligible(_) if hopeless => {
                        text.push_str(" not found");
                        (Promise::Stands, None)
                    }
                    Outcome::Helpless(why) => (Promise::Void, Some(why)),
                    Outcome::NotEligible(why) => (Promise::Stands, Some(why)),
                    Outcome::Evict { node, victims } => {
                        let node = self.facts.name(node).clone();
                        self.make_way(&pod, &node, victims, ctx);
                        (Promise::Made(node), None)
                    }
                };
                if let Some(why) = why {
                    let given_up = self.give_up_devices(&devices, &refusals, ctx);
                    text = format!("{text} {given_up}, preemption: {why}");
                }
                self.unschedulable(&pod, text, &refusals, promise, ctx);
            }
        }
    }

    /// Looks whether one of a pod's claims has devices where the pod cannot be, and gives them up. Says what came of it.
    fn give_up_devices(
        &mut self,
        devices: &Devices,
        refusals: &[Refusal],
        ctx: &mut Context<Self>,
    ) -> &'static str {
        let Ok(Some(demand)) = devices else { return "no new claims to deallocate" };
        let by_devices = refusals.iter().filter(|r| {
            r.plugin == dynamic_resources::NAME && r.rejection.reasons.iter().any(|why| why == NOT_AVAILABLE)
        });
        let client = self.client.clone();
        if let Some(idle) = demand.idle(by_devices.map(|r| &**self.facts.node(r.node))) {
            let mut claim = (*idle).clone();
            claim.status = None;
            ctx.run(async move { client.update_status(&claim).await }, |_, result, _| {
                if let Err(error) = result {
                    tracing::debug!(%error, "a claim keeps its devices; its pod's next attempt sees to that");
                }
            });
            return "deallocation of ResourceClaim completed";
        }
        if let Some(stale) = demand.stale().cloned() {
            ctx.run(async move { discard(&client, &stale).await }, |_, (), _| {});
            return "deletion of ResourceClaim completed";
        }
        "still not schedulable"
    }

    /// Keeps what there is to say of a pod.
    pub(super) fn verdict(
        &mut self,
        pod: &PodFacts,
        attempts: u32,
        node: Option<&Arc<str>>,
        text: String,
        refusals: &[Refusal],
    ) {
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        let refusals = refusals.iter().map(|r| {
            (self.facts.name(r.node).to_string(), (r.plugin.to_owned(), r.rejection.reasons.clone()))
        });
        let verdict = Verdict {
            uid: pod.uid.to_string(),
            second: meta::now().as_second(),
            node: node.map(|n| n.to_string()),
            text,
            refusals: refusals.collect(),
            attempts,
        };
        self.verdicts.insert(Key::new(&pod.namespace, &pod.name), verdict);
    }

    fn unschedulable(
        &mut self,
        pod: &Arc<PodFacts>,
        text: String,
        refusals: &[Refusal],
        promise: Promise,
        ctx: &mut Context<Self>,
    ) {
        let mut plugins: Vec<&'static str> = refusals.iter().map(|r| r.plugin).collect();
        plugins.sort_unstable();
        plugins.dedup();
        if plugins.is_empty() {
            // No nodes: only a first one helps.
            plugins.push("");
        }
        let attempts = self.queue.get(&pod.uid).map_or(0, |w| w.attempts) + 1;
        self.queue.failed(&pod.uid, plugins, Instant::now());
        self.verdict(pod, attempts, None, text.clone(), refusals);
        self.events.act(&*pod.pod, "Warning", "FailedScheduling", "Scheduling", text.clone());
        self.say(pod, "Unschedulable", &text, promise, ctx);
    }

    /// There was no answer: it is only a matter of time until the next attempt.
    pub(super) fn failed(&mut self, pod: &Arc<PodFacts>, text: String, ctx: &mut Context<Self>) {
        let attempts = self.queue.get(&pod.uid).map_or(0, |w| w.attempts) + 1;
        self.queue.failed(&pod.uid, Vec::new(), Instant::now());
        self.verdict(pod, attempts, None, text.clone(), &[]);
        self.events.act(&*pod.pod, "Warning", "FailedScheduling", "Scheduling", text.clone());
        self.say(pod, "SchedulerError", &text, Promise::Void, ctx);
    }

    /// Writes why a pod waits into its status, and which node is being cleared for it.
    fn say(
        &mut self,
        pod: &Arc<PodFacts>,
        reason: &str,
        text: &str,
        promise: Promise,
        ctx: &mut Context<Self>,
    ) {
        match &promise {
            Promise::Made(node) => {
                self.nominated.insert(pod.uid.clone(), (node.clone(), pod.clone()));
            }
            Promise::Void => self.release(&pod.uid),
            Promise::Stands => {}
        }
        if let Some(patch) = condition_patch(&pod.pod, reason, text, &promise) {
            self.write_status(pod.clone(), patch, ctx);
        }
    }

    pub(super) fn write_status(&self, pod: Arc<PodFacts>, patch: Value, ctx: &mut Context<Self>) {
        let client = self.client.clone();
        let write = async move {
            client.patch::<Pod>(&pod.namespace, &pod.name, Some("status"), PatchKind::Strategic, &patch).await
        };
        ctx.run(write, |_, result, _| {
            if let Err(error) = result {
                tracing::debug!(%error, "a pod's condition was not written; its next attempt writes it");
            }
        });
    }

    /// The node that was being cleared for a pod is so no more: others may have it.
    pub(super) fn release(&mut self, uid: &str) {
        if let Some((_, pod)) = self.nominated.remove(uid) {
            self.changed(&ClusterChange::PodGone(pod));
        }
    }

    /// Clears a node for a pod: its victims are evicted, and what less important pods were promised there is void.
    fn make_way(&mut self, pod: &PodFacts, node: &str, victims: Vec<Arc<PodFacts>>, ctx: &mut Context<Self>) {
        let lesser = self.nominated.values().filter(|(n, p)| **n == *node && p.priority < pod.priority);
        let lesser: Vec<_> = lesser.map(|(_, p)| p.clone()).collect();
        for other in lesser {
            self.release(&other.uid);
            self.write_status(other, json!({"status": {"nominatedNodeName": null}}), ctx);
        }
        // Those that are going already need not be told.
        let victims = victims.into_iter().filter(|v| !v.deleting).collect();
        self.evict(pod, node, victims, ctx);
    }

    /// Evicts pods to make room.
    fn evict(&self, pod: &PodFacts, node: &str, victims: Vec<Arc<PodFacts>>, ctx: &mut Context<Self>) {
        for victim in victims {
            let text = format!("Preempted by pod {} on node {node}", pod.uid);
            self.events.act(&*victim.pod, "Normal", "Preempted", "Preempting", text);
            let client = self.client.clone();
            let evict = async move {
                let (ns, name) = (&victim.namespace, &victim.name);
                let why = "default-scheduler: preempting to accommodate a higher priority pod";
                let patch = disruption(&victim.pod, PREEMPTED, why, meta::now());
                match client.patch::<Pod>(ns, name, Some("status"), PatchKind::Strategic, &patch).await {
                    Err(e) if e.is_not_found() => return Ok(()),
                    other => drop(other?),
                }
                match client.delete::<Pod>(ns, name, Some(&victim.uid), None).await {
                    Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e),
                    _ => Ok(()),
                }
            };
            ctx.run(evict, |_, result, _| {
                if let Err(error) = result {
                    tracing::warn!(%error, "a pod was not preempted; the next attempt does it again");
                }
            });
        }
    }
}

/// What an attempt means for the node that is being cleared for the pod, if one is.
enum Promise {
    /// It goes on being cleared.
    Stands,
    /// This one is cleared from now on.
    Made(Arc<str>),
    /// None is.
    Void,
}

/// The status patch that says why the pod waits; `None` where it says so already.
fn condition_patch(pod: &Pod, reason: &str, text: &str, promise: &Promise) -> Option<Value> {
    let current = condition(pod, "PodScheduled");
    let said = current.is_some_and(|c| {
        c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(text)
    });
    let standing =
        pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).filter(|n| !n.is_empty());
    let promised = match promise {
        Promise::Stands => standing,
        Promise::Made(node) => Some(&**node),
        Promise::Void => None,
    };
    if said && promised == standing {
        return None;
    }
    let since = current.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let mut patch = json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": reason, "message": text,
        "observedGeneration": pod.metadata.generation, "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| time(meta::now())),
    }]}});
    if promised != standing {
        patch["status"]["nominatedNodeName"] = promised.into();
    }
    Some(patch)
}
