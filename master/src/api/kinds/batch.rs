//! Job and CronJob.

use serde_json::{Map, Value, json};

use super::checks::{self, immutable, non_negative, qualified};
use super::pods::defaults::pod_spec;
use super::pods::spec::{selector_of, template_spec};
use super::pods::warnings;
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{at, default, default_text, list, list_mut, name, object_mut, text};
use crate::controllers::cronjob::schedule as cron;

mod job_status;
mod template;

const POLICY_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_CHARS_MAX: usize = 64 * 1024;
/// Up to here the indexes of a job can be told for sure.
const COMPLETIONS_FEW: i64 = 100_000;
const PARALLEL_FEW: i64 = 10_000;
const PARALLEL_MAX: i64 = 100_000;
const MANAGER_CHARS_MAX: usize = 63;
const CRON_NAME_CHARS_MAX: usize = 52;
const LABELS: [(&str, bool); 4] = [
    ("controller-uid", true),
    ("job-name", false),
    ("batch.kubernetes.io/controller-uid", true),
    ("batch.kubernetes.io/job-name", false),
];

fn path(name: &str) -> Path {
    Path::new("spec").child(name)
}

/// Defaults of what a Job and a CronJob's template say of pods.
fn template_defaults(spec: &mut Value) {
    pod_spec(&mut spec["template"]["spec"]);
    for rule in list_mut(spec, &["podFailurePolicy", "rules"]) {
        for condition in list_mut(rule, &["onPodConditions"]) {
            default_text(object_mut(condition, &[]), "status", "True");
        }
    }
}

fn job_spec_defaults(spec: &mut Value) {
    template_defaults(spec);
    let fields = object_mut(spec, &[]);
    let unset = |fields: &Map<String, Value>, name: &str| fields.get(name).is_none_or(Value::is_null);
    if unset(fields, "completions") && unset(fields, "parallelism") {
        default(fields, "completions", 1);
    }
    default(fields, "parallelism", 1);
    // With a limit per index the total is bounded by it alone.
    default(fields, "backoffLimit", if unset(fields, "backoffLimitPerIndex") { 6 } else { i32::MAX });
    default(fields, "completionMode", "NonIndexed");
    default(fields, "suspend", false);
    default(fields, "manualSelector", false);
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
        validate: validate_job,
        validate_update: |new, old, errors| {
            // Upstream checks the whole again here.
            selected_spec(&new["spec"], errors);
            update(&new["spec"], old, errors);
        },
        validate_status: job_status::validate,
        warnings: |job, old, said| {
            if old.is_none() {
                warnings::label_is_better(job, said);
            }
            if warnings::is_next(job, old) {
                spec_notes(&job["spec"], &Path::new("spec"), said);
            }
        },
        ..base()
    }
}

/// What is said about a job's specification.
fn spec_notes(spec: &Value, path: &Path, said: &mut Vec<String>) {
    let over = |name: &str, limit: i64| spec[name].as_i64().is_some_and(|n| n > limit);
    let many = text(spec, &["completionMode"]) == "Indexed"
        && over("completions", COMPLETIONS_FEW)
        && over("parallelism", PARALLEL_FEW);
    if many {
        said.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    warnings::spec(&spec["template"], &path.child("template"), said);
}

fn validate_job(job: &Value, errors: &mut Errors) {
    generated_selector(job, errors);
    let spec = &job["spec"];
    selected_spec(spec, errors);
    // The last pod has the longest name, and its host is named after it.
    if let Some(last) = spec["completions"].as_i64().filter(|n| *n > 0).map(|n| n - 1)
        && spec["completionMode"] == "Indexed"
    {
        let host = format!("{}-{last}", name(job));
        if !name_errors(NameRule::Label, &host, false).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.invalid(&Path::new("metadata").child("name"), name(job), detail);
        }
    }
}

fn generated_selector(job: &Value, errors: &mut Errors) {
    let (spec, labels) = (&job["spec"], at(job, &["spec", "template", "metadata", "labels"]));
    if spec["manualSelector"] == Value::Bool(true) || spec["selector"].is_null() {
        return;
    }
    let (uid, name) = (text(job, &["metadata", "uid"]), name(job));
    let at = path("template").child("metadata").child("labels");
    for (key, is_uid) in LABELS {
        let wanted = if is_uid { uid } else { name };
        match labels.get(key).and_then(Value::as_str) {
            None => errors.required(&at.key(key), &format!("must be '{wanted}'")),
            Some(found) if found != wanted => {
                errors.invalid(&at.key(key), labels.clone(), format!("must be '{wanted}'"));
            }
            Some(_) => {}
        }
    }
    let own = |key: &str| {
        LABELS.iter().find(|(label, _)| *label == key).map(|(_, is_uid)| if *is_uid { uid } else { name })
    };
    if selector_of(&spec["selector"]).is_some_and(|selector| !selector.matches_by(own)) {
        let shown = checks::shown_selector(&spec["selector"]);
        errors.invalid_shown(&path("selector"), &shown, "`selector` not auto-generated");
    }
}

fn selected_spec(spec: &Value, errors: &mut Errors) {
    job_spec(spec, &Path::new("spec"), errors);
    if spec["selector"].is_null() {
        errors.required(&path("selector"), "");
    } else {
        checks::label_selector(&spec["selector"], &path("selector"), errors);
    }
    let labels = at(spec, &["template", "metadata", "labels"]);
    let selected = if spec["selector"].is_null() {
        false
    } else {
        selector_of(&spec["selector"])
            .is_none_or(|s| s.matches_by(|key| labels.get(key).and_then(Value::as_str)))
    };
    if !selected {
        let at = path("template").child("metadata").child("labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
}

fn job_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    checks::all_non_negative(spec, &numbers, path, errors);
    if let Some(manager) = spec["managedBy"].as_str() {
        checks::domain_prefixed_path(manager, &path.child("managedBy"), errors);
        if manager.len() > MANAGER_CHARS_MAX {
            errors.too_long(&path.child("managedBy"), MANAGER_CHARS_MAX);
        }
    }
    indexes(spec, path, errors);
    if spec["podFailurePolicy"].is_object() {
        failure_policy(spec, &path.child("podFailurePolicy"), errors);
    }
    if spec["successPolicy"].is_object() {
        success_policy(spec, &path.child("successPolicy"), errors);
    }
    let replacements: &[&str] = match spec["podFailurePolicy"].is_object() {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    checks::choice(&spec["podReplacementPolicy"], replacements, &path.child("podReplacementPolicy"), errors);
    template_spec(&spec["template"], &path.child("template"), errors);
    let at = path.child("template").child("spec").child("restartPolicy");
    match text(spec, &["template", "spec", "restartPolicy"]) {
        "" | "Always" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec["podFailurePolicy"].is_object() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&at, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => errors.unsupported(&at, other, &["OnFailure", "Never"]),
    }
}

fn indexes(spec: &Value, path: &Path, errors: &mut Errors) {
    let mode = &spec["completionMode"];
    checks::choice(mode, &["NonIndexed", "Indexed"], &path.child("completionMode"), errors);
    let number = |name: &str| spec[name].as_i64();
    if mode == "Indexed" {
        if spec["completions"].is_null() {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
        if let Some(parallel) = number("parallelism").filter(|p| *p > PARALLEL_MAX) {
            let detail =
                format!("must be less than or equal to {PARALLEL_MAX} when completion mode is Indexed");
            errors.invalid(&path.child("parallelism"), parallel, detail);
        }
        if let (Some(failed), Some(all)) = (number("maxFailedIndexes"), number("completions"))
            && failed > all
        {
            let detail = "must be less than or equal to completions";
            errors.invalid(&path.child("maxFailedIndexes"), failed, detail);
        }
    }
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if mode.is_null() || mode == "NonIndexed" {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = number(name) {
                errors.invalid(&path.child(name), number, "requires indexed completion mode");
            }
        }
    }
}

fn failure_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = list(spec, &["podFailurePolicy", "rules"]);
    let path = path.child("rules");
    if rules.len() > POLICY_RULES_MAX {
        errors.too_many(&path, rules.len(), POLICY_RULES_MAX);
        return;
    }
    let names: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| list(spec, &["template", "spec", kind]))
        .map(|container| text(container, &["name"]))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(rule, !spec["backoffLimitPerIndex"].is_null(), &names, &path.index(i), errors);
    }
}

fn failure_rule(rule: &Value, per_index: bool, names: &[&str], path: &Path, errors: &mut Errors) {
    match text(rule, &["action"]) {
        "FailIndex" if !per_index => {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.invalid(&path.child("action"), "FailIndex", detail);
        }
        _ => {
            let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
            checks::required_one_of(&rule["action"], &actions, &path.child("action"), errors);
        }
    }
    let (codes, conditions) = (&rule["onExitCodes"], list(rule, &["onPodConditions"]));
    if codes.is_object() {
        exit_codes(codes, names, &path.child("onExitCodes"), errors);
    }
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.child("onPodConditions").index(i);
        qualified(text(condition, &["type"]), &path.child("type"), errors);
        let known = ["False", "True", "Unknown"];
        checks::required_one_of(&condition["status"], &known, &path.child("status"), errors);
    }
    match (codes.is_object(), !conditions.is_empty()) {
        (true, true) => {
            let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.invalid_unshown(path, detail);
        }
        (false, false) => {
            let detail = "specifying one of OnExitCodes and OnPodConditions is required";
            errors.invalid_unshown(path, detail);
        }
        _ => {}
    }
}

/// When a job of many indexes has succeeded before all have.
fn success_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = &spec["successPolicy"];
    if spec["completionMode"] != "Indexed" {
        errors.invalid_struct(path, "a.batch.v1.SuccessPolicy", policy, "requires indexed completion mode");
        return;
    }
    let (rules, path) = (list(policy, &["rules"]), path.child("rules"));
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, detail);
    }
    if rules.len() > POLICY_RULES_MAX {
        errors.too_many(&path, rules.len(), POLICY_RULES_MAX);
    }
    let completions = spec["completions"].as_i64().unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &path.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut Errors) {
    let (indexes, count) = (rule["succeededIndexes"].as_str(), rule["succeededCount"].as_i64());
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, detail);
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let path = path.child("succeededIndexes");
        if indexes.len() > INDEXES_CHARS_MAX {
            errors.too_long(&path, INDEXES_CHARS_MAX);
        }
        match indexes_of(indexes, completions) {
            Ok(found) => total = found,
            Err(wrong) => {
                errors.invalid(&path, indexes, format!("error parsing succeededIndexes: {wrong}"));
            }
        }
    }
    let Some(count) = count else { return };
    let path = path.child("succeededCount");
    non_negative(&rule["succeededCount"], &path, errors);
    for (most, of, applies) in [
        (completions, "specified completions", true),
        (total, "indexes in the specified succeededIndexes field", indexes.is_some()),
    ] {
        if applies && count > most {
            let detail = format!("must be less than or equal to {most} (the number of {of})");
            errors.invalid(&path, count, detail);
        }
    }
}

/// How many indexes a text such as `1,3-5` names, all below a number and rising.
fn indexes_of(text: &str, completions: i64) -> Result<i64, String> {
    let number = |text: &str| -> Result<i64, String> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let parsed = digits.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
        match parsed {
            None => Err(format!("cannot convert string to integer for index: {text:?}")),
            Some(index) if index >= completions => Err(format!("too large index: {text:?}")),
            Some(index) => Ok(index),
        }
    };
    let rising = |before: i64, now: i64| {
        if before >= now {
            return Err(format!("non-increasing order, previous: {before}, current: {now}"));
        }
        Ok(())
    };
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = match interval.split('-').collect::<Vec<_>>()[..] {
            [one] => number(one).map(|one| (one, one))?,
            [from, to] => {
                let (from, to) = (number(from)?, number(to)?);
                rising(from, to)?;
                (from, to)
            }
            _ => {
                return Err(format!(
                    "the fragment {interval:?} violates the requirement that an index interval can have at most two \
                     parts separated by '-'"
                ));
            }
        };
        if let Some(last) = last {
            rising(last, from)?;
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

fn exit_codes(codes: &Value, names: &[&str], path: &Path, errors: &mut Errors) {
    let operator = text(codes, &["operator"]);
    checks::required_one_of(&codes["operator"], &["In", "NotIn"], &path.child("operator"), errors);
    if let Some(container) = codes["containerName"].as_str()
        && !names.contains(&container)
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), container, detail);
    }
    let (values, path) = (list(codes, &["values"]), path.child("values"));
    if values.is_empty() {
        errors.invalid(&path, codes["values"].clone(), "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(&path, values.len(), EXIT_CODES_MAX);
    }
    let mut ordered = true;
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && value.as_i64() == Some(0) {
            errors.invalid(&path.index(i), 0, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&path.index(i), value.clone());
        }
        ordered &= i == 0 || values[i - 1].as_i64() <= value.as_i64();
    }
    if !ordered {
        errors.invalid(&path, codes["values"].clone(), "must be ordered");
    }
}

fn update(new: &Value, old_job: &Value, errors: &mut Errors) {
    let old = &old_job["spec"];
    let (completions, before) = (&new["completions"], &old["completions"]);
    if new["completionMode"] != "Indexed" {
        immutable(completions, before, &path("completions"), errors);
    } else if completions != before
        && !completions.is_null()
        && !before.is_null()
        && *completions != new["parallelism"]
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&path("completions"), completions.clone(), detail);
    }
    let (selector, before) = (&new["selector"], &old["selector"]);
    checks::immutable_struct("m.LabelSelector", selector, before, &path("selector"), errors);
    template::kept(&new["template"], old_job, errors);
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        let definition = match name {
            "podFailurePolicy" => "a.batch.v1.PodFailurePolicy",
            "successPolicy" => "a.batch.v1.SuccessPolicy",
            _ => {
                immutable(&new[name], &old[name], &path(name), errors);
                continue;
            }
        };
        checks::immutable_struct(definition, &new[name], &old[name], &path(name), errors);
    }
}

/// A job without a selector of its own selects pods by its uid.
fn generate_selector(job: &mut Value) {
    let (uid, name) = (text(job, &["metadata", "uid"]).to_owned(), name(job).to_owned());
    let own = job["metadata"]["labels"].clone();
    let labels = object_mut(job, &["spec", "template", "metadata", "labels"]);
    // A job without labels of its own has those of its pods, these included.
    let shared = own.as_object().is_none_or(|own| own.is_empty() || own == labels);
    for (key, is_uid) in LABELS {
        let value = if is_uid { uid.as_str() } else { name.as_str() };
        labels.entry(key).or_insert_with(|| value.into());
    }
    if shared {
        job["metadata"]["labels"] = Value::Object(labels.clone());
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
            template_defaults(&mut object["spec"]["jobTemplate"]["spec"]);
        },
        validate: |object, errors| {
            let spec = &object["spec"];
            schedule(spec, errors);
            non_negative(&spec["startingDeadlineSeconds"], &path("startingDeadlineSeconds"), errors);
            if let Some(zone) = spec["timeZone"].as_str() {
                time_zone(zone, &path("timeZone"), errors);
            }
            let policies = ["Allow", "Forbid", "Replace"];
            checks::required_choice(
                &spec["concurrencyPolicy"],
                &policies,
                &path("concurrencyPolicy"),
                errors,
            );
            let (job, at) = (&spec["jobTemplate"]["spec"], path("jobTemplate").child("spec"));
            job_spec(job, &at, errors);
            if !job["selector"].is_null() {
                let shown = checks::shown_selector(&job["selector"]);
                errors.invalid_shown(&at.child("selector"), &shown, "`selector` will be auto-generated");
            }
            if job["manualSelector"] == Value::Bool(true) {
                errors.unsupported(&at.child("manualSelector"), true, &["nil", "false"]);
            }
            for name in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
                non_negative(&spec[name], &path(name), errors);
            }
            let given = name(object);
            if given.len() > CRON_NAME_CHARS_MAX {
                let detail = format!("must be no more than {CRON_NAME_CHARS_MAX} characters");
                errors.invalid(&Path::new("metadata.name"), given, detail);
            }
        },
        warnings: |object, old, said| {
            if old.is_none() {
                warnings::label_is_better(object, said);
            }
            if warnings::is_next(object, old) {
                spec_notes(&object["spec"]["jobTemplate"]["spec"], &path("jobTemplate").child("spec"), said);
            }
        },
        ..base()
    }
}

fn schedule(spec: &Value, errors: &mut Errors) {
    let (given, path) = (text(spec, &["schedule"]), path("schedule"));
    if given.is_empty() {
        errors.required(&path, "");
        return;
    }
    let parsed = match cron::zone_within(given) {
        None => cron::parse(given),
        Some(("" | "Local", rest)) => cron::parse(rest),
        Some((zone, rest)) => cron::zone(Some(zone))
            .map_err(|wrong| format!("provided bad location {zone}: {wrong}"))
            .and_then(|_| cron::parse(rest)),
    };
    if let Err(wrong) = parsed {
        errors.invalid(&path, given, wrong);
    }
    if given.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(&path, given, detail);
    }
}

fn time_zone(zone: &str, path: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    } else if let Err(wrong) = cron::zone(Some(zone)) {
        errors.invalid(path, zone, wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_rise_below_what_there_is() {
        for (text, wanted) in [
            ("", Ok(0)),
            ("1,3-5", Ok(4)),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
                ),
            ),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
            ("9", Err("too large index: \"9\"")),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("2-2", Err("non-increasing order, previous: 2, current: 2")),
        ] {
            assert_eq!(indexes_of(text, 6), wanted.map_err(str::to_owned), "{text}");
        }
    }
}
