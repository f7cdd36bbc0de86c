//! PersistentVolume; in [`claims`] PersistentVolumeClaim, in [`sources`] what both volumes and pods name.

mod claims;
mod sources;

use protocol::Quantity;
use serde_json::{Value, json};

pub(super) use self::claims::{claim, claim_spec};
pub(super) use self::sources::{ISCSI_TOO_LONG, needed};
use self::sources::{iscsi_of, secret_name};
use super::checks::{self, amount, internal_diff_of, named};
use super::volume_notes::MOUNT_OPTIONS;
use super::{Strategy, base, volume_notes};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, list_mut, name, object_mut, text};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// The kinds of volumes, in the order in which they are looked for.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
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
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
/// Those that are mounted with options.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
/// Labels of nodes that got better names.
const BETTER_LABELS: &[(&str, &str)] = &[
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];
/// Where a claim's class stood once.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

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
            object["status"] =
                json!({"phase": "Pending", "lastPhaseTransitionTime": crate::api::object::now()});
            protect(object, "kubernetes.io/pv-protection");
        },
        prepare_status: |new, old| {
            const SINCE: &str = "lastPhaseTransitionTime";
            let (now, before) = (&new["status"], &old["status"]);
            let told = !now[SINCE].is_null() && now[SINCE] != before[SINCE];
            if now["phase"] == before["phase"] {
                if now[SINCE].is_null() && !before[SINCE].is_null() {
                    new["status"][SINCE] = before[SINCE].clone();
                }
            } else if !told {
                new["status"][SINCE] = crate::api::object::now().into();
            }
        },
        validate: |volume, errors| {
            volume_spec(&volume["spec"], name(volume), false, &Path::new("spec"), errors);
        },
        validate_once: mount_options,
        validate_update: |new, old, errors| {
            let (mut after, before) = (new["spec"].clone(), &old["spec"]);
            // A secret for growing may be named later, once.
            if before["csi"].is_object()
                && before["csi"]["controllerExpandSecretRef"].is_null()
                && let Some(csi) = after["csi"].as_object_mut()
            {
                csi.remove("controllerExpandSecretRef");
            }
            let after = &after;
            if SOURCES.iter().any(|kind| after[*kind] != before[*kind]) {
                let after = errors.as_sent(&Path::new("spec"), after);
                let diff = internal_diff_of("a.core.v1.PersistentVolumeSpec", SOURCES, before, &after);
                errors.forbidden(
                    &path("persistentvolumesource"),
                    format!("spec.persistentvolumesource is immutable after creation\n{diff}"),
                );
            }
            checks::immutable(&after["volumeMode"], &before["volumeMode"], &Path::new("volumeMode"), errors);
            if !before["nodeAffinity"].is_null() {
                node_affinity_kept(&after["nodeAffinity"], &before["nodeAffinity"], errors);
            }
            let [now, was] = [after, before].map(|spec| &spec["volumeAttributesClassName"]);
            if now.is_null() && !was.is_null() {
                let detail = "update from non-nil value to nil is forbidden";
                errors.forbidden(&path("volumeAttributesClassName"), detail);
            }
        },
        warnings: volume_notes::volume,
        status_warnings: Some(|_, _| {}),
        ..base()
    }
}

/// Which nodes reach a volume is said once; only labels that got better names may be renamed.
fn node_affinity_kept(after: &Value, before: &Value, errors: &mut Errors) {
    let mut renamed = before.clone();
    let terms = list_mut(&mut renamed, &["required", "nodeSelectorTerms"]);
    for (i, term) in terms.iter_mut().enumerate() {
        for (j, expression) in list_mut(term, &["matchExpressions"]).iter_mut().enumerate() {
            let now = &after["required"]["nodeSelectorTerms"][i]["matchExpressions"][j]["key"];
            if BETTER_LABELS.iter().any(|(old, new)| expression["key"] == *old && now == new) {
                expression["key"] = now.clone();
            }
        }
    }
    if *after != renamed {
        let shown = if after.is_null() {
            "null".to_owned()
        } else {
            errors.shown_struct(&path("nodeAffinity"), "a.core.v1.VolumeNodeAffinity", after)
        };
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.invalid_shown(&Path::new("nodeAffinity"), &shown, detail);
    }
}

fn mount_options(volume: &Value, errors: &mut Errors) {
    let mounted = MOUNTED.iter().any(|kind| volume["spec"][*kind].is_object());
    if !mounted && volume["metadata"]["annotations"].get(MOUNT_OPTIONS).is_some() {
        let at = Path::new("metadata.annotations").child(MOUNT_OPTIONS);
        errors.forbidden(&at, "may not specify mount options for this volume type");
    }
}

/// The spec of a volume of a name; `inline` where it stands in an attachment.
pub(super) fn volume_spec(spec: &Value, volume: &str, inline: bool, path: &Path, errors: &mut Errors) {
    let inline_detail = "may not be specified in the context of inline volumes";
    if inline {
        if spec["claimRef"].is_object() {
            errors.forbidden(&path.child("claimRef"), inline_detail);
        }
        if spec["capacity"].as_object().is_some_and(|c| !c.is_empty()) {
            errors.forbidden(&path.child("capacity"), inline_detail);
        }
        if spec["csi"].is_null() {
            errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
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
            let empty = capacity.is_none() && errors.is_given_empty(&at);
            let shown = if empty { json!({}) } else { spec["capacity"].clone() };
            errors.unsupported(&at, shown, &["storage"]);
        }
        for (name, value) in capacity.into_iter().flatten() {
            valid_quantity(value, &at.key(name), errors);
            checks::positive_quantity(value, &at.key(name), errors);
        }
    }
    if !text(spec, &["persistentVolumeReclaimPolicy"]).is_empty() {
        let at = path.child("persistentVolumeReclaimPolicy");
        if inline {
            if text(spec, &["persistentVolumeReclaimPolicy"]) != "Retain" {
                errors.forbidden(&at, "may only be Retain in the context of inline volumes");
            }
        } else {
            let policies = ["Delete", "Recycle", "Retain"];
            checks::choice(&spec["persistentVolumeReclaimPolicy"], &policies, &at, errors);
        }
    }
    if inline && spec["nodeAffinity"].is_object() {
        errors.forbidden(&path.child("nodeAffinity"), inline_detail);
    } else if spec["nodeAffinity"].is_object() {
        let at = path.child("nodeAffinity").child("required");
        let required = &spec["nodeAffinity"]["required"];
        if required.is_null() {
            errors.required(&at, "must specify required node constraints");
        } else {
            checks::node_selector(required, &at, errors);
        }
    }
    sources(spec, volume, inline, path, errors);
    if text(spec, &["hostPath", "path"]) == "/" && text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle"
    {
        errors.forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    if !inline {
        checks::named_if_set(NameRule::Subdomain, spec, "storageClassName", path, errors);
        checks::choice(&spec["volumeMode"], &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    } else {
        if !text(spec, &["storageClassName"]).is_empty() {
            errors.forbidden(&path.child("storageClassName"), inline_detail);
        }
        if spec["volumeMode"].as_str().is_some_and(|mode| mode != "Filesystem") {
            let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
            errors.forbidden(&path.child("volumeMode"), detail);
        }
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

/// What becomes of a whole number in 64 bits, where it has more digits than are read into so many: its low ones count.
fn wrapped(digits: &str) -> Option<i64> {
    const DIGITS_MAX: usize = 18;
    let is_big = digits.len() > DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit());
    let low = |sum: u64, b: u8| sum.wrapping_mul(10).wrapping_add(u64::from(b - b'0'));
    is_big.then(|| digits.bytes().fold(0, low).cast_signed())
}

/// A quantity that is not negative, in the words for capacities.
fn valid_quantity(value: &Value, path: &Path, errors: &mut Errors) {
    const WHY: &str = "must be a valid resource quantity";
    if let Some(amount) = amount(value).filter(Quantity::is_negative) {
        errors.invalid(path, amount.units(), WHY);
    } else if let Some(wrapped) = value.as_str().and_then(wrapped).filter(|units| *units < 0) {
        errors.invalid(path, wrapped, WHY);
    }
}

fn sources(spec: &Value, volume: &str, inline: bool, path: &Path, errors: &mut Errors) {
    let mut found = 0;
    for kind in SOURCES {
        let source = &spec[*kind];
        if !source.is_object() {
            continue;
        }
        found += 1;
        // One kind is never one too many.
        if found > 1 && *kind != "flexVolume" {
            let shown = if *kind == "cephfs" { "cephFS" } else { kind };
            errors.forbidden(&path.child(shown), "may not specify more than 1 volume type");
            continue;
        }
        let at = path.child(kind);
        match *kind {
            "gcePersistentDisk" => needed(kind, source, &path.child("persistentDisk"), errors),
            "local" => {
                match text(source, &["path"]) {
                    "" => errors.required(&at.child("path"), ""),
                    given => checks::no_backsteps(given, &at.child("path"), errors),
                }
                if spec["nodeAffinity"].is_null() || inline {
                    errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "iscsi" => {
                iscsi_of(source, volume, &at, errors);
                secret_name(source, &at, errors);
            }
            "glusterfs" => {
                needed(kind, source, &at, errors);
                let at = at.child("endpointsNamespace");
                match source["endpointsNamespace"].as_str() {
                    None => {}
                    Some("") => {
                        let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                        errors.invalid(&at, "", detail);
                    }
                    Some(name) => named(NameRule::Label, name, &at, errors),
                }
            }
            "cinder" | "storageos" => {
                needed(kind, source, &at, errors);
                if source["secretRef"].is_object() {
                    checks::required(&source["secretRef"], "namespace", &at.child("secretRef"), errors);
                }
            }
            "azureFile" => {
                needed(kind, source, &at, errors);
                if source["secretNamespace"].as_str() == Some("") {
                    errors.required(&at.child("secretNamespace"), "");
                }
            }
            "csi" => container_storage(source, &at, errors),
            kind => needed(kind, source, &at, errors),
        }
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn container_storage(source: &Value, path: &Path, errors: &mut Errors) {
    super::storage::driver_name(text(source, &["driver"]), &path.child("driver"), errors);
    checks::required(source, "volumeHandle", path, errors);
    for secret in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if source[secret].is_object() {
            let path = path.child(secret);
            checks::required_name(NameRule::Subdomain, &source[secret], "name", &path, errors);
            checks::required_name(NameRule::Label, &source[secret], "namespace", &path, errors);
        }
    }
}
