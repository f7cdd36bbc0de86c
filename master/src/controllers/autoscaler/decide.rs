//! How far and how fast an autoscaler may go, and what it says of itself. Pure.

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::controllers::machinery::meta::time;
use crate::controllers::machinery::totals::total;

/// How long a lower recommendation waits, where nothing else is said.
const STABILIZATION: i32 = 300;
/// Nothing older than this counts for anything.
const MEMORY: SignedDuration = SignedDuration::from_secs(3600);

/// What an autoscaler remembers. A new one begins with what it finds.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    recommended: Vec<(Timestamp, i32)>,
    /// Changes of size, positive and negative.
    scaled: Vec<(Timestamp, i32)>,
}

impl Memory {
    /// Remembers a change of size.
    pub fn scaled(&mut self, now: Timestamp, by: i32) {
        self.scaled.push((now, by));
    }

    fn recommend(&mut self, now: Timestamp, replicas: i32) {
        self.recommended.retain(|(at, _)| *at + MEMORY > now);
        self.scaled.retain(|(at, _)| *at + MEMORY > now);
        self.recommended.push((now, replicas));
    }

    fn since(&self, now: Timestamp, seconds: i32) -> impl Iterator<Item = i32> {
        let from = now - SignedDuration::from_secs(i64::from(seconds));
        self.recommended.iter().filter(move |(at, _)| *at >= from).map(|(_, n)| *n)
    }

    /// How much was scaled up (or down) within a period.
    fn moved(&self, now: Timestamp, seconds: i32, upwards: bool) -> i32 {
        let from = now - SignedDuration::from_secs(i64::from(seconds));
        let within = self.scaled.iter().filter(|(at, by)| *at >= from && (*by > 0) == upwards);
        total(within.map(|(_, by)| by.saturating_abs()))
    }
}

/// Sets a condition, keeping its time where the status stays the same.
pub fn set_condition(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let old = conditions.iter().position(|c| c.type_ == kind);
    let since = old.map(|i| &conditions[i]).filter(|c| c.status == status);
    let condition = HorizontalPodAutoscalerCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: since.map_or_else(|| Some(time(now)), |c| c.last_transition_time.clone()),
    };
    match old {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}

/// The bounds.
pub fn bounds(hpa: &HorizontalPodAutoscaler) -> (i32, i32) {
    (hpa.spec.min_replicas.unwrap_or(1), hpa.spec.max_replicas)
}

/// From what metrics call for to a size that may be set now; notes the reasons among the conditions.
pub fn settle(
    hpa: &HorizontalPodAutoscaler,
    memory: &mut Memory,
    current: i32,
    proposed: i32,
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
) -> i32 {
    let behavior = hpa.spec.behavior.as_ref();
    let rules = |rules: Option<&HPAScalingRules>| rules.cloned().unwrap_or_default();
    let (up, down) = (
        rules(behavior.and_then(|b| b.scale_up.as_ref())),
        rules(behavior.and_then(|b| b.scale_down.as_ref())),
    );
    memory.recommend(now, proposed);
    let up_window = up.stabilization_window_seconds.unwrap_or(0);
    let down_window = down.stabilization_window_seconds.unwrap_or(STABILIZATION);
    let up_to = memory.since(now, up_window).chain([proposed]).min().unwrap_or(proposed);
    let down_to = memory.since(now, down_window).chain([proposed]).max().unwrap_or(proposed);
    let stable = current.max(up_to).min(down_to);
    let (reason, message) = if stable == proposed {
        ("ReadyForNewScale", "recommended size matches current size")
    } else if proposed < stable {
        (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    } else {
        (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )
    };
    set_condition(conditions, "AbleToScale", true, reason, message.to_owned(), now);

    let (min, max) = bounds(hpa);
    let limited = if stable > current {
        let fastest =
            if behavior.is_some() { up_limit(&up, memory, current, now) } else { (2 * current).max(4) };
        let top = fastest.max(current).min(max);
        (stable > top).then_some(if top == max { (top, TOO_MANY) } else { (top, TOO_FAST_UP) })
    } else if stable < current {
        let slowest = if behavior.is_some() { down_limit(&down, memory, current, now) } else { 0 };
        let bottom = slowest.min(current).max(min);
        (stable < bottom).then_some(if bottom == min { (bottom, TOO_FEW) } else { (bottom, TOO_FAST_DOWN) })
    } else if stable < min {
        Some((min, TOO_FEW))
    } else {
        None
    };
    let (replicas, (reason, message)) = limited.unwrap_or((stable, WITHIN));
    set_condition(conditions, "ScalingLimited", limited.is_some(), reason, message.to_owned(), now);
    replicas
}

const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");

fn up_limit(rules: &HPAScalingRules, memory: &Memory, current: i32, now: Timestamp) -> i32 {
    if rules.select_policy.as_deref() == Some("Disabled") {
        return current;
    }
    let limits = rules.policies.iter().flatten().map(|policy| {
        let start = current - memory.moved(now, policy.period_seconds, true);
        match policy.type_.as_str() {
            "Percent" => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            _ => start.saturating_add(policy.value),
        }
    });
    let min = rules.select_policy.as_deref() == Some("Min");
    // Without policies: double, or four more, every fifteen seconds.
    let limit = if min { limits.min() } else { limits.max() };
    limit.unwrap_or_else(|| (current.saturating_mul(2)).max(current.saturating_add(4)))
}

fn down_limit(rules: &HPAScalingRules, memory: &Memory, current: i32, now: Timestamp) -> i32 {
    if rules.select_policy.as_deref() == Some("Disabled") {
        return current;
    }
    let limits = rules.policies.iter().flatten().map(|policy| {
        let start = current + memory.moved(now, policy.period_seconds, false);
        match policy.type_.as_str() {
            "Percent" => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            _ => start.saturating_sub(policy.value),
        }
    });
    let min = rules.select_policy.as_deref() == Some("Min");
    let limit = if min { limits.max() } else { limits.min() };
    limit.unwrap_or(0)
}

#[cfg(test)]
mod tests;
