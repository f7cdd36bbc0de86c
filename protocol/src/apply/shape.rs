//! What a schema must tell so that values merge: at each place, which scalar, list or map may stand there,
//! and how it merges.

use serde_json::Value;

/// What a scalar may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A number.
    Numeric,
    /// Text.
    String,
    /// Truth.
    Boolean,
    /// Any of them.
    Untyped,
}

/// How the entries of a list belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// The list is one value.
    Atomic,
    /// Entries are their own keys.
    Set,
    /// Entries are found by key fields.
    Map,
}

/// The key fields of a list.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'s> {
    /// From a table that is part of the program.
    Fixed(&'s [&'static str]),
    /// From a schema that was loaded.
    Loaded(&'s [String]),
}

impl<'s> Keys<'s> {
    /// Their names.
    pub fn iter(self) -> impl Iterator<Item = &'s str> {
        let (fixed, loaded): (&[&'static str], &[String]) = match self {
            Keys::Fixed(names) => (names, &[]),
            Keys::Loaded(names) => (&[], names),
        };
        fixed.iter().copied().chain(loaded.iter().map(String::as_str))
    }
}

/// A list at a place.
#[derive(Clone, Copy, Debug)]
pub struct List<'s, S> {
    /// How it merges.
    pub kind: ListKind,
    /// Key fields, for [`ListKind::Map`].
    pub keys: Keys<'s>,
    /// What its entries are.
    pub element: S,
}

/// An object or map at a place; [`Shape::field`] tells about its fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Map {
    /// It is one value.
    pub atomic: bool,
    /// Nothing is known about it: no field is declared, and its values may be anything.
    pub deduced: bool,
}

/// A field of an object, or a value of a map.
#[derive(Clone, Copy, Debug)]
pub struct Member<'s, S> {
    /// What it is.
    pub shape: S,
    /// It is a declared field; otherwise a map's value.
    pub declared: bool,
    /// What it is when absent.
    pub default: Option<&'s Value>,
}

/// What a schema says about one place of an object. Cheap to copy: a reference into the schema.
///
/// Most places allow one of scalar, list and map; those that allow several are told apart by the value.
pub trait Shape<'s>: Copy {
    /// The scalar that may stand here.
    fn scalar(self) -> Option<Scalar>;

    /// The list that may stand here.
    fn list(self) -> Option<List<'s, Self>>;

    /// The object or map that may stand here.
    fn map(self) -> Option<Map>;

    /// A field of the object or a value of the map here; `None` where the schema knows no such field.
    fn field(self, name: &str) -> Option<Member<'s, Self>>;

    /// Whether values come here only after they were read as what the schema says: then equal ones need no look.
    fn is_read(self) -> bool {
        false
    }
}

/// No schema: maps merge by key, lists are single values.
#[derive(Clone, Copy, Debug)]
pub struct Free;

impl<'s> Shape<'s> for Free {
    fn scalar(self) -> Option<Scalar> {
        Some(Scalar::Untyped)
    }

    fn list(self) -> Option<List<'s, Free>> {
        Some(List { kind: ListKind::Atomic, keys: Keys::Fixed(&[]), element: Free })
    }

    fn map(self) -> Option<Map> {
        Some(Map { atomic: false, deduced: true })
    }

    fn field(self, _: &str) -> Option<Member<'s, Free>> {
        Some(Member { shape: Free, declared: false, default: None })
    }
}
