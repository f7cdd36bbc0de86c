use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::controllers::machinery::meta::controller_reference;

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "s"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]},
    }))
    .unwrap()
}

fn pod(n: usize, ready: bool) -> Arc<Pod> {
    let ip = format!("10.{}.{}.{}", n / 65536, n / 256 % 256, n % 256);
    let ready = if ready { "True" } else { "False" };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{n}"), "namespace": "d", "uid": format!("u{n}")},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap(),
    )
}

fn step(existing: &mut Vec<Arc<EndpointSlice>>, pods: &[Arc<Pod>], serial: &mut usize) -> Plan {
    let service = service();
    let frame = Frame::of(&service, controller_reference(&service));
    let wanted = desired(&service, pods, "IPv4", |_| Some(None));
    let plan = plan(&frame, "IPv4", existing, wanted, true);
    existing.retain(|s| !plan.delete.iter().any(|n| n == name(&s.metadata)));
    for slice in &plan.update {
        let at = existing.iter().position(|s| s.metadata.name == slice.metadata.name).unwrap();
        existing[at] = Arc::new(slice.clone());
    }
    for slice in &plan.create {
        *serial += 1;
        let mut slice = slice.clone();
        slice.metadata.name = Some(format!("web-{serial}"));
        existing.push(Arc::new(slice));
    }
    plan
}

#[test]
fn one_changed_pod_is_one_update() {
    let (mut slices, mut serial) = (Vec::new(), 0);
    let pods: Vec<_> = (0..250).map(|n| pod(n, true)).collect();
    step(&mut slices, &pods, &mut serial);
    assert_eq!(slices.len(), 3);
    assert!(step(&mut slices, &pods, &mut serial).is_empty(), "a second look changes nothing");
    let mut changed = pods.clone();
    changed[120] = pod(120, false);
    let plan = step(&mut slices, &changed, &mut serial);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
    let mut more = changed.clone();
    more.push(pod(300, true));
    let plan = step(&mut slices, &more, &mut serial);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
}

#[test]
fn no_endpoints_leave_a_placeholder() {
    let (mut slices, mut serial) = (Vec::new(), 0);
    let plan = step(&mut slices, &[], &mut serial);
    assert_eq!(plan.create.len(), 1);
    assert!(step(&mut slices, &[], &mut serial).is_empty());
    let plan = step(&mut slices, &[pod(1, true)], &mut serial);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0), "it is used again");
    assert_eq!(slices.len(), 1, "{slices:?}");
    assert_eq!(slices[0].endpoints.as_ref().unwrap().len(), 1);
}

#[test]
fn terminating_endpoints_serve_but_are_not_ready() {
    let mut dying = (*pod(1, true)).clone();
    dying.metadata.deletion_timestamp = Some(crate::controllers::machinery::meta::time(Default::default()));
    let groups = desired(&service(), &[Arc::new(dying)], "IPv4", |_| Some(None));
    let conditions = groups.values().next().unwrap()[0].conditions.clone().unwrap();
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(true), Some(true))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever pods come and go, the slices hold exactly them, none over its limit, and then rest.
    #[test]
    fn slices_hold_exactly_the_pods(rounds in proptest::collection::vec(
        proptest::collection::btree_map(0usize..400, any::<bool>(), 0..300), 1..5)
    ) {
        let (mut slices, mut serial) = (Vec::new(), 0);
        for round in rounds {
            let pods: Vec<_> = round.iter().map(|(n, ready)| pod(*n, *ready)).collect();
            step(&mut slices, &pods, &mut serial);
            let mut held: Vec<String> = Vec::new();
            for slice in &slices {
                let endpoints = slice.endpoints.as_deref().unwrap();
                prop_assert!(endpoints.len() <= ENDPOINTS_MAX);
                held.extend(endpoints.iter().map(|e| e.target_ref.clone().unwrap().name.unwrap()));
            }
            held.sort();
            let mut wanted: Vec<String> = round.keys().map(|n| format!("p{n}")).collect();
            wanted.sort();
            prop_assert_eq!(held, wanted);
            prop_assert!(!slices.is_empty());
            prop_assert!(step(&mut slices, &pods, &mut serial).is_empty());
        }
    }
}

#[test]
fn services_that_prefer_what_is_close_hint_at_it() {
    let hints_of = |distribution: Option<&str>, zone: Option<&str>, ready: bool| {
        let mut service = service();
        service.spec.as_mut().unwrap().traffic_distribution = distribution.map(str::to_owned);
        let groups = desired(&service, &[pod(1, ready)], "IPv4", |node| {
            assert_eq!(node, "n1");
            Some(zone.map(str::to_owned))
        });
        let hints = groups.values().next().unwrap()[0].hints.clone();
        hints.map(|h| {
            let zones = h.for_zones.unwrap_or_default().into_iter().map(|z| z.name);
            let nodes = h.for_nodes.unwrap_or_default().into_iter().map(|n| n.name);
            (zones.collect::<Vec<_>>().join(","), nodes.collect::<Vec<_>>().join(","))
        })
    };
    let some = |zones: &str, nodes: &str| Some((zones.to_owned(), nodes.to_owned()));
    for same_zone in ["PreferClose", "PreferSameZone"] {
        assert_eq!(hints_of(Some(same_zone), Some("a"), true), some("a", ""));
        assert_eq!(hints_of(Some(same_zone), None, true), None);
    }
    assert_eq!(hints_of(Some("PreferSameNode"), Some("a"), true), some("a", "n1"));
    assert_eq!(hints_of(Some("PreferSameNode"), None, true), some("", "n1"));
    assert_eq!(
        hints_of(Some("PreferSameNode"), Some("a"), false),
        None,
        "nobody is sent to those that are not ready"
    );
    assert_eq!(hints_of(None, Some("a"), true), None);
    assert_eq!(hints_of(Some("Elsewhere"), Some("a"), true), None);
}

#[test]
fn pods_of_nodes_that_are_not_there_serve_only_where_all_is_published() {
    for published in [false, true] {
        let mut service = service();
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(published);
        let groups = desired(&service, &[pod(1, true)], "IPv4", |_| None);
        assert_eq!(groups.values().map(Vec::len).sum::<usize>(), usize::from(published));
    }
}
