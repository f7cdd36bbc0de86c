//! A cluster with addresses of both families: nodes' ranges, Services' addresses, slices of each family.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};

use super::*;

const PODS: &str = "10.244.0.0/16,fd00:10:244::/48";
const SERVICES: &str = "10.96.0.0/16,fd00:10:96::/112";

/// A pod that serves, with these addresses.
async fn pod(c: &Cluster, name: &str, ips: &[&str]) {
    c.create::<Pod>(json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "app:1"}]}}))
        .await;
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let status = json!({"status": {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    c.admin.patch::<Pod>("default", name, Some("status"), PatchKind::Strategic, &status).await.unwrap();
}

async fn service(c: &Cluster, name: &str, policy: &str) -> Service {
    c.create::<Service>(json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"ipFamilyPolicy": policy, "selector": {"app": "web"}, "ports": [{"port": 80}]}}))
        .await
}

/// The addresses of a Service's endpoints, by their type.
fn endpoints(cache: &Cache, service: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for slice in cache.list::<EndpointSlice>("default") {
        let labels = slice.metadata.labels.as_ref().unwrap();
        if labels.get(protocol::labels::SERVICE_NAME).is_some_and(|name| name == service) {
            let addresses = slice.endpoints.iter().flatten().flat_map(|e| e.addresses.clone());
            found.entry(slice.address_type.clone()).or_default().extend(addresses);
        }
    }
    found
}

fn claimed(cache: &Cache) -> usize {
    cache.list::<IPAddress>("").len()
}

#[test]
fn nodes_and_services_get_addresses_of_both_families() {
    let config = Config { cluster_cidr: Some(PODS.parse().unwrap()), ..config() };
    test_on(config, SERVICES, async |c| {
        for (name, ranges) in
            [("n1", ["10.244.0.0/24", "fd00:10:244::/64"]), ("n2", ["10.244.1.0/24", "fd00:10:244:1::/64"])]
        {
            c.node(name).await;
            c.until("its ranges", |cache| {
                let node = cache.get::<Node>("", name)?;
                (node.spec.as_ref()?.pod_cidrs.as_ref()? == &ranges).then_some(())
            })
            .await;
        }
        let range = c.cache.get::<ServiceCIDR>("", "kubernetes").unwrap();
        assert_eq!(
            range.spec.as_ref().unwrap().cidrs.as_ref().unwrap(),
            &["10.96.0.0/16", "fd00:10:96::/112"]
        );
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        pod(&c, "a", &["10.244.0.2", "fd00:10:244::2"]).await;
        pod(&c, "b", &["10.244.0.3"]).await;

        let before = claimed(&c.cache);
        let both = service(&c, "both", "RequireDualStack").await.spec.unwrap();
        assert_eq!(both.ip_families.unwrap(), ["IPv4", "IPv6"]);
        let ips = both.cluster_ips.unwrap();
        assert_eq!(both.cluster_ip.as_ref(), ips.first());
        assert!(ips[0].starts_with("10.96.") && ips[1].starts_with("fd00:10:96::"), "{ips:?}");
        c.until("two claims", |cache| (claimed(cache) == before + 2).then_some(())).await;
        let of_both = BTreeMap::from([
            ("IPv4".to_owned(), vec!["10.244.0.2".to_owned(), "10.244.0.3".to_owned()]),
            ("IPv6".to_owned(), vec!["fd00:10:244::2".to_owned()]),
        ]);
        let as_said = |cache: &Cache| {
            let mut found = endpoints(cache, "both");
            found.values_mut().for_each(|addresses| addresses.sort());
            (found == of_both).then_some(())
        };
        c.until("slices of each family", as_said).await;

        // One becomes two, and one again; its first address stays.
        let one = service(&c, "one", "SingleStack").await.spec.unwrap();
        let first = one.cluster_ips.unwrap();
        assert_eq!(first.len(), 1);
        c.until("three claims", |cache| (claimed(cache) == before + 3).then_some(())).await;
        let patch = |policy: &str| json!({"spec": {"ipFamilyPolicy": policy}});
        let kind = PatchKind::Merge;
        let two =
            c.admin.patch::<Service>("default", "one", None, kind, &patch("PreferDualStack")).await.unwrap();
        let ips = two.spec.unwrap().cluster_ips.unwrap();
        assert!(ips.len() == 2 && ips[0] == first[0], "{ips:?}");
        c.until("four claims", |cache| (claimed(cache) == before + 4).then_some(())).await;
        let again =
            c.admin.patch::<Service>("default", "one", None, kind, &patch("SingleStack")).await.unwrap();
        assert_eq!(again.spec.unwrap().cluster_ips.unwrap(), first);
        c.until("three claims again", |cache| (claimed(cache) == before + 3).then_some(())).await;
        c.admin.delete::<Service>("default", "both", None, None).await.unwrap();
        c.until("both are given back", |cache| (claimed(cache) == before + 1).then_some(())).await;

        // An address is one Service's, however it is written.
        let asked = |name: &str, ip: &str| {
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": ip,
                "clusterIPs": [ip], "ipFamilies": ["IPv6"], "ports": [{"port": 80}]}})
        };
        c.create::<Service>(asked("asked", "fd00:10:96::a007")).await;
        c.until("it is claimed", |cache| cache.get::<IPAddress>("", "fd00:10:96::a007")).await;
        let taken: Service = serde_json::from_value(asked("late", "fd00:10:96:0::a007")).unwrap();
        let error = c.admin.create(&taken).await.unwrap_err().to_string();
        assert!(error.contains("already allocated"), "{error}");
    });
}
