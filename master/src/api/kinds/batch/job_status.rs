//! What a job may say of itself: how a job ends, and that it stays ended.

use std::collections::HashSet;

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, non_negative};
use crate::api::object::{list, text};

mod indexes;

/// Whether a condition of a job is true.
fn is(job: &Value, kind: &str) -> bool {
    list(job, &["status", "conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Checks a change of a job's status. What was wrong before is not held against it.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (&new["status"], Path::new("status"));
    checks::all_non_negative(status, &["active", "succeeded", "failed"], &path, errors);
    for name in ["ready", "terminating"] {
        non_negative(&status[name], &path.child(name), errors);
    }
    uncounted(&status["uncountedTerminatedPods"], &path.child("uncountedTerminatedPods"), errors);
    both(new, old, ("Complete", &["Failed", "FailureTarget"]), errors);
    times(new, old, errors);
    foreseen(new, old, errors);
    at_rest(new, old, errors);
    indexes::validate(new, old, errors);
    let is_changed = |names: &[&str]| names.iter().any(|name| changed(new, old, name));
    let count = |name: &str| status[name].as_i64().unwrap_or(0);
    if (finished(new) != finished(old) || is_changed(&["terminating"]))
        && finished(new)
        && count("terminating") > 0
    {
        let why = "terminating>0 is invalid for finished job";
        errors.invalid(&path.child("terminating"), count("terminating"), why);
    }
    if is_changed(&["ready", "active"])
        && let Some(ready) = status["ready"].as_i64().filter(|ready| *ready > count("active"))
    {
        errors.invalid(&path.child("ready"), ready, "cannot set more ready pods than active");
    }
    let conditions = path.child("conditions");
    for kind in ["Failed", "FailureTarget"] {
        if is(new, "SuccessCriteriaMet") && is(new, kind) {
            let shown = if kind == "Failed" { "Failed=true" } else { "FailureTarget=true" };
            errors.invalid_unshown(
                &conditions,
                format!("cannot set SuccessCriteriaMet=True and {shown} conditions"),
            );
        }
    }
    if new["spec"]["successPolicy"].is_object() && !is(new, "SuccessCriteriaMet") && is(new, "Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.invalid_unshown(&conditions, why);
    }
    stays(new, old, errors);
}

/// Whether a field of the status is another than before; a count that is not there is none.
fn changed(new: &Value, old: &Value, name: &str) -> bool {
    let (now, before) = (&new["status"][name], &old["status"][name]);
    let counted = matches!(name, "active" | "succeeded" | "failed");
    if counted { now.as_i64().unwrap_or(0) != before.as_i64().unwrap_or(0) } else { now != before }
}

fn finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

/// Conditions that may not become true beside another one.
fn both(new: &Value, old: &Value, (first, others): (&str, &[&str]), errors: &mut Errors) {
    for other in others {
        let becomes = is(new, first) != is(old, first) || is(new, other) != is(old, other);
        if becomes && is(new, first) && is(new, other) {
            errors.invalid_unshown(
                &Path::new("status.conditions"),
                format!("cannot set {first}=True and {other}=true conditions"),
            );
        }
    }
}

/// When it began and when it was complete.
fn times(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("status.completionTime");
    let time = |name: &str| text(new, &["status", name]);
    let (completed, started) = (time("completionTime"), time("startTime"));
    let moved = changed(new, old, "completionTime");
    if moved || is(new, "Complete") != is(old, "Complete") {
        if !completed.is_empty() && !is(new, "Complete") {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(&at, completed, why);
        }
        if completed.is_empty() && is(new, "Complete") {
            errors.required(&at, "completionTime is required for Complete jobs");
        }
    }
    let before = !completed.is_empty() && !started.is_empty() && completed < started;
    if before && (moved || changed(new, old, "startTime")) {
        errors.invalid(&at, completed, "must be equal to or after `startTime`");
    }
}

/// How a job ends is told before it has ended.
fn foreseen(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let becomes = |kind: &str| is(new, kind) != is(old, kind);
    if (becomes("Failed") || changed(new, old, "failedIndexes"))
        && is(new, "Failed")
        && !is(new, "FailureTarget")
    {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.invalid_unshown(&path, why);
    }
    let complete = becomes("Complete") || becomes("SuccessCriteriaMet");
    if complete && is(new, "Complete") && !is(new, "SuccessCriteriaMet") {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.invalid_unshown(&path, why);
    }
}

/// What a job that has ended may not have any more.
fn at_rest(new: &Value, old: &Value, errors: &mut Errors) {
    if !finished(new) {
        return;
    }
    let (status, path) = (&new["status"], Path::new("status"));
    let ended = !finished(old);
    let active = status["active"].as_i64().unwrap_or(0);
    if (ended || changed(new, old, "active")) && active > 0 {
        errors.invalid(&path.child("active"), active, "active>0 is invalid for finished job");
    }
    let never = new["spec"]["suspend"] == Value::Bool(true) && new["spec"]["completions"] == 0;
    if (ended || changed(new, old, "startTime")) && !never && text(status, &["startTime"]).is_empty() {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
    const FIELD: &str = "uncountedTerminatedPods";
    let pods = &status[FIELD];
    let some = ["succeeded", "failed"].iter().any(|how| !list(pods, &[how]).is_empty());
    if (ended || changed(new, old, FIELD)) && some {
        let definition = "a.batch.v1.UncountedTerminatedPods";
        errors.invalid_struct(&path.child(FIELD), definition, pods, "must be empty for finished job");
    }
}

fn uncounted(pods: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for how in ["succeeded", "failed"] {
        for (i, uid) in list(pods, &[how]).iter().filter_map(Value::as_str).enumerate() {
            let at = path.child(how).index(i);
            if uid.is_empty() {
                errors.invalid(&at, uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&at, uid);
            }
        }
    }
}

/// What a job has come to does not go back.
fn stays(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (&new["status"], Path::new("status"));
    let conditions = path.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !is(new, kind) {
            errors.invalid_unshown(&conditions, format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let count = |job: &Value, name: &str| job["status"][name].as_i64().unwrap_or(0);
    let spec = &new["spec"];
    // A job with an index for each pod may be made smaller.
    let scaled = text(spec, &["completionMode"]) == "Indexed" && spec["completions"] == spec["parallelism"];
    for name in ["failed", "succeeded"] {
        if count(new, name) < count(old, name) && (name == "failed" || !scaled) {
            let why = format!("cannot decrease the {name} counter");
            errors.invalid(&path.child(name), count(new, name), why);
        }
    }
    let time = |job: &Value, name: &str| text(job, &["status", name]).to_owned();
    let differs = |name: &str| !time(old, name).is_empty() && time(old, name) != time(new, name);
    if differs("completionTime") && !time(new, "completionTime").is_empty() {
        errors.invalid(&path.child("completionTime"), time(new, "completionTime"), checks::IMMUTABLE);
    }
    let says = |job: &Value, wanted: &str| {
        let mut all = list(job, &["status", "conditions"]).iter();
        all.any(|c| c["type"] == "Suspended" && c["status"] == wanted)
    };
    let resumes = says(old, "True") && says(new, "False");
    if differs("startTime") && !resumes && spec["suspend"] != Value::Bool(true) {
        let why = "field is immutable for unsuspended job once set";
        errors.invalid(&path.child("startTime"), status["startTime"].clone(), why);
    }
    if is(old, "SuccessCriteriaMet") && !is(new, "SuccessCriteriaMet") {
        errors.invalid_unshown(&conditions, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is(old, "Complete") && !is(old, "SuccessCriteriaMet") && is(new, "SuccessCriteriaMet") {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_unshown(&conditions, why);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_ends_once_and_says_how() {
        let job = |status: Value| json!({"spec": {"completions": 3}, "status": status});
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        let done = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z",
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
        for (new, old, wanted) in [
            (done.clone(), json!({}), vec![]),
            (
                json!({"active": -1}),
                json!({}),
                vec!["status.active: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [condition("Failed")]}),
                json!({}),
                vec![
                    "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                ],
            ),
            (
                json!({"failed": 1, "ready": 2, "active": 1}),
                json!({"failed": 2}),
                vec![
                    "status.ready: Invalid value: 2: cannot set more ready pods than active",
                    "status.failed: Invalid value: 1: cannot decrease the failed counter",
                ],
            ),
            (
                json!({"completedIndexes": "0"}),
                json!({}),
                vec![
                    "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when \
                     non-indexed completion mode",
                ],
            ),
            (
                json!({}),
                json!({"conditions": [condition("FailureTarget")]}),
                vec![
                    "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                ],
            ),
        ] {
            let mut errors = Errors::default();
            validate(&job(new.clone()), &job(old), &mut errors);
            assert_eq!(errors.messages(), wanted, "{new}");
        }
    }
}
