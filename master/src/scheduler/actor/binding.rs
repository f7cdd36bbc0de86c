//! What becomes of a decision: the pod counts as placed while a binder writes it, and no more where that fails.

use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use actors::{Context, random};
use k8s_openapi::api::core::v1::Pod;

use super::preparing::Preparing;
use super::{BIND_MAX, Scheduler};
use crate::controllers::machinery::meta::{Key, uid};
use crate::scheduler::binder::Bind;
use crate::scheduler::binder::devices::unreserve;
use crate::scheduler::devices::conditions::has_conditions;
use crate::scheduler::devices::demand::Reservation;
use crate::scheduler::facts::Slot;
use crate::scheduler::plugins::ClusterChange;
use crate::scheduler::plugins::dynamic_resources::Devices;
use crate::scheduler::pod::PodFacts;

/// How long devices are held for claims that are being written: less than the write is waited for, so that it cannot come
/// to pass when they have been given to others.
const HELD_MAX: Duration = Duration::from_secs(95);

/// What of a binding is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All.
    Whole,
    /// The reservation of its claims, whose devices have to be made ready then.
    Claims,
    /// What is left when they are.
    Rest,
}

impl Scheduler {
    /// What has to be written for a pod's claims of devices on the node that was chosen; from now on others do not get
    /// these devices.
    pub(super) fn reservations(&mut self, devices: &Devices, node: Slot) -> Result<Vec<Reservation>, String> {
        let Some(demand) = devices.as_ref().map_err(Clone::clone)? else { return Ok(Vec::new()) };
        let found = demand.on(self.facts.node(node), self.facts.allocatable(node));
        let found = found.map_err(|e| e.to_string())?;
        let mut share = || {
            let bits = (u128::from(random::bits()) << 64) | u128::from(random::bits());
            uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
        };
        let claims = demand.reservations(&found, self.facts.name(node), &mut share);
        for Reservation { claim, allocation, .. } in &claims {
            if let Some(allocation) = allocation {
                self.facts.give_devices(uid(&claim.metadata).into(), allocation.clone());
            }
        }
        Ok(claims)
    }

    /// Takes the pod as placed, and has it written.
    pub(super) fn bind(
        &mut self,
        pod: Arc<PodFacts>,
        node: Arc<str>,
        claims: Vec<Reservation>,
        ctx: &mut Context<Self>,
    ) {
        self.assumed.insert(pod.uid.clone(), node.clone());
        self.facts.set_pod(&node, pod.clone());
        self.nominated.remove(&pod.uid);
        let prepare = claims.iter().any(|r| {
            let stored = r.claim.status.as_ref().and_then(|s| s.allocation.as_ref());
            r.allocation.as_deref().or(stored).is_some_and(has_conditions)
        });
        let part = if prepare { Part::Claims } else { Part::Whole };
        let turn = self.turn;
        self.write_binding(Preparing { pod, node, claims, turn }, part, ctx);
    }

    /// Has a binding written, or a part of what belongs to it.
    pub(super) fn write_binding(&mut self, of: Preparing, part: Part, ctx: &mut Context<Self>) {
        let at = self.turn as usize % self.binders.len().max(1);
        let Some(binder) = self.binders.get(at).cloned() else { return };
        let (pod, node) = (of.pod.clone(), of.node.clone());
        let bind = Bind {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: node.clone(),
            pod: pod.pod.clone(),
            claims: if part == Part::Rest { Vec::new() } else { of.claims.clone() },
            prepare: part == Part::Claims,
            until: Instant::now() + HELD_MAX,
        };
        let ask = async move { binder.ask(bind, BIND_MAX).await };
        ctx.run(ask, move |me, answer, ctx| {
            let given = me.settle(&of.claims);
            let error = match answer {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e.to_string()),
                Err(e) => Some(format!("binding rejected: {e}")),
            };
            match error {
                None if part == Part::Claims => me.prepare(of, ctx),
                None => {
                    let text = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                    me.events.act(&*pod.pod, "Normal", "Scheduled", "Binding", text);
                    me.queue.remove(&pod.uid);
                }
                Some(error) => {
                    if given {
                        me.facts.set_storage(me.cache.snapshot());
                        me.changed(&ClusterChange::Devices);
                    }
                    me.not_bound(&of, error, ctx);
                }
            }
            me.go_on(ctx);
        });
    }

    /// The cache shows what was given to these claims, or it was not given. Whether anything was.
    fn settle(&mut self, claims: &[Reservation]) -> bool {
        claims.iter().filter(|r| self.facts.settle_devices(uid(&r.claim.metadata))).count() > 0
    }

    /// The decision could not be written: take it back, unless the cache shows it all the same.
    pub(super) fn not_bound(&mut self, of: &Preparing, error: String, ctx: &mut Context<Self>) {
        let (pod, claims) = (&of.pod, of.claims.clone());
        if self.assumed.remove(&pod.uid).is_none() {
            return;
        }
        if !claims.is_empty() {
            let (client, cache, uid) = (self.client.clone(), self.cache.clone(), pod.uid.clone());
            ctx.run(async move { unreserve(&client, &cache, &claims, &uid).await }, |_, (), _| {});
        }
        if let Some(gone) = self.facts.remove_pod(&pod.uid) {
            self.changed(&ClusterChange::PodGone(gone));
        }
        let latest = self.cache.get::<Pod>(&pod.namespace, &pod.name);
        let latest = latest.filter(|p| uid(&p.metadata) == &*pod.uid).map(|p| Arc::new(PodFacts::of(p)));
        self.failed(latest.as_ref().unwrap_or(pod), error, ctx);
        // What changed meanwhile was passed over while the pod counted as placed.
        self.pod_changed(Key::new(&pod.namespace, &pod.name));
    }
}
