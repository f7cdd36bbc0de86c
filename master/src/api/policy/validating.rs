//! Validating policies: what they refuse.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{ApiError, Resource};
use serde_json::{Value, json};

use super::compiled::{Binding, Expression, ParamRef, Policy, Validating, Validation};
use super::forms::Forms;
use super::matching::{Attempt, Operation};
use super::noted::{Noted, broken, value_of};
use super::request::{REQUEST, described};
use crate::api::admission::Write;
use crate::api::cel::value::{Opaque, Value as CelValue};
use crate::api::cel::{Scope, TOTAL_COST_MAX, Type, library};
use crate::api::convert;
use crate::api::custom::Catalog;
use crate::api::pipeline::Inner;
use crate::auth::Attributes;

static DYN: Type = Type::Dyn;

/// What a policy's expressions are asked about.
pub struct Input<'a> {
    /// The request, described.
    pub request: &'a Value,
    /// The object as it will be.
    pub object: &'a Value,
    /// The object as it is.
    pub old: &'a Value,
    /// The request's namespace.
    pub namespace: &'a Value,
    /// The parameter object.
    pub params: &'a Value,
    /// The request, as authorizers see it.
    pub attributes: &'a Attributes,
}

/// A scope in which a policy's expressions are evaluated, with its variables.
pub fn scope<'a>(inner: &'a Inner, policy: &'a Policy, input: &Input<'a>, budget: &mut u64) -> Scope<'a> {
    let authorizer = Opaque::Authorizer(input.attributes.caller.clone());
    let resource = Opaque::Check(Arc::new(input.attributes.clone()));
    let mut scope = Scope::new([
        ("request", CelValue::of(input.request, &REQUEST)),
        ("object", CelValue::of(input.object, &DYN)),
        ("oldObject", CelValue::of(input.old, &DYN)),
        ("namespaceObject", CelValue::of(input.namespace, &DYN)),
        ("params", CelValue::of(input.params, &DYN)),
        ("authorizer", CelValue::Opaque(authorizer)),
        ("authorizer.requestResource", CelValue::Opaque(resource)),
    ]);
    scope.ask = Some(&*inner.authorizer);
    let mut made = BTreeMap::new();
    for (name, expression) in &policy.variables {
        scope
            .variables
            .insert("variables", CelValue::Struct("kubernetes.variables".into(), Arc::new(made.clone())));
        match evaluate(expression, &scope, budget) {
            Ok(value) => drop(made.insert(name.clone(), value)),
            Err(why) => drop(scope.failed.insert(name.as_str(), why)),
        }
    }
    scope.variables.insert("variables", CelValue::Struct("kubernetes.variables".into(), Arc::new(made)));
    scope
}

/// An expression's value, or why it has none.
pub fn evaluate<'a>(
    expression: &Expression,
    scope: &Scope<'a>,
    budget: &mut u64,
) -> Result<CelValue<'a>, String> {
    match &expression.program {
        Ok(program) => program.evaluate(scope, budget).map_err(|failure| failure.to_string()),
        Err(why) => Err(why.clone()),
    }
}

/// Whether all conditions hold; the error is that of the first which fails, where none is false.
pub fn conditions_hold(
    conditions: &[(String, Expression)],
    scope: &Scope<'_>,
    budget: &mut u64,
) -> Result<bool, String> {
    let mut failed = None;
    for (name, condition) in conditions {
        match evaluate(condition, scope, budget) {
            Ok(CelValue::Bool(true)) => {}
            Ok(CelValue::Bool(false)) => return Ok(false),
            Ok(_) => {
                failed = failed.or(Some(format!("matchCondition \"{name}\" did not evaluate to a bool")))
            }
            Err(why) => {
                failed =
                    failed.or(Some(format!("expression '{}' resulted in error: {why}", condition.source)))
            }
        }
    }
    failed.map_or(Ok(true), Err)
}

/// A refusal by a policy, not yet by a binding's actions.
struct Denial {
    message: String,
    reason: String,
    /// Which of the policy's rules it is; the first one where it is none.
    index: usize,
}

impl Denial {
    fn failed(message: String) -> Self {
        Denial { message, reason: String::new(), index: 0 }
    }
}

impl Inner {
    /// Refuses what validating policies refuse; `object` is `None` for deletions.
    pub async fn check_policies(
        &self,
        write: &mut Write<'_>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        if !self.config.admission.is_on("ValidatingAdmissionPolicy") {
            return Ok(());
        }
        let policies = self.cache.derived_at::<Validating>(write.snapshot);
        let matched: Vec<(&Policy, &'static Resource)> = {
            let attempt = Attempt::of(write, object);
            let meant = |policy: &'_ Arc<Policy>| policy.matcher.matches(&attempt);
            policies.0.0.iter().filter_map(|policy| Some((&**policy, meant(policy)?))).collect()
        };
        let mut forms = Forms::default();
        for (_, form) in &matched {
            forms.make(self, write, form, object).await;
        }
        let mut denied: Vec<(String, String)> = Vec::new();
        let (mut warnings, mut noted) = (Vec::new(), Noted::default());
        for (policy, form) in matched {
            let attempt = Attempt::of(write, object);
            if let Err(why) = self.known_params(policy) {
                if policy.fails {
                    let message = format!("failed to configure policy: {why}");
                    let by = format!("ValidatingAdmissionPolicy '{}' denied request: {message}", policy.name);
                    denied.push((by, String::new()));
                }
                continue;
            }
            let (attributes, namespace) = (Attributes::of(write.request), namespace_of(&attempt));
            let request = described(write.request, &attempt, form);
            for binding in policy.bindings.iter().filter(|b| b.matcher.matches(&attempt).is_some()) {
                let params = self.params_of(policy, binding.params.as_ref(), &attempt).await;
                let denials = match forms.get(form) {
                    Some(Ok(seen)) => {
                        let input = Input {
                            request: &request,
                            object: &seen.object,
                            old: &seen.old,
                            namespace: &namespace,
                            params: &Value::Null,
                            attributes: &attributes,
                        };
                        self.ask_policy(policy, params, input, &mut noted)
                    }
                    Some(Err(why)) if policy.fails => {
                        vec![Denial::failed(format!(
                            "failed to configure binding: failed to convert object version: {why}"
                        ))]
                    }
                    _ => Vec::new(),
                };
                for denial in denials {
                    act(policy, binding, denial, &mut denied, &mut warnings);
                }
            }
        }
        noted.publish();
        write.warnings.extend(warnings);
        match denied.into_iter().next() {
            None => Ok(()),
            Some((message, reason)) => {
                let attempt = Attempt::of(write, object);
                Err(refusal(&attempt, &message, &reason, code(&reason)))
            }
        }
    }

    /// Whether the kind of a policy's parameters exists.
    fn known_params(&self, policy: &Policy) -> Result<(), String> {
        let Some((api_version, kind)) = &policy.params else { return Ok(()) };
        match self.cache.derived::<Catalog>().by_kind(api_version, kind) {
            Some(_) => Ok(()),
            None => {
                Err(format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))
            }
        }
    }

    /// The parameter objects of a binding; one `null` where the policy has none.
    pub async fn params_of(
        &self,
        policy: &Policy,
        params: Option<&ParamRef>,
        attempt: &Attempt<'_>,
    ) -> Result<Vec<Value>, String> {
        let (Some((api_version, kind)), Some(wanted)) = (&policy.params, params) else {
            return Ok(vec![Value::Null]);
        };
        let catalog = self.cache.derived::<Catalog>();
        let Some(resource) = catalog.by_kind(api_version, kind) else {
            return Err(format!(
                "failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"
            ));
        };
        let namespace = match (resource.namespaced, wanted.namespace.as_str()) {
            (false, "") => "",
            (false, _) => {
                return Err(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()
                );
            }
            (true, "") if attempt.namespace.is_empty() => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                        .to_owned(),
                );
            }
            (true, "") => attempt.namespace,
            (true, namespace) => namespace,
        };
        let group = resource.storage_group();
        let snapshot = attempt.snapshot;
        let stored: Vec<_> = if wanted.name.is_empty() {
            let selects = |s: &&Arc<crate::cache::Stored>| {
                wanted.selector.as_ref().is_some_and(|sel| sel.matches_by(|key| s.meta.labels.get(key)))
            };
            snapshot.list(group, resource.plural, namespace).filter(selects).cloned().collect()
        } else {
            snapshot.get(group, resource.plural, namespace, &wanted.name).cloned().into_iter().collect()
        };
        if stored.is_empty() {
            return if wanted.allow_missing {
                Ok(Vec::new())
            } else {
                Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned())
            };
        }
        self.params_in(&catalog, resource, stored).await
    }

    /// Parameter objects in the version that the policy names.
    async fn params_in(
        &self,
        catalog: &Catalog,
        resource: &'static Resource,
        stored: Vec<Arc<crate::cache::Stored>>,
    ) -> Result<Vec<Value>, String> {
        let value = |stored: &Arc<crate::cache::Stored>| stored.value().map_err(|e| e.to_string());
        let Some(version) = catalog.version(resource) else {
            return stored.iter().map(|s| Ok(convert::from_storage(resource, value(s)?))).collect();
        };
        let shown = self.converter.stored(version, stored).await;
        let shown = shown.map_err(|why| format!("failed to convert object version: {why}"))?;
        shown.iter().map(|s| Ok(version.from_storage(value(s)?))).collect()
    }

    fn ask_policy(
        &self,
        policy: &Policy,
        params: Result<Vec<Value>, String>,
        input: Input<'_>,
        noted: &mut Noted,
    ) -> Vec<Denial> {
        let all = match params {
            Ok(all) => all,
            Err(why) if policy.fails => {
                return vec![Denial::failed(format!("failed to configure binding: {why}"))];
            }
            Err(_) => return Vec::new(),
        };
        let mut denials = Vec::new();
        for params in &all {
            let input = Input { params, ..input };
            let mut budget = TOTAL_COST_MAX;
            let scope = scope(self, policy, &input, &mut budget);
            match conditions_hold(&policy.conditions, &scope, &mut budget) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    denials.extend(policy.fails.then(|| Denial::failed(why)));
                    continue;
                }
            }
            for (index, validation) in policy.validations.iter().enumerate() {
                match evaluate(&validation.expression, &scope, &mut budget) {
                    Ok(CelValue::Bool(true)) => {}
                    Ok(_) => {
                        let message = message_of(validation, &scope, &mut budget);
                        denials.push(Denial { message, reason: validation.reason.clone(), index });
                    }
                    Err(why) if policy.fails => {
                        let source = &validation.expression.source;
                        let message = format!("expression '{source}' resulted in error: {why}");
                        denials.push(Denial { index, ..Denial::failed(message) });
                    }
                    Err(_) => {}
                }
            }
            for (key, expression) in &policy.annotations {
                match value_of(expression, &scope, &mut budget) {
                    Ok(Some(value)) => noted.add(&policy.name, key, &value),
                    Ok(None) => {}
                    Err(why) => denials.extend(policy.fails.then(|| Denial::failed(why))),
                }
            }
        }
        denials
    }
}

/// Messages that expressions make are no longer than this, in bytes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

fn message_of(validation: &Validation, scope: &Scope<'_>, budget: &mut u64) -> String {
    let made = validation.message_expression.as_ref().and_then(|message| {
        let value = evaluate(message, scope, budget).ok()?;
        let text = library::to_text(&value)?.trim().to_owned();
        (!text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_BYTES_MAX).then_some(text)
    });
    match made {
        Some(text) => text,
        None if validation.message.is_empty() => {
            format!("failed expression: {}", validation.expression.source.trim())
        }
        None => validation.message.clone(),
    }
}

fn act(
    policy: &Policy,
    binding: &Binding,
    denial: Denial,
    denied: &mut Vec<(String, String)>,
    warnings: &mut Vec<String>,
) {
    let (by, name) = (&policy.name, &binding.name);
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                let message = format!(
                    "ValidatingAdmissionPolicy '{by}' with binding '{name}' denied request: {}",
                    denial.message
                );
                denied.push((message, denial.reason.clone()));
            }
            "Warn" => warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{by}' with binding '{name}': {}",
                denial.message
            )),
            "Audit" => broken(policy, binding, denial.index, &denial.message),
            _ => {}
        }
    }
}

/// The namespace of a request, as expressions see it.
pub fn namespace_of(attempt: &Attempt<'_>) -> Value {
    let stored = attempt.snapshot.get("", "namespaces", "", attempt.namespace);
    stored.filter(|_| !attempt.namespace.is_empty()).and_then(|s| s.value().ok()).unwrap_or(Value::Null)
}

fn code(reason: &str) -> u16 {
    match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    }
}

/// The answer to what a policy refuses.
pub fn refusal(attempt: &Attempt<'_>, message: &str, reason: &str, code: u16) -> ApiError {
    let qualified = protocol::error::qualified(attempt.resource.group, attempt.resource.plural);
    let said = format!("{qualified} \"{}\" is forbidden: {message}", name_of(attempt));
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    ApiError::about(code, reason, said, details_of(attempt, message))
}

/// The answer to what a mutating policy refuses: why, and no more words.
pub fn denial(attempt: &Attempt<'_>, message: &str, reason: &str) -> ApiError {
    ApiError::about(403, reason, message, details_of(attempt, message))
}

fn name_of<'a>(attempt: &Attempt<'a>) -> &'a str {
    match attempt.name {
        "" if attempt.operation != Operation::Create || attempt.object.is_none() => "Unknown",
        name => name,
    }
}

fn details_of(attempt: &Attempt<'_>, message: &str) -> Value {
    let (resource, name) = (attempt.resource, name_of(attempt));
    let mut details = json!({"kind": resource.plural, "causes": [{"message": message}]});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    details
}
