use std::sync::Arc;

use actors::TraceContext;
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::scheduler::facts::Facts;
use crate::scheduler::plugins::dynamic_resources;
use crate::scheduler::pod::PodFacts;
use crate::scheduler::preemption::{self, Outcome};
use crate::store::Record;
use crate::store::keys::key;

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(a), Value::Object(b)) => {
            b.into_iter().for_each(|(k, v)| merge(a.entry(k).or_insert(Value::Null), v))
        }
        (a, b) => *a = b,
    }
}

fn node(name: &str, patch: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut value, patch);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, patch: Value) -> Arc<PodFacts> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
    });
    merge(&mut value, patch);
    Arc::new(PodFacts::of(Arc::new(serde_json::from_value::<Pod>(value).unwrap())))
}

fn facts(nodes: &[Arc<Node>], placed: &[(&str, Arc<PodFacts>)]) -> Facts {
    let mut facts = Facts::default();
    for node in nodes {
        facts.set_node(node.clone());
    }
    for (node, pod) in placed {
        facts.set_pod(node, pod.clone());
    }
    facts
}

fn decide(facts: &Facts, pod: &PodFacts, turn: u64) -> Decision {
    let devices = &dynamic_resources::devices(pod, facts);
    super::decide(Incoming { pod, facts, devices }, turn)
}

fn preempt(facts: &Facts, pod: &PodFacts, refusals: &[Refusal]) -> Outcome {
    let devices = &dynamic_resources::devices(pod, facts);
    preemption::decide(Incoming { pod, facts, devices }, refusals, &[])
}

/// The node's name, or the text that people read.
fn outcome(facts: &Facts, pod: &PodFacts) -> String {
    match decide(facts, pod, 0) {
        Decision::Place { node, .. } => facts.name(node).to_string(),
        Decision::NoNodes => "no nodes".to_owned(),
        Decision::Failed(why) => why,
        Decision::Nowhere(refusals) => explain(facts.len(), &refusals),
    }
}

fn check(what: &str, nodes: &[Arc<Node>], placed: &[(&str, Arc<PodFacts>)], incoming: Value, expected: &str) {
    assert_eq!(outcome(&facts(nodes, placed), &pod("x", incoming)), expected, "{what}");
}

fn big(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[test]
fn each_rule_refuses_in_its_own_words() {
    let two = [node("n1", json!({})), node("n2", json!({}))];
    check("nothing there", &[], &[], json!({}), "no nodes");
    check("too big", &two, &[], big("5"), "0/2 nodes are available: 2 Insufficient cpu.");
    let mut both = big("5");
    both["spec"]["containers"][0]["resources"]["requests"]["memory"] = "9Gi".into();
    check(
        "twice too big",
        &two[..1],
        &[],
        both,
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
    );
    let none = [node("n1", json!({"status": {"allocatable": {"pods": "0"}}}))];
    check("no pods", &none, &[], json!({}), "0/1 nodes are available: 1 Too many pods.");
    let tainted =
        node("n1", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}));
    let mixed = [tainted.clone(), node("n2", json!({"status": {"allocatable": {"cpu": "1"}}}))];
    check(
        "a taint and too small",
        &mixed,
        &[],
        big("2"),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).",
    );
    let tolerant = json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}});
    check("tolerated", &[tainted], &[], tolerant, "n1");
    let cordoned = [node("n1", json!({"spec": {"unschedulable": true}}))];
    check("cordoned", &cordoned, &[], json!({}), "0/1 nodes are available: 1 node(s) were unschedulable.");
    let picky = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
    check(
        "selector",
        &two,
        &[],
        picky.clone(),
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    );
    let ssd = [two[0].clone(), node("n2", json!({"metadata": {"labels": {"disk": "ssd"}}}))];
    check("selected", &ssd, &[], picky, "n2");
    let port =
        json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let taken = [("n1", pod("a", port.clone()))];
    check(
        "port",
        &two[..1],
        &taken,
        port.clone(),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
    );
    check("other node's port", &two, &taken, port, "n2");
}

#[test]
fn pods_keep_their_distance_and_their_company() {
    let two = [node("n1", json!({})), node("n2", json!({}))];
    let term =
        json!([{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]);
    let apart = json!({"spec": {"affinity": {"podAntiAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": term}}}});
    let near = json!({"spec": {"affinity": {"podAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": term}}}});
    let one = [("n1", pod("a", json!({})))];
    check("apart", &two, &one, apart.clone(), "n2");
    check("near", &two, &one, near.clone(), "n1");
    let both = [("n1", pod("a", json!({}))), ("n2", pod("b", json!({})))];
    check(
        "nowhere apart",
        &two,
        &both,
        apart.clone(),
        "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.",
    );
    let lonely = [("n1", pod("a", apart))];
    check(
        "refused by those there",
        &two[..1],
        &lonely,
        json!({}),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
    );
    // The first of its group is let in; a stranger is not.
    assert_ne!(outcome(&facts(&two, &[]), &pod("x", near.clone())), "");
    let mut stranger = near;
    stranger["metadata"] = json!({"labels": {"app": "other"}});
    check(
        "stranger",
        &two,
        &[],
        stranger,
        "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.",
    );
}

#[test]
fn pods_spread_over_zones() {
    let zoned = |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    let nodes = [zoned("n1", "a"), zoned("n2", "a"), zoned("n3", "b")];
    let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    check("the emptier zone", &nodes, &[("n1", pod("a", json!({})))], spread.clone(), "n3");
    let full = [
        zoned("n1", "a"),
        node("n3", json!({"metadata": {"labels": {"zone": "b"}}, "status": {"allocatable": {"cpu": "0"}}})),
    ];
    check(
        "the emptier zone is full",
        &full,
        &[("n1", pod("a", json!({})))],
        spread.clone(),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints.",
    );
    check(
        "no zone",
        &[node("n9", json!({}))],
        &[],
        spread,
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).",
    );
    // Without constraints of its own a pod avoids the nodes of its siblings.
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
        "uid": "r", "controller": true}]}});
    let two = [node("n1", json!({})), node("n2", json!({}))];
    check("siblings", &two, &[("n1", pod("a", owner.clone()))], owner, "n2");
}

#[test]
fn preferences_tip_the_scale() {
    let two = [node("n1", json!({})), node("n2", json!({"metadata": {"labels": {"disk": "ssd"}}}))];
    check("the emptier node", &two, &[("n1", pod("a", json!({})))], json!({}), "n2");
    let ssd = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}}});
    check("preferred", &two, &[], ssd, "n2");
    let soft = [
        node("n1", json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}})),
        node("n2", json!({})),
    ];
    check("the untainted node", &soft, &[], json!({}), "n2");
}

#[test]
fn the_important_push_the_unimportant_out() {
    let nodes = [node("n1", json!({})), node("n2", json!({"spec": {"unschedulable": true}}))];
    let cheap = |name: &str, priority: i32| pod(name, json!({"spec": {"priority": priority}}));
    let f = facts(
        &nodes,
        &[("n1", cheap("a", 1)), ("n1", cheap("b", 2)), ("n1", cheap("c", 3)), ("n1", cheap("d", 9))],
    );
    let mut wants = big("2");
    wants["spec"]["priority"] = 5.into();
    let incoming = pod("x", wants);
    let Decision::Nowhere(refusals) = decide(&f, &incoming, 0) else { panic!("it fits") };
    match preempt(&f, &incoming, &refusals) {
        Outcome::Evict { node, victims } => {
            assert_eq!(**f.name(node), *"n1");
            assert_eq!(victims.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        }
        Outcome::Helpless(why) | Outcome::NotEligible(why) => panic!("{why}"),
    }
    assert_eq!(f.pods(f.slot("n1").unwrap()).len(), 4, "nothing was really taken away");
    let meek = pod("y", big("2"));
    let Decision::Nowhere(refusals) = decide(&f, &meek, 0) else { panic!("it fits") };
    match preempt(&f, &meek, &refusals) {
        Outcome::Helpless(why) => assert_eq!(
            why,
            "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_pushed_others_out_waits_for_them_to_go() {
    let nodes = [node("n1", json!({"status": {"allocatable": {"cpu": "1"}}}))];
    let going = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}, "spec": {"priority": 1}});
    let mut victim = going.clone();
    victim["status"] = json!({"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]});
    let mut wants = big("1");
    merge(&mut wants, json!({"spec": {"priority": 5}, "status": {"nominatedNodeName": "n1"}}));
    let incoming = pod("x", wants);
    let outcome = |nodes: &[Arc<Node>], placed: Value| {
        let f = facts(nodes, &[("n1", pod("a", placed))]);
        let Decision::Nowhere(refusals) = decide(&f, &incoming, 0) else { panic!("it fits") };
        preempt(&f, &incoming, &refusals)
    };
    match outcome(&nodes, victim.clone()) {
        Outcome::NotEligible(why) => {
            assert_eq!(why, "not eligible due to a terminating pod on the nominated node.");
        }
        other => panic!("{other:?}"),
    }
    // One that ends for another reason is counted on, not waited for.
    assert!(matches!(outcome(&nodes, going), Outcome::Evict { .. }));
    // A node that will not do any more is given up.
    let cordoned = [node("n1", json!({"spec": {"unschedulable": true}}))];
    assert!(matches!(outcome(&cordoned, victim), Outcome::Helpless(_)));
}

#[test]
fn a_claim_for_one_pod_is_for_one_pod() {
    let stored = |mode: &str| {
        let claim = json!({"metadata": {"name": "data", "namespace": "default",
                "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"accessModes": [mode], "volumeName": "v"}, "status": {"phase": "Bound"}});
        let volume = json!({"metadata": {"name": "v"}, "spec": {}});
        let record = |(kind, ns, name, value): (&str, &str, &str, Value)| Record {
            key: key("", kind, ns, name),
            value: value.to_string().into(),
            trace: TraceContext::default(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
        };
        let records =
            [("persistentvolumeclaims", "default", "data", claim), ("persistentvolumes", "", "v", volume)];
        let cache = Cache::new();
        cache.load(records.map(record).into(), 2);
        cache.snapshot()
    };
    let nodes = [node("n1", json!({}))];
    let uses = |priority: i32| {
        json!({"spec": {"priority": priority,
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}})
    };
    let mut f = facts(&nodes, &[("n1", pod("a", uses(1)))]);
    f.set_storage(stored("ReadWriteOnce"));
    assert_eq!(outcome(&f, &pod("x", uses(1))), "n1");
    f.set_storage(stored("ReadWriteOncePod"));
    let why = "0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod.";
    assert_eq!(outcome(&f, &pod("x", uses(1))), why);
    let important = pod("x", uses(2));
    let Decision::Nowhere(refusals) = decide(&f, &important, 0) else { panic!("it fits") };
    assert!(matches!(preempt(&f, &important, &refusals), Outcome::Evict { .. }));
    f.remove_pod("a");
    assert_eq!(outcome(&f, &pod("x", uses(1))), "n1");
}

#[test]
fn large_clusters_are_not_looked_through() {
    assert_eq!((enough(50), enough(100), enough(1000), enough(5000)), (50, 100, 420, 500));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes and goes, no node ever has more asked of it than it has, and the sums are right.
    #[test]
    fn nodes_are_never_overcommitted(
        sizes in proptest::collection::vec((500i64..4000, 1i64..20), 1..6),
        steps in proptest::collection::vec((any::<bool>(), 1i64..2000, 0usize..40), 1..120),
    ) {
        let nodes: Vec<_> = sizes.iter().enumerate().map(|(n, (cpu, pods))| node(&format!("n{n}"),
            json!({"status": {"allocatable": {"cpu": format!("{cpu}m"), "pods": pods.to_string()}}}))).collect();
        let mut f = facts(&nodes, &[]);
        let mut running: Vec<Arc<PodFacts>> = Vec::new();
        for (turn, (comes, cpu, which)) in steps.into_iter().enumerate() {
            if comes {
                let p = pod(&format!("p{turn}"), big(&format!("{cpu}m")));
                match decide(&f, &p, turn as u64) {
                    Decision::Place { node, .. } => {
                        let name = f.name(node).clone();
                        f.set_pod(&name, p.clone());
                        running.push(p);
                    }
                    Decision::Nowhere(_) => {
                        // It really fits nowhere.
                        for slot in f.slots() {
                            let left = f.allocatable(slot).cpu_milli - f.requested(slot).cpu_milli;
                            let room = f.allocatable(slot).pods - f.requested(slot).pods;
                            prop_assert!(left < cpu || room < 1);
                        }
                    }
                    Decision::NoNodes | Decision::Failed(_) => prop_assert!(false),
                }
            } else if !running.is_empty() {
                let gone = running.swap_remove(which % running.len());
                f.remove_pod(&gone.uid);
            }
            for slot in f.slots() {
                let sum: i64 = f.pods(slot).iter().map(|p| p.requests.cpu_milli).sum();
                prop_assert_eq!(sum, f.requested(slot).cpu_milli);
                prop_assert!(sum <= f.allocatable(slot).cpu_milli);
                prop_assert!(f.pods(slot).len() as i64 <= f.allocatable(slot).pods);
            }
        }
    }
}
