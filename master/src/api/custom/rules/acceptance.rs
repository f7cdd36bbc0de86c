//! Which rules are accepted when a kind is declared, and what they may cost.

use super::{REASONS, cost, environment, field_path};
use crate::api::cel::check::Types;
use crate::api::cel::types::of_schema;
use crate::api::cel::{Program, Type};
use crate::api::custom::schema::structural::unreadable;
use crate::api::custom::schema::{Rule, Schema};
use crate::api::invalid::{Errors, Path, go_quote};

/// A part of a structural schema.
#[derive(Clone, Copy)]
pub struct Place<'s> {
    /// The part.
    pub schema: &'s Schema,
    /// How often it can hold in an object, as far as the schemas around it bound that.
    pub many: Option<u64>,
    /// Its values are objects that have apiVersion, kind and metadata.
    pub resource: bool,
}

impl<'s> Place<'s> {
    /// A part of this part.
    pub fn below(self, schema: &'s Schema) -> Place<'s> {
        let each = cost::bound(self.schema);
        let many = self.many.zip(each).map(|(many, each)| many.saturating_mul(each));
        Place { schema, many, resource: schema.embedded }
    }
}

/// What the rules of a kind cost together.
#[derive(Default)]
pub struct Costs {
    total: u64,
    dear: Vec<(Path, u64)>,
}

impl Costs {
    fn add(&mut self, path: &Path, cost: u64) {
        self.total = self.total.saturating_add(cost);
        // What is less than a hundredth of what is allowed is not worth a word.
        if cost >= cost::KIND_COST_MAX / 100 {
            self.dear.push((path.clone(), cost));
        }
    }

    /// Checks what all rules cost together; `path` is the schema's.
    pub fn finish(mut self, path: &Path, errors: &mut Errors) {
        /// So many of the most expensive rules are named.
        const NAMED_MAX: usize = 4;
        if self.total <= cost::KIND_COST_MAX {
            return;
        }
        self.dear.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (at, _) in self.dear.iter().take(NAMED_MAX) {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(at, why);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, cost::refusal(what, self.total, cost::KIND_COST_MAX));
    }
}

/// Checks what a rule says beside its expressions; `declared` is the schema that it belongs to.
pub fn words(rule: &Rule, declared: &serde_json::Value, at: &Path, errors: &mut Errors) {
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let message_at = at.child("message");
    let message = rule.message.trim();
    if rule.rule.trim().is_empty() {
        errors.required(&at.child("rule"), "rule is not specified");
    } else if !rule.message.is_empty() && message.is_empty() {
        errors.invalid(&message_at, rule.message.as_str(), "must be non-empty if specified");
    } else if breaks(message) {
        errors.invalid(&message_at, rule.message.as_str(), "must not contain line breaks");
    } else if breaks(rule.rule.trim()) && message.is_empty() {
        errors.required(&message_at, "message must be specified if rule contains line breaks");
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        errors.required(&at.child("messageExpression"), "messageExpression must be non-empty if specified");
    }
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
        errors.unsupported(&at.child("reason"), reason, &REASONS);
    }
    let (field_at, given) = (at.child("fieldPath"), rule.field_path.as_str());
    if given.is_empty() {
        return;
    }
    if given.trim().is_empty() {
        errors.invalid(&field_at, given, "must be non-empty if specified");
    }
    if breaks(given) {
        errors.invalid(&field_at, given, "must not contain line breaks");
    }
    // What is no structural schema has no fields to lead to, and says so itself.
    if unreadable(declared).is_none() && field_path::resolve(given, &Schema::parse(declared), true).is_err() {
        errors.invalid(&field_at, given, "must be a valid path");
    }
}

/// Compiles the rules of a part whose schema is good. `loose` is the path of a list around it whose entries have
/// no identity.
pub fn compile(place: Place<'_>, loose: Option<&Path>, at: &Path, errors: &mut Errors, costs: &mut Costs) {
    if place.schema.ty.is_empty() && !place.schema.int_or_string && !place.schema.rules.is_empty() {
        let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to \
                   convert structural schema to CEL declarations";
        return errors.internal(at, why);
    }
    let ty = of_schema(place.schema, place.resource, "object");
    for (i, rule) in place.schema.rules.iter().enumerate() {
        one(rule, place, &ty, loose, &at.index(i), errors, costs);
    }
}

fn one(
    rule: &Rule,
    place: Place<'_>,
    ty: &Type,
    loose: Option<&Path>,
    at: &Path,
    errors: &mut Errors,
    costs: &mut Costs,
) {
    let rule_at = at.child("rule");
    let environment = environment(ty, rule);
    let compile = |source: &str| {
        Program::check_all(&environment, source).map_err(|why| format!("compilation failed: {why}"))
    };
    let compiled = compile(&rule.rule).and_then(|(program, types)| match program.ty {
        Type::Bool => match program.unready() {
            Some(why) => Err(format!("program {why}")),
            None => Ok((program, types)),
        },
        _ => Err("cel expression must evaluate to a bool".to_owned()),
    });
    let estimate = |program: &Program, types: &Types| {
        let estimated = program.inspect(|expr| cost::estimate(expr, types, place.schema, place.resource));
        estimated.unwrap_or(u64::MAX)
    };
    let message_at = at.child("messageExpression");
    let transition = match &compiled {
        Err(why) => {
            costs.add(&rule_at, 0);
            errors.invalid_shown(&rule_at, &shown(rule), why);
            false
        }
        Ok((program, types)) => {
            let many = place.many.unwrap_or_else(|| cost::times_max(place.schema));
            let cost = estimate(program, types).saturating_mul(many);
            if cost > cost::RULE_COST_MAX {
                let why = cost::refusal("estimated rule cost", cost, cost::RULE_COST_MAX);
                errors.forbidden(&rule_at, why);
            }
            costs.add(&rule_at, cost);
            program.mentions("oldSelf")
        }
    };
    if compiled.is_ok() && !rule.message_expression.is_empty() {
        match compile(&rule.message_expression) {
            Err(why) => errors.invalid_shown(&message_at, &shown(rule), format!("messageExpression {why}")),
            Ok((program, _)) if program.ty != Type::String => {
                let why = "messageExpression must evaluate to a string";
                errors.invalid_shown(&message_at, &shown(rule), why);
            }
            Ok((program, types)) => {
                if let Some(why) = program.unready() {
                    errors.invalid_shown(&message_at, &shown(rule), format!("messageExpression {why}"));
                    return;
                }
                let cost = estimate(&program, &types);
                if cost > cost::RULE_COST_MAX {
                    let why = cost::refusal("estimated messageExpression cost", cost, cost::RULE_COST_MAX);
                    errors.forbidden(&message_at, why);
                }
                costs.add(&message_at, cost);
            }
        }
    }
    if let Some(loose) = loose.filter(|_| transition) {
        let why =
            format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}");
        errors.invalid(&rule_at, rule.rule.as_str(), why);
    }
    if let Some(optional) = rule.optional_old_self.filter(|_| !transition) {
        let why = "may not be set if oldSelf is not used in rule";
        errors.invalid(&at.child("optionalOldSelf"), optional, why);
    }
}

/// A rule as upstream's internal type prints it.
fn shown(rule: &Rule) -> String {
    let reason = rule.reason.as_deref().map_or("null".to_owned(), go_quote);
    let old = rule.optional_old_self.map_or("null".to_owned(), |b| b.to_string());
    let text = |text: &str| protocol::schema::internal::go_json(&serde_json::Value::from(text).to_string());
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\"OptionalOldSelf\":{old}}}",
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path),
    )
}
