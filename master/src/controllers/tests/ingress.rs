//! The class and the addresses of Ingresses, as nodes come, fall silent and go.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::*;

/// A node that serves Ingresses.
async fn serving(c: &Cluster, name: &str, ip: &str) {
    c.create::<Node>(json!({"metadata": {"name": name,
        "annotations": {"troupe.dev/ingress": "http=80,https=443"}}}))
        .await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": ip}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    c.admin.patch::<Node>("", name, Some("status"), PatchKind::Strategic, &status).await.unwrap();
    c.create::<Lease>(json!({"metadata": {"name": name, "namespace": "kube-node-lease"}})).await;
}

/// Waits while these nodes show signs of life and say that they are ready, as their kubelets would.
async fn while_alive<T>(c: &Cluster, nodes: &[&str], what: &str, test: impl Fn(&Cache) -> Option<T>) -> T {
    for _ in 0..2000 {
        for node in nodes {
            let renewed = serde_json::to_value(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(
                machinery::meta::now(),
            ));
            let patch = json!({"spec": {"holderIdentity": node, "renewTime": renewed.unwrap()}});
            c.admin.patch::<Lease>("kube-node-lease", node, None, PatchKind::Merge, &patch).await.unwrap();
        }
        for node in nodes.iter().filter_map(|node| c.cache.get::<Node>("", node)) {
            if node::health::ready(&node) != "True" {
                let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
                let (name, kind) = (machinery::meta::name(&node.metadata), PatchKind::Strategic);
                c.admin.patch::<Node>("", name, Some("status"), kind, &ready).await.unwrap();
            }
        }
        if let Some(value) = test(&c.cache) {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}")
}

fn addresses(cache: &Cache, name: &str) -> Vec<String> {
    let ingress = cache.get::<Ingress>("default", name);
    let balancer = ingress.and_then(|i| i.status.clone()?.load_balancer?.ingress);
    balancer.unwrap_or_default().into_iter().filter_map(|a| a.ip).collect()
}

#[test]
fn ingresses_name_the_nodes_that_serve_them() {
    test_with(Duration::from_secs(2), async |c| {
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        for (name, class) in [("ours", "troupe"), ("theirs", "other")] {
            c.create::<Ingress>(json!({"metadata": {"name": name, "namespace": "default"},
                "spec": {"ingressClassName": class, "defaultBackend": backend}}))
                .await;
        }
        let elsewhere = json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}}});
        let kind = PatchKind::Merge;
        c.admin.patch::<Ingress>("default", "theirs", Some("status"), kind, &elsewhere).await.unwrap();
        assert!(c.cache.get::<IngressClass>("", "troupe").is_none(), "no node serves Ingresses");
        serving(&c, "n1", "192.0.2.1").await;
        serving(&c, "n2", "192.0.2.2").await;
        let named =
            |wanted: &'static [&str]| move |cache: &Cache| (addresses(cache, "ours") == wanted).then_some(());
        while_alive(&c, &["n1", "n2"], "both", named(&["192.0.2.1", "192.0.2.2"])).await;
        let class = c.cache.get::<IngressClass>("", "troupe").unwrap();
        assert_eq!(class.spec.as_ref().unwrap().controller.as_deref(), Some("troupe.dev/ingress"));
        // Who falls silent is withdrawn, and comes back with the next sign of life.
        while_alive(&c, &["n1"], "n1 alone", named(&["192.0.2.1"])).await;
        while_alive(&c, &["n1", "n2"], "both again", named(&["192.0.2.1", "192.0.2.2"])).await;
        // Who says that it serves no longer, and who goes.
        let silent = json!({"metadata": {"annotations": {"troupe.dev/ingress": null}}});
        c.admin.patch::<Node>("", "n2", None, PatchKind::Merge, &silent).await.unwrap();
        while_alive(&c, &["n1", "n2"], "n1 alone", named(&["192.0.2.1"])).await;
        c.admin.delete::<Node>("", "n1", None, None).await.unwrap();
        c.until("nobody", named(&[])).await;
        assert_eq!(addresses(&c.cache, "theirs"), ["198.51.100.9"], "another controller's is left alone");
    });
}
