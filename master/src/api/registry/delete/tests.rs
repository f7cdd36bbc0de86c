use protocol::{Target, resources};
use time::macros::datetime;

use super::*;

fn request(change: impl FnOnce(&mut protocol::Options)) -> ApiRequest {
    let mut request = ApiRequest::new(Verb::Delete, Target::default());
    change(&mut request.options);
    request
}

fn fate(plural: &str, group: &str, object: Value, change: impl FnOnce(&mut protocol::Options)) -> Fate {
    let resource = resources::find_any(group, plural).expect("kind");
    decide(resource, &object, &request(change), datetime!(2026-01-01 00:00:00 UTC))
}

fn running_pod() -> Value {
    json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}})
}

#[test]
fn a_pod_on_a_node_gets_its_grace() {
    let Fate::Marked(pod) = fate("pods", "", running_pod(), |_| {}) else { panic!("not marked") };
    assert_eq!(pod["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(pod["metadata"]["generation"], 2);
    assert_eq!(fate("pods", "", pod.clone(), |_| {}), Fate::Same);
    assert_eq!(fate("pods", "", pod, |o| o.grace_period_seconds = Some(0)), Fate::Gone);
}

#[test]
fn a_pod_without_a_node_or_at_its_end_goes_at_once() {
    assert_eq!(fate("pods", "", json!({"metadata": {}, "spec": {}}), |_| {}), Fate::Gone);
    let mut ended = running_pod();
    ended["status"]["phase"] = "Succeeded".into();
    assert_eq!(fate("pods", "", ended, |_| {}), Fate::Gone);
}

#[test]
fn propagation_becomes_a_finalizer() {
    let object = json!({"metadata": {"name": "d", "generation": 1}});
    let finalizers = |fate: Fate| match fate {
        Fate::Marked(v) => v["metadata"]["finalizers"].clone(),
        _ => Value::Null,
    };
    let orphan =
        fate("deployments", "apps", object.clone(), |o| o.propagation_policy = Some("Orphan".into()));
    assert_eq!(finalizers(orphan), json!(["orphan"]));
    let foreground =
        fate("deployments", "apps", object.clone(), |o| o.propagation_policy = Some("Foreground".into()));
    assert_eq!(finalizers(foreground), json!(["foregroundDeletion"]));
    assert_eq!(fate("deployments", "apps", object.clone(), |_| {}), Fate::Gone);
    assert_eq!(finalizers(fate("jobs", "batch", object, |_| {})), json!(["orphan"]));
}

#[test]
fn a_namespace_waits_for_its_finalizer() {
    let namespace = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let Fate::Marked(marked) = fate("namespaces", "", namespace, |_| {}) else { panic!("not marked") };
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert!(object::is_deleting(&marked));
}

#[test]
fn a_pod_whose_time_is_cut_off_was_deleted_when_it_was_deleted_first() {
    let mut pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30,
        "generation": 2}});
    assert!(!end(&mut pod));
    let over = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0, "generation": 2});
    assert_eq!(pod["metadata"], over);
    assert!(end(&mut pod));
    assert_eq!(pod["metadata"], over);
    let mut pod = json!({"metadata": {"generation": 1}});
    assert!(!end(&mut pod));
    assert_eq!(pod["metadata"]["generation"], 2);
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 0);
}
