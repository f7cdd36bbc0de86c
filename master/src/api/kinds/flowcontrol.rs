//! FlowSchema and PriorityLevelConfiguration.

use std::collections::HashSet;

use serde_json::Value;

use super::checks::{self, internal, named};
use super::{Strategy, base, keep_metadata};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{copy_meta, list, name, object_mut, text};
use crate::bootstrap;

mod levels;

pub(super) use levels::priority_level;

const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const PLAIN_VERBS: &[&str] =
    &["connect", "delete", "get", "head", "options", "patch", "post", "put", "trace"];

/// Keeps all of the metadata on a write of the status, but for who manages which field.
fn keep_whole_metadata(new: &mut Value, old: &Value) {
    keep_metadata(new, old);
    copy_meta(old, new, "generateName");
}

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

pub(super) fn flow_schema() -> Strategy {
    Strategy {
        defaults: |object| {
            let fields = object_mut(object, &["spec"]);
            if fields.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(0) == 0 {
                fields.insert("matchingPrecedence".to_owned(), 1000.into());
            }
        },
        prepare_status: keep_whole_metadata,
        validate: |object, errors| {
            let schema = &object["spec"];
            precedence(schema, name(object), errors);
            let method = &schema["distinguisherMethod"];
            if method.is_object() && !["ByNamespace", "ByUser"].contains(&text(method, &["type"])) {
                errors.unsupported_shown(
                    &spec("distinguisherMethod").child("type"),
                    &internal("a.flowcontrol.v1.FlowDistinguisherMethod", method),
                    &["ByNamespace", "ByUser"],
                );
            }
            let path = spec("priorityLevelConfiguration").child("name");
            match text(schema, &["priorityLevelConfiguration", "name"]) {
                "" => errors.required(&path, "must reference a priority level"),
                level => named(NameRule::Subdomain, level, &path, errors),
            }
            for (i, rule) in list(schema, &["rules"]).iter().enumerate() {
                self::rule(rule, &spec("rules").index(i), errors);
            }
            mandatory("flowschemas", "a.flowcontrol.v1.FlowSchemaSpec", object, errors);
        },
        validate_status: conditions,
        ..base()
    }
}

fn conditions(new: &Value, _: &Value, errors: &mut Errors) {
    let mut types = HashSet::new();
    for (i, condition) in list(new, &["status", "conditions"]).iter().enumerate() {
        let path = Path::new("status.conditions").index(i).child("type");
        let kind = text(condition, &["type"]);
        if !types.insert(kind) {
            errors.duplicate(&path, kind);
        }
        if kind.is_empty() {
            errors.required(&path, "");
        }
    }
}

/// Those that a server cannot do without are as they are. What exempt requests borrow and lend may change.
fn mandatory(plural: &str, definition: &str, object: &Value, errors: &mut Errors) {
    let name = name(object);
    if !["exempt", "catch-all"].contains(&name) {
        return;
    }
    let Some(mut wanted) = bootstrap::table_object(plural, name) else { return };
    let mut given = object["spec"].clone();
    let mut but = "";
    if plural == "prioritylevelconfigurations" && name == "exempt" {
        but = " except the 'spec.exempt' field";
        for spec in [&mut wanted["spec"], &mut given] {
            object_mut(spec, &[]).remove("exempt");
        }
    }
    if wanted["spec"] != given {
        let detail = format!("spec of '{name}'{but} must equal the fixed value");
        errors.invalid_struct(&Path::new("spec"), definition, &object["spec"], detail);
    }
}

fn precedence(schema: &Value, name: &str, errors: &mut Errors) {
    let path = spec("matchingPrecedence");
    let given = schema["matchingPrecedence"].as_i64().unwrap_or(0);
    if given <= 0 {
        errors.invalid(&path, given, "must be a positive value");
    }
    if given > PRECEDENCE_MAX {
        errors.invalid(&path, given, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if given == 1 && name != "exempt" {
        errors.invalid(&path, given, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
}

fn rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let subjects = list(rule, &["subjects"]);
    if subjects.is_empty() {
        errors.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    for (i, subject) in subjects.iter().enumerate() {
        self::subject(subject, &path.child("subjects").index(i), errors);
    }
    let (resources, others) = (list(rule, &["resourceRules"]), list(rule, &["nonResourceRules"]));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, detail);
    }
    for (i, rule) in resources.iter().enumerate() {
        resource_rule(rule, &path.child("resourceRules").index(i), errors);
    }
    for (i, rule) in others.iter().enumerate() {
        plain_rule(rule, &path.child("nonResourceRules").index(i), errors);
    }
}

fn subject(subject: &Value, path: &Path, errors: &mut Errors) {
    const FIELDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, &["kind"]);
    let Some((_, own)) = FIELDS.iter().find(|(k, _)| *k == kind) else {
        errors.unsupported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    let (given, at) = (&subject[*own], path.child(own));
    if given.is_null() {
        errors.required(&at, &format!("{own} is required when subject kind is '{kind}'"));
    } else if kind == "ServiceAccount" {
        match text(given, &["name"]) {
            "" => errors.required(&at.child("name"), ""),
            "*" => {}
            name => named(NameRule::Subdomain, name, &at.child("name"), errors),
        }
        match text(given, &["namespace"]) {
            "" => {
                let detail = "must specify namespace for service account";
                errors.required(&at.child("namespace"), detail);
            }
            namespace => named(NameRule::Label, namespace, &at.child("namespace"), errors),
        }
    } else {
        checks::required(given, "name", &at, errors);
    }
    for (kind, field) in FIELDS.iter().filter(|(k, _)| *k != kind) {
        if !subject[*field].is_null() {
            let detail = format!("{field} is forbidden when subject kind is not '{kind}'");
            errors.forbidden(&path.child(field), detail);
        }
    }
}

fn several_with_wildcard(values: &[Value]) -> bool {
    values.len() > 1 && values.iter().any(|v| v == "*")
}

fn verbs(rule: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let (verbs, path) = (list(rule, &["verbs"]), path.child("verbs"));
    if verbs.is_empty() {
        errors.required(&path, "verbs must contain at least one value");
    } else if verbs.iter().any(|v| v == "*") {
        if verbs.len() > 1 {
            let detail = "if '*' is present, must not specify other verbs";
            errors.invalid(&path, verbs.to_vec(), detail);
        }
    } else if !verbs.iter().all(|v| v.as_str().is_some_and(|v| known.contains(&v))) {
        // Whatever the rule is about, upstream lists the verbs of resources.
        errors.unsupported(&path, verbs.to_vec(), VERBS);
    }
}

fn resource_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    verbs(rule, VERBS, path, errors);
    for (field, what, need) in [
        ("apiGroups", "api groups", "resource rules must supply at least one api group"),
        ("resources", "resources", "resource rules must supply at least one resource"),
    ] {
        let (values, path) = (list(rule, &[field]), path.child(field));
        if values.is_empty() {
            errors.required(&path, need);
        } else if several_with_wildcard(values) {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.invalid(&path, values.to_vec(), detail);
        }
    }
    let (namespaces, path) = (list(rule, &["namespaces"]), path.child("namespaces"));
    if namespaces.is_empty() {
        if rule["clusterScope"] != Value::Bool(true) {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.required(&path, detail);
        }
    } else if namespaces.iter().any(|n| n == "*") {
        if namespaces.len() > 1 {
            let detail = "if '*' is present, must not specify other namespaces";
            errors.invalid(&path, namespaces.to_vec(), detail);
        }
    } else {
        for (i, namespace) in namespaces.iter().filter_map(Value::as_str).enumerate() {
            for wrong in name_errors(NameRule::Label, namespace, false) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {wrong}");
                errors.invalid(&path.index(i), namespace, detail);
            }
        }
    }
}

fn plain_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    verbs(rule, PLAIN_VERBS, path, errors);
    let (urls, path) = (list(rule, &["nonResourceURLs"]), path.child("nonResourceURLs"));
    if urls.is_empty() {
        errors.required(&path, "nonResourceURLs must contain at least one value");
    } else if several_with_wildcard(urls) {
        let detail = "if '*' is present, must not specify other non-resource URLs";
        errors.invalid(&path, urls.to_vec(), detail);
    } else {
        for (i, url) in urls.iter().filter_map(Value::as_str).filter(|u| *u != "*").enumerate() {
            if let Some(wrong) = url_error(url) {
                errors.invalid(&path.index(i), url, wrong);
            }
        }
    }
}

fn url_error(url: &str) -> Option<&'static str> {
    if url.is_empty() {
        Some("must not be empty")
    } else if url == "/" {
        None
    } else if !url.starts_with('/') {
        Some("must start with slash")
    } else if url.contains(' ') {
        Some("must not contain white-space")
    } else if url.contains("//") {
        Some("must not contain double slash")
    } else if url.matches('*').count() > usize::from(url.ends_with("/*")) {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_needs_is_as_it_is() {
        let check = |plural: &str, name: &str, field: &str, value: Value| {
            let mut object = bootstrap::table_object(plural, name).expect("in the table");
            object["metadata"]["name"] = name.into();
            object["spec"][field] = value;
            let mut errors = Errors::default();
            let strategy = if plural == "flowschemas" { flow_schema() } else { priority_level() };
            (strategy.defaults)(&mut object);
            (strategy.validate)(&object, &mut errors);
            errors
                .messages()
                .into_iter()
                .map(|m| m.rsplit(": ").next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        let exempt =
            |shares: i64| serde_json::json!({"nominalConcurrencyShares": shares, "lendablePercent": 0});
        let levels = "prioritylevelconfigurations";
        assert!(check(levels, "exempt", "exempt", exempt(7)).is_empty());
        assert!(check(levels, "system", "exempt", Value::Null).is_empty());
        assert!(check("flowschemas", "catch-all", "matchingPrecedence", 10_000.into()).is_empty());
        let told = check("flowschemas", "catch-all", "matchingPrecedence", 9_999.into());
        assert_eq!(told, ["spec of 'catch-all' must equal the fixed value"]);
    }
}
