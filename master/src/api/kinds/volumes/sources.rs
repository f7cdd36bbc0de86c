//! What a volume is made of, and what each kind of that needs.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, named};
use crate::api::meta::NameRule;
use crate::api::object::{list, text};

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
pub(in crate::api::kinds) const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
characters if iscsi.initiatorName is specified.";

const QUOBYTE_REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";

/// The kinds of things that a path on the host can be.
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// What a kind of volume needs, wherever it is named.
pub(in crate::api::kinds) fn needed(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
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

pub(super) fn secret_name(source: &Value, path: &Path, errors: &mut Errors) {
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
pub(super) fn iscsi_of(source: &Value, volume: &str, path: &Path, errors: &mut Errors) {
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
