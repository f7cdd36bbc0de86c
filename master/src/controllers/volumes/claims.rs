//! The binder's side of claims: finds a volume for each, and completes the binding.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{best, claim_ref, class_of_claim, class_of_volume, mismatch, names};
use super::migration::driver_of;
use super::{BIND_COMPLETED, BINDER, BINDER_COMPONENT, BOUND_BY_CONTROLLER, SELECTED_NODE};
use crate::cache::{Cache, Change};
use crate::controllers::machinery::meta::{annotation, is_deleting, name, uid};
use crate::controllers::machinery::watches::{key_of, mapped, own};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use protocol::events::reference;

const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Provisioners of this domain would be a part of the program; it has none.
const BUILT_IN: &str = "kubernetes.io/";
/// The one that is known, and not for clusters.
const HOST_PATH: &str = "kubernetes.io/host-path";

/// The controller.
pub struct ClaimBinder;

impl Reconciler for ClaimBinder {
    const NAME: &'static str = "claims";
    const ACCOUNT: &'static str = BINDER;
    const COMPONENT: &'static str = BINDER_COMPONENT;
    const RESOURCE: &'static str = "persistentvolumeclaims";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<PersistentVolumeClaim>(),
            mapped::<PersistentVolume>(concerned),
            mapped::<StorageClass>(of_class),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(claim) = cx.cache.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
            bound(cx, &claim).await
        } else {
            find(cx, &claim).await
        }
    }
}

/// The claims that a volume's change concerns: the one that it names, or all that it could serve.
fn concerned(change: &Change, cache: &Cache) -> Vec<Key> {
    let Ok(volume) = change.stored.typed::<PersistentVolume>() else { return Vec::new() };
    if let Some(claim) = claim_ref(&volume) {
        let part = |t: &Option<String>| t.clone().unwrap_or_default();
        return vec![Key::new(&part(&claim.namespace), &part(&claim.name))];
    }
    let class = class_of_volume(&volume).to_owned();
    let wanted = name(&volume.metadata).to_owned();
    unbound(cache, move |claim| {
        let named = volume_name(claim);
        if named.is_empty() { class_of_claim(claim) == class } else { named == wanted }
    })
}

/// The claims that a class' change concerns: it may come after those that name it, or become the default of those that name
/// none. The others would only be told again why they wait.
fn of_class(change: &Change, cache: &Cache) -> Vec<Key> {
    let class = change.stored.meta.name.clone();
    let typed = change.stored.typed::<StorageClass>();
    let is_default = typed.is_ok_and(|c| annotation(&c.metadata, DEFAULT_CLASS) == Some("true"));
    unbound(cache, move |claim| match class_of_claim(claim) {
        "" => is_default,
        named => *named == *class,
    })
}

fn unbound(cache: &Cache, test: impl Fn(&PersistentVolumeClaim) -> bool) -> Vec<Key> {
    let snapshot = cache.snapshot();
    let claims = snapshot.list("", "persistentvolumeclaims", "");
    claims
        .filter(|s| {
            let claim = s.typed::<PersistentVolumeClaim>();
            claim.is_ok_and(|c| annotation(&c.metadata, BIND_COMPLETED).is_none() && test(&c))
        })
        .map(|s| key_of(s))
        .collect()
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// A claim that was bound before: its volume may be gone.
async fn bound(cx: &Cx, claim: &PersistentVolumeClaim) -> Result<Outcome, ReconcileError> {
    let wanted = volume_name(claim);
    let volume = cx.cache.get::<PersistentVolume>("", wanted);
    let lost = match &volume {
        _ if wanted.is_empty() => Some((
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        )),
        None => Some(("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")),
        Some(volume) => match claim_ref(volume) {
            Some(r) if r.uid.as_deref() != Some(uid(&claim.metadata)) => Some((
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly",
            )),
            _ => None,
        },
    };
    match (lost, volume) {
        (Some((reason, message)), _) => {
            if phase(claim) != "Lost" {
                set_phase(cx, claim, "Lost", None).await?;
                cx.events.warning(claim, reason, message);
            }
            Ok(Outcome::DONE)
        }
        (None, Some(volume)) => bind(cx, &volume, claim).await,
        (None, None) => Ok(Outcome::DONE),
    }
}

/// A claim that is not bound yet.
async fn find(cx: &Cx, claim: &PersistentVolumeClaim) -> Result<Outcome, ReconcileError> {
    let wanted = volume_name(claim);
    if !wanted.is_empty() {
        let Some(volume) = cx.cache.get::<PersistentVolume>("", wanted) else { return wait(cx, claim).await };
        if claim_ref(&volume).is_none() {
            if let Some(why) = mismatch(&volume, claim) {
                let message = format!("Cannot bind to requested volume {wanted:?}: {why}");
                cx.events.warning(claim, "VolumeMismatch", message);
                return wait(cx, claim).await;
            }
            return bind(cx, &volume, claim).await;
        }
        if names(&volume, claim) {
            return bind(cx, &volume, claim).await;
        }
        let message = format!("volume {wanted:?} already bound to a different claim.");
        cx.events.warning(claim, "FailedBinding", message);
        return wait(cx, claim).await;
    }
    let class_name = class_of_claim(claim);
    let class = cx.cache.get::<StorageClass>("", class_name).filter(|_| !class_name.is_empty());
    let delayed =
        class.as_ref().and_then(|c| c.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer");
    let volumes = cx.cache.list::<PersistentVolume>("");
    if let Some(volume) = best(claim, &volumes, delayed, |_| true) {
        return bind(cx, &volume, claim).await;
    }
    if let Some(default) = default_class(cx, claim) {
        let mut copy = claim.clone();
        copy.spec.get_or_insert_default().storage_class_name = Some(default);
        cx.client.update(&copy).await?;
        return Ok(Outcome::DONE);
    }
    let provisioning = annotation(&claim.metadata, SELECTED_NODE).is_some();
    if is_deleting(&claim.metadata) {
        // Nobody will use it.
    } else if delayed && !provisioning {
        let message = "waiting for first consumer to be created before binding";
        cx.events.normal(claim, "WaitForFirstConsumer", message);
    } else if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        cx.events.normal(claim, "FailedBinding", message);
    } else {
        match class {
            Some(class) => return provision(cx, claim, &class).await,
            None => {
                let message = format!("storageclass.storage.k8s.io {class_name:?} not found");
                cx.events.warning(claim, "ProvisioningFailed", message);
            }
        }
    }
    wait(cx, claim).await
}

/// The default class, for a claim that leaves the choice open.
fn default_class(cx: &Cx, claim: &PersistentVolumeClaim) -> Option<String> {
    if claim.spec.as_ref()?.storage_class_name.is_some()
        || annotation(&claim.metadata, "volume.beta.kubernetes.io/storage-class").is_some()
    {
        return None;
    }
    let classes = cx.cache.list::<StorageClass>("");
    let defaults = classes.iter().filter(|c| annotation(&c.metadata, DEFAULT_CLASS) == Some("true"));
    let newest = defaults.max_by(|a, b| {
        let made = |c: &StorageClass| c.metadata.creation_timestamp.as_ref().map(|t| t.0);
        made(a).cmp(&made(b)).then_with(|| b.metadata.name.cmp(&a.metadata.name))
    });
    newest.and_then(|c| c.metadata.name.clone())
}

/// Says on a claim who is to make its volume.
async fn name_provisioner(
    cx: &Cx,
    claim: &PersistentVolumeClaim,
    provisioner: &str,
) -> Result<Outcome, ReconcileError> {
    let mut copy = claim.clone();
    let annotations = copy.metadata.annotations.get_or_insert_default();
    for key in [PROVISIONER, PROVISIONER_BETA] {
        annotations.insert(key.to_owned(), provisioner.to_owned());
    }
    cx.client.update(&copy).await?;
    Ok(Outcome::DONE)
}

/// Asks the class's provisioner, who watches for claims that name it.
async fn provision(
    cx: &Cx,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
) -> Result<Outcome, ReconcileError> {
    let provisioner = &driver_of(&class.provisioner).unwrap_or(&class.provisioner).to_owned();
    if provisioner == HOST_PATH {
        if annotation(&claim.metadata, PROVISIONER) != Some(provisioner) {
            return name_provisioner(cx, claim, provisioner).await;
        }
        let message = format!(
            "Failed to create provisioner: provisioning in volume plugin {provisioner:?} is disabled"
        );
        cx.events.warning(claim, "ProvisioningFailed", message);
        return wait(cx, claim).await;
    }
    if provisioner.starts_with(BUILT_IN) {
        let message = format!("no volume plugin matched name: {provisioner}");
        cx.events.warning(claim, "ProvisioningFailed", message);
        return wait(cx, claim).await;
    }
    if annotation(&claim.metadata, PROVISIONER) != Some(provisioner) {
        return name_provisioner(cx, claim, provisioner).await;
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    cx.events.normal(claim, "ExternalProvisioning", message);
    wait(cx, claim).await
}

async fn wait(cx: &Cx, claim: &PersistentVolumeClaim) -> Result<Outcome, ReconcileError> {
    set_phase(cx, claim, "Pending", None).await?;
    Ok(Outcome::DONE)
}

/// Brings both sides of a binding to an end, the volume first; what is done already is passed over.
async fn bind(
    cx: &Cx,
    volume: &Arc<PersistentVolume>,
    claim: &PersistentVolumeClaim,
) -> Result<Outcome, ReconcileError> {
    let mut volume = (**volume).clone();
    let named = claim_ref(&volume);
    if named.and_then(|r| r.uid.as_deref()) != Some(uid(&claim.metadata)) {
        if named.is_none() {
            let annotations = volume.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        volume.spec.get_or_insert_default().claim_ref = Some(reference(claim));
        volume = cx.client.update(&volume).await?;
    }
    if volume.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
        let status = volume.status.get_or_insert_default();
        status.phase = Some("Bound".to_owned());
        status.message = None;
        status.reason = None;
        volume = cx.client.update_status(&volume).await?;
    }
    let mut claim = claim.clone();
    let named = volume_name(&claim) == name(&volume.metadata);
    if !named || annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        let annotations = claim.metadata.annotations.get_or_insert_default();
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        if !named {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        claim.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
        claim = cx.client.update(&claim).await?;
    }
    set_phase(cx, &claim, "Bound", Some(&volume)).await?;
    Ok(Outcome::DONE)
}

async fn set_phase(
    cx: &Cx,
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Result<(), ReconcileError> {
    let before = claim.status.clone().unwrap_or_default();
    let mut status: PersistentVolumeClaimStatus = before.clone();
    status.phase = Some(phase.to_owned());
    match volume.and_then(|v| v.spec.as_ref()) {
        None => {
            status.access_modes = None;
            status.capacity = None;
        }
        Some(spec) => {
            status.access_modes = spec.access_modes.clone();
            status.current_volume_attributes_class_name = spec.volume_attributes_class_name.clone();
            // A bound claim's size changes only when its volume has been grown on a node.
            if before.phase.as_deref() != Some("Bound") || before.capacity.is_none() {
                status.capacity = spec.capacity.clone();
            }
        }
    }
    if status != before {
        let mut copy = claim.clone();
        copy.status = Some(status);
        cx.client.update_status(&copy).await?;
    }
    Ok(())
}
