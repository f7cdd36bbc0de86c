//! Annotations of pods and templates that mean something to the cluster.
//!
//! What some of them said is said by fields today; where both speak, they must agree.

use protocol::go;
use protocol::schema::syntax;
use serde_json::{Value, json};

use super::containers::KINDS;
use super::{scheduling, security};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks;
use crate::api::object::{list, list_mut, object_mut, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// What AppArmor annotations begin with; the name of a container follows.
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// What is said of AppArmor annotations.
pub const APP_ARMOR_OLD: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const LOCALHOST: &str = "localhost/";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";

fn pairs(meta: &Value) -> impl Iterator<Item = (&str, &str)> {
    let map = meta["annotations"].as_object();
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// Whether a pod stands for one that its node has without being asked.
pub fn is_mirror(meta: &Value) -> bool {
    !meta["annotations"][MIRROR].is_null()
}

/// Checks the annotations of a pod or a template.
pub fn validate(meta: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    if let Some(value) = meta["annotations"][MIRROR].as_str()
        && text(spec, &["nodeName"]).is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), value, detail);
    }
    if let Some(given) = meta["annotations"][TOLERATIONS].as_str().filter(|given| !given.is_empty()) {
        match tolerations(given) {
            Ok(given) => scheduling::tolerations(&given, &path.child(TOLERATIONS), errors),
            Err(why) => errors.invalid(path, TOLERATIONS, why),
        }
    }
    if let Some(cost) = meta["annotations"][DELETION_COST].as_str()
        && !is_cost(cost)
    {
        errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    for (key, value) in pairs(meta).filter(|(key, _)| *key == SECCOMP_POD) {
        seccomp(value, &path.child(key), errors);
    }
    for (key, value) in pairs(meta).filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER)) {
        seccomp(value, &path.child(key), errors);
    }
    for (key, value) in pairs(meta) {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let known = |kind: &&str| list(spec, &[kind]).iter().any(|c| text(c, &["name"]) == name);
        if !KINDS.iter().any(known) {
            errors.invalid(&path.key(key), name, "container not found");
        }
        let fine = matches!(value, "" | "runtime/default" | "unconfined") || value.starts_with(LOCALHOST);
        if !fine {
            errors.invalid(&path.key(key), value, format!("invalid AppArmor profile name: {value:?}"));
        }
    }
}

/// Reads tolerations as an annotation has them: as Go reads fields that have no names of their own, in any case.
fn tolerations(given: &str) -> Result<Vec<Value>, String> {
    const FIELDS: [&str; 5] = ["key", "operator", "value", "effect", "tolerationSeconds"];
    let read: Value = serde_json::from_str(given)
        .map_err(|e| syntax::error(given.as_bytes()).unwrap_or_else(|| e.to_string()))?;
    let items = match read {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => return Err(go::cannot_unmarshal(&other, "[]core.Toleration")),
    };
    let mut tolerations = Vec::with_capacity(items.len());
    for item in items {
        let Value::Object(fields) = item else {
            return Err(go::cannot_unmarshal(&item, "core.Toleration"));
        };
        let named = fields.into_iter().filter_map(|(name, value)| {
            FIELDS.iter().find(|f| f.eq_ignore_ascii_case(&name)).map(|f| ((*f).to_owned(), value))
        });
        tolerations.push(Value::Object(named.collect()));
    }
    Ok(tolerations)
}

/// A number as it is printed: no plus, no zeros before it.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|n| n.to_string() == text)
}

fn seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        other => match other.strip_prefix(LOCALHOST) {
            Some(file) => checks::descending(file, path, errors),
            None => errors.invalid(path, other, "must be a valid seccomp profile"),
        },
    }
}

/// Checks what an update does to annotations that are given once.
pub fn validate_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for (key, _) in pairs(old).filter(|(key, value)| new["annotations"][*key].as_str() != Some(value)) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in pairs(new).filter(|(key, _)| old["annotations"][*key].is_null()) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// The field that says what an AppArmor annotation does; none where that says nothing that a field could.
pub fn app_armor_profile(said: &str) -> Option<Value> {
    match said {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let file = said.strip_prefix(LOCALHOST).filter(|file| !file.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

/// A pod's containers without an AppArmor profile of their own, whose annotation names one or nothing that is right,
/// and what the containers get.
fn app_armor(pod: &Value) -> Vec<(&'static str, usize, String, Option<Value>)> {
    let (spec, annotations) = (&pod["spec"], &pod["metadata"]["annotations"]);
    if text(spec, &["os", "name"]) == "windows" || annotations.is_null() {
        return Vec::new();
    }
    let whole = &spec["securityContext"]["appArmorProfile"];
    let mut found = Vec::new();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in list(spec, &[kind]).iter().enumerate() {
            let key = format!("{APP_ARMOR}{}", text(container, &["name"]));
            let own = &container["securityContext"]["appArmorProfile"];
            let Some(said) = annotations[&key].as_str().filter(|_| !own.is_object()) else { continue };
            let fits = |profile: &Value| {
                let mut errors = Errors::default();
                security::app_armor(profile, &Path::default(), &mut errors);
                errors.is_empty()
            };
            let profile = app_armor_profile(said).filter(fits);
            // What the pod says as a whole need not be said again.
            if profile.as_ref() != Some(whole) {
                found.push((kind, i, key, profile));
            }
        }
    }
    found
}

/// Notes the annotations of a new pod where fields should be.
pub fn app_armor_notes(pod: &Value, said: &mut Vec<String>) {
    for (_, _, key, _) in app_armor(pod) {
        said.push(format!("{}: {APP_ARMOR_OLD}", Path::new("metadata.annotations").key(&key)));
    }
}

/// Gives the containers of a new pod the profiles that annotations name.
pub fn copy_app_armor(pod: &mut Value) {
    for (kind, i, _, profile) in app_armor(pod) {
        if let (Some(profile), Some(container)) = (profile, list_mut(pod, &["spec", kind]).get_mut(i)) {
            object_mut(container, &["securityContext"]).insert("appArmorProfile".to_owned(), profile);
        }
    }
}

/// Where annotations and fields both name a profile, it is the same.
pub fn match_fields(meta: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let profile = |context: &Value| context["securityContext"]["seccompProfile"].clone();
    if let Some(said) = meta["annotations"][SECCOMP_POD].as_str() {
        let path = path.child("securityContext").child("seccompProfile");
        agree(said, &profile(spec), "seccomp", &path, errors);
    }
    for (name, item, path) in containers(spec, path) {
        if let Some(said) = meta["annotations"][format!("{SECCOMP_CONTAINER}{name}")].as_str() {
            let path = path.child("securityContext").child("seccompProfile");
            agree(said, &profile(item), "seccomp", &path, errors);
        }
    }
    if text(spec, &["os", "name"]) == "windows" {
        return;
    }
    let profile = |context: &Value| context["securityContext"]["appArmorProfile"].clone();
    for (name, item, path) in containers(spec, path) {
        if let Some(said) = meta["annotations"][format!("{APP_ARMOR}{name}")].as_str() {
            let own = profile(item);
            let used = if own.is_null() { profile(spec) } else { own };
            let path = path.child("securityContext").child("appArmorProfile");
            agree(said, &used, "apparmor", &path, errors);
        }
    }
}

fn containers<'a>(spec: &'a Value, path: &'a Path) -> impl Iterator<Item = (&'a str, &'a Value, Path)> {
    KINDS.iter().flat_map(move |kind| {
        let items = list(spec, &[kind]).iter().enumerate();
        items.map(move |(i, item)| (text(item, &["name"]), item, path.child(kind).index(i)))
    })
}

fn agree(said: &str, profile: &Value, what: &str, path: &Path, errors: &mut Errors) {
    let mut other = |field: &str| {
        let name = if field == "type" { "type" } else { "profile" };
        errors.forbidden(&path.child(field), format!("{what} {name} in annotation and field must match"));
    };
    match text(profile, &["type"]) {
        "Unconfined" if said != "unconfined" => other("type"),
        "RuntimeDefault" if said != "runtime/default" && !(what == "seccomp" && said == "docker/default") => {
            other("type");
        }
        "Localhost" => match said.strip_prefix(LOCALHOST) {
            None => other("type"),
            Some(file) if profile["localhostProfile"].as_str() != Some(file) => other("localhostProfile"),
            Some(_) => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_that_name_profiles_become_fields() {
        let pod = |said: &str, whole: Value| {
            json!({
                "metadata": {"annotations": {format!("{APP_ARMOR}c"): said}},
                "spec": {"securityContext": {"appArmorProfile": whole}, "containers": [{"name": "c"}]},
            })
        };
        let noted = format!("metadata.annotations[{APP_ARMOR}c]: {APP_ARMOR_OLD}");
        for (said, whole, profile, notes) in [
            ("unconfined", Value::Null, json!({"type": "Unconfined"}), 1),
            ("localhost/a", Value::Null, json!({"type": "Localhost", "localhostProfile": "a"}), 1),
            ("runtime/default", json!({"type": "RuntimeDefault"}), Value::Null, 0),
            ("runtime/default", json!({"type": "Unconfined"}), json!({"type": "RuntimeDefault"}), 1),
            ("localhost/", Value::Null, Value::Null, 1),
            ("localhost/ a", Value::Null, Value::Null, 1),
            ("x", Value::Null, Value::Null, 1),
        ] {
            let mut pod = pod(said, whole);
            let mut told = Vec::new();
            app_armor_notes(&pod, &mut told);
            assert_eq!(told, vec![noted.clone(); notes], "{said}");
            copy_app_armor(&mut pod);
            assert_eq!(pod["spec"]["containers"][0]["securityContext"]["appArmorProfile"], profile, "{said}");
        }
    }

    #[test]
    fn tolerations_in_an_annotation_are_checked_too() {
        assert_eq!(tolerations(r#"[{"Key": "a"}]"#), Ok(vec![json!({"key": "a"})]));
        assert_eq!(
            tolerations("{}"),
            Err("json: cannot unmarshal object into Go value of type []core.Toleration".to_owned())
        );
    }

    fn said(annotations: Value, spec: Value) -> Vec<String> {
        let mut errors = Errors::default();
        let meta = json!({"annotations": annotations});
        validate(&meta, &spec, &Path::new("metadata.annotations"), &mut errors);
        match_fields(&meta, &spec, &Path::new("spec"), &mut errors);
        errors.messages()
    }

    #[test]
    fn costs_and_profiles_have_a_form() {
        for (key, value, wrong) in [
            (DELETION_COST, "10", ""),
            (DELETION_COST, "+10", "must be a 32bit integer"),
            (DELETION_COST, "x", "must be a 32bit integer"),
            (SECCOMP_POD, "localhost/a/b", ""),
            (SECCOMP_POD, "localhost/../b", "must not contain '..'"),
            (SECCOMP_POD, "x", "must be a valid seccomp profile"),
            (MIRROR, "x", "must set spec.nodeName if mirror pod annotation is set"),
        ] {
            let found = said(json!({key: value}), json!({}));
            assert!(
                found.join("").ends_with(wrong) && found.is_empty() == wrong.is_empty(),
                "{key}: {found:?}"
            );
        }
    }

    #[test]
    fn annotations_agree_with_fields() {
        let spec = |kind: &str| json!({"securityContext": {"seccompProfile": {"type": kind}}});
        assert!(said(json!({SECCOMP_POD: "runtime/default"}), spec("RuntimeDefault")).is_empty());
        assert_eq!(
            said(json!({SECCOMP_POD: "unconfined"}), spec("RuntimeDefault")),
            [
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"
            ]
        );
    }
}
