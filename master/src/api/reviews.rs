//! Kinds that are questions: tokens and who may do what. They are answered and never stored.

use std::sync::Arc;

use protocol::schema::internal;
use protocol::selector::{label_value_error, qualified_name_error};
use protocol::{ApiError, ApiRequest, Caller};
use serde_json::{Value, json};

use super::admission::{self, Write, calls};
use super::invalid::{Errors, Path, check};
use super::managed::Tracking;
use super::object::{self, list, text};
use super::pipeline::Inner;
use super::registry::body::{self, Sent};
use super::registry::{Answer, Subject};
use crate::auth::{Attributes, Decision, reviews};

impl Inner {
    /// Answers a TokenRequest.
    pub async fn token(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let validation = request.options.field_validation.as_deref();
        let mut body =
            body::decode("authentication.k8s.io", "v1", "TokenRequest", &request.body, validation, warnings)?
                .value;
        // The account may have been made just now; what follows reads the cache.
        let snapshot = self.fresh().await?;
        let mut write =
            Write { request, subject, old: None, snapshot: &snapshot, warnings, given_empty: None };
        calls::mutate(self, &mut write, &mut body).await?;
        admission::node_restriction::token(&snapshot, request, &body)?;
        calls::validate(self, &mut write, &body).await?;
        let keys = self.authenticator.keys();
        let made = reviews::token_request(keys, &self.cache, subject.namespace, subject.name, &body)?;
        Ok(Answer::json(201, &made))
    }

    /// Answers one of the review kinds, which are only ever created.
    pub async fn review(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let r = subject.resource;
        let validation = request.options.field_validation.as_deref();
        let Sent { value: mut body, empties } =
            body::decode(r.group, r.version, r.kind, &request.body, validation, warnings)?;
        if !r.namespaced {
            object::object_mut(&mut body, &["metadata"]).remove("namespace");
        }
        let snapshot = self.recent().await?;
        let mut write =
            Write { request, subject, old: None, snapshot: &snapshot, warnings, given_empty: None };
        calls::mutate(self, &mut write, &mut body).await?;
        calls::validate(self, &mut write, &body).await?;
        let spec = body["spec"].clone();
        // Those that come back as they were given have their fields' managers, as all that is made has.
        if !matches!(r.kind, "SelfSubjectReview" | "SelfSubjectRulesReview") {
            Tracking::of(request, subject).create(&mut body, &empties);
        }
        body["status"] = match r.kind {
            "TokenReview" => reviews::token_review(&self.authenticator, &body)?["status"].clone(),
            "SelfSubjectReview" => {
                body["metadata"] = json!({"creationTimestamp": object::now()});
                json!({"userInfo": reviews::user_info(&request.caller)})
            }
            "SelfSubjectRulesReview" => {
                let namespace = text(&spec, &["namespace"]);
                if namespace.is_empty() {
                    return Err(ApiError::bad_request("no namespace on request"));
                }
                let rules = reviews::rules_for(&self.authorizer, &request.caller, namespace);
                // What was asked does not come back.
                body["spec"] = json!({});
                object::object_mut(&mut body, &["metadata"]).retain(|name, _| name == "creationTimestamp");
                rules
            }
            _ => {
                if !subject.namespace.is_empty() {
                    let said = object::namespace(&body);
                    if !said.is_empty() && said != subject.namespace {
                        return Err(ApiError::bad_request(
                            "the namespace of the provided object does not match the namespace sent on the request",
                        ));
                    }
                    body["metadata"]["namespace"] = subject.namespace.into();
                }
                // Upstream names no kind here.
                check(invalid_access(r.kind, &body), r.group, "", "")?;
                self.access(r.kind == "SelfSubjectAccessReview", &request.caller, &spec)
            }
        };
        Ok(Answer::json(201, &body))
    }

    /// The status of the SubjectAccessReview family.
    fn access(&self, own: bool, asking: &Arc<Caller>, spec: &Value) -> Value {
        let caller = if own { asking.clone() } else { Arc::new(subject_of(spec)) };
        let (resource, url) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        let attributes = if resource.is_object() {
            let field = |name: &str| text(resource, &[name]).to_owned();
            Attributes {
                caller,
                verb: field("verb"),
                group: field("group"),
                version: field("version"),
                resource: field("resource"),
                subresource: field("subresource"),
                namespace: field("namespace"),
                name: field("name"),
                field_equals: exact_fields(&resource["fieldSelector"]),
                ..Attributes::default()
            }
        } else {
            // Nobody's method: it counts as it is written.
            let verb = text(url, &["verb"]).to_owned();
            Attributes { verb, ..Attributes::path(caller, "", text(url, &["path"])) }
        };
        let decision = self.authorizer.decide(&attributes);
        let mut status = json!({"allowed": decision.is_allowed()});
        if let Decision::Deny(_) = decision {
            status["denied"] = true.into();
        }
        if !decision.reason().is_empty() {
            status["reason"] = decision.reason().into();
        }
        let ignored: Vec<String> = ["fieldSelector", "labelSelector"]
            .into_iter()
            .filter(|name| !is_understood(&resource[*name], *name == "fieldSelector"))
            .map(|name| format!("spec.resourceAttributes.{name} ignored due to parse error"))
            .collect();
        match ignored.as_slice() {
            [] => {}
            [one] => status["evaluationError"] = one.as_str().into(),
            more => status["evaluationError"] = format!("[{}]", more.join(", ")).into(),
        }
        status
    }
}

/// Whether authorizers can make something of a selector. Fields are compared with single values only.
fn is_understood(selector: &Value, of_fields: bool) -> bool {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return match of_fields {
            true => protocol::selector::FieldSelector::parse(raw).is_ok(),
            false => protocol::Selector::parse(raw).is_ok(),
        };
    }
    list(selector, &["requirements"]).iter().all(|requirement| {
        let values = list(requirement, &["values"]).len();
        match text(requirement, &["operator"]) {
            "In" | "NotIn" => !of_fields || values == 1,
            "Exists" | "DoesNotExist" => !of_fields,
            _ => false,
        }
    })
}

/// Whom a review asks about.
fn subject_of(spec: &Value) -> Caller {
    Caller {
        user: text(spec, &["user"]).to_owned(),
        uid: text(spec, &["uid"]).to_owned(),
        groups: list(spec, &["groups"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    }
}

/// The fields that a review's selector restricts to exactly one value.
fn exact_fields(selector: &Value) -> Vec<(String, String)> {
    if let Some(raw) = selector["rawSelector"].as_str() {
        let parsed = protocol::selector::FieldSelector::parse(raw).unwrap_or_default();
        return parsed.requirements.into_iter().filter(|r| !r.negated).map(|r| (r.field, r.value)).collect();
    }
    let exact = list(selector, &["requirements"]).iter().filter_map(|r| match list(r, &["values"]) {
        [value] if text(r, &["operator"]) == "In" => {
            Some((text(r, &["key"]).to_owned(), value.as_str()?.to_owned()))
        }
        _ => None,
    });
    exact.collect()
}

/// What is wrong with a SubjectAccessReview, or one of its like.
fn invalid_access(kind: &str, review: &Value) -> Errors {
    let mut errors = Errors::default();
    let spec = &review["spec"];
    let (resource, url) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let at = Path::new("spec");
    // Go prints its internal type here.
    let shown_url =
        format!("{{\"Path\":{},\"Verb\":{}}}", json!(text(url, &["path"])), json!(text(url, &["verb"])));
    match (resource.is_object(), url.is_object()) {
        (true, true) => errors.invalid_shown(
            &at.child("nonResourceAttributes"),
            &shown_url,
            "cannot be specified in combination with resourceAttributes",
        ),
        (false, false) => errors.invalid(
            &at.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    let own = kind == "SelfSubjectAccessReview";
    if !own && text(spec, &["user"]).is_empty() && list(spec, &["groups"]).is_empty() {
        errors.invalid(&at.child("user"), "", "at least one of user or group must be specified");
    }
    for (name, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        selector(&mut errors, &at.child("resourceAttributes").child(name), &resource[name], labels);
    }
    let local = kind == "LocalSubjectAccessReview";
    let said = review["metadata"].as_object().into_iter().flatten();
    let more = said.filter(|(name, value)| {
        !(value.is_null() || *name == "managedFields" || (local && *name == "namespace"))
    });
    if more.count() > 0 {
        let why = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.invalid_shown(&Path::new("metadata"), &shown_meta(&review["metadata"]), why);
    }
    if local {
        let (named, own) = (text(resource, &["namespace"]), object::namespace(review));
        if resource.is_object() && named != own {
            errors.invalid(
                &at.child("resourceAttributes").child("namespace"),
                named,
                "must match metadata.namespace",
            );
        }
        if url.is_object() {
            errors.invalid_shown(
                &at.child("nonResourceAttributes"),
                &shown_url,
                "disallowed on this kind of request",
            );
        }
    }
    errors
}

/// Metadata with its fields in the order of Go's structs.
fn shown_meta(meta: &Value) -> String {
    protocol::schema::definition("m.ObjectMeta")
        .map_or_else(|| meta.to_string(), |definition| internal::external(definition, meta).compact())
}

fn selector(errors: &mut Errors, at: &Path, selector: &Value, labels: bool) {
    if !selector.is_object() {
        return;
    }
    let (raw, requirements) = (text(selector, &["rawSelector"]), list(selector, &["requirements"]));
    if !raw.is_empty() && !requirements.is_empty() {
        errors.invalid(&at.child("rawSelector"), raw, "may not specified at the same time as requirements");
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {at} is specified, requirements or rawSelector is required");
        errors.required(&at.child("requirements"), &why);
    }
    for (i, requirement) in requirements.iter().enumerate() {
        let at = at.child("requirements").index(i);
        let key = text(requirement, &["key"]);
        if !labels && key.is_empty() {
            errors.required(&at.child("key"), "must be specified");
        }
        let values = list(requirement, &["values"]);
        match text(requirement, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&at.child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &at.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            _ => {}
        }
        if labels {
            for error in qualified_name_error(key) {
                errors.invalid(&at.child("key"), key, error);
            }
            for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
                for error in label_value_error(value) {
                    errors.invalid(&at.child("values").index(j), value, error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_checked_as_upstream_does() {
        let pods = json!({"namespace": "n", "verb": "get", "resource": "pods"});
        for (kind, metadata, spec, expected) in [
            ("SubjectAccessReview", json!({}), json!({"user": "x", "resourceAttributes": pods}), vec![]),
            (
                "SubjectAccessReview",
                json!({"name": "n"}),
                json!({"user": "x", "resourceAttributes": pods}),
                vec!["metadata: Invalid value: {\"name\":\"n\"}: must be empty"],
            ),
            (
                "SubjectAccessReview",
                json!({}),
                json!({"user": "x", "resourceAttributes": pods, "nonResourceAttributes": {"path": "/", "verb": "get"}}),
                vec![
                    "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/\",\"Verb\":\"get\"}: cannot be specified in \
                     combination with resourceAttributes",
                ],
            ),
            (
                "LocalSubjectAccessReview",
                json!({"namespace": "other"}),
                json!({"groups": ["g"], "resourceAttributes": pods}),
                vec![
                    "spec.resourceAttributes.namespace: Invalid value: \"n\": must match metadata.namespace",
                ],
            ),
            (
                "SelfSubjectAccessReview",
                json!({}),
                json!({}),
                vec![
                    "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                     resourceAttributes must be specified",
                ],
            ),
            (
                "SubjectAccessReview",
                json!({}),
                json!({"user": "x", "resourceAttributes": {"labelSelector": {}}}),
                vec![
                    "spec.resourceAttributes.labelSelector.requirements: Required value: when \
                     spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required",
                ],
            ),
        ] {
            let review = json!({"metadata": metadata, "spec": spec});
            assert_eq!(invalid_access(kind, &review).messages(), expected, "{kind} {review}");
        }
    }
}
