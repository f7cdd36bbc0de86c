//! How clients find out what is served: versions, groups, resources, one by one and all together.

use serde_json::{Value, json};

use crate::crds::{declare, open};
use crate::plane::version;
use crate::scene::Scene;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Groups that tests registered, whose servers are not there.
fn is_a_tests(group: &Value) -> bool {
    group["name"].as_str().is_some_and(|name| name.ends_with("example.com") || name.ends_with("example.org"))
}

fn groups(scene: &Scene) -> Vec<Value> {
    let all = scene.get("/apis")["groups"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|group| !is_a_tests(group)).collect()
}

pub fn preferred_versions(scene: &Scene) {
    let groups = groups(scene);
    assert!(groups.len() > 15, "{}", groups.len());
    for group in groups {
        let preferred = &group["preferredVersion"];
        let versions = group["versions"].as_array().expect("versions");
        assert!(versions.contains(preferred), "{group}");
        let one = scene.get(&format!("/apis/{}", group["name"].as_str().expect("a name")));
        assert_eq!(one["preferredVersion"], *preferred);
    }
}

pub fn resources_of_every_group(scene: &Scene) {
    for group in groups(scene) {
        for version in group["versions"].as_array().expect("versions") {
            let version = version["groupVersion"].as_str().expect("a version");
            let list = scene.get(&format!("/apis/{version}"));
            assert_eq!(list["groupVersion"], version);
            assert!(list["resources"].as_array().is_some_and(|all| !all.is_empty()), "{list}");
        }
    }
    let core = scene.get("/api/v1");
    assert!(core["resources"].as_array().expect("resources").iter().any(|one| one["name"] == "pods"));
}

/// Whether a resource is in an aggregated document.
fn has(document: &Value, group: &str, version: &str, plural: &str) -> bool {
    let groups = document["items"].as_array().expect("groups");
    let group = groups.iter().find(|one| one["metadata"]["name"].as_str().unwrap_or_default() == group);
    let versions = group.and_then(|group| group["versions"].as_array());
    let version = versions.and_then(|all| all.iter().find(|one| one["version"] == version));
    let resources = version.and_then(|version| version["resources"].as_array());
    resources.is_some_and(|all| all.iter().any(|one| one["resource"] == plural))
}

const BUILT_IN: [(&str, &str, &str, &str); 6] = [
    ("/api", "", "v1", "namespaces"),
    ("/api", "", "v1", "pods"),
    ("/apis", "apps", "v1", "deployments"),
    ("/apis", "rbac.authorization.k8s.io", "v1", "roles"),
    ("/apis", "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies"),
    ("/apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"),
];

pub fn all_together(scene: &Scene) {
    for (root, group, version, plural) in BUILT_IN {
        let answer = scene.api.get_as(root, AGGREGATED);
        assert_eq!(answer.media_type, AGGREGATED);
        let document = answer.ok();
        assert_eq!(document["kind"], "APIGroupDiscoveryList");
        assert!(has(&document, group, version, plural), "{group}/{version} {plural}");
    }
}

pub fn by_what_is_accepted(scene: &Scene) {
    // Whoever names several forms gets the first that there is.
    let older = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    for root in ["/api", "/apis"] {
        let either = format!("{AGGREGATED},application/json");
        assert_eq!(scene.api.get_as(root, &either).media_type, AGGREGATED);
        let plain = scene.api.get_as(root, "application/json");
        assert_eq!(plain.media_type, "application/json");
        let kind = if root == "/api" { "APIVersions" } else { "APIGroupList" };
        assert_eq!(plain.ok()["kind"], kind);
        let unknown = "application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList";
        assert_eq!(scene.api.get_as(root, unknown).code, 406, "{root}");
        assert_eq!(scene.api.get_as(root, &format!("{unknown},application/json")).ok()["kind"], kind);
        assert_eq!(scene.api.get_as(root, &format!("{older},{AGGREGATED}")).code, 200);
    }
}

pub fn declared_kinds_all_together(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, open())]));
    let ask = || scene.api.get_as("/apis", AGGREGATED);
    let seen = scene.until_answered(ask, |answer| has(&answer.body, &group, "v1", &plural)).ok();
    let found = seen["items"]
        .as_array()
        .expect("groups")
        .iter()
        .find(|one| one["metadata"]["name"] == group.as_str());
    let resource = &found.expect("the group")["versions"][0]["resources"][0];
    assert_eq!((&resource["responseKind"]["kind"], &resource["scope"]), (&json!(kind), &json!("Namespaced")));
    assert!(scene.plane.kubectl(&["api-resources", "--api-group", &group]).contains(&plural));
}

pub fn version_of_the_server(scene: &Scene) {
    let version = scene.get("/version");
    for field in ["major", "minor"] {
        let value = version[field].as_str().expect("a number");
        assert!(value.parse::<u32>().is_ok(), "{value}");
    }
}

pub fn tables_that_nobody_makes(scene: &Scene) {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}).to_string();
    let headers = [("accept", table), ("content-type", "application/json")];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let said = scene.api.ask(reqwest::Method::POST, path, &headers, review);
    assert_eq!((said.code, &said.body["reason"]), (406, &json!("NotAcceptable")), "{said:?}");
}

pub fn tables(scene: &Scene) {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let pods = scene.core("pods");
    scene.create(&pods, &crate::scene::pod("shown", "x"));
    let seen = scene.api.get_as(&format!("{pods}/shown"), table).ok();
    assert_eq!((&seen["kind"], &seen["rows"][0]["cells"][0]), (&json!("Table"), &json!("shown")));
    assert_eq!(seen["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let names: Vec<_> =
        seen["columnDefinitions"].as_array().expect("columns").iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names[..5], ["Name", "Ready", "Status", "Restarts", "Age"].map(Value::from));
    // In chunks, too.
    for number in 0..5 {
        scene.create(
            &scene.core("podtemplates"),
            &json!({"metadata": {"name": format!("t{number}")},
            "template": crate::scene::template("x")}),
        );
    }
    let first = scene.api.get_as(&format!("{}?limit=2", scene.core("podtemplates")), table).ok();
    assert_eq!(first["rows"].as_array().map(Vec::len), Some(2));
    let next = first["metadata"]["continue"].as_str().expect("there is more");
    let rest = scene.api.get_as(&format!("{}?continue={next}", scene.core("podtemplates")), table).ok();
    assert_eq!(rest["rows"].as_array().map(Vec::len), Some(3));
}
