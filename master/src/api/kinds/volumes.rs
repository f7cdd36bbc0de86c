//! PersistentVolume and PersistentVolumeClaim.

use serde_json::{Value, json};

use super::checks::{self, amount, internal_diff, named};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, object_mut, text};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// The kinds of volumes, in the order in which they are looked for.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
/// What a kind of volume cannot do without.
const NEEDS: &[(&str, &[&str])] = &[
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["image"]),
    ("quobyte", &["registry", "volume"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

/// The kinds of things that a path on the host can be.
pub(super) const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

fn path(name: &str) -> Path {
    Path::new("spec").child(name)
}

/// Adds the finalizer that keeps an object while it is in use.
pub(super) fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers = list(object, &["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.into());
        object["metadata"]["finalizers"] = finalizers.into();
    }
}

fn modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let found = list(spec, &["accessModes"]);
    for mode in found {
        checks::choice(mode, MODES, path, errors);
    }
    let once = found.iter().filter(|m| *m == "ReadWriteOncePod").count();
    if once > 0 && found.iter().any(|m| MODES.iter().any(|k| m == k) && m != "ReadWriteOncePod") {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// What a kind of volume needs, wherever it is named.
pub(super) fn needed(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    for name in NEEDS.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, names)| names) {
        checks::required(source, name, path, errors);
    }
    match kind {
        "hostPath" => host_path(source, path, errors),
        "nfs" => nfs(source, path, errors),
        "iscsi" => iscsi(source, path, errors),
        "fc" => fibre_channel(source, path, errors),
        _ => {}
    }
}

fn host_path(source: &Value, path: &Path, errors: &mut Errors) {
    let given = text(source, &["path"]);
    if given.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    checks::no_backsteps(given, &path.child("path"), errors);
    checks::choice(&source["type"], HOST_PATH_TYPES, &path.child("type"), errors);
}

fn nfs(source: &Value, path: &Path, errors: &mut Errors) {
    checks::required(source, "server", path, errors);
    checks::required(source, "path", path, errors);
    let given = text(source, &["path"]);
    if !given.starts_with('/') {
        errors.invalid(&path.child("path"), given, "must be an absolute path");
    }
}

fn iscsi(source: &Value, path: &Path, errors: &mut Errors) {
    checks::required(source, "targetPortal", path, errors);
    let iqn = text(source, &["iqn"]);
    if iqn.is_empty() {
        errors.required(&path.child("iqn"), "");
    } else if !["iqn", "eui", "naa"].iter().any(|p| iqn.starts_with(p)) {
        errors.invalid(&path.child("iqn"), iqn, "must be valid format starting with iqn, eui, or naa");
    }
    if source["lun"].as_i64().is_some_and(|lun| !(0..=255).contains(&lun)) {
        errors.invalid(&path.child("lun"), source["lun"].clone(), "must be between 0 and 255, inclusive");
    }
}

fn fibre_channel(source: &Value, path: &Path, errors: &mut Errors) {
    let (names, ids) = (list(source, &["targetWWNs"]), list(source, &["wwids"]));
    if names.is_empty() && ids.is_empty() {
        errors.required(&path.child("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        errors.invalid(
            &path.child("targetWWNs"),
            names.to_vec(),
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if !names.is_empty() {
        match source["lun"].as_i64() {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive");
            }
            Some(_) => {}
        }
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
        validate: |object, errors| volume_spec(&object["spec"], false, &Path::new("spec"), errors),
        validate_update: |new, old, errors| {
            let (after, before) = (&new["spec"], &old["spec"]);
            if SOURCES.iter().any(|kind| after[*kind] != before[*kind]) {
                let only = |spec: &Value| {
                    let kept = SOURCES.iter().filter(|kind| !spec[**kind].is_null());
                    Value::Object(kept.map(|kind| ((*kind).to_owned(), spec[*kind].clone())).collect())
                };
                let diff = internal_diff("a.core.v1.PersistentVolumeSource", &only(before), &only(after));
                errors.forbidden(
                    &path("persistentvolumesource"),
                    format!("spec.persistentvolumesource is immutable after creation\n{diff}"),
                );
            }
            checks::immutable(&after["volumeMode"], &before["volumeMode"], &path("volumeMode"), errors);
            if !before["nodeAffinity"].is_null() {
                checks::immutable_struct(
                    "a.core.v1.VolumeNodeAffinity",
                    &after["nodeAffinity"],
                    &before["nodeAffinity"],
                    &path("nodeAffinity"),
                    errors,
                );
            }
        },
        ..base()
    }
}

/// A volume's spec; `inline` where it stands in an attachment.
pub(super) fn volume_spec(spec: &Value, inline: bool, path: &Path, errors: &mut Errors) {
    let inline_detail = "may not be specified in the context of inline volumes";
    if inline {
        if spec["claimRef"].is_object() {
            errors.forbidden(&path.child("claimRef"), inline_detail);
        }
        if spec["capacity"].as_object().is_some_and(|c| !c.is_empty()) {
            errors.forbidden(&path.child("capacity"), inline_detail);
        }
    }
    if list(spec, &["accessModes"]).is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    modes(spec, &path.child("accessModes"), errors);
    if !inline {
        let capacity = spec["capacity"].as_object();
        let at = path.child("capacity");
        if capacity.is_none_or(|c| c.is_empty()) {
            errors.required(&at, "");
        }
        if capacity.is_none_or(|c| !c.contains_key("storage") || c.len() > 1) {
            errors.unsupported(&at, spec["capacity"].clone(), &["storage"]);
        }
        for (name, value) in capacity.into_iter().flatten() {
            checks::positive_quantity(value, &at.key(name), errors);
        }
    }
    if !text(spec, &["persistentVolumeReclaimPolicy"]).is_empty() {
        let at = path.child("persistentVolumeReclaimPolicy");
        if inline {
            errors.forbidden(&at, "may only be \"Retain\" in the context of inline volumes");
        } else {
            let policies = ["Delete", "Recycle", "Retain"];
            checks::choice(&spec["persistentVolumeReclaimPolicy"], &policies, &at, errors);
        }
    }
    if spec["nodeAffinity"].is_object() {
        let at = path.child("nodeAffinity").child("required");
        let required = &spec["nodeAffinity"]["required"];
        if required.is_null() {
            errors.required(&at, "must specify required node constraints");
        } else {
            checks::node_selector(required, &at, errors);
        }
    }
    sources(spec, path, errors);
    if text(spec, &["hostPath", "path"]) == "/" && text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle"
    {
        errors.forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    checks::named_if_set(NameRule::Subdomain, spec, "storageClassName", path, errors);
    if !inline {
        checks::choice(&spec["volumeMode"], &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    }
    if let Some(class) = spec["volumeAttributesClassName"].as_str() {
        let at = path.child("volumeAttributesClassName");
        match class {
            "" => errors.required(&at, "an empty string is disallowed"),
            class => named(NameRule::Subdomain, class, &at, errors),
        }
        if spec["csi"].is_null() {
            errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn sources(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut found = 0;
    for kind in SOURCES {
        let source = &spec[*kind];
        if !source.is_object() {
            continue;
        }
        let path = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            continue;
        }
        match *kind {
            "local" => {
                let given = text(source, &["path"]);
                if given.is_empty() {
                    errors.required(&path.child("path"), "");
                } else {
                    checks::no_backsteps(given, &path.child("path"), errors);
                }
                if spec["nodeAffinity"].is_null() {
                    errors
                        .required(&Path::new("metadata.annotations"), "Local volume requires node affinity");
                }
            }
            "csi" => {
                super::storage::driver_name(text(source, &["driver"]), &path.child("driver"), errors);
                checks::required(source, "volumeHandle", &path, errors);
                for secret in [
                    "controllerPublishSecretRef",
                    "controllerExpandSecretRef",
                    "nodePublishSecretRef",
                    "nodeExpandSecretRef",
                ] {
                    if source[secret].is_object() {
                        for name in ["name", "namespace"] {
                            checks::required(&source[secret], name, &path.child(secret), errors);
                        }
                    }
                }
            }
            kind => needed(kind, source, &path, errors),
        }
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
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
            data_sources(&mut object["spec"]);
        },
        prepare_update: |new, _| normalize(&mut new["spec"]),
        validate: |object, errors| claim_spec(&object["spec"], &Path::new("spec"), errors),
        validate_update: claim_update,
        ..base()
    }
}

/// Old clients knew only claims and snapshots as sources; whatever else they said was dropped.
fn data_sources(spec: &mut Value) {
    let source = &spec["dataSource"];
    if source.is_object() {
        let (group, kind) = (text(source, &["apiGroup"]), text(source, &["kind"]));
        let known = (group.is_empty() && kind == "PersistentVolumeClaim")
            || (group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot");
        if !known {
            object_mut(spec, &[]).remove("dataSource");
        }
    }
    normalize(spec);
}

/// Each of the two fields says what the other does.
fn normalize(spec: &mut Value) {
    let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if source.is_object() && reference.is_null() {
        spec["dataSourceRef"] = source;
    } else if reference.is_object() && source.is_null() && reference["namespace"].is_null() {
        spec["dataSource"] = reference;
    }
    let spec = object_mut(spec, &[]);
    for name in ["dataSource", "dataSourceRef"] {
        if spec.get(name).is_some_and(Value::is_null) {
            spec.remove(name);
        }
    }
}

/// A claim's spec, of a claim or of a template.
pub(super) fn claim_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    checks::label_selector(&spec["selector"], &path.child("selector"), errors);
    if list(spec, &["accessModes"]).is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    modes(spec, &path.child("accessModes"), errors);
    let storage = &spec["resources"]["requests"]["storage"];
    let at = path.child("resources").key("storage");
    if storage.is_null() {
        errors.required(&at, "");
    } else {
        checks::positive_quantity(storage, &at, errors);
    }
    checks::named_if_set(NameRule::Subdomain, spec, "storageClassName", path, errors);
    checks::choice(&spec["volumeMode"], &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    for field in ["dataSource", "dataSourceRef"] {
        if spec[field].is_object() {
            data_source(&spec[field], &path.child(field), errors);
        }
    }
    let (source, reference) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if source.is_object() && reference.is_object() {
        let same = ["apiGroup", "kind", "name"].iter().all(|n| text(source, &[n]) == text(reference, &[n]));
        if !same {
            errors.invalid(path, path.child("dataSource").to_string(), "must match dataSourceRef");
        }
    }
    if let Some(class) = spec["volumeAttributesClassName"].as_str().filter(|c| !c.is_empty()) {
        named(NameRule::Subdomain, class, &path.child("volumeAttributesClassName"), errors);
    }
}

fn data_source(source: &Value, path: &Path, errors: &mut Errors) {
    checks::required(source, "name", path, errors);
    checks::required(source, "kind", path, errors);
    let (group, kind) = (text(source, &["apiGroup"]), text(source, &["kind"]));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        named(NameRule::Subdomain, group, &path.child("apiGroup"), errors);
    }
}

fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut after, mut before) = (new["spec"].clone(), old["spec"].clone());
    let copy = |from: &Value, to: &mut Value, name: &str| crate::api::object::copy_field(from, to, name);
    if text(&before, &["volumeName"]).is_empty() {
        copy(&after, &mut before, "volumeName");
    }
    let bound = text(new, &["status", "phase"]) == "Bound";
    if before["storageClassName"].is_null() && !bound {
        copy(&after, &mut before, "storageClassName");
    }
    if bound {
        let requested = before["resources"]["requests"]["storage"].clone();
        if after["resources"]["requests"].is_object() && !requested.is_null() {
            after["resources"]["requests"]["storage"] = requested;
        }
    }
    if bound || after["volumeAttributesClassName"] == before["volumeAttributesClassName"] {
        copy(&before, &mut after, "volumeAttributesClassName");
    }
    if after != before {
        let diff = internal_diff("a.core.v1.PersistentVolumeClaimSpec", &before, &after);
        errors.forbidden(
            &Path::new("spec"),
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims\n{diff}"
            ),
        );
    }
    let storage = |object: &Value| amount(&object["spec"]["resources"]["requests"]["storage"]);
    if let (Some(wanted), Some(was)) = (storage(new), storage(old))
        && wanted < was
        && amount(&old["status"]["capacity"]["storage"]).is_none_or(|now| wanted <= now)
    {
        let path = path("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
    let (new, old) = (&new["spec"]["volumeMode"], &old["spec"]["volumeMode"]);
    checks::immutable(new, old, &path("volumeMode"), errors);
}
