//! The cluster's flow schemas and priority levels, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, PolicyRulesWithSubjects, PriorityLevelConfiguration, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::{Caller, Object};

use super::queues::Limits;
use crate::auth::{Attributes, rbac, tokens};
use crate::cache::Snapshot;
use crate::cache::derived::Derived;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Requests that the whole server runs at the same time, in seats; upstream's default for reads and writes.
const SEATS_ALL: f64 = 600.0;

/// What tells one flow of a schema from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

/// One flow schema.
pub struct Schema {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid, which answers carry.
    pub uid: HeaderValue,
    /// The name of its level.
    pub level: Arc<str>,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<PolicyRulesWithSubjects>,
}

/// One priority level.
pub struct Level {
    /// Its uid, which answers carry.
    pub uid: HeaderValue,
    /// Its limits; `None` where it is exempt from all.
    pub limits: Option<Limits>,
    /// Seats that others may use while it does not.
    pub lendable: u32,
    /// Seats that it may use of others at most; `None` for as many as there are.
    pub borrowing: Option<u32>,
}

/// All of them.
#[derive(Default)]
pub struct Config {
    /// In the order in which they are asked.
    pub schemas: Vec<Schema>,
    /// By name.
    pub levels: BTreeMap<Arc<str>, Level>,
}

impl Derived for Config {
    const KINDS: &'static [(&'static str, &'static str)] =
        &[(GROUP, "flowschemas"), (GROUP, "prioritylevelconfigurations")];

    fn derive(_: Option<&Self>, snapshot: &Snapshot) -> Self {
        Config::new(typed::<FlowSchema>(snapshot), typed::<PriorityLevelConfiguration>(snapshot))
    }
}

fn typed<K: Object>(snapshot: &Snapshot) -> Vec<Arc<K>> {
    snapshot.list(K::GROUP, K::URL_PATH_SEGMENT, "").filter_map(|stored| stored.typed::<K>().ok()).collect()
}

fn identity(meta: &ObjectMeta) -> (Arc<str>, HeaderValue) {
    let uid = HeaderValue::from_str(meta.uid.as_deref().unwrap_or_default());
    (meta.name.as_deref().unwrap_or_default().into(), uid.unwrap_or_else(|_| HeaderValue::from_static("")))
}

fn positive(value: Option<i32>) -> f64 {
    f64::from(value.unwrap_or(0).max(0))
}

impl Config {
    /// Compiles objects.
    pub fn new(schemas: Vec<Arc<FlowSchema>>, levels: Vec<Arc<PriorityLevelConfiguration>>) -> Self {
        let shares = |level: &PriorityLevelConfiguration| {
            let spec = level.spec.as_ref();
            let limited = spec.and_then(|s| s.limited.as_ref());
            positive(
                limited
                    .and_then(|l| l.nominal_concurrency_shares)
                    .or(spec.and_then(|s| s.exempt.as_ref()).and_then(|e| e.nominal_concurrency_shares)),
            )
        };
        let sum: f64 = levels.iter().map(|l| shares(l)).sum::<f64>().max(1.0);
        let compiled = levels.iter().map(|object| {
            let (name, uid) = identity(&object.metadata);
            let seats = (SEATS_ALL * shares(object) / sum).ceil();
            let spec = object.spec.as_ref();
            let limited = spec.and_then(|s| s.limited.as_ref());
            let lends = limited.and_then(|l| l.lendable_percent);
            let borrows = limited.and_then(|l| l.borrowing_limit_percent);
            let exempt = spec.is_none_or(|s| s.type_ == "Exempt");
            let queuing = limited.and_then(|l| l.limit_response.as_ref()).filter(|r| r.type_ == "Queue");
            let queuing = queuing.map(|r| r.queuing.clone().unwrap_or_default());
            let size = |value: Option<i32>, usual: i32| value.unwrap_or(usual).clamp(1, 10_000) as usize;
            let limits = Limits {
                seats: seats as u32,
                queues: queuing.as_ref().map_or(0, |q| size(q.queues, 64)),
                hand: queuing.as_ref().map_or(0, |q| size(q.hand_size, 8)),
                length_max: queuing.as_ref().map_or(0, |q| size(q.queue_length_limit, 50)),
            };
            let level = Level {
                uid,
                limits: (!exempt).then_some(limits),
                lendable: (seats * positive(lends) / 100.0).round() as u32,
                borrowing: borrows.map(|percent| (seats * positive(Some(percent)) / 100.0).round() as u32),
            };
            (name, level)
        });
        let levels: BTreeMap<Arc<str>, Level> = compiled.collect();
        let mut compiled: Vec<Schema> = schemas
            .iter()
            .filter_map(|object| {
                let (name, uid) = identity(&object.metadata);
                let spec = object.spec.as_ref()?;
                let level = Arc::from(spec.priority_level_configuration.name.as_str());
                let distinguisher = match spec.distinguisher_method.as_ref().map(|m| m.type_.as_str()) {
                    Some("ByUser") => Distinguisher::User,
                    Some("ByNamespace") => Distinguisher::Namespace,
                    _ => Distinguisher::None,
                };
                let precedence = spec.matching_precedence.unwrap_or(1000);
                let rules = spec.rules.clone().unwrap_or_default();
                levels.contains_key(&level).then_some(Schema {
                    name,
                    uid,
                    level,
                    precedence,
                    distinguisher,
                    rules,
                })
            })
            .collect();
        compiled.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Config { schemas: compiled, levels }
    }

    /// The schema of a request, and the hash of its flow.
    pub fn classify(&self, request: &Attributes) -> Option<(&Schema, u64)> {
        let schema = self.schemas.iter().find(|schema| schema.rules.iter().any(|r| matches(r, request)))?;
        let flow = match schema.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => request.caller.user.as_str(),
            Distinguisher::Namespace => request.namespace.as_str(),
        };
        Some((schema, hash(&[schema.name.as_bytes(), flow.as_bytes()])))
    }
}

/// FNV-1a over the parts, well mixed.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0]));
    let h = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}

fn matches(rule: &PolicyRulesWithSubjects, request: &Attributes) -> bool {
    if !rule.subjects.iter().any(|subject| is_subject(subject, &request.caller)) {
        return false;
    }
    let any = |list: &[String], wanted: &str| list.iter().any(|v| v == "*" || v == wanted);
    if !request.is_resource() {
        return rule.non_resource_rules.iter().flatten().any(|rule| {
            any(&rule.verbs, &request.verb)
                && rule.non_resource_urls.iter().any(|url| rbac::grants_url(url, &request.path))
        });
    }
    let resource = request.full_resource();
    rule.resource_rules.iter().flatten().any(|rule| {
        let within = if request.namespace.is_empty() {
            rule.cluster_scope == Some(true)
        } else {
            any(rule.namespaces.as_deref().unwrap_or_default(), &request.namespace)
        };
        within
            && any(&rule.verbs, &request.verb)
            && any(&rule.api_groups, &request.group)
            && any(&rule.resources, &resource)
    })
}

fn is_subject(subject: &Subject, caller: &Caller) -> bool {
    let is = |pattern: &str, name: &str| pattern == "*" || pattern == name;
    match (&subject.user, &subject.group, &subject.service_account) {
        (Some(user), ..) => is(&user.name, &caller.user),
        (_, Some(group), _) => caller.groups.iter().any(|g| is(&group.name, g)),
        (.., Some(account)) => tokens::account_of(&caller.user)
            .is_some_and(|(namespace, name)| account.namespace == namespace && is(&account.name, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::bootstrap;

    fn config() -> Config {
        fn of<K: Object>(objects: &[Value]) -> Vec<Arc<K>> {
            let of_kind = objects.iter().filter(|o| o["kind"] == K::KIND);
            of_kind.map(|o| Arc::new(serde_json::from_value(o.clone()).expect("fits its type"))).collect()
        }
        let objects = bootstrap::flow_control_objects();
        Config::new(of::<FlowSchema>(&objects), of::<PriorityLevelConfiguration>(&objects))
    }

    #[test]
    fn the_default_schemas_tell_requests_apart() {
        let config = config();
        let ask = |user: &str, groups: &[&str], verb: &str, resource: &str, namespace: &str| Attributes {
            caller: Caller {
                user: user.into(),
                groups: groups.iter().map(|g| (*g).to_owned()).collect(),
                ..Caller::default()
            }
            .into(),
            verb: verb.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            ..Attributes::default()
        };
        let known = "system:authenticated";
        for (request, schema, level) in [
            (ask("admin", &["system:masters", known], "get", "pods", "a"), "exempt", "exempt"),
            (ask("jane", &[known], "list", "pods", "a"), "global-default", "global-default"),
            (
                ask("system:serviceaccount:a:b", &["system:serviceaccounts", known], "get", "pods", "a"),
                "service-accounts",
                "workload-low",
            ),
            (
                ask("system:node:n", &["system:nodes", known], "update", "nodes/status", ""),
                "system-node-high",
                "node-high",
            ),
            (
                ask("system:anonymous", &["system:unauthenticated"], "get", "pods", "a"),
                "global-default",
                "global-default",
            ),
        ] {
            let found = config.classify(&request).map(|(s, _)| (&*s.name, &*s.level));
            assert_eq!(found, Some((schema, level)), "{request:?}");
        }
        let probe = Attributes::path(crate::auth::authenticate::anonymous().into(), "GET", "/healthz");
        assert_eq!(config.classify(&probe).map(|(s, _)| &*s.name), Some("probes"));
        assert!(config.levels["exempt"].limits.is_none());
        let low = config.levels["workload-low"].limits.expect("is limited");
        assert!(low.seats > 100 && low.queues == 128 && low.hand == 6, "{low:?}");
    }

    #[test]
    fn flows_are_told_apart_by_schema_and_user() {
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"ab", b""]));
        assert_ne!(hash(&[b"a", b"x"]), hash(&[b"a", b"y"]));
    }
}
