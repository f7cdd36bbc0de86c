//! Services that wait for an address of the pool.

use super::*;

async fn balanced(c: &Cluster, name: &str, ip: Option<&str>) {
    c.create::<Service>(json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "loadBalancerIP": ip, "ports": [{"port": 80}]}}))
        .await;
}

fn address(cache: &Cache, name: &str) -> Option<String> {
    let service = cache.get::<Service>("default", name)?;
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.first()?.ip.clone()
}

/// Nobody looks again for minutes: what wakes the one that waits is that the other gives up its address.
#[test]
fn who_waits_for_an_address_gets_the_one_that_is_given_back() {
    let pool = Some("192.0.2.1-192.0.2.2".parse().unwrap());
    test_on(Config { load_balancer_pool: pool, ..config() }, "10.96.0.0/16", async |c| {
        balanced(&c, "a", None).await;
        balanced(&c, "b", None).await;
        c.until("both have one", |cache| address(cache, "a").zip(address(cache, "b"))).await;
        let of_a = address(&c.cache, "a").unwrap();
        let refused = |name: &'static str| {
            move |cache: &Cache| {
                let told = |e: &Event| e.involved_object.name.as_deref() == Some(name);
                let events = cache.list::<Event>("default");
                events
                    .iter()
                    .any(|e| told(e) && e.reason.as_deref() == Some("SyncLoadBalancerFailed"))
                    .then_some(())
            }
        };
        balanced(&c, "waits", None).await;
        balanced(&c, "asks", Some(&of_a)).await;
        c.until("it is told", refused("waits")).await;
        c.until("it is told", refused("asks")).await;

        // One becomes something else: whoever asked for its very address has it then, as nobody else may.
        let patch = json!({"spec": {"type": "ClusterIP"}});
        c.admin.patch::<Service>("default", "a", None, PatchKind::Merge, &patch).await.unwrap();
        c.until("one of both", |cache| {
            let waiting = [address(cache, "waits"), address(cache, "asks")];
            waiting.iter().flatten().any(|ip| *ip == of_a).then_some(())
        })
        .await;
        c.admin.delete::<Service>("default", "b", None, None).await.unwrap();
        c.until("the first that waits", |cache| address(cache, "waits")).await;
    });
}
