use super::*;

const DUAL: &str = "10.96.0.0/16,fd00:10:96::/112";
const SINGLE_RANGE: &str = "10.96.0.0/16";

fn service(spec: Value) -> Value {
    let mut spec = spec;
    if spec["type"].is_null() {
        spec["type"] = "ClusterIP".into();
    }
    if spec["selector"].is_null() {
        spec["selector"] = json!({"app": "web"});
    }
    json!({"metadata": {"name": "s", "namespace": "default"}, "spec": spec})
}

/// Policy and families after a write, or what is said against it.
fn settled(range: &str, spec: Value, old: Option<Value>) -> String {
    let mut new = service(spec);
    let old = old.map(service);
    match settle(&mut new, old.as_ref(), &range.parse().unwrap()) {
        Ok(()) => {
            let spec = &new["spec"];
            let texts = |field: &str| {
                let values = list(spec, &[field]).iter().filter_map(Value::as_str);
                values.collect::<Vec<_>>().join(",")
            };
            format!("{} {} {}", text(spec, &["ipFamilyPolicy"]), texts("ipFamilies"), texts("clusterIPs"))
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_new_service_gets_the_families_that_it_wants_and_the_cluster_has() {
    let check = |range: &str, spec: Value, expected: &str| {
        let found = settled(range, spec.clone(), None);
        let found = if expected.starts_with('…') {
            found.contains(expected.trim_start_matches('…'))
        } else {
            found.trim() == expected
        };
        assert!(found, "{range} {spec}: {}, not {expected}", settled(range, spec.clone(), None));
    };
    check(SINGLE_RANGE, json!({}), "SingleStack IPv4");
    check(DUAL, json!({}), "SingleStack IPv4");
    check(DUAL, json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6");
    check(
        SINGLE_RANGE,
        json!({"ipFamilies": ["IPv6"]}),
        "…spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
    );
    check(
        SINGLE_RANGE,
        json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]}),
        "…first value must match `clusterIP`",
    );
    check(DUAL, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4,IPv6");
    check(SINGLE_RANGE, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4");
    check(
        DUAL,
        json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
        "RequireDualStack IPv6,IPv4",
    );
    check(
        SINGLE_RANGE,
        json!({"ipFamilyPolicy": "RequireDualStack"}),
        "…this cluster is not configured for dual-stack services",
    );
    check(
        DUAL,
        json!({"clusterIP": "fd00:10:96::5", "clusterIPs": ["fd00:10:96::5"]}),
        "SingleStack IPv6 fd00:10:96::5",
    );
    check(
        SINGLE_RANGE,
        json!({"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"]}),
        "…spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster",
    );
    check(
        DUAL,
        json!({"ipFamilies": ["IPv4", "IPv6"]}),
        "…must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
    );
    check(
        DUAL,
        json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:10:96::5"]}),
        "…must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
    );
    check(DUAL, json!({"type": "ExternalName"}), "");
}

#[test]
fn headless_services_without_pods_of_their_own_may_have_any_family() {
    let check = |range: &str, spec: Value, expected: &str| {
        let mut spec = spec;
        spec["clusterIP"] = "None".into();
        spec["clusterIPs"] = json!(["None"]);
        assert_eq!(settled(range, spec.clone(), None), expected, "{range} {spec}");
    };
    check(SINGLE_RANGE, json!({"selector": {}}), "RequireDualStack IPv4,IPv6 None");
    check(
        SINGLE_RANGE,
        json!({"selector": {}, "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
        "SingleStack IPv6 None",
    );
    check(SINGLE_RANGE, json!({}), "SingleStack IPv4 None");
    check(DUAL, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4,IPv6 None");
}

#[test]
fn an_update_changes_families_only_where_it_says_so() {
    let check = |range: &str, old: Value, new: Value, expected: &str| {
        let found = settled(range, new.clone(), Some(old.clone()));
        assert!(
            found == expected
                || found.contains(expected.trim_start_matches('…')) && expected.starts_with('…'),
            "{range} {old} to {new}: {found}"
        );
    };
    let one = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
    let two = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:10:96::5"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"});
    let with = |of: &Value, field: &str, value: Value| {
        let mut spec = of.clone();
        spec[field] = value;
        spec
    };
    check(DUAL, one.clone(), one.clone(), "SingleStack IPv4 10.96.0.5");
    check(
        DUAL,
        one.clone(),
        with(&one, "ipFamilyPolicy", "PreferDualStack".into()),
        "PreferDualStack IPv4,IPv6 10.96.0.5",
    );
    check(
        DUAL,
        two.clone(),
        with(&two, "ipFamilyPolicy", "SingleStack".into()),
        "SingleStack IPv4 10.96.0.5",
    );
    check(
        DUAL,
        two.clone(),
        with(&two, "ipFamilies", json!(["IPv4"])),
        "…must be 'SingleStack' to release the secondary IP family",
    );
    // The cluster got a second family, or lost it: whoever has what it could get keeps it.
    let preferred = with(&one, "ipFamilyPolicy", "PreferDualStack".into());
    check(DUAL, preferred.clone(), preferred.clone(), "PreferDualStack IPv4 10.96.0.5");
    check(
        DUAL,
        preferred.clone(),
        with(&preferred, "ipFamilies", json!(["IPv4", "IPv6"])),
        "PreferDualStack IPv4,IPv6 10.96.0.5",
    );
    check(SINGLE_RANGE, two.clone(), two.clone(), "PreferDualStack IPv4,IPv6 10.96.0.5,fd00:10:96::5");
    check(DUAL, json!({"type": "ExternalName"}), json!({}), "SingleStack IPv4 ");
}
