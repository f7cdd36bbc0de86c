//! Policies and bindings as objects: what is accepted.

use serde_json::{Value, json};

use super::compiled::{environment_of, makes, with_variables, without_variables};
use crate::api::cel::types::RESERVED;
use crate::api::cel::{Environment, Program, Type};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::{checks, webhooks};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, text};

/// A field that must be one of a few words.
fn one_of(value: &Value, field: &str, words: &[&str], path: &Path, errors: &mut Errors) {
    match text(value, &[field]) {
        "" => errors.required(&path.child(field), ""),
        word if words.contains(&word) => {}
        word => errors.unsupported(&path.child(field), word, words),
    }
}

/// A field that must be there, even if it is with an empty text, and be one of a few words.
fn given_one_of(value: &Value, field: &str, words: &[&str], path: &Path, errors: &mut Errors) {
    if value[field].is_null() {
        errors.required(&path.child(field), "");
    }
    checks::choice(&value[field], words, &path.child(field), errors);
}

fn rules(rules: &[Value], path: &Path, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        let (names, at) = (list(rule, &["resourceNames"]), path.index(i).child("resourceNames"));
        for (j, name) in names.iter().enumerate() {
            checks::named(NameRule::PathSegment, name.as_str().unwrap_or_default(), &at.index(j), errors);
            if names[..j].contains(name) {
                errors.duplicate(&at.index(j), name.clone());
            }
        }
        webhooks::rule(rule, &path.index(i), errors);
    }
}

/// Checks a selector.
fn selector(value: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if value[field].is_null() {
        errors.required(&path.child(field), "");
    } else {
        checks::label_selector(&value[field], &path.child(field), errors);
    }
}

fn match_resources(value: &Value, path: &Path, errors: &mut Errors) {
    given_one_of(value, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    selector(value, "namespaceSelector", path, errors);
    selector(value, "objectSelector", path, errors);
    rules(list(value, &["resourceRules"]), &path.child("resourceRules"), errors);
    rules(list(value, &["excludeResourceRules"]), &path.child("excludeResourceRules"), errors);
}

fn expression(
    environment: &Environment,
    shown: &str,
    source: &str,
    wanted: (&str, fn(&Type) -> bool),
    path: &Path,
    errors: &mut Errors,
) {
    let unsaid = if (environment.makes)("Object") { "" } else { "expression is not specified" };
    if source.trim().is_empty() {
        errors.required(path, unsaid);
        return;
    }
    match Program::compile(environment, source) {
        Err(why) => errors.invalid(path, shown, why),
        Ok(program) if (wanted.1)(&program.ty) => {
            if let Some(why) = program.unready() {
                errors.internal(path, &format!("program {why}"));
            }
        }
        Ok(program) => {
            errors.invalid(
                path,
                shown,
                format!("must evaluate to {} but got {}", wanted.0, program.ty.full_name()),
            );
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
        match text(condition, &["expression"]).trim() {
            "" => errors.required(&at.child("expression"), ""),
            source => expression(environment, source, source, BOOL, &at.child("expression"), errors),
        }
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
    !RESERVED.contains(&name)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What both kinds of policies have; returns what their expressions may use.
fn common(spec: &Value, mutates: bool, path: &Path, errors: &mut Errors) -> Environment {
    given_one_of(spec, "failurePolicy", &["Fail", "Ignore"], path, errors);
    if spec["paramKind"].is_object() {
        param_kind(&spec["paramKind"], &path.child("paramKind"), errors);
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
        changeable(list(spec, &["matchConstraints", "resourceRules"]), &at.child("resourceRules"), errors);
    }
    conditions(list(spec, &["matchConditions"]), &environment, &path.child("matchConditions"), errors);
    if mutates {
        without_variables(&mut environment);
    }
    let (environment, _) = with_variables(spec, environment, |i, variable, made| {
        let at = path.child("variables").index(i);
        let (name, source) = (text(variable, &["name"]), text(variable, &["expression"]));
        if name.trim().is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        match made {
            _ if source.trim().is_empty() => {
                errors.required(&at.child("expression"), "expression is not specified")
            }
            Err(why) => errors.invalid(&at.child("expression"), source, why),
            Ok(program) => {
                if let Some(why) = program.unready() {
                    errors.internal(&at.child("expression"), &format!("program {why}"));
                }
            }
        }
    });
    environment
}

/// Only what is written can be mutated.
fn changeable(rules: &[Value], path: &Path, errors: &mut Errors) {
    const WRITES: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
    for operation in rules.iter().flat_map(|rule| list(rule, &["operations"])) {
        checks::choice(operation, &WRITES, &path.child("operations"), errors);
    }
}

/// Checks which kind a policy takes its parameters from.
fn param_kind(kind: &Value, path: &Path, errors: &mut Errors) {
    let label = |name: &str| name_errors(NameRule::Label1035, name, false).join(",");
    let (given, at) = (text(kind, &["apiVersion"]), path.child("apiVersion"));
    let (group, version) = given.split_once('/').unwrap_or(("", given));
    if given.is_empty() {
        errors.required(&at, "");
    } else if given.matches('/').count() > 1 {
        errors.invalid(&at, given, format!("unexpected GroupVersion string: {given}"));
    } else {
        let wrong = name_errors(NameRule::Subdomain, group, false);
        if !group.is_empty() && !wrong.is_empty() {
            errors.invalid(&at, group, wrong.join(","));
        }
        if version.is_empty() {
            errors.invalid(&at, given, "version must be specified");
        } else if !label(version).is_empty() {
            errors.invalid(&at, version, label(version));
        }
    }
    let (given, at) = (text(kind, &["kind"]), path.child("kind"));
    let wrong = label(&given.to_lowercase());
    if given.is_empty() {
        errors.required(&at, "");
    } else if !wrong.is_empty() {
        errors.invalid(&at, given, format!("may have mixed case, but should otherwise match: {wrong}"));
    }
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
    // Messages are made without asking what somebody may do.
    let mut for_messages = environment.clone();
    for_messages.variables.retain(|name, _| !name.starts_with("authorizer"));
    for (i, validation) in validations.iter().enumerate() {
        let at = path.child("validations").index(i);
        let source = text(validation, &["expression"]);
        expression(&environment, source, source, BOOL, &at.child("expression"), errors);
        let made = text(validation, &["messageExpression"]);
        let message_at = at.child("messageExpression");
        if !made.is_empty() && made.trim().is_empty() {
            errors.invalid(&message_at, made, "must be non-empty if specified");
        } else if !made.is_empty() {
            expression(&for_messages, made, made, STRING, &message_at, errors);
        }
        let message = text(validation, &["message"]);
        if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at.child("message"), message, "must be non-empty if specified");
        } else if message.trim().contains(['\n', '\r']) {
            errors.invalid(&at.child("message"), message, "must not contain line breaks");
        }
        const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        checks::choice(&validation["reason"], &REASONS, &at.child("reason"), errors);
    }
    audit_annotations(annotations, crate::api::object::name(object), &environment, errors);
}

fn audit_annotations(annotations: &[Value], policy: &str, environment: &Environment, errors: &mut Errors) {
    const ANNOTATIONS_MAX: usize = 20;
    const EXPRESSION_BYTES_MAX: usize = 5 * 1024;
    const WANTED: (&str, fn(&Type) -> bool) =
        ("one of [string null_type]", |ty| matches!(ty, Type::String | Type::Null));
    let path = Path::new("spec.auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        let shown: Vec<String> = annotations
            .iter()
            .map(|a| checks::internal("a.admissionregistration.v1.AuditAnnotation", a))
            .collect();
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid_shown(&path, &format!("[{}]", shown.join(",")), why);
    }
    for (i, annotation) in annotations.iter().enumerate() {
        let at = path.index(i);
        let key = text(annotation, &["key"]);
        checks::qualified(&format!("{policy}/{key}"), &at.child("key"), errors);
        let (given, value_at) = (text(annotation, &["valueExpression"]), at.child("valueExpression"));
        let source = given.trim();
        if source.is_empty() {
            errors.required(&value_at, "valueExpression is not specified");
        } else if source.len() > EXPRESSION_BYTES_MAX {
            errors.required(&value_at, &format!("must not exceed {EXPRESSION_BYTES_MAX} bytes in length"));
        } else {
            expression(environment, given, source, WANTED, &value_at, errors);
        }
        if annotations[..i].iter().any(|a| a["key"] == annotation["key"]) {
            errors.duplicate(&at.child("key"), key);
        }
    }
}

/// Checks a MutatingAdmissionPolicy.
pub fn mutating(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let environment = common(spec, true, &path, errors);
    let mutations = list(spec, &["mutations"]);
    if mutations.is_empty() {
        errors.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    for (i, mutation) in mutations.iter().enumerate() {
        let at = path.child("mutations").index(i);
        let object: (&str, fn(&Type) -> bool) =
            ("Object", |ty| matches!(ty, Type::Object(o) if o.name == "Object"));
        let patches: (&str, fn(&Type) -> bool) = ("list(JSONPatch)", |ty| match ty {
            Type::List(of, _) => matches!(&**of, Type::Object(o) if o.name == "JSONPatch"),
            _ => false,
        });
        let (own, other, wanted) = match text(mutation, &["patchType"]) {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", object),
            "JSONPatch" => ("jsonPatch", "applyConfiguration", patches),
            _ => {
                one_of(mutation, "patchType", &["ApplyConfiguration", "JSONPatch"], &at, errors);
                continue;
            }
        };
        let patch_type = text(mutation, &["patchType"]);
        let own_at = at.child(own);
        match text(mutation, &[own, "expression"]).trim() {
            _ if !mutation[own].is_object() => {
                errors.required(&own_at, &format!("must be specified when patchType is {patch_type}"));
            }
            "" => errors.required(&own_at.child("expression"), ""),
            source => expression(&environment, source, source, wanted, &own_at.child("expression"), errors),
        }
        if mutation[other].is_object() {
            let why = format!("must not be specified when patchType is {patch_type}");
            errors.invalid(&at.child(other), format!("{{{other}}}"), why);
        }
    }
    one_of(spec, "reinvocationPolicy", &["IfNeeded", "Never"], &path, errors);
}

/// Checks what the server found out about a ValidatingAdmissionPolicy.
pub fn status(object: &Value, errors: &mut Errors) {
    let (status, path) = (&object["status"], Path::new("status"));
    let warnings = path.child("typeChecking").child("expressionWarnings");
    for (i, warning) in list(status, &["typeChecking", "expressionWarnings"]).iter().enumerate() {
        checks::required(warning, "warning", &warnings.index(i), errors);
        if text(warning, &["fieldRef"]).trim().is_empty() {
            errors.required(&warnings.index(i).child("fieldRef"), "");
        }
    }
    checks::conditions(list(status, &["conditions"]), &path.child("conditions"), errors);
}

/// Checks a binding; those of mutating policies have no actions.
pub fn binding(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let policy = text(spec, &["policyName"]);
    if policy.is_empty() {
        errors.required(&path.child("policyName"), "");
    } else {
        checks::named(NameRule::Subdomain, policy, &path.child("policyName"), errors);
    }
    let params = &spec["paramRef"];
    if params.is_object() {
        param_ref(params, &path.child("paramRef"), errors);
    }
    if spec["matchResources"].is_object() {
        match_resources(&spec["matchResources"], &path.child("matchResources"), errors);
    }
    if object["kind"] != "ValidatingAdmissionPolicyBinding" {
        let rules = list(spec, &["matchResources", "resourceRules"]);
        changeable(rules, &path.child("matchResources").child("resourceRules"), errors);
        return;
    }
    let (actions, at) = (list(spec, &["validationActions"]), path.child("validationActions"));
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
    if actions.is_empty() {
        errors.required(&at, "at least one validation action is required");
    }
}

/// Checks where a binding takes parameters from.
fn param_ref(params: &Value, at: &Path, errors: &mut Errors) {
    const TWO: &str = "name and selector are mutually exclusive";
    let (name, selected) = (text(params, &["name"]), params["selector"].is_object());
    if !name.is_empty() {
        checks::named(NameRule::PathSegment, name, &at.child("name"), errors);
        if selected {
            errors.forbidden(&at.child("name"), TWO);
        }
    }
    if selected {
        checks::label_selector(&params["selector"], &at.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&at.child("selector"), TWO);
        }
    } else if name.is_empty() {
        errors.required(at, "one of name or selector must be specified");
    }
    one_of(params, "parameterNotFoundAction", &["Deny", "Allow"], at, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn bindings_of_mutating_policies_are_about_writes_too() {
        for (kind, operation, wrong) in [
            ("MutatingAdmissionPolicyBinding", "CREATE", false),
            ("MutatingAdmissionPolicyBinding", "DELETE", true),
            ("ValidatingAdmissionPolicyBinding", "DELETE", false),
        ] {
            let rule = json!({"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
            let object = json!({"kind": kind, "spec": {"policyName": "p", "validationActions": ["Deny"],
                "matchResources": {"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {},
                    "resourceRules": [rule]}}});
            let told = said(|errors| binding(&object, errors));
            let at = "spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\"";
            assert_eq!(told.iter().any(|told| told.starts_with(at)), wrong, "{kind} {operation}: {told:?}");
            assert_eq!(told.is_empty(), !wrong, "{told:?}");
        }
    }

    #[test]
    fn mutating_policies_are_about_writes() {
        let policy = |operation: &str, mutation: Value| {
            let rule = json!({"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
            json!({"spec": {"failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [mutation],
                "matchConstraints": {"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {},
                    "resourceRules": [rule]}}})
        };
        let apply =
            json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
        let of_patch = json!({"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}});
        let blank = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": " "}});
        for (operation, mutation, wanted) in [
            ("CREATE", &apply, vec![]),
            (
                "DELETE",
                &apply,
                vec![
                    "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                     \"CONNECT\", \"CREATE\", \"UPDATE\"",
                ],
            ),
            (
                "CREATE",
                &of_patch,
                vec![
                    "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                    "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified \
                     when patchType is JSONPatch",
                ],
            ),
            ("CREATE", &blank, vec!["spec.mutations[0].jsonPatch.expression: Required value"]),
        ] {
            let given = policy(operation, mutation.clone());
            assert_eq!(said(|errors| mutating(&given, errors)), wanted, "{operation} {mutation}");
        }
    }

    #[test]
    fn an_empty_word_is_not_the_absence_of_one() {
        let told =
            |value: Value| said(|errors| given_one_of(&value, "f", &["a", "b"], &Path::new("p"), errors));
        assert_eq!(told(json!({})), ["p.f: Required value"]);
        assert_eq!(told(json!({"f": ""})), ["p.f: Unsupported value: \"\": supported values: \"a\", \"b\""]);
    }

    #[test]
    fn what_was_found_out_about_a_policy_is_complete() {
        let told = said(|errors| {
            let warnings = json!([{"fieldRef": "spec.x", "warning": "w"}, {"fieldRef": " "}]);
            status(&json!({"status": {"typeChecking": {"expressionWarnings": warnings}}}), errors);
        });
        let path = "status.typeChecking.expressionWarnings[1]";
        assert_eq!(
            told,
            [format!("{path}.warning: Required value"), format!("{path}.fieldRef: Required value")]
        );
    }
}
