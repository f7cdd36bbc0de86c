use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::*;

fn pod(name: &str, priority: i32) -> Arc<PodFacts> {
    let value = json!({"metadata": {"name": name, "namespace": "d", "uid": name},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    Arc::new(PodFacts::of(Arc::new(serde_json::from_value::<Pod>(value).unwrap())))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn add(q: &mut Queue, name: &str, priority: i32, now: Instant) {
    q.set(pod(name, priority), false, TraceContext::default(), now);
}

fn pop(q: &mut Queue, now: Instant) -> Option<String> {
    q.pop(now).map(|w| w.pod.name.clone())
}

#[test]
fn the_most_important_goes_first_then_the_oldest() {
    let (mut q, now) = (Queue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", 0)] {
        add(&mut q, name, priority, now);
    }
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut q, now)).collect();
    assert_eq!(order, ["b", "c", "a", "d"]);
}

#[test]
fn failures_back_off_and_double() {
    let (mut q, start) = (Queue::default(), Instant::now());
    add(&mut q, "a", 0, start);
    let mut now = start;
    for pause in [1, 2, 4, 8, 10, 10] {
        assert_eq!(pop(&mut q, now).as_deref(), Some("a"));
        q.failed("a", Vec::new(), now);
        assert_eq!(pop(&mut q, now + seconds(pause) - Duration::from_millis(1)), None);
        assert_eq!(q.next_due(), Some(now + seconds(pause)));
        now += seconds(pause);
    }
}

#[test]
fn only_a_change_that_may_help_wakes() {
    let (mut q, now) = (Queue::default(), Instant::now());
    add(&mut q, "a", 0, now);
    pop(&mut q, now);
    q.failed("a", vec!["NodeResourcesFit"], now);
    assert_eq!(q.get("a").map(|w| w.place), Some(Place::Unschedulable));

    let mut facts = Facts::default();
    let node = |name: &str, cpu: &str| -> Arc<Node> {
        let value = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "pods": "9"}}});
        Arc::new(serde_json::from_value(value).unwrap())
    };
    facts.set_node(node("small", "1"));
    facts.set_node(node("large", "4"));
    let slot = |name: &str| facts.slot(name).unwrap();
    let later = now + seconds(30);
    let cause = TraceContext { trace: 1, message: 2 };
    q.changed((&ClusterChange::NodeTaints(slot("large")), None), &facts, cause, later);
    assert_eq!(pop(&mut q, later), None, "taints were not the trouble");
    q.changed((&ClusterChange::NodeAdded(slot("small")), None), &facts, cause, later);
    assert_eq!(pop(&mut q, later), None, "it is too small");
    q.changed((&ClusterChange::NodeAdded(slot("large")), None), &facts, cause, later);
    let woken = q.pop(later).expect("it may fit now");
    assert_eq!(woken.causes, [cause]);
}

#[test]
fn a_change_during_the_attempt_is_not_missed() {
    let (mut q, now) = (Queue::default(), Instant::now());
    add(&mut q, "a", 0, now);
    pop(&mut q, now);
    q.changed((&ClusterChange::NodeRemoved, None), &Facts::default(), TraceContext::default(), now);
    q.failed("a", vec!["NodeResourcesFit"], now);
    assert_eq!(q.get("a").map(|w| w.place), Some(Place::BackingOff));
}

#[test]
fn an_attempt_sees_what_came_before_it() {
    let (mut q, now) = (Queue::default(), Instant::now());
    add(&mut q, "a", 0, now);
    pop(&mut q, now);
    let tell = |q: &mut Queue, revision: u64| {
        let change = (&ClusterChange::Storage, Some(revision));
        q.changed(change, &Facts::default(), TraceContext::default(), now);
        q.get("a").map(|w| w.place)
    };
    tell(&mut q, 7);
    assert!(q.begin("a", 7).is_some());
    q.failed("a", vec!["VolumeBinding"], now);
    assert_eq!(q.get("a").map(|w| w.place), Some(Place::Unschedulable), "it saw the change");
    assert_eq!(tell(&mut q, 7), Some(Place::Unschedulable), "told of late");
    assert_eq!(tell(&mut q, 8), Some(Place::BackingOff), "a newer one");
}

#[test]
fn the_forgotten_are_tried_again_at_last() {
    let (mut q, now) = (Queue::default(), Instant::now());
    add(&mut q, "a", 0, now);
    pop(&mut q, now);
    q.failed("a", vec!["NodeName"], now);
    assert_eq!(pop(&mut q, now + UNSCHEDULABLE_MAX - seconds(1)), None);
    assert_eq!(pop(&mut q, now + UNSCHEDULABLE_MAX).as_deref(), Some("a"));
}

#[test]
fn gates_hold_until_they_are_lifted() {
    let (mut q, now) = (Queue::default(), Instant::now());
    q.set(pod("a", 0), true, TraceContext::default(), now);
    assert_eq!((pop(&mut q, now), q.count(Place::Gated)), (None, 1));
    q.set(pod("a", 0), false, TraceContext::default(), now);
    assert_eq!(pop(&mut q, now).as_deref(), Some("a"));
    assert!(q.remove("a") && !q.remove("a"));
}

#[test]
fn gated_pods_are_found_by_their_claims() {
    let (mut q, now) = (Queue::default(), Instant::now());
    let pod = |name: &str, claims: &[&str], made: Option<&str>| {
        let claims: Vec<_> =
            claims.iter().map(|c| json!({"name": c.to_string(), "resourceClaimName": c})).collect();
        let mut value = json!({"metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"containers": [], "resourceClaims": claims}});
        value["spec"]["resourceClaims"]
            .as_array_mut()
            .expect("claims")
            .push(json!({"name": "t", "resourceClaimTemplateName": "t"}));
        if let Some(made) = made {
            value["status"] = json!({"resourceClaimStatuses": [{"name": "t", "resourceClaimName": made}]});
        }
        Arc::new(PodFacts::of(Arc::new(serde_json::from_value::<Pod>(value).unwrap())))
    };
    let set =
        |q: &mut Queue, pod: Arc<PodFacts>, gated: bool| q.set(pod, gated, TraceContext::default(), now);
    let found = |q: &Queue, claim: &str| -> Vec<String> {
        q.gated_on(&Key::new("d", claim)).into_iter().map(|key| key.name.to_string()).collect()
    };
    set(&mut q, pod("a", &["x", "y"], None), true);
    set(&mut q, pod("b", &["y"], None), true);
    set(&mut q, pod("c", &["y"], None), false);
    assert_eq!(
        (found(&q, "x"), found(&q, "y")),
        (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert!(q.gated_on(&Key::new("other", "x")).is_empty());
    // Once it is made, the claim for a template is known by its name.
    set(&mut q, pod("b", &["y"], Some("b-t")), true);
    assert_eq!(found(&q, "b-t"), ["b"]);
    set(&mut q, pod("a", &["x", "y"], None), false);
    q.remove("b");
    assert!(["x", "y", "b-t"].iter().all(|claim| found(&q, claim).is_empty()));
    assert!(q.by_claim.is_empty(), "nothing is kept of those that wait no more");
}
