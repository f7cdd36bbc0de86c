//! Rules about declared kinds in the Common Expression Language: their acceptance and their evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::schema::validate::former as counterpart;
use super::schema::{Additional, Rule, Schema};
use crate::api::cel::types::of_schema;
use crate::api::cel::value::Value as CelValue;
use crate::api::cel::{Environment, Failure, Program, Scope, TOTAL_COST_MAX, Type, library};
use crate::api::invalid::{Errors, Path};

pub mod acceptance;
pub mod cost;
pub mod field_path;

/// A made message that is longer is not shown.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
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
    /// The field that its errors are about.
    about: Path,
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
            let about = field_path::resolve(&rule.field_path, schema, true).map(|found| found.path);
            CompiledRule {
                rule: rule.clone(),
                program,
                message,
                transition,
                about: about.unwrap_or_default(),
            }
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
    /// Compiles the rules of a schema that was accepted; `resource` is whether its values are objects that have
    /// apiVersion, kind and metadata.
    pub fn of(schema: &Schema, resource: bool) -> Self {
        Compiled { root: Node::of(schema, resource, "object") }
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Checks a value at a path by its rules; `old` is what an update replaces. What is wrong with a part that the
    /// update leaves alone is only returned, to be warned of.
    pub fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        schema: &Schema,
        path: &Path,
        errors: &mut Errors,
    ) -> Vec<String> {
        self.walk(value, old, Former { own: old, around: None }, schema, path, errors)
    }

    /// Checks a value that is to stand for what is absent: newly, and where it stood before.
    pub fn check_default(&self, value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
        let mut found = Errors::default();
        for old in [Some(value), None] {
            if found.is_empty() {
                // Nothing was left alone here that could excuse it.
                self.walk(value, old, Former { own: None, around: None }, schema, path, &mut found);
            }
        }
        errors.append(found);
    }

    fn walk<'v>(
        &self,
        value: &'v Value,
        old: Option<&'v Value>,
        former: Former<'v>,
        schema: &Schema,
        path: &Path,
        errors: &mut Errors,
    ) -> Vec<String> {
        let Some(root) = &self.root else { return Vec::new() };
        let mut budget = TOTAL_COST_MAX;
        let mut kept = Errors::default();
        let mut walk = Walk { budget: &mut budget, errors, kept: &mut kept, ended: false };
        walk.node(root, schema, value, old, former, path);
        kept.messages()
    }
}

/// What stood before an update where a value stands.
#[derive(Clone, Copy)]
struct Former<'v> {
    /// The former value, where there is one to compare with.
    own: Option<&'v Value>,
    /// Else what is around it, before and now.
    around: Option<(&'v Value, &'v Value)>,
}

impl<'v> Former<'v> {
    fn below(self, value: &'v Value, own: Option<&'v Value>) -> Former<'v> {
        match self.own {
            None => self,
            Some(old) => Former { own, around: Some((old, value)) },
        }
    }

    /// Whether the update leaves a value alone.
    fn is(self, value: &Value) -> bool {
        match (self.own, self.around) {
            (Some(old), _) => old == value,
            (None, Some((old, new))) => old == new,
            (None, None) => false,
        }
    }
}

struct Walk<'w> {
    budget: &'w mut u64,
    errors: &'w mut Errors,
    kept: &'w mut Errors,
    ended: bool,
}

impl Walk<'_> {
    fn node<'v>(
        &mut self,
        node: &Node,
        schema: &Schema,
        value: &'v Value,
        old: Option<&'v Value>,
        former: Former<'v>,
        path: &Path,
    ) {
        if self.ended || value.is_null() {
            return;
        }
        for rule in &node.rules {
            self.rule(rule, node, schema, value, old, former.is(value), path);
            if self.ended {
                return;
            }
        }
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let old = old.and_then(|o| o.get(name));
                    // The version of an object is not a matter of its update.
                    let head = former.around.is_none() && ["apiVersion", "kind"].contains(&name.as_str());
                    let own = if head { None } else { former.own.and_then(|o| o.get(name)) };
                    let below = former.below(value, own);
                    match (node.properties.get(name), schema.properties.get(name)) {
                        (Some(of), Some(schema)) => {
                            self.node(of, schema, inner, old, below, &path.child(name))
                        }
                        (None, None) => {
                            if let (Some(of), Additional::Schema(schema)) =
                                (&node.additional, &schema.additional)
                            {
                                self.node(of, schema, inner, old, below, &path.key(name));
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
                    let old = if schema.list_type == "map" { counterpart(old, item, schema) } else { None };
                    let own = counterpart(former.own, item, schema);
                    self.node(below, of, item, old, former.below(value, own), &path.index(i));
                }
            }
            _ => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a rule is about all of them")]
    fn rule(
        &mut self,
        rule: &CompiledRule,
        node: &Node,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        kept: bool,
        path: &Path,
    ) {
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
        let about = if given.is_empty() { rule.rule.rule.trim() } else { given };
        let ty = schema.ty.as_str();
        match program.evaluate(&scope, self.budget) {
            Ok(CelValue::Bool(true)) => return,
            Ok(CelValue::Bool(false)) => {}
            Ok(_) => {
                return self.errors.invalid(
                    path,
                    ty,
                    format!("internal type error evaluating rule: {about}"),
                );
            }
            Err(Failure::Budget) => {
                self.ended = true;
                let why = if *self.budget == 0 {
                    "validation failed due to running out of cost budget, no further validation rules will be run".to_owned()
                } else {
                    format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {about}",
                        Failure::Budget
                    )
                };
                return self.errors.invalid(path, ty, why);
            }
            Err(failure) => {
                let failure = failure.to_string();
                let why = if failure.starts_with("no such overload") {
                    format!(
                        "'{failure}': call arguments did not match a supported operator, function or macro signature \
                         for rule: {about}"
                    )
                } else {
                    format!("{failure} evaluating rule: {about}")
                };
                return self.errors.invalid(path, ty, why);
            }
        }
        let made = rule.message.as_ref().and_then(|message| {
            let said = message.evaluate(&scope, self.budget).ok()?;
            library::to_text(&said)
                .map(|s| s.trim().to_owned())
                .filter(|s| !s.is_empty() && s.len() <= MESSAGE_BYTES_MAX && !s.contains(['\n', '\r']))
        });
        let detail = match made {
            Some(made) => made,
            None if given.is_empty() => format!("failed rule: {about}"),
            None => given.to_owned(),
        };
        let at =
            if rule.about == Path::default() { path.clone() } else { path.child(&rule.about.to_string()) };
        // What a rule about changes refuses is never left alone.
        let errors = if kept && !rule.transition { &mut *self.kept } else { &mut *self.errors };
        let whole = matches!(ty, "object" | "array");
        match rule.rule.reason.as_deref().unwrap_or_default() {
            "FieldValueForbidden" => errors.forbidden(&at, detail),
            "FieldValueRequired" => errors.required(&at, &detail),
            "FieldValueDuplicate" if whole => errors.duplicate_unshown(&at),
            "FieldValueDuplicate" => errors.duplicate(&at, value.clone()),
            _ if whole => errors.invalid_unshown(&at, detail),
            _ => errors.invalid(&at, value.clone(), detail),
        }
    }
}
