//! Which requests a policy or a webhook is about.

use protocol::{Resource, Selector, Verb};
use serde_json::Value;

use super::GROUP;
use super::forms::equivalents;
use crate::api::admission::Write;
use crate::api::custom::Version;
use crate::api::object::{list, text};
use crate::cache::Snapshot;

/// Subresources that are connections: what happens to them is a CONNECT.
pub const CONNECTIONS: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Somebody connects to it.
    Connect,
}

impl Operation {
    /// As rules spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// A request that policies look at.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// What is written, in the version asked for.
    pub resource: &'static Resource,
    /// Its declaration, if it is no kind of the table.
    pub custom: Option<&'a Version>,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// What happens.
    pub operation: Operation,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// The name in the request; empty for collections.
    pub name: &'a str,
    /// The object as it will be.
    pub object: Option<&'a Value>,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// What the cluster looks like.
    pub snapshot: &'a Snapshot,
}

impl<'a> Attempt<'a> {
    /// A write of an object.
    pub fn of(write: &'a Write<'_>, object: Option<&'a Value>) -> Attempt<'a> {
        let request = write.request;
        let under = request.target.subresource.as_deref().unwrap_or_default();
        let operation = match (request.verb, write.old) {
            _ if CONNECTIONS.contains(&under) => Operation::Connect,
            (Verb::Delete | Verb::DeleteCollection, _) => Operation::Delete,
            (_, None) => Operation::Create,
            _ => Operation::Update,
        };
        let named = request.target.name.as_deref();
        let own =
            object.map(crate::api::object::name).filter(|n| !n.is_empty() && operation == Operation::Create);
        Attempt {
            resource: write.subject.resource,
            custom: write.subject.custom,
            subresource: under,
            operation,
            namespace: write.subject.namespace,
            name: named.or(own).unwrap_or_default(),
            object,
            old: write.old,
            snapshot: write.snapshot,
        }
    }

    /// Policies and webhooks cannot be used against those who mend them.
    pub fn is_exempt(&self) -> bool {
        self.resource.group == GROUP
    }

    fn is_namespace(&self) -> bool {
        self.resource.group.is_empty() && self.resource.plural == "namespaces"
    }
}

/// A selector that was declared; one that cannot be read selects nothing.
fn selector(value: &Value) -> Option<Selector> {
    if value.is_null() {
        return Some(Selector::default());
    }
    let parsed = serde_json::from_value(value.clone()).ok()?;
    Selector::from_label_selector(&parsed).ok()
}

/// Which requests.
#[derive(Clone, Debug)]
pub struct Matcher {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// Without rules everything matches (in a binding) or nothing does (in a policy or webhook).
    open: bool,
    namespaces: Option<Selector>,
    objects: Option<Selector>,
    equivalent: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    names: Vec<String>,
    scope: String,
}

impl Rule {
    fn of(value: &Value) -> Rule {
        let texts = |name: &str| -> Vec<String> {
            list(value, &[name]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            operations: texts("operations"),
            names: texts("resourceNames"),
            scope: text(value, &["scope"]).to_owned(),
        }
    }

    fn covers(&self, attempt: &Attempt<'_>, shown: &Resource) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|l| l == "*" || l == wanted);
        let resource = |entry: &String| {
            let (resource, sub) = entry.split_once('/').unwrap_or((entry, ""));
            (resource == "*" || resource == shown.plural) && (sub == "*" || sub == attempt.subresource)
        };
        let clusterwide = attempt.namespace.is_empty() || attempt.is_namespace();
        let scope = match self.scope.as_str() {
            "Namespaced" => !clusterwide,
            "Cluster" => clusterwide,
            _ => true,
        };
        scope
            && has(&self.operations, attempt.operation.as_str())
            && has(&self.groups, shown.group)
            && has(&self.versions, shown.version)
            && self.resources.iter().any(resource)
            && (self.names.is_empty() || self.names.iter().any(|n| n == attempt.name))
    }
}

impl Matcher {
    /// The match constraints of a policy, or the resources of a binding.
    pub fn of(value: &Value, binding: bool) -> Matcher {
        let rules = |name: &str| list(value, &[name]).iter().map(Rule::of).collect();
        Matcher {
            rules: rules("resourceRules"),
            exclude: rules("excludeResourceRules"),
            open: binding,
            namespaces: selector(&value["namespaceSelector"]),
            objects: selector(&value["objectSelector"]),
            equivalent: value["matchPolicy"] != "Exact",
        }
    }

    /// What a webhook is called for.
    pub fn webhook(value: &Value) -> Matcher {
        let rules = list(value, &["rules"]).iter().map(Rule::of).collect();
        Matcher { rules, ..Matcher::of(value, false) }
    }

    /// Whether a request is meant, and as a request to which resource: its own, or another one that shows the
    /// same objects.
    pub fn matches(&self, attempt: &Attempt<'_>) -> Option<&'static Resource> {
        let chosen = !attempt.is_exempt() && self.namespace(attempt) && self.object(attempt);
        if chosen { self.resource(attempt) } else { None }
    }

    fn resource(&self, attempt: &Attempt<'_>) -> Option<&'static Resource> {
        let own = attempt.resource;
        let named = |rules: &[Rule]| {
            if rules.iter().any(|rule| rule.covers(attempt, own)) {
                return Some(own);
            }
            if !self.equivalent || rules.is_empty() {
                return None;
            }
            let others = equivalents(attempt);
            rules.iter().find_map(|rule| others.iter().copied().find(|other| rule.covers(attempt, other)))
        };
        if named(&self.exclude).is_some() {
            return None;
        }
        if self.rules.is_empty() { self.open.then_some(own) } else { named(&self.rules) }
    }

    fn namespace(&self, attempt: &Attempt<'_>) -> bool {
        let Some(selector) = &self.namespaces else { return false };
        if selector.is_everything() {
            return true;
        }
        if attempt.is_namespace() {
            let labels = &attempt.object.or(attempt.old).unwrap_or(&Value::Null)["metadata"]["labels"];
            return selector.matches_by(|key| labels.get(key).and_then(Value::as_str));
        }
        if attempt.namespace.is_empty() {
            return true;
        }
        let namespace = attempt.snapshot.get("", "namespaces", "", attempt.namespace);
        namespace.is_some_and(|stored| selector.matches_by(|key| stored.meta.labels.get(key)))
    }

    fn object(&self, attempt: &Attempt<'_>) -> bool {
        let Some(selector) = &self.objects else { return false };
        if selector.is_everything() {
            return true;
        }
        [attempt.object, attempt.old].into_iter().flatten().any(|object| {
            let labels = &object["metadata"]["labels"];
            selector.matches_by(|key| labels.get(key).and_then(Value::as_str))
        })
    }
}
