//! Claims that ask for more than they have: whoever provides their volumes is to make these larger. Nothing here can do
//! that itself, so it is told that somebody else has to.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use protocol::Quantity;

use super::matching::{size_of_claim, storage};
use super::migration::driver_of;
use crate::cache::{Change, ChangeKind};
use crate::controllers::machinery::meta::{annotation, name, namespace, uid};
use crate::controllers::machinery::watches::{key_of, mapped};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// Annotation of a claim with the driver that is to expand its volume.
const RESIZER: &str = "volume.kubernetes.io/storage-resizer";
/// Annotation of a volume that is being expanded, with its size before.
const SIZE_BEFORE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

/// The controller.
pub struct VolumeExpansion;

impl Reconciler for VolumeExpansion {
    const NAME: &'static str = "volume_expand";
    const ACCOUNT: &'static str = "expand-controller";
    const COMPONENT: &'static str = "volume_expand";
    const RESOURCE: &'static str = "persistentvolumeclaims";

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<PersistentVolumeClaim>(|change, _| {
            if grown(change) { vec![key_of(&change.stored)] } else { Vec::new() }
        })]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(claim) = cx.cache.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        let Some(volume) = cx.cache.get::<PersistentVolume>("", volume) else {
            return Err(ReconcileError::Other(format!("failed to get PV {volume:?}")));
        };
        if !is_of(&volume, &claim) {
            let why = format!(
                "persistent Volume is not bound to PVC being updated : {}/{}",
                key.namespace, key.name
            );
            return Err(ReconcileError::Other(why));
        }
        let growing = annotation(&volume.metadata, SIZE_BEFORE).is_some();
        if size_of_claim(&claim) <= there(&claim) && !growing {
            return Ok(Outcome::DONE);
        }
        let Some(plugin) = old_plugin(&volume) else {
            let message = "waiting for an external controller to expand this PVC".to_owned();
            cx.events.normal(&*claim, "ExternalExpanding", message);
            return Ok(Outcome::DONE);
        };
        let message =
            format!("CSI migration enabled for {plugin}; waiting for external resizer to expand the pvc");
        cx.events.normal(&*claim, "ExternalExpanding", message);
        let Some(driver) = driver_of(plugin).filter(|_| annotation(&claim.metadata, RESIZER).is_none())
        else {
            return Ok(Outcome::DONE);
        };
        let mut copy = (*claim).clone();
        copy.metadata.annotations.get_or_insert_default().insert(RESIZER.to_owned(), driver.to_owned());
        match cx.client.update_status(&copy).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// Whether a claim that is bound asks for more, or has got more, than before.
fn grown(change: &Change) -> bool {
    let Ok(claim) = change.stored.typed::<PersistentVolumeClaim>() else { return false };
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    if !bound || change.kind == ChangeKind::Deleted {
        return false;
    }
    let before = change.previous.as_ref().and_then(|before| before.typed::<PersistentVolumeClaim>().ok());
    before
        .is_none_or(|before| size_of_claim(&claim) > size_of_claim(&before) || there(&claim) > there(&before))
}

/// The size that a claim has.
fn there(claim: &PersistentVolumeClaim) -> Quantity {
    let capacity = claim.status.as_ref().and_then(|s| s.capacity.as_ref());
    storage(capacity)
}

fn is_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let bound_to = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    bound_to.is_some_and(|claimed| {
        claimed.namespace.as_deref() == Some(namespace(&claim.metadata))
            && claimed.uid.as_deref() == Some(uid(&claim.metadata))
            && claimed.name.as_deref() == Some(name(&claim.metadata))
    })
}

/// The old plugin that a volume is of, where a driver has taken it over.
fn old_plugin(volume: &PersistentVolume) -> Option<&'static str> {
    let spec = volume.spec.as_ref()?;
    [
        (spec.aws_elastic_block_store.is_some(), "kubernetes.io/aws-ebs"),
        (spec.azure_disk.is_some(), "kubernetes.io/azure-disk"),
        (spec.azure_file.is_some(), "kubernetes.io/azure-file"),
        (spec.cinder.is_some(), "kubernetes.io/cinder"),
        (spec.gce_persistent_disk.is_some(), "kubernetes.io/gce-pd"),
        (spec.portworx_volume.is_some(), "kubernetes.io/portworx-volume"),
        (spec.vsphere_volume.is_some(), "kubernetes.io/vsphere-volume"),
    ]
    .into_iter()
    .find_map(|(is, plugin)| is.then_some(plugin))
}
