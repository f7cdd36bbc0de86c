//! RBAC: roles, bindings and the question whether a rule covers a request.
//!
//! The index by subject is kept up incrementally: at a decision, what changed in the cache since the last
//! one is folded in. A request costs the rules of its own subjects, not those of the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use parking_lot::RwLock;
use protocol::selector::Selector;

use crate::cache::{Cache, Snapshot, Stored};
use crate::store::parse_key;

use super::{Attributes, Decision};

pub mod rules;

pub use k8s_openapi::api::rbac::v1::PolicyRule;
pub use rules::{aggregate, compact, covers, grants_url, uncovered};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The RBAC authorizer over the watch cache.
pub struct Rbac {
    cache: Cache,
    index: RwLock<Index>,
}

/// Whom a binding binds, by the name that a caller carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Group(String),
}

#[derive(Clone, Debug)]
struct Binding {
    name: String,
    namespace: String,
    role: RoleRef,
    subjects: Vec<(Who, Subject)>,
}

#[derive(Clone, Debug, Default)]
struct CompiledRole {
    rules: Arc<Vec<PolicyRule>>,
    labels: BTreeMap<String, String>,
    aggregates: Vec<LabelSelector>,
}

#[derive(Default)]
struct Index {
    snapshot: Arc<Snapshot>,
    /// By (namespace, name); cluster roles have no namespace.
    roles: HashMap<(String, String), CompiledRole>,
    /// By (namespace, name), to undo them.
    bindings: HashMap<(String, String), Arc<Binding>>,
    /// Bindings by subject and by the namespace that they hold in; empty for the whole cluster.
    by_subject: HashMap<(Who, String), BTreeMap<String, Arc<Binding>>>,
}

const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// One rule that applies to a caller, and through which binding.
pub struct Granted<'a> {
    /// The rule.
    pub rule: &'a PolicyRule,
    binding: &'a Binding,
    subject: &'a Subject,
}

impl Granted<'_> {
    fn reason(&self) -> String {
        let Binding { name, namespace, role, .. } = self.binding;
        let Subject { kind, name: subject, namespace: home, .. } = self.subject;
        let to = match kind.as_str() {
            "ServiceAccount" => {
                let home = home.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
                format!("ServiceAccount \"{subject}/{home}\"")
            }
            _ => format!("{kind} \"{subject}\""),
        };
        let binding = if namespace.is_empty() {
            format!("ClusterRoleBinding \"{name}\"")
        } else {
            format!("RoleBinding \"{name}/{namespace}\"")
        };
        format!("RBAC: allowed by {binding} of {} \"{}\" to {to}", role.kind, role.name)
    }
}

impl Rbac {
    /// Decides by what the cache holds.
    pub fn new(cache: Cache) -> Self {
        Rbac { cache, index: RwLock::default() }
    }

    /// Decides.
    pub fn decide(&self, attributes: &Attributes) -> Decision {
        let mut reason = None;
        let namespace = if attributes.is_resource() { attributes.namespace.as_str() } else { "" };
        let errors = self.visit(&attributes.caller, namespace, |granted| {
            let allowed = covers(granted.rule, attributes);
            if allowed {
                reason = Some(granted.reason());
            }
            !allowed
        });
        match (reason, errors.as_slice()) {
            (Some(reason), _) => Decision::Allow(reason),
            (None, []) => Decision::NoOpinion(String::new()),
            (None, [one]) => Decision::NoOpinion(format!("RBAC: {one}")),
            (None, many) => Decision::NoOpinion(format!("RBAC: [{}]", many.join(", "))),
        }
    }

    /// Every rule that applies to a caller in a namespace (empty: the cluster), and what went wrong.
    pub fn rules(&self, caller: &protocol::Caller, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let mut rules = Vec::new();
        let errors = self.visit(caller, namespace, |granted| {
            rules.push(granted.rule.clone());
            true
        });
        (rules, errors)
    }

    /// The rules of the role that a binding names, each once: one that gathers others' has them, and so do those.
    /// `None` when it does not exist.
    pub fn role_rules(&self, namespace: &str, role: &RoleRef) -> Option<Vec<PolicyRule>> {
        self.refresh();
        let index = self.index.read();
        let mut all: Vec<PolicyRule> = Vec::new();
        for rule in index.role(namespace, role)?.iter().flat_map(|rules| rules.iter()) {
            if !all.contains(rule) {
                all.push(rule.clone());
            }
        }
        Some(all)
    }

    /// Calls `each` with the rules that apply, cluster-wide bindings first, until it says no. Returns the
    /// bindings' errors met.
    fn visit(
        &self,
        caller: &protocol::Caller,
        namespace: &str,
        mut each: impl FnMut(Granted<'_>) -> bool,
    ) -> Vec<String> {
        self.refresh();
        let index = self.index.read();
        let mut errors = Vec::new();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            let users = std::iter::once(Who::User(caller.user.clone()));
            let whos = users.chain(caller.groups.iter().cloned().map(Who::Group));
            for who in whos {
                let key = (who, (*scope).to_owned());
                for binding in index.by_subject.get(&key).into_iter().flat_map(BTreeMap::values) {
                    let Some((_, subject)) = binding.subjects.iter().find(|(who, _)| *who == key.0) else {
                        continue;
                    };
                    let Some(roles) = index.role(&binding.namespace, &binding.role) else {
                        let kind = binding.role.kind.to_lowercase();
                        errors.push(format!("{kind}.{GROUP} \"{}\" not found", binding.role.name));
                        continue;
                    };
                    for rule in roles.iter().flat_map(|rules| rules.iter()) {
                        if !each(Granted { rule, binding, subject }) {
                            return errors;
                        }
                    }
                }
            }
        }
        errors.sort();
        errors.dedup();
        errors
    }

    /// Folds in what changed in the cache.
    fn refresh(&self) {
        let snapshot = self.cache.snapshot();
        let stands = |index: &Index| {
            KINDS
                .iter()
                .all(|kind| index.snapshot.kind_revision(GROUP, kind) >= snapshot.kind_revision(GROUP, kind))
        };
        if stands(&self.index.read()) {
            return;
        }
        let mut index = self.index.write();
        if stands(&index) {
            return;
        }
        for kind in KINDS {
            for (key, stored) in snapshot.changed_since(&index.snapshot, GROUP, kind) {
                index.fold(kind, &key, stored.as_ref());
            }
        }
        index.snapshot = snapshot;
    }
}

impl Index {
    fn fold(&mut self, kind: &str, key: &str, stored: Option<&Arc<Stored>>) {
        let Some(parts) = parse_key(key) else { return };
        let at = (parts.namespace.to_owned(), parts.name.to_owned());
        match kind {
            "clusterroles" | "roles" => match stored.and_then(compile_role) {
                Some(role) => drop(self.roles.insert(at, role)),
                None => drop(self.roles.remove(&at)),
            },
            _ => {
                if let Some(old) = self.bindings.remove(&at) {
                    for (who, _) in &old.subjects {
                        let place = (who.clone(), at.0.clone());
                        if let Some(bound) = self.by_subject.get_mut(&place) {
                            bound.remove(&at.1);
                            if bound.is_empty() {
                                self.by_subject.remove(&place);
                            }
                        }
                    }
                }
                let Some(binding) = stored.and_then(compile_binding).map(Arc::new) else { return };
                for (who, _) in &binding.subjects {
                    let place = (who.clone(), at.0.clone());
                    self.by_subject.entry(place).or_default().insert(at.1.clone(), binding.clone());
                }
                self.bindings.insert(at, binding);
            }
        }
    }

    /// The rules of a role: its own, and those of the roles that it aggregates.
    fn role(&self, namespace: &str, role: &RoleRef) -> Option<Vec<Arc<Vec<PolicyRule>>>> {
        let namespace = if role.kind == "ClusterRole" { "" } else { namespace };
        let found = self.roles.get(&(namespace.to_owned(), role.name.clone()))?;
        let mut rules = vec![found.rules.clone()];
        if !found.aggregates.is_empty() {
            // The aggregation controller writes these rules into the role as well; until it has, they
            // hold already.
            let selectors: Vec<Selector> =
                found.aggregates.iter().filter_map(|s| Selector::from_label_selector(s).ok()).collect();
            let parts = self.roles.iter().filter(|((ns, name), part)| {
                ns.is_empty() && *name != role.name && selectors.iter().any(|s| s.matches(&part.labels))
            });
            rules.extend(parts.map(|(_, part)| part.rules.clone()));
        }
        Some(rules)
    }
}

fn compile_role(stored: &Arc<Stored>) -> Option<CompiledRole> {
    let labels = stored.meta.labels.to_map();
    let (rules, aggregates) = if stored.meta.namespace.is_empty() {
        let role = understood(stored.typed::<ClusterRole>(), stored)?;
        let aggregates = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.clone());
        (role.rules.clone(), aggregates.unwrap_or_default())
    } else {
        (understood(stored.typed::<Role>(), stored)?.rules.clone(), Vec::new())
    };
    Some(CompiledRole { rules: Arc::new(rules.unwrap_or_default()), labels, aggregates })
}

fn compile_binding(stored: &Arc<Stored>) -> Option<Binding> {
    let namespace = stored.meta.namespace.to_string();
    let (role, subjects) = if namespace.is_empty() {
        let binding = understood(stored.typed::<ClusterRoleBinding>(), stored)?;
        (binding.role_ref.clone(), binding.subjects.clone())
    } else {
        let binding = understood(stored.typed::<RoleBinding>(), stored)?;
        (binding.role_ref.clone(), binding.subjects.clone())
    };
    let subjects = subjects.unwrap_or_default().into_iter();
    let subjects = subjects.filter_map(|subject| Some((who(&subject, &namespace)?, subject))).collect();
    Some(Binding { name: stored.meta.name.to_string(), namespace, role, subjects })
}

fn understood<K>(parsed: Result<Arc<K>, serde_json::Error>, stored: &Stored) -> Option<Arc<K>> {
    parsed
        .inspect_err(|error| tracing::error!(key = &*stored.key, %error, "an RBAC object grants nothing"))
        .ok()
}

fn who(subject: &Subject, namespace: &str) -> Option<Who> {
    match subject.kind.as_str() {
        "User" => Some(Who::User(subject.name.clone())),
        "Group" => Some(Who::Group(subject.name.clone())),
        "ServiceAccount" => {
            let home = subject.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
            (!home.is_empty()).then(|| Who::User(format!("system:serviceaccount:{home}:{}", subject.name)))
        }
        _ => None,
    }
}
