//! Mutating policies: what they change.

use std::collections::BTreeSet;

use protocol::apply::set::shown;
use protocol::apply::{Element, Shape, Table, fields, merge, validate};
use protocol::patch::JsonPatch;
use protocol::{ApiError, Resource, schema};
use serde_json::Value;

use super::compiled::{Mutating, Mutation, Policy};
use super::configured::Configured;
use super::forms::kind_of;
use super::matching::Attempt;
use super::request::described;
use super::validating::{Input, conditions_hold, denial, evaluate, namespace_of, scope};
use crate::api::admission::Write;
use crate::api::admission::reinvocation::Reinvocation;
use crate::api::cel::value::Value as Made;
use crate::api::cel::{Scope, TOTAL_COST_MAX};
use crate::api::managed::shape::Place;
use crate::api::pipeline::Inner;
use crate::auth::Attributes;

/// Why a policy does not make an object.
enum Unmade {
    /// The policy fails, which its failure policy is about.
    Fails(String),
    /// What it makes is no object of the kind.
    Broken(String),
}

impl From<String> for Unmade {
    fn from(why: String) -> Self {
        Unmade::Fails(why)
    }
}

impl Inner {
    /// Changes an object as mutating policies say, one policy after the other by name; in the second look only those that
    /// want it.
    pub async fn apply_policies(
        &self,
        write: &Write<'_>,
        object: &mut Value,
        looks: &mut Reinvocation,
    ) -> Result<(), ApiError> {
        let policies = self.cache.derived_at::<Mutating>(write.snapshot);
        if policies.0.0.is_empty() || !self.config.admission.is_on("MutatingAdmissionPolicy") {
            return Ok(());
        }
        looks.policies.begin(object);
        // Whether any change was made, if only to what was there already.
        let mut applied = false;
        for (i, policy) in policies.0.0.iter().enumerate() {
            for (j, binding) in policy.bindings.iter().enumerate() {
                let key = (i, j);
                if looks.is_second() && !looks.policies.wants(&key) {
                    continue;
                }
                let (form, params) = {
                    let attempt = Attempt::of(write, Some(object));
                    let Some(form) = policy.matcher.matches(&attempt) else { break };
                    if binding.matcher.matches(&attempt).is_none() {
                        continue;
                    }
                    (form, self.params_of(policy, binding.params.as_ref(), &attempt).await)
                };
                let (failed, reason) = match params {
                    Err(why) => (Some(format!("failed to configure binding: {why}")), "Forbidden"),
                    Ok(all) => {
                        let failed = self.change_by(write, policy, form, &all, object, &mut applied).await?;
                        if policy.reinvoked {
                            looks.policies.saw(key);
                        }
                        (failed, "Invalid")
                    }
                };
                if let Some(why) = failed.filter(|_| policy.fails) {
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
            }
        }
        if applied {
            looks.policies.changed();
            looks.require();
        }
        looks.policies.end(object);
        Ok(())
    }

    /// Changes an object by a policy with each of its parameters. Returns what failed, of which there may be more than
    /// what is told; what did not is done.
    async fn change_by(
        &self,
        write: &Write<'_>,
        policy: &Policy,
        form: &'static Resource,
        params: &[Value],
        object: &mut Value,
        applied: &mut bool,
    ) -> Result<Option<String>, ApiError> {
        let unseen = |why: ApiError| format!("failed to convert object version: {why}");
        let seen = match self.seen(write, form, Some(object)).await {
            Ok(seen) => seen,
            Err(why) => return Ok(Some(unseen(why))),
        };
        let mut made = seen.object.clone().into_owned();
        let mut failed = None;
        for params in params {
            let why = self.mutate_by(write, policy, form, params, &seen.old, &mut made, applied)?;
            failed = failed.or(why);
        }
        if made != *seen.object {
            match self.meant(write, form, object, made).await {
                Ok(meant) => *object = meant,
                Err(why) => failed = failed.or_else(|| Some(unseen(why))),
            }
        }
        Ok(failed)
    }

    #[expect(clippy::too_many_arguments, reason = "a change is about all of them")]
    fn mutate_by(
        &self,
        write: &Write<'_>,
        policy: &Policy,
        form: &'static Resource,
        params: &Value,
        old: &Value,
        object: &mut Value,
        applied: &mut bool,
    ) -> Result<Option<String>, ApiError> {
        let mut budget = TOTAL_COST_MAX;
        let mut failed = None;
        for (i, mutation) in policy.mutations.iter().enumerate() {
            let made = {
                let attempt = Attempt::of(write, Some(object));
                let (request, namespace) = (described(write.request, &attempt, form), namespace_of(&attempt));
                let input = Input {
                    request: &request,
                    object,
                    old,
                    namespace: &namespace,
                    params,
                    attributes: &Attributes::of(write.request),
                };
                let scope = scope(self, policy, &input, &mut budget);
                if i == 0 {
                    match conditions_hold(&policy.conditions, &scope, &mut budget) {
                        Ok(true) => {}
                        Ok(false) => return Ok(None),
                        Err(why) => return Ok(Some(why)),
                    }
                }
                evaluated(mutation, &scope, &mut budget)
            };
            let changed =
                made.map_err(Unmade::from).and_then(|made| change(write, form, mutation, object, made));
            match changed {
                Ok(changed) => {
                    *applied = true;
                    *object = changed;
                }
                Err(Unmade::Fails(why)) => failed = failed.or(Some(why)),
                Err(Unmade::Broken(why)) => return Err(ApiError::internal(why)),
            }
        }
        Ok(failed)
    }
}

/// What an expression makes.
fn evaluated(mutation: &Mutation, scope: &Scope<'_>, budget: &mut u64) -> Result<Configured, String> {
    let value = evaluate(&mutation.expression, scope, budget)
        .map_err(|why| format!("expression '{}' resulted in error: {why}", mutation.expression.source))?;
    if !mutation.json_patch {
        let mut wrong = Vec::new();
        misnamed(&value, "Object", 0, &mut wrong);
        if !wrong.is_empty() {
            return Err(format!("type mismatch: {}", wrong.join("\n")));
        }
    }
    if mutation.json_patch && has_nothing(&value) {
        return Err(
            "JSONPath valueExpression evaluated to a type that could not marshal to JSON: optional.none() \
                    dereference"
                .to_owned(),
        );
    }
    Configured::of(&value).ok_or_else(|| "the expression's value has no form as an object".to_owned())
}

/// Whether a part of what an expression made is absent; such a part of a patch cannot be written.
fn has_nothing(value: &Made<'_>) -> bool {
    match value {
        Made::Optional(None) => true,
        Made::Optional(Some(inner)) => has_nothing(inner),
        Made::List(items) => items.iter().any(has_nothing),
        Made::Struct(_, fields) => fields.values().any(has_nothing),
        Made::Map(entries) => entries.iter().any(|(_, value)| has_nothing(value)),
        _ => false,
    }
}

/// Objects within an object are of types that are named by the fields that they are in.
fn misnamed(value: &Made<'_>, wanted: &str, depth: usize, wrong: &mut Vec<String>) {
    const DEPTH_MAX: usize = 64;
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Made::Struct(name, fields) => {
            if **name != *wanted {
                wrong.push(format!(
                    "unexpected type name {:?}, expected {wanted:?}, which matches field name path from root Object type",
                    &**name
                ));
            }
            for (field, value) in fields.iter() {
                misnamed(value, &format!("{wanted}.{field}"), depth + 1, wrong);
            }
        }
        Made::List(items) => items.iter().for_each(|item| misnamed(item, wanted, depth + 1, wrong)),
        Made::Map(entries) => {
            entries.iter().for_each(|(_, value)| misnamed(value, wanted, depth + 1, wrong));
        }
        _ => {}
    }
}

fn change(
    write: &Write<'_>,
    form: &Resource,
    mutation: &Mutation,
    object: &Value,
    mut made: Configured,
) -> Result<Value, Unmade> {
    let subresource = write.request.target.subresource.as_deref().unwrap_or_default();
    let (group, version, kind) = kind_of(form, subresource);
    let declared = write.subject.custom.filter(|_| group == form.group);
    if mutation.json_patch {
        let mut patched = patch(object.clone(), &made.value)?;
        if declared.is_none() {
            read_again(&mut patched, write).map_err(Unmade::Broken)?;
        }
        return Ok(patched);
    }
    // A configuration's kind is that of the object, whatever it says.
    for field in ["apiVersion", "kind"] {
        made.value[field] = object[field].clone();
    }
    let merged = match declared.and_then(|custom| custom.siblings.get(version)) {
        Some(fields) => merged(Place::declared(fields.schema()), object, &made),
        None => {
            let definition = schema::kind(group, version, kind).unwrap_or(write.subject.definition);
            merged(Table::of(definition), object, &made)
        }
    };
    merged.map_err(|why| Unmade::Fails(format!("error applying patch: {why}")))
}

/// Reads what a patch left as the kind that it says it is, strictly.
fn read_again(patched: &mut Value, write: &Write<'_>) -> Result<(), String> {
    let said = |name: &str| patched[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (said("apiVersion"), said("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let definition = schema::kind(group, version, &kind).unwrap_or(write.subject.definition);
    let (strict, _) = schema::decode_in(definition, patched)?;
    if strict.is_empty() { Ok(()) } else { Err(format!("strict decoding error: {}", strict.join(", "))) }
}

/// The object with a configuration merged in; one that says what the kind does not have, or would replace a whole
/// that others may own a part of, is refused.
fn merged<'s, S: Shape<'s> + Copy>(shape: S, object: &Value, made: &Configured) -> Result<Value, String> {
    let of_null = made.null_problem(shape);
    let made = &made.value;
    of_null
        .map_or_else(|| validate::validate(shape, made, false).map_err(|e| e.to_string()), Err)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let owned = fields::fields(shape, made);
    let paths = owned.paths();
    let parents = paths.iter().flat_map(|path| (1..path.len()).filter_map(|end| path.get(..end))).collect();
    let wholes: Vec<String> = paths
        .iter()
        .filter(|path| is_whole(made, path, &parents))
        .map(|path| shown(&numbered(made, path)))
        .collect();
    if !wholes.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            wholes.join(", ")
        ));
    }
    merge::merge(shape, object, made).map_err(|e| e.to_string())
}

/// What a step leads to, and where in a list that is.
fn step<'v>(at: &'v Value, step: &Element) -> Option<(&'v Value, Option<usize>)> {
    match step {
        Element::Field(name) => at.get(name).map(|found| (found, None)),
        Element::Index(index) => {
            let index = usize::try_from(*index).ok()?;
            at.get(index).map(|found| (found, Some(index)))
        }
        Element::Key(keys) => {
            let items = at.as_array()?.iter().enumerate();
            let is = |item: &Value| keys.iter().all(|(name, wanted)| item.get(name) == Some(wanted));
            items.into_iter().find(|(_, item)| is(item)).map(|(i, item)| (item, Some(i)))
        }
        // The entry of a set has no parts.
        Element::Value(_) => None,
    }
}

/// A path that names the entries of lists by where they are.
fn numbered(value: &Value, path: &[Element]) -> Vec<Element> {
    let mut at = Some(value);
    let one = |element: &Element| {
        let found = at.and_then(|value| step(value, element));
        at = found.map(|(value, _)| value);
        let index = found.and_then(|(_, index)| i64::try_from(index?).ok());
        index.map_or_else(|| element.clone(), Element::Index)
    };
    path.iter().map(one).collect()
}

/// Whether what stands at a path that owns no parts has parts nevertheless. `parents` are the paths that others lie below.
fn is_whole(value: &Value, path: &[Element], parents: &BTreeSet<&[Element]>) -> bool {
    let found = path.iter().try_fold(value, |at, element| step(at, element).map(|(found, _)| found));
    let Some(found) = found else { return false };
    let ends_well = match path.last() {
        Some(Element::Field(_)) => true,
        // Of an entry that is known by its keys these are owned too.
        Some(Element::Key(_)) => !parents.contains(path),
        _ => false,
    };
    let parts = |found: &Value| {
        found.as_array().is_some_and(|a| !a.is_empty()) || found.as_object().is_some_and(|o| !o.is_empty())
    };
    ends_well && parts(found)
}

/// An operation whose paths begin at the root: upstream's library does not look at what is in front of the first slash.
fn rooted(operation: &Value) -> Value {
    let mut operation = operation.clone();
    for name in ["path", "from"] {
        if let Some(path) = operation[name].as_str()
            && let Some((begin, rest)) = path.split_once('/')
            && !begin.is_empty()
        {
            operation[name] = format!("/{rest}").into();
        }
    }
    operation
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
        let parsed = JsonPatch::parse(Value::from(vec![rooted(operation)]).to_string().as_bytes());
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
