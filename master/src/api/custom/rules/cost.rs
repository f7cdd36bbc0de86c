//! What a rule may cost at most, by how big the schema lets objects be. Rules that could cost too much are
//! refused when a kind is declared, before any object pays for them.

use crate::api::cel::ast::{Expr, Kind, Literal, Macro};
use crate::api::custom::schema::{Additional, Schema};

/// What one rule may cost by estimate.
pub const RULE_COST_MAX: u64 = 10_000_000;
/// What all rules of a kind may cost together.
pub const KIND_COST_MAX: u64 = 100_000_000;
/// An object comes in one request, and is no bigger.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// What an estimate knows of a value.
#[derive(Clone, Copy)]
enum Node<'s> {
    /// It is what a schema describes.
    Schema(&'s Schema),
    /// A text or collection of at most this size.
    Size(u64),
    /// It has no size.
    Scalar,
}

/// The least bytes that a value takes in a request.
fn bytes_min(schema: &Schema) -> u64 {
    match schema.ty.as_str() {
        "string" | "array" => 2,
        "boolean" => 4,
        "object" => {
            let required =
                schema.required.iter().filter_map(|name| Some((name, schema.properties.get(name)?)));
            2 + required.map(|(name, inner)| name.len() as u64 + 3 + bytes_min(inner)).sum::<u64>()
        }
        _ => 1,
    }
}

/// How many entries a list or map may have, at most.
pub fn entries_max(schema: &Schema) -> u64 {
    let said = |max: Option<i64>| max.and_then(|n| u64::try_from(n).ok());
    match (&schema.items, &schema.additional) {
        (Some(items), _) => {
            said(schema.items_count.1).unwrap_or((REQUEST_BYTES_MAX - 2) / (bytes_min(items) + 1))
        }
        (None, Additional::Schema(of)) => {
            said(schema.properties_count.1).unwrap_or((REQUEST_BYTES_MAX - 2) / (bytes_min(of) + 6))
        }
        _ => said(schema.properties_count.1).unwrap_or(schema.properties.len() as u64),
    }
}

/// By how much a part of an object multiplies what is within it, where the schema bounds that.
pub fn bound(schema: &Schema) -> Option<u64> {
    let said = |max: Option<i64>| max.map(|n| u64::try_from(n).unwrap_or(0));
    match schema.ty.as_str() {
        "object" if !matches!(schema.additional, Additional::Unsaid) => said(schema.properties_count.1),
        "array" => said(schema.items_count.1),
        _ => Some(1),
    }
}

/// How often a value fits into a request.
pub fn times_max(schema: &Schema) -> u64 {
    REQUEST_BYTES_MAX / (bytes_min(schema) + 1)
}

impl<'s> Node<'s> {
    fn size(self) -> u64 {
        match self {
            Node::Scalar => 1,
            Node::Size(size) => size,
            Node::Schema(schema) => match schema.ty.as_str() {
                "string" => match (schema.length.1, schema.format.as_str()) {
                    (Some(max), _) => u64::try_from(max).unwrap_or(0),
                    (None, "date") => 10,
                    (None, "date-time" | "duration") => 35,
                    (None, _) if !schema.values.is_empty() => schema
                        .values
                        .iter()
                        .filter_map(|v| v.as_str())
                        .map(|v| v.len() as u64)
                        .max()
                        .unwrap_or(0),
                    _ => REQUEST_BYTES_MAX - 2,
                },
                "array" | "object" => entries_max(schema),
                _ if schema.int_or_string || schema.preserve => REQUEST_BYTES_MAX - 2,
                _ => 1,
            },
        }
    }

    fn field(self, name: &str) -> Node<'s> {
        let Node::Schema(schema) = self else { return self.unknown() };
        let escaped = |own: &&String| crate::api::cel::types::escape(own).as_deref() == Some(name);
        let own = schema.properties.keys().find(escaped).map_or(name, String::as_str);
        schema.property(own).map_or(Node::Size(REQUEST_BYTES_MAX - 2), Node::Schema)
    }

    fn entry(self) -> Node<'s> {
        let Node::Schema(schema) = self else { return self.unknown() };
        match (&schema.items, &schema.additional) {
            (Some(items), _) => Node::Schema(items),
            (None, Additional::Schema(of)) => Node::Schema(of),
            _ => Node::Size(REQUEST_BYTES_MAX - 2),
        }
    }

    /// A part of something of which only the size is known is no bigger.
    fn unknown(self) -> Node<'s> {
        match self {
            Node::Size(size) => Node::Size(size),
            _ => Node::Scalar,
        }
    }
}

/// What a rule about a schema's values costs at most; more than can be told is the most that can.
pub fn estimate(expr: &Expr, schema: &Schema) -> u64 {
    Estimate { own: schema, locals: Vec::new() }.expr(expr).0
}

struct Estimate<'s> {
    own: &'s Schema,
    locals: Vec<(String, Node<'s>)>,
}

fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

impl<'s> Estimate<'s> {
    fn all(&mut self, exprs: &[Expr]) -> (u64, Vec<Node<'s>>) {
        let mut cost = 0_u64;
        let nodes = exprs.iter().map(|e| {
            let (own, node) = self.expr(e);
            cost = cost.saturating_add(own);
            node
        });
        let nodes = nodes.collect();
        (cost, nodes)
    }

    fn expr(&mut self, expr: &Expr) -> (u64, Node<'s>) {
        match &expr.kind {
            Kind::Literal(Literal::String(text)) => (0, Node::Size(text.chars().count() as u64)),
            Kind::Literal(Literal::Bytes(bytes)) => (0, Node::Size(bytes.len() as u64)),
            Kind::Literal(_) => (0, Node::Scalar),
            Kind::Ident(name) => {
                let local = self.locals.iter().rev().find(|(n, _)| n == name).map(|(_, node)| *node);
                let own = matches!(name.as_str(), "self" | "oldSelf").then_some(Node::Schema(self.own));
                (1, local.or(own).unwrap_or(Node::Scalar))
            }
            Kind::Select(inner, field, _) => {
                let (cost, node) = self.expr(inner);
                (cost.saturating_add(1), node.field(field))
            }
            Kind::Has(inner, _) => (self.expr(inner).0.saturating_add(1), Node::Scalar),
            Kind::List(items) => {
                let cost = items.iter().fold(10_u64, |sum, (item, _)| sum.saturating_add(self.expr(item).0));
                (cost, Node::Size(items.len() as u64))
            }
            Kind::Map(entries) => {
                let cost = entries.iter().fold(30_u64, |sum, (key, value, _)| {
                    sum.saturating_add(self.expr(key).0).saturating_add(self.expr(value).0)
                });
                (cost, Node::Size(entries.len() as u64))
            }
            Kind::Struct(_, fields) => {
                let cost =
                    fields.iter().fold(40_u64, |sum, (_, value, _)| sum.saturating_add(self.expr(value).0));
                (cost, Node::Scalar)
            }
            Kind::Bind(name, value, body) | Kind::Within(value, name, body, _) => {
                let (cost, node) = self.expr(value);
                self.locals.push((name.clone(), node));
                let (inner, made) = self.expr(body);
                self.locals.pop();
                (cost.saturating_add(inner).saturating_add(1), made)
            }
            Kind::Comprehension(c) => {
                let (cost, range) = self.expr(&c.range);
                let many = range.size();
                let depth = self.locals.len();
                // Of a map the first variable is the key.
                let map = matches!(range, Node::Schema(s) if s.ty == "object");
                let key = if map { Node::Size(REQUEST_BYTES_MAX / many.max(1)) } else { range.entry() };
                self.locals
                    .push((c.variable.clone(), if c.second.is_some() && !map { Node::Scalar } else { key }));
                if let Some(second) = &c.second {
                    self.locals.push((second.clone(), range.entry()));
                }
                let parts = [c.condition.as_ref(), c.transform.as_ref()];
                let each =
                    parts.into_iter().flatten().fold(3_u64, |sum, e| sum.saturating_add(self.expr(e).0));
                self.locals.truncate(depth);
                // A list that grows is made anew with every entry.
                let each = if matches!(c.of, Macro::Map | Macro::Filter | Macro::SortBy) {
                    each.saturating_add(11)
                } else {
                    each
                };
                let made = match c.of {
                    Macro::Filter | Macro::SortBy => range,
                    Macro::Map | Macro::TransformMap => Node::Size(many),
                    _ => Node::Scalar,
                };
                (cost.saturating_add(many.saturating_mul(each)).saturating_add(1), made)
            }
            Kind::Call(target, name, args) => self.call(target.as_deref(), name, args),
        }
    }

    fn call(&mut self, target: Option<&Expr>, name: &str, args: &[Expr]) -> (u64, Node<'s>) {
        let (own, node) = target.map_or((0, None), |t| {
            let (cost, node) = self.expr(t);
            (cost, Some(node))
        });
        let (cost, mut nodes) = self.all(args);
        let cost = cost.saturating_add(own);
        if let Some(node) = node {
            nodes.insert(0, node);
        }
        let size = |i: usize| nodes.get(i).map_or(1, |n| n.size());
        let scalar = |extra: u64| (cost.saturating_add(extra), Node::Scalar);
        match name {
            "_&&_" | "_||_" | "_?_:_" => {
                let most = nodes.iter().skip(1).map(|n| n.size()).max().unwrap_or(1);
                (cost, if name == "_?_:_" { Node::Size(most) } else { Node::Scalar })
            }
            "_==_" | "_!=_" => scalar(1 + tenth(size(0).min(size(1)))),
            "@in" => scalar(1 + size(1)),
            "_[_]" | "_[?_]" => (cost.saturating_add(1), nodes.first().map_or(Node::Scalar, |n| n.entry())),
            "matches" | "find" | "findAll" => {
                let pattern = size(1).saturating_add(3) / 4;
                scalar(1 + tenth(size(0).saturating_add(1)).saturating_mul(pattern.max(1)))
            }
            "contains" | "indexOf" | "lastIndexOf" | "replace" | "split" => {
                let work = tenth(size(0)).saturating_mul(tenth(size(1)).max(1));
                (cost.saturating_add(1).saturating_add(work), Node::Size(size(0)))
            }
            // How long the parts are is known of what a schema describes, and of nothing else.
            "join" => {
                let parts = match nodes.first() {
                    Some(Node::Schema(Schema { items: Some(items), .. })) => Node::Schema(items).size(),
                    _ => u64::MAX,
                };
                let separator = if nodes.len() > 1 { size(1) } else { 0 };
                let made = size(0).saturating_mul(parts.saturating_add(separator));
                (cost.saturating_add(1).saturating_add(tenth(made)), Node::Size(made))
            }
            // Nor how long what is no text is as one.
            "string" if !is_text(nodes.first()) => (cost.saturating_add(1), Node::Size(u64::MAX)),
            "_+_" => {
                let both = size(0).saturating_add(size(1));
                let extra = if both > 2 { tenth(both) } else { 0 };
                (cost.saturating_add(1).saturating_add(extra), Node::Size(both))
            }
            "sets.contains" | "sets.equivalent" | "sets.intersects" => {
                scalar(1 + size(0).saturating_mul(size(1)))
            }
            "_<_" | "_<=_" | "_>_" | "_>=_" | "size" => scalar(1),
            _ => {
                let most = (0..nodes.len()).map(size).max().unwrap_or(1);
                (cost.saturating_add(1).saturating_add(tenth(most)), Node::Size(most))
            }
        }
    }
}

/// Whether something is a text of a known size.
fn is_text(node: Option<&Node<'_>>) -> bool {
    match node {
        Some(Node::Schema(schema)) => schema.ty == "string",
        Some(Node::Size(_)) => true,
        Some(Node::Scalar) | None => false,
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
    use crate::api::cel::parse::parse;

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
            let expr = parse(rule).expect("parses");
            assert!(estimate(&expr, &bound) < RULE_COST_MAX / 100, "{rule}");
            assert_eq!(
                estimate(&expr, &open) < RULE_COST_MAX,
                cheap_when_open,
                "{rule}: {}",
                estimate(&expr, &open)
            );
        }
    }
}
