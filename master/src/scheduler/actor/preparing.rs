//! Pods whose devices have to be made ready for their nodes: they are bound once the devices' drivers say so.

use std::sync::Arc;

use actors::{AsyncContext, Context};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::json;

use super::Scheduler;
use super::binding::Part;
use crate::controllers::machinery::meta::{name, namespace, now};
use crate::scheduler::devices::claims::{of_extended, of_pod};
use crate::scheduler::devices::conditions::{READY_MAX, Readiness, readiness};
use crate::scheduler::devices::demand::Reservation;
use crate::scheduler::pod::PodFacts;

/// A pod that has its node.
#[derive(Clone)]
pub(super) struct Preparing {
    /// The pod.
    pub pod: Arc<PodFacts>,
    /// The node.
    pub node: Arc<str>,
    /// What is written for its claims first.
    pub claims: Vec<Reservation>,
    /// The attempt that found the node: tells it from later ones.
    pub turn: u64,
}

/// How far the devices of a pod are.
fn progress(claims: &[Arc<ResourceClaim>]) -> Readiness {
    let mut all = Readiness::Ready;
    for claim in claims {
        match readiness(claim, now()) {
            Readiness::Ready => {}
            Readiness::Pending => all = Readiness::Pending,
            other => return other,
        }
    }
    all
}

impl Scheduler {
    /// Waits until a pod's devices are ready.
    pub(super) fn prepare(&mut self, of: Preparing, ctx: &mut Context<Self>) {
        if !self.assumed.contains_key(&of.pod.uid) {
            return;
        }
        let (pod, node) = (of.pod.clone(), of.node.clone());
        let text = format!("waiting for binding conditions for device on node {node}");
        self.events.act(&*pod.pod, "Normal", "BindingConditionsPending", "Scheduling", text);
        self.write_status(pod.clone(), json!({"status": {"nominatedNodeName": &*node}}), ctx);
        let (uid, turn) = (pod.uid.clone(), of.turn);
        self.preparing.insert(uid.clone(), of);
        ctx.run_later(READY_MAX, move |me, ctx| {
            if me.preparing.get(&uid).is_some_and(|of| of.turn == turn)
                && let Some(of) = me.preparing.remove(&uid)
            {
                me.unprepared(of, None, ctx);
            }
        });
        self.look_at_prepared(&pod.namespace, ctx);
    }

    /// Binds the pods of a namespace whose devices have become ready, and gives up on those whose devices will not.
    pub(super) fn look_at_prepared(&mut self, ns: &str, ctx: &mut Context<Self>) {
        let here = self.preparing.values().filter(|p| p.pod.namespace == ns);
        for uid in here.map(|p| p.pod.uid.clone()).collect::<Vec<_>>() {
            let Some(of) = self.preparing.get(&uid) else { continue };
            let snapshot = self.cache.snapshot();
            let pod = self.cache.get::<Pod>(&of.pod.namespace, &of.pod.name);
            let claims = of_pod(&snapshot, pod.as_deref().unwrap_or(&of.pod.pod)).map(|named| {
                let made = of_extended(&snapshot, &of.pod.namespace, &of.pod.uid);
                named.into_iter().chain(made).collect::<Vec<_>>()
            });
            let progress = claims.map(|claims| progress(&claims));
            if progress == Ok(Readiness::Pending) {
                continue;
            }
            let Some(of) = self.preparing.remove(&uid) else { continue };
            match progress {
                Ok(Readiness::Ready | Readiness::Pending) => {
                    self.write_binding(of, Part::Rest, ctx);
                }
                Ok(Readiness::Failed(why)) | Err(why) => self.unprepared(of, Some(why), ctx),
                Ok(Readiness::Late) => self.unprepared(of, None, ctx),
            }
        }
    }

    /// A pod's devices were not made ready: its next attempt looks for others.
    fn unprepared(&mut self, of: Preparing, why: Option<String>, ctx: &mut Context<Self>) {
        let why = why.unwrap_or_else(|| {
            let claims = of.claims.iter().map(|r| name(&r.claim.metadata)).collect::<Vec<_>>().join(", ");
            format!("device binding timeout: claim={claims}")
        });
        tracing::debug!(
            namespace = namespace(&of.pod.pod.metadata),
            pod = of.pod.name,
            why,
            "devices are not ready"
        );
        self.not_bound(&of, format!("running PreBind plugin \"DynamicResources\": {why}"), ctx);
    }
}
