use super::*;

#[test]
fn taints_are_read() {
    for (text, wanted) in [
        ("a=b:NoSchedule", Some(("a", Some("b"), "NoSchedule"))),
        ("node-role/x:NoExecute", Some(("node-role/x", None, "NoExecute"))),
        ("nothing", None),
    ] {
        let found = taint(text);
        let found = found.as_ref().map(|t| (t.key.as_str(), t.value.as_deref(), t.effect.as_str()));
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn unchanged_conditions_keep_their_time() {
    let early = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    let late = Time(k8s_openapi::jiff::Timestamp::from_second(60).unwrap());
    let first =
        NodeStatus { conditions: Some(conditions(Some("no"), None, &early)), ..NodeStatus::default() };
    let then = conditions(None, Some(&first), &late);
    let of = |kind: &str| then.iter().find(|c| c.type_ == kind).unwrap();
    assert_eq!(
        (of("Ready").status.as_str(), of("Ready").last_transition_time.as_ref()),
        ("True", Some(&late))
    );
    assert_eq!(of("DiskPressure").last_transition_time.as_ref(), Some(&early));
    assert_eq!(of("DiskPressure").last_heartbeat_time.as_ref(), Some(&late));
}
