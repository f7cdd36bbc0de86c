//! The schema of a declared kind as server-side apply sees it.

use protocol::apply::{Free, Keys, List, ListKind, Map, Member, Scalar, Shape, Table};
use protocol::schema;

use super::schema::{Additional, Schema};

/// A place in an object of a declared kind.
#[derive(Clone, Copy, Debug)]
pub enum Place<'s> {
    /// The object itself, or one that is embedded: its metadata is like everybody's.
    Resource(&'s Schema),
    /// A place that a schema describes.
    Schema(&'s Schema),
    /// Metadata.
    Meta(Table),
    /// A place that nothing describes.
    Free(Free),
}

impl<'s> Place<'s> {
    fn of(schema: &'s Schema) -> Self {
        if schema.embedded { Place::Resource(schema) } else { Place::Schema(schema) }
    }
}

/// A member in the terms of another shape.
fn member<'s, S, T>(member: Member<'s, S>, of: impl Fn(S) -> T) -> Member<'s, T> {
    Member { shape: of(member.shape), declared: member.declared, default: member.default }
}

fn list<'s, S, T>(list: List<'s, S>, of: impl Fn(S) -> T) -> List<'s, T> {
    List { kind: list.kind, keys: list.keys, element: of(list.element) }
}

impl<'s> Shape<'s> for Place<'s> {
    fn scalar(self) -> Option<Scalar> {
        match self {
            Place::Resource(_) => None,
            Place::Meta(table) => table.scalar(),
            Place::Free(free) => free.scalar(),
            Place::Schema(schema) if schema.int_or_string => Some(Scalar::Untyped),
            Place::Schema(schema) => match schema.ty.as_str() {
                "string" => Some(Scalar::String),
                "integer" | "number" => Some(Scalar::Numeric),
                "boolean" => Some(Scalar::Boolean),
                "" => Some(Scalar::Untyped),
                _ => None,
            },
        }
    }

    fn list(self) -> Option<List<'s, Self>> {
        match self {
            Place::Resource(_) => None,
            Place::Meta(table) => table.list().map(|l| list(l, Place::Meta)),
            Place::Free(free) => free.list().map(|l| list(l, Place::Free)),
            Place::Schema(schema) => match schema.ty.as_str() {
                "array" => Some(List {
                    kind: match schema.list_type.as_str() {
                        "set" => ListKind::Set,
                        "map" => ListKind::Map,
                        _ => ListKind::Atomic,
                    },
                    keys: Keys::Loaded(&schema.list_keys),
                    element: schema.items.as_ref().map_or(Place::Free(Free), |items| Place::of(items)),
                }),
                "" if !schema.int_or_string => Free.list().map(|l| list(l, Place::Free)),
                _ => None,
            },
        }
    }

    fn map(self) -> Option<Map> {
        match self {
            Place::Resource(_) => Some(Map { atomic: false, deduced: false }),
            Place::Meta(table) => table.map(),
            Place::Free(free) => free.map(),
            Place::Schema(schema) => {
                let atomic = schema.map_type == "atomic";
                let unknown = schema.properties.is_empty() && matches!(schema.additional, Additional::Unsaid);
                match schema.ty.as_str() {
                    "object" => Some(Map { atomic, deduced: unknown && schema.preserve }),
                    "" if !schema.int_or_string => Some(Map { atomic, deduced: unknown }),
                    _ => None,
                }
            }
        }
    }

    fn field(self, name: &str) -> Option<Member<'s, Self>> {
        let schema = match self {
            Place::Meta(table) => return table.field(name).map(|m| member(m, Place::Meta)),
            Place::Free(free) => return free.field(name).map(|m| member(m, Place::Free)),
            Place::Resource(schema) => {
                if ["apiVersion", "kind", "metadata"].contains(&name) {
                    let found = Table::of(schema::custom()).field(name);
                    return found.map(|m| member(m, Place::Meta));
                }
                schema
            }
            Place::Schema(schema) => schema,
        };
        if let Some(inner) = schema.properties.get(name) {
            return Some(Member { shape: Place::of(inner), declared: true, default: inner.default.as_ref() });
        }
        match &schema.additional {
            Additional::Schema(inner) => {
                Some(Member { shape: Place::of(inner), declared: false, default: inner.default.as_ref() })
            }
            _ if schema.preserve || matches!(schema.additional, Additional::Any(true)) => {
                Some(Member { shape: Place::Free(Free), declared: false, default: None })
            }
            _ => None,
        }
    }
}
