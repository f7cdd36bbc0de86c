//! What a cluster holds before anyone asks it for anything: namespaces, default roles and bindings, the
//! `kubernetes` Service, priorities. Made at start where missing; an administrator's changes stay.
//!
//! The facts are in `rbac.txt` and `objects.txt`; everything else here is made from a few names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use protocol::schema::written;
use protocol::{DualRange, resources};
use serde_json::{Value, json};

use crate::auth::rbac::aggregate;
use crate::auth::request_header::RequestHeaders;
use crate::controllers::{authentication_trust, flow_schemas};
use crate::store::{self, Record, Store, StoreError, Txn, TxnResult};

const RBAC: &str = "rbac.authorization.k8s.io";
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Writes under way at once.
const CONCURRENT_MAX: usize = 64;

/// What this cluster's first objects depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where pods reach the API server.
    pub advertise_address: IpAddr,
    /// And on which port.
    pub port: u16,
    /// The `kubernetes` Service's address: the first of the service range.
    pub service_address: IpAddr,
    /// The service range, or ranges.
    pub service_cidr: DualRange,
    /// The CA of client certificates, PEM.
    pub client_ca: String,
    /// The CAs of front proxies, PEM: this server's own, and that of proxies in front of it.
    pub front_proxy_ca: String,
    /// How front proxies say on whose behalf they ask.
    pub request_headers: RequestHeaders,
}

/// One object to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Seed {
    /// The store's key.
    pub key: String,
    /// The object, without what every stored object gets (uid, creation time).
    pub object: Value,
    /// What to do when it exists already.
    pub existing: Existing,
}

/// What to do with an object that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it.
    Keep,
    /// Add the rules or subjects that it lacks, unless its annotation forbids that.
    Extend,
    /// Set these of its members.
    Set(&'static str),
}

/// Makes what is missing.
pub async fn reconcile(store: &dyn Store, settings: &Settings) -> Result<(), StoreError> {
    let mut writes = futures::stream::iter(objects(settings))
        .map(|wanted| async move { ensure(store, wanted).await })
        .buffer_unordered(CONCURRENT_MAX);
    while let Some(result) = writes.next().await {
        result?;
    }
    Ok(())
}

async fn ensure(store: &dyn Store, wanted: Seed) -> Result<(), StoreError> {
    let mut object = wanted.object.clone();
    object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
    object["metadata"]["creationTimestamp"] = now().into();
    let mut write = Txn::put(wanted.key.as_str(), 0, written::own(&object));
    // A writer that loses reads what won; a few rounds are plenty, as nobody fights over these.
    for _ in 0..5 {
        match store.txn(write.caused_by(actors::trace::current())).await? {
            TxnResult::Committed { .. } => return Ok(()),
            TxnResult::Conflict { current, .. } => match current.into_iter().next().flatten() {
                Some(found) => match amended(&wanted, &found) {
                    Some(value) => {
                        write = Txn::put(wanted.key.as_str(), found.mod_revision, written::own(&value))
                    }
                    None => return Ok(()),
                },
                None => write = Txn::put(wanted.key.as_str(), 0, written::own(&object)),
            },
        }
    }
    tracing::warn!(key = wanted.key, "a default object is contended and was left as it is");
    Ok(())
}

fn now() -> String {
    let now = time::OffsetDateTime::from(actors::time::now());
    let now = now.replace_nanosecond(0).unwrap_or(now);
    // Formatting fails only for years beyond 9999.
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// What an existing object must become; `None` when it may stay as it is.
fn amended(wanted: &Seed, found: &Record) -> Option<Value> {
    let mut object: Value = serde_json::from_slice(&found.value).ok()?;
    let before = object.clone();
    match wanted.existing {
        Existing::Keep => return None,
        Existing::Set(member) => object[member] = wanted.object[member].clone(),
        Existing::Extend => {
            if object["metadata"]["annotations"][AUTOUPDATE] == "false" {
                return None;
            }
            for member in ["rules", "subjects"] {
                let Some(items) = wanted.object[member].as_array() else { continue };
                if !object[member].is_array() {
                    object[member] = json!([]);
                }
                if let Some(present) = object[member].as_array_mut() {
                    for item in items {
                        if !present.contains(item) {
                            present.push(item.clone());
                        }
                    }
                }
            }
        }
    }
    (object != before).then_some(object)
}

/// Every default object.
pub fn objects(settings: &Settings) -> Vec<Seed> {
    let mut all: Vec<Seed> = ["default", "kube-node-lease", "kube-public", "kube-system"]
        .into_iter()
        .map(|name| {
            make(
                "",
                "namespaces",
                json!({
                    "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                    "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
                }),
            )
        })
        .collect();
    all.extend(rbac_objects());
    all.extend(table_objects());
    all.extend(service_objects(settings));
    all.extend(SERVICE_ACCOUNTS.split_whitespace().map(|name| {
        make("", "serviceaccounts", json!({"metadata": {"name": name, "namespace": "kube-system"}}))
    }));
    all.extend(api_services());
    all.extend(config_maps(settings));
    all
}

fn make(group: &str, resource: &str, mut object: Value) -> Seed {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    if let Some(kind) = resources::find_any(group, resource) {
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
    }
    Seed { key: store::key(group, resource, &namespace, &name), object, existing: Existing::Keep }
}

/// A role or binding of the table.
enum Line<'a> {
    Role { place: &'a str, to: Option<&'a str>, from: Option<&'a str>, rules: Vec<PolicyRule> },
    Bind { place: &'a str, role: &'a str, subjects: Vec<&'a str> },
}

static TABLE: LazyLock<Vec<Line<'static>>> = LazyLock::new(|| parse(include_str!("rbac.txt")));

fn parse(text: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        match words.next() {
            Some("role") => {
                let place = words.next().unwrap_or_default();
                let (mut to, mut from) = (None, None);
                for word in words {
                    match word.split_once('=') {
                        Some(("to", label)) => to = Some(label),
                        Some(("from", label)) => from = Some(label),
                        _ => {}
                    }
                }
                lines.push(Line::Role { place, to, from, rules: Vec::new() });
            }
            Some("+") => {
                if let Some(Line::Role { rules, .. }) = lines.last_mut() {
                    rules.push(rule(words));
                }
            }
            Some("bind") => {
                let (place, role) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                lines.push(Line::Bind { place, role, subjects: words.collect() });
            }
            _ => {}
        }
    }
    lines
}

fn rule<'a>(mut words: impl Iterator<Item = &'a str>) -> PolicyRule {
    let mut list = || {
        let values = words.next()?.split(',').map(|v| if v == "core" { "" } else { v }.to_owned());
        Some(values.collect::<Vec<_>>())
    };
    let verbs = list().unwrap_or_default();
    let api_groups = list();
    let third = list();
    if api_groups.as_deref() == Some(&["url".to_owned()]) {
        return PolicyRule { verbs, non_resource_urls: third, ..PolicyRule::default() };
    }
    PolicyRule { verbs, api_groups, resources: third, resource_names: list(), non_resource_urls: None }
}

/// The default cluster roles, aggregated ones filled in.
fn cluster_roles() -> Vec<ClusterRole> {
    let mut roles: Vec<ClusterRole> = TABLE
        .iter()
        .filter_map(|line| match line {
            Line::Role { place, to, from, rules } if !place.contains('/') => {
                let label = |name: &str| (format!("{AGGREGATE_TO}{name}"), "true".to_owned());
                let selector = |name: &str| LabelSelector {
                    match_labels: Some([label(name)].into()),
                    ..LabelSelector::default()
                };
                Some(ClusterRole {
                    metadata: ObjectMeta {
                        name: Some((*place).to_owned()),
                        labels: to.map(|to| [label(to)].into()),
                        ..ObjectMeta::default()
                    },
                    aggregation_rule: from
                        .map(|from| AggregationRule { cluster_role_selectors: Some(vec![selector(from)]) }),
                    rules: Some(rules.clone()),
                })
            }
            _ => None,
        })
        .collect();
    // Roles that aggregate aggregated roles are full after as many rounds as there are levels.
    for _ in 0..3 {
        let before = roles.clone();
        for role in &mut roles {
            if let Some(rules) = aggregate(role, before.iter()) {
                role.rules = Some(rules);
            }
        }
    }
    roles
}

/// The rules of a default cluster role; empty when there is none of that name.
pub fn cluster_role_rules(name: &str) -> Vec<PolicyRule> {
    let found = cluster_roles().into_iter().find(|role| role.metadata.name.as_deref() == Some(name));
    found.and_then(|role| role.rules).unwrap_or_default()
}

fn rbac_meta(place: &str, labels: Option<BTreeMap<String, String>>) -> Value {
    let (namespace, name) = match place.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, place),
    };
    let mut meta = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    });
    for (key, value) in labels.into_iter().flatten() {
        meta["labels"][key] = value.into();
    }
    if let Some(namespace) = namespace {
        meta["namespace"] = namespace.into();
    }
    meta
}

fn rbac_objects() -> Vec<Seed> {
    let mut made = Vec::new();
    for role in cluster_roles() {
        let place = role.metadata.name.unwrap_or_default();
        let mut object = json!({
            "metadata": rbac_meta(&place, role.metadata.labels), "rules": role.rules,
        });
        if let Some(aggregation) = role.aggregation_rule {
            object["aggregationRule"] = json!(aggregation);
        }
        made.push(Seed { existing: Existing::Extend, ..make(RBAC, "clusterroles", object) });
    }
    for line in TABLE.iter() {
        let (resource, object) = match line {
            Line::Role { place, rules, .. } if place.contains('/') => {
                ("roles", json!({"metadata": rbac_meta(place, None), "rules": rules}))
            }
            Line::Role { .. } => continue,
            Line::Bind { place, role, subjects } => {
                let (kind, name) = role.split_once('/').unwrap_or(("ClusterRole", role));
                let mut object = json!({
                    "metadata": rbac_meta(place, None),
                    "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
                });
                if !subjects.is_empty() {
                    object["subjects"] = subjects.iter().map(|s| subject(s)).collect();
                }
                (if place.contains('/') { "rolebindings" } else { "clusterrolebindings" }, object)
            }
        };
        made.push(Seed { existing: Existing::Extend, ..make(RBAC, resource, object) });
    }
    made
}

fn subject(text: &str) -> Value {
    match text.split_once(':') {
        Some(("sa", account)) => {
            let (namespace, name) = account.split_once('/').unwrap_or(("", account));
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
        Some(("group", name)) => json!({"apiGroup": RBAC, "kind": "Group", "name": name}),
        Some((_, name)) => json!({"apiGroup": RBAC, "kind": "User", "name": name}),
        None => json!({}),
    }
}

/// The flow control objects, for tests of what reads them.
#[cfg(test)]
pub(crate) fn flow_control_objects() -> Vec<Value> {
    table_objects().into_iter().map(|seed| seed.object).filter(|o| !o["spec"].is_null()).collect()
}

/// What a cluster holds of a kind under a name, as the table has it.
pub(crate) fn table_object(plural: &str, name: &str) -> Option<Value> {
    let mut lines = include_str!("objects.txt").lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
    lines.find_map(|parts| match parts[..] {
        [kind, called, _, members] if kind == plural && called == name => serde_json::from_str(members).ok(),
        _ => None,
    })
}

fn table_objects() -> Vec<Seed> {
    let mut made = Vec::new();
    for line in include_str!("objects.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(4, ' ');
        let mut next = || parts.next().unwrap_or_default();
        let (resource, name, autoupdate, members) = (next(), next(), next(), next());
        let mut object: Value = serde_json::from_str(members).unwrap_or_default();
        object["metadata"] = json!({"name": name, "generation": 1});
        if autoupdate != "-" {
            object["metadata"]["annotations"] = json!({"apf.kubernetes.io/autoupdate-spec": autoupdate});
        }
        let group = match resource {
            "priorityclasses" => "scheduling.k8s.io",
            _ => "flowcontrol.apiserver.k8s.io",
        };
        match resource {
            "prioritylevelconfigurations" => object["status"] = json!({}),
            "flowschemas" => {
                let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
                let mut condition = json!(flow_schemas::condition(level, true));
                condition["lastTransitionTime"] = now().into();
                object["status"] = json!({"conditions": [condition]});
            }
            _ => {}
        }
        made.push(make(group, resource, object));
    }
    made
}

fn service_objects(settings: &Settings) -> Vec<Seed> {
    let Settings { advertise_address, port, service_address, service_cidr, .. } = settings;
    let family = |address: &IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let port = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let service = make(
        "",
        "services",
        json!({
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "clusterIP": service_address, "clusterIPs": [service_address], "type": "ClusterIP",
                "internalTrafficPolicy": "Cluster", "ipFamilies": [family(service_address)],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.port}],
            },
            "status": {"loadBalancer": {}},
        }),
    );
    let endpoints = make(
        "",
        "endpoints",
        json!({
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": advertise_address}], "ports": port}],
        }),
    );
    let slice = make(
        "discovery.k8s.io",
        "endpointslices",
        json!({
            "metadata": {"name": "kubernetes", "namespace": "default", "generation": 1,
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": family(advertise_address), "ports": port,
            "endpoints": [{"addresses": [advertise_address], "conditions": {"ready": true}}],
        }),
    );
    let address = make(
        "networking.k8s.io",
        "ipaddresses",
        json!({
            "metadata": {"name": service_address.to_string(), "labels": {
                "ipaddress.kubernetes.io/ip-family": family(service_address),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}},
        }),
    );
    let range = make(
        "networking.k8s.io",
        "servicecidrs",
        json!({
            "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
            "spec": {"cidrs": service_cidr.iter().map(|range| range.to_string()).collect::<Vec<_>>()},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "",
                "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": now()}]},
        }),
    );
    vec![
        service,
        // The address may be another one after a restart.
        Seed { existing: Existing::Set("subsets"), ..endpoints },
        Seed { existing: Existing::Set("endpoints"), ..slice },
        address,
        // A cluster that gets a second family says so.
        Seed {
            existing: if service_cidr.v6.is_some() { Existing::Set("spec") } else { range.existing },
            ..range
        },
    ]
}

/// The controllers' accounts in `kube-system`, which the default bindings name.
const SERVICE_ACCOUNTS: &str = "attachdetach-controller certificate-controller \
    clusterrole-aggregation-controller cronjob-controller daemon-set-controller deployment-controller \
    device-taint-eviction-controller disruption-controller endpoint-controller endpointslice-controller \
    endpointslicemirroring-controller ephemeral-volume-controller expand-controller \
    generic-garbage-collector horizontal-pod-autoscaler ingress-controller job-controller \
    legacy-service-account-token-cleaner namespace-controller node-controller persistent-volume-binder \
    pod-garbage-collector pv-protection-controller pvc-protection-controller replicaset-controller \
    replication-controller resource-claim-controller resourcequota-controller root-ca-cert-publisher \
    service-account-controller service-ca-cert-publisher service-cidrs-controller statefulset-controller \
    ttl-after-finished-controller ttl-controller validatingadmissionpolicy-status-controller \
    volumeattributesclass-protection-controller";

/// Priorities of the built-in groups: of the group, and of the version in it.
const API_SERVICES: &str = "v1. 18000 1,v1.admissionregistration.k8s.io 16700 15,\
    v1.apiextensions.k8s.io 16700 15,v1.apps 17800 15,v1.authentication.k8s.io 17700 15,\
    v1.authorization.k8s.io 17600 15,v1.autoscaling 17500 15,v1.batch 17400 15,\
    v1.certificates.k8s.io 17300 15,v1.coordination.k8s.io 16500 15,v1.discovery.k8s.io 16200 15,\
    v1.events.k8s.io 17750 15,v1.flowcontrol.apiserver.k8s.io 16100 21,v1.networking.k8s.io 17200 15,\
    v1.node.k8s.io 16300 15,v1.policy 17100 15,v1.rbac.authorization.k8s.io 17000 15,\
    v1.resource.k8s.io 16200 21,v1.scheduling.k8s.io 16600 15,v1.storage.k8s.io 16800 15,\
    v2.autoscaling 17500 30";

fn api_services() -> impl Iterator<Item = Seed> {
    API_SERVICES.split(',').map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|w| w.parse::<i64>().ok()).unwrap_or_default();
        let (group_priority, version_priority) = (number(), number());
        let (version, group) = name.split_once('.').unwrap_or((name, ""));
        let mut spec = json!({
            "version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority,
        });
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        make("apiregistration.k8s.io", "apiservices", json!({
            "metadata": {"name": name, "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
            "spec": spec,
            "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": now()}]},
        }))
    })
}

/// What other API servers are told of whom to believe.
pub fn authentication(settings: &Settings) -> BTreeMap<String, String> {
    let headers = &settings.request_headers;
    let texts = |all: &[String]| json!(all).to_string();
    let mut data = BTreeMap::from([
        ("client-ca-file", settings.client_ca.clone()),
        ("requestheader-allowed-names", texts(&headers.allowed_names)),
        ("requestheader-client-ca-file", settings.front_proxy_ca.clone()),
        ("requestheader-extra-headers-prefix", texts(&headers.extra_prefix)),
        ("requestheader-group-headers", texts(&headers.group)),
        ("requestheader-username-headers", texts(&headers.username)),
    ]);
    if !headers.uid.is_empty() {
        data.insert("requestheader-uid-headers", texts(&headers.uid));
    }
    data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn config_maps(settings: &Settings) -> [Seed; 2] {
    let today = now();
    let authentication = make(
        "",
        "configmaps",
        json!({
            "metadata": {"name": authentication_trust::NAME, "namespace": authentication_trust::NAMESPACE},
            "data": authentication(settings),
        }),
    );
    let tracking = make(
        "",
        "configmaps",
        json!({
            "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
            "data": {"since": today.split('T').next()},
        }),
    );
    [Seed { existing: Existing::Set("data"), ..authentication }, tracking]
}

#[cfg(test)]
mod tests;
