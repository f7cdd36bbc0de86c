//! Volumes and claims, storage classes, CSI drivers.

use serde_json::{Value, json};

use super::{Strategy, base, immutable};
use crate::api::invalid::Path;
use crate::api::object::{default, list, object_mut, text};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Adds the finalizer that keeps an object while it is in use.
fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers = list(object, &["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.into());
        object["metadata"]["finalizers"] = finalizers.into();
    }
}

pub(super) fn volume() -> Strategy {
    Strategy {
        defaults: |object| {
            let spec = object_mut(object, &["spec"]);
            default(spec, "persistentVolumeReclaimPolicy", "Retain");
            default(spec, "volumeMode", "Filesystem");
            if let Some(source) = spec.get_mut("hostPath").and_then(Value::as_object_mut) {
                source.entry("type").or_insert_with(|| "".into());
            }
            default(object_mut(object, &["status"]), "phase", "Pending");
        },
        prepare_create: |object| {
            object["status"] = json!({"phase": "Pending"});
            protect(object, "kubernetes.io/pv-protection");
        },
        validate: |object, errors| {
            let path = |name: &str| Path::new("spec").child(name);
            modes(object, &path("accessModes"), errors);
            if object["spec"]["capacity"].as_object().is_none_or(|c| c.is_empty()) {
                errors.required(&path("capacity"), "");
            }
        },
        ..base()
    }
}

fn modes(object: &Value, path: &Path, errors: &mut crate::api::invalid::Errors) {
    let found = list(object, &["spec", "accessModes"]);
    if found.is_empty() {
        errors.required(path, "");
    }
    for mode in found.iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            errors.unsupported(path, mode, MODES);
        }
    }
}

pub(super) fn claim() -> Strategy {
    Strategy {
        defaults: |object| {
            default(object_mut(object, &["spec"]), "volumeMode", "Filesystem");
            default(object_mut(object, &["status"]), "phase", "Pending");
        },
        prepare_create: |object| {
            object["status"] = json!({"phase": "Pending"});
            protect(object, "kubernetes.io/pvc-protection");
        },
        validate: |object, errors| {
            let path = |name: &str| Path::new("spec").child(name);
            if list(object, &["spec", "accessModes"]).is_empty() {
                errors.required(&path("accessModes"), "at least 1 access mode is required");
            } else {
                modes(object, &path("accessModes"), errors);
            }
            if text(object, &["spec", "resources", "requests", "storage"]).is_empty() {
                errors.required(&path("resources").key("storage"), "");
            }
        },
        ..base()
    }
}

pub(super) fn class() -> Strategy {
    Strategy {
        defaults: |object| {
            let fields = object_mut(object, &[]);
            default(fields, "reclaimPolicy", "Delete");
            default(fields, "volumeBindingMode", "Immediate");
        },
        validate: |object, errors| {
            if text(object, &["provisioner"]).is_empty() {
                errors.required(&Path::new("provisioner"), "");
            }
            let policy = text(object, &["reclaimPolicy"]);
            if !["Delete", "Retain"].contains(&policy) {
                errors.unsupported(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
            }
        },
        validate_update: |new, old, errors| {
            if new["parameters"] != old["parameters"] {
                errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
            }
            if new["provisioner"] != old["provisioner"] {
                errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
            }
            if new["reclaimPolicy"] != old["reclaimPolicy"] {
                errors.forbidden(&Path::new("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
            }
            immutable(
                &new["volumeBindingMode"],
                &old["volumeBindingMode"],
                &Path::new("volumeBindingMode"),
                errors,
            );
        },
        ..base()
    }
}

pub(super) fn csi_driver() -> Strategy {
    Strategy {
        defaults: |object| {
            let spec = object_mut(object, &["spec"]);
            default(spec, "attachRequired", true);
            default(spec, "podInfoOnMount", false);
            default(spec, "storageCapacity", false);
            default(spec, "requiresRepublish", false);
            default(spec, "seLinuxMount", false);
            default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            default(spec, "volumeLifecycleModes", json!(["Persistent"]));
        },
        ..base()
    }
}
