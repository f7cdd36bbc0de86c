//! Literals that can be told to be wrong before anything runs: times and patterns that are none, lists and maps whose
//! entries are of several types, and forms that do not fit what they are to show.

use super::super::ast::{Expr, Kind, Literal};
use super::super::library::format::{Clause, Piece, next_piece};
use super::super::problem::Problem;
use super::super::time::{parse_duration, parse_time};
use super::super::types::Type;
use super::{PROBLEMS_MAX, Types};

/// Checks an expression's literals, one sort after the other.
pub fn check(expr: &Expr, types: &mut Types, problems: &mut Vec<Problem>) {
    let mut found: [Vec<Problem>; 5] = Default::default();
    look(expr, types, false, &mut found);
    problems.extend(found.into_iter().flatten());
    problems.truncate(PROBLEMS_MAX);
}

/// What is wrong: durations, times, patterns, entries, forms.
type Found = [Vec<Problem>; 5];

fn wrong(at: usize, what: &str) -> Problem {
    Problem::at(at, format!("invalid {what} argument"))
}

/// What is wrong with a form and what it is to show; `at` is where its call is.
fn form_problem(mut form: &str, items: &[(Expr, bool)], at: usize, types: &Types) -> Option<Problem> {
    let mut next = 0;
    while !form.is_empty() {
        match next_piece(&mut form) {
            Err(why) => return Some(Problem::at(at, why)),
            Ok(Piece::Text(_)) => {}
            Ok(Piece::Clause(clause)) => {
                let Some((item, _)) = items.get(next) else {
                    return Some(Problem::at(at, format!("index {next} out of range")));
                };
                if let Some((at, ty)) = unfit(clause, item, types) {
                    return Some(Problem::at(at, clause.refusal(&ty)));
                }
                next += 1;
            }
        }
    }
    let given = items.len();
    let why = format!("too many arguments supplied to string.format (expected {next}, got {given})");
    (given > next).then(|| Problem::at(at, why))
}

/// The part of what is to be shown that a directive does not take, and its type.
fn unfit(clause: Clause, item: &Expr, types: &Types) -> Option<(usize, String)> {
    let ty = types.get(&item.at).map_or("dyn".to_owned(), |ty| match ty {
        Type::List(..) => "list".to_owned(),
        Type::Map(..) => "map".to_owned(),
        Type::Optional(_) => "optional_type".to_owned(),
        Type::Type(_) => "type".to_owned(),
        other => other.full_name(),
    });
    if !clause.takes(&ty) {
        return Some((item.at, ty));
    }
    match &item.kind {
        Kind::List(items) if clause.letter == 's' => {
            items.iter().find_map(|(item, _)| unfit(clause, item, types))
        }
        Kind::Map(entries) if clause.letter == 's' => entries
            .iter()
            .find_map(|(key, value, _)| unfit(clause, key, types).or_else(|| unfit(clause, value, types))),
        _ => None,
    }
}

/// The expression's own recursion is bounded by the parser's.
fn look(expr: &Expr, types: &Types, mixed: bool, found: &mut Found) {
    let below = |inner: &Expr, mixed: bool, found: &mut Found| look(inner, types, mixed, found);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select(inner, ..) | Kind::Has(inner, _) => below(inner, mixed, found),
        Kind::Call(target, name, args) => {
            match (name.as_str(), args.as_slice()) {
                ("duration", [Expr { at, kind: Kind::Literal(Literal::String(text)) }])
                    if parse_duration(text).is_none() =>
                {
                    found[0].push(wrong(*at, "duration"));
                }
                // Of a number none is made, whatever the types say.
                ("duration", [Expr { at, kind: Kind::Literal(Literal::Int(_)) }]) => {
                    found[0].push(wrong(*at, "duration"));
                }
                ("timestamp", [Expr { at, kind: Kind::Literal(Literal::String(text)) }])
                    if parse_time(text).is_none() =>
                {
                    found[1].push(wrong(*at, "timestamp"));
                }
                ("matches", [.., Expr { at, kind: Kind::Literal(Literal::String(text)) }])
                    if crate::api::custom::schema::pattern::compile(text).is_err() =>
                {
                    found[2].push(wrong(*at, "matches"));
                }
                _ => {}
            }
            if let (Some(target), "format", [list]) = (target, name.as_str(), args.as_slice())
                && let (Kind::Literal(Literal::String(form)), Kind::List(items)) = (&target.kind, &list.kind)
            {
                found[4].extend(form_problem(form, items, expr.at, types));
            }
            if let Some(target) = target {
                below(target, mixed, found);
            }
            // What is formatted may be of any types.
            let mixed = mixed || (name == "format" && target.is_some());
            args.iter().for_each(|arg| below(arg, mixed, found));
        }
        Kind::List(items) => {
            if !mixed {
                alike(items.iter().map(|(item, _)| item), types, &mut found[3]);
            }
            items.iter().for_each(|(item, _)| below(item, mixed, found));
        }
        Kind::Map(entries) => {
            if !mixed {
                alike(entries.iter().map(|(key, ..)| key), types, &mut found[3]);
                alike(entries.iter().map(|(_, value, _)| value), types, &mut found[3]);
            }
            for (key, value, _) in entries {
                below(key, mixed, found);
                below(value, mixed, found);
            }
        }
        Kind::Struct(_, fields) => fields.iter().for_each(|field| below(&field.value, mixed, found)),
        Kind::Comprehension(c) => {
            let parts = [Some(&c.range), c.condition.as_ref(), c.transform.as_ref()];
            parts.into_iter().flatten().for_each(|part| below(part, mixed, found));
        }
        Kind::Bind(_, value, body) | Kind::Within(value, _, body, _) => {
            below(value, mixed, found);
            below(body, mixed, found);
        }
    }
}

/// Entries are of the type of the first, but for the first that is not.
fn alike<'a>(entries: impl Iterator<Item = &'a Expr>, types: &Types, found: &mut Vec<Problem>) {
    let mut first: Option<&Type> = None;
    for entry in entries {
        let Some(ty) = types.get(&entry.at) else { continue };
        // What is absent is of whatever type the others are.
        if matches!(&entry.kind, Kind::Call(_, name, args) if name == "none" && args.is_empty()) {
            continue;
        }
        match first {
            None => first = Some(ty),
            Some(known) if known == ty => {}
            Some(known) => {
                let message = format!("expected type '{known}' but found '{ty}'");
                found.push(Problem::at(entry.at, message));
                return;
            }
        }
    }
}
