//! Services and what stands behind them: Endpoints and EndpointSlices, those of the API server itself, statuses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, collection, is_owned_by, items, name, pod};

/// The label that says whose a slice is.
const SERVICE: &str = "kubernetes.io/service-name";

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": name}}, "spec": spec})
}

fn slices(scene: &Scene, service: &str) -> String {
    let query = format!("?labelSelector={}%3D{service}", SERVICE.replace('/', "%2F"));
    scene.at("discovery.k8s.io/v1", "endpointslices") + &query
}

fn without_pods(scene: &Scene) -> (String, Value, Value) {
    let spec =
        json!({"selector": {"app": "nobody"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]});
    let made = scene.create(&scene.core("services"), &service("empty", spec));
    let endpoints = scene.until(&format!("{}/empty", scene.core("endpoints")), |_| true);
    let found = scene.until_items(&slices(scene, "empty"), |slices| slices.len() == 1);
    assert_eq!(endpoints["subsets"], Value::Null);
    (format!("{}/empty", scene.core("services")), made, found[0].clone())
}

pub fn slices_without_pods(scene: &Scene) {
    let (path, service, slice) = without_pods(scene);
    assert!(slice["endpoints"].as_array().is_none_or(Vec::is_empty), "{slice}");
    assert!(is_owned_by(&slice, &service));
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    scene.api.delete(&path).ok();
    scene.until_items(&slices(scene, "empty"), <[Value]>::is_empty);
}

pub fn endpoints_without_pods(scene: &Scene) {
    let (path, _, _) = without_pods(scene);
    scene.api.delete(&path).ok();
    scene.until_gone(&format!("{}/empty", scene.core("endpoints")));
}

pub fn pods_behind_a_service(scene: &Scene) {
    let ports = json!([{"name": "web", "port": 80, "targetPort": 3000}, {"name": "named", "port": 81, "targetPort": "n"}]);
    let spec = json!({"selector": {"app": "web"}, "ports": ports});
    scene.create(&scene.core("services"), &service("front", spec));
    // Slices leave out pods whose node nobody knows.
    let node = scene.node(1);
    for one in ["one", "two"] {
        let mut object = pod(one, "web");
        object["spec"]["containers"][0]["ports"] = json!([{"name": "n", "containerPort": 3001}]);
        object["spec"]["hostname"] = one.into();
        object["spec"]["nodeName"] = node.as_str().into();
        object["spec"]["subdomain"] = "front".into();
        scene.create(&scene.core("pods"), &object);
    }
    let address = |host: u8| {
        json!({"phase": "Running", "podIP": format!("10.9.8.{host}"),
        "podIPs": [{"ip": format!("10.9.8.{host}")}], "conditions": [{"type": "Ready", "status": "True"}]})
    };
    scene.pod_status("one", &address(1));
    let ready = |slice: &Value, pod: &str| {
        let all = slice["endpoints"].as_array();
        all.and_then(|all| all.iter().find(|one| one["targetRef"]["name"] == pod).cloned())
            .unwrap_or_default()
    };
    let found = scene.until_items(&slices(scene, "front"), |slices| {
        slices.iter().any(|slice| ready(slice, "one")["conditions"]["ready"] == true)
    });
    assert_eq!(found.len(), 1);
    let endpoint = ready(&found[0], "one");
    assert_eq!((&endpoint["addresses"], &endpoint["hostname"]), (&json!(["10.9.8.1"]), &json!("one")));
    let ports: Vec<_> =
        found[0]["ports"].as_array().expect("ports").iter().map(|p| p["port"].clone()).collect();
    assert!(ports.contains(&json!(3000)) && ports.contains(&json!(3001)), "{ports:?}");

    let addresses = |endpoints: &Value, field: &str| {
        let subsets = endpoints["subsets"].as_array().cloned().unwrap_or_default();
        let all = subsets.iter().flat_map(|s| s[field].as_array().cloned().unwrap_or_default());
        all.filter_map(|a| a["ip"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let endpoints = format!("{}/front", scene.core("endpoints"));
    scene.until(&endpoints, |endpoints| addresses(endpoints, "addresses") == ["10.9.8.1"]);
    scene.pod_status("two", &address(2));
    scene.until(&endpoints, |endpoints| addresses(endpoints, "addresses") == ["10.9.8.1", "10.9.8.2"]);
    let now = json!({"gracePeriodSeconds": 0});
    scene.api.delete_with(&format!("{}/one", scene.core("pods")), &now).ok();
    scene.until(&endpoints, |endpoints| addresses(endpoints, "addresses") == ["10.9.8.2"]);
    scene.until_items(&slices(scene, "front"), |slices| {
        slices.iter().all(|slice| slice["endpoints"].as_array().map(Vec::len) == Some(1))
    });
}

pub fn endpoints_are_mirrored(scene: &Scene) {
    let listed = scene.get("/apis/discovery.k8s.io/v1");
    let resources = listed["resources"].as_array().expect("resources");
    assert!(resources.iter().any(|one| one["name"] == "endpointslices"));

    let ports = json!([{"name": "example", "port": 80, "protocol": "TCP"}]);
    scene.create(&scene.core("services"), &service("outside", json!({"ports": ports})));
    let endpoints = |ip: &str| {
        json!({"metadata": {"name": "outside"}, "subsets": [{"addresses": [{"ip": ip}],
            "ports": [{"name": "example", "port": 9000, "protocol": "TCP"}]}]})
    };
    let path = format!("{}/outside", scene.core("endpoints"));
    let made = scene.create(&scene.core("endpoints"), &endpoints("10.1.2.3"));
    let leads_to = |slices: &[Value], ip: &str| {
        slices.len() == 1 && slices[0]["endpoints"][0]["addresses"] == json!([ip])
    };
    let found = scene.until_items(&slices(scene, "outside"), |slices| leads_to(slices, "10.1.2.3"));
    let labels = &found[0]["metadata"]["labels"];
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!(found[0]["ports"], json!([{"name": "example", "port": 9000, "protocol": "TCP"}]));
    assert!(is_owned_by(&found[0], &made));
    scene.update(&path, |object| object["subsets"] = endpoints("10.2.3.4")["subsets"].clone());
    scene.until_items(&slices(scene, "outside"), |slices| leads_to(slices, "10.2.3.4"));
    scene.api.delete(&path).ok();
    scene.until_items(&slices(scene, "outside"), <[Value]>::is_empty);
}

pub fn api_server_has_endpoints(scene: &Scene) {
    let service = scene.until("/api/v1/namespaces/default/services/kubernetes", |_| true);
    assert_eq!(service["spec"]["ports"][0]["name"], "https");
    let endpoints = scene.until("/api/v1/namespaces/default/endpoints/kubernetes", |endpoints| {
        endpoints["subsets"][0]["addresses"].as_array().is_some_and(|all| !all.is_empty())
    });
    let port = scene.plane.url("").rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"].as_u64(), port.map(u64::from));
    let query = format!("?labelSelector={}%3Dkubernetes", SERVICE.replace('/', "%2F"));
    let found = scene.items(&(collection("discovery.k8s.io/v1", "default", "endpointslices") + &query));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["endpoints"][0]["addresses"][0], endpoints["subsets"][0]["addresses"][0]["ip"]);
    assert_eq!(found[0]["ports"][0]["port"], endpoints["subsets"][0]["ports"][0]["port"]);
}

pub fn kubernetes_is_a_service(scene: &Scene) {
    let service = scene.get("/api/v1/namespaces/default/services/kubernetes");
    assert_eq!(
        (&service["spec"]["type"], &service["spec"]["ports"][0]["port"]),
        (&json!("ClusterIP"), &json!(443))
    );
    let all = scene.items("/api/v1/services");
    let here = |one: &&Value| name(one) == "kubernetes" && one["metadata"]["namespace"] == "default";
    assert_eq!(all.iter().filter(here).count(), 1);
}

pub fn service_status(scene: &Scene) {
    let path = format!("{}/balanced", scene.core("services"));
    let status = format!("{path}/status");
    let spec = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/mine",
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}]});
    scene.create(&scene.core("services"), &service("balanced", spec));
    assert_eq!(scene.get(&status)["status"], json!({"loadBalancer": {}}));
    let list = format!("{}?fieldSelector=metadata.name%3Dbalanced", scene.core("services"));
    let version = scene.get(&list)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = scene.api.watch(&format!("{list}&resourceVersion={version}"));

    let change = json!({"metadata": {"annotations": {"patched": "yes"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let patched = scene.api.merge(&status, &change).ok();
    assert_eq!(patched["status"]["loadBalancer"]["ingress"][0]["ip"], "203.0.113.1");
    watch.until("MODIFIED", |one| one["metadata"]["annotations"]["patched"] == "yes");
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "ByHand", "message": "set by hand",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let updated = scene.update(&status, |one| one["status"]["conditions"] = json!([condition]));
    assert_eq!(updated["status"]["conditions"], json!([condition]));
    watch.until("MODIFIED", |one| one["status"]["conditions"][0]["type"] == "StatusUpdate");
    let change = json!({"metadata": {"labels": {"patched": "yes"}}});
    scene.api.patch(Patch::Strategic, &path, &change).ok();
    let seen = watch.until("MODIFIED", |one| one["metadata"]["labels"]["patched"] == "yes");
    assert_eq!(seen["status"]["loadBalancer"]["ingress"][0]["ip"], "203.0.113.1");
    scene.api.delete(&path).ok();
    watch.until("DELETED", |_| true);
}

pub fn services_are_deleted_by_label(scene: &Scene) {
    let services = scene.core("services");
    for (name, of) in [("a", "group"), ("b", "group"), ("c", "other")] {
        let mut object = service(name, json!({"ports": [{"port": 80}], "selector": {"app": name}}));
        object["metadata"]["labels"] = json!({"of": of});
        scene.create(&services, &object);
    }
    assert_eq!(scene.items(&services).len(), 3);
    scene.api.delete(&format!("{services}?labelSelector=of%3Dgroup")).ok();
    let left = scene.until_items(&services, |left| left.len() == 1);
    assert_eq!(name(&left[0]), "c");
}

pub fn types_of_a_service_change(scene: &Scene) {
    let path = format!("{}/changing", scene.core("services"));
    let spec = json!({"type": "ExternalName", "externalName": "example.com"});
    let made = scene.create(&scene.core("services"), &service("changing", spec));
    assert_eq!(made["spec"]["clusterIP"], Value::Null);
    let ports = json!([{"port": 80, "protocol": "TCP"}]);
    let become_ = |change: &dyn Fn(&mut Value)| scene.update(&path, |one| change(&mut one["spec"]));
    let inside = become_(&|spec| {
        *spec = json!({"type": "ClusterIP", "ports": ports, "selector": {"app": "x"}});
    });
    let address = inside["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert!(scene.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}"))["spec"].is_object());
    let outside = become_(&|spec| {
        *spec = json!({"type": "ExternalName", "externalName": "example.com", "ports": ports});
    });
    assert_eq!(outside["spec"]["clusterIP"], Value::Null);
    scene.until_gone(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}"));
    let on_nodes = become_(&|spec| {
        *spec = json!({"type": "NodePort", "ports": ports, "selector": {"app": "x"}});
    });
    assert!(
        on_nodes["spec"]["ports"][0]["nodePort"].as_u64().is_some_and(|port| port >= 30000),
        "{on_nodes}"
    );
    let outside = become_(&|spec| {
        *spec = json!({"type": "ExternalName", "externalName": "example.com", "ports": ports});
    });
    assert_eq!(outside["spec"]["ports"][0]["nodePort"], Value::Null);
}

pub fn lifecycle_of_endpoints(scene: &Scene) {
    let path = format!("{}/mine", scene.core("endpoints"));
    let list = format!("{}?labelSelector=of%3Dmine", scene.core("endpoints"));
    let object = json!({"metadata": {"name": "mine", "labels": {"of": "mine"}}, "subsets": [
        {"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]});
    let mut watch = scene.api.watch(&list);
    scene.create(&scene.core("endpoints"), &object);
    watch.until("ADDED", |one| name(one) == "mine");
    scene.update(&path, |one| one["metadata"]["labels"]["updated"] = "yes".into());
    watch.until("MODIFIED", |one| one["metadata"]["labels"]["updated"] == "yes");
    assert_eq!(items(&scene.get("/api/v1/endpoints?labelSelector=of%3Dmine,updated%3Dyes")).len(), 1);
    let change = json!({"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [
        {"name": "http-test", "port": 8080, "protocol": "TCP"}]}]});
    scene.api.patch(Patch::Strategic, &path, &change).ok();
    let seen = watch.until("MODIFIED", |one| one["subsets"][0]["addresses"][0]["ip"] == "10.0.0.25");
    assert_eq!(seen["subsets"][0]["ports"], json!([{"name": "http-test", "port": 8080, "protocol": "TCP"}]));
    scene.api.delete(&list).ok();
    watch.until("DELETED", |one| name(one) == "mine");
}

/// Services that are made at a time.
const MANY: usize = 100;

/// What upstream measures the time of is held to no time here: every one of many Services gets its endpoints.
pub fn many_services_get_endpoints(scene: &Scene) {
    let node = scene.node(1);
    let mut object = pod("one", "many");
    object["spec"]["nodeName"] = node.as_str().into();
    scene.create(&scene.core("pods"), &object);
    scene.pod_ready("one");
    let spec = json!({"selector": {"app": "many"}, "ports": [{"port": 80, "targetPort": 8080}]});
    let names: BTreeSet<String> = (0..MANY).map(|n| format!("latency-{n}")).collect();
    for name in &names {
        scene.create(&scene.core("services"), &service(name, spec.clone()));
    }
    let address = json!(["10.9.8.7"]);
    scene.until_items(&scene.at("discovery.k8s.io/v1", "endpointslices"), |slices| {
        let answered = slices.iter().filter(|slice| slice["endpoints"][0]["addresses"] == address);
        let answered = answered.filter(|slice| slice["ports"][0]["port"] == 8080);
        let of: BTreeSet<_> = answered.filter_map(|s| s["metadata"]["labels"][SERVICE].as_str()).collect();
        names.iter().all(|name| of.contains(name.as_str()))
    });
    scene.until_items(&scene.core("endpoints"), |endpoints| {
        let answered = endpoints.iter().filter(|e| e["subsets"][0]["addresses"][0]["ip"] == address[0]);
        let of: BTreeSet<_> = answered.map(name).collect();
        names.iter().all(|name| of.contains(name.as_str()))
    });
}

/// The addresses of a balanced Service's status, once there are so many.
fn balanced(scene: &Scene, name: &str, count: usize) -> Vec<String> {
    let found = scene.until(&format!("{}/{name}", scene.core("services")), |service| {
        service["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|all| all.len() == count)
    });
    let all = found["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    assert!(all.iter().all(|one| one["ipMode"] == "VIP"), "{found}");
    all.iter().filter_map(|one| one["ip"].as_str().map(str::to_owned)).collect()
}

pub fn balanced_services_have_an_address_a_family(scene: &Scene) {
    let services = scene.core("services");
    let make = |name: &str, policy: &str, families: &[&str]| {
        let spec = json!({"type": "LoadBalancer", "ipFamilyPolicy": policy, "ipFamilies": families,
            "ports": [{"port": 80}]});
        scene.create(&services, &service(name, spec));
    };
    make("both", "RequireDualStack", &["IPv6", "IPv4"]);
    let both = balanced(scene, "both", 2);
    assert!(both[0].contains(':') && both[1].contains('.'), "in the order of its families: {both:?}");
    make("six", "SingleStack", &["IPv6"]);
    let six = balanced(scene, "six", 1);
    assert!(six[0].contains(':') && six[0] != both[0], "{six:?}");
    make("four", "SingleStack", &["IPv4"]);
    assert!(balanced(scene, "four", 1)[0].contains('.'));
    // What it no longer is, it has no addresses of.
    scene.update(&format!("{services}/both"), |one| {
        one["spec"] = json!({"type": "ClusterIP", "ports": [{"port": 80}]})
    });
    scene.until(&format!("{services}/both"), |one| one["status"] == json!({"loadBalancer": {}}));
}

pub fn balanced_services_share_an_address(scene: &Scene) {
    let services = scene.core("services");
    let make = |name: &str, port: u16| {
        let spec =
            json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.200", "ports": [{"port": port}]});
        scene.create(&services, &service(name, spec));
    };
    make("web", 80);
    make("mail", 25);
    for name in ["web", "mail"] {
        assert_eq!(balanced(scene, name, 1), ["192.0.2.200"], "{name}");
    }
    make("clash", 80);
    let told = scene.until_items(&scene.core("events"), |events| {
        let about = |event: &&Value| event["involvedObject"]["name"] == "clash" && event["type"] == "Warning";
        events.iter().any(|event| about(&event))
    });
    let told = told.iter().find(|event| event["involvedObject"]["name"] == "clash").expect("an event");
    assert_eq!(told["reason"], "SyncLoadBalancerFailed");
    let why = told["message"].as_str().unwrap_or_default();
    assert!(why.contains("port 80/TCP of the address 192.0.2.200"), "{why}");
    assert!(why.contains(&format!("the Service {}/web", scene.ns)), "{why}");
    assert_eq!(scene.get(&format!("{services}/clash"))["status"], json!({"loadBalancer": {}}));
    // The one goes: the other keeps the address, and the port is free.
    scene.api.delete(&format!("{services}/web")).ok();
    assert_eq!(balanced(scene, "clash", 1), ["192.0.2.200"]);
    assert_eq!(balanced(scene, "mail", 1), ["192.0.2.200"]);
}
