//! The type checker: finds the type of an expression, or what is wrong with it, with upstream's words.

use std::collections::BTreeMap;
use std::sync::Arc;

mod literals;

use super::ast::{Comprehension, Expr, Kind, Literal, Macro, bare};
use super::found::Found;
use super::problem::Problem;
use super::signatures::overloads;
use super::types::{Named, ObjectType, Type};

/// Errors that one expression may have.
const PROBLEMS_MAX: usize = 100;

/// What expressions may use.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Variables.
    pub variables: BTreeMap<String, Type>,
    /// Objects of named types that expressions may make (with any fields).
    pub makes: fn(&str) -> bool,
    /// Whether they may give names to values: `cel.bind`.
    pub binds: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Environment { variables: BTreeMap::new(), makes: |_| false, binds: false }
    }
}

/// Checks an expression: its type, and the types of all that it is made of.
pub fn check(environment: &Environment, expr: &Expr) -> Result<(Type, Types), Vec<Problem>> {
    let mut checker = Checker {
        environment,
        scopes: Vec::new(),
        problems: Vec::new(),
        types: Types::new(),
        found: Found::default(),
    };
    let ty = checker.expr(expr);
    let ty = checker.found.settled(&ty);
    checker.types.values_mut().for_each(|ty| *ty = checker.found.settled(ty));
    if checker.problems.is_empty() {
        literals::check(expr, &mut checker.types, &mut checker.problems);
    }
    if checker.problems.is_empty() { Ok((ty, checker.types)) } else { Err(checker.problems) }
}

struct Checker<'a> {
    environment: &'a Environment,
    scopes: Vec<(String, Type)>,
    problems: Vec<Problem>,
    /// The types of what was checked so far; of what stands in lists and maps, what it adds to them.
    types: Types,
    /// What was found out about types that were not known.
    found: Found,
}

/// Types of expressions, by where they are: no two of them are at one place.
pub type Types = std::collections::HashMap<usize, Type>;

/// Names of types, which are values too.
const TYPES: [&str; 14] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Duration",
    "google.protobuf.Timestamp",
    "net.IP",
    "net.CIDR",
];

impl Checker<'_> {
    fn fail(&mut self, at: usize, message: String) -> Type {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem::at(at, message));
        }
        Type::Error
    }

    fn variable(&self, name: &str) -> Option<Type> {
        let local = |(n, _): &&(String, Type)| n == name && !n.starts_with('.');
        let scoped = self.scopes.iter().rev().find(local).map(|(_, ty)| ty.clone());
        scoped.or_else(|| self.environment.variables.get(bare(name)).cloned())
    }

    fn expr(&mut self, expr: &Expr) -> Type {
        let ty = self.of_kind(expr);
        let ty = if self.found.is_unsure(&ty) { self.found.resolved(&ty) } else { ty };
        self.types.insert(expr.at, ty.clone());
        ty
    }

    /// The type of entries of both types.
    fn joined(&mut self, known: Option<Type>, ty: Type) -> Type {
        match known {
            None => ty,
            Some(known) if known == ty => known,
            Some(known) if self.found.is_unsure(&known) || self.found.is_unsure(&ty) => {
                let mut found = self.found.clone();
                if !found.fits(&known, &ty) {
                    return Type::Dyn;
                }
                self.found = found;
                self.found.resolved(&known)
            }
            Some(Type::Null) => ty,
            Some(known) if ty == Type::Null => known,
            Some(_) => Type::Dyn,
        }
    }

    fn of_kind(&mut self, expr: &Expr) -> Type {
        match &expr.kind {
            Kind::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Uint(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            },
            Kind::Ident(name) => match self.variable(name) {
                Some(ty) => ty,
                None if TYPES.contains(&bare(name)) => Type::Type(Named::called(bare(name))),
                None => self.undeclared(expr.at, name),
            },
            Kind::Select(inner, field, optional) => {
                if let Some(name) = expr.dotted()
                    && TYPES.contains(&bare(&name))
                {
                    return Type::Type(Named::called(bare(&name)));
                }
                if let Some(ty) = expr.dotted().and_then(|name| self.environment.variables.get(bare(&name))) {
                    return ty.clone();
                }
                let of = self.expr(inner);
                let found = self.field(expr.at, &of, field);
                let wrapped = *optional || matches!(of, Type::Optional(_));
                match found {
                    Type::Optional(_) => found,
                    ty if wrapped => Type::Optional(Arc::new(ty)),
                    ty => ty,
                }
            }
            Kind::Has(inner, field) => {
                let of = self.expr(inner);
                self.field(expr.at, &of, field);
                Type::Bool
            }
            Kind::List(items) => {
                let mut of: Option<Type> = None;
                for (item, optional) in items {
                    let ty = self.expr(item);
                    let ty = match (optional, ty) {
                        (true, Type::Optional(inner)) => (*inner).clone(),
                        (_, ty) => ty,
                    };
                    self.types.insert(item.at, ty.clone());
                    of = Some(self.joined(of, ty));
                }
                Type::list(of.unwrap_or_else(|| self.found.unknown()))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
                for (key, value, optional) in entries {
                    let (key_at, value_at) = (key.at, value.at);
                    let key = self.expr(key);
                    let value = match (optional, self.expr(value)) {
                        (true, Type::Optional(inner)) => (*inner).clone(),
                        (_, ty) => ty,
                    };
                    self.types.insert(key_at, key.clone());
                    self.types.insert(value_at, value.clone());
                    keys = Some(self.joined(keys, key));
                    values = Some(self.joined(values, value));
                }
                // Maps within keys are refused when they run; their types would grow with every one that is in another.
                let keys = keys.unwrap_or_else(|| self.found.unknown());
                let keys = if keys.is_whole() { keys } else { Type::Dyn };
                Type::Map(Arc::new(keys), Arc::new(values.unwrap_or_else(|| self.found.unknown())))
            }
            Kind::Struct(name, fields) => {
                // What an unknown type's fields are is nobody's concern.
                let made = bare(name);
                if !(self.environment.makes)(made) {
                    return self.undeclared(expr.at, name);
                }
                for field in fields {
                    let ty = self.expr(&field.value);
                    if made == "JSONPatch" && !field.optional {
                        self.patch_field(field.colon, &field.name, &ty);
                    }
                }
                Type::Object(Arc::new(ObjectType { name: made.to_owned(), fields: BTreeMap::new() }))
            }
            Kind::Within(of, name, body, flat) => {
                let inner = match self.expr(of) {
                    Type::Optional(inner) => (*inner).clone(),
                    _ => Type::Dyn,
                };
                match self.scoped(name, inner, |me| me.expr(body)) {
                    made @ (Type::Optional(_) | Type::Dyn) if *flat => made,
                    made => Type::Optional(Arc::new(made)),
                }
            }
            Kind::Bind(name, value, body) => {
                let ty = self.expr(value);
                self.scoped(name, ty, |me| me.expr(body))
            }
            Kind::Comprehension(c) => self.comprehension(expr.at, c),
            Kind::Call(target, name, args) => self.call(expr.at, target.as_deref(), name, args),
        }
    }

    /// Checks a field of a patch's operation.
    fn patch_field(&mut self, colon: usize, field: &str, ty: &Type) {
        let wanted = match field {
            "op" | "path" | "from" => "string",
            "value" => return,
            _ => "",
        };
        if wanted.is_empty() || !(*ty == Type::String || ty.is_open()) {
            let why = format!("expected type of field '{field}' is '{wanted}' but provided type is '{ty}'");
            self.fail(colon, why);
        }
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.fail(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn scoped<T>(&mut self, name: &str, ty: Type, work: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push((name.to_owned(), ty));
        let made = work(self);
        self.scopes.pop();
        made
    }

    fn field(&mut self, at: usize, of: &Type, field: &str) -> Type {
        match of {
            Type::Dyn | Type::Error | Type::Unknown(_) => Type::Dyn,
            Type::Optional(inner) => self.field(at, inner, field),
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => match object.field(field) {
                Some((_, ty)) => ty.clone(),
                // An object that an expression makes is known by what it is made of.
                None if object.fields.is_empty() && (self.environment.makes)(&object.name) => Type::Dyn,
                None => self.fail(at, format!("undefined field '{field}'")),
            },
            other => self.fail(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn comprehension(&mut self, at: usize, c: &Comprehension) -> Type {
        let range = self.expr(&c.range);
        let (first, second) = match &range {
            Type::List(of, _) if c.second.is_some() => (Type::Int, (**of).clone()),
            Type::List(of, _) => ((**of).clone(), Type::Dyn),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error => (range.clone(), range.clone()),
            Type::Unknown(_) => (Type::Dyn, Type::Dyn),
            other => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fail(c.range.at, why);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((c.variable.clone(), first.clone()));
        if let Some(name) = &c.second {
            self.scopes.push((name.clone(), second));
        }
        let condition = c.condition.as_ref().map(|condition| (condition.at, self.expr(condition)));
        let transformed = c.transform.as_ref().map_or(Type::Dyn, |t| self.expr(t));
        self.scopes.truncate(self.scopes.len() - 1 - usize::from(c.second.is_some()));
        // What is gathered round by round.
        let gathered = match c.of {
            Macro::All | Macro::Exists => Type::Bool,
            Macro::ExistsOne => Type::Int,
            Macro::Filter | Macro::SortBy => Type::list(first),
            Macro::Map => Type::list(transformed),
            Macro::TransformMap => Type::Map(Arc::new(first), Arc::new(transformed)),
            Macro::TransformMapEntry => self.inserted(at, transformed),
        };
        match condition {
            Some((at, ty)) if matches!(c.of, Macro::All | Macro::Exists) => self.must_be_bool(at, &ty),
            Some((_, ty)) if !self.found.fits(&Type::Bool, &ty) => {
                let applied = format!("({ty}, {gathered}, {gathered})");
                self.fail(at, format!("found no matching overload for '_?_:_' applied to '{applied}'"));
            }
            _ => {}
        }
        if c.of == Macro::ExistsOne { Type::Bool } else { gathered }
    }

    /// The map that maps of a type come together to.
    fn inserted(&mut self, at: usize, map: Type) -> Type {
        let any = Type::Map(Arc::new(Type::Dyn), Arc::new(Type::Dyn));
        match map {
            Type::Map(..) => map,
            Type::Dyn | Type::Error | Type::Unknown(_) => any,
            other => {
                let applied = format!("({any}, {other})");
                self.fail(
                    at,
                    format!("found no matching overload for 'cel.@mapInsert' applied to '{applied}'"),
                );
                any
            }
        }
    }

    /// Checks one side of `&&` or `||`.
    fn must_be_bool(&mut self, at: usize, ty: &Type) {
        if !self.found.fits(&Type::Bool, ty) {
            self.fail(at, format!("expected type 'bool' but found '{ty}'"));
        }
    }

    fn call(&mut self, at: usize, target: Option<&Expr>, name: &str, args: &[Expr]) -> Type {
        // A target may be the first half of a function's name.
        if let Some(qualified) = target.and_then(Expr::dotted).map(|t| format!("{}.{name}", bare(&t)))
            && overloads(&qualified).is_some()
            && (!qualified.starts_with("jsonpatch.") || (self.environment.makes)("JSONPatch"))
            && target.and_then(Expr::dotted).is_some_and(|t| self.variable(&t).is_none())
        {
            let types: Vec<Type> = args.iter().map(|a| self.expr(a)).collect();
            return self.apply(at, &qualified, &qualified, types, false);
        }
        if matches!(name, "_&&_" | "_||_") {
            for side in args {
                let ty = self.expr(side);
                self.must_be_bool(side.at, &ty);
            }
            return Type::Bool;
        }
        let mut types: Vec<Type> = target.into_iter().map(|t| self.expr(t)).collect();
        types.extend(args.iter().map(|a| self.expr(a)));
        match target {
            Some(_) => self.apply(at, &format!(".{name}"), name, types, true),
            None if overloads(bare(name)).is_none() => self.undeclared(at, name),
            None => self.apply(at, bare(name), bare(name), types, false),
        }
    }

    fn apply(&mut self, at: usize, key: &str, name: &str, types: Vec<Type>, member: bool) -> Type {
        let Some(overloads) = overloads(key) else { return self.undeclared(at, name) };
        let mut results: Option<Type> = None;
        for overload in overloads.iter().filter(|o| o.args.len() == types.len()) {
            let mut found = self.found.clone();
            if overload.args.iter().zip(&types).all(|(wanted, ty)| found.fits(wanted, ty)) {
                let result = found.given_back(&overload.result);
                self.found = found;
                results = Some(match results {
                    None => result,
                    Some(known) if known == result => known,
                    Some(_) => Type::Dyn,
                });
            }
        }
        results.unwrap_or_else(|| {
            let shown: Vec<String> = types.iter().map(|ty| self.found.settled(ty).to_string()).collect();
            let applied = match (member, shown.split_first()) {
                (true, Some((target, args))) => format!("{target}.({})", args.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            self.fail(at, format!("found no matching overload for '{name}' applied to '{applied}'"))
        })
    }
}
