//! Mutating policies: what they change.

use protocol::apply::{Table, merge};
use protocol::patch::JsonPatch;
use protocol::{ApiError, Resource, schema};
use serde_json::Value;

use super::compiled::{Mutating, Mutation, Policy};
use super::forms::kind_of;
use super::matching::Attempt;
use super::request::described;
use super::validating::{Input, conditions_hold, evaluate, namespace_of, refusal, scope};
use crate::api::admission::Write;
use crate::api::cel::TOTAL_COST_MAX;
use crate::api::managed::shape::Place;
use crate::api::pipeline::Inner;
use crate::auth::Attributes;

impl Inner {
    /// Changes an object as mutating policies say, one policy after the other by name.
    pub async fn apply_policies(&self, write: &Write<'_>, object: &mut Value) -> Result<(), ApiError> {
        if !self.config.admission.is_on("MutatingAdmissionPolicy") {
            return Ok(());
        }
        let policies = self.cache.derived_at::<Mutating>(write.snapshot);
        for policy in &policies.0.0 {
            for binding in &policy.bindings {
                let (form, params) = {
                    let attempt = Attempt::of(write, Some(object));
                    let Some(form) = policy.matcher.matches(&attempt) else { break };
                    if binding.matcher.matches(&attempt).is_none() {
                        continue;
                    }
                    (form, self.params_of(policy, binding.params.as_ref(), &attempt).await)
                };
                let changed = match params {
                    Err(why) => Err(format!("failed to configure binding: {why}")),
                    Ok(all) => self.changed(write, policy, form, &all, object).await,
                };
                match changed {
                    Ok(None) => {}
                    Ok(Some(changed)) => *object = changed,
                    Err(why) if policy.fails => {
                        let message = format!(
                            "policy '{}' with binding '{}' denied request: {why}",
                            policy.name, binding.name
                        );
                        let attempt = Attempt::of(write, Some(object));
                        return Err(refusal(&attempt, &message, "Invalid", 403));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The object after a policy was applied with each of its parameters; `None` where that changes nothing.
    async fn changed(
        &self,
        write: &Write<'_>,
        policy: &Policy,
        form: &'static Resource,
        params: &[Value],
        object: &Value,
    ) -> Result<Option<Value>, String> {
        let unseen = |why: ApiError| format!("failed to convert object version: {why}");
        let seen = self.seen(write, form, Some(object)).await.map_err(unseen)?;
        let made = params.iter().try_fold(seen.object.clone().into_owned(), |object, params| {
            self.mutated(write, policy, form, params, &seen.old, object)
        })?;
        if made == *seen.object {
            return Ok(None);
        }
        self.meant(write, form, object, made).await.map(Some).map_err(unseen)
    }

    fn mutated(
        &self,
        write: &Write<'_>,
        policy: &Policy,
        form: &'static Resource,
        params: &Value,
        old: &Value,
        mut object: Value,
    ) -> Result<Value, String> {
        let mut budget = TOTAL_COST_MAX;
        for (i, mutation) in policy.mutations.iter().enumerate() {
            let made = {
                let attempt = Attempt::of(write, Some(&object));
                let (request, namespace) = (described(write.request, &attempt, form), namespace_of(&attempt));
                let input = Input {
                    request: &request,
                    object: &object,
                    old,
                    namespace: &namespace,
                    params,
                    attributes: &Attributes::of(write.request),
                };
                let scope = scope(self, policy, &input, &mut budget);
                if i == 0 && !conditions_hold(&policy.conditions, &scope, &mut budget)? {
                    return Ok(object);
                }
                let value = evaluate(&mutation.expression, &scope, &mut budget).map_err(|why| {
                    format!("expression '{}' resulted in error: {why}", mutation.expression.source)
                })?;
                value.to_json().ok_or("the expression's value has no form as an object")?
            };
            object = change(write, form, mutation, object, made)?;
        }
        Ok(object)
    }
}

fn change(
    write: &Write<'_>,
    form: &Resource,
    mutation: &Mutation,
    object: Value,
    made: Value,
) -> Result<Value, String> {
    if mutation.json_patch {
        return patch(object, &made);
    }
    for field in ["apiVersion", "kind"] {
        if made.get(field).is_some_and(|given| *given != object[field]) {
            return Err(format!("error applying patch: {field} must not be changed"));
        }
    }
    let subresource = write.request.target.subresource.as_deref().unwrap_or_default();
    let (group, version, kind) = kind_of(form, subresource);
    let declared = write.subject.custom.filter(|_| group == form.group);
    let merged = match declared.and_then(|custom| custom.siblings.get(version)) {
        Some(fields) => merge::merge(Place::declared(fields.schema()), &object, &made),
        None => {
            let definition = schema::kind(group, version, kind).unwrap_or(write.subject.definition);
            merge::merge(Table::of(definition), &object, &made)
        }
    };
    merged.map_err(|e| format!("error applying patch: {e}"))
}

/// Applies patch operations, with the words of upstream's library where one fails.
fn patch(mut object: Value, operations: &Value) -> Result<Value, String> {
    for operation in operations.as_array().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        let op = operation["op"].as_str().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let parsed = JsonPatch::parse(Value::from(vec![operation.clone()]).to_string().as_bytes());
        let parsed = parsed.map_err(|e| format!("JSON Patch: {e}"))?;
        parsed.apply(&mut object).map_err(|e| match op {
            "remove" => format!(
                "JSON Patch: error in remove for path: '{path}': Unable to remove nonexistent key: {last}: missing value"
            ),
            "replace" => format!("JSON Patch: replace operation does not apply: doc is missing key: {path}: missing value"),
            "test" => format!("JSON Patch: testing value {path} failed: test failed"),
            "add" => format!("JSON Patch: add operation does not apply: doc is missing path: {path:?}: missing value"),
            _ => format!("JSON Patch: {e}"),
        })?;
    }
    Ok(object)
}
