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

#[test]
fn conditions_that_somebody_turned_are_noticed() {
    let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    let status =
        |problem| NodeStatus { conditions: Some(conditions(problem, None, &now)), ..NodeStatus::default() };
    let (ready, not_ready) = (status(None), status(Some("no")));
    assert!(!overruled(&ready, &ready));
    assert!(overruled(&ready, &not_ready));
    let mut unknown = ready.clone();
    for condition in unknown.conditions.iter_mut().flatten() {
        condition.status = "Unknown".to_owned();
    }
    assert!(overruled(&ready, &unknown) && overruled(&not_ready, &unknown));
    assert!(overruled(&ready, &NodeStatus::default()));
    // Conditions of others are theirs.
    let mut more = ready.clone();
    let theirs =
        NodeCondition { type_: "KernelDeadlock".to_owned(), status: "True".to_owned(), ..Default::default() };
    more.conditions.get_or_insert_default().push(theirs);
    assert!(!overruled(&ready, &more));
}
