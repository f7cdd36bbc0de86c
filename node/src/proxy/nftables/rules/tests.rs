use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::proxy::plan::plan;

fn facts() -> NodeFacts {
    NodeFacts {
        name: "n1".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        ..NodeFacts::default()
    }
}

/// `count` endpoints of `default/<name>`, skipping those in `without`.
fn set(rules: &mut Rules, name: &str, ip: &str, count: u16, without: &[u16]) {
    let service = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}], "externalIPs": ["198.51.100.1"]},
    }))
    .unwrap();
    let endpoints: Vec<_> = (0..count)
        .filter(|i| !without.contains(i))
        .map(|i| json!({"addresses": [format!("10.244.{}.{}", i / 250, i % 250 + 1)]}))
        .collect();
    let slice = serde_json::from_value(json!({
        "metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints,
    }))
    .unwrap();
    let key: ServiceKey = format!("default/{name}").into();
    rules.set(&key, &plan(&service, [&slice], &facts()), &facts(), &Listeners::new());
}

#[test]
fn one_endpoint_of_many_is_a_few_elements() {
    let mut rules = Rules::default();
    set(&mut rules, "big", "10.96.0.1", 250, &[]);
    set(&mut rules, "other", "10.96.0.2", 250, &[]);
    let all = rules.take_all(&facts(), &[Family::V4], None);
    let own = |line: &&str| line.contains("/big/") || line.contains("/other/");
    let own = all.text.lines().filter(own).count();
    assert!(own < 20, "{own} lines");
    set(&mut rules, "big", "10.96.0.1", 250, &[7]);
    let change = rules.take_changes();
    assert_eq!(
        change.text,
        "delete element ip troupe eps-svc/default/big/tcp/80 { 7, 249 }\n\
         flush chain ip troupe svc/default/big/tcp/80\n\
         add rule ip troupe svc/default/big/tcp/80 meta l4proto tcp dnat ip to numgen random mod 249 map @eps-svc/default/big/tcp/80\n\
         add element ip troupe eps-svc/default/big/tcp/80 { 7 : 10.244.0.250 . 8080 }\n"
    );
    assert_eq!(change.keys, BTreeSet::from(["default/big".into()]));
    assert_eq!(rules.take_changes(), Transaction::default());
}

#[test]
fn the_usual_change_is_of_elements_alone() {
    let mut rules = Rules::default();
    set(&mut rules, "web", "10.96.0.1", 4, &[0]);
    rules.take_all(&facts(), &[Family::V4], None);
    // One for another.
    set(&mut rules, "web", "10.96.0.1", 4, &[1]);
    let ends = ["10.96.0.1 . tcp . 80 . 0", "198.51.100.1 . tcp . 80 . 0"];
    assert_eq!(
        rules.take_changes().text,
        format!(
            "delete element ip troupe endpoints {{ {0}, {1} }}\n\
             add element ip troupe endpoints {{ {0} : 10.244.0.1 . 8080, {1} : 10.244.0.1 . 8080 }}\n",
            ends[0], ends[1]
        )
    );
    // One more.
    set(&mut rules, "web", "10.96.0.1", 4, &[]);
    let text = rules.take_changes().text;
    assert!(!text.contains("rule") && !text.contains("chain"), "{text}");
    assert!(text.contains("services { 10.96.0.1 . tcp . 80 : goto balance-4"), "{text}");
}

#[test]
fn changes_that_cancel_out_are_nothing() {
    let mut rules = Rules::default();
    set(&mut rules, "web", "10.96.0.1", 2, &[]);
    rules.take_all(&facts(), &[Family::V4], None);
    set(&mut rules, "web", "10.96.0.1", 3, &[]);
    set(&mut rules, "web", "10.96.0.1", 2, &[]);
    assert_eq!(rules.take_changes(), Transaction::default());
}

#[test]
fn the_second_owner_of_an_address_inherits_it() {
    let mut rules = Rules::default();
    set(&mut rules, "a", "10.96.0.1", 1, &[]);
    set(&mut rules, "b", "10.96.0.2", 2, &[]);
    let all = rules.take_all(&facts(), &[Family::V4], None).text;
    assert!(all.contains("198.51.100.1 . tcp . 80 : goto balance-marked-1"), "{all}");
    assert!(!all.contains("198.51.100.1 . tcp . 80 : goto balance-marked-2"), "{all}");
    rules.set(&"default/a".into(), &ServicePlan::default(), &facts(), &Listeners::new());
    let text = rules.take_changes().text;
    assert!(text.contains("198.51.100.1 . tcp . 80 : goto balance-marked-2"), "{text}");
    assert_eq!(rules.v4.keys().map(AsRef::as_ref).collect::<BTreeSet<&str>>(), BTreeSet::from(["default/b"]));
}

#[test]
fn what_stands_in_for_endpoints_is_kept_from_others() {
    let mut rules = Rules::default();
    let all = rules.take_all(&facts(), &Family::ALL, Some([169, 254, 96, 1].into())).text;
    let count = |what: &str| all.lines().filter(|line| line.ends_with(what)).count();
    assert_eq!(
        count("filter-input ip daddr 169.254.96.1 ct state new ct status & dnat == 0 drop"),
        1,
        "{all}"
    );
    assert_eq!(count("nat-postrouting ip daddr 169.254.96.1 accept"), 1, "{all}");
    assert!(all.contains("add table ip6 troupe\n"));
}
