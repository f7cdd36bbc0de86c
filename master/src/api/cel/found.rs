//! Finding out types: what the parameters of functions stand for, and what is in something empty.
//!
//! A type may have the same part at many places, and that part again; whoever goes through all of it may never come to an
//! end, though the expression is short. So what is looked at for one expression is counted, and what lies too deep is not
//! looked at: there, what a type is shows when the expression runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::types::{Named, Type};

/// Parts of types that are looked at for one expression.
const STEPS_MAX: u32 = 500_000;
/// How deep types are looked into.
const DEPTH_MAX: u32 = 200;

/// A type that is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Open {
    /// A parameter of a function's type.
    Param(char),
    /// One that was not known.
    Unknown(u32),
}

impl Open {
    fn of(ty: &Type) -> Option<Self> {
        match ty {
            Type::Param(name) => Some(Open::Param(*name)),
            Type::Unknown(number) => Some(Open::Unknown(*number)),
            _ => None,
        }
    }
}

/// What was found out so far in an expression. Copies are guesses, and share the count of what may be looked at.
#[derive(Clone, Debug)]
pub struct Found {
    types: BTreeMap<Open, Type>,
    unknown: u32,
    steps: Rc<Cell<u32>>,
}

impl Default for Found {
    fn default() -> Self {
        Found { types: BTreeMap::new(), unknown: 0, steps: Rc::new(Cell::new(STEPS_MAX)) }
    }
}

impl Found {
    /// A type of which nothing is known yet.
    pub fn unknown(&mut self) -> Type {
        self.unknown += 1;
        Type::Unknown(self.unknown)
    }

    /// Whether a value of `actual` may stand where `wanted` is expected.
    pub fn fits(&mut self, wanted: &Type, actual: &Type) -> bool {
        self.fits_at(wanted, actual, 0)
    }

    /// What a function gives back, once its arguments were found to fit; its parameters are forgotten.
    pub fn given_back(&mut self, result: &Type) -> Type {
        // What nothing says is to be found out.
        for name in ['A', 'B'] {
            if !self.types.contains_key(&Open::Param(name)) {
                let unknown = self.unknown();
                self.types.insert(Open::Param(name), unknown);
            }
        }
        let result = self.resolved(result);
        self.types.retain(|open, _| matches!(open, Open::Unknown(_)));
        result
    }

    /// Whether something in a type is not known yet.
    pub fn is_unsure(&self, ty: &Type) -> bool {
        self.has(ty, &|open| matches!(open, Open::Unknown(_)), 0)
    }

    /// A type with what was found out about it.
    pub fn resolved(&self, ty: &Type) -> Type {
        self.replaced(ty, false, 0)
    }

    /// A type of which nothing more will be found out: what is not known is known only when it runs.
    pub fn settled(&self, ty: &Type) -> Type {
        self.replaced(ty, true, 0)
    }

    /// Counts one more part at a depth; false when that is not to be looked at.
    fn step(&self, depth: u32) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left > 0 && depth < DEPTH_MAX
    }

    fn fits_at(&mut self, wanted: &Type, actual: &Type, depth: u32) -> bool {
        let depth = depth + 1;
        if !self.step(depth) || wanted == actual && Open::of(wanted).is_some() {
            return true;
        }
        if let Some(open) = Open::of(wanted) {
            return match self.types.get(&open).cloned() {
                None => self.bind(open, actual),
                Some(known) if known.is_open() || actual.is_open() => true,
                Some(Type::Null) => self.bind(open, actual) && self.fits_at(actual, &Type::Null, depth),
                Some(known) => self.fits_at(&known, actual, depth),
            };
        }
        if let Some(open) = Open::of(actual) {
            return match self.types.get(&open).cloned() {
                None => self.bind(open, wanted),
                Some(known) => self.fits_at(wanted, &known, depth),
            };
        }
        match (wanted, actual) {
            (a, b) if a.is_open() || b.is_open() => true,
            (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => {
                self.fits_at(a, b, depth)
            }
            (Type::Map(a, b), Type::Map(c, d)) => self.fits_at(a, c, depth) && self.fits_at(b, d, depth),
            // What is no message of its own is a map to functions on maps.
            (Type::Object(a), Type::Object(b)) => a == b,
            (
                Type::Object(_) | Type::Optional(_) | Type::Opaque(_) | Type::Duration | Type::Timestamp,
                Type::Null,
            ) => true,
            (Type::Null, Type::Object(_) | Type::Optional(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Finds out a type, which cannot be within itself.
    fn bind(&mut self, open: Open, ty: &Type) -> bool {
        let ty = self.resolved(ty);
        let apart = !self.has(&ty, &|other| other == open, 0);
        if apart {
            self.types.insert(open, ty);
        }
        apart
    }

    fn has(&self, ty: &Type, wanted: &dyn Fn(Open) -> bool, depth: u32) -> bool {
        let depth = depth + 1;
        self.step(depth)
            && match ty {
                Type::List(of, _) | Type::Optional(of) => self.has(of, wanted, depth),
                Type::Map(key, value) => self.has(key, wanted, depth) || self.has(value, wanted, depth),
                other => Open::of(other).is_some_and(wanted),
            }
    }

    fn replaced(&self, ty: &Type, last: bool, depth: u32) -> Type {
        let depth = depth + 1;
        if !self.step(depth) {
            return Type::Dyn;
        }
        let of = |ty: &Type| Arc::new(self.replaced(ty, last, depth));
        match ty {
            Type::List(inner, identity) => Type::List(of(inner), identity.clone()),
            Type::Optional(inner) => Type::Optional(of(inner)),
            Type::Type(Named(inner)) => Type::Type(Named(of(inner))),
            Type::Map(key, value) => Type::Map(of(key), of(value)),
            other => match Open::of(other).map(|open| self.types.get(&open)) {
                Some(Some(known)) => self.replaced(known, last, depth),
                Some(None) if last => Type::Dyn,
                _ => other.clone(),
            },
        }
    }
}
