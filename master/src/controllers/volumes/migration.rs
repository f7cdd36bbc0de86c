//! What was a part of Kubernetes once and is a driver of its own by now: names of the old volume plugins stand for those of
//! the drivers.

const DRIVERS: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// Annotation of a volume with the driver that has taken it over from a plugin.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";

/// The driver that stands for an old plugin.
pub fn driver_of(plugin: &str) -> Option<&'static str> {
    DRIVERS.iter().find(|(old, _)| *old == plugin).map(|(_, driver)| *driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_plugins_have_drivers_and_others_have_none() {
        assert_eq!(driver_of("kubernetes.io/gce-pd"), Some("pd.csi.storage.gke.io"));
        assert_eq!(driver_of("kubernetes.io/no-provisioner"), None);
        assert_eq!(driver_of("ebs.csi.aws.com"), None);
    }
}
