//! Volumes and claims as objects: their lives, and their statuses.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, by_hand, has_condition, name, uid};

const VOLUMES: &str = "/api/v1/persistentvolumes";

/// A volume of a class that only the scene has.
fn volume(scene: &Scene, number: u8) -> Value {
    json!({"metadata": {"name": format!("{}-pv{number}", scene.ns), "labels": {"of": scene.ns}}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": scene.ns,
        "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": "none.example.com", "volumeHandle": "none"}}})
}

/// A claim that takes any such volume.
fn claim(scene: &Scene, name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": scene.ns}}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": scene.ns, "resources": {"requests": {"storage": "1Gi"}}}})
}

/// Makes one of each, and waits until they found one another.
fn bound(scene: &Scene, number: u8) -> (String, String) {
    scene.create(VOLUMES, &volume(scene, number));
    let claims = scene.core("persistentvolumeclaims");
    scene.create(&claims, &claim(scene, &format!("pvc{number}")));
    let (of_volume, of_claim) =
        (format!("{VOLUMES}/{}-pv{number}", scene.ns), format!("{claims}/pvc{number}"));
    for path in [&of_volume, &of_claim] {
        scene.until(path, |one| one["status"]["phase"] == "Bound");
    }
    (of_volume, of_claim)
}

pub fn lifecycle_of_volume_and_claim(scene: &Scene) {
    let (volumes, claims) =
        (format!("{VOLUMES}?labelSelector=of%3D{}", scene.ns), scene.core("persistentvolumeclaims"));
    let (volume, claim) = bound(scene, 1);
    assert_eq!((scene.items(&volumes).len(), scene.items(&claims).len()), (1, 1));
    let bound_to = scene.get(&volume)["spec"]["claimRef"]["uid"].clone();
    assert_eq!(bound_to, uid(&scene.get(&claim)));
    for path in [&volume, &claim] {
        let change = json!({"metadata": {"labels": {"patched": "yes"}}});
        let patched = scene.api.patch(Patch::Strategic, path, &change).ok();
        assert_eq!(patched["metadata"]["labels"]["patched"], "yes");
        assert_eq!(uid(&scene.get(path)), uid(&patched));
    }
    scene.api.delete(&claim).ok();
    scene.until_gone(&claim);
    scene.until(&volume, |one| one["status"]["phase"] == "Released");
    scene.api.delete(&volume).ok();
    scene.until_gone(&volume);

    let (volume, claim) = bound(scene, 2);
    for path in [&volume, &claim] {
        let updated = scene.update(path, |one| one["metadata"]["labels"]["updated"] = "yes".into());
        assert_eq!(updated["metadata"]["labels"]["updated"], "yes");
    }
    scene.api.delete(&format!("{claims}?labelSelector=updated%3Dyes")).ok();
    scene.until_items(&claims, <[Value]>::is_empty);
    scene.api.delete(&format!("{volumes},updated%3Dyes")).ok();
    scene.until_items(&volumes, <[Value]>::is_empty);
}

pub fn status_of_volume_and_claim(scene: &Scene) {
    let (volume, claim) = bound(scene, 1);
    assert_eq!(scene.get(&format!("{claim}/status"))["status"]["phase"], "Bound");
    assert_eq!(scene.get(&format!("{volume}/status"))["status"]["phase"], "Bound");
    let change = json!({"status": {"conditions": [by_hand("Patched")]}});
    let patched = scene.api.merge(&format!("{claim}/status"), &change).ok();
    assert!(has_condition(&patched, "Patched", "True"));
    let updated = scene.update(&format!("{claim}/status"), |one| {
        one["status"]["conditions"].as_array_mut().expect("conditions").push(by_hand("Updated"));
    });
    assert!(has_condition(&updated, "Updated", "True"));
    let change = json!({"status": {"message": "patched", "reason": "ByHand"}});
    let patched = scene.api.merge(&format!("{volume}/status"), &change).ok();
    assert_eq!(
        (&patched["status"]["message"], &patched["status"]["reason"]),
        (&json!("patched"), &json!("ByHand"))
    );
    let updated =
        scene.update(&format!("{volume}/status"), |one| one["status"]["message"] = "updated".into());
    assert_eq!(updated["status"]["message"], "updated");
    assert_eq!(updated["status"]["phase"], "Bound");
}

pub fn status_of_an_attachment(scene: &Scene) {
    let attachments = "/apis/storage.k8s.io/v1/volumeattachments";
    let path = format!("{attachments}/{}-va", scene.ns);
    scene.create(
        attachments,
        &json!({"metadata": {"name": format!("{}-va", scene.ns)}, "spec": {
        "attacher": "none.example.com", "nodeName": "none", "source": {"persistentVolumeName": "none"}}}),
    );
    let change = json!({"metadata": {"labels": {"patched": "yes"}}});
    let patched = scene.api.patch(Patch::Strategic, &path, &change).ok();
    assert_eq!(patched["metadata"]["labels"]["patched"], "yes");
    let status = format!("{path}/status");
    assert_eq!(scene.get(&status)["status"]["attached"], false);
    let patched = scene.api.merge(&status, &json!({"status": {"attached": true}})).ok();
    assert_eq!(patched["status"]["attached"], true);
    let updated = scene.update(&status, |one| one["status"]["attached"] = false.into());
    assert_eq!(updated["status"]["attached"], false);
    scene.api.delete(&path).ok();
    scene.until_gone(&path);
}

pub fn drivers(scene: &Scene) {
    let drivers = "/apis/storage.k8s.io/v1/csidrivers";
    let list = format!("{drivers}?labelSelector=of%3D{}", scene.ns);
    let path = |number: u8| format!("{drivers}/{}-csi{number}", scene.ns);
    for number in 0..2 {
        scene.create(drivers, &json!({"metadata": {"name": format!("{}-csi{number}", scene.ns), "labels": {"of": scene.ns}},
            "spec": {"attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]}}));
    }
    let change = json!({"metadata": {"labels": {"patched": "yes"}}});
    scene.api.patch(Patch::Strategic, &path(0), &change).ok();
    let updated = scene.update(&path(0), |one| one["metadata"]["labels"]["updated"] = "yes".into());
    assert_eq!(updated["metadata"]["labels"], json!({"of": scene.ns, "patched": "yes", "updated": "yes"}));
    assert_eq!(scene.items(&list).len(), 2);
    scene.api.delete(&path(0)).ok();
    scene.until_gone(&path(0));
    scene.api.delete(&list).ok();
    scene.until_items(&list, |left| left.is_empty());
    assert!(scene.items(drivers).iter().all(|one| !name(one).starts_with(&format!("{}-csi", scene.ns))));
}

pub fn growth_of_a_claim(scene: &Scene) {
    let class = json!({"metadata": {"name": scene.ns}, "provisioner": "none.example.com", "allowVolumeExpansion": true});
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    scene.create(classes, &class);
    let (_, claim) = bound(scene, 1);
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    scene.api.merge(&claim, &more).ok();
    let said = |message: &str| {
        let message = message.to_owned();
        scene.until_items(&scene.core("events"), move |events| {
            events.iter().any(|event| event["reason"] == "ExternalExpanding" && event["message"] == *message)
        })
    };
    let events = said("waiting for an external controller to expand this PVC");
    assert!(
        events
            .iter()
            .all(|event| event["source"]["component"] == "volume_expand" && event["type"] == "Normal")
    );
    // A volume of an old plugin is its driver's.
    let mut old = volume(scene, 2);
    let spec = old["spec"].as_object_mut().expect("a spec");
    spec.remove("csi");
    spec.insert("gcePersistentDisk".to_owned(), json!({"pdName": "none"}));
    scene.create(VOLUMES, &old);
    let claims = scene.core("persistentvolumeclaims");
    scene.create(&claims, &self::claim(scene, "pvc2"));
    let second = format!("{claims}/pvc2");
    scene.until(&second, |one| one["status"]["phase"] == "Bound");
    scene.api.merge(&second, &more).ok();
    said("CSI migration enabled for kubernetes.io/gce-pd; waiting for external resizer to expand the pvc");
    scene.until(&second, |one| {
        one["metadata"]["annotations"]["volume.kubernetes.io/storage-resizer"] == "pd.csi.storage.gke.io"
    });
    scene.api.delete(&format!("{classes}/{}", scene.ns)).ok();
}
