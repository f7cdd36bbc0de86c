//! What a rule may cost at most, by how big the schema lets objects be. Rules that could cost too much are
//! refused when a kind is declared, before any object pays for them.
//!
//! What a kind that was once accepted costs is a promise to those who declared it, so the figures are upstream's, odd
//! ones included. - [`size`]: how big what a schema describes can be. - [`functions`]: what calls cost.

use crate::api::cel::Type;
use crate::api::cel::ast::{Comprehension, Expr, Kind, Literal, Macro, bare};
use crate::api::cel::check::Types;
use crate::api::custom::schema::Schema;

mod functions;
mod size;

use size::{Place, Span};

/// What one rule may cost by estimate.
pub const RULE_COST_MAX: u64 = 10_000_000;
/// What all rules of a kind may cost together.
pub const KIND_COST_MAX: u64 = 100_000_000;

pub use size::{bound, times_max};

/// What the making of a list, a map and an object costs.
const LIST: u64 = 10;
const MAP: u64 = 30;
const OBJECT: u64 = 40;

/// What is known of a value before there is one.
#[derive(Clone)]
struct Known<'s> {
    ty: Type,
    /// Where in the object it stands, if it is a part of it.
    place: Option<Place<'s>>,
    /// Its size, as far as the expression tells.
    size: Option<Span>,
    /// The sizes of its keys and entries, as far as the expression tells.
    entries: Option<(Span, Span)>,
}

impl<'s> Known<'s> {
    fn of(ty: Type) -> Self {
        Known { ty, place: None, size: None, entries: None }
    }

    /// How big it can be, where that is known.
    fn told(&self) -> Option<Span> {
        self.size.or_else(|| self.place.map(Place::size)).or_else(|| is_scalar(&self.ty).then_some(Span::ONE))
    }

    /// How big it can be.
    fn size(&self) -> Span {
        self.told().unwrap_or(Span::UNKNOWN)
    }

    /// An entry of it; its keys instead, if it is a map that is walked by those.
    fn entry(&self, ty: Type, keys: bool) -> Known<'s> {
        let place = self.place.and_then(|place| if keys { place.keys() } else { place.entry() });
        let told = self.entries.map(|(key, value)| if keys { key } else { value });
        // What the object's schema says of a part of it comes first.
        let size = if place.is_some() { None } else { told };
        Known { ty, place, size, entries: None }
    }
}

/// Whether values of a type are all of one size.
fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(of) => is_scalar(of),
        _ => false,
    }
}

/// Whether what an expression makes stands nowhere in the value that a rule is about.
fn nowhere(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Call(_, name, _) => !matches!(bare(name), "_[_]" | "_[?_]"),
        Kind::Literal(_) | Kind::List(_) | Kind::Map(_) | Kind::Struct(..) | Kind::Comprehension(_) => true,
        _ => false,
    }
}

/// What a rule about a schema's values costs at most; more than can be told is the most that can. `types` are those
/// of all that the rule is made of, `resource` whether the values have apiVersion, kind and metadata of their own.
pub fn estimate(expr: &Expr, types: &Types, schema: &Schema, resource: bool) -> u64 {
    Estimate { types, own: Place::of(schema, resource), locals: Vec::new() }.expr(expr).0.max
}

struct Estimate<'t, 's> {
    types: &'t Types,
    own: Option<Place<'s>>,
    locals: Vec<(String, Known<'s>)>,
}

impl<'s> Estimate<'_, 's> {
    fn ty(&self, expr: &Expr) -> Type {
        self.types.get(&expr.at).cloned().unwrap_or(Type::Dyn)
    }

    /// The expression's own recursion is bounded by the parser's.
    fn expr(&mut self, expr: &Expr) -> (Span, Known<'s>) {
        let mut known = Known::of(self.ty(expr));
        let cost = match &expr.kind {
            Kind::Literal(literal) => {
                known.size = Some(match literal {
                    Literal::String(text) => Span::of(text.chars().count() as u64),
                    Literal::Bytes(bytes) => Span::of(bytes.len() as u64),
                    _ => Span::ONE,
                });
                Span::NONE
            }
            Kind::Ident(name) => {
                match self.locals.iter().rev().find(|(n, _)| n == name) {
                    Some((_, local)) => known = Known { ty: known.ty, ..local.clone() },
                    // Upstream takes any other name, even a type's, for the value's own.
                    None => known.place = self.own,
                }
                Span::ONE
            }
            // The name of a type, which is one name with dots in it.
            Kind::Select(..) if matches!(known.ty, Type::Type(_)) && expr.dotted().is_some() => {
                known.place = self.own;
                Span::ONE
            }
            Kind::Select(inner, field, optional) => {
                let (cost, of) = self.expr(inner);
                if !optional {
                    // Upstream takes the field of what is at no place of the value for the value itself.
                    known.place = match nowhere(inner) {
                        true => self.own,
                        false => of.place.and_then(|place| place.field(field)),
                    };
                }
                let counts = *optional || matches!(of.ty, Type::Map(..) | Type::Object(_) | Type::Param(_));
                if counts { cost.plus(Span::ONE) } else { cost }
            }
            // To look whether something is there costs no more than to get there.
            Kind::Has(inner, _) => self.expr(inner).0,
            Kind::List(items) => {
                let mut cost = Span::of(LIST);
                let mut entry = Span::nothing_of(items.is_empty());
                for (item, _) in items {
                    let (own, item) = self.expr(item);
                    cost = cost.plus(own);
                    entry = entry.union(item.size());
                }
                known.size = Some(Span::of(items.len() as u64));
                known.entries = Some((Span::ONE, entry));
                cost
            }
            Kind::Map(entries) => {
                let mut cost = Span::of(MAP);
                let mut sizes = [Span::nothing_of(entries.is_empty()); 2];
                for (key, value, _) in entries {
                    for (size, part) in sizes.iter_mut().zip([key, value]) {
                        let (own, part) = self.expr(part);
                        cost = cost.plus(own);
                        *size = size.union(part.size());
                    }
                }
                known.size = Some(Span::of(entries.len() as u64));
                known.entries = Some((sizes[0], sizes[1]));
                cost
            }
            Kind::Struct(_, fields) => {
                fields.iter().fold(Span::of(OBJECT), |sum, field| sum.plus(self.expr(&field.value).0))
            }
            Kind::Bind(name, value, body) => {
                // A name is given by a walk over an empty list, which is made too.
                let (cost, value) = self.expr(value);
                let (inner, made) = self.within(vec![(name.clone(), value)], |me| me.expr(body));
                known = Known { place: None, size: made.told(), ..made };
                cost.plus(inner).plus(Span::of(LIST))
            }
            Kind::Within(value, name, body, _) => {
                let (cost, mut value) = self.expr(value);
                if let Type::Optional(inner) = &value.ty {
                    value = Known::of(inner.as_ref().clone());
                }
                let (inner, _) = self.within(vec![(name.clone(), value)], |me| me.expr(body));
                // Whether it is there, what it is, its name, the wrapping: once or twice.
                cost.plus(cost).plus(inner).plus(Span::of(LIST + 3))
            }
            Kind::Comprehension(c) => return self.comprehension(c, known),
            Kind::Call(target, name, args) => {
                let mut cost = Span::NONE;
                let mut parts = Vec::with_capacity(args.len() + 1);
                for part in target.as_deref().into_iter().chain(args) {
                    // A target may be the first half of a function's name.
                    if part.dotted().is_some() && !self.types.contains_key(&part.at) {
                        continue;
                    }
                    let (own, part) = self.expr(part);
                    parts.push((own, part));
                    cost = cost.plus(own);
                }
                return functions::call(bare(name), args, &parts, cost, known);
            }
        };
        (cost, known)
    }

    fn within<T>(&mut self, names: Vec<(String, Known<'s>)>, work: impl FnOnce(&mut Self) -> T) -> T {
        let depth = self.locals.len();
        self.locals.extend(names);
        let made = work(self);
        self.locals.truncate(depth);
        made
    }

    /// A macro, by the loop that it stands for: what each round costs, and what comes after the last.
    fn comprehension(&mut self, c: &Comprehension, mut known: Known<'s>) -> (Span, Known<'s>) {
        let (cost, range) = self.expr(&c.range);
        let (key, value) = match &range.ty {
            Type::List(of, _) => (Type::Int, of.as_ref().clone()),
            Type::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone()),
            _ => (Type::Dyn, Type::Dyn),
        };
        let list = matches!(range.ty, Type::List(..));
        let names = match &c.second {
            Some(second) => vec![
                (c.variable.clone(), range.entry(key, true)),
                (second.clone(), range.entry(value, false)),
            ],
            None if list => vec![(c.variable.clone(), range.entry(value, false))],
            None => vec![(c.variable.clone(), range.entry(key, true))],
        };
        let walked = names[0].1.clone();
        let (condition, transform) = self.within(names, |me| {
            let mut part = |e: &Option<Expr>| e.as_ref().map(|e| me.expr(e));
            (part(&c.condition), part(&c.transform))
        });
        let test = condition.as_ref().map_or(Span::NONE, |(cost, _)| *cost);
        // The entry that comes to a list, or what stands there without it.
        let entry = |cost: Span, made: u64| {
            let grown = cost.plus(Span::of(made));
            match &condition {
                Some(_) => test.plus(grown.union(Span::ONE)),
                None => grown,
            }
        };
        let rounds = range.size();
        let mut collects = |begins: u64, made: Option<Span>| {
            known.size = Some(rounds);
            known.entries = made.map(|size| (Span::ONE, size.union(Span::NONE)));
            begins + 1
        };
        let (each, once) = match c.of {
            Macro::All => (test.plus(Span::of(3)), 1),
            Macro::Exists => (test.plus(Span::of(4)), 1),
            Macro::ExistsOne => (test.plus(Span { min: 1, max: 2 }), 2),
            Macro::Filter => (entry(Span::ONE, LIST + 2), collects(LIST, Some(walked.size()))),
            Macro::Map | Macro::SortBy => {
                let (cost, made) = transform.unwrap_or_else(|| (Span::NONE, Known::of(Type::Dyn)));
                (entry(cost, LIST + 2), collects(LIST, Some(made.size())))
            }
            Macro::TransformMap => {
                let (cost, _) = transform.unwrap_or_else(|| (Span::NONE, Known::of(Type::Dyn)));
                (entry(cost, 3), collects(MAP, None))
            }
            Macro::TransformMapEntry => {
                let (cost, _) = transform.unwrap_or_else(|| (Span::NONE, Known::of(Type::Dyn)));
                (entry(cost, 2), collects(MAP, None))
            }
        };
        let mut sum = cost.plus(Span::of(once)).plus(rounds.times(each));
        if c.of == Macro::SortBy {
            sum = sum.plus(rounds.times(rounds).times(Span::of(2))).plus(Span::of(LIST + 1));
        }
        (sum, known)
    }
}

/// What a refusal says about a cost that exceeds its limit.
pub fn refusal(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let advice = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
                  strings are declared";
    if factor > 100.0 {
        return format!("{what} exceeds budget by factor of more than 100x ({advice})");
    }
    if factor < 1.5 {
        return format!("{what} exceeds budget by factor of {factor:.6}x ({advice})");
    }
    format!("{what} exceeds budget by factor of {factor:.1}x ({advice})")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::cel::types::of_schema;
    use crate::api::cel::{Environment, Program};

    fn cost(rule: &str, schema: &Schema) -> u64 {
        let mut environment = Environment::default();
        environment.variables.insert("self".to_owned(), of_schema(schema, false, "object"));
        let (program, types) = Program::check_all(&environment, rule).expect("is good");
        program.inspect(|expr| estimate(expr, &types, schema, false)).expect("has room")
    }

    #[test]
    fn a_bound_on_sizes_is_a_bound_on_costs() {
        let schema = |max: serde_json::Value| {
            let mut list = json!({"type": "array", "items": {"type": "string"}});
            if !max.is_null() {
                list["maxItems"] = max;
                list["items"]["maxLength"] = 10.into();
            }
            Schema::parse(&json!({"type": "object", "properties": {"l": list, "n": {"type": "integer"}}}))
        };
        let (open, bound) = (schema(json!(null)), schema(json!(10)));
        for (rule, cheap_when_open) in [
            ("self.n > 0", true),
            ("self.l.all(a, a != 'x')", true),
            ("self.l.all(a, self.l.all(b, a != b))", false),
            ("self.l.exists(a, a.matches('^[a-z]+$'))", false),
        ] {
            assert!(cost(rule, &bound) < RULE_COST_MAX / 100, "{rule}");
            let open = cost(rule, &open);
            assert_eq!(open < RULE_COST_MAX, cheap_when_open, "{rule}: {open}");
        }
    }

    #[test]
    fn costs_are_counted_as_upstream_counts_them() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "s": {"type": "string", "maxLength": 10},
            "e": {"type": "string", "enum": ["abc", "c"]},
            "n": {"type": "integer"},
            "l": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
            "m": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer"}},
            "p": {"x-kubernetes-int-or-string": true},
        }}));
        for (rule, wanted) in [
            // A name and a field; a number has no size that a comparison would cost.
            ("self.n == 1", 2),
            ("self.n > 1", 3),
            ("has(self.n)", 1),
            // Ten characters may take forty bytes, and one in ten costs.
            ("self.s == self.s", 8),
            ("self.s == 'abc'", 3),
            ("self.e == self.e", 5),
            ("self.s.startsWith('a')", 3),
            ("self.s.matches('^[a-z]+$')", 12),
            ("'a' in self.l", 7),
            ("'a' in self.m", 3),
            // Each round costs what is asked, and three for going on.
            ("self.l.all(x, x != '')", 2 + 5 * (3 + 1) + 1),
            ("self.l.exists(x, x != '')", 2 + 5 * (4 + 1) + 1),
            ("self.l.map(x, x) == []", 2 + LIST + 5 * (LIST + 3) + 1 + LIST),
            ("size(string(self.n)) > 3", 5),
        ] {
            assert_eq!(cost(rule, &schema), wanted, "{rule}");
        }
        // How long what is no text is as one, nobody knows.
        assert!(cost("'is ' + string(self.n) != ''", &schema) > RULE_COST_MAX);
        assert!(cost("'is ' + string(self.s) != ''", &schema) > RULE_COST_MAX);
        assert!(cost("'is ' + string(self.p) != ''", &schema) < RULE_COST_MAX);
    }
}
