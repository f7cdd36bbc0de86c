use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T00:01:00Z";
const REVISIONS: Revisions<'static> = Revisions { current: "w-a", update: "w-b" };

fn set(spec: Value) -> StatefulSet {
    let mut all = json!({"metadata": {"name": "w", "namespace": "n"}, "spec": {
        "replicas": 3, "selector": {}, "serviceName": "s", "template": {},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}});
    for (key, value) in spec.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

/// `0a` is a ready pod of revision a; `!` is not ready, `x` is being deleted, `f` has failed.
fn pods(text: &str) -> Vec<Arc<Pod>> {
    let pod = |word: &str| {
        let ordinal = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        let marks = &word[ordinal.len()..];
        let revision = format!("w-{}", if marks.starts_with('b') { "b" } else { "a" });
        let mut pod = json!({
            "metadata": {"name": format!("w-{ordinal}"), "uid": word, "labels": {"controller-revision-hash": revision}},
            "status": {"phase": if marks.contains('f') { "Failed" } else { "Running" }, "conditions": [{
                "type": "Ready", "status": if marks.contains('!') { "False" } else { "True" },
                "lastTransitionTime": "2026-01-01T00:00:30Z"}]},
        });
        if marks.contains('x') {
            pod["metadata"]["deletionTimestamp"] = NOW.into();
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    text.split_whitespace().map(pod).collect()
}

fn steps(set: &StatefulSet, text: &str) -> String {
    let plan = plan(set, &pods(text), REVISIONS, |_| true, NOW.parse().unwrap());
    let pod = |p: &Pod| name(&p.metadata).trim_start_matches("w-").to_owned();
    let one = |step: &Step| match step {
        Step::Create { ordinal, updated } => format!("+{ordinal}{}", if *updated { "b" } else { "a" }),
        Step::Replace(p) => format!("~{}", pod(p)),
        Step::Delete(p) => format!("-{}", pod(p)),
        Step::Claims(p) => format!("c{}", pod(p)),
        Step::Restore(p) => format!("r{}", pod(p)),
    };
    plan.steps.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn ordered_sets_move_one_pod_at_a_time() {
    let s = set(json!({}));
    for (pods, expected) in [
        ("", "+0b"),
        ("0b!", ""),
        ("0b", "+1b"),
        ("0b 1b 2b", ""),
        ("0b 2b", "+1b"),
        ("0bx 1b 2b", ""),
        ("0bf 1b 2b", "~0"),
        ("0b 1b 2b 3b 4b", "-4"),
        ("0b 1b 2b 3b 4bx", ""),
        ("0b 1b 2b 3b! 4b!", ""),
        ("0b 1b 2b 3b!", "-3"),
        ("0b! 1b 2b 3b", ""),
    ] {
        assert_eq!(steps(&s, pods), expected, "{pods}");
    }
}

#[test]
fn parallel_sets_move_at_once() {
    let s = set(json!({"podManagementPolicy": "Parallel"}));
    for (pods, expected) in
        [("", "+0b +1b +2b"), ("0b! 2b", "+1b"), ("0b 1b 2b 3b 4b!", "-4 -3"), ("0bf 1b", "~0 +2b")]
    {
        assert_eq!(steps(&s, pods), expected, "{pods}");
    }
}

#[test]
fn updates_run_downwards_to_the_partition() {
    let rolling = |r: Value| set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": r}}));
    for (s, pods, expected) in [
        (set(json!({})), "0a 1a 2a", "-2"),
        (set(json!({})), "0a 1a 2b", "-1"),
        (set(json!({})), "0a 1a", "+2b"),
        (rolling(json!({"partition": 2})), "0a 1a 2b", ""),
        (rolling(json!({"partition": 2})), "0a 2b", "+1a"),
        (rolling(json!({"partition": 0, "maxUnavailable": 2})), "0a 1a 2a", "-2 -1"),
        (set(json!({"updateStrategy": {"type": "OnDelete"}})), "0a 1a 2a", ""),
        (set(json!({"updateStrategy": {"type": "OnDelete"}})), "0a 1a", "+2b"),
    ] {
        assert_eq!(steps(&s, pods), expected, "{pods}");
    }
}

#[test]
fn ordinals_may_start_anywhere_and_strangers_do_not_count() {
    let s = set(json!({"replicas": 2, "ordinals": {"start": 5}}));
    assert_eq!(steps(&s, "5b 6b 0b"), "-0");
    assert_eq!(steps(&s, "5b"), "+6b");
    for (pod, expected) in [("w-3", Some(3)), ("w-x", None), ("w-", None), ("wx-1", None), ("w-1-2", None)] {
        assert_eq!(ordinal("w", pod), expected, "{pod}");
    }
}

#[test]
fn a_pod_must_be_ready_for_long_enough() {
    let s = set(json!({"minReadySeconds": 60}));
    let plan = plan(&s, &pods("0b"), REVISIONS, |_| true, NOW.parse().unwrap());
    assert!(plan.steps.is_empty());
    assert_eq!(plan.again_after, Some(Duration::from_secs(30)));
}

#[test]
fn the_status_counts_and_completes() {
    let now = NOW.parse().unwrap();
    let s = status(&set(json!({})), &pods("0a 1b! 2b"), REVISIONS, 0, now);
    assert_eq!(
        (s.replicas, s.ready_replicas, s.current_replicas, s.updated_replicas),
        (3, Some(2), Some(1), Some(2))
    );
    assert_eq!(s.current_revision.as_deref(), Some("w-a"));
    let s = status(&set(json!({})), &pods("0b 1b 2b"), REVISIONS, 0, now);
    assert_eq!((s.current_replicas, s.current_revision.as_deref()), (Some(3), Some("w-b")));
}

#[test]
fn pods_get_their_identity_back_in_order_and_their_claims_at_once() {
    let steps = |set: &StatefulSet, text: &str| {
        let plan = plan(set, &pods(text), REVISIONS, |_| false, NOW.parse().unwrap());
        let one = |step: &Step| match step {
            Step::Claims(p) => format!("c{}", name(&p.metadata)),
            Step::Restore(p) => format!("r{}", name(&p.metadata)),
            _ => "?".to_owned(),
        };
        plan.steps.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let ordered = set(json!({"replicas": 2}));
    assert_eq!(steps(&ordered, "0b! 1b"), "cw-0");
    assert_eq!(steps(&ordered, "0b 1b"), "rw-0 rw-1");
    let parallel = set(json!({"replicas": 2, "podManagementPolicy": "Parallel"}));
    assert_eq!(steps(&parallel, "0b! 1b"), "rw-0 rw-1");
}

#[test]
fn as_many_pods_as_a_number_holds_are_wanted_without_a_place_for_each() {
    let most = |spec: Value| {
        let mut spec = spec;
        spec["replicas"] = i32::MAX.into();
        set(spec)
    };
    assert_eq!(steps(&most(json!({})), "0b 1b"), "+2b");
    let parallel = most(json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}));
    let first = steps(&parallel, "5b 6b");
    assert_eq!(first.split(' ').count(), BURST_PODS_MAX);
    assert!(first.starts_with("+7b +8b "), "{first}");
    // Where there is no ordinal any more, there is no pod.
    let last = most(json!({"podManagementPolicy": "Parallel", "ordinals": {"start": i32::MAX - 1}}));
    assert_eq!(steps(&last, ""), format!("+{}b +{}b", i32::MAX - 1, i32::MAX));
}
