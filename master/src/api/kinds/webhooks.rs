//! Webhook configurations, and the defaults that admission policies share with them.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::go::url::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::checks::{self, named};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{self, default, list, list_mut, object_mut, text};
use crate::api::policy::definition;
use crate::api::policy::request::environment;

const URL_FORM: &str = "; desired format: https://host[/path]";

fn matching_defaults(fields: &mut Map<String, Value>) {
    default(fields, "matchPolicy", "Equivalent");
    default(fields, "namespaceSelector", json!({}));
    default(fields, "objectSelector", json!({}));
}

/// The end of names that configurations in files have.
const STATIC: &str = ".static.k8s.io";

/// What is said about a name that is another's to give.
fn name_notes(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    if object::name(object).ends_with(STATIC) {
        said.push(format!(
            "metadata.name: names ending with {STATIC:?} are reserved for static manifest-based configurations and \
             cannot be managed via the API"
        ));
    }
}

pub(super) fn configuration() -> Strategy {
    Strategy {
        warnings: name_notes,
        defaults: |object| {
            let mutating = object["kind"] == "MutatingWebhookConfiguration";
            for hook in list_mut(object, &["webhooks"]) {
                let fields = object_mut(hook, &[]);
                default(fields, "failurePolicy", "Fail");
                matching_defaults(fields);
                default(fields, "timeoutSeconds", 10);
                if mutating {
                    default(fields, "reinvocationPolicy", "Never");
                }
                if let Some(service) =
                    hook.pointer_mut("/clientConfig/service").and_then(Value::as_object_mut)
                {
                    default(service, "port", 443);
                }
                for rule in list_mut(hook, &["rules"]) {
                    default(object_mut(rule, &[]), "scope", "*");
                }
            }
        },
        validate: |object, errors| {
            let mut names = HashSet::new();
            for (i, hook) in list(object, &["webhooks"]).iter().enumerate() {
                let path = Path::new("webhooks").index(i);
                webhook(hook, &path, errors);
                review_versions(hook, &path.child("admissionReviewVersions"), errors);
                let name = text(hook, &["name"]);
                if !name.is_empty() && !names.insert(name) {
                    errors.duplicate(&path.child("name"), name);
                }
            }
        },
        ..base()
    }
}

/// What policies leave to the server.
pub(super) fn policy() -> Strategy {
    Strategy {
        warnings: name_notes,
        defaults: |object| {
            default(object_mut(object, &["spec"]), "failurePolicy", "Fail");
            constraint_defaults(object, "matchConstraints");
        },
        ..base()
    }
}

/// What bindings of policies leave to the server.
pub(super) fn policy_binding() -> Strategy {
    Strategy {
        warnings: name_notes,
        defaults: |object| constraint_defaults(object, "matchResources"),
        ..base()
    }
}

fn constraint_defaults(object: &mut Value, field: &str) {
    if !object["spec"][field].is_object() {
        return;
    }
    matching_defaults(object_mut(object, &["spec", field]));
    for kind in ["resourceRules", "excludeResourceRules"] {
        for rule in list_mut(object, &["spec", field, kind]) {
            default(object_mut(rule, &[]), "scope", "*");
        }
    }
}

fn webhook(hook: &Value, path: &Path, errors: &mut Errors) {
    checks::fully_qualified(text(hook, &["name"]), 3, &path.child("name"), errors);
    for (i, rule) in list(hook, &["rules"]).iter().enumerate() {
        self::rule(rule, &path.child("rules").index(i), errors);
    }
    for (field, known) in [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])] {
        checks::choice(&hook[field], &known, &path.child(field), errors);
    }
    match hook["sideEffects"].as_str() {
        None => errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun"),
        Some(given) if !["None", "NoneOnDryRun"].contains(&given) => {
            errors.unsupported(&path.child("sideEffects"), given, &["None", "NoneOnDryRun"]);
        }
        Some(_) => {}
    }
    if hook["timeoutSeconds"].as_i64().is_some_and(|n| !(1..=30).contains(&n)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), hook["timeoutSeconds"].clone(), detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        checks::label_selector(&hook[field], &path.child(field), errors);
    }
    let at = path.child("reinvocationPolicy");
    checks::choice(&hook["reinvocationPolicy"], &["IfNeeded", "Never"], &at, errors);
    client(&hook["clientConfig"], &path.child("clientConfig"), errors);
    let conditions = list(hook, &["matchConditions"]);
    if !conditions.is_empty() {
        definition::conditions(conditions, &environment(false), &path.child("matchConditions"), errors);
    }
}

fn review_versions(hook: &Value, path: &Path, errors: &mut Errors) {
    let versions: Vec<&str> =
        list(hook, &["admissionReviewVersions"]).iter().filter_map(Value::as_str).collect();
    if versions.is_empty() {
        errors.required(path, "must specify one of v1, v1beta1");
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            errors.invalid(&path.index(i), *version, "duplicate version");
            continue;
        }
        named(NameRule::Label1035, version, &path.index(i), errors);
    }
    if !versions.iter().any(|v| ["v1", "v1beta1"].contains(v)) {
        let detail = "must include at least one of v1, v1beta1";
        errors.invalid(path, hook["admissionReviewVersions"].clone(), detail);
    }
}

/// A rule about operations on resources, as webhooks and policies have them.
pub fn rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let alone = |field: &str, what: &str, errors: &mut Errors| {
        let (values, path) = (list(rule, &[field]), path.child(field));
        if values.is_empty() {
            errors.required(&path, "");
        }
        if values.len() > 1 && values.iter().any(|v| v == "*") {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.invalid(&path, values.to_vec(), detail);
        }
    };
    alone("operations", "operations", errors);
    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    for (i, operation) in list(rule, &["operations"]).iter().enumerate() {
        checks::choice(operation, &known, &path.child("operations").index(i), errors);
    }
    alone("apiGroups", "API groups", errors);
    alone("apiVersions", "API versions", errors);
    for (i, version) in list(rule, &["apiVersions"]).iter().enumerate() {
        if version == "" {
            errors.required(&path.child("apiVersions").index(i), "");
        }
    }
    resources(list(rule, &["resources"]), &path.child("resources"), errors);
    checks::choice(&rule["scope"], &["*", "Cluster", "Namespaced"], &path.child("scope"), errors);
}

fn resources(resources: &[Value], path: &Path, errors: &mut Errors) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    let (mut all_of, mut everywhere) = (HashSet::new(), HashSet::new());
    let (mut double, mut single, mut plain) = (false, false, false);
    for (i, given) in resources.iter().filter_map(Value::as_str).enumerate() {
        match given {
            "" => {
                errors.required(&path.index(i), "");
                continue;
            }
            "*/*" => double = true,
            "*" => single = true,
            _ => {}
        }
        let Some((resource, sub)) = given.split_once('/') else {
            // Only the last of them is remembered upstream.
            plain = given != "*";
            continue;
        };
        if all_of.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {given}");
            errors.invalid(&path.index(i), given, detail);
        }
        if everywhere.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {given}");
            errors.invalid(&path.index(i), given, detail);
        }
        if sub == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(sub);
        }
    }
    if resources.len() > 1 && double {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, resources.to_vec(), detail);
    }
    if single && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, resources.to_vec(), detail);
    }
}

/// Checks where a webhook is.
pub fn client(config: &Value, path: &Path, errors: &mut Errors) {
    let (url, service) = (config["url"].as_str(), &config["service"]);
    match (url, service.is_object()) {
        (None, false) | (Some(_), true) => {
            errors.required(path, "exactly one of url or service is required");
        }
        (Some(url), false) => self::url(url, &path.child("url"), errors),
        (None, true) => self::service(service, &path.child("service"), errors),
    }
}

fn url(url: &str, path: &Path, errors: &mut Errors) {
    let Url { scheme, user, host, query, fragment } = match protocol::go::url::parse(url) {
        Ok(url) => url,
        Err(why) => return errors.required(path, &format!("url must be a valid URL: {why}{URL_FORM}")),
    };
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{URL_FORM}");
        errors.invalid(path, scheme, detail);
    }
    if host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{URL_FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

/// Checks the authorities that a client trusts.
pub fn bundle(config: &Value, path: &Path, errors: &mut Errors) {
    let given = text(config, &["caBundle"]);
    let pem = STANDARD.decode(given).unwrap_or_default();
    if !given.is_empty() && !certificates(&pem) {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.invalid(path, given, why);
    }
}

/// Whether text has certificates in it, all of them good.
fn certificates(pem: &[u8]) -> bool {
    let mut found = CertificateDer::pem_slice_iter(pem).peekable();
    found.peek().is_some() && found.all(|certificate| certificate.is_ok())
}

fn service(service: &Value, path: &Path, errors: &mut Errors) {
    // Upstream takes one for the other.
    for (read, named) in [("namespace", "name"), ("name", "namespace")] {
        if text(service, &[read]).is_empty() {
            errors.required(&path.child(named), "");
        }
    }
    if service["port"].as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid(&path.child("port"), service["port"].clone(), detail);
    }
    let given = text(service, &["path"]);
    let at = path.child("path");
    if given.is_empty() || given == "/" {
        return;
    }
    if given == "//" {
        errors.invalid(&at, given, "segment[0] may not be empty");
        return;
    }
    if !given.starts_with('/') {
        errors.invalid(&at, given, "must start with a '/'");
    }
    // Whatever it is, the first character is not looked at again.
    let inner = given.get(1..).unwrap_or_default();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (i, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            errors.invalid(&at, given, format!("segment[{i}] may not be empty"));
            continue;
        }
        for error in crate::api::meta::name_errors(NameRule::Subdomain, segment, false) {
            errors.invalid(&at, given, format!("segment[{i}]: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain_and_https() {
        for (given, wanted) in [
            ("https://a.example.com/x", vec![]),
            (
                "http://a",
                vec![
                    "u: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ],
            ),
            (
                "https://u:p@a",
                vec!["u: Invalid value: \"u:p\": user information is not permitted in the URL"],
            ),
            ("https://a?b", vec!["u: Invalid value: \"b\": query parameters are not permitted in the URL"]),
            (
                "https://",
                vec!["u: Invalid value: \"\": host must be specified; desired format: https://host[/path]"],
            ),
        ] {
            let mut errors = Errors::default();
            url(given, &Path::new("u"), &mut errors);
            assert_eq!(errors.messages(), wanted, "{given}");
        }
    }

    #[test]
    fn wildcards_stand_alone() {
        let star = json!({"operations": ["*"], "apiGroups": ["*", "apps"], "apiVersions": ["v1"], "resources": ["*", "pods"]});
        let mut errors = Errors::default();
        rule(&star, &Path::new("r"), &mut errors);
        assert_eq!(
            errors.messages(),
            [
                "r.apiGroups: Invalid value: [\"*\",\"apps\"]: if '*' is present, must not specify other API groups",
                "r.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources \
                 without subresources",
            ]
        );
    }

    #[test]
    fn of_plain_resources_only_the_last_is_remembered() {
        for (given, wrong) in [(json!(["*", "pods"]), 1), (json!(["pods", "*"]), 0), (json!(["", "*"]), 1)] {
            let mut errors = Errors::default();
            resources(list(&json!({"r": given}), &["r"]), &Path::new("r"), &mut errors);
            assert_eq!(errors.len(), wrong, "{given}");
        }
    }
}
