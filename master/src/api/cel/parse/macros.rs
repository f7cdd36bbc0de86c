//! Calls that are macros: what is made of them, if their arguments are what they have to be.

use super::super::ast::{Comprehension, Expr, Kind, Macro};

/// A call that has no target.
pub fn global(at: usize, name: String, mut arguments: Vec<Expr>) -> Option<Expr> {
    if name != "has" || arguments.len() != 1 {
        return Some(Expr { at, kind: Kind::Call(None, name, arguments) });
    }
    match arguments.pop()?.kind {
        Kind::Select(inner, field, false) | Kind::Has(inner, field) => {
            Some(Expr { at, kind: Kind::Has(inner, field) })
        }
        _ => None,
    }
}

/// A call of a target. With `binds`, the target is the one whose macro names values.
pub fn member(at: usize, target: Expr, name: String, arguments: Vec<Expr>, binds: bool) -> Option<Expr> {
    let of = match (name.as_str(), arguments.len()) {
        ("all", 2 | 3) => Macro::All,
        ("exists", 2 | 3) => Macro::Exists,
        ("exists_one", 2 | 3) | ("existsOne", 3) => Macro::ExistsOne,
        ("map", 2 | 3) | ("transformList", 3 | 4) => Macro::Map,
        ("filter", 2) => Macro::Filter,
        ("transformMap", 3 | 4) => Macro::TransformMap,
        ("transformMapEntry", 3 | 4) => Macro::TransformMapEntry,
        ("sortBy", 2) if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct(..)) => {
            return None;
        }
        ("sortBy", 2) => Macro::SortBy,
        ("optMap" | "optFlatMap", 2) => {
            let flat = name == "optFlatMap";
            let [variable, body] = <[Expr; 2]>::try_from(arguments).ok()?;
            let Kind::Ident(variable) = variable.kind else { return None };
            return Some(Expr { at, kind: Kind::Within(Box::new(target), variable, Box::new(body), flat) });
        }
        ("bind", 3) if binds => {
            let [variable, value, body] = <[Expr; 3]>::try_from(arguments).ok()?;
            let Kind::Ident(variable) = variable.kind else { return None };
            return Some(Expr { at, kind: Kind::Bind(variable, Box::new(value), Box::new(body)) });
        }
        _ => return Some(Expr { at, kind: Kind::Call(Some(Box::new(target)), name, arguments) }),
    };
    let two = match name.as_str() {
        "map" | "filter" | "sortBy" => false,
        "transformList" | "transformMap" | "transformMapEntry" => true,
        _ => arguments.len() == 3,
    };
    let (first, second) = variables(&arguments, two)?;
    let mut rest = arguments.into_iter().skip(if two { 2 } else { 1 });
    let (one, another) = (rest.next(), rest.next());
    let (condition, transform) = match of {
        Macro::Map | Macro::TransformMap | Macro::TransformMapEntry | Macro::SortBy => match another {
            Some(transform) => (one, Some(transform)),
            None => (None, one),
        },
        _ => (one, None),
    };
    let made = Comprehension { of, range: target, variable: first, second, condition, transform };
    Some(Expr { at, kind: Kind::Comprehension(Box::new(made)) })
}

/// The names of the variables of a macro. What is made of one has a variable itself, whose name is not for others.
fn variables(arguments: &[Expr], two: bool) -> Option<(String, Option<String>)> {
    let name = |at: usize| match &arguments.get(at)?.kind {
        Kind::Ident(name) if name != "__result__" => Some(name.clone()),
        _ => None,
    };
    let first = name(0)?;
    let second = if two { Some(name(1)?) } else { None };
    (second.as_ref() != Some(&first)).then_some((first, second))
}
