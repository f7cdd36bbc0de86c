//! Mutating policies: what they change.

use protocol::ApiError;
use protocol::apply::{Table, merge};
use protocol::patch::JsonPatch;
use serde_json::Value;

use super::compiled::{Mutating, Mutation, Policy};
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
    pub fn apply_policies(&self, write: &Write<'_>, object: &mut Value) -> Result<(), ApiError> {
        let policies = self.cache.derived_at::<Mutating>(write.snapshot);
        for policy in &policies.0.0 {
            if !policy.matcher.matches(&Attempt::of(write, Some(object))) {
                continue;
            }
            for binding in &policy.bindings {
                if !binding.matcher.matches(&Attempt::of(write, Some(object))) {
                    continue;
                }
                let params =
                    self.params_of(policy, binding.params.as_ref(), &Attempt::of(write, Some(object)));
                let changed = match params {
                    Err(why) => Err(format!("failed to configure binding: {why}")),
                    Ok(all) => all.iter().try_fold(object.clone(), |object, params| {
                        self.mutated(write, policy, params, object)
                    }),
                };
                match changed {
                    Ok(changed) => *object = changed,
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

    fn mutated(
        &self,
        write: &Write<'_>,
        policy: &Policy,
        params: &Value,
        mut object: Value,
    ) -> Result<Value, String> {
        let mut budget = TOTAL_COST_MAX;
        for (i, mutation) in policy.mutations.iter().enumerate() {
            let made = {
                let attempt = Attempt::of(write, Some(&object));
                let (request, namespace) = (described(write.request, &attempt), namespace_of(&attempt));
                let input = Input {
                    request: &request,
                    object: &object,
                    old: write.old.unwrap_or(&Value::Null),
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
            object = change(write, mutation, object, made)?;
        }
        Ok(object)
    }
}

fn change(write: &Write<'_>, mutation: &Mutation, object: Value, made: Value) -> Result<Value, String> {
    if mutation.json_patch {
        return patch(object, &made);
    }
    for field in ["apiVersion", "kind"] {
        if made.get(field).is_some_and(|given| *given != object[field]) {
            return Err(format!("error applying patch: {field} must not be changed"));
        }
    }
    let merged = match write.subject.custom {
        Some(custom) => merge::merge(Place::declared(custom.fields.schema()), &object, &made),
        None => merge::merge(Table::of(write.subject.definition), &object, &made),
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
