//! What a job may say of itself: how a job ends, and that it stays ended.

use std::collections::HashSet;

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, non_negative};
use crate::api::object::{list, text};

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
    let (ended, ended_before) = (finished(new), finished(old));
    let changed = new["status"]["conditions"] != old["status"]["conditions"];
    conditions(new, old, errors);
    let (completed, started) = (text(status, &["completionTime"]), text(status, &["startTime"]));
    let at = path.child("completionTime");
    if !completed.is_empty()
        && !is(new, "Complete")
        && status["completionTime"] != old["status"]["completionTime"]
    {
        errors.invalid(&at, completed, "cannot set completionTime when there is no Complete=True condition");
    }
    if completed.is_empty() && is(new, "Complete") && !is(old, "Complete") {
        errors.required(&at, "completionTime is required for Complete jobs");
    }
    if !completed.is_empty() && !started.is_empty() && completed < started {
        errors.invalid(&at, completed, "completionTime cannot be set before startTime");
    }
    if ended && !ended_before && changed {
        let active = status["active"].as_i64().unwrap_or(0);
        if active > 0 {
            errors.invalid(&path.child("active"), active, "active>0 is invalid for finished job");
        }
        if started.is_empty() {
            errors.required(&path.child("startTime"), "startTime is required for finished job");
        }
    }
    stays(new, old, errors);
}

fn finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
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

/// How a job ends is told before it has ended, and in one way.
fn conditions(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let becomes = |a: &str, b: Option<&str>| {
        let now = is(new, a) && b.is_none_or(|b| is(new, b));
        now && !(is(old, a) && b.is_none_or(|b| is(old, b)))
    };
    if becomes("Complete", Some("Failed")) {
        errors.invalid_unshown(&path, "cannot set Complete=True and Failed=true conditions");
    }
    if becomes("Complete", Some("FailureTarget")) {
        errors.invalid_unshown(&path, "cannot set Complete=True and FailureTarget=true conditions");
    }
    if becomes("Failed", None) && !is(new, "FailureTarget") {
        errors.invalid_unshown(
            &path,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
    if becomes("Complete", None) && !is(new, "SuccessCriteriaMet") {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.invalid_unshown(&path, why);
    }
    if becomes("SuccessCriteriaMet", Some("Failed")) {
        errors.invalid_unshown(&path, "cannot set Failed=True and SuccessCriteriaMet=true conditions");
    }
    if becomes("SuccessCriteriaMet", Some("FailureTarget")) {
        errors.invalid_unshown(&path, "cannot set SuccessCriteriaMet=true and FailureTarget=true conditions");
    }
}

/// What a job has come to does not go back.
fn stays(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        if is(old, kind) && !is(new, kind) {
            let why = if kind == "SuccessCriteriaMet" {
                "cannot disable the SuccessCriteriaMet=True condition".to_owned()
            } else {
                format!("cannot disable the terminal {kind}=True condition")
            };
            errors.invalid_unshown(&path.child("conditions"), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_ends_once_and_says_how() {
        let job = |status: Value| json!({"status": status});
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
