//! Mutating policies: what they change.

use protocol::apply::set::shown;
use protocol::apply::{Element, Shape, Table, fields, merge, validate};
use protocol::patch::JsonPatch;
use protocol::{ApiError, Resource, schema};
use serde_json::Value;

use super::compiled::{Mutating, Mutation, Policy};
use super::forms::kind_of;
use super::matching::Attempt;
use super::request::described;
use super::validating::{Input, conditions_hold, denial, evaluate, namespace_of, scope};
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
                let (changed, reason) = match params {
                    Err(why) => (Err(format!("failed to configure binding: {why}")), "Forbidden"),
                    Ok(all) => (self.changed(write, policy, form, &all, object).await, "Invalid"),
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
                        // Nobody has given it a name yet.
                        let name = if attempt.name.is_empty() { "Unknown" } else { attempt.name };
                        let attempt = Attempt { name, ..attempt };
                        return Err(denial(&attempt, &message, reason));
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
    // A configuration's kind is that of the object, whatever it says.
    let mut made = made;
    for field in ["apiVersion", "kind"] {
        made[field] = object[field].clone();
    }
    let subresource = write.request.target.subresource.as_deref().unwrap_or_default();
    let (group, version, kind) = kind_of(form, subresource);
    let declared = write.subject.custom.filter(|_| group == form.group);
    let merged = match declared.and_then(|custom| custom.siblings.get(version)) {
        Some(fields) => merged(Place::declared(fields.schema()), &object, &made),
        None => {
            let definition = schema::kind(group, version, kind).unwrap_or(write.subject.definition);
            merged(Table::of(definition), &object, &made)
        }
    };
    merged.map_err(|why| format!("error applying patch: {why}"))
}

/// The object with a configuration merged in; one that says what the kind does not have, or would replace a whole
/// that others may own a part of, is refused.
fn merged<'s, S: Shape<'s> + Copy>(shape: S, object: &Value, made: &Value) -> Result<Value, String> {
    validate::validate(shape, made, false)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let wholes: Vec<String> = fields::fields(shape, made)
        .paths()
        .iter()
        .filter(|path| is_whole(made, path))
        .map(|path| shown(path))
        .collect();
    if !wholes.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            wholes.join(", ")
        ));
    }
    merge::merge(shape, object, made).map_err(|e| e.to_string())
}

/// Whether what stands at a path that owns no parts has parts nevertheless.
fn is_whole(value: &Value, path: &[Element]) -> bool {
    let mut at = value;
    for step in path {
        let found = match step {
            Element::Field(name) => at.get(name),
            Element::Index(index) => usize::try_from(*index).ok().and_then(|index| at.get(index)),
            Element::Key(keys) => at.as_array().and_then(|items| {
                items.iter().find(|item| keys.iter().all(|(name, wanted)| item.get(name) == Some(wanted)))
            }),
            // The entry of a set has no parts.
            Element::Value(_) => None,
        };
        let Some(found) = found else { return false };
        at = found;
    }
    let named = matches!(path.last(), Some(Element::Field(_)));
    named && (at.as_array().is_some_and(|a| !a.is_empty()) || at.as_object().is_some_and(|o| !o.is_empty()))
}

/// Applies patch operations, with the words of upstream's library where one fails.
fn patch(object: Value, operations: &Value) -> Result<Value, String> {
    let before = object;
    let mut object = before.clone();
    for operation in operations.as_array().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        let op = operation["op"].as_str().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        if !["add", "remove", "replace", "move", "copy", "test"].contains(&op) {
            return Err(format!("JSON Patch: Unexpected kind: {op}"));
        }
        let parsed = JsonPatch::parse(Value::from(vec![operation.clone()]).to_string().as_bytes());
        let parsed = parsed.map_err(|e| format!("JSON Patch: {e}"))?;
        let applied = parsed.apply(&mut object);
        // Where a test fails, the patch is not meant for this object.
        if op == "test" && applied.is_err() {
            return Ok(before);
        }
        applied.map_err(|e| match op {
            "remove" => format!(
                "JSON Patch: error in remove for path: '{path}': Unable to remove nonexistent key: {last}: missing value"
            ),
            "replace" => format!("JSON Patch: replace operation does not apply: doc is missing key: {path}: missing value"),
            "add" => format!("JSON Patch: add operation does not apply: doc is missing path: {path:?}: missing value"),
            _ => format!("JSON Patch: {e}"),
        })?;
    }
    Ok(object)
}
