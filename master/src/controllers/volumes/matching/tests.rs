use serde_json::{Value, json};

use super::*;

fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
    let mut all = json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "s"}});
    for (key, value) in more.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(all).unwrap())
}

fn claim(size: &str, more: Value) -> PersistentVolumeClaim {
    let mut all = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {
        "resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "s"}});
    for (key, value) in more.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn check(claim: PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>], delayed: bool, expected: &str) {
    let best = best(&claim, volumes, delayed, |_| true);
    assert_eq!(best.as_ref().map_or("", |v| name(&v.metadata)), expected, "{claim:?}");
}

#[test]
fn the_smallest_suitable_volume_is_chosen() {
    let own = |uid: &str| json!({"claimRef": {"name": "c", "namespace": "n", "uid": uid}});
    let volumes = [
        volume("big", "10Gi", json!({})),
        volume("small", "2Gi", json!({})),
        volume("block", "1Gi", json!({"volumeMode": "Block"})),
        volume("other", "1Gi", json!({"storageClassName": "x"})),
        volume("taken", "1Gi", own("somebody")),
    ];
    check(claim("1Gi", json!({})), &volumes, false, "small");
    check(claim("3Gi", json!({})), &volumes, false, "big");
    check(claim("30Gi", json!({})), &volumes, false, "");
    check(claim("1Gi", json!({"accessModes": ["ReadWriteMany"]})), &volumes, false, "");
    check(claim("1Gi", json!({"volumeMode": "Block"})), &volumes, false, "block");
    check(claim("1Gi", json!({"selector": {"matchLabels": {"a": "b"}}})), &volumes, false, "");
    check(claim("1Gi", json!({})), &volumes, true, "");
    // What can do more than is asked for is for those who ask for more.
    let able = volume("able", "1Gi", json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}));
    let and_able: Vec<_> = volumes.iter().cloned().chain([able]).collect();
    check(claim("1Gi", json!({})), &and_able, false, "small");
    check(claim("1Gi", json!({"accessModes": ["ReadWriteMany"]})), &and_able, false, "able");
    let mut reserved = volumes.to_vec();
    reserved.push(volume("mine", "5Gi", own("")));
    check(claim("1Gi", json!({})), &reserved, false, "mine");
    check(claim("1Gi", json!({})), &reserved, true, "mine");
}

#[test]
fn what_does_not_match_is_told() {
    let wanted = claim("2Gi", json!({}));
    assert_eq!(mismatch(&volume("v", "2Gi", json!({})), &wanted), None);
    assert_eq!(mismatch(&volume("v", "1Gi", json!({})), &wanted), Some("requested PV is too small"));
    let other = volume("v", "2Gi", json!({"storageClassName": "x"}));
    assert_eq!(mismatch(&other, &wanted), Some("storageClassName does not match"));
}
