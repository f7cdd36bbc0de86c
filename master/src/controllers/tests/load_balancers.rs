//! Services and the addresses of the pool: of each family, shared, and waited for.

use protocol::balancing::ANNOUNCED_BY;
use protocol::labels::SERVICE_NAME;

use super::*;

async fn balanced(c: &Cluster, name: &str, ip: Option<&str>) {
    c.create::<Service>(json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "loadBalancerIP": ip, "ports": [{"port": 80}]}}))
        .await;
}

fn addresses(cache: &Cache, name: &str) -> Option<Vec<String>> {
    let service = cache.get::<Service>("default", name)?;
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.iter().map(|i| i.ip.clone()).collect()
}

fn address(cache: &Cache, name: &str) -> Option<String> {
    addresses(cache, name)?.into_iter().next()
}

/// Whether a Service was told, in these words among others, why it has no address.
fn refused(name: &'static str, words: &'static str) -> impl Fn(&Cache) -> Option<()> {
    move |cache: &Cache| {
        let told = |e: &Event| {
            e.involved_object.name.as_deref() == Some(name)
                && e.reason.as_deref() == Some("SyncLoadBalancerFailed")
                && e.message.as_ref().is_some_and(|m| m.contains(words))
        };
        cache.list::<Event>("default").iter().any(|e| told(e)).then_some(())
    }
}

fn announcer(cache: &Cache, name: &str) -> Option<String> {
    let service = cache.get::<Service>("default", name)?;
    machinery::meta::annotation(&service.metadata, ANNOUNCED_BY).map(str::to_owned)
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
        balanced(&c, "waits", None).await;
        balanced(&c, "asks", Some(&of_a)).await;
        c.until("it is told", refused("waits", "no address of IPv4 is left")).await;
        c.until("it is told", refused("asks", "in use by the Service default/a")).await;

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

#[test]
fn each_family_of_a_service_has_an_address() {
    let pool = Some("192.0.2.1-192.0.2.9,fd00:99::1-fd00:99::2".parse().unwrap());
    test_on(Config { load_balancer_pool: pool, ..config() }, "10.96.0.0/16,fd00:10:96::/112", async |c| {
        let of = async |name: &str, policy: &str, families: &[&str]| {
            c.create::<Service>(json!({"metadata": {"name": name, "namespace": "default"},
                "spec": {"type": "LoadBalancer", "ipFamilyPolicy": policy, "ipFamilies": families,
                    "ports": [{"port": 80}]}}))
                .await;
        };
        of("both", "RequireDualStack", &["IPv4", "IPv6"]).await;
        let both = ["192.0.2.1", "fd00:99::1"];
        c.until("one of each", |cache| (addresses(cache, "both")? == both).then_some(())).await;
        of("six", "SingleStack", &["IPv6"]).await;
        c.until("one of IPv6", |cache| (addresses(cache, "six")? == ["fd00:99::2"]).then_some(())).await;
        // None of IPv6 is left: what there is comes at once, what is lacking when it is given back.
        of("late", "RequireDualStack", &["IPv6", "IPv4"]).await;
        c.until("half", |cache| (addresses(cache, "late")? == ["192.0.2.2"]).then_some(())).await;
        c.until("it is told", refused("late", "no address of IPv6 is left")).await;
        // A Service that is of one family only gives the other's address back.
        let patch = json!({"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
            "clusterIPs": [c.cache.get::<Service>("default", "both").unwrap().spec.as_ref().unwrap().cluster_ip]}});
        c.admin.patch::<Service>("default", "both", None, PatchKind::Merge, &patch).await.unwrap();
        c.until("one is left to it", |cache| (addresses(cache, "both")? == ["192.0.2.1"]).then_some(()))
            .await;
        let late = ["fd00:99::1", "192.0.2.2"];
        c.until("the other has it", |cache| (addresses(cache, "late")? == late).then_some(())).await;
    });
}

#[test]
fn services_that_name_an_address_share_it_and_its_node() {
    let pool = Some("192.0.2.1-192.0.2.9".parse().unwrap());
    test_on(Config { load_balancer_pool: pool, ..config() }, "10.96.0.0/16", async |c| {
        for node in ["n1", "n2", "n3"] {
            c.node(node).await;
        }
        let shares = async |name: &str, ports: &[i32]| {
            let ports: Vec<Value> =
                ports.iter().map(|p| json!({"name": format!("p{p}"), "port": p})).collect();
            c.create::<Service>(json!({"metadata": {"name": name, "namespace": "default"},
                "spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.7", "ports": ports}}))
                .await;
        };
        let has =
            |name: &'static str| move |cache: &Cache| (address(cache, name)? == "192.0.2.7").then_some(());
        shares("web", &[80, 443]).await;
        c.until("it has it", has("web")).await;
        shares("mail", &[25]).await;
        c.until("it has it too", has("mail")).await;
        let one = |cache: &Cache| {
            let node = announcer(cache, "web")?;
            (announcer(cache, "mail")? == node).then_some(node)
        };
        let first = c.until("one node announces it", one).await;
        // A port that is another's.
        shares("other", &[443]).await;
        c.until("it is told", refused("other", "port 443/TCP of the address 192.0.2.7")).await;
        assert_eq!(address(&c.cache, "other"), None);
        // The node is lost: both go to the same one.
        c.admin.delete::<Node>("", &first, None, None).await.unwrap();
        c.until("one node announces it again", |cache| one(cache).filter(|node| *node != first)).await;
        // One gives up the port: it becomes free, and the address stays.
        let patch = json!({"spec": {"ports": [{"name": "p80", "port": 80}]}});
        c.admin.patch::<Service>("default", "web", None, PatchKind::Merge, &patch).await.unwrap();
        c.until("who waited has it", has("other")).await;
        c.admin.delete::<Service>("default", "web", None, None).await.unwrap();
        c.until("it goes", |cache| cache.get::<Service>("default", "web").is_none().then_some(())).await;
        shares("web2", &[80]).await;
        c.until("its port is free", has("web2")).await;
        assert_eq!(address(&c.cache, "mail").as_deref(), Some("192.0.2.7"));
        // Traffic that stays on its node finds other pods there than those of the others.
        let patch = json!({"spec": {"externalTrafficPolicy": "Local", "selector": {"app": "mail"}}});
        c.admin.patch::<Service>("default", "mail", None, PatchKind::Merge, &patch).await.unwrap();
        c.until("it is told", refused("mail", "with the same selector")).await;
        c.until("it has none", |cache| address(cache, "mail").is_none().then_some(())).await;
        assert_eq!(announcer(&c.cache, "mail"), None);
    });
}

/// Traffic that stays on the node that it comes to must come to one with endpoints, for all that share the address.
#[test]
fn those_that_share_an_address_are_announced_where_their_endpoints_are() {
    let pool = Some("192.0.2.1-192.0.2.9".parse().unwrap());
    test_on(Config { load_balancer_pool: pool, ..config() }, "10.96.0.0/16", async |c| {
        for node in ["n1", "n2", "n3"] {
            c.node(node).await;
        }
        for (name, port) in [("web", 80), ("secure", 443)] {
            c.create::<Service>(json!({"metadata": {"name": name, "namespace": "default"},
                "spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.7", "externalTrafficPolicy": "Local",
                    "selector": {"app": "web"}, "ports": [{"port": port}]}}))
                .await;
        }
        let both = |cache: &Cache| Some((address(cache, "web")?, address(cache, "secure")?));
        c.until("both have it", both).await;
        assert_eq!([announcer(&c.cache, "web"), announcer(&c.cache, "secure")], [None, None], "nobody can");
        let on = |node: &'static str| {
            move |cache: &Cache| {
                let all = [announcer(cache, "web")?, announcer(cache, "secure")?];
                (all == [node, node]).then_some(())
            }
        };
        let pod = async |name: &str, node: &str| {
            c.create::<Pod>(
                json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "app:1"}]}}),
            )
            .await;
        };
        pod("a", "n2").await;
        c.settle("the one with the pod", on("n2")).await;
        // It stays while it can.
        pod("b", "n1").await;
        pod("c", "n3").await;
        let serving = |cache: &Cache| {
            let slices = cache.list::<EndpointSlice>("default");
            let ours = slices.iter().filter(|slice| {
                let service = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME));
                service.is_some_and(|service| ["web", "secure"].contains(&service.as_str()))
            });
            let endpoints = ours.flat_map(|slice| slice.endpoints.iter().flatten());
            let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true));
            (ready.count() == 6).then_some(())
        };
        c.settle("all serve", serving).await;
        assert_eq!(on("n2")(&c.cache), Some(()));
        c.admin.delete::<Pod>("default", "b", None, Some(0)).await.unwrap();
        c.admin.delete::<Pod>("default", "a", None, Some(0)).await.unwrap();
        c.until("the one that is left", on("n3")).await;
    });
}
