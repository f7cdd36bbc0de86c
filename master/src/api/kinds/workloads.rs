//! Kinds that make pods from a template: Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController.

use serde_json::{Value, json};

use super::checks::{self, immutable_struct, int_or_percent, internal, non_negative, percent};
use super::pods::defaults::pod_spec;
use super::pods::spec::{selector_of, template_metadata, template_spec};
use super::pods::warnings::{is_next, spec as notes, templated};
use super::volume_notes::claim_spec as claim_notes;
use super::volumes::claim_spec;
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{at, copy_field, default, drop_unless_had, list, list_mut, name, object_mut, text};
use crate::front::metadata::TEMPLATE_GENERATION;

const MISMATCH: &str = "`selector` does not match template `labels`";

fn template(object: &mut Value) {
    pod_spec(&mut object["spec"]["template"]["spec"]);
}

fn spec_path(name: &str) -> Path {
    Path::new("spec").child(name)
}

/// Checks a selector that must be there and select something.
fn selector(spec: &Value, what: &str, errors: &mut Errors) {
    let path = spec_path("selector");
    if spec["selector"].is_null() {
        errors.required(&path, "");
        return;
    }
    checks::label_selector(&spec["selector"], &path, errors);
    if checks::selects_all(&spec["selector"]) {
        let shown = checks::shown_selector(&spec["selector"]);
        errors.invalid_shown(&path, &shown, format!("empty selector is invalid for {what}"));
    }
}

/// Checks a pod template that a selector belongs to; a selector that is not understood is reported instead.
fn selected_template(spec: &Value, unclear: &str, what: &str, errors: &mut Errors) {
    if !spec["selector"].is_null() && selector_of(&spec["selector"]).is_none() {
        let shown = checks::shown_selector(&spec["selector"]);
        errors.invalid_shown(&spec_path("selector"), &shown, unclear);
        return;
    }
    matching(spec, errors);
    lasting_template(&spec["template"], what, errors);
}

/// Whether a selector selects the labels of the template.
fn matching(spec: &Value, errors: &mut Errors) {
    let labels = at(spec, &["template", "metadata", "labels"]);
    let own = |key: &str| labels.get(key).and_then(Value::as_str);
    let selected = !spec["selector"].is_null()
        && selector_of(&spec["selector"]).is_some_and(|s| s.is_everything() || s.matches_by(own));
    if !selected {
        errors.invalid(&spec_path("template").child("metadata").child("labels"), labels.clone(), MISMATCH);
    }
}

/// A template of pods that are always to run.
fn lasting_template(template: &Value, what: &str, errors: &mut Errors) {
    let path = spec_path("template");
    template_spec(template, &path, errors);
    lasting(template, what, &path, errors);
}

fn lasting(template: &Value, what: &str, path: &Path, errors: &mut Errors) {
    let policy = text(template, &["spec", "restartPolicy"]);
    if policy != "Always" {
        errors.unsupported(&path.child("spec").child("restartPolicy"), policy, &["Always"]);
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() {
        errors.forbidden(
            &path.child("spec").child("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {what} is not Supported"),
        );
    }
}

fn same_selector(new: &Value, old: &Value, errors: &mut Errors) {
    immutable_struct(
        "m.LabelSelector",
        at(new, &["spec", "selector"]),
        at(old, &["spec", "selector"]),
        &spec_path("selector"),
        errors,
    );
}

/// Checks numbers of a status: none negative, and none greater than there are replicas.
fn counts(status: &Value, numbers: &[&str], bounded: &[&str], errors: &mut Errors) {
    let path = Path::new("status");
    checks::all_non_negative(status, numbers, &path, errors);
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    for name in bounded {
        if number(name) > number("replicas") {
            errors.invalid(&path.child(name), number(name), "cannot be greater than status.replicas");
        }
    }
}

fn available(status: &Value, ready: &str, errors: &mut Errors) {
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    if number("availableReplicas") > number("readyReplicas") {
        let path = Path::new("status.availableReplicas");
        errors.invalid(&path, number("availableReplicas"), format!("cannot be greater than {ready}"));
    }
}

fn collisions(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |object: &Value| object["status"]["collisionCount"].as_i64();
    if let Some(before) = count(old)
        && count(new).is_none_or(|now| now < before)
    {
        let path = Path::new("status.collisionCount");
        errors.invalid(&path, count(new).unwrap_or(0), "cannot be decremented");
    }
}

pub(super) fn deployment() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            let spec = object_mut(object, &["spec"]);
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "progressDeadlineSeconds", 600);
            let strategy = object_mut(object, &["spec", "strategy"]);
            default(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|t| t == "RollingUpdate") {
                let rolling = object_mut(object, &["spec", "strategy", "rollingUpdate"]);
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        },
        validate: |object, errors| {
            let spec = &object["spec"];
            non_negative(&spec["replicas"], &spec_path("replicas"), errors);
            selector(spec, "deployment", errors);
            selected_template(spec, "invalid label selector", "ReplicaSet", errors);
            strategy(spec, errors);
            non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
            non_negative(&spec["revisionHistoryLimit"], &spec_path("revisionHistoryLimit"), errors);
            let (deadline, ready) =
                (&spec["progressDeadlineSeconds"], spec["minReadySeconds"].as_i64().unwrap_or(0));
            non_negative(deadline, &spec_path("progressDeadlineSeconds"), errors);
            if deadline.as_i64().is_some_and(|d| d <= ready) {
                let detail = "must be greater than minReadySeconds";
                errors.invalid(&spec_path("progressDeadlineSeconds"), deadline.clone(), detail);
            }
        },
        validate_update: same_selector,
        validate_status: |new, old, errors| {
            let status = &new["status"];
            let numbers = [
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ];
            let bounded = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            counts(status, &numbers, &bounded, errors);
            available(status, "readyReplicas", errors);
            collisions(new, old, errors);
        },
        warnings: templated,
        ..base()
    }
}

fn strategy(spec: &Value, errors: &mut Errors) {
    let (strategy, path) = (&spec["strategy"], spec_path("strategy"));
    match text(strategy, &["type"]) {
        "Recreate" => {
            if strategy["rollingUpdate"].is_object() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&path.child("rollingUpdate"), detail);
            }
        }
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = path.child("rollingUpdate");
            for name in ["maxUnavailable", "maxSurge"] {
                int_or_percent(&rolling[name], &path.child(name), errors);
            }
            if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&path.child("maxUnavailable"), rolling["maxUnavailable"].clone(), detail);
            }
            checks::at_most_all(&rolling["maxUnavailable"], &path.child("maxUnavailable"), errors);
        }
        _ => {
            let shown = internal("a.apps.v1.DeploymentStrategy", strategy);
            errors.unsupported_shown(&path, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

/// Whether a number or a percentage is none; what is neither counts as none too.
fn is_zero(value: &Value) -> bool {
    match value.as_str() {
        Some(text) => percent(value).or_else(|| text.parse().ok()).unwrap_or(0) == 0,
        None => value.as_i64() == Some(0),
    }
}

fn replica_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = &new["status"];
    let numbers = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ];
    counts(status, &numbers, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
    available(status, "readyReplicas", errors);
}

pub(super) fn replica_set() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            default(object_mut(object, &["spec"]), "replicas", 1);
        },
        prepare_create: |object| object["status"] = json!({"replicas": 0}),
        validate: |object, errors| {
            let spec = &object["spec"];
            non_negative(&spec["replicas"], &spec_path("replicas"), errors);
            non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
            selector(spec, "deployment", errors);
            selected_template(spec, "invalid label selector", "ReplicaSet", errors);
        },
        validate_update: same_selector,
        validate_status: replica_status,
        warnings: templated,
        ..base()
    }
}

pub(super) fn replication_controller() -> Strategy {
    Strategy {
        names: NameRule::LongName,
        defaults: |object| {
            if let Some(spec) = object.pointer_mut("/spec/template/spec") {
                pod_spec(spec);
            } else if object["spec"]["template"].is_object() {
                template(object);
            }
            let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
            if labels.as_object().is_some_and(|l| !l.is_empty()) {
                let spec = object_mut(object, &["spec"]);
                if spec.get("selector").and_then(Value::as_object).is_none_or(|s| s.is_empty()) {
                    spec.insert("selector".to_owned(), labels.clone());
                }
                let meta = object_mut(object, &["metadata"]);
                if meta.get("labels").and_then(Value::as_object).is_none_or(|s| s.is_empty()) {
                    meta.insert("labels".to_owned(), labels);
                }
            }
            default(object_mut(object, &["spec"]), "replicas", 1);
        },
        prepare_create: |object| object["status"] = json!({"replicas": 0}),
        validate: |object, errors| {
            let spec = &object["spec"];
            non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
            let selector = spec["selector"].as_object();
            if selector.is_none_or(|s| s.is_empty()) {
                errors.required(&spec_path("selector"), "");
            }
            non_negative(&spec["replicas"], &spec_path("replicas"), errors);
            if spec["template"].is_null() {
                errors.required(&spec_path("template"), "");
                return;
            }
            let labels = at(spec, &["template", "metadata", "labels"]);
            if selector.into_iter().flatten().any(|(k, v)| labels.get(k) != Some(v)) {
                let path = spec_path("template").child("metadata").child("labels");
                errors.invalid(&path, labels.clone(), MISMATCH);
            }
            lasting_template(&spec["template"], "ReplicationController", errors);
        },
        validate_status: replica_status,
        warnings: |object, old, said| match old {
            None => templated(object, None, said),
            // Upstream takes the two for each other, and talks of the template that was.
            Some(old) if is_next(object, Some(old)) => {
                notes(&old["spec"]["template"], &spec_path("template"), said)
            }
            Some(_) => {}
        },
        ..base()
    }
}

pub(super) fn stateful_set() -> Strategy {
    Strategy {
        names: NameRule::Label,
        defaults: stateful_set_defaults,
        prepare_create: |object| {
            object["status"] = json!({"replicas": 0, "availableReplicas": 0});
            one_at_a_time(object, &Value::Null);
        },
        prepare_update: one_at_a_time,
        validate_create: |object, errors| stateful_spec(&object["spec"], true, errors),
        validate_update: stateful_set_update,
        validate_status: |new, old, errors| {
            let status = &new["status"];
            let numbers = [
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ];
            let bounded = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
            counts(status, &numbers, &bounded, errors);
            available(status, "status.readyReplicas", errors);
            collisions(new, old, errors);
        },
        warnings: |object, old, said| {
            if is_next(object, old) {
                notes(&object["spec"]["template"], &spec_path("template"), said);
            }
            for (i, claim) in list(object, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
                let path = spec_path("volumeClaimTemplates").index(i);
                let path = if old.is_none() { path } else { path.child("Spec") };
                claim_notes(&claim["spec"], &path, said);
            }
            if object["spec"]["revisionHistoryLimit"].as_i64().is_some_and(|limit| limit < 0) {
                said.push(
                    "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                     recommended"
                        .to_owned(),
                );
            }
        },
        ..base()
    }
}

/// That more than one pod of a stateful set may be replaced at a time is not switched on: what says so is dropped, but
/// where the stored object says it already.
fn one_at_a_time(set: &mut Value, old: &Value) {
    drop_unless_had(set, old, &["spec", "updateStrategy", "rollingUpdate"], "maxUnavailable");
}

/// Checks a spec. What may not change is looked at only when it is `new`.
fn stateful_spec(spec: &Value, new: bool, errors: &mut Errors) {
    stateful_strategy(spec, errors);
    for name in ["whenDeleted", "whenScaled"] {
        let policy = &spec["persistentVolumeClaimRetentionPolicy"][name];
        let path = spec_path("persistentVolumeClaimRetentionPolicy").child(name);
        checks::choice(policy, &["Retain", "Delete"], &path, errors);
    }
    let claims = list(spec, &["volumeClaimTemplates"]);
    for (i, claim) in claims.iter().enumerate().filter(|_| new) {
        claim_spec(&claim["spec"], &spec_path("volumeClaimTemplates").index(i).child("spec"), errors);
    }
    for name in ["replicas", "minReadySeconds"] {
        non_negative(&spec[name], &spec_path(name), errors);
    }
    let start = &spec["ordinals"]["start"];
    non_negative(start, &spec_path("ordinals.start"), errors);
    if new {
        checks::named_if_set(NameRule::Label, spec, "serviceName", &Path::new("spec"), errors);
    }
    selector(spec, "statefulset", errors);
    if !spec["selector"].is_null() && selector_of(&spec["selector"]).is_none() {
        let shown = checks::shown_selector(&spec["selector"]);
        errors.invalid_shown(&spec_path("selector"), &shown, "");
    } else {
        let (spec, path) = (with_claims(spec), spec_path("template"));
        matching(&spec, errors);
        template_spec(&spec["template"], &path, errors);
        // Upstream looks at these twice.
        template_metadata(&spec["template"], &path, errors);
    }
    lasting(&spec["template"], "StatefulSet", &spec_path("template"), errors);
}

/// A spec whose template has volumes for the claims that each pod gets, as the pods will have them, and none of the
/// names that each pod gets anew.
fn with_claims(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let claims: Vec<String> =
        list(&spec, &["volumeClaimTemplates"]).iter().map(|claim| name(claim).to_owned()).collect();
    let mut volumes: Vec<Value> = Vec::new();
    for claim in &claims {
        if !volumes.iter().any(|v| text(v, &["name"]) == claim) {
            volumes.push(json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
        }
    }
    let own = list(&spec, &["template", "spec", "volumes"]).iter();
    volumes
        .extend(own.filter(|volume| !claims.iter().any(|claim| claim == text(volume, &["name"]))).cloned());
    if let Some(pod) = spec["template"]["spec"].as_object_mut() {
        pod.insert("volumes".to_owned(), volumes.into());
        for name in ["hostname", "subdomain"] {
            pod.remove(name);
        }
    }
    spec
}

fn stateful_set_defaults(object: &mut Value) {
    template(object);
    let spec = object_mut(object, &["spec"]);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    let retention = object_mut(object, &["spec", "persistentVolumeClaimRetentionPolicy"]);
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    let strategy = object_mut(object, &["spec", "updateStrategy"]);
    let unset = strategy.get("type").is_none_or(Value::is_null);
    default(strategy, "type", "RollingUpdate");
    let given = strategy.get("rollingUpdate").is_some_and(Value::is_object);
    if strategy.get("type").is_some_and(|t| t == "RollingUpdate") && (unset || given) {
        let rolling = object_mut(object, &["spec", "updateStrategy", "rollingUpdate"]);
        default(rolling, "partition", 0);
    }
    for claim in list_mut(object, &["spec", "volumeClaimTemplates"]) {
        default(object_mut(claim, &["spec"]), "volumeMode", "Filesystem");
        default(object_mut(claim, &["status"]), "phase", "Pending");
        default(object_mut(claim, &[]), "apiVersion", "v1");
        default(object_mut(claim, &[]), "kind", "PersistentVolumeClaim");
    }
}

fn stateful_strategy(spec: &Value, errors: &mut Errors) {
    let policy = text(spec, &["podManagementPolicy"]);
    match policy {
        "" => errors.required(&spec_path("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        _ => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&spec_path("podManagementPolicy"), policy, detail);
        }
    }
    let (strategy, path) = (&spec["updateStrategy"], spec_path("updateStrategy"));
    let (rolling, at) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
    match text(strategy, &["type"]) {
        "" => errors.required(&path, ""),
        "OnDelete" => {
            if !rolling.is_null() {
                let shown = internal("a.apps.v1.RollingUpdateStatefulSetStrategy", rolling);
                errors.invalid_shown(&at, &shown, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => non_negative(&rolling["partition"], &at.child("partition"), errors),
        _ => {
            let shown = internal("a.apps.v1.StatefulSetUpdateStrategy", strategy);
            errors.invalid_shown(&path, &shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn stateful_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    stateful_spec(&new["spec"], false, errors);
    let mut masked = new["spec"].clone();
    for name in [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ] {
        copy_field(&old["spec"], &mut masked, name);
    }
    if masked != old["spec"] {
        errors.forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
             'minReadySeconds' are forbidden",
        );
    }
}

pub(super) fn daemon_set() -> Strategy {
    Strategy {
        defaults: |object| {
            template(object);
            // Never absent: so whoever sends the object owns the annotation.
            default(object_mut(object, &["metadata", "annotations"]), TEMPLATE_GENERATION, "0");
            default(object_mut(object, &["spec"]), "revisionHistoryLimit", 10);
            let strategy = object_mut(object, &["spec", "updateStrategy"]);
            default(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|t| t == "RollingUpdate") {
                let rolling = object_mut(object, &["spec", "updateStrategy", "rollingUpdate"]);
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            } else if strategy.get("rollingUpdate").is_some_and(Value::is_object) {
                // The server holds numbers there, which are never absent.
                let rolling = object_mut(object, &["spec", "updateStrategy", "rollingUpdate"]);
                default(rolling, "maxUnavailable", 0);
                default(rolling, "maxSurge", 0);
            }
        },
        prepare_create: |object| {
            object["status"] = json!({});
            let given = text(object, &["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or(0);
            template_generation(object, given.max(1));
        },
        prepare_update: |new, old| {
            let before = text(old, &["metadata", "annotations", TEMPLATE_GENERATION]);
            let changed = i64::from(new["spec"]["template"] != old["spec"]["template"]);
            template_generation(new, before.parse().unwrap_or(0) + changed);
        },
        // It is of the spec, wherever it is shown.
        prepare_status: |new, old| {
            let before = text(old, &["metadata", "annotations", TEMPLATE_GENERATION]);
            template_generation(new, before.parse().unwrap_or(0));
        },
        validate: |object, errors| {
            let spec = &object["spec"];
            checks::label_selector(&spec["selector"], &spec_path("selector"), errors);
            if spec["selector"].is_null() || selector_of(&spec["selector"]).is_some() {
                matching(spec, errors);
            }
            if !spec["selector"].is_null() && checks::selects_all(&spec["selector"]) {
                let shown = checks::shown_selector(&spec["selector"]);
                let detail = "empty selector is invalid for daemonset";
                errors.invalid_shown(&spec_path("selector"), &shown, detail);
            }
            lasting_template(&spec["template"], "DaemonSet", errors);
            non_negative(&spec["minReadySeconds"], &spec_path("minReadySeconds"), errors);
            daemon_strategy(&spec["updateStrategy"], &spec_path("updateStrategy"), errors);
            non_negative(&spec["revisionHistoryLimit"], &spec_path("revisionHistoryLimit"), errors);
        },
        validate_update: same_selector,
        change_first: true,
        validate_status: |new, old, errors| {
            let numbers = [
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ];
            counts(&new["status"], &numbers, &[], errors);
            collisions(new, old, errors);
        },
        warnings: |object, old, said| {
            let template = &object["spec"]["template"];
            if old.is_none_or(|old| old["spec"]["template"] != *template) {
                notes(template, &spec_path("template"), said);
            }
        },
        ..base()
    }
}

/// Why a DaemonSet cannot be read, though its fields can: an annotation of it is a number that is none.
pub(super) fn no_generation(object: &Value) -> Option<String> {
    let given = object["metadata"]["annotations"][TEMPLATE_GENERATION].as_str()?;
    protocol::go::parse_int(given).err()
}

/// The template's own generation, which is an annotation since its field is gone.
fn template_generation(object: &mut Value, generation: i64) {
    object_mut(object, &["metadata", "annotations"])
        .insert(TEMPLATE_GENERATION.to_owned(), generation.to_string().into());
}

fn daemon_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    match text(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, path) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
            if rolling.is_null() {
                errors.required(&path, "");
                return;
            }
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            for (value, name) in [(unavailable, "maxUnavailable"), (surge, "maxSurge")] {
                int_or_percent(value, &path.child(name), errors);
            }
            for (value, name) in [(unavailable, "maxUnavailable"), (surge, "maxSurge")] {
                checks::at_most_all(value, &path.child(name), errors);
            }
            match (is_zero(unavailable), is_zero(surge)) {
                (false, false) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&path.child("maxSurge"), surge.clone(), detail);
                }
                (true, true) => {
                    errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        _ => {
            let shown = internal("a.apps.v1.DaemonSetUpdateStrategy", strategy);
            errors.unsupported_shown(path, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

pub(super) fn pod_template() -> Strategy {
    Strategy {
        defaults: |object| pod_spec(&mut object["template"]["spec"]),
        validate: |object, errors| template_spec(&object["template"], &Path::new("template"), errors),
        warnings: |object, old, said| {
            if is_next(object, old) {
                notes(&object["template"], &Path::new("template"), said);
            }
        },
        ..base()
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::NOT_NEGATIVE;
    use super::*;

    #[test]
    fn a_daemon_set_has_numbers_where_it_rolls() {
        for (strategy, wanted) in [
            (json!({}), json!({"maxUnavailable": 1, "maxSurge": 0})),
            (json!({"type": "OnDelete"}), Value::Null),
            (json!({"type": "OnDelete", "rollingUpdate": {}}), json!({"maxUnavailable": 0, "maxSurge": 0})),
        ] {
            let mut set = json!({"spec": {"updateStrategy": strategy}});
            (daemon_set().defaults)(&mut set);
            assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"], wanted, "{strategy}");
        }
    }

    #[test]
    fn a_status_keeps_the_generation_of_the_template() {
        let old = json!({"metadata": {"annotations": {TEMPLATE_GENERATION: "3"}}});
        let mut new = json!({"metadata": {"annotations": {TEMPLATE_GENERATION: "0"}}});
        (daemon_set().prepare_status)(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn a_status_counts_no_more_than_there_are() {
        for (status, wanted) in [
            (json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 1}), vec![]),
            (
                json!({"replicas": 1, "readyReplicas": 2}),
                vec!["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
            ),
            // What is absent counts as zero, which is more than less than nothing.
            (
                json!({"replicas": -1}),
                vec![
                    &*format!("status.replicas: Invalid value: -1: {NOT_NEGATIVE}"),
                    "status.fullyLabeledReplicas: Invalid value: 0: cannot be greater than status.replicas",
                    "status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas",
                    "status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas",
                ],
            ),
        ] {
            let mut errors = Errors::default();
            replica_status(&json!({ "status": status }), &json!({}), &mut errors);
            assert_eq!(errors.messages(), wanted);
        }
    }

    #[test]
    fn a_stateful_sets_pods_mount_their_claims() {
        let set = |mounted: &str| {
            let mut set = json!({"spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }],
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                    {"name": "c", "image": "i", "volumeMounts": [{"name": mounted, "mountPath": "/d"}]},
                ]}},
            }});
            stateful_set_defaults(&mut set);
            let mut errors = Errors::default();
            (stateful_set().validate_create)(&set, &mut errors);
            errors.messages()
        };
        assert!(set("data").is_empty(), "{:?}", set("data"));
        assert_eq!(
            set("other"),
            ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]
        );
    }

    #[test]
    fn replacing_more_than_one_pod_at_a_time_is_dropped() {
        let set =
            |most: Value| json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": most}}}});
        let mut new = set(json!(2));
        one_at_a_time(&mut new, &Value::Null);
        assert!(new["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"].is_null());
        let (mut kept, old) = (set(json!(3)), set(json!(2)));
        one_at_a_time(&mut kept, &old);
        assert_eq!(kept, set(json!(3)));
    }

    #[test]
    fn what_is_no_number_counts_as_none() {
        for (value, none) in [
            (json!(0), true),
            (json!("0%"), true),
            (json!("x"), true),
            (json!(1), false),
            (json!("1%"), false),
            (json!("7"), false),
        ] {
            assert_eq!(is_zero(&value), none, "{value}");
        }
    }

    #[test]
    fn collisions_are_only_added() {
        for (old, new, wrong) in [(Some(1), None, true), (Some(1), Some(2), false), (None, None, false)] {
            let mut errors = Errors::default();
            let of = |count: Option<i64>| json!({"status": {"collisionCount": count}});
            collisions(&of(new), &of(old), &mut errors);
            assert_eq!(!errors.is_empty(), wrong);
        }
    }

    #[test]
    fn a_stateful_set_whose_selector_is_unclear_still_needs_lasting_pods() {
        let expression = json!({"key": "a", "operator": "", "values": ["b"]});
        let spec = json!({"podManagementPolicy": "Parallel", "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchExpressions": [expression]},
            "template": {"spec": {"restartPolicy": "Never", "hostname": "-"}}});
        let mut errors = Errors::default();
        stateful_spec(&spec, true, &mut errors);
        let told = errors.messages();
        let fields: Vec<&str> = told.iter().filter_map(|told| told.split(": ").next()).collect();
        let wanted = [
            "spec.selector.matchExpressions[0].operator",
            "spec.selector",
            "spec.template.spec.restartPolicy",
        ];
        assert_eq!(fields, wanted);
    }
}
