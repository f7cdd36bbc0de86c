//! VolumeRestrictions: a claim that one pod at a time may use, and disks that cannot be attached twice.

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Volume};

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// The access mode of a claim that one pod at a time may use.
const ONE_POD: &str = "ReadWriteOncePod";
const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
const NO_DISK: &str = "node(s) had no available disk";

/// See the module.
pub struct VolumeRestrictions;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
    /// Another pod uses a claim that the pod must have for itself.
    in_use: bool,
    /// Volumes that cannot be shared at will.
    disks: Vec<&'a Volume>,
}

fn is_for_one_pod(facts: &Facts, namespace: &str, claim: &str) -> bool {
    let found = facts.storage().get("", PersistentVolumeClaim::URL_PATH_SEGMENT, namespace, claim);
    let claim = found.and_then(|s| s.typed::<PersistentVolumeClaim>().ok());
    let modes = claim.as_ref().and_then(|c| c.spec.as_ref()).and_then(|s| s.access_modes.as_ref());
    modes.is_some_and(|modes| modes.iter().any(|mode| mode == ONE_POD))
}

/// A pod's volumes on disks that are attached to nodes by their names.
fn disks(pod: &PodFacts) -> impl Iterator<Item = &Volume> {
    let volumes = pod.pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    volumes.into_iter().flatten().filter(|v| {
        v.gce_persistent_disk.is_some()
            || v.aws_elastic_block_store.is_some()
            || v.iscsi.is_some()
            || v.rbd.is_some()
    })
}

/// Whether two volumes on one node would be the same disk, and one of them may write to it.
fn conflict(a: &Volume, b: &Volume) -> bool {
    let read_only = |a: Option<bool>, b: Option<bool>| a == Some(true) && b == Some(true);
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk) {
        return a.pd_name == b.pd_name && !read_only(a.read_only, b.read_only);
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store) {
        return a.volume_id == b.volume_id;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi) {
        return a.iqn == b.iqn && !read_only(a.read_only, b.read_only);
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        let same = a.pool == b.pool && a.image == b.image;
        return same
            && a.monitors.iter().any(|m| b.monitors.contains(m))
            && !read_only(a.read_only, b.read_only);
    }
    false
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let ns = &pod.namespace;
        let used = |claim: &String| facts.is_claimed(ns, claim) && is_for_one_pod(facts, ns, claim);
        let in_use = pod.volume_claims.iter().any(used);
        let disks: Vec<_> = disks(pod).collect();
        (in_use || !disks.is_empty())
            .then(|| Box::new(Ready { pod, facts, in_use, disks }) as Box<dyn Prepared>)
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, _: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(_) | ClusterChange::Storage => true,
            ClusterChange::PodGone(gone) if gone.namespace == pod.namespace => {
                gone.volume_claims.iter().any(|claim| pod.volume_claims.contains(claim))
                    || disks(pod).any(|own| disks(gone).any(|theirs| conflict(own, theirs)))
            }
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let others = || self.facts.pods(node).iter().filter(|p| p.uid != self.pod.uid);
        if self.disks.iter().any(|own| others().any(|p| disks(p).any(|theirs| conflict(own, theirs)))) {
            return Err(Rejection::for_now(NO_DISK));
        }
        if self.in_use {
            return Err(Rejection::for_now(IN_USE));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn clash(a: Value, b: Value) -> bool {
        let volume = |v: Value| serde_json::from_value::<Volume>(v).expect("a volume");
        conflict(&volume(a), &volume(b))
    }

    #[test]
    fn a_disk_is_shared_where_nobody_writes_to_it() {
        let gce = |disk: &str, read: bool| json!({"name": "v", "gcePersistentDisk": {"pdName": disk, "readOnly": read}});
        assert!(clash(gce("a", false), gce("a", true)));
        assert!(!clash(gce("a", true), gce("a", true)));
        assert!(!clash(gce("a", false), gce("b", false)));
        let aws = json!({"name": "v", "awsElasticBlockStore": {"volumeID": "a", "readOnly": true}});
        assert!(clash(aws.clone(), aws.clone()));
        assert!(!clash(aws, gce("a", false)));
        let rbd = |monitors: &[&str]| json!({"name": "v", "rbd": {"monitors": monitors, "image": "i", "pool": "p"}});
        assert!(clash(rbd(&["a", "b"]), rbd(&["b", "c"])));
        assert!(!clash(rbd(&["a"]), rbd(&["c"])));
        let iscsi = |iqn: &str| json!({"name": "v", "iscsi": {"iqn": iqn, "lun": 0, "targetPortal": "x"}});
        assert!(clash(iscsi("a"), iscsi("a")));
        assert!(!clash(iscsi("a"), iscsi("b")));
    }
}
