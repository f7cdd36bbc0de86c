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
/// The kinds of things that a volume can put side by side.
const PROJECTIONS: &[&str] = &["secret", "configMap", "downwardAPI", "serviceAccountToken"];
/// What a downward API file can show.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Checks the volumes; the names of those without mistakes are what containers can mount. `pod` is the metadata of
/// the pod whose they are, where they are not a template's.
pub fn volumes<'a>(
    spec: &'a Value,
    pod: Option<&Value>,
    path: &Path,
    errors: &mut Errors,
) -> HashSet<&'a str> {
    let mut sound = HashSet::new();
    for (i, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let (path, name) = (path.index(i), text(volume, &["name"]));
        let before = errors.len();
        source(volume, pod, &path, errors);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            named(NameRule::Label, name, &path.child("name"), errors);
            // One that is wrong takes no name from others.
            if sound.contains(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        if errors.len() == before {
            sound.insert(name);
        }
    }
    sound
}

fn source(volume: &Value, pod: Option<&Value>, path: &Path, errors: &mut Errors) {
    let name = text(volume, &["name"]);
    let mut found = 0;
    for kind in SOURCES {
        let source = &volume[*kind];
        if source.is_null() {
            continue;
        }
        found += 1;
        if found > 1 {
            // Two kinds are spelled in a way of their own here.
            let shown = match *kind {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                kind => kind,
            };
            errors.forbidden(&path.child(shown), MORE);
        } else {
            let shown = if *kind == "gcePersistentDisk" { "persistentDisk" } else { kind };
            one(kind, source, &path.child(shown), errors);
            if *kind == "ephemeral" {
                claim_name(pod, name, path, errors);
            }
        }
        let portal = text(source, &["targetPortal"]);
        if *kind == "iscsi" && !source["initiatorName"].is_null() && name.len() + 1 + portal.len() > 64 {
            errors.invalid(&path.child("name"), name, persistent::ISCSI_TOO_LONG);
        }
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

/// The claim that is made for an ephemeral volume has a name that is made of the pod's and the volume's.
fn claim_name(pod: Option<&Value>, volume: &str, path: &Path, errors: &mut Errors) {
    let pod = pod.map_or("", |meta| text(meta, &["name"]));
    if pod.is_empty() || volume.is_empty() {
        return;
    }
    let claim = format!("{pod}-{volume}");
    for error in meta::name_errors(NameRule::Subdomain, &claim, false) {
        errors.invalid(&path.child("name"), volume, format!("PVC name {claim:?}: {error}"));
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
            list(source, &["items"]).iter().for_each(|item| downward(item, path, errors));
        }
        "projected" => projected(source, path, errors),
        "csi" => {
            storage::driver_name(text(source, &["driver"]), &path.child("driver"), errors);
            if source["nodePublishSecretRef"].is_object() {
                match text(source, &["nodePublishSecretRef", "name"]) {
                    "" => errors.required(&path.child("nodePublishSecretRef").child("name"), ""),
                    name => named(NameRule::Subdomain, name, &path.child("name"), errors),
                }
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
    for (i, item) in list(source, &["items"]).iter().enumerate() {
        key_to_path(item, &path.child("items").index(i), errors);
    }
}

fn key_to_path(item: &Value, path: &Path, errors: &mut Errors) {
    checks::required(item, "key", path, errors);
    file_path(item, path, errors);
    mode(&item["mode"], &path.child("mode"), errors);
}

fn file_path(item: &Value, path: &Path, errors: &mut Errors) {
    checks::required(item, "path", path, errors);
    checks::non_reserved_descending(text(item, &["path"]), &path.child("path"), errors);
}

/// A file that shows something of the pod. Its mistakes are shown where all the files stand.
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
        for kind in PROJECTIONS {
            let inner = &projection[*kind];
            if !inner.is_object() {
                continue;
            }
            let at = at.child(kind);
            found += 1;
            match *kind {
                "downwardAPI" => {
                    for item in list(inner, &["items"]) {
                        downward(item, &at, errors);
                        let file = text(item, &["path"]);
                        taken(file, file, errors);
                    }
                }
                "serviceAccountToken" => {
                    let lifetime = at.child("expirationSeconds");
                    storage::token_lifetime(&inner["expirationSeconds"], &lifetime, errors);
                    // The path of the file is shown as the whole volume's.
                    file_path(inner, path, errors);
                }
                _ => {
                    checks::required(inner, "name", &at, errors);
                    for (j, item) in list(inner, &["items"]).iter().enumerate() {
                        key_to_path(item, &at.child("items").index(j), errors);
                        taken(text(item, &["path"]), text(inner, &["name"]), errors);
                    }
                }
            }
        }
        if found > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn ephemeral(source: &Value, path: &Path, errors: &mut Errors) {
    let template = &source["volumeClaimTemplate"];
    if template.is_null() {
        errors.required(path, "");
        return;
    }
    checks::template_metadata(&template["metadata"], &path.child("metadata"), errors);
    persistent::claim_spec(&template["spec"], &path.child("spec"), errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_say_where_they_are_wrong() {
        for (volume, wanted) in [
            (json!({"emptyDir": {}}), vec![]),
            (
                json!({"downwardAPI": {"items": [{"path": "a"}]}}),
                vec!["v[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"],
            ),
            (
                json!({"projected": {"sources": [{"secret": {"name": "a"}, "configMap": {}}]}}),
                vec![
                    "v[0].projected.sources[0].configMap.name: Required value",
                    "v[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
                ],
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 600}}]}}),
                vec!["v[0].projected.path: Required value"],
            ),
            (
                json!({"emptyDir": {}, "cephfs": {}}),
                vec!["v[0].cephFS: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                json!({"cinder": {"secretRef": {}}}),
                vec!["v[0].cinder.volumeID: Required value", "v[0].cinder.secretRef.name: Required value"],
            ),
        ] {
            let mut volume = volume;
            volume["name"] = "x".into();
            let mut errors = Errors::default();
            volumes(&json!({"volumes": [volume]}), None, &Path::new("v"), &mut errors);
            assert_eq!(errors.messages(), wanted);
        }
    }
}
