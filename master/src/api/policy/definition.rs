//! Policies and bindings as objects: what is accepted.

use protocol::Selector;
use serde_json::{Value, json};

use super::compiled::{environment_of, makes, with_variables};
use crate::api::cel::{Environment, Program, Type};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::webhooks;
use crate::api::object::{list, text};

/// A field that must be one of a few words.
fn one_of(value: &Value, field: &str, words: &[&str], path: &Path, errors: &mut Errors) {
    match text(value, &[field]) {
        "" => errors.required(&path.child(field), ""),
        word if words.contains(&word) => {}
        word => errors.unsupported(&path.child(field), word, words),
    }
}

fn rules(rules: &[Value], path: &Path, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        webhooks::rule(rule, &path.index(i), errors);
        let (names, at) = (list(rule, &["resourceNames"]), path.index(i).child("resourceNames"));
        for (j, name) in names.iter().enumerate().filter(|(j, name)| names[..*j].contains(name)) {
            errors.duplicate(&at.index(j), name.clone());
        }
    }
}

/// Checks a selector.
fn selector(value: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if value[field].is_null() {
        errors.required(&path.child(field), "");
        return;
    }
    let parsed = serde_json::from_value(value[field].clone()).ok();
    if let Some(Err(why)) = parsed.map(|s| Selector::from_label_selector(&s)) {
        errors.invalid(&path.child(field), value[field].clone(), why.to_string());
    }
}

fn match_resources(value: &Value, path: &Path, errors: &mut Errors) {
    one_of(value, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    selector(value, "namespaceSelector", path, errors);
    selector(value, "objectSelector", path, errors);
    rules(list(value, &["resourceRules"]), &path.child("resourceRules"), errors);
    rules(list(value, &["excludeResourceRules"]), &path.child("excludeResourceRules"), errors);
}

fn expression(
    environment: &Environment,
    source: &str,
    wanted: (&str, fn(&Type) -> bool),
    path: &Path,
    errors: &mut Errors,
) {
    if source.trim().is_empty() {
        errors.required(path, "expression is not specified");
        return;
    }
    match Program::compile(environment, source) {
        Err(why) => errors.invalid(path, source, why),
        Ok(program) if program.ty == Type::Dyn || (wanted.1)(&program.ty) => {}
        Ok(program) => {
            errors.invalid(path, source, format!("must evaluate to {} but got {}", wanted.0, program.ty));
        }
    }
}

const BOOL: (&str, fn(&Type) -> bool) = ("bool", |ty| *ty == Type::Bool);
const STRING: (&str, fn(&Type) -> bool) = ("string", |ty| *ty == Type::String);

/// Checks match conditions, of a policy or of a webhook.
pub fn conditions(given: &[Value], environment: &Environment, path: &Path, errors: &mut Errors) {
    const CONDITIONS_MAX: usize = 64;
    if given.len() > CONDITIONS_MAX {
        errors.too_many(path, given.len(), CONDITIONS_MAX);
    }
    for (i, condition) in given.iter().enumerate() {
        let at = path.index(i);
        expression(environment, text(condition, &["expression"]), BOOL, &at.child("expression"), errors);
        let name = text(condition, &["name"]);
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            for why in protocol::selector::qualified_name_error(name) {
                errors.invalid(&at.child("name"), name, why);
            }
        }
        if given[..i].iter().any(|c| c["name"] == condition["name"]) && !name.is_empty() {
            errors.duplicate(&at.child("name"), name);
        }
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What both kinds of policies have; returns what their expressions may use.
fn common(spec: &Value, mutates: bool, path: &Path, errors: &mut Errors) -> Environment {
    one_of(spec, "failurePolicy", &["Fail", "Ignore"], path, errors);
    if spec["paramKind"].is_object() {
        let at = path.child("paramKind");
        for field in ["apiVersion", "kind"] {
            if text(&spec["paramKind"], &[field]).is_empty() {
                errors.required(&at.child(field), "");
            }
        }
    }
    let at = path.child("matchConstraints");
    if spec["matchConstraints"].is_object() {
        match_resources(&spec["matchConstraints"], &at, errors);
        if list(spec, &["matchConstraints", "resourceRules"]).is_empty() {
            errors.required(&at.child("resourceRules"), "");
        }
    } else {
        errors.required(&at, "");
    }
    let mut environment = environment_of(spec);
    if mutates {
        environment.makes = makes;
    }
    let plain = environment.clone();
    let (environment, _) = with_variables(spec, environment, |i, variable, made| {
        let at = path.child("variables").index(i);
        let (name, source) = (text(variable, &["name"]), text(variable, &["expression"]));
        if name.is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        match made {
            _ if source.trim().is_empty() => {
                errors.required(&at.child("expression"), "expression is not specified")
            }
            Err(why) => errors.invalid(&at.child("expression"), source, why),
            Ok(_) => {}
        }
    });
    conditions(list(spec, &["matchConditions"]), &plain, &path.child("matchConditions"), errors);
    environment
}

/// Checks a ValidatingAdmissionPolicy.
pub fn validating(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let environment = common(spec, false, &path, errors);
    let (validations, annotations) = (list(spec, &["validations"]), list(spec, &["auditAnnotations"]));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), why);
        errors.required(&path.child("auditAnnotations"), why);
    }
    for (i, validation) in validations.iter().enumerate() {
        let at = path.child("validations").index(i);
        let source = text(validation, &["expression"]);
        expression(&environment, source, BOOL, &at.child("expression"), errors);
        let message = text(validation, &["message"]);
        let breaks = |text: &str| text.trim().contains('\n');
        if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at.child("message"), message, "message must be non-empty if specified");
        } else if breaks(message) {
            errors.invalid(&at.child("message"), message, "message must not contain line breaks");
        } else if breaks(source) && message.trim().is_empty() {
            errors.required(
                &at.child("message"),
                "message must be specified if expression contains line breaks",
            );
        }
        let made = text(validation, &["messageExpression"]);
        let message_at = at.child("messageExpression");
        if !made.is_empty() && made.trim().is_empty() {
            errors.invalid(&message_at, made, "must be non-empty if specified");
        } else if !made.is_empty() {
            expression(&environment, made, STRING, &message_at, errors);
        }
        const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        let reason = text(validation, &["reason"]);
        if !reason.is_empty() && !REASONS.contains(&reason) {
            errors.unsupported(&at.child("reason"), reason, &REASONS);
        }
    }
    for (i, annotation) in annotations.iter().enumerate() {
        let at = path.child("auditAnnotations").index(i);
        let key = text(annotation, &["key"]);
        if key.is_empty() {
            errors.required(&at.child("key"), "key is not specified");
        }
        if annotations[..i].iter().any(|a| a["key"] == annotation["key"]) {
            errors.duplicate(&at.child("key"), key);
        }
        let source = text(annotation, &["valueExpression"]);
        let wanted: (&str, fn(&Type) -> bool) =
            ("string or null", |ty| matches!(ty, Type::String | Type::Null));
        if source.trim().is_empty() {
            errors.required(&at.child("valueExpression"), "valueExpression is not specified");
        } else {
            expression(&environment, source, wanted, &at.child("valueExpression"), errors);
        }
    }
}

/// Checks a MutatingAdmissionPolicy.
pub fn mutating(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let environment = common(spec, true, &path, errors);
    one_of(spec, "reinvocationPolicy", &["IfNeeded", "Never"], &path, errors);
    let mutations = list(spec, &["mutations"]);
    if mutations.is_empty() {
        errors.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    for (i, mutation) in mutations.iter().enumerate() {
        let at = path.child("mutations").index(i);
        let object: (&str, fn(&Type) -> bool) =
            ("Object", |ty| matches!(ty, Type::Object(o) if o.name == "Object"));
        let patches: (&str, fn(&Type) -> bool) = ("list(JSONPatch)", |ty| matches!(ty, Type::List(_)));
        let (own, other, wanted) = match text(mutation, &["patchType"]) {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", object),
            "JSONPatch" => ("jsonPatch", "applyConfiguration", patches),
            _ => {
                one_of(mutation, "patchType", &["ApplyConfiguration", "JSONPatch"], &at, errors);
                continue;
            }
        };
        let patch_type = text(mutation, &["patchType"]);
        if mutation[other].is_object() {
            let why = format!("must not be specified when patchType is {patch_type}");
            errors.invalid(&at.child(other), format!("{{{other}}}"), why);
        }
        if mutation[own].is_object() {
            let source = text(mutation, &[own, "expression"]);
            expression(&environment, source, wanted, &at.child(own).child("expression"), errors);
        } else {
            errors.required(&at.child(own), &format!("must be specified when patchType is {patch_type}"));
        }
    }
}

/// Checks a binding; those of mutating policies have no actions.
pub fn binding(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if text(spec, &["policyName"]).is_empty() {
        errors.required(&path.child("policyName"), "");
    }
    let params = &spec["paramRef"];
    if params.is_object() {
        let at = path.child("paramRef");
        let (named, selected) = (!text(params, &["name"]).is_empty(), params["selector"].is_object());
        if named && selected {
            errors.forbidden(&at.child("name"), "name and selector are mutually exclusive");
            errors.forbidden(&at.child("selector"), "name and selector are mutually exclusive");
        } else if !named && !selected {
            errors.required(&at, "one of name or selector must be specified");
        }
        one_of(params, "parameterNotFoundAction", &["Allow", "Deny"], &at, errors);
    }
    if spec["matchResources"].is_object() {
        match_resources(&spec["matchResources"], &path.child("matchResources"), errors);
    }
    if object["kind"] != "ValidatingAdmissionPolicyBinding" {
        return;
    }
    let (actions, at) = (list(spec, &["validationActions"]), path.child("validationActions"));
    if actions.is_empty() {
        errors.required(&at, "at least one validation action is required");
    }
    for (i, action) in actions.iter().enumerate() {
        let word = action.as_str().unwrap_or_default();
        if !["Audit", "Deny", "Warn"].contains(&word) {
            errors.unsupported(&at.index(i), word, &["Audit", "Deny", "Warn"]);
        }
        if actions[..i].contains(action) {
            errors.duplicate(&at.index(i), word);
        }
    }
    if actions.iter().any(|a| a == "Deny") && actions.iter().any(|a| a == "Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.invalid(&at, json!(actions), why);
    }
}
