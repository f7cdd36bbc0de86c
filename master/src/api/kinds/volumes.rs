//! PersistentVolume and PersistentVolumeClaim.

use protocol::Quantity;
use serde_json::{Value, json};

use super::checks::{self, amount, internal_diff, internal_diff_of, named};
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
/// What a kind of volume cannot do without.
const NEEDS: &[(&str, &[&str])] = &[
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];
/// What is wrong with a portal whose initiator would get too long a name.
pub(super) const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
characters if iscsi.initiatorName is specified.";
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
/// How far the growing of a claim is.
const RESIZES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const QUOBYTE_REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";

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
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let (partition, path) = (&source["partition"], path.child("partition"));
            if partition.as_i64().is_some_and(|n| !(0..=255).contains(&n)) {
                errors.invalid(&path, partition.clone(), "must be between 1 and 255, inclusive");
            }
        }
        "rbd" => {
            non_empty(source, "monitors", path, errors);
            checks::required(source, "image", path, errors);
        }
        "cephfs" => non_empty(source, "monitors", path, errors),
        "cinder" => secret_name(source, path, errors),
        "flocker" => flocker(source, path, errors),
        "flexVolume" => reserved_options(source, &path.child("options"), errors),
        "quobyte" => quobyte(source, path, errors),
        "azureDisk" => azure_disk(source, path, errors),
        "storageos" => {
            for name in ["volumeName", "volumeNamespace"] {
                match text(source, &[name]) {
                    "" if name == "volumeName" => errors.required(&path.child(name), ""),
                    "" => {}
                    value => named(NameRule::Label, value, &path.child(name), errors),
                }
            }
            secret_name(source, path, errors);
        }
        _ => {}
    }
}

fn non_empty(source: &Value, name: &str, path: &Path, errors: &mut Errors) {
    if list(source, &[name]).is_empty() {
        errors.required(&path.child(name), "");
    }
}

fn secret_name(source: &Value, path: &Path, errors: &mut Errors) {
    if source["secretRef"].is_object() {
        checks::required(&source["secretRef"], "name", &path.child("secretRef"), errors);
    }
}

fn flocker(source: &Value, path: &Path, errors: &mut Errors) {
    let (name, id) = (text(source, &["datasetName"]), text(source, &["datasetUUID"]));
    if name.is_empty() && id.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !id.is_empty() {
        errors.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

/// Options whose names the cluster keeps for itself.
fn reserved_options(source: &Value, path: &Path, errors: &mut Errors) {
    for (key, _) in source["options"].as_object().into_iter().flatten() {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
        let dotted = format!(".{}", domain.to_lowercase());
        if [".kubernetes.io", ".k8s.io"].iter().any(|own| dotted.ends_with(own)) {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&path.key(key), key.as_str(), detail);
        }
    }
}

fn quobyte(source: &Value, path: &Path, errors: &mut Errors) {
    let registry = text(source, &["registry"]);
    if registry.is_empty() {
        errors.required(&path.child("registry"), QUOBYTE_REGISTRY);
    } else if text(source, &["tenant"]).len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), detail);
    } else {
        let is_pair = |pair: &&str| match pair.strip_prefix('[') {
            Some(v6) => v6.split_once("]:").is_some_and(|(_, port)| !port.contains([':', '[', ']'])),
            None => pair.split(':').count() == 2 && !pair.contains(['[', ']']),
        };
        for _ in registry.split(',').filter(|pair| !is_pair(pair)) {
            errors.invalid(&path.child("registry"), registry, QUOBYTE_REGISTRY);
        }
    }
    checks::required(source, "volume", path, errors);
}

fn azure_disk(source: &Value, path: &Path, errors: &mut Errors) {
    let caching = ["None", "ReadOnly", "ReadWrite"];
    checks::choice(&source["cachingMode"], &caching, &path.child("cachingMode"), errors);
    checks::choice(&source["kind"], &["Dedicated", "Managed", "Shared"], &path.child("kind"), errors);
    let (kind, place, path) = (source["kind"].as_str(), text(source, &["diskURI"]), path.child("diskURI"));
    let (begin, form) = if kind == Some("Managed") {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if kind.is_some() && !place.starts_with(begin) {
        errors.unsupported(&path, place, &[form]);
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
    let form = "must be valid format starting with iqn, eui, or naa";
    match iqn {
        "" => errors.required(&path.child("iqn"), ""),
        _ => initiator(iqn, form, &path.child("iqn"), errors),
    }
    iscsi_rest(source, form, path, errors);
}

/// As [`iscsi`], of a persistent volume, which is more particular about some things.
fn iscsi_of(source: &Value, volume: &str, path: &Path, errors: &mut Errors) {
    checks::required(source, "targetPortal", path, errors);
    let portal = text(source, &["targetPortal"]);
    if !source["initiatorName"].is_null() && volume.len() + 1 + portal.len() > 64 {
        errors.invalid(&path.child("targetportal"), portal, ISCSI_TOO_LONG);
    }
    match text(source, &["iqn"]) {
        "" => errors.required(&path.child("iqn"), ""),
        iqn => initiator(iqn, "must be valid format", &path.child("iqn"), errors),
    }
    iscsi_rest(source, "must be valid format", path, errors);
}

fn iscsi_rest(source: &Value, form: &str, path: &Path, errors: &mut Errors) {
    if source["lun"].as_i64().is_some_and(|lun| !(0..=255).contains(&lun)) {
        errors.invalid(&path.child("lun"), source["lun"].clone(), "must be between 0 and 255, inclusive");
    }
    let challenged = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|n| source[*n] == Value::Bool(true));
    if challenged && source["secretRef"].is_null() {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(name) = source["initiatorName"].as_str() {
        initiator(name, form, &path.child("initiatorname"), errors);
    }
}

/// A name in one of the three forms that initiators and targets have.
fn initiator(name: &str, unknown: &str, path: &Path, errors: &mut Errors) {
    let alphanumeric =
        |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric());
    // After the letters any character may stand, for the pattern has a dot there.
    let rest = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.get(1..));
    let fine = if name.starts_with("iqn") {
        is_iqn(name)
    } else if name.starts_with("eui") {
        rest("eui").is_some_and(|rest| alphanumeric(rest, 16))
    } else if name.starts_with("naa") {
        rest("naa").is_some_and(|rest| alphanumeric(rest, 32))
    } else {
        errors.invalid(path, name, unknown);
        return;
    };
    if !fine {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.`, a year and a month, a domain backwards, a colon and anything plain.
fn is_iqn(name: &str) -> bool {
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let Some((domain, target)) = rest.split_once(':') else { return false };
    let dated = date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let odd = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '*' | '&' | '$' | '|');
    dated && !domain.is_empty() && domain.chars().all(plain) && !target.is_empty() && !target.contains(odd)
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
            object["status"] =
                json!({"phase": "Pending", "lastPhaseTransitionTime": crate::api::object::now()});
            protect(object, "kubernetes.io/pv-protection");
        },
        prepare_status: |new, old| {
            const SINCE: &str = "lastPhaseTransitionTime";
            let (now, before) = (&new["status"], &old["status"]);
            let told = !now[SINCE].is_null() && now[SINCE] != before[SINCE];
            if now["phase"] != before["phase"] && !told {
                new["status"][SINCE] = crate::api::object::now().into();
            }
        },
        validate: own_spec,
        validate_update: |new, old, errors| {
            // Upstream checks the whole again here.
            own_spec(new, errors);
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
                let diff = internal_diff_of("a.core.v1.PersistentVolumeSpec", SOURCES, before, after);
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
            checks::internal("a.core.v1.VolumeNodeAffinity", after)
        };
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.invalid_shown(&Path::new("nodeAffinity"), &shown, detail);
    }
}

fn own_spec(volume: &Value, errors: &mut Errors) {
    volume_spec(&volume["spec"], name(volume), false, &Path::new("spec"), errors);
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
            errors.unsupported(&at, spec["capacity"].clone(), &["storage"]);
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

/// A quantity that is not negative, in the words for capacities.
fn valid_quantity(value: &Value, path: &Path, errors: &mut Errors) {
    if let Some(amount) = amount(value).filter(Quantity::is_negative) {
        errors.invalid(path, amount.units(), "must be a valid resource quantity");
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

pub(super) fn claim() -> Strategy {
    Strategy {
        defaults: |object| {
            default(object_mut(object, &["spec"]), "volumeMode", "Filesystem");
            default(object_mut(object, &["status"]), "phase", "Pending");
        },
        prepare_create: |object| {
            object["status"] = json!({"phase": "Pending"});
            protect(object, "kubernetes.io/pvc-protection");
            data_sources(&mut object["spec"], &Value::Null);
        },
        prepare_update: |new, old| data_sources(&mut new["spec"], &old["spec"]),
        validate: |object, errors| claim_spec(&object["spec"], &Path::new("spec"), errors),
        validate_update: claim_update,
        validate_status: claim_status,
        warnings: volume_notes::claim,
        ..base()
    }
}

/// Old clients knew only claims and snapshots as sources; whatever else they said was dropped, unless the claim has a
/// source already. What is of another namespace is not switched on.
fn data_sources(spec: &mut Value, old: &Value) {
    let elsewhere = !text(spec, &["dataSourceRef", "namespace"]).is_empty();
    if elsewhere && !old["dataSourceRef"].is_object() {
        object_mut(spec, &[]).remove("dataSourceRef");
    }
    let had = old["dataSource"].is_object() || old["dataSourceRef"].is_object();
    let source = &spec["dataSource"];
    if source.is_object() && !spec["dataSourceRef"].is_object() && !had {
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
    } else if reference.is_object() && source.is_null() && text(&reference, &["namespace"]).is_empty() {
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
    if list(spec, &["accessModes"]).is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    checks::label_selector(&spec["selector"], &path.child("selector"), errors);
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
        // The value is shown as the server holds it, a path of which nothing can be seen.
        if !text(reference, &["namespace"]).is_empty() {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            errors.invalid_shown(path, "{}", detail);
        } else if !same {
            errors.invalid_shown(path, "{}", "must match dataSourceRef");
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
    checks::named_if_set(NameRule::Label, source, "namespace", path, errors);
}

fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut after, mut before) = (new["spec"].clone(), old["spec"].clone());
    let copy = |from: &Value, to: &mut Value, name: &str| crate::api::object::copy_field(from, to, name);
    if text(&before, &["volumeName"]).is_empty() {
        copy(&after, &mut before, "volumeName");
    }
    let bound = text(new, &["status", "phase"]) == "Bound";
    let [was, is] = [old, new].map(|claim| &claim["metadata"]["annotations"][OLD_CLASS]);
    let class = after["storageClassName"].clone();
    if before["storageClassName"].is_null()
        && class.is_string()
        && class == *was
        && (is.is_null() || is == was)
    {
        // The class moves from its old place to its new one.
        copy(&before, &mut after, "storageClassName");
    } else {
        if was != is {
            let path = Path::new("metadata").child("annotations").child(OLD_CLASS);
            errors.invalid(&path, is.as_str().unwrap_or_default(), checks::IMMUTABLE);
        }
        // A claim without a class gets one.
        if before["storageClassName"].is_null() && class.is_string() && (was.is_null() || class == *was) {
            copy(&before, &mut after, "storageClassName");
        }
    }
    if bound {
        let requested = before["resources"]["requests"]["storage"].clone();
        if after["resources"]["requests"].is_object() && !requested.is_null() {
            after["resources"]["requests"]["storage"] = requested;
        }
    }
    if bound && after["volumeAttributesClassName"].is_string() {
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
    // What is not asked for is nothing.
    let storage =
        |object: &Value| amount(&object["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
    let (wanted, was) = (storage(new), storage(old));
    if wanted < was && amount(&old["status"]["capacity"]["storage"]).is_none_or(|now| wanted <= now) {
        let path = path("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
    let [is, was] = [new, old].map(|claim| &claim["spec"]["volumeMode"]);
    checks::immutable(is, was, &Path::new("volumeMode"), errors);
    let [is, was] = [new, old].map(|claim| &claim["spec"]["volumeAttributesClassName"]);
    if was.is_string() && is != was {
        let path = path("volumeAttributesClassName");
        match is.as_str() {
            None => errors.forbidden(&path, "update from non-nil value to nil is forbidden"),
            Some("") => {
                errors.forbidden(&path, "update from non-nil value to an empty string is forbidden");
            }
            Some(_) => {}
        }
    }
}

/// Checks a change of a claim's status.
fn claim_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Path::new("status");
    for (name, value) in new["status"]["capacity"].as_object().into_iter().flatten() {
        valid_quantity(value, &status.child("capacity").key(name), errors);
    }
    let path = status.child("allocatedResourceStatuses");
    for (name, value) in new["status"]["allocatedResourceStatuses"].as_object().into_iter().flatten() {
        claim_resource(name, &path, errors);
        if !RESIZES.iter().any(|known| value == known) {
            errors.unsupported(&path, name.as_str(), RESIZES);
        }
    }
    let path = status.child("allocatedResources");
    for (name, value) in new["status"]["allocatedResources"].as_object().into_iter().flatten() {
        let before = errors.len();
        claim_resource(name, &path, errors);
        if errors.len() == before {
            valid_quantity(value, &path.key(name), errors);
        }
    }
}

/// What a claim can have of its own: storage, and what others than the cluster name.
fn claim_resource(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    checks::qualified(name, path, errors);
    let native = name.split_once('/').is_none_or(|(domain, _)| domain.contains("kubernetes.io"));
    if errors.len() == before && native && name != "storage" {
        errors.unsupported(path, name, &["storage"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_old_clients_made_up_are_dropped() {
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "a"});
        let other = json!({"apiGroup": "example.com", "kind": "Thing", "name": "a"});
        let far = json!({"apiGroup": "example.com", "kind": "Thing", "name": "a", "namespace": "b"});
        for (spec, old, wanted) in [
            (json!({"dataSource": claim}), json!({}), json!({"dataSource": claim, "dataSourceRef": claim})),
            (json!({"dataSource": other}), json!({}), json!({})),
            (json!({"dataSource": other}), json!({"dataSource": other}), {
                json!({"dataSource": other, "dataSourceRef": other})
            }),
            (
                json!({"dataSourceRef": other}),
                json!({}),
                json!({"dataSource": other, "dataSourceRef": other}),
            ),
            (json!({"dataSourceRef": far}), json!({}), json!({})),
        ] {
            let mut made = spec.clone();
            data_sources(&mut made, &old);
            assert_eq!(made, wanted, "{spec} {old}");
        }
    }
}
