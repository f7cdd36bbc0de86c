//! Answers to TokenRequest, TokenReview and the rules reviews: bodies in, bodies out.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::{ApiError, Caller, Object};
use serde_json::{Value, json};

use crate::audit::annotations::annotate;
use crate::cache::Cache;

use super::rbac::PolicyRule;
use super::tokens::{Bound, ISSUER, ObjectRef, TokenError, TokenKeys};
use super::{Authenticator, ClusterAuthorizer, MASTERS, authenticate};

const LIFETIME_DEFAULT: i64 = 3600;
const LIFETIME_MIN: i64 = 600;
const LIFETIME_MAX: i64 = 1 << 32;

/// Answers a TokenRequest for an account.
pub fn token_request(
    keys: &TokenKeys,
    cache: &Cache,
    namespace: &str,
    name: &str,
    body: &Value,
) -> Result<Value, ApiError> {
    if body["metadata"]["namespace"].as_str().is_some_and(|n| !n.is_empty() && n != namespace) {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    if let Some(other) = body["metadata"]["name"].as_str().filter(|n| !n.is_empty() && *n != name) {
        let why = format!("Invalid value: \"{other}\": must match the service account name if specified");
        return Err(invalid(name, "metadata.name", &why));
    }
    let account = cache.get::<ServiceAccount>(namespace, name);
    let account = account.ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
    let spec = &body["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(LIFETIME_DEFAULT);
    if seconds < LIFETIME_MIN {
        let why = format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
        return Err(invalid("", "spec.expirationSeconds", &why));
    }
    if seconds > LIFETIME_MAX {
        let why = format!("Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds");
        return Err(invalid("", "spec.expirationSeconds", &why));
    }
    let mut audiences = strings(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let mut bound = Bound {
        namespace: namespace.to_owned(),
        serviceaccount: reference(&account.metadata),
        ..Bound::default()
    };
    bind(cache, &spec["boundObjectRef"], &mut bound)?;

    let now = actors::time::now();
    let lifetime = Duration::from_secs(seconds.unsigned_abs());
    let minted = keys.mint(&audiences, lifetime, now, bound).map_err(ApiError::internal)?;
    annotate("authentication.kubernetes.io/issued-credential-id", &minted.credential_id);
    let mut metadata = json!({
        "name": name, "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": rfc3339(now),
    });
    for field in ["labels", "annotations"] {
        if body["metadata"][field].is_object() {
            metadata[field] = body["metadata"][field].clone();
        }
    }
    Ok(json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": metadata,
        "spec": {
            "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"],
        },
        "status": {"token": minted.token, "expirationTimestamp": rfc3339(now + lifetime)},
    }))
}

fn rfc3339(time: std::time::SystemTime) -> String {
    let time = time::OffsetDateTime::from(time);
    let time = time.replace_nanosecond(0).unwrap_or(time);
    // Formatting fails only for years beyond 9999.
    time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn invalid(name: &str, field: &str, why: &str) -> ApiError {
    let message = format!("TokenRequest.authentication.k8s.io \"{name}\" is invalid: {field}: {why}");
    let mut details = json!({
        "group": "authentication.k8s.io", "kind": "TokenRequest",
        "causes": [{"reason": "FieldValueInvalid", "message": why, "field": field}],
    });
    if !name.is_empty() {
        details["name"] = name.into();
    }
    ApiError::about(422, "Invalid", message, details)
}

fn reference(meta: &ObjectMeta) -> ObjectRef {
    ObjectRef { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone().unwrap_or_default() }
}

/// Fills in what the token is bound to.
fn bind(cache: &Cache, wanted: &Value, bound: &mut Bound) -> Result<(), ApiError> {
    if wanted.is_null() {
        return Ok(());
    }
    let text = |key: &str| wanted[key].as_str().unwrap_or_default();
    let (kind, version, name, uid) = (text("kind"), text("apiVersion"), text("name"), text("uid"));
    let namespace = bound.namespace.clone();
    // The version is not looked at, only the group.
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    if group.is_empty() && matches!(kind, "Pod" | "Secret" | "Node") && name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    match (group, kind) {
        ("", "Pod") => {
            let pod = find::<Pod>(cache, &namespace, name, uid)?;
            let spec = pod.spec.clone().unwrap_or_default();
            let runs_as = spec.service_account_name.unwrap_or_default();
            if runs_as != bound.serviceaccount.name {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                    bound.serviceaccount.name
                )));
            }
            bound.pod = Some(reference(&pod.metadata));
            if let Some(node) = spec.node_name.filter(|n| !n.is_empty()) {
                let uid =
                    cache.get::<Node>("", &node).and_then(|n| n.metadata.uid.clone()).unwrap_or_default();
                bound.node = Some(ObjectRef { name: node, uid });
            }
        }
        ("", "Secret") => {
            bound.secret = Some(reference(&find::<Secret>(cache, &namespace, name, uid)?.metadata))
        }
        ("", "Node") => bound.node = Some(reference(&find::<Node>(cache, "", name, uid)?.metadata)),
        _ => {
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
}

fn find<K: Object>(
    cache: &Cache,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<std::sync::Arc<K>, ApiError> {
    let missing = || ApiError::not_found(K::GROUP, K::URL_PATH_SEGMENT, name);
    let found = cache.get::<K>(namespace, name).ok_or_else(missing)?;
    if !uid.is_empty() && found.metadata().uid.as_deref() != Some(uid) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        // Upstream takes the kind for the resource here.
        return Err(ApiError::conflict(K::GROUP, K::KIND, name, &why));
    }
    Ok(found)
}

/// Answers a TokenReview.
pub fn token_review(authenticator: &Authenticator, body: &Value) -> Result<Value, ApiError> {
    let token = body["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences = strings(&body["spec"]["audiences"]);
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    // It is looked at as it would be in a header, whose words are parted by single spaces: one without a token is
    // nobody's.
    let header = format!("Bearer {token}");
    let status = match header.trim().split(' ').nth(1) {
        None | Some("") => {
            json!({"authenticated": true, "user": user_info(&authenticate::anonymous()), "audiences": audiences})
        }
        Some(token) => reviewed(authenticator, token, &audiences),
    };
    Ok(json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": body.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": body["spec"], "status": status,
    }))
}

/// What is to be said about a token.
fn reviewed(authenticator: &Authenticator, token: &str, audiences: &[String]) -> Value {
    match authenticator.token(token, audiences) {
        Ok((caller, common)) => {
            json!({"authenticated": true, "user": user_info(&caller), "audiences": common})
        }
        Err(error) => {
            tracing::debug!(%error, "a reviewed token is not good");
            let why = match error {
                // Each reader of tokens says why it is none for it; this one comes after those that cannot read it at all.
                TokenError::Audience(of) if !of.is_empty() => format!(
                    "[invalid bearer token, token audiences {} is invalid for the target audiences {}]",
                    protocol::go::quoted_list(&of),
                    protocol::go::quoted_list(audiences)
                ),
                _ => "invalid bearer token".to_owned(),
            };
            json!({"user": {}, "error": why})
        }
    }
}

/// A caller as reviews show it.
pub fn user_info(caller: &Caller) -> Value {
    let mut info = json!({"username": caller.user});
    if !caller.uid.is_empty() {
        info["uid"] = caller.uid.as_str().into();
    }
    if !caller.groups.is_empty() {
        info["groups"] = json!(caller.groups);
    }
    if !caller.extra.is_empty() {
        info["extra"] = json!(caller.extra);
    }
    info
}

/// What somebody may do in a namespace: the status of a SelfSubjectRulesReview.
pub fn rules_for(authorizer: &ClusterAuthorizer, caller: &Caller, namespace: &str) -> Value {
    let (mut rules, errors) = authorizer.rbac().rules(caller, namespace);
    if caller.groups.iter().any(|g| g == MASTERS) {
        let all = || Some(vec!["*".to_owned()]);
        let everything = PolicyRule {
            verbs: vec!["*".to_owned()],
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        };
        let urls =
            PolicyRule { verbs: vec!["*".to_owned()], non_resource_urls: all(), ..PolicyRule::default() };
        rules.splice(0..0, [everything, urls]);
    }
    let mut resource_rules = Vec::new();
    let mut url_rules = Vec::new();
    for rule in rules {
        if let Some(resources) = rule.resources.filter(|r| !r.is_empty()) {
            let mut shown = json!({
                "verbs": rule.verbs, "apiGroups": rule.api_groups.unwrap_or_default(), "resources": resources,
            });
            if let Some(names) = rule.resource_names.filter(|n| !n.is_empty()) {
                shown["resourceNames"] = json!(names);
            }
            resource_rules.push(shown);
        } else if let Some(urls) = rule.non_resource_urls.filter(|u| !u.is_empty()) {
            url_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
        }
    }
    let mut status = json!({"resourceRules": resource_rules, "nonResourceRules": url_rules, "incomplete": !errors.is_empty()});
    if !errors.is_empty() {
        status["evaluationError"] = errors.join(", ").into();
    }
    status
}
