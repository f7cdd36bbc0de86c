use super::*;
use crate::cache::feed::read_all;
use crate::store::embedded::EmbeddedStore;

fn settings(address: [u8; 4]) -> Settings {
    Settings {
        advertise_address: address.into(),
        port: 6443,
        service_address: [10, 96, 0, 1].into(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        client_ca: "CA".to_owned(),
        front_proxy_ca: "PROXY".to_owned(),
        request_headers: crate::auth::request_header::RequestHeaders::own(),
    }
}

#[test]
fn the_table_is_read_whole() {
    let all = objects(&settings([192, 0, 2, 2]));
    let count = |resource: &str| all.iter().filter(|o| o.key.contains(&format!("/{resource}/"))).count();
    for (resource, wanted) in [
        ("namespaces", 4),
        ("clusterroles", 72),
        ("clusterrolebindings", 53),
        ("roles", 7),
        ("rolebindings", 7),
        ("flowschemas", 11),
        ("prioritylevelconfigurations", 8),
        ("priorityclasses", 2),
        ("apiservices", 21),
        ("serviceaccounts", 37),
        ("services", 1),
        ("endpoints", 1),
        ("endpointslices", 1),
        ("servicecidrs", 1),
        ("ipaddresses", 1),
        ("configmaps", 2),
    ] {
        assert_eq!(count(resource), wanted, "{resource}");
    }
    for seed in &all {
        assert!(seed.object["kind"].is_string() && seed.object["apiVersion"].is_string(), "{}", seed.key);
    }
}

#[test]
fn aggregated_roles_hold_their_parts() {
    let lengths = ["view", "edit", "admin"].map(|name| cluster_role_rules(name).len());
    assert_eq!(lengths, [12, 27, 29]);
    let all = cluster_role_rules("cluster-admin");
    assert_eq!(all[0].resources.as_deref(), Some(&["*".to_owned()][..]));
    assert_eq!(all[1].non_resource_urls.as_deref(), Some(&["*".to_owned()][..]));
    let bootstrapper = cluster_role_rules("system:node-bootstrapper");
    assert_eq!(bootstrapper[0].api_groups.as_deref(), Some(&["certificates.k8s.io".to_owned()][..]));
}

#[tokio::test]
async fn a_second_start_changes_only_what_moved() {
    let store = EmbeddedStore::in_memory().await.unwrap();
    reconcile(&store, &settings([192, 0, 2, 2])).await.unwrap();
    let (first, revision) = read_all(&store).await.unwrap();
    assert_eq!(first.len(), objects(&settings([192, 0, 2, 2])).len());
    reconcile(&store, &settings([192, 0, 2, 2])).await.unwrap();
    assert_eq!(store.current_revision().await.unwrap(), revision);

    // An administrator widens one role and empties another; the address changes.
    let edit = |name: &str, change: fn(&mut Value)| {
        let key = store::key(RBAC, "clusterroles", "", name);
        let record = first.iter().find(|r| r.key == key).unwrap();
        let mut value: Value = serde_json::from_slice(&record.value).unwrap();
        change(&mut value);
        Txn::put(key, record.mod_revision, value.to_string())
    };
    store.txn(edit("system:node", |v| v["rules"] = json!([{"verbs": ["x"]}]))).await.unwrap();
    store
        .txn(edit("view", |v| {
            v["rules"] = json!([]);
            v["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        }))
        .await
        .unwrap();
    reconcile(&store, &settings([192, 0, 2, 9])).await.unwrap();
    let (second, _) = read_all(&store).await.unwrap();
    let value = |key: String| -> Value {
        serde_json::from_slice(&second.iter().find(|r| r.key == key).unwrap().value).unwrap()
    };
    let rules =
        value(store::key(RBAC, "clusterroles", "", "system:node"))["rules"].as_array().unwrap().clone();
    assert_eq!(rules[0], json!({"verbs": ["x"]}));
    assert_eq!(rules.len(), 1 + cluster_role_rules("system:node").len());
    assert_eq!(value(store::key(RBAC, "clusterroles", "", "view"))["rules"], json!([]));
    let endpoints = value(store::key("", "endpoints", "default", "kubernetes"));
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.9");
}
