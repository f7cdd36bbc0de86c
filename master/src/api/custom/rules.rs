//! Rules about declared kinds in the Common Expression Language: their acceptance and their evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::schema::validate::former;
use super::schema::{Additional, Rule, Schema, structural};
use crate::api::cel::types::of_schema;
use crate::api::cel::value::Value as CelValue;
use crate::api::cel::{Environment, Failure, Program, Scope, TOTAL_COST_MAX, Type, library};
use crate::api::invalid::{Errors, Path, go_quote};

pub mod field_path;

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// The compiled rules of a schema.
pub struct Compiled {
    root: Option<Node>,
}

/// The rules at one place of a schema, and below it.
struct Node {
    ty: Type,
    rules: Vec<CompiledRule>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
}

struct CompiledRule {
    rule: Rule,
    program: Result<Program, String>,
    message: Option<Program>,
    /// It is about a change.
    transition: bool,
}

/// What the rules of a place may use.
fn environment(ty: &Type, rule: &Rule) -> Environment {
    let mut environment = Environment::default();
    environment.variables.insert("self".to_owned(), ty.clone());
    let old =
        if rule.optional_old_self == Some(true) { Type::Optional(Arc::new(ty.clone())) } else { ty.clone() };
    environment.variables.insert("oldSelf".to_owned(), old);
    environment
}

impl Node {
    fn of(schema: &Schema, resource: bool, name: &str) -> Option<Node> {
        let ty = of_schema(schema, resource, name);
        let compile = |rule: &Rule| {
            let environment = environment(&ty, rule);
            let program = Program::compile(&environment, &rule.rule);
            let transition = program.as_ref().is_ok_and(|p| p.mentions("oldSelf"));
            let message = Program::compile(&environment, &rule.message_expression).ok();
            CompiledRule { rule: rule.clone(), program, message, transition }
        };
        let below = |inner: &Schema, step: &str| Node::of(inner, inner.embedded, &format!("{name}.{step}"));
        let made = Node {
            rules: schema.rules.iter().map(compile).collect(),
            properties: schema
                .properties
                .iter()
                .filter_map(|(name, inner)| Some((name.clone(), below(inner, name)?)))
                .collect(),
            additional: match &schema.additional {
                Additional::Schema(inner) => below(inner, "@elem").map(Box::new),
                _ => None,
            },
            items: schema.items.as_ref().and_then(|inner| below(inner, "@idx")).map(Box::new),
            ty,
        };
        let empty = made.rules.is_empty()
            && made.properties.is_empty()
            && made.additional.is_none()
            && made.items.is_none();
        (!empty).then_some(made)
    }
}

impl Compiled {
    /// Compiles the rules of a schema that was accepted.
    pub fn new(schema: &Schema) -> Self {
        Compiled { root: Node::of(schema, true, "object") }
    }

    /// Checks an object by its rules; `old` is what an update replaces.
    pub fn check(&self, value: &Value, old: Option<&Value>, schema: &Schema, errors: &mut Errors) {
        if let Some(root) = &self.root {
            let mut budget = TOTAL_COST_MAX;
            let mut walk = Walk { budget: &mut budget, errors, ended: false };
            walk.node(root, schema, value, old, &Path::default());
        }
    }
}

struct Walk<'w> {
    budget: &'w mut u64,
    errors: &'w mut Errors,
    ended: bool,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, schema: &Schema, value: &Value, old: Option<&Value>, path: &Path) {
        if self.ended || value.is_null() {
            return;
        }
        for rule in &node.rules {
            self.rule(rule, node, value, old, path);
            if self.ended {
                return;
            }
        }
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let old = old.and_then(|o| o.get(name));
                    match (node.properties.get(name), schema.properties.get(name)) {
                        (Some(below), Some(schema)) => {
                            self.node(below, schema, inner, old, &path.child(name))
                        }
                        (None, None) => {
                            if let (Some(below), Additional::Schema(schema)) =
                                (&node.additional, &schema.additional)
                            {
                                self.node(below, schema, inner, old, &path.key(name));
                            }
                        }
                        _ => {}
                    }
                }
            }
            Value::Array(items) => {
                let (Some(below), Some(of)) = (&node.items, &schema.items) else { return };
                for (i, item) in items.iter().enumerate() {
                    // Only entries that have keys are the same ones after a change.
                    let old = if schema.list_type == "map" { former(old, i, item, schema) } else { None };
                    self.node(below, of, item, old, &path.index(i));
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, rule: &CompiledRule, node: &Node, value: &Value, old: Option<&Value>, path: &Path) {
        let Ok(program) = &rule.program else { return };
        let optional = rule.rule.optional_old_self == Some(true);
        if rule.transition && old.is_none() && !optional {
            return;
        }
        let own = CelValue::of(value, &node.ty);
        let before = old.map(|old| CelValue::of(old, &node.ty));
        let before = if optional {
            CelValue::Optional(before.map(Arc::new))
        } else {
            before.unwrap_or(CelValue::Null)
        };
        let scope = Scope::new([("self", own), ("oldSelf", before)]);
        let given = rule.rule.message.trim();
        let evaluated = match program.evaluate(&scope, self.budget) {
            Ok(CelValue::Bool(true)) => return,
            Ok(CelValue::Bool(false)) => Ok(()),
            Ok(_) => Err("internal type error".to_owned()),
            Err(Failure::Budget) => {
                self.ended = true;
                let why = if *self.budget == 0 {
                    "validation failed due to running out of cost budget, no further validation rules will be run".to_owned()
                } else {
                    format!(
                        "no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        rule.rule.rule.trim()
                    )
                };
                self.errors.invalid_unshown(path, why);
                return;
            }
            Err(failure) => Err(failure.to_string()),
        };
        if let Err(why) = evaluated {
            let about = if given.is_empty() { rule.rule.rule.trim() } else { given };
            let shown = go_quote(kind_of(value));
            self.errors.invalid_shown(path, &shown, format!("{why} evaluating rule: {about}"));
            return;
        }
        let made = rule.message.as_ref().and_then(|message| {
            let said = message.evaluate(&scope, self.budget).ok()?;
            library::to_text(&said)
                .map(|s| s.trim().to_owned())
                .filter(|s| !s.is_empty() && !s.contains('\n'))
        });
        let detail = match made {
            Some(made) => made,
            None if given.is_empty() => format!("failed rule: {}", rule.rule.rule.trim()),
            None => given.to_owned(),
        };
        let names = field_path::names(&rule.rule.field_path).unwrap_or_default();
        let at = names.iter().fold(path.clone(), |at, name| at.child(name));
        match rule.rule.reason.as_str() {
            "FieldValueForbidden" => self.errors.forbidden(&at, detail),
            "FieldValueRequired" => self.errors.required(&at, &detail),
            "FieldValueDuplicate" => self.errors.duplicate(&at, value.clone()),
            _ if value.is_object() || value.is_array() => self.errors.invalid_unshown(&at, detail),
            _ => self.errors.invalid(&at, value.clone(), detail),
        }
    }
}

/// What a value is called in messages about failed rules.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Checks a schema and its rules.
pub fn validate_schema(schema: &Value, status: bool, path: &Path, errors: &mut Errors) {
    if structural::validate_root(schema, status, path, errors) {
        let parsed = Schema::parse(schema);
        accept(&parsed, schema, true, None, path, errors);
    }
}

/// A rule as upstream's internal type prints it.
fn shown(rule: &Rule) -> String {
    let reason = if rule.reason.is_empty() { "null".to_owned() } else { go_quote(&rule.reason) };
    let old = rule.optional_old_self.map_or("null".to_owned(), |b| b.to_string());
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\"OptionalOldSelf\":{old}}}",
        Value::from(rule.rule.as_str()),
        Value::from(rule.message.as_str()),
        Value::from(rule.message_expression.as_str()),
        Value::from(rule.field_path.as_str()),
    )
}

/// Checks the rules of a schema. `loose` is the path of a list around it whose entries have no identity.
fn accept(
    schema: &Schema,
    declared: &Value,
    resource: bool,
    loose: Option<&Path>,
    path: &Path,
    errors: &mut Errors,
) {
    let ty = of_schema(schema, resource, "object");
    let at = path.child("x-kubernetes-validations");
    for (i, rule) in schema.rules.iter().enumerate() {
        accept_rule(rule, &ty, declared, loose, &at.index(i), errors);
    }
    for (name, inner) in &schema.properties {
        let path = path.child("properties").key(name);
        accept(inner, &declared["properties"][name.as_str()], inner.embedded, loose, &path, errors);
    }
    if let Additional::Schema(inner) = &schema.additional {
        let path = path.child("additionalProperties");
        accept(inner, &declared["additionalProperties"], inner.embedded, loose, &path, errors);
    }
    if let Some(inner) = &schema.items {
        let items = path.child("items");
        let loose = if schema.list_type == "map" { loose } else { loose.or(Some(path)) };
        accept(inner, &declared["items"], inner.embedded, loose, &items, errors);
    }
}

fn accept_rule(
    rule: &Rule,
    ty: &Type,
    declared: &Value,
    loose: Option<&Path>,
    at: &Path,
    errors: &mut Errors,
) {
    let rule_at = at.child("rule");
    let breaks = |text: &str| text.trim().contains(['\n', '\r']);
    if rule.rule.trim().is_empty() {
        errors.required(&rule_at, "rule is not specified");
        return;
    }
    let message_at = at.child("message");
    if !rule.message.is_empty() && rule.message.trim().is_empty() {
        errors.invalid(&message_at, rule.message.as_str(), "message must be non-empty if specified");
    } else if breaks(&rule.message) {
        errors.invalid(&message_at, rule.message.as_str(), "message must not contain line breaks");
    } else if breaks(&rule.rule) && rule.message.trim().is_empty() {
        errors.required(&message_at, "message must be specified if rule contains line breaks");
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        errors.required(&at.child("messageExpression"), "messageExpression must be non-empty if specified");
    }
    if !rule.reason.is_empty() && !REASONS.contains(&rule.reason.as_str()) {
        errors.unsupported(&at.child("reason"), rule.reason.as_str(), &REASONS);
    }
    if !rule.field_path.is_empty() {
        let field_at = at.child("fieldPath");
        let given = rule.field_path.as_str();
        if given.trim().is_empty() {
            errors.invalid(&field_at, given, "fieldPath must be non-empty if specified");
        } else if breaks(given) {
            errors.invalid(&field_at, given, "fieldPath must not contain line breaks");
        } else if let Err(why) = field_path::resolve(given, declared) {
            errors.invalid(&field_at, given, format!("fieldPath must be a valid path: {why}"));
        }
    }
    let environment = environment(ty, rule);
    let program = match Program::compile(&environment, &rule.rule) {
        Err(why) => return errors.invalid_shown(&rule_at, &shown(rule), why),
        Ok(program) => program,
    };
    if !matches!(program.ty, Type::Bool | Type::Dyn) {
        errors.invalid_shown(&rule_at, &shown(rule), "cel expression must evaluate to a bool");
    }
    let transition = program.mentions("oldSelf");
    if let Some(loose) = loose.filter(|_| transition && rule.optional_old_self != Some(true)) {
        let why =
            format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}");
        errors.invalid(&rule_at, rule.rule.as_str(), why);
    }
    if let Some(optional) = rule.optional_old_self.filter(|_| !transition) {
        let why = "may not be set if oldSelf is not used in rule";
        errors.invalid(&at.child("optionalOldSelf"), optional, why);
    }
    if !rule.message_expression.trim().is_empty() {
        let message_at = at.child("messageExpression");
        match Program::compile(&environment, &rule.message_expression) {
            Err(why) => errors.invalid_shown(&message_at, &shown(rule), format!("messageExpression {why}")),
            Ok(program) if !matches!(program.ty, Type::String | Type::Dyn) => {
                errors.invalid_shown(
                    &message_at,
                    &shown(rule),
                    "messageExpression must evaluate to a string",
                );
            }
            Ok(_) => {}
        }
    }
}
