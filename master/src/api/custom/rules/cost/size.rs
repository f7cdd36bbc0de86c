//! How big values can be: by schema, and by how much fits into a request.

use crate::api::custom::schema::{Additional, Schema};

/// An object comes in one request, and is no bigger.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// The longest text, without its quotation marks.
const TEXT_MAX: u64 = REQUEST_BYTES_MAX - 2;

/// Between how much and how much a size or a cost is. What is more than can be told is the most that can.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Span {
    pub const NONE: Span = Span::of(0);
    pub const ONE: Span = Span::of(1);
    pub const UNKNOWN: Span = Span { min: 0, max: u64::MAX };

    pub const fn of(exactly: u64) -> Span {
        Span { min: exactly, max: exactly }
    }

    /// What the sizes of entries begin from: smaller and bigger than all, or nothing where there is none.
    pub fn nothing_of(empty: bool) -> Span {
        if empty { Span::NONE } else { Span { min: u64::MAX, max: 0 } }
    }

    pub fn plus(self, other: Span) -> Span {
        Span { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Span) -> Span {
        Span { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// A share of it, rounded up.
    pub fn share(self, factor: f64) -> Span {
        let share = |n: u64| (n as f64 * factor).ceil() as u64;
        Span { min: share(self.min), max: share(self.max) }
    }

    pub fn union(self, other: Span) -> Span {
        Span { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// A part of an object, by what describes it.
#[derive(Clone, Copy)]
pub enum Place<'s> {
    /// A schema describes it; the flag is whether it has apiVersion, kind and metadata.
    Of(&'s Schema, bool),
    /// A key of a map.
    Key,
    /// Some text.
    Text,
    /// The metadata of an object, of which rules see its names.
    Metadata,
}

/// Whether rules see values of a schema.
fn is_seen(schema: &Schema) -> bool {
    if schema.int_or_string {
        return true;
    }
    match (schema.ty.as_str(), &schema.additional) {
        ("array", _) => schema.items.as_deref().is_some_and(is_seen),
        ("object", Additional::Schema(of)) => is_seen(of),
        ("", _) => false,
        _ => true,
    }
}

impl<'s> Place<'s> {
    /// What a schema describes, if rules see it.
    pub fn of(schema: &'s Schema, resource: bool) -> Option<Place<'s>> {
        is_seen(schema).then_some(Place::Of(schema, resource))
    }

    /// A field, by the name that expressions use.
    pub fn field(self, name: &str) -> Option<Place<'s>> {
        match self {
            Place::Of(_, true) if matches!(name, "apiVersion" | "kind") => Some(Place::Text),
            Place::Of(_, true) if name == "metadata" => Some(Place::Metadata),
            Place::Metadata if matches!(name, "name" | "generateName") => Some(Place::Text),
            Place::Of(schema, _) if schema.ty == "object" => {
                let escaped = |own: &&String| crate::api::cel::types::is_called(own, name);
                let own = schema.properties.keys().find(escaped)?;
                let inner = &schema.properties[own];
                Place::of(inner, inner.embedded)
            }
            _ => None,
        }
    }

    /// An entry of a list or map.
    pub fn entry(self) -> Option<Place<'s>> {
        let Place::Of(schema, _) = self else { return None };
        match (schema.ty.as_str(), &schema.items, &schema.additional) {
            ("array", Some(of), _) => Place::of(of, of.embedded),
            ("object", _, Additional::Schema(of)) => Place::of(of, of.embedded),
            _ => None,
        }
    }

    /// A key of a map.
    pub fn keys(self) -> Option<Place<'s>> {
        let map = matches!(self, Place::Of(s, _) if s.ty == "object" && matches!(s.additional, Additional::Schema(_)));
        map.then_some(Place::Key)
    }

    /// How big it can be: what is no text and has no entries has no size, and neither have keys.
    pub fn size(self) -> Span {
        let max = match self {
            Place::Key | Place::Metadata => 0,
            Place::Text => TEXT_MAX,
            Place::Of(schema, _) if schema.int_or_string => {
                length(schema).map_or(TEXT_MAX, |n| n.saturating_mul(4))
            }
            Place::Of(schema, _) => match schema.ty.as_str() {
                "string" => text_max(schema),
                "array" | "object" => entries_max(schema),
                _ => 0,
            },
        };
        Span { min: 0, max }
    }
}

fn said(max: Option<i64>) -> Option<u64> {
    max.map(|n| u64::try_from(n).unwrap_or(0))
}

fn length(schema: &Schema) -> Option<u64> {
    said(schema.length.1)
}

/// How long a text can be. Lengths are said in characters, of which each may take four bytes.
fn text_max(schema: &Schema) -> u64 {
    match (schema.format.as_str(), length(schema)) {
        ("byte", Some(max)) => max,
        ("byte", None) => TEXT_MAX,
        ("duration" | "date-time", _) => 32,
        ("date", _) => 12,
        (_, Some(max)) => max.saturating_mul(4),
        _ if schema.values.is_empty() => TEXT_MAX,
        _ => schema.values.iter().filter_map(|v| v.as_str()).map(|v| v.len() as u64).max().unwrap_or(0),
    }
}

/// The least bytes that a value takes in a request.
fn bytes_min(schema: &Schema) -> u64 {
    match (schema.ty.as_str(), schema.format.as_str()) {
        _ if schema.int_or_string => 1,
        ("string", "duration") => 3,
        ("string", "date") => 12,
        ("string", "date-time") => 21,
        ("string" | "array", _) => 2,
        ("boolean", _) => 4,
        ("object", _) if matches!(schema.additional, Additional::Schema(_)) => 2,
        ("object", _) => {
            let required =
                schema.required.iter().filter_map(|name| Some((name, schema.properties.get(name)?)));
            // What has a default need not be sent.
            let sent = required.filter(|(_, inner)| inner.default.is_none() && is_seen(inner));
            2 + sent.map(|(name, inner)| name.len() as u64 + bytes_min(inner) + 4).sum::<u64>()
        }
        _ => 1,
    }
}

/// How many entries a list or map may have, at most; an object with listed fields is none.
fn entries_max(schema: &Schema) -> u64 {
    match (&schema.items, &schema.additional) {
        (Some(items), _) => {
            said(schema.items_count.1).unwrap_or((REQUEST_BYTES_MAX - 2) / (bytes_min(items) + 1))
        }
        (None, Additional::Schema(of)) => {
            said(schema.properties_count.1).unwrap_or((REQUEST_BYTES_MAX - 2) / (bytes_min(of) + 6))
        }
        _ => 0,
    }
}

/// By how much a part of an object multiplies what is within it, where the schema bounds that.
pub fn bound(schema: &Schema) -> Option<u64> {
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
