//! Validation of a pod's volumes.

use std::collections::HashSet;

use serde_json::Value;

use super::containers::{env_field, resource_field};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, amount, named};
use crate::api::kinds::{storage, volumes as persistent};
use crate::api::meta::{self, NameRule};
use crate::api::object::{list, text};

/// The kinds of volumes, in the order in which they are looked for.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
const MORE: &str = "may not specify more than 1 volume type";
/// What a downward API file can show.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Checks the volumes; the names of those without mistakes are what containers can mount.
pub fn volumes<'a>(spec: &'a Value, path: &Path, errors: &mut Errors) -> HashSet<&'a str> {
    let (mut names, mut sound) = (HashSet::new(), HashSet::new());
    for (i, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let (path, name) = (path.index(i), text(volume, &["name"]));
        let before = errors.len();
        source(volume, &path, errors);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            named(NameRule::Label, name, &path.child("name"), errors);
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        if errors.len() == before {
            sound.insert(name);
        }
    }
    sound
}

fn source(volume: &Value, path: &Path, errors: &mut Errors) {
    let mut found = 0;
    for kind in SOURCES {
        let source = &volume[*kind];
        if source.is_null() {
            continue;
        }
        let path = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&path, MORE);
            continue;
        }
        one(kind, source, &path, errors);
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn one(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    match kind {
        "emptyDir" => {
            if amount(&source["sizeLimit"]).is_some_and(|q| q.is_negative()) {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.forbidden(&path.child("sizeLimit"), detail);
            }
        }
        "gitRepo" => {
            checks::required(source, "repository", path, errors);
            checks::descending(text(source, &["directory"]), &path.child("directory"), errors);
        }
        "secret" => {
            checks::required(source, "secretName", path, errors);
            files(source, path, errors);
        }
        "configMap" => {
            checks::required(source, "name", path, errors);
            files(source, path, errors);
        }
        "persistentVolumeClaim" => checks::required(source, "claimName", path, errors),
        "downwardAPI" => {
            mode(&source["defaultMode"], &path.child("defaultMode"), errors);
            for (i, item) in list(source, &["items"]).iter().enumerate() {
                downward(item, &path.child("items").index(i), errors);
            }
        }
        "projected" => projected(source, path, errors),
        "csi" => {
            storage::driver_name(text(source, &["driver"]), &path.child("driver"), errors);
            if source["nodePublishSecretRef"].is_object() {
                let path = path.child("nodePublishSecretRef");
                checks::required(&source["nodePublishSecretRef"], "name", &path, errors);
            }
        }
        "ephemeral" => ephemeral(source, &path.child("volumeClaimTemplate"), errors),
        "image" => {
            checks::required(source, "reference", path, errors);
            let policies = ["Always", "IfNotPresent", "Never"];
            checks::choice(&source["pullPolicy"], &policies, &path.child("pullPolicy"), errors);
        }
        kind => persistent::needed(kind, source, path, errors),
    }
}

fn mode(mode: &Value, path: &Path, errors: &mut Errors) {
    if mode.as_i64().is_some_and(|m| !(0..=0o777).contains(&m)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(path, mode.clone(), detail);
    }
}

fn files(source: &Value, path: &Path, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    items(source, path, errors);
}

fn items(source: &Value, path: &Path, errors: &mut Errors) {
    for (i, item) in list(source, &["items"]).iter().enumerate() {
        let path = path.child("items").index(i);
        checks::required(item, "key", &path, errors);
        file_path(item, &path, errors);
        mode(&item["mode"], &path.child("mode"), errors);
    }
}

fn file_path(item: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("path");
    match text(item, &["path"]) {
        "" => errors.required(&path, ""),
        given => checks::non_reserved_descending(given, &path, errors),
    }
}

fn downward(item: &Value, path: &Path, errors: &mut Errors) {
    file_path(item, path, errors);
    match (item["fieldRef"].is_object(), item["resourceFieldRef"].is_object()) {
        (true, both) => {
            env_field(&item["fieldRef"], FILE_FIELDS, &path.child("fieldRef"), errors);
            if both {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
        }
        (false, true) => {
            resource_field(&item["resourceFieldRef"], true, &path.child("resourceFieldRef"), errors);
        }
        (false, false) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(&item["mode"], &path.child("mode"), errors);
}

fn projected<'a>(source: &'a Value, path: &Path, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    let mut paths: HashSet<&str> = HashSet::new();
    // What is shown is what the second file comes from, where that has a name.
    let mut taken = |file: &'a str, shown: &str, errors: &mut Errors| {
        if !file.is_empty() && !paths.insert(file) {
            errors.invalid(path, shown, "conflicting duplicate paths");
        }
    };
    for (i, projection) in list(source, &["sources"]).iter().enumerate() {
        let at = path.child("sources").index(i);
        let mut found = 0;
        for kind in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let inner = &projection[kind];
            if !inner.is_object() {
                continue;
            }
            let at = at.child(kind);
            found += 1;
            if found > 1 {
                errors.forbidden(&at, MORE);
                continue;
            }
            match kind {
                "secret" | "configMap" => {
                    checks::required(inner, "name", &at, errors);
                    items(inner, &at, errors);
                }
                "downwardAPI" => {
                    for (j, item) in list(inner, &["items"]).iter().enumerate() {
                        downward(item, &at.child("items").index(j), errors);
                    }
                }
                "serviceAccountToken" => {
                    let lifetime = at.child("expirationSeconds");
                    storage::token_lifetime(&inner["expirationSeconds"], &lifetime, errors);
                    file_path(inner, &at, errors);
                }
                _ => {}
            }
            for item in list(inner, &["items"]) {
                let file = text(item, &["path"]);
                let shown = if kind == "downwardAPI" { file } else { text(inner, &["name"]) };
                taken(file, shown, errors);
            }
            if kind == "serviceAccountToken" || kind == "clusterTrustBundle" {
                let file = text(inner, &["path"]);
                taken(file, file, errors);
            }
        }
        if found == 0 {
            errors.required(&at, "must specify a volume type");
        }
    }
}

fn ephemeral(source: &Value, path: &Path, errors: &mut Errors) {
    let template = &source["volumeClaimTemplate"];
    if template.is_null() {
        errors.required(path, "");
        return;
    }
    let metadata = path.child("metadata");
    meta::labels(&template["metadata"]["labels"], &metadata.child("labels"), errors);
    meta::annotations(&template["metadata"]["annotations"], &metadata.child("annotations"), errors);
    persistent::claim_spec(&template["spec"], &path.child("spec"), errors);
}
