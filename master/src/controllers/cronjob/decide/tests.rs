use serde_json::{Value, json};

use super::*;

fn cron(spec: Value, status: Value) -> CronJob {
    let mut all = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {}}, "status": status});
    for (key, value) in spec.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn job(name: &str, condition: &str, started: &str) -> Arc<Job> {
    let conditions =
        if condition.is_empty() { json!([]) } else { json!([{"type": condition, "status": "True"}]) };
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name},
            "status": {"conditions": conditions, "startTime": started, "completionTime": started}}))
        .unwrap(),
    )
}

fn active(names: &[&str]) -> Value {
    names.iter().map(|n| json!({"name": n, "uid": n})).collect()
}

fn plan(spec: Value, status: Value, jobs: &[Arc<Job>], now: &str) -> Plan {
    decide(&cron(spec, status), jobs, now.parse().unwrap())
}

fn starts(plan: &Plan) -> String {
    plan.start.map(|t| t.to_string()).unwrap_or_default()
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.tell.iter().map(|t| t.reason).collect()
}

#[test]
fn a_job_starts_when_its_time_has_come() {
    let p = plan(json!({}), json!({}), &[], "2026-01-01T00:00:45Z");
    assert_eq!((starts(&p).as_str(), p.again_after), ("", Some(Duration::from_millis(15_100))));
    let p = plan(json!({}), json!({}), &[], "2026-01-01T00:01:00.1Z");
    assert_eq!(starts(&p), "2026-01-01T00:01:00Z");
    let p = plan(json!({}), json!({"lastScheduleTime": "2026-01-01T00:01:00Z"}), &[], "2026-01-01T00:01:30Z");
    assert_eq!(starts(&p), "", "each time is used once");
    let p = plan(json!({}), json!({}), &[], "2026-01-01T03:00:10Z");
    assert_eq!(starts(&p), "2026-01-01T03:00:00Z", "only the last of the missed");
    assert_eq!(reasons(&p), ["TooManyMissedTimes"]);
    let p = plan(json!({"suspend": true}), json!({}), &[], "2026-01-01T00:05:00Z");
    assert_eq!((starts(&p).as_str(), p.again_after), ("", None));
}

#[test]
fn a_deadline_may_have_passed() {
    let hourly = json!({"schedule": "0 * * * *", "startingDeadlineSeconds": 100});
    let p = plan(hourly.clone(), json!({}), &[], "2026-01-01T01:01:00Z");
    assert_eq!(starts(&p), "2026-01-01T01:00:00Z");
    let p = plan(hourly, json!({}), &[], "2026-01-01T01:05:00Z");
    assert_eq!(starts(&p), "");
}

#[test]
fn concurrency_is_a_matter_of_policy() {
    let jobs = [job("a", "", "2026-01-01T00:01:00Z")];
    let status = json!({"active": active(&["a"]), "lastScheduleTime": "2026-01-01T00:01:00Z"});
    let with = |policy: &str| {
        plan(json!({"concurrencyPolicy": policy}), status.clone(), &jobs, "2026-01-01T00:02:01Z")
    };
    assert_eq!(starts(&with("Allow")), "2026-01-01T00:02:00Z");
    let p = with("Forbid");
    assert_eq!((starts(&p).as_str(), reasons(&p)), ("", vec!["JobAlreadyActive"]));
    let p = with("Replace");
    assert_eq!((starts(&p).as_str(), p.replace.len()), ("2026-01-01T00:02:00Z", 1));
}

#[test]
fn jobs_are_accounted_for() {
    let jobs = [job("done", "Complete", "2026-01-01T00:01:10Z"), job("stranger", "", "2026-01-01T00:01:00Z")];
    let status = json!({"active": active(&["done", "gone"]), "lastScheduleTime": "2026-01-01T00:01:00Z"});
    let p = plan(json!({}), status, &jobs, "2026-01-01T00:01:30Z");
    assert_eq!(reasons(&p), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
    assert_eq!(p.tell[0].message, "Saw completed job: done, condition: Complete");
    assert_eq!(p.status.active, None);
    assert!(p.status.last_successful_time.is_some());
}

#[test]
fn the_history_keeps_the_youngest() {
    let spec = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let jobs = [
        job("b", "Complete", "2026-01-01T00:02:00Z"),
        job("a", "Complete", "2026-01-01T00:01:00Z"),
        job("f", "Failed", "2026-01-01T00:03:00Z"),
        job("r", "", "2026-01-01T00:00:00Z"),
    ];
    let gone = surplus(&cron(spec, json!({})), &jobs);
    assert_eq!(gone.iter().map(|j| name(&j.metadata)).collect::<Vec<_>>(), ["a", "f"]);
}
