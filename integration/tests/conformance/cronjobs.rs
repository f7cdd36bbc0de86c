//! CronJobs: what happens at a time that has come. Nobody waits for the clock: a CronJob that was last scheduled hours
//! ago, as its status says, has a time to make up for at once.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::scene::{Scene, items, name, pod_spec};

/// A time of day so many hours ago, as a schedule and as a timestamp.
fn hours_ago(hours: i64) -> (String, String) {
    let time = OffsetDateTime::now_utc() - Duration::hours(hours);
    let whole = time.replace_nanosecond(0).expect("no nanoseconds");
    (format!("{} {} * * *", time.minute(), time.hour()), whole.format(&Rfc3339).expect("a timestamp"))
}

fn cron_job(name: &str, more: &Value) -> Value {
    let mut pod = pod_spec();
    pod["restartPolicy"] = "OnFailure".into();
    let mut object = json!({"metadata": {"name": name}, "spec": {"schedule": hours_ago(2).0,
        "jobTemplate": {"spec": {"template": {"metadata": {"labels": {"of": name}}, "spec": pod}}}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

fn path(scene: &Scene, name: &str) -> String {
    format!("{}/{name}", scene.at("batch/v1", "cronjobs"))
}

/// Makes a CronJob whose time was two hours ago, and which was last looked at an hour before.
fn due(scene: &Scene, name: &str, more: &Value) {
    scene.create(&scene.at("batch/v1", "cronjobs"), &cron_job(name, more));
    let status = json!({"status": {"lastScheduleTime": hours_ago(3).1}});
    scene.api.merge(&format!("{}/status", path(scene, name)), &status).ok();
}

/// Another time comes: one that was an hour ago.
fn due_again(scene: &Scene, name: &str) {
    scene.api.merge(&path(scene, name), &json!({"spec": {"schedule": hours_ago(1).0}})).ok();
}

fn active(cron_job: &Value) -> Vec<&str> {
    let active = cron_job["status"]["active"].as_array();
    active.into_iter().flatten().filter_map(|job| job["name"].as_str()).collect()
}

fn jobs_of(scene: &Scene, name: &str) -> Vec<Value> {
    let jobs = scene.items(&scene.at("batch/v1", "jobs"));
    let of = |job: &Value| job["metadata"]["ownerReferences"][0]["name"] == name;
    jobs.into_iter().filter(of).collect()
}

pub fn several_at_a_time(scene: &Scene) {
    due(scene, "many", &json!({"concurrencyPolicy": "Allow"}));
    scene.until(&path(scene, "many"), |job| active(job).len() == 1);
    due_again(scene, "many");
    let seen = scene.until(&path(scene, "many"), |job| active(job).len() == 2);
    let jobs = jobs_of(scene, "many");
    assert_eq!(jobs.len(), 2);
    for job in &jobs {
        assert!(active(&seen).contains(&name(job)), "{seen}");
        assert_eq!(job["metadata"]["ownerReferences"][0]["controller"], true);
    }
}

pub fn one_at_a_time(scene: &Scene) {
    due(scene, "one", &json!({"concurrencyPolicy": "Forbid"}));
    let seen = scene.until(&path(scene, "one"), |job| active(job).len() == 1);
    let first = active(&seen)[0].to_owned();
    due_again(scene, "one");
    let refused = |list: &Value| {
        items(list).iter().any(|e| e["reason"] == "JobAlreadyActive" && e["involvedObject"]["name"] == "one")
    };
    scene.until(&scene.core("events"), refused);
    let seen = scene.get(&path(scene, "one"));
    assert_eq!(active(&seen), [first.as_str()]);
    assert_eq!(jobs_of(scene, "one").len(), 1);
    // When the first one has ended, the time that was missed is made up for.
    scene
        .api
        .delete_with(
            &format!("{}/{first}", scene.at("batch/v1", "jobs")),
            &json!({"propagationPolicy": "Background"}),
        )
        .ok();
    scene.until(&path(scene, "one"), |job| active(job).len() == 1 && active(job)[0] != first);
}

pub fn the_newer_replaces_the_older(scene: &Scene) {
    due(scene, "newest", &json!({"concurrencyPolicy": "Replace"}));
    let seen = scene.until(&path(scene, "newest"), |job| active(job).len() == 1);
    let first = active(&seen)[0].to_owned();
    due_again(scene, "newest");
    scene.until(&path(scene, "newest"), |job| active(job).len() == 1 && active(job)[0] != first);
    scene.until_gone(&format!("{}/{first}", scene.at("batch/v1", "jobs")));
    assert_eq!(jobs_of(scene, "newest").len(), 1);
}

pub fn suspended(scene: &Scene) {
    due(scene, "suspended", &json!({"suspend": true}));
    // Another one that was due later has its turn.
    due(scene, "other", &json!({}));
    scene.until(&path(scene, "other"), |job| active(job).len() == 1);
    assert_eq!(jobs_of(scene, "suspended"), Vec::<Value>::new());
    assert_eq!(active(&scene.get(&path(scene, "suspended"))).len(), 0);
    scene.api.merge(&path(scene, "suspended"), &json!({"spec": {"suspend": false}})).ok();
    scene.until(&path(scene, "suspended"), |job| active(job).len() == 1);
}

pub fn finished_jobs_leave_the_list(scene: &Scene) {
    due(scene, "done", &json!({"successfulJobsHistoryLimit": 0}));
    scene.until(&path(scene, "done"), |job| active(job).len() == 1);
    let pods = format!("{}?labelSelector=of%3Ddone", scene.core("pods"));
    let made = scene.until_items(&pods, |pods| pods.len() == 1);
    scene.pod_ended(name(&made[0]), "Succeeded", 0);
    let seen = scene.until(&path(scene, "done"), |job| active(job).is_empty());
    assert!(seen["status"]["lastSuccessfulTime"].is_string(), "{seen}");
    // None is kept.
    scene.until_items(&scene.at("batch/v1", "jobs"), <[Value]>::is_empty);
}
