//! Policies and their bindings, compiled once per change.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Selector;
use serde_json::Value;

use super::GROUP;
use super::matching::Matcher;
use super::request::environment;
use crate::api::cel::types::ObjectType;
use crate::api::cel::{Environment, Program, Type};
use crate::api::object::{list, text};
use crate::cache::{Derived, Snapshot};

/// An expression of a policy; one that does not compile fails whenever it is asked.
pub struct Expression {
    /// As it was written.
    pub source: String,
    /// What became of it.
    pub program: Result<Program, String>,
}

/// One rule of a validating policy.
pub struct Validation {
    /// What must hold.
    pub expression: Expression,
    /// What to say when it does not.
    pub message: String,
    /// An expression that makes what to say.
    pub message_expression: Option<Expression>,
    /// The reason of the refusal; empty for an invalid object.
    pub reason: String,
}

/// One change that a mutating policy makes.
pub struct Mutation {
    /// The change is a list of patch operations, not a configuration to apply.
    pub json_patch: bool,
    /// What makes it.
    pub expression: Expression,
}

/// A policy.
pub struct Policy {
    /// Name.
    pub name: String,
    /// Which requests it is about.
    pub matcher: Matcher,
    /// The kind of its parameters: apiVersion and kind.
    pub params: Option<(String, String)>,
    /// What must hold for it to be asked at all: name and expression.
    pub conditions: Vec<(String, Expression)>,
    /// Names for what several expressions use.
    pub variables: Vec<(String, Expression)>,
    /// Its rules.
    pub validations: Vec<Validation>,
    /// What it says in the audit log: key and expression.
    pub annotations: Vec<(String, Expression)>,
    /// Its changes.
    pub mutations: Vec<Mutation>,
    /// Refuse where an expression fails.
    pub fails: bool,
    /// It sees once more what was changed after it.
    pub reinvoked: bool,
    /// Its bindings.
    pub bindings: Vec<Binding>,
}

/// A binding of a policy.
pub struct Binding {
    /// Name.
    pub name: String,
    /// Which of the policy's requests it is about.
    pub matcher: Matcher,
    /// Whose parameters.
    pub params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

/// Which parameter objects.
pub struct ParamRef {
    /// Name, or empty.
    pub name: String,
    /// Namespace, or empty for the request's.
    pub namespace: String,
    /// Labels, where no name is given.
    pub selector: Option<Selector>,
    /// Go on where there are none.
    pub allow_missing: bool,
}

/// The validating policies.
#[derive(Default)]
pub struct Validating(pub Policies);

/// The mutating policies.
#[derive(Default)]
pub struct Mutating(pub Policies);

/// Policies by name.
#[derive(Default)]
pub struct Policies(pub Vec<Arc<Policy>>);

impl Derived for Validating {
    const KINDS: &'static [(&'static str, &'static str)] =
        &[(GROUP, "validatingadmissionpolicies"), (GROUP, "validatingadmissionpolicybindings")];

    fn derive(_: Option<&Self>, snapshot: &Snapshot) -> Self {
        Validating(policies(snapshot, Self::KINDS, false))
    }
}

impl Derived for Mutating {
    const KINDS: &'static [(&'static str, &'static str)] =
        &[(GROUP, "mutatingadmissionpolicies"), (GROUP, "mutatingadmissionpolicybindings")];

    fn derive(_: Option<&Self>, snapshot: &Snapshot) -> Self {
        Mutating(policies(snapshot, Self::KINDS, true))
    }
}

fn policies(snapshot: &Snapshot, kinds: &[(&str, &str)], mutates: bool) -> Policies {
    let [(_, policies), (_, bindings)] = kinds else { return Policies::default() };
    let mut by_policy: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for stored in snapshot.list(GROUP, bindings, "").filter(|s| !s.meta.is_deleting()) {
        if let Ok(value) = stored.value() {
            let policy = text(&value, &["spec", "policyName"]).to_owned();
            by_policy.entry(policy).or_default().push(binding(&stored.meta.name, &value["spec"]));
        }
    }
    let one = |stored: &Arc<crate::cache::Stored>| {
        let bindings = by_policy.remove(&*stored.meta.name)?;
        let value = stored.value().ok()?;
        Some(Arc::new(policy(&stored.meta.name, &value["spec"], bindings, mutates)))
    };
    Policies(snapshot.list(GROUP, policies, "").filter_map(one).collect())
}

fn binding(name: &str, spec: &Value) -> Binding {
    let params = &spec["paramRef"];
    let selector = serde_json::from_value(params["selector"].clone()).ok();
    Binding {
        name: name.to_owned(),
        matcher: Matcher::of(&spec["matchResources"], true),
        params: params.is_object().then(|| ParamRef {
            name: text(params, &["name"]).to_owned(),
            namespace: text(params, &["namespace"]).to_owned(),
            selector: selector.and_then(|s| Selector::from_label_selector(&s).ok()),
            allow_missing: params["parameterNotFoundAction"] == "Allow",
        }),
        actions: list(spec, &["validationActions"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    }
}

/// What the expressions of a policy may use.
pub fn environment_of(spec: &Value) -> Environment {
    environment(spec["paramKind"].is_object())
}

/// Adds the variables of a policy to what its expressions may use, one after the other; `each` is told what
/// became of each.
pub fn with_variables(
    spec: &Value,
    mut environment: Environment,
    mut each: impl FnMut(usize, &Value, Result<&Program, &String>),
) -> (Environment, Vec<(String, Expression)>) {
    let mut fields = BTreeMap::new();
    let mut made = Vec::new();
    let put = |fields: &BTreeMap<String, (String, Type)>, environment: &mut Environment| {
        let ty = ObjectType { name: "kubernetes.variables".to_owned(), fields: fields.clone() };
        environment.variables.insert("variables".to_owned(), Type::Object(Arc::new(ty)));
    };
    for (i, variable) in list(spec, &["variables"]).iter().enumerate() {
        let (name, source) = (text(variable, &["name"]).to_owned(), text(variable, &["expression"]));
        put(&fields, &mut environment);
        let program = Program::compile(&environment, source);
        each(i, variable, program.as_ref());
        let ty = program.as_ref().map_or(Type::Dyn, |p| p.ty.clone());
        // One that says nothing is none.
        if !source.trim().is_empty() {
            fields.insert(name.clone(), (name.clone(), ty));
        }
        put(&fields, &mut environment);
        made.push((name, Expression { source: source.to_owned(), program }));
    }
    (environment, made)
}

/// Lets expressions ask for variables where there are none: those of mutating policies always may.
pub fn without_variables(environment: &mut Environment) {
    let none = ObjectType { name: "kubernetes.variables".to_owned(), fields: BTreeMap::new() };
    environment.variables.insert("variables".to_owned(), Type::Object(Arc::new(none)));
}

/// Whether a mutating policy's expressions may make an object of a type.
pub fn makes(name: &str) -> bool {
    name == "JSONPatch" || name == "Object" || name.starts_with("Object.")
}

fn policy(name: &str, spec: &Value, bindings: Vec<Binding>, mutates: bool) -> Policy {
    let mut environment = environment_of(spec);
    if mutates {
        environment.makes = makes;
    }
    let compile = |environment: &Environment, source: &str| Expression {
        source: source.to_owned(),
        program: Program::compile(environment, source),
    };
    let conditions = list(spec, &["matchConditions"])
        .iter()
        .map(|c| (text(c, &["name"]).to_owned(), compile(&environment, text(c, &["expression"]))))
        .collect();
    if mutates {
        without_variables(&mut environment);
    }
    let (environment, variables) = with_variables(spec, environment, |_, _, _| {});
    let validations = list(spec, &["validations"]).iter().map(|v| {
        let message = text(v, &["messageExpression"]);
        Validation {
            expression: compile(&environment, text(v, &["expression"])),
            message: text(v, &["message"]).trim().to_owned(),
            message_expression: (!message.trim().is_empty()).then(|| compile(&environment, message)),
            reason: text(v, &["reason"]).to_owned(),
        }
    });
    let annotations = list(spec, &["auditAnnotations"])
        .iter()
        .map(|a| (text(a, &["key"]).to_owned(), compile(&environment, text(a, &["valueExpression"]))));
    let mutations = list(spec, &["mutations"]).iter().map(|m| {
        let json_patch = m["patchType"] == "JSONPatch";
        let at = if json_patch { "jsonPatch" } else { "applyConfiguration" };
        Mutation { json_patch, expression: compile(&environment, text(m, &[at, "expression"])) }
    });
    let kind = &spec["paramKind"];
    Policy {
        name: name.to_owned(),
        matcher: Matcher::of(&spec["matchConstraints"], false),
        params: kind
            .is_object()
            .then(|| (text(kind, &["apiVersion"]).to_owned(), text(kind, &["kind"]).to_owned())),
        conditions,
        variables,
        validations: validations.collect(),
        annotations: annotations.collect(),
        mutations: mutations.collect(),
        fails: spec["failurePolicy"] != "Ignore",
        reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
        bindings,
    }
}
