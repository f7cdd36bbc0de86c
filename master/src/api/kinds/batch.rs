//! Job and CronJob.

use serde_json::{Value, json};

use super::podspec::{label_selector, selector_of, template_spec};
use super::{Strategy, base, immutable, non_negative, podspec_defaults};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{at, default, name, object_mut, text};

fn path(name: &str) -> Path {
    Path::new("spec").child(name)
}

fn job_spec_defaults(spec: &mut Value) {
    podspec_defaults::pod_spec(&mut spec["template"]["spec"]);
    let fields = object_mut(spec, &[]);
    let unset =
        |fields: &serde_json::Map<String, Value>, name: &str| fields.get(name).is_none_or(Value::is_null);
    if unset(fields, "completions") && unset(fields, "parallelism") {
        default(fields, "completions", 1);
    }
    default(fields, "parallelism", 1);
    // With a limit per index the total is bounded by it alone.
    default(fields, "backoffLimit", if unset(fields, "backoffLimitPerIndex") { 6 } else { i32::MAX });
    default(fields, "completionMode", "NonIndexed");
    default(fields, "suspend", false);
    let replacement = if unset(fields, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    default(fields, "podReplacementPolicy", replacement);
}

pub(super) fn job() -> Strategy {
    Strategy {
        defaults: |job| {
            let labels = at(job, &["spec", "template", "metadata", "labels"]).clone();
            if labels.as_object().is_some_and(|l| !l.is_empty()) {
                default(object_mut(job, &["metadata"]), "labels", labels);
            }
            job_spec_defaults(&mut job["spec"]);
        },
        prepare_create: |job| {
            job["status"] = json!({});
            if job["spec"]["manualSelector"] != Value::Bool(true) {
                generate_selector(job);
            }
        },
        validate: |job, errors| {
            let spec = &job["spec"];
            for name in [
                "parallelism",
                "completions",
                "activeDeadlineSeconds",
                "backoffLimit",
                "ttlSecondsAfterFinished",
            ] {
                non_negative(&spec[name], &path(name), errors);
            }
            if spec["selector"].is_null() {
                errors.required(&path("selector"), "");
            } else {
                label_selector(&spec["selector"], &path("selector"), errors);
            }
            let labels = at(spec, &["template", "metadata", "labels"]);
            let selected = selector_of(&spec["selector"])
                .filter(|_| !spec["selector"].is_null())
                .is_some_and(|s| s.matches_by(|key| labels.get(key).and_then(Value::as_str)));
            let template = path("template");
            if !selected {
                let at = template.child("metadata").child("labels");
                errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
            }
            template_spec(&spec["template"], &template, &["Always", "OnFailure", "Never"], errors);
            restart_policy(&spec["template"], &template, errors);
        },
        validate_update: |new, old, errors| {
            for name in
                ["completions", "selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"]
            {
                immutable(&new["spec"][name], &old["spec"][name], &path(name), errors);
            }
            let suspended =
                old["spec"]["suspend"] == Value::Bool(true) && old["status"]["startTime"].is_null();
            if !suspended {
                immutable(&new["spec"]["template"], &old["spec"]["template"], &path("template"), errors);
            }
        },
        ..base()
    }
}

fn restart_policy(template: &Value, path: &Path, errors: &mut Errors) {
    let policy = text(template, &["spec", "restartPolicy"]);
    if policy == "Always" {
        let at = path.child("spec").child("restartPolicy");
        errors.required(&at, "valid values: \"OnFailure\", \"Never\"");
    }
}

/// A job without a selector of its own selects pods by its uid.
fn generate_selector(job: &mut Value) {
    let (uid, name) = (text(job, &["metadata", "uid"]).to_owned(), name(job).to_owned());
    let labels = object_mut(job, &["spec", "template", "metadata", "labels"]);
    for (key, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    let selector = object_mut(job, &["spec", "selector", "matchLabels"]);
    selector.entry("batch.kubernetes.io/controller-uid").or_insert_with(|| uid.into());
}

pub(super) fn cron_job() -> Strategy {
    Strategy {
        defaults: |object| {
            let spec = object_mut(object, &["spec"]);
            default(spec, "concurrencyPolicy", "Allow");
            default(spec, "suspend", false);
            default(spec, "successfulJobsHistoryLimit", 3);
            default(spec, "failedJobsHistoryLimit", 1);
            if let Some(template) = object.pointer_mut("/spec/jobTemplate/spec/template/spec") {
                podspec_defaults::pod_spec(template);
            }
        },
        validate: |object, errors| {
            let spec = &object["spec"];
            let schedule = text(spec, &["schedule"]);
            if schedule.is_empty() {
                errors.required(&path("schedule"), "");
            } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
                let found = schedule.split_whitespace().count();
                let message = format!("expected exactly 5 fields, found {found}: [{schedule}]");
                errors.invalid(&path("schedule"), schedule, message);
            }
            let policy = text(spec, &["concurrencyPolicy"]);
            if !["Allow", "Forbid", "Replace"].contains(&policy) {
                errors.unsupported(&path("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
            }
            for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
                non_negative(&spec[name], &path(name), errors);
            }
            let at = path("jobTemplate").child("spec").child("template");
            let template = &spec["jobTemplate"]["spec"]["template"];
            template_spec(template, &at, &["Always", "OnFailure", "Never"], errors);
            restart_policy(template, &at, errors);
        },
        ..base()
    }
}
