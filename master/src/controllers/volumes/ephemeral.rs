//! Makes the claims of volumes that live as long as their pod.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::ChangeKind;
use crate::controllers::machinery::meta::{
    controller_reference, is_controlled_by, is_deleting, name, namespace, uid,
};
use crate::controllers::machinery::pods::is_finished;
use crate::controllers::machinery::watches::{key_of, mapped};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct EphemeralVolumes;

impl Reconciler for EphemeralVolumes {
    const NAME: &'static str = "ephemeral_volume";
    const ACCOUNT: &'static str = "ephemeral-volume-controller";
    const COMPONENT: &'static str = "ephemeral_volume";
    const RESOURCE: &'static str = "pods";

    fn watches(&self) -> Vec<Watch> {
        vec![
            mapped::<Pod>(|change, _| {
                let brings = change.kind != ChangeKind::Deleted
                    && change.stored.mentions("ephemeral")
                    && change.stored.typed::<Pod>().is_ok_and(|pod| has_ephemeral(&pod));
                if brings { vec![key_of(&change.stored)] } else { Vec::new() }
            }),
            // A claim that goes before its pod is made again.
            mapped::<PersistentVolumeClaim>(|change, _| {
                let owner = change.stored.meta.controller().filter(|o| &*o.kind == "Pod");
                match owner {
                    Some(pod) if change.kind == ChangeKind::Deleted => {
                        vec![Key::new(&change.stored.meta.namespace, &pod.name)]
                    }
                    _ => Vec::new(),
                }
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(pod) = cx.cache.get::<Pod>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        if is_deleting(&pod.metadata) || is_finished(&pod) {
            return Ok(Outcome::DONE);
        }
        for volume in pod.spec.as_ref().and_then(|s| s.volumes.as_ref()).into_iter().flatten() {
            let Some(template) = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref())
            else {
                continue;
            };
            let claim_name = format!("{}-{}", name(&pod.metadata), volume.name);
            if let Some(found) = cx.cache.get::<PersistentVolumeClaim>(&key.namespace, &claim_name) {
                if !is_controlled_by(&found.metadata, uid(&pod.metadata)) {
                    let why = format!(
                        "ephemeral volume {}: PVC {}/{claim_name} was not created for pod {}/{} (pod is not owner)",
                        volume.name,
                        key.namespace,
                        namespace(&pod.metadata),
                        name(&pod.metadata)
                    );
                    cx.events.warning(&*pod, "FailedBinding", why.clone());
                    return Err(ReconcileError::Other(why));
                }
                continue;
            }
            let meta = template.metadata.clone().unwrap_or_default();
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(claim_name),
                    namespace: pod.metadata.namespace.clone(),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: Some(vec![controller_reference(&*pod)]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec.clone()),
                status: None,
            };
            if let Err(e) = cx.client.create(&claim).await {
                let message = format!("ephemeral volume {}: {e}", volume.name);
                cx.events.warning(&*pod, "FailedCreate", message);
                return Err(e.into());
            }
        }
        Ok(Outcome::DONE)
    }
}

fn has_ephemeral(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.volumes.as_ref()).into_iter().flatten().any(|v| v.ephemeral.is_some())
}
