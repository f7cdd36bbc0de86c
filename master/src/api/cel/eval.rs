//! Evaluation. Every step costs, and an evaluation that has spent its budget ends: whoever may write a rule
//! cannot keep the server busy with it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::ast::{Comprehension, Expr, Kind, Literal, Macro, bare};
use super::library;
use super::types::Type;
use super::value::{MISREAD, Opaque, Value};
use crate::auth::{Attributes, Decision};

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The expression fails on this input.
    #[error("{0}")]
    Error(String),
    /// It costs too much.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
}

/// An error of an expression.
pub fn error<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Error(message.into()))
}

/// Whom expressions ask what somebody may do.
pub trait Ask: Sync {
    /// Decides.
    fn ask(&self, question: &Attributes) -> Decision;
}

impl Ask for crate::auth::ClusterAuthorizer {
    fn ask(&self, question: &Attributes) -> Decision {
        self.decide(question)
    }
}

/// What an evaluation works with.
pub struct Scope<'a> {
    /// Variables.
    pub variables: BTreeMap<&'a str, Value<'a>>,
    /// Fields of `variables` that have no value, and why.
    pub failed: BTreeMap<&'a str, String>,
    /// The authorizer.
    pub ask: Option<&'a dyn Ask>,
}

impl<'a> Scope<'a> {
    /// A scope of variables.
    pub fn new(variables: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Scope { variables: variables.into_iter().collect(), failed: BTreeMap::new(), ask: None }
    }
}

/// Evaluates an expression; what it costs is taken from `budget`.
pub fn evaluate<'a>(expr: &Expr, scope: &Scope<'a>, budget: &mut u64) -> Result<Value<'a>, Failure> {
    let mut evaluator = Evaluator { scope, locals: Vec::new(), budget };
    evaluator.expr(expr)
}

struct Evaluator<'s, 'a> {
    scope: &'s Scope<'a>,
    locals: Vec<(String, Value<'a>)>,
    budget: &'s mut u64,
}

type Outcome<'a> = Result<Value<'a>, Failure>;

impl<'a> Evaluator<'_, 'a> {
    fn spend(&mut self, cost: u64) -> Result<(), Failure> {
        match self.budget.checked_sub(cost) {
            Some(left) => {
                *self.budget = left;
                Ok(())
            }
            None => {
                *self.budget = 0;
                Err(Failure::Budget)
            }
        }
    }

    fn expr(&mut self, expr: &Expr) -> Outcome<'a> {
        match self.of_kind(expr)? {
            Value::Misread => error(MISREAD),
            value => Ok(value),
        }
    }

    fn of_kind(&mut self, expr: &Expr) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(match literal {
                Literal::Null => Value::Null,
                Literal::Bool(b) => Value::Bool(*b),
                Literal::Int(n) => Value::Int(*n),
                Literal::Uint(n) => Value::Uint(*n),
                Literal::Double(n) => Value::Double(*n),
                Literal::String(s) => Value::text(s.as_str()),
                Literal::Bytes(b) => Value::Bytes(b.as_slice().into()),
            }),
            Kind::Ident(name) => {
                self.spend(1)?;
                Ok(self.variable(name).unwrap_or_else(|| Value::Type(bare(name).into())))
            }
            Kind::Select(inner, field, optional) => self.select(expr, inner, field, *optional),
            Kind::Has(inner, field) => {
                self.spend(1)?;
                let found = match self.expr(inner)? {
                    Value::Optional(None) => None,
                    Value::Optional(Some(inner)) => inner.field(field),
                    of => of.field(field),
                };
                match found {
                    Some(Value::Misread) => error(MISREAD),
                    found => Ok(Value::Bool(found.is_some())),
                }
            }
            Kind::List(items) => {
                self.spend(10)?;
                let mut made = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (optional, self.expr(item)?) {
                        (true, Value::Optional(None)) => {}
                        (true, Value::Optional(Some(value))) => made.push((*value).clone()),
                        (_, value) => made.push(value),
                    }
                }
                Ok(Value::List(Arc::new(made)))
            }
            Kind::Map(entries) => {
                self.spend(30)?;
                let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
                for (key, value, optional) in entries {
                    let key = self.expr(key)?;
                    let value = match (optional, self.expr(value)?) {
                        (true, Value::Optional(None)) => continue,
                        (true, Value::Optional(Some(value))) => (*value).clone(),
                        (_, value) => value,
                    };
                    self.spend(made.len() as u64 / 10)?;
                    if made.iter().any(|(k, _)| k.same(&key)) {
                        return error("repeated map key");
                    }
                    made.push((key, value));
                }
                Ok(Value::Map(Arc::new(made)))
            }
            Kind::Struct(name, fields) => {
                self.spend(40)?;
                let mut made = BTreeMap::new();
                for field in fields {
                    match (field.optional, self.expr(&field.value)?) {
                        (true, Value::Optional(None)) => {}
                        (true, Value::Optional(Some(value))) => {
                            made.insert(field.name.clone(), (*value).clone());
                        }
                        (_, value) => {
                            made.insert(field.name.clone(), value);
                        }
                    }
                }
                Ok(Value::Struct(bare(name).into(), Arc::new(made)))
            }
            Kind::Bind(name, value, body) => {
                let value = self.expr(value)?;
                self.locals.push((name.clone(), value));
                let made = self.expr(body);
                self.locals.pop();
                made
            }
            Kind::Within(of, name, body, flat) => match self.expr(of)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(inner)) => {
                    self.locals.push((name.clone(), (*inner).clone()));
                    let made = self.expr(body);
                    self.locals.pop();
                    match made? {
                        made if !*flat => Ok(Value::Optional(Some(Arc::new(made)))),
                        made @ Value::Optional(_) => Ok(made),
                        _ => error("no such overload"),
                    }
                }
                _ => error("no such overload"),
            },
            Kind::Comprehension(c) => self.comprehension(c),
            Kind::Call(target, name, args) => self.call(target.as_deref(), name, args),
        }
    }

    fn variable(&self, name: &str) -> Option<Value<'a>> {
        let local = self.locals.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        local.or_else(|| self.scope.variables.get(bare(name)).cloned())
    }

    fn select(&mut self, expr: &Expr, inner: &Expr, field: &str, optional: bool) -> Outcome<'a> {
        self.spend(1)?;
        if let Kind::Ident(name) = &inner.kind {
            if bare(name) == "variables"
                && let Some(why) = self.scope.failed.get(field)
            {
                return error(format!("composited variable \"{field}\" fails to evaluate: {why}"));
            }
            if let Some(value) = expr.dotted().and_then(|dotted| self.scope.variables.get(bare(&dotted))) {
                return Ok(value.clone());
            }
            if self.variable(name).is_none() {
                return Ok(Value::Type(bare(&expr.dotted().unwrap_or_default()).into()));
            }
        } else if let Some(name) = expr.dotted()
            && bare(&name).starts_with("google.protobuf.")
        {
            return Ok(Value::Type(bare(&name).into()));
        }
        let of = self.expr(inner)?;
        let some = |value: Option<Value<'a>>| Value::Optional(value.map(Arc::new));
        match of {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => Ok(some(inner.field(field))),
            of if optional => Ok(some(of.field(field))),
            of => match of.field(field) {
                Some(value) => Ok(value),
                // Nothing has no fields.
                None if of.entries().is_some() || matches!(of, Value::Null) => {
                    error(format!("no such key: {field}"))
                }
                None => error("no such overload".to_owned()),
            },
        }
    }

    fn truth(&mut self, expr: &Expr) -> Result<bool, Failure> {
        match self.expr(expr)? {
            Value::Bool(b) => Ok(b),
            _ => error("no such overload"),
        }
    }

    /// `&&` and `||`: one side that decides makes an error of the other side unimportant.
    fn logic(&mut self, args: &[Expr], decisive: bool) -> Outcome<'a> {
        let mut failed = None;
        for arg in args {
            match self.truth(arg) {
                Ok(b) if b == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(Failure::Budget) => return Err(Failure::Budget),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn comprehension(&mut self, c: &Comprehension) -> Outcome<'a> {
        let range = self.expr(&c.range)?;
        let entries: Vec<(Value<'a>, Option<Value<'a>>)> = match (range.items(), range.entries()) {
            (Some(items), _) if c.second.is_some() => {
                items.into_iter().enumerate().map(|(i, item)| (Value::Int(i as i64), Some(item))).collect()
            }
            (Some(items), _) => items.into_iter().map(|item| (item, None)).collect(),
            (None, Some(entries)) => entries.into_iter().map(|(key, value)| (key, Some(value))).collect(),
            (None, None) => return error("no such overload"),
        };
        self.spend(entries.len() as u64)?;
        let (mut made, mut pairs, mut found, mut failed) = (Vec::new(), Vec::new(), 0_usize, None);
        let depth = self.locals.len();
        for (first, second) in entries {
            self.spend(2)?;
            self.locals.push((c.variable.clone(), first.clone()));
            if let (Some(name), Some(value)) = (&c.second, second.clone()) {
                self.locals.push((name.clone(), value));
            }
            let holds = c.condition.as_ref().map_or(Ok(true), |condition| self.truth(condition));
            let outcome = match (c.of, holds) {
                (_, Err(Failure::Budget)) => Err(Failure::Budget),
                (Macro::All, Ok(false)) => Ok(Some(Value::Bool(false))),
                (Macro::Exists, Ok(true)) => Ok(Some(Value::Bool(true))),
                (Macro::All | Macro::Exists, Ok(_)) => Ok(None),
                (Macro::All | Macro::Exists, Err(failure)) => {
                    failed = failed.or(Some(failure));
                    Ok(None)
                }
                (_, Err(failure)) => Err(failure),
                (Macro::ExistsOne, Ok(holds)) => {
                    found += usize::from(holds);
                    Ok(None)
                }
                (_, Ok(false)) => Ok(None),
                (Macro::Filter, Ok(true)) => {
                    made.push(first);
                    Ok(None)
                }
                (Macro::TransformMapEntry, Ok(true)) => match &c.transform {
                    None => Ok(None),
                    Some(transform) => self
                        .expr(transform)
                        .and_then(|value| self.insert_all(&mut pairs, &value))
                        .map(|()| None),
                },
                (Macro::Map | Macro::TransformMap | Macro::SortBy, Ok(true)) => match &c.transform {
                    None => Ok(None),
                    Some(transform) => self.expr(transform).map(|value| {
                        if c.of == Macro::Map {
                            made.push(value)
                        } else {
                            pairs.push((first, value))
                        }
                        None
                    }),
                },
            };
            self.locals.truncate(depth);
            if let Some(value) = outcome? {
                return Ok(value);
            }
        }
        match (c.of, failed) {
            (Macro::All | Macro::Exists, Some(failure)) => Err(failure),
            (Macro::All, None) => Ok(Value::Bool(true)),
            (Macro::Exists, None) => Ok(Value::Bool(false)),
            (Macro::ExistsOne, _) => Ok(Value::Bool(found == 1)),
            (Macro::TransformMap | Macro::TransformMapEntry, _) => Ok(Value::Map(Arc::new(pairs))),
            (Macro::SortBy, _) => {
                pairs.sort_by(|(_, a), (_, b)| a.order(b).unwrap_or(Ordering::Equal));
                Ok(Value::List(Arc::new(pairs.into_iter().map(|(entry, _)| entry).collect())))
            }
            (Macro::Map | Macro::Filter, _) => Ok(Value::List(Arc::new(made))),
        }
    }

    /// Adds a map's entries to those of others.
    fn insert_all(
        &mut self,
        pairs: &mut Vec<(Value<'a>, Value<'a>)>,
        map: &Value<'a>,
    ) -> Result<(), Failure> {
        let Some(entries) = map.entries() else {
            return error(format!("no such overload: cel.@mapInsert(map, {})", map.type_name()));
        };
        for (key, value) in entries {
            self.spend(1 + pairs.len() as u64 / 10)?;
            if pairs.iter().any(|(known, _)| known.same(&key)) {
                let key = library::to_text(&key).unwrap_or_default();
                return error(format!("insert failed: key {key} already exists"));
            }
            pairs.push((key, value));
        }
        Ok(())
    }

    fn call(&mut self, target: Option<&Expr>, name: &str, args: &[Expr]) -> Outcome<'a> {
        match (target, name, args) {
            (None, "_&&_", args) => return self.logic(args, false),
            (None, "_||_", args) => return self.logic(args, true),
            (None, "_?_:_", [condition, yes, no]) => {
                let chosen = if self.truth(condition)? { yes } else { no };
                return self.expr(chosen);
            }
            _ => {}
        }
        self.spend(1)?;
        let mut values = Vec::with_capacity(args.len() + 1);
        let qualified = target.and_then(Expr::dotted).filter(|t| self.variable(t).is_none());
        let qualified = qualified
            .map(|t| format!("{}.{name}", bare(&t)))
            .filter(|qualified| super::signatures::overloads(qualified).is_some());
        if qualified.is_none()
            && let Some(target) = target
        {
            let target = self.expr(target)?;
            // What follows an absent value is not looked at.
            if name == "or" || name == "orValue" {
                return match target {
                    Value::Optional(Some(value)) if name == "orValue" => Ok((*value).clone()),
                    Value::Optional(Some(value)) => Ok(Value::Optional(Some(value))),
                    Value::Optional(None) => {
                        args.first().map_or_else(|| error("no such overload"), |a| self.expr(a))
                    }
                    _ => error("no such overload"),
                };
            }
            values.push(target);
        }
        for arg in args {
            values.push(self.expr(arg)?);
        }
        let size: u64 = values.iter().filter_map(Value::size).map(|n| n as u64).sum();
        let name = bare(name);
        self.spend(library::cost(name, size))?;
        match (qualified.as_deref().unwrap_or(name), values.as_slice()) {
            ("_==_" | "_!=_" | "@in", [a, b]) if a.is_misread() || b.is_misread() => error(MISREAD),
            ("_==_", [a, b]) => Ok(Value::Bool(a.same(b))),
            ("_!=_", [a, b]) => Ok(Value::Bool(!a.same(b))),
            ("_<_", [a, b]) => compare(a, b, Ordering::is_lt),
            ("_<=_", [a, b]) => compare(a, b, Ordering::is_le),
            ("_>_", [a, b]) => compare(a, b, Ordering::is_gt),
            ("_>=_", [a, b]) => compare(a, b, Ordering::is_ge),
            ("@in", [a, b]) => match b.items() {
                Some(items) => Ok(Value::Bool(items.iter().any(|item| item.same(a)))),
                None => b.has_key(a).map_or_else(|| error("no such overload"), |has| Ok(Value::Bool(has))),
            },
            ("_[_]" | "_[?_]", [of, at]) => index(of, at, name == "_[?_]"),
            ("type", [value]) => Ok(Value::Type(value.type_name().into())),
            ("check", [Value::Opaque(Opaque::Check(question)), Value::String(verb)]) => {
                self.spend(350_000)?;
                let Some(ask) = self.scope.ask else { return error("no authorizer") };
                let question = Attributes { verb: verb.to_string(), ..(**question).clone() };
                let (allowed, why) = match ask.ask(&question) {
                    Decision::Allow(why) => (true, why),
                    Decision::Deny(why) | Decision::NoOpinion(why) => (false, why),
                };
                Ok(Value::Opaque(Opaque::Decision(allowed, why.into())))
            }
            (name, values) => {
                let made = library::call(name, values, target.is_some())?;
                // What a call makes is paid for like what it reads.
                self.spend(made.size().map_or(0, |n| n as u64 / 10))?;
                Ok(made)
            }
        }
    }
}

fn compare<'a>(a: &Value<'a>, b: &Value<'a>, holds: fn(Ordering) -> bool) -> Outcome<'a> {
    let ordered = !matches!(a, Value::Null) && !matches!(b, Value::Null);
    match a.order(b).filter(|_| ordered) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None => error("no such overload"),
    }
}

fn index<'a>(of: &Value<'a>, at: &Value<'a>, optional: bool) -> Outcome<'a> {
    let some = |value: Option<Value<'a>>| Ok(Value::Optional(value.map(Arc::new)));
    if let Value::Optional(inner) = of {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return match index(inner, at, true)? {
            value @ Value::Optional(_) => Ok(value),
            value => some(Some(value)),
        };
    }
    if let Some(count) =
        of.size().filter(|_| matches!(of, Value::List(_) | Value::Merged(..) | Value::JsonList(..)))
    {
        let Some(i) = (match at {
            Value::Int(n) => Some(*n),
            Value::Uint(n) => i64::try_from(*n).ok(),
            Value::Double(n) if n.fract() == 0.0 => Some(*n as i64),
            _ => None,
        }) else {
            return error("no such overload");
        };
        let found = usize::try_from(i).ok().filter(|i| *i < count).and_then(|i| match of {
            Value::List(items) | Value::Merged(items, _) => items.get(i).cloned(),
            Value::JsonList(items, ty, _) => items.get(i).map(|json| Value::of(json, ty)),
            _ => None,
        });
        return match found {
            found if optional => some(found),
            Some(value) => Ok(value),
            None => error(format!("index out of bounds: {i}")),
        };
    }
    match of.entry(at) {
        found if optional => some(found),
        Some(value) => Ok(value),
        None if matches!(of, Value::JsonMap(..) | Value::Map(_) | Value::Struct(..)) => {
            let key = library::to_text(at).unwrap_or_default();
            error(format!("no such key: {key}"))
        }
        None => error("no such overload"),
    }
}

/// The type that nothing is known of.
pub static DYN: Type = Type::Dyn;
