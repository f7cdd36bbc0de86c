//! What a Job's pod failure policy says about a failed pod. Pure.

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::machinery::meta::{name, namespace};

/// The verdict on a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the backoff limit, as without a policy.
    Count,
    /// It is replaced and not counted.
    Ignore,
    /// Its index fails, and is not tried again.
    FailIndex,
    /// The whole Job fails, with this message.
    FailJob(String),
}

/// Asks the first rule that matches.
pub fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    for (at, rule) in policy.map_or(&[][..], |p| &p.rules).iter().enumerate() {
        let Some(why) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {at}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let full = format!("{}/{}", namespace(&pod.metadata), name(&pod.metadata));
    let status = pod.status.as_ref()?;
    if let Some(wanted) = &rule.on_exit_codes {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        for container in lists.into_iter().flatten().flatten() {
            let code = container.state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
            let Some(code) = code.filter(|c| *c != 0) else { continue };
            let named = wanted.container_name.as_ref().is_none_or(|n| *n == container.name);
            let listed = wanted.values.contains(&code);
            if named && listed == (wanted.operator == "In") {
                return Some(format!(
                    "Container {} for pod {full} failed with exit code {code}",
                    container.name
                ));
            }
        }
    }
    for wanted in rule.on_pod_conditions.iter().flatten() {
        let status_wanted = wanted.status.as_deref().unwrap_or("True");
        let mut conditions = status.conditions.iter().flatten();
        if conditions.any(|c| c.type_ == wanted.type_ && c.status == status_wanted) {
            return Some(format!("Pod {full} has condition {}", wanted.type_));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_first_matching_rule_decides() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [43]}},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1]}},
        ]}))
        .unwrap();
        let check = |status: Value, expected: Verdict| {
            let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "status": status});
            assert_eq!(judge(Some(&policy), &serde_json::from_value(pod).unwrap()), expected);
        };
        let exit = |code: i32| {
            json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]})
        };
        check(json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}), Verdict::Ignore);
        let text = "Container c for pod d/p failed with exit code 42 matching FailJob rule at index 1";
        check(exit(42), Verdict::FailJob(text.to_owned()));
        check(exit(43), Verdict::FailIndex);
        check(exit(1), Verdict::Count);
    }
}
