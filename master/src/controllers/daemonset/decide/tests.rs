use serde_json::{Value, json};

use super::super::eligible::{Rule, aim, by_node, target, tolerate};
use super::*;

const NOW: &str = "2026-01-01T00:01:00Z";

/// `n1:new` is a ready daemon of the new template on n1; `!` is not ready, `x` is being deleted, `f` failed.
fn pods(text: &str) -> Vec<Arc<Pod>> {
    let pod = |(i, word): (usize, &str)| {
        let (node, what) = word.split_once(':').unwrap();
        let mut pod = json!({
            "metadata": {"name": word, "uid": word, "creationTimestamp": format!("2026-01-01T00:00:{i:02}Z"),
                "labels": {"controller-revision-hash": if what.starts_with("new") { "h" } else { "g" }}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": if what.contains('f') { "Failed" } else { "Running" }, "conditions": [{
                "type": "Ready", "status": if what.contains('!') { "False" } else { "True" },
                "lastTransitionTime": "2026-01-01T00:00:30Z"}]},
        });
        if what.contains('x') {
            pod["metadata"]["deletionTimestamp"] = NOW.into();
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    text.split_whitespace().enumerate().map(pod).collect()
}

fn set(rolling: Value) -> DaemonSet {
    serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {"selector": {}, "template": {},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}))
    .unwrap()
}

fn show(plan: &Plan) -> String {
    let made = plan.create.iter().map(|n| format!("+{n}"));
    made.chain(plan.delete.iter().map(|p| format!("-{}", name(&p.metadata)))).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_eligible_node_has_one() {
    const RUN: Verdict = Verdict { should_run: true, may_stay: true };
    const STAY: Verdict = Verdict { should_run: false, may_stay: true };
    const LEAVE: Verdict = Verdict { should_run: false, may_stay: false };
    let surge = json!({"maxSurge": 1, "maxUnavailable": 0});
    for (rolling, verdict, text, expected) in [
        (json!({}), RUN, "", "+n1"),
        (json!({}), RUN, "n1:new", ""),
        (json!({}), RUN, "n1:newx", ""),
        (json!({}), RUN, "n1:new n1:old", "-n1:old"),
        (json!({}), RUN, "n1:newf", "-n1:newf"),
        (json!({}), STAY, "", ""),
        (json!({}), STAY, "n1:new", ""),
        (json!({}), LEAVE, "n1:new", "-n1:new"),
        (surge.clone(), RUN, "n1:oldx", "+n1"),
        (surge.clone(), RUN, "n1:old n1:new!", ""),
        (surge.clone(), RUN, "n1:old n1:new", "-n1:old"),
        (surge, RUN, "n1:old! n1:new!", "-n1:old!"),
    ] {
        let pods = pods(text);
        let wants = |set| Wants::of(set, "h", 1, NOW.parse().unwrap());
        let plan = manage(&[("n1", verdict)], &by_node(&pods), &wants(&set(rolling.clone())));
        assert_eq!(show(&plan), expected, "{rolling} {text}");
    }
}

#[test]
fn rollouts_keep_within_their_limits() {
    for (rolling, text, expected) in [
        (json!({"maxUnavailable": 1}), "n1:old n2:old n3:old", "-n1:old"),
        (json!({"maxUnavailable": 1}), "n1:new! n2:old n3:old", ""),
        (json!({"maxUnavailable": 1}), "n1:new! n2:old! n3:old", "-n2:old!"),
        (json!({"maxUnavailable": "50%"}), "n1:old n2:old n3:old", "-n1:old -n2:old"),
        (json!({"maxSurge": 1, "maxUnavailable": 0}), "n1:old n2:old n3:old", "+n1"),
        (json!({"maxSurge": 1, "maxUnavailable": 0}), "n1:old n1:new! n2:old", ""),
        (json!({"maxSurge": 1, "maxUnavailable": 0}), "n1:old n1:new n2:old", "+n2 -n1:old"),
        (json!({"maxSurge": 1, "maxUnavailable": 0}), "n1:old! n2:old", "+n1 +n2"),
    ] {
        let pods = pods(text);
        let plan = roll(&by_node(&pods), &Wants::of(&set(rolling.clone()), "h", 3, NOW.parse().unwrap()));
        assert_eq!(show(&plan), expected, "{rolling} {text}");
    }
}

#[test]
fn the_status_counts_nodes() {
    let verdict = |run| Verdict { should_run: run, may_stay: true };
    let nodes = [("n1", verdict(true)), ("n2", verdict(true)), ("n3", verdict(false)), ("n4", verdict(true))];
    let (set, pods) = (set(json!({})), pods("n1:new n2:old! n3:new"));
    let s = status(&set, &nodes, &by_node(&pods), &Wants::of(&set, "h", 3, NOW.parse().unwrap()), None);
    assert_eq!((s.desired_number_scheduled, s.current_number_scheduled, s.number_misscheduled), (3, 2, 1));
    assert_eq!((s.number_ready, s.number_available, s.number_unavailable), (1, Some(1), Some(2)));
    assert_eq!(s.updated_number_scheduled, Some(1));
}

#[test]
fn nodes_are_judged_by_labels_and_taints() {
    let set = |spec: Value| -> DaemonSet {
        serde_json::from_value(
            json!({"metadata": {"name": "d"}, "spec": {"selector": {}, "template": {"spec": spec}}}),
        )
        .unwrap()
    };
    let judge = |spec: Value, node: Value| {
        let node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"os": "x"}}, "spec": node}));
        let v = Rule::of(&set(spec)).judge(&node.unwrap());
        (v.should_run, v.may_stay)
    };
    let plain = || json!({"containers": []});
    let taint = |key: &str, effect: &str| json!({"taints": [{"key": key, "effect": effect}]});
    assert_eq!(judge(plain(), json!({})), (true, true));
    assert_eq!(judge(plain(), json!({"unschedulable": true})), (true, true));
    assert_eq!(judge(plain(), taint("node.kubernetes.io/not-ready", "NoExecute")), (true, true));
    assert_eq!(judge(plain(), taint("a", "NoSchedule")), (false, true));
    assert_eq!(judge(plain(), taint("a", "NoExecute")), (false, false));
    assert_eq!(judge(json!({"containers": [], "nodeSelector": {"os": "y"}}), json!({})), (false, false));
    assert_eq!(judge(json!({"containers": [], "nodeName": "n2"}), json!({})), (false, false));
}

#[test]
fn daemons_are_aimed_at_their_node() {
    let mut pod = Pod { spec: Some(Default::default()), ..Pod::default() };
    let spec = pod.spec.as_mut().unwrap();
    tolerate(spec);
    tolerate(spec);
    assert_eq!(spec.tolerations.as_ref().unwrap().len(), 6, "each once");
    aim(spec, "n7");
    assert_eq!(target(&pod), "n7");
}
