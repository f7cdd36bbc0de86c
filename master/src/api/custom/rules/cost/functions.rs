//! What calls of functions and operators cost, and how big what they make is.

use super::size::Span;
use super::{Known, LIST};
use crate::api::cel::Type;
use crate::api::cel::ast::{Expr, Kind, Literal};

/// To go through a text costs this share of its length.
const WALK: f64 = 0.1;
/// A pattern has a state for so many of its characters.
const STATE: f64 = 0.25;
/// How long the patterns of named formats are.
const FORMAT_PATTERN: f64 = 128.0;
/// Between how many and how many bytes an address has.
const ADDRESS: Span = Span { min: 4, max: 16 };

/// Whether a value may be a text or bytes.
fn may_be_text(ty: &Type) -> bool {
    matches!(ty, Type::String | Type::Bytes | Type::Dyn | Type::Param(_))
}

/// Whether it may be something else.
fn may_be_other(ty: &Type) -> bool {
    !matches!(ty, Type::String | Type::Bytes)
}

/// The number that an argument is, where it is written down.
fn number(arg: Option<&Expr>) -> Option<u64> {
    match arg.map(|arg| &arg.kind) {
        Some(Kind::Literal(Literal::Int(n))) => u64::try_from(*n).ok(),
        _ => None,
    }
}

/// A call's cost, and what is known of what it makes. `parts` are the costs of what it is called on and of its
/// arguments, and what is known of them; `cost` is their sum.
pub fn call<'s>(
    name: &str,
    args: &[Expr],
    parts: &[(Span, Known<'s>)],
    cost: Span,
    mut known: Known<'s>,
) -> (Span, Known<'s>) {
    let member = parts.len() > args.len();
    let (target, rest) = if member { (parts.first(), &parts[1..]) } else { (None, parts) };
    let on = target.map_or(Span::UNKNOWN, |(_, known)| known.size());
    let size = |i: usize| rest.get(i).map_or(Span::UNKNOWN, |(_, known)| known.size());
    let ty = |i: usize| rest.get(i).map_or(&Type::Dyn, |(_, known)| &known.ty);
    let entries = |i: usize| rest.get(i).and_then(|(_, known)| known.entries);
    let joined = |a: usize, b: usize| {
        let ((ka, va), (kb, vb)) = entries(a).zip(entries(b))?;
        Some((ka.union(kb), va.union(vb)))
    };
    let one = Span::ONE;
    // What a list that is made anew costs.
    let list = |work: Span| work.plus(Span::of(1 + LIST));
    let own = match (name, member) {
        ("_&&_" | "_||_", _) => {
            let first = parts.first().map_or(Span::NONE, |(cost, _)| *cost);
            return (Span { min: first.min, max: cost.max }, known);
        }
        ("_?_:_", _) => {
            let costs = |i: usize| parts.get(i).map_or(Span::NONE, |(cost, _)| *cost);
            known.size = Some(size(1).union(size(2)));
            known.entries = joined(1, 2);
            return (costs(0).plus(costs(1).union(costs(2))), known);
        }
        ("dyn", false) => {
            known.size = rest.first().and_then(|(_, known)| known.told());
            known.entries = entries(0);
            one
        }
        ("_+_", _) => {
            let (sum, text) = (size(0).plus(size(1)), may_be_text(ty(0)) && may_be_text(ty(1)));
            if text || matches!(ty(0), Type::List(..)) {
                known.size = Some(sum);
                known.entries = joined(0, 1);
            }
            either(text.then(|| sum.share(WALK)), may_be_other(ty(0)).then_some(one))
        }
        ("_==_", _) if matches!(ty(0), Type::Opaque(_)) && ty(0) == ty(1) => one,
        ("_==_" | "_!=_", _) => compared(size(0), size(1)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", _) => {
            let text = may_be_text(ty(0)) && may_be_text(ty(1));
            either(text.then(|| compared(size(0), size(1))), may_be_other(ty(0)).then_some(one))
        }
        ("@in", _) => match ty(1) {
            Type::List(..) => size(1),
            Type::Map(..) => one,
            _ => size(1).union(one),
        },
        ("_[_]", _) => {
            if let Some((_, of)) = rest.first().filter(|(_, of)| !matches!(of.ty, Type::Optional(_))) {
                known.size = of.entries.map(|(_, value)| value);
                known.place = of.place.and_then(|place| place.entry());
            }
            one
        }
        ("matches", true) => on.plus(one).share(WALK).times(size(0).share(STATE)),
        ("find" | "findAll", true) => {
            known.size = Some(Span { min: 0, max: on.max });
            on.plus(one).share(WALK).times(size(0).share(STATE))
        }
        ("contains", true) => on.share(WALK).times(size(0).share(WALK)),
        ("startsWith" | "endsWith", true) => size(0).share(WALK),
        ("format", true) => on.share(WALK),
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", true) => {
            match target.map(|(_, known)| (&known.ty, known.place)) {
                Some((Type::List(of, _), place)) if matches!(**of, Type::String | Type::Bytes) => {
                    let entry = place.and_then(|p| p.entry()).map_or(Span::UNKNOWN, |p| p.size());
                    on.times(one.plus(entry.share(WALK)))
                }
                Some((Type::List(..), _)) => on,
                _ => on.share(WALK),
            }
        }
        ("lowerAscii" | "upperAscii" | "substring" | "trim", true) => {
            known.size = Some(on);
            on.share(WALK)
        }
        ("replace", true) if rest.len() >= 2 => {
            known.size = Some(replaced(on, size(0), size(1)));
            on.share(2.0 * WALK)
        }
        ("split", true) => {
            known.size = Some(Span { min: 0, max: number(args.get(1)).unwrap_or(on.max) });
            on.share(2.0 * WALK)
        }
        ("join", true) => {
            let entry = target.and_then(|(_, known)| known.place).and_then(|place| place.entry());
            let mut made = on.times(entry.map_or(Span::UNKNOWN, |place| place.size()));
            if !rest.is_empty() {
                let between = Span { min: on.min.saturating_sub(1), max: on.max.saturating_sub(1) };
                made = made.plus(size(0).times(between));
            }
            known.size = Some(made);
            made.share(WALK)
        }
        ("url" | "jsonpatch.escapeKey", _) => {
            known.size = Some(size(0));
            size(0).share(WALK)
        }
        ("cidr" | "ip" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver", false) => {
            size(0).share(WALK)
        }
        // A name that stands for a namespace of functions was left out of the parts.
        ("isCanonical" | "ip.isCanonical", _) => size(0).share(2.0 * WALK),
        ("containsIP" | "containsCIDR", true) => {
            let mut cost = ADDRESS.plus(ADDRESS).share(WALK);
            if name == "containsCIDR" {
                cost = cost.plus(ADDRESS.share(WALK)).plus(one);
            }
            if *ty(0) == Type::String { cost.plus(size(0).share(WALK)) } else { cost }
        }
        ("validate", true) => size(0).share(WALK).share(FORMAT_PATTERN * STATE),
        ("string", false) if may_be_text(ty(0)) && *ty(0) != Type::String => {
            // Bytes it is, as far as it is not known; of nothing else is the length of the text known.
            known.size = Some(Span { min: size(0).min / 4, max: size(0).max });
            size(0).share(WALK).union(one)
        }
        ("bytes", false) if may_be_text(ty(0)) => {
            known.size = Some(Span { min: size(0).min, max: size(0).max.saturating_mul(4) });
            size(0).share(WALK)
        }
        ("quote", _) => {
            known.size = Some(size(0).times(Span { min: 1, max: 2 }).plus(Span::of(2)));
            size(0).share(WALK)
        }
        ("contains" | "intersects", false) => size(0).times(size(1)).plus(one),
        ("equivalent", false) => size(0).times(size(1)).share(2.0).plus(one),
        ("slice", true) if rest.len() == 2 => {
            let (from, to) = (number(args.first()).unwrap_or(0), number(args.get(1)).unwrap_or(on.max));
            known.size = Some(Span::of(to.saturating_sub(from)));
            list(Span::of(to.saturating_sub(from)))
        }
        ("range", false) => {
            let made = Span::of(number(args.first()).unwrap_or(u64::MAX));
            known.size = Some(made);
            list(made)
        }
        ("reverse", true) => {
            known.size = Some(on);
            list(on)
        }
        ("flatten", true) => {
            known.size = Some(on);
            let depth = if rest.is_empty() { 1 } else { number(args.first()).unwrap_or(u64::MAX) };
            list(on.share(depth as f64))
        }
        ("distinct" | "sort", true) => {
            let squared = on.times(on);
            known.size = Some(squared);
            let texts = target.is_some_and(
                |(_, k)| matches!(&k.ty, Type::List(of, _) if matches!(**of, Type::String | Type::Bytes)),
            );
            list(squared.share(if texts && name == "sort" { 2.0 + WALK } else { 2.0 }))
        }
        _ => one,
    };
    (cost.plus(own), known)
}

/// What one of several ways to call a function costs.
fn either(one: Option<Span>, other: Option<Span>) -> Span {
    match (one, other) {
        (Some(one), Some(other)) => one.union(other),
        (one, other) => one.or(other).unwrap_or(Span::ONE),
    }
}

/// Two values are compared as far as the shorter goes.
fn compared(a: Span, b: Span) -> Span {
    let most = a.max.min(b.max);
    Span { min: most.min(1), max: most }.share(WALK)
}

/// How long a text is in which parts were replaced: the longest if as many of the shortest parts as fit are replaced
/// by the longest, the shortest the other way round.
fn replaced(text: Span, part: Span, by: Span) -> Span {
    let fit =
        |length: u64, part: u64| if part == 0 { length.saturating_add(1) } else { length.div_ceil(part) };
    let (most, kept_most) = match part.min {
        0 => (fit(text.max, 0), text.max),
        _ if by.max <= part.min => (0, text.max),
        _ => (fit(text.max, part.min), 0),
    };
    let (least, kept_least) = match part.max {
        0 => (fit(text.min, 0), text.min),
        _ if part.max <= by.min => (0, text.min),
        _ => (fit(text.min, part.max), 0),
    };
    Span { min: least, max: most }.times(by).plus(Span { min: kept_least, max: kept_most })
}
