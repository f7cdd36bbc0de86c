//! What is taken is the same, followed change by change, as counted anew.

use super::*;
use crate::store::{Batch, Event};

/// A claim with one of some devices, whole or in part, and maybe of a pod's extended resources.
fn holding(claim: usize, device: Option<usize>, share: Option<u32>) -> Value {
    let result = |device: usize| {
        let mut result =
            json!({"request": "r", "driver": DRIVER, "pool": "pool", "device": format!("d{device}")});
        if let Some(share) = share {
            result["shareID"] = format!("s{claim}").into();
            result["consumedCapacity"] = json!({"memory": format!("{share}Mi")});
        }
        json!({"allocation": {"devices": {"results": [result]}}})
    };
    let mut meta = json!({"name": format!("c{claim}"), "namespace": "ns", "uid": format!("c{claim}")});
    if claim.is_multiple_of(2) {
        meta["annotations"] = json!({"resource.kubernetes.io/extended-resource-claim": "true"});
        meta["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p",
            "uid": format!("p{claim}"), "controller": true}]);
    }
    json!({"metadata": meta, "spec": {}, "status": device.map_or(json!({}), result)})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_taken_is_followed(
        steps in proptest::collection::vec(
            (0usize..6, proptest::option::of(0usize..4), proptest::option::of(0u32..3), any::<bool>()), 1..40),
        looks in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let cache = Cache::new();
        cache.load(Vec::new(), 1);
        let (mut seen, mut tally) = (cache.snapshot(), Tally::default());
        for (at, (claim, device, share, gone)) in steps.into_iter().enumerate() {
            let revision = at as u64 + 2;
            let key = key("resource.k8s.io", "resourceclaims", "ns", &format!("c{claim}"));
            let record = Record {
                key: key.clone(),
                value: holding(claim, device, share).to_string().into(),
                trace: TraceContext::default(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
            };
            let event = Event { key, record: (!gone).then_some(record), trace: TraceContext::default() };
            cache.apply(vec![Batch { revision, events: vec![event] }]);
            // Several changes may have come to pass between two looks.
            if looks[at] {
                let now = cache.snapshot();
                tally.follow(&seen, &now);
                prop_assert_eq!(&tally, &Tally::of(&now));
                seen = now;
            }
        }
    }
}

#[test]
fn what_has_arrived_is_not_counted_twice() {
    use super::super::DeviceId;
    use super::super::taken::Taken;
    let of = |device: &str| DeviceId { driver: DRIVER.into(), pool: "pool".into(), device: device.into() };
    let shared = holding(2, Some(1), Some(2));
    let allocation = serde_json::from_value(shared["status"]["allocation"].clone()).expect("an allocation");
    let allocation = Arc::new(allocation);
    let used = |taken: &Taken| taken.consumed(&of("d1")).map(|a| a["memory"].to_string());

    let seen = Arc::new(Tally::of(&cluster(&[("resourceclaims", "c4", holding(4, Some(1), Some(3)))])));
    let pending = Pending::from([("p2".into(), allocation)]);
    assert_eq!(used(&Taken::of(seen.clone(), &Pending::new())).as_deref(), Some("3Mi"));
    assert_eq!(used(&Taken::of(seen, &pending)).as_deref(), Some("5Mi"), "on its way, for the pod");
    let seen = Arc::new(Tally::of(&cluster(&[("resourceclaims", "c2", shared)])));
    assert_eq!(used(&Taken::of(seen, &pending)).as_deref(), Some("2Mi"), "it is there");
}
