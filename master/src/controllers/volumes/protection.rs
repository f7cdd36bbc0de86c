//! Keeps claims while pods use them, volumes while they are bound, and classes of attributes while something
//! names them: finalizers that go when that is over.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::api::admission::storage::{ATTRIBUTES_PROTECTION, CLAIM_PROTECTION, VOLUME_PROTECTION};
use crate::cache::{Cache, Change, ChangeKind};
use crate::controllers::machinery::meta::{is_deleting, name, namespace};
use crate::controllers::machinery::pods::node_name;
use crate::controllers::machinery::watches::{mapped, own};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller of claims.
pub struct ClaimProtection;

impl Reconciler for ClaimProtection {
    const NAME: &'static str = "pvcprotection";
    const ACCOUNT: &'static str = "pvc-protection-controller";
    const RESOURCE: &'static str = "persistentvolumeclaims";

    fn watches(&self) -> Vec<Watch> {
        vec![own::<PersistentVolumeClaim>(), mapped::<Pod>(of_pod)]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(claim) = cx.cache.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        let has = finalizers.iter().any(|f| f == CLAIM_PROTECTION);
        match (is_deleting(&claim.metadata), has) {
            (true, true) if !is_used(cx, &claim) => finalizers.retain(|f| f != CLAIM_PROTECTION),
            (false, false) => finalizers.push(CLAIM_PROTECTION.to_owned()),
            _ => return Ok(Outcome::DONE),
        }
        let mut copy = (*claim).clone();
        copy.metadata.finalizers = Some(finalizers);
        match cx.client.update(&copy).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// The claims that a pod uses: by name, or brought along.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    let claim = |v: &k8s_openapi::api::core::v1::Volume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", name(&pod.metadata), v.name)),
        _ => None,
    };
    volumes.into_iter().flatten().filter_map(claim).collect()
}

/// A pod that goes may have been the last to use its claims.
fn of_pod(change: &Change, _: &Cache) -> Vec<Key> {
    if !["persistentVolumeClaim", "ephemeral"].iter().any(|volume| change.stored.mentions(volume)) {
        return Vec::new();
    }
    let Ok(pod) = change.stored.typed::<Pod>() else { return Vec::new() };
    if change.kind != ChangeKind::Deleted && !node_name(&pod).is_empty() {
        return Vec::new();
    }
    claims_of(&pod).iter().map(|claim| Key::new(&change.stored.meta.namespace, claim)).collect()
}

/// Whether a pod that has a node uses a claim. One that has ended does, too: its node may still have the volume.
fn is_used(cx: &Cx, claim: &PersistentVolumeClaim) -> bool {
    let snapshot = cx.cache.snapshot();
    let mut pods =
        snapshot.list("", "pods", namespace(&claim.metadata)).filter_map(|s| s.typed::<Pod>().ok());
    pods.any(|pod| !node_name(&pod).is_empty() && claims_of(&pod).iter().any(|c| c == name(&claim.metadata)))
}

/// The controller of volumes.
pub struct VolumeProtection;

impl Reconciler for VolumeProtection {
    const NAME: &'static str = "pvprotection";
    const ACCOUNT: &'static str = "pv-protection-controller";
    const RESOURCE: &'static str = "persistentvolumes";

    fn watches(&self) -> Vec<Watch> {
        vec![own::<PersistentVolume>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(volume) = cx.cache.get::<PersistentVolume>("", &key.name) else { return Ok(Outcome::DONE) };
        let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
        let has = finalizers.iter().any(|f| f == VOLUME_PROTECTION);
        let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        match (is_deleting(&volume.metadata), has) {
            (true, true) if !bound => finalizers.retain(|f| f != VOLUME_PROTECTION),
            (false, false) => finalizers.push(VOLUME_PROTECTION.to_owned()),
            _ => return Ok(Outcome::DONE),
        }
        let mut copy = (*volume).clone();
        copy.metadata.finalizers = Some(finalizers);
        match cx.client.update(&copy).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// The controller of classes of volume attributes.
pub struct AttributesProtection;

impl Reconciler for AttributesProtection {
    const NAME: &'static str = "vacprotection";
    const ACCOUNT: &'static str = "volumeattributesclass-protection-controller";
    const RESOURCE: &'static str = "volumeattributesclasses";

    fn watches(&self) -> Vec<Watch> {
        let going = |names: Vec<String>, cache: &Cache| -> Vec<Key> {
            let snapshot = cache.snapshot();
            let going = |n: &String| {
                let class = snapshot.get("storage.k8s.io", "volumeattributesclasses", "", n);
                class.is_some_and(|s| s.meta.is_deleting())
            };
            names.into_iter().filter(going).map(|n| Key::new("", &n)).collect()
        };
        vec![
            own::<VolumeAttributesClass>(),
            mapped::<PersistentVolumeClaim>(move |change, cache| {
                let former = change.previous.as_ref().and_then(|p| p.typed::<PersistentVolumeClaim>().ok());
                going(former.map(|c| classes_of_claim(&c)).unwrap_or_default(), cache)
            }),
            mapped::<PersistentVolume>(move |change, cache| {
                let former = change.previous.as_ref().and_then(|p| p.typed::<PersistentVolume>().ok());
                going(former.and_then(|v| class_of_volume(&v)).into_iter().collect(), cache)
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(class) = cx.cache.get::<VolumeAttributesClass>("", &key.name) else {
            return Ok(Outcome::DONE);
        };
        let mut finalizers = class.metadata.finalizers.clone().unwrap_or_default();
        let has = finalizers.iter().any(|f| f == ATTRIBUTES_PROTECTION);
        match (is_deleting(&class.metadata), has) {
            (true, true) if !names_class(cx, &key.name) => finalizers.retain(|f| f != ATTRIBUTES_PROTECTION),
            (false, false) => finalizers.push(ATTRIBUTES_PROTECTION.to_owned()),
            _ => return Ok(Outcome::DONE),
        }
        let mut copy = (*class).clone();
        copy.metadata.finalizers = Some(finalizers);
        match cx.client.update(&copy).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// The classes that a claim has, had, or is to have.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|s| s.current_volume_attributes_class_name.clone());
    let target = status
        .and_then(|s| s.modify_volume_status.as_ref())
        .and_then(|m| m.target_volume_attributes_class_name.clone());
    [wanted, current, target].into_iter().flatten().filter(|n| !n.is_empty()).collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref()?.volume_attributes_class_name.clone().filter(|n| !n.is_empty())
}

/// Whether a claim or a volume names a class. Asked only when the class is to go.
fn names_class(cx: &Cx, class: &str) -> bool {
    let claims = cx.cache.list::<PersistentVolumeClaim>("");
    let volumes = cx.cache.list::<PersistentVolume>("");
    claims.iter().any(|c| classes_of_claim(c).iter().any(|n| n == class))
        || volumes.iter().any(|v| class_of_volume(v).as_deref() == Some(class))
}
