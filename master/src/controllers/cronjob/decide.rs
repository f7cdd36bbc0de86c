//! Whether it is time for a Job, and what else is to be said and done. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::schedule::{Schedule, parse, zone};
use crate::controllers::job::decide::is_over;
use crate::controllers::machinery::meta::{is_deleting, name, uid, until};

/// More missed times than this are worth a warning.
const MISSED_MAX: i64 = 100;
/// Clocks may differ a little; a look that comes too early would be in vain.
const SLACK: Duration = Duration::from_millis(100);

/// Something to tell.
#[derive(Debug, PartialEq)]
pub struct Telling {
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// One word.
    pub reason: &'static str,
    /// Text.
    pub message: String,
}

fn tell(kind: &'static str, reason: &'static str, message: String) -> Telling {
    Telling { kind, reason, message }
}

/// What to do now.
#[derive(Debug, Default)]
pub struct Plan {
    /// The status after what happened to the Jobs.
    pub status: CronJobStatus,
    /// What to tell.
    pub tell: Vec<Telling>,
    /// Active Jobs to delete first.
    pub replace: Vec<ObjectReference>,
    /// Start the Job of this time.
    pub start: Option<Timestamp>,
    /// Look again after this long.
    pub again_after: Option<Duration>,
}

fn condition_of(job: &Job) -> &str {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let over = conditions
        .into_iter()
        .flatten()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    over.map_or("", |c| c.type_.as_str())
}

/// Brings the list of active Jobs up to date.
fn account(jobs: &[Arc<Job>], plan: &mut Plan) {
    let listed =
        |plan: &Plan, uid_: &str| plan.status.active.iter().flatten().any(|r| r.uid.as_deref() == Some(uid_));
    for job in jobs {
        let (id, n) = (uid(&job.metadata), name(&job.metadata));
        let active = listed(plan, id);
        if !active && !is_over(job) {
            let message = format!("Saw a job that the controller did not create or forgot: {n}");
            plan.tell.push(tell("Warning", "UnexpectedJob", message));
        } else if active && is_over(job) {
            plan.status.active.iter_mut().for_each(|a| a.retain(|r| r.uid.as_deref() != Some(id)));
            let message = format!("Saw completed job: {n}, condition: {}", condition_of(job));
            plan.tell.push(tell("Normal", "SawCompletedJob", message));
        }
        if condition_of(job) == "Complete" {
            let done = job.status.as_ref().and_then(|s| s.completion_time.as_ref());
            let later = |t: &&Time| plan.status.last_successful_time.as_ref().is_none_or(|last| t.0 > last.0);
            if let Some(done) = done.filter(later) {
                plan.status.last_successful_time = Some(done.clone());
            }
        }
    }
    let known = |r: &ObjectReference| jobs.iter().any(|j| r.uid.as_deref() == Some(uid(&j.metadata)));
    let missing: Vec<String> = plan
        .status
        .active
        .iter()
        .flatten()
        .filter(|r| !known(r))
        .map(|r| r.name.clone().unwrap_or_default())
        .collect();
    for gone in missing {
        plan.tell.push(tell("Normal", "MissingJob", format!("Active job went missing: {gone}")));
    }
    plan.status.active.iter_mut().for_each(|a| a.retain(known));
    if plan.status.active.as_ref().is_some_and(Vec::is_empty) {
        plan.status.active = None;
    }
}

/// Decides. `jobs` are the CronJob's own.
pub fn decide(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    account(jobs, &mut plan);
    let spec = &cron.spec;
    if is_deleting(&cron.metadata) {
        return plan;
    }
    let zone = match zone(spec.time_zone.as_deref()) {
        Ok(zone) => zone,
        Err(why) => {
            let named = spec.time_zone.as_deref().unwrap_or_default();
            plan.tell.push(tell("Warning", "UnknownTimeZone", format!("invalid timeZone: {named:?}: {why}")));
            return plan;
        }
    };
    if spec.suspend == Some(true) {
        return plan;
    }
    let schedule = match parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            plan.tell.push(tell("Warning", "UnparseableSchedule", message));
            return plan;
        }
    };
    let since = cron.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    if schedule.next(since, &zone).is_none() {
        let why = "time difference between two schedules is less than 1 second";
        let message = format!("invalid schedule: {} : {why}", spec.schedule);
        plan.tell.push(tell("Warning", "InvalidSchedule", message));
        return plan;
    }
    let due = due(cron, &schedule, &zone, now, true);
    if due.missed > MISSED_MAX {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.tell.push(tell("Warning", "TooManyMissedTimes", message.to_owned()));
    }
    plan.again_after = next(cron, &schedule, &zone, now).map(|at| until(now, at) + SLACK);
    let Some(time) = due.time else { return plan };
    let deadline = spec.starting_deadline_seconds.map(|s| time + SignedDuration::from_secs(s));
    if deadline.is_some_and(|deadline| deadline < now) {
        let shown = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
        plan.tell.push(tell(
            "Warning",
            "MissSchedule",
            format!("Missed scheduled time to start a job: {shown}"),
        ));
        return plan;
    }
    let started = plan.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == time)
        || plan.status.active.iter().flatten().any(|r| r.name.as_deref() == Some(&job_name(cron, time)));
    if started {
        return plan;
    }
    let active = plan.status.active.clone().unwrap_or_default();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.tell.push(tell("Normal", "JobAlreadyActive", message.to_owned()));
            return plan;
        }
        Some("Replace") => plan.replace = active,
        _ => {}
    }
    plan.start = Some(time);
    plan
}

/// The name of the Job of a time: the same for the same time, so that none is made twice.
pub fn job_name(cron: &CronJob, time: Timestamp) -> String {
    format!("{}-{}", name(&cron.metadata), time.as_second().div_euclid(60))
}

struct Due {
    time: Option<Timestamp>,
    missed: i64,
}

/// The latest time that has come since the last start.
fn due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp, with_deadline: bool) -> Due {
    const NONE: Due = Due { time: None, missed: 0 };
    let last = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
    let Some(since) = last.or(cron.metadata.creation_timestamp.as_ref()) else { return NONE };
    let mut since = since.0;
    let deadline = cron.spec.starting_deadline_seconds.filter(|_| with_deadline);
    if let Some(earliest) = deadline.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok()) {
        since = since.max(earliest);
    }
    let Some(first) = schedule.next(since, zone).filter(|t| *t <= now) else { return NONE };
    let Some(second) = schedule.next(first, zone).filter(|t| *t <= now) else {
        return Due { time: Some(first), missed: 0 };
    };
    // How many fit in between is estimated, so that a CronJob that slept for a year is not counted through.
    let between = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / between + 1;
    let back = SignedDuration::from_secs((missed - 2).max(0).saturating_mul(between));
    let (mut time, mut at) = (first, first.checked_add(back).unwrap_or(first));
    while let Some(next) = schedule.next(at, zone).filter(|t| *t <= now) {
        (time, at) = (next, next);
    }
    Due { time: Some(time), missed }
}

/// The first time after now.
fn next(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    // `@every` counts from the last start.
    let last = due(cron, schedule, zone, now, false).time;
    let last = last.or(cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0));
    let since = match schedule {
        Schedule::Every(_) => last.or(cron.metadata.creation_timestamp.as_ref().map(|t| t.0)).unwrap_or(now),
        Schedule::Fields(_) => now,
    };
    schedule.next(since, zone).map(|t| t.max(now))
}

/// Ended Jobs beyond what the history keeps, oldest first.
pub fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let started =
        |j: &Job| j.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(i64::MAX, |t| t.0.as_second());
    let mut out = Vec::new();
    for (kind, keep) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(keep) = keep else { continue };
        let mut ended: Vec<&Arc<Job>> = jobs.iter().filter(|j| condition_of(j) == kind).collect();
        ended.sort_by(|a, b| {
            started(a).cmp(&started(b)).then_with(|| name(&a.metadata).cmp(name(&b.metadata)))
        });
        let surplus = ended.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
        out.extend(ended[..surplus].iter().filter(|j| !is_deleting(&j.metadata)).map(|j| (*j).clone()));
    }
    out
}

#[cfg(test)]
mod tests;
