use super::*;

#[test]
fn the_table_has_every_kind_and_no_two_alike() {
    assert_eq!(all().len(), 68);
    for (i, one) in all().iter().enumerate() {
        assert!(!one.kind.is_empty() && !one.verbs.is_empty(), "{one:?}");
        assert!(
            all()[..i].iter().all(|r| (r.group, r.version, r.plural) != (one.group, one.version, one.plural))
        );
        assert!(!one.is_stored() || !one.columns.is_empty(), "{} has no columns", one.plural);
    }
}

#[test]
fn a_kind_is_found_by_path_and_by_name() {
    let deployments = find("apps", "v1", "deployments").expect("deployments");
    assert_eq!(deployments.kind, "Deployment");
    assert_eq!(deployments.api_version(), "apps/v1");
    assert_eq!(deployments.short_names, ["deploy"]);
    assert_eq!(deployments.key("default", "web"), "/registry/apps/deployments/default/web");
    assert_eq!(deployments.prefix(""), "/registry/apps/deployments/");
    assert_eq!(by_kind("apps/v1", "Deployment").map(|r| r.plural), Some("deployments"));
    let scale = deployments.subresource("scale").expect("scale");
    assert_eq!((scale.kind, scale.api), ("Scale", Some(("autoscaling", "v1"))));
    assert!(find("", "v1", "pods").is_some_and(|r| r.key("a", "b") == "/registry/core/pods/a/b"));
    assert!(find("", "v1", "nodes").is_some_and(|r| r.key("", "n") == "/registry/core/nodes/n"));
}

#[test]
fn a_view_is_stored_with_the_kind_it_shows() {
    let events = find("events.k8s.io", "v1", "events").expect("events");
    assert!(events.is_view());
    assert_eq!(events.prefix("a"), "/registry/core/events/a/");
    assert_eq!(
        groups().iter().find(|(g, _)| *g == "autoscaling").map(|(_, v)| v.as_slice()),
        Some(&["v2", "v1"][..])
    );
}
