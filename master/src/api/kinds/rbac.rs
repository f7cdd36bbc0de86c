//! Roles and bindings.

use serde_json::Value;

use super::checks::{self, internal};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{default, default_text, list, list_mut, object_mut, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role() -> Strategy {
    Strategy { names: NameRule::PathSegment, validate: valid_role, ..base() }
}

fn valid_role(object: &Value, errors: &mut Errors) {
    let cluster = object["kind"] == "ClusterRole";
    for (i, rule) in list(object, &["rules"]).iter().enumerate() {
        self::rule(rule, cluster, &Path::new("rules").index(i), errors);
    }
    if object["aggregationRule"].is_object() {
        aggregation(&object["aggregationRule"], errors);
    }
}

fn aggregation(rule: &Value, errors: &mut Errors) {
    let path = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = list(rule, &["clusterRoleSelectors"]);
    if selectors.is_empty() {
        errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (i, selector) in selectors.iter().enumerate() {
        let before = errors.len();
        checks::label_selector(selector, &path.index(i), errors);
        if errors.len() > before {
            errors.invalid(&path.index(i), Value::Null, "invalid label selector.");
        }
    }
}

fn rule(rule: &Value, cluster: bool, path: &Path, errors: &mut Errors) {
    if list(rule, &["verbs"]).is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !list(rule, &["nonResourceURLs"]).is_empty() {
        if !cluster {
            errors.invalid(
                &path.child("nonResourceURLs"),
                rule["nonResourceURLs"].clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        let resources = ["apiGroups", "resources", "resourceNames"];
        if resources.iter().any(|name| !list(rule, &[name]).is_empty()) {
            errors.invalid(
                &path.child("nonResourceURLs"),
                rule["nonResourceURLs"].clone(),
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if list(rule, &["apiGroups"]).is_empty() {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if list(rule, &["resources"]).is_empty() {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

pub(super) fn binding() -> Strategy {
    Strategy {
        names: NameRule::PathSegment,
        defaults: |object| {
            default_text(object_mut(object, &["roleRef"]), "apiGroup", GROUP);
            for subject in list_mut(object, &["subjects"]) {
                if matches!(text(subject, &["kind"]), "User" | "Group") {
                    default(object_mut(subject, &[]), "apiGroup", GROUP);
                }
            }
        },
        validate: valid_binding,
        validate_update: |new, old, errors| {
            if new["roleRef"] != old["roleRef"] {
                let shown = internal("a.rbac.v1.RoleRef", &new["roleRef"]);
                errors.invalid_shown(&Path::new("roleRef"), &shown, "cannot change roleRef");
            }
        },
        ..base()
    }
}

fn valid_binding(object: &Value, errors: &mut Errors) {
    let path = Path::new("roleRef");
    let group = text(object, &["roleRef", "apiGroup"]);
    if group != GROUP {
        errors.unsupported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let cluster = object["kind"] == "ClusterRoleBinding";
    let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    let kind = text(object, &["roleRef", "kind"]);
    if !kinds.contains(&kind) {
        errors.unsupported(&path.child("kind"), kind, kinds);
    }
    checks::required_name(NameRule::PathSegment, &object["roleRef"], "name", &path, errors);
    for (i, subject) in list(object, &["subjects"]).iter().enumerate() {
        self::subject(subject, cluster, &Path::new("subjects").index(i), errors);
    }
}

fn subject(subject: &Value, cluster: bool, path: &Path, errors: &mut Errors) {
    let name = text(subject, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let (kind, group) = (text(subject, &["kind"]), text(subject, &["apiGroup"]));
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                for error in name_errors(NameRule::Subdomain, name, false) {
                    errors.invalid(&path.child("name"), name, error);
                }
            }
            if !group.is_empty() {
                errors.unsupported(&path.child("apiGroup"), group, &[""]);
            }
            if cluster && text(subject, &["namespace"]).is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.unsupported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.unsupported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;
    use crate::api::registry::part::Part;

    #[test]
    fn a_change_is_looked_at_once() {
        let binding_of = |role: &str| json!({"kind": "RoleBinding", "roleRef": {"apiGroup": GROUP, "kind": role, "name": "a"}});
        let checked = |strategy: Strategy, new: &Value, old: &Value| {
            said(|errors| {
                strategy.check_object(Part::Main, new, errors);
                strategy.check_change(Part::Main, new, old, errors);
            })
        };
        let told = checked(binding(), &binding_of("x"), &binding_of("Role"));
        assert_eq!(
            told,
            [
                "roleRef.kind: Unsupported value: \"x\": supported values: \"Role\", \"ClusterRole\"",
                "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"x\",\"Name\":\"a\"}: cannot \
                 change roleRef",
            ]
        );
        let none = json!({"kind": "Role", "rules": [{"verbs": [], "nonResourceURLs": ["/"]}]});
        assert_eq!(checked(role(), &none, &none).len(), 2);
    }

    #[test]
    fn what_aggregates_can_be_asked() {
        for (selector, wrong) in [
            (json!({"matchLabels": {"a": "b"}}), 0),
            (json!({"matchLabels": {"a": "b!"}}), 2),
            (json!({"matchExpressions": [{"key": "a", "operator": "NotIn"}]}), 2),
        ] {
            let told = said(|errors| aggregation(&json!({"clusterRoleSelectors": [selector]}), errors));
            assert_eq!(told.len(), wrong, "{told:?}");
        }
    }
}
