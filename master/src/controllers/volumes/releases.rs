//! The binder's side of volumes: their phases, and what becomes of those whose claim is gone.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeStatus};

use super::matching::{claim_ref, modes_differ};
use super::{BINDER, BINDER_COMPONENT, BOUND_BY_CONTROLLER, PROVISIONED_BY};
use crate::controllers::machinery::meta::{annotation, name, time, uid};
use crate::controllers::machinery::watches::{mapped, own};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct VolumeBinder;

impl Reconciler for VolumeBinder {
    const NAME: &'static str = "volumes";
    const ACCOUNT: &'static str = BINDER;
    const COMPONENT: &'static str = BINDER_COMPONENT;
    const RESOURCE: &'static str = "persistentvolumes";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<PersistentVolume>(),
            mapped::<PersistentVolumeClaim>(|change, _| {
                let mut keys = Vec::new();
                for stored in change.previous.iter().chain([&change.stored]) {
                    let Ok(claim) = stored.typed::<PersistentVolumeClaim>() else { continue };
                    if let Some(volume) = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref())
                        && !keys.contains(&Key::new("", volume))
                    {
                        keys.push(Key::new("", volume));
                    }
                }
                keys
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(volume) = cx.cache.get::<PersistentVolume>("", &key.name) else { return Ok(Outcome::DONE) };
        let Some(reference) = claim_ref(&volume) else {
            return set_phase(cx, &volume, "Available", None).await;
        };
        let owner = reference.uid.as_deref().unwrap_or_default();
        if owner.is_empty() {
            // Reserved for a claim that has not taken it yet.
            return set_phase(cx, &volume, "Available", None).await;
        }
        let (ns, n) = (
            reference.namespace.as_deref().unwrap_or_default(),
            reference.name.as_deref().unwrap_or_default(),
        );
        let claim = cx.cache.get::<PersistentVolumeClaim>(ns, n).filter(|c| uid(&c.metadata) == owner);
        let Some(claim) = claim else {
            if !matches!(phase(&volume), "Released" | "Failed") {
                set_phase(cx, &volume, "Released", None).await?;
                // The rest once that is seen.
                return Ok(Outcome::DONE);
            }
            return reclaim(cx, &volume).await;
        };
        let bound_to = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        if bound_to == name(&volume.metadata) {
            return set_phase(cx, &volume, "Bound", None).await;
        }
        if bound_to.is_empty() {
            if modes_differ(&volume, &claim) {
                cx.events.warning(
                    &*volume,
                    "VolumeMismatch",
                    format!(
                        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {n:?} due to incompatible volumeMode."
                    ),
                );
                cx.events.warning(
                    &*claim,
                    "VolumeMismatch",
                    format!(
                        "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim due to incompatible volumeMode.",
                        name(&volume.metadata)
                    ),
                );
            }
            // The claim's side completes what has begun.
            return Ok(Outcome::DONE);
        }
        // The claim has another volume by now.
        let provisioned = annotation(&volume.metadata, PROVISIONED_BY).is_some();
        if provisioned && policy(&volume) == "Delete" {
            if !matches!(phase(&volume), "Released" | "Failed") {
                return set_phase(cx, &volume, "Released", None).await;
            }
            return reclaim(cx, &volume).await;
        }
        unbind(cx, &volume).await
    }
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// What becomes of a released volume.
async fn reclaim(cx: &Cx, volume: &PersistentVolume) -> Result<Outcome, ReconcileError> {
    let n = name(&volume.metadata);
    match policy(volume) {
        "Delete" => {
            // Its provisioner deletes what it made; nothing else knows how.
            let external = annotation(&volume.metadata, PROVISIONED_BY).is_some()
                || volume.spec.as_ref().is_some_and(|s| s.csi.is_some());
            if external {
                return Ok(Outcome::DONE);
            }
            let why = format!(
                "error getting deleter volume plugin for volume {n:?}: no deletable volume plugin matched"
            );
            failed(cx, volume, "VolumeFailedDelete", &why).await
        }
        "Recycle" => failed(cx, volume, "VolumeFailedRecycle", "no volume plugin found for the volume").await,
        _ => Ok(Outcome::DONE),
    }
}

async fn failed(
    cx: &Cx,
    volume: &PersistentVolume,
    reason: &str,
    why: &str,
) -> Result<Outcome, ReconcileError> {
    if phase(volume) != "Failed" {
        set_phase(cx, volume, "Failed", Some(why)).await?;
        cx.events.warning(volume, reason, why);
    }
    Ok(Outcome::DONE)
}

/// Gives a volume back that its claim did not take: what the binder set goes, what the user set stays open.
async fn unbind(cx: &Cx, volume: &PersistentVolume) -> Result<Outcome, ReconcileError> {
    let mut copy = volume.clone();
    let ours = annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some();
    let spec = copy.spec.get_or_insert_default();
    if ours {
        spec.claim_ref = None;
        if let Some(annotations) = &mut copy.metadata.annotations {
            annotations.remove(BOUND_BY_CONTROLLER);
        }
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
    }
    let copy = cx.client.update(&copy).await?;
    set_phase(cx, &copy, "Available", None).await
}

async fn set_phase(
    cx: &Cx,
    volume: &PersistentVolume,
    phase: &str,
    message: Option<&str>,
) -> Result<Outcome, ReconcileError> {
    let before = volume.status.clone().unwrap_or_default();
    if before.phase.as_deref() == Some(phase) {
        return Ok(Outcome::DONE);
    }
    let mut copy = volume.clone();
    copy.status = Some(PersistentVolumeStatus {
        phase: Some(phase.to_owned()),
        message: message.map(str::to_owned),
        reason: None,
        last_phase_transition_time: Some(time(cx.now)),
    });
    cx.client.update_status(&copy).await?;
    Ok(Outcome::DONE)
}
