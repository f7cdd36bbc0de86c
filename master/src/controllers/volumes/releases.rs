//! The binder's side of volumes: their phases, and what becomes of those whose claim is gone.

use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeStatus};

use super::matching::{claim_ref, modes_differ};
use super::migration::{MIGRATED_TO, driver_of};
use super::{BINDER, BINDER_COMPONENT, BOUND_BY_CONTROLLER, PROVISIONED_BY};
use crate::controllers::machinery::meta::{annotation, name, uid};
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
        let made_by = annotation(&volume.metadata, PROVISIONED_BY).and_then(driver_of);
        if let Some(driver) =
            made_by.filter(|driver| annotation(&volume.metadata, MIGRATED_TO) != Some(driver))
        {
            let mut copy = (*volume).clone();
            copy.metadata
                .annotations
                .get_or_insert_default()
                .insert(MIGRATED_TO.to_owned(), driver.to_owned());
            cx.client.update(&copy).await?;
            // The rest once that is seen.
            return Ok(Outcome::DONE);
        }
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
            let Some(path) = volume.spec.as_ref().and_then(|s| s.host_path.as_ref()).map(|h| h.path.clone())
            else {
                let why = format!(
                    "error getting deleter volume plugin for volume {n:?}: no deletable volume plugin matched"
                );
                return failed(cx, volume, "VolumeFailedDelete", &why).await;
            };
            match clear(path).await {
                Ok(()) => {
                    match cx.client.delete::<PersistentVolume>("", n, Some(uid(&volume.metadata)), None).await
                    {
                        Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
                        _ => Ok(Outcome::DONE),
                    }
                }
                Err(why) => failed(cx, volume, "VolumeFailedDelete", &why).await,
            }
        }
        "Recycle" => failed(cx, volume, "VolumeFailedRecycle", "no volume plugin found for the volume").await,
        _ => Ok(Outcome::DONE),
    }
}

/// Whether a path of this machine may be deleted with its volume.
fn may_clear(path: &Path) -> bool {
    path.strip_prefix("/tmp").is_ok_and(|below| {
        below.components().next().is_some()
            && below.components().all(|part| matches!(part, Component::Normal(_)))
    })
}

/// Deletes a path with all that is below it, where volumes for trying things out lie. Links are not followed, neither below
/// the path nor on the way to it: they may lead elsewhere.
async fn clear(path: String) -> Result<(), String> {
    if !may_clear(Path::new(&path)) {
        return Err(format!("host_path deleter only supports /tmp/.+ but received provided {path}"));
    }
    let deleted = tokio::task::spawn_blocking(move || {
        let path = Path::new(&path);
        if let Some(parent) = path.parent()
            && parent.canonicalize()? != parent
        {
            return Err(std::io::Error::other(format!("{} is reached by a link", path.display())));
        }
        match std::fs::symlink_metadata(path)?.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        }
    });
    match deleted.await {
        Ok(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => Err(e.to_string()),
        Ok(_) => Ok(()),
        Err(e) => Err(e.to_string()),
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
        // Since when is the server's to say.
        last_phase_transition_time: before.last_phase_transition_time,
    });
    cx.client.update_status(&copy).await?;
    Ok(Outcome::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_folder_for_trials_is_deleted() {
        for (path, may) in [
            ("/tmp/a", true),
            ("/tmp/a/b", true),
            ("/tmp", false),
            ("/tmp/", false),
            ("/tmp/../etc", false),
            ("/tmp/a/../../etc", false),
            ("/tmpfs", false),
            ("/data", false),
            ("tmp/a", false),
        ] {
            assert_eq!(may_clear(Path::new(path)), may, "{path}");
        }
    }

    #[tokio::test]
    async fn links_on_the_way_lead_nowhere() {
        let name = format!("troupe-cleared-{}", std::process::id());
        let (kept, link) =
            (Path::new("/tmp").join(format!("{name}-kept")), Path::new("/tmp").join(format!("{name}-link")));
        std::fs::create_dir_all(kept.join("data/deep")).unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let told = clear(text(&link.join("data"))).await;
        assert!(told.is_err_and(|why| why.contains("is reached by a link")));
        assert!(kept.join("data/deep").exists());
        // The link itself is one thing to delete, and what is not there is deleted.
        assert_eq!(clear(text(&link)).await, Ok(()));
        assert_eq!(clear(text(&kept.join("data"))).await, Ok(()));
        assert_eq!(clear(text(&kept.join("data"))).await, Ok(()));
        assert!(kept.exists() && !kept.join("data").exists());
        std::fs::remove_dir_all(kept).unwrap();
    }
}
