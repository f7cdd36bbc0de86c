//! Decisions by tables, on a cache that holds the default roles and a few objects.

use protocol::{ApiRequest, Caller, Target, Verb};
use serde_json::{Value, json};

use super::*;
use crate::bootstrap;
use crate::cache::Cache;
use crate::store::{Batch, Event, Record, key, parse_key};

mod identity;

/// A cache that is written to directly.
struct World {
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let settings = bootstrap::Settings {
            advertise_address: [192, 0, 2, 2].into(),
            port: 6443,
            service_address: [10, 96, 0, 1].into(),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            client_ca: String::new(),
            front_proxy_ca: String::new(),
            request_headers: crate::auth::request_header::RequestHeaders::own(),
        };
        let records = bootstrap::objects(&settings)
            .into_iter()
            .map(|seed| record(&seed.key, &seed.object, 2))
            .collect();
        let cache = Cache::new();
        cache.load(records, 2);
        World { cache }
    }

    fn put(&self, group: &str, resource: &str, object: Value) -> &Self {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let key = key(group, resource, &text("namespace"), &text("name"));
        let revision = self.cache.revision() + 1;
        let record = record(&key, &object, revision);
        let event = Event { key, trace: record.trace, record: Some(record) };
        self.cache.apply(vec![Batch { revision, events: vec![event] }]);
        self
    }

    fn delete(&self, group: &str, resource: &str, namespace: &str, name: &str) {
        let event =
            Event { key: key(group, resource, namespace, name), record: None, trace: Default::default() };
        let revision = self.cache.revision() + 1;
        self.cache.apply(vec![Batch { revision, events: vec![event] }]);
    }

    fn role(&self, namespace: &str, name: &str, rules: Value) -> &Self {
        let (resource, kind) =
            if namespace.is_empty() { ("clusterroles", "ClusterRole") } else { ("roles", "Role") };
        self.put(
            rbac::GROUP,
            resource,
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": meta(namespace, name), "rules": rules,
            }),
        )
    }

    fn bind(&self, namespace: &str, name: &str, role: (&str, &str), subject: Value) -> &Self {
        let (resource, kind) = if namespace.is_empty() {
            ("clusterrolebindings", "ClusterRoleBinding")
        } else {
            ("rolebindings", "RoleBinding")
        };
        self.put(
            rbac::GROUP,
            resource,
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta(namespace, name),
                "roleRef": {"apiGroup": rbac::GROUP, "kind": role.0, "name": role.1}, "subjects": [subject],
            }),
        )
    }
}

fn meta(namespace: &str, name: &str) -> Value {
    if namespace.is_empty() { json!({"name": name}) } else { json!({"name": name, "namespace": namespace}) }
}

fn record(key: &str, object: &Value, revision: u64) -> Record {
    assert!(parse_key(key).is_some(), "{key}");
    Record {
        key: key.to_owned(),
        value: object.to_string().into(),
        trace: Default::default(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
    }
}

fn user(name: &str) -> Value {
    json!({"apiGroup": rbac::GROUP, "kind": "User", "name": name})
}

fn who(name: &str, groups: &[&str]) -> Caller {
    Caller::component(name, groups)
}

/// `verb group/resource[/sub] [namespace] [name]`; `-` is nothing.
fn ask(caller: &Caller, text: &str) -> Attributes {
    let mut words = text.split(' ').map(|w| if w == "-" { "" } else { w }.to_owned());
    let mut next = || words.next().unwrap_or_default();
    let (verb, resource, namespace, name) = (next(), next(), next(), next());
    if resource.starts_with('/') {
        return Attributes::path(caller.clone().into(), &verb, &resource);
    }
    let (group, resource) = resource.split_once(':').unwrap_or(("", &resource));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        caller: caller.clone().into(),
        verb,
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace,
        name,
        ..Attributes::default()
    }
}

fn check(authorizer: &ClusterAuthorizer, caller: &Caller, table: &[(&str, bool)]) {
    for (text, wanted) in table {
        let decision = authorizer.decide(&ask(caller, text));
        assert_eq!(decision.is_allowed(), *wanted, "{} {text}: {decision:?}", caller.user);
    }
}

#[test]
fn rules_cover_what_they_say() {
    let world = World::new();
    world
        .role("a", "r", json!([
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"], "resourceNames": ["only"]},
            {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["update"]},
        ]))
        .bind("a", "b", ("Role", "r"), user("jane"));
    let authorizer = ClusterAuthorizer::new(world.cache.clone());
    check(
        &authorizer,
        &who("jane", &[]),
        &[
            ("get pods a x", true),
            ("list pods a", true),
            ("get pods/log a x", true),
            ("get pods/exec a x", false),
            ("create pods a", false),
            ("get pods b x", false),
            ("list pods -", false),
            ("delete configmaps a only", true),
            ("delete configmaps a other", false),
            ("deletecollection configmaps a", false),
            ("golden apps:deployments a x", true),
            ("update apps:deployments/status a x", true),
            ("update batch:jobs/scale a x", true),
            ("update batch:jobs a x", false),
            ("* pods a", false),
        ],
    );
    let allowed = authorizer.decide(&ask(&who("jane", &[]), "get pods a x"));
    assert_eq!(allowed.reason(), "RBAC: allowed by RoleBinding \"b/a\" of Role \"r\" to User \"jane\"");
    check(&authorizer, &who("john", &[]), &[("get pods a x", false)]);
}

#[test]
fn default_roles_hold() {
    let world = World::new();
    let authorizer = ClusterAuthorizer::new(world.cache.clone());
    let anyone = who("jane", &[]);
    check(
        &authorizer,
        &anyone,
        &[
            ("get /version", true),
            ("get /apis/apps/v1", true),
            ("get /healthz", true),
            ("get /metrics", false),
            ("create authorization.k8s.io:selfsubjectaccessreviews -", true),
            ("list pods default", false),
        ],
    );
    check(
        &authorizer,
        &authenticate::anonymous(),
        &[
            ("get /version", true),
            ("get /apis", false),
            ("create authorization.k8s.io:selfsubjectaccessreviews -", false),
        ],
    );
    check(&authorizer, &who("root", &[MASTERS]), &[("delete nodes - n1", true), ("get /metrics", true)]);
    check(
        &authorizer,
        &who("prometheus", &["system:monitoring"]),
        &[("get /metrics", true), ("post /metrics", false)],
    );
    let controller = who("system:serviceaccount:kube-system:replicaset-controller", &[]);
    check(&authorizer, &controller, &[("create pods default", true), ("create secrets default", false)]);
    let reason = authorizer.decide(&ask(&controller, "create pods default")).reason().to_owned();
    let wanted = "RBAC: allowed by ClusterRoleBinding \"system:controller:replicaset-controller\" of ClusterRole \
        \"system:controller:replicaset-controller\" to ServiceAccount \"replicaset-controller/kube-system\"";
    assert_eq!(reason, wanted);
    check(&authorizer, &who("system:bootstrap:abcdef", &["system:bootstrappers"]), &[("list pods -", false)]);
}

#[test]
fn decisions_follow_the_cache() {
    let world = World::new();
    let authorizer = ClusterAuthorizer::new(world.cache.clone());
    let jane = who("jane", &["dev"]);
    let question = [("get secrets a x", true)];
    let refused = [("get secrets a x", false)];
    check(&authorizer, &jane, &refused);
    let group = json!({"apiGroup": rbac::GROUP, "kind": "Group", "name": "dev"});
    world.bind("a", "b", ("ClusterRole", "team"), group.clone());
    let missing = authorizer.decide(&ask(&jane, "get secrets a x"));
    assert_eq!(
        missing,
        Decision::NoOpinion("RBAC: clusterrole.rbac.authorization.k8s.io \"team\" not found".to_owned())
    );
    // An aggregating role is what its parts are, at once.
    let team = |rules: &Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "team"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"team": "yes"}}]}, "rules": rules,
        })
    };
    world.put(rbac::GROUP, "clusterroles", team(&Value::Null));
    check(&authorizer, &jane, &refused);
    let part = |label: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "part", "labels": {"team": label}},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
        })
    };
    world.put(rbac::GROUP, "clusterroles", part("yes"));
    check(&authorizer, &jane, &question);
    // The rules that the role has been given too are told once.
    world.put(rbac::GROUP, "clusterroles", team(&part("yes")["rules"]));
    let role = serde_json::from_value(json!({"kind": "ClusterRole", "name": "team"})).expect("a role");
    assert_eq!(authorizer.rbac().role_rules("", &role).map(|rules| rules.len()), Some(1));
    world.put(rbac::GROUP, "clusterroles", team(&Value::Null));
    world.put(rbac::GROUP, "clusterroles", part("no"));
    check(&authorizer, &jane, &refused);
    world.put(rbac::GROUP, "clusterroles", part("yes"));
    check(&authorizer, &jane, &question);
    // A binding whose subject changes lets the old one go; a deleted one everybody.
    world.bind("a", "b", ("ClusterRole", "team"), user("john"));
    check(&authorizer, &jane, &refused);
    check(&authorizer, &who("john", &[]), &question);
    world.delete(rbac::GROUP, "rolebindings", "a", "b");
    check(&authorizer, &who("john", &[]), &refused);
}

#[test]
fn refusals_are_worded_as_upstream_words_them() {
    let message = |attributes: &Attributes, reason: &str| attributes.forbidden(reason).to_string();
    let jane = who("jane", &[]);
    for (text, wanted) in [
        (
            "list pods default",
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "get nodes - n",
            "nodes \"n\" is forbidden: User \"jane\" cannot get resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        (
            "get apps:deployments/scale a x",
            "deployments.apps \"x\" is forbidden: User \"jane\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"a\"",
        ),
        ("get /metrics", "forbidden: User \"jane\" cannot get path \"/metrics\""),
    ] {
        assert_eq!(message(&ask(&jane, text), ""), wanted);
    }
    assert!(message(&ask(&jane, "get nodes - n"), "because").ends_with("at the cluster scope: because"));
}

#[test]
fn a_list_of_one_name_is_a_read_of_that_name() {
    let target = Target { version: "v1".to_owned(), resource: "secrets".to_owned(), ..Target::default() };
    let mut request = ApiRequest::new(Verb::List, target);
    request.options.field_selector = Some("metadata.name=x,type!=y".to_owned());
    let attributes = Attributes::of(&request);
    assert_eq!((attributes.verb.as_str(), attributes.name.as_str()), ("list", "x"));
    assert_eq!(attributes.field_equals, [("metadata.name".to_owned(), "x".to_owned())]);
    // Options that cannot be read name nobody.
    request.options.label_selector = Some("exists(app)".to_owned());
    let attributes = Attributes::of(&request);
    assert_eq!((attributes.name.as_str(), attributes.field_equals.len()), ("", 0));
}

#[test]
fn grants_need_what_they_grant() {
    let rules = |value: Value| serde_json::from_value::<Vec<PolicyRule>>(value).unwrap();
    let owned = rules(json!([
        {"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["mine"]},
        {"nonResourceURLs": ["/logs/*"], "verbs": ["get"]},
    ]));
    for (wanted, missing) in [
        (json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]), 0),
        (json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}]), 1),
        (json!([{"apiGroups": ["", "apps"], "resources": ["pods"], "verbs": ["get"]}]), 1),
        (json!([{"apiGroups": [""], "resources": ["jobs/scale"], "verbs": ["list"]}]), 0),
        (json!([{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]), 1),
        (
            json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["mine"]}]),
            0,
        ),
        (json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]), 1),
        (json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["x"]}]), 0),
        (json!([{"nonResourceURLs": ["/logs/x", "/logs/*"], "verbs": ["get"]}]), 0),
        (json!([{"nonResourceURLs": ["*"], "verbs": ["get"]}]), 1),
        (json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]), 1),
    ] {
        assert_eq!(rbac::uncovered(&owned, &rules(wanted.clone())).len(), missing, "{wanted}");
    }
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}")},
        "spec": {
            "nodeName": node, "serviceAccountName": "runner", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "env": [
                {"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
                {"name": "F", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "k"}}}],
                "envFrom": [{"secretRef": {"name": "all"}}]}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init"}}]}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "mounted"}},
                {"name": "c", "configMap": {"name": "mounted"}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "projected"}}]}},
                {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "e", "ephemeral": {}}],
            "resourceClaims": [{"name": "named", "resourceClaimName": "named"}, {"name": "made"}],
        },
        "status": {
            "resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "extended", "requestMappings": []},
        },
    })
}

/// The groups of a node on its link.
const LINKED: &[&str] = &["system:nodes", "troupe:node-links"];

#[test]
fn nodes_read_what_their_network_needs_on_their_links_only() {
    let authorizer = ClusterAuthorizer::new(World::new().cache);
    let beyond = ["list pods -", "list nodes -", "list networking.k8s.io:networkpolicies -"];
    for (groups, may) in [(LINKED, true), (&["system:nodes"], false)] {
        check(&authorizer, &who("system:node:n1", groups), &beyond.map(|question| (question, may)));
    }
}

#[test]
fn nodes_touch_what_is_theirs() {
    let world = World::new();
    world
        .put("", "pods", pod("web", "n1"))
        .put(
            "",
            "persistentvolumeclaims",
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "a", "name": "claim"}, "spec": {"volumeName": "vol"}}),
        )
        .put(
            "",
            "persistentvolumes",
            json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "vol"}, "spec": {"csi": {"driver": "d", "volumeHandle": "h",
            "nodeStageSecretRef": {"name": "stage", "namespace": "a"}}}}),
        );
    let authorizer = ClusterAuthorizer::new(world.cache.clone());
    let (n1, n2) = (who("system:node:n1", LINKED), who("system:node:n2", LINKED));
    let theirs = [
        "get secrets a mounted",
        "get secrets a env",
        "get secrets a all",
        "get secrets a pull",
        "get secrets a projected",
        "get secrets a stage",
        "watch secrets a mounted",
        "get configmaps a mounted",
        "get configmaps a env",
        "get configmaps a init",
        "get configmaps a projected",
        "get persistentvolumeclaims a claim",
        "get persistentvolumeclaims a web-e",
        "get persistentvolumes - vol",
        "create serviceaccounts/token a runner",
        "get resource.k8s.io:resourceclaims a named",
        "get resource.k8s.io:resourceclaims a made",
        "get resource.k8s.io:resourceclaims a extended",
        "get pods a web",
    ];
    for question in theirs {
        check(&authorizer, &n1, &[(question, true)]);
        check(&authorizer, &n2, &[(question, false)]);
    }
    check(
        &authorizer,
        &n1,
        &[
            ("get nodes - n1", true),
            ("get nodes - n2", false),
            // Routes and policies need all of these.
            ("list nodes -", true),
            ("list pods -", true),
            ("list networking.k8s.io:networkpolicies -", true),
            ("get pods b other", false),
            ("patch nodes/status - n1", true),
            ("delete nodes - n1", false),
            ("get coordination.k8s.io:leases kube-node-lease n1", true),
            ("update coordination.k8s.io:leases kube-node-lease n2", false),
            ("get coordination.k8s.io:leases default n1", false),
            ("get secrets b mounted", false),
            ("list secrets a", false),
            ("update secrets a mounted", false),
            ("list services -", true),
            ("create events a", true),
            ("create pods/eviction a web", true),
            ("create certificates.k8s.io:certificatesigningrequests -", true),
            ("get storage.k8s.io:csinodes - n1", true),
            ("get storage.k8s.io:csinodes - n2", false),
            ("create resource.k8s.io:resourceslices - a", true),
        ],
    );
    let mut own = ask(&n1, "watch pods -");
    own.field_equals = vec![("spec.nodeName".to_owned(), "n1".to_owned())];
    assert!(authorizer.decide(&own).is_allowed());
    let mut slices = ask(&n1, "deletecollection resource.k8s.io:resourceslices -");
    assert!(!authorizer.decide(&slices).is_allowed());
    slices.field_equals = vec![("spec.nodeName".to_owned(), "n1".to_owned())];
    assert!(authorizer.decide(&slices).is_allowed());
    let nobody = who("system:node:", &["system:nodes"]);
    assert_eq!(
        authorizer.decide(&ask(&nobody, "get pods a x")),
        Decision::NoOpinion("unknown node for user \"system:node:\"".to_owned())
    );
    for (question, reason) in [
        ("get serviceaccounts a x", "no relationship found between node 'n1' and this object"),
        ("list serviceaccounts a", "can only create tokens for individual service accounts"),
        ("create serviceaccounts a x", "can only create token subresource of serviceaccount"),
        (
            "list resource.k8s.io:resourceslices -",
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        ("get resource.k8s.io:resourceslices - x", "no relationship found between node 'n1' and this object"),
        ("get nodes - other", "node 'n1' cannot read 'other', only its own Node object"),
        ("get secrets a x", "no relationship found between node 'n1' and this object"),
        ("list secrets a", "No Object name found"),
        (
            "delete resource.k8s.io:resourceslices - other",
            "no relationship found between node 'n1' and this object",
        ),
        (
            "list resource.k8s.io:resourceslices -",
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        ("get resource.k8s.io:resourceslices/status - a", "cannot authorize ResourceSlice subresources"),
        (
            "get coordination.k8s.io:leases kube-node-lease other",
            "can only access node lease with the same name as the requesting node",
        ),
        ("delete nodes - x", ""),
    ] {
        assert_eq!(
            authorizer.decide(&ask(&n1, question)),
            Decision::NoOpinion(reason.to_owned()),
            "{question}"
        );
    }
    // Moved or gone, its things are no longer the node's.
    world.put("", "pods", pod("web", "n2"));
    check(&authorizer, &n1, &[("get secrets a mounted", false)]);
    check(&authorizer, &n2, &[("get secrets a mounted", true)]);
    world.delete("", "pods", "a", "web");
    check(&authorizer, &n2, &[("get secrets a mounted", false)]);
    // A name alone makes no node.
    check(&authorizer, &who("system:node:n1", &[]), &[("get nodes - n1", false)]);
    // Mirror pods refer to nothing: the node wrote them.
    let mut mirror = pod("mirror", "n1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    world.put("", "pods", mirror);
    check(&authorizer, &n1, &[("get secrets a mounted", false)]);
}

#[test]
fn a_node_that_serves_ingresses_reads_the_certificates_that_they_name() {
    let world = World::new();
    let ingress = |name: &str, class: &str, secret: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"namespace": "a", "name": name},
            "spec": {"ingressClassName": class, "tls": [{"secretName": secret}]}})
    };
    let class = |name: &str, controller: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": name}, "spec": {"controller": controller}})
    };
    let node = |name: &str, annotations: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": annotations}});
    world
        .put("networking.k8s.io", "ingressclasses", class("troupe", "troupe.dev/ingress"))
        .put("networking.k8s.io", "ingressclasses", class("other", "example.com/other"))
        .put("networking.k8s.io", "ingresses", ingress("ours", "troupe", "ours"))
        .put("networking.k8s.io", "ingresses", ingress("theirs", "other", "theirs"))
        .put("", "nodes", node("n1", json!({"troupe.dev/ingress": "http=80,https=443"})))
        .put("", "nodes", node("n2", json!({})));
    let authorizer = ClusterAuthorizer::new(world.cache.clone());
    let (n1, n2) = (who("system:node:n1", LINKED), who("system:node:n2", LINKED));
    check(
        &authorizer,
        &n1,
        &[
            ("get secrets a ours", true),
            ("list secrets a ours", true),
            ("watch secrets a ours", true),
            ("update secrets a ours", false),
            ("list secrets a", false),
            ("list secrets -", false),
            // Another Ingress's, another namespace's, and no Ingress's.
            ("get secrets a theirs", false),
            ("get secrets b ours", false),
            ("get secrets a else", false),
            ("get configmaps a ours", false),
            ("list networking.k8s.io:ingresses -", true),
            ("watch networking.k8s.io:ingressclasses -", true),
            ("update networking.k8s.io:ingresses/status a ours", false),
            ("create networking.k8s.io:ingressclasses -", false),
        ],
    );
    check(&authorizer, &n2, &[("get secrets a ours", false)]);
    // What names it no longer opens it no longer.
    world.put("networking.k8s.io", "ingresses", ingress("ours", "troupe", "another"));
    check(&authorizer, &n1, &[("get secrets a ours", false), ("get secrets a another", true)]);
    world.put("", "nodes", node("n1", json!({})));
    check(&authorizer, &n1, &[("get secrets a another", false)]);
}

#[test]
fn rules_reviews_show_what_holds() {
    let world = World::new();
    world.role(
        "a",
        "r",
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["x"]}]),
    );
    world.bind("a", "b", ("Role", "r"), user("jane"));
    let authorizer = ClusterAuthorizer::new(world.cache.clone());
    let status = rules_for(&authorizer, &who("jane", &[]), "a");
    let rules = status["resourceRules"].as_array().unwrap();
    assert!(rules.contains(
        &json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]})
    ));
    assert!(!status["nonResourceRules"].as_array().unwrap().is_empty());
    assert_eq!(status["incomplete"], false);
    let elsewhere = rules_for(&authorizer, &who("jane", &[]), "b");
    assert_eq!(elsewhere["resourceRules"].as_array().unwrap().len(), rules.len() - 1);
    let root = rules_for(&authorizer, &who("root", &[MASTERS]), "a");
    assert_eq!(root["resourceRules"][0], json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
}
