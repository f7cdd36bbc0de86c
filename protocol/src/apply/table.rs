//! The field tables as a [`Shape`].

use std::sync::LazyLock;

use serde_json::Value;

use super::shape::{Keys, List, ListKind, Map, Member, Scalar, Shape};
use crate::schema::{self, Definition, Field, Type};

static NO_TEXT: LazyLock<Value> = LazyLock::new(|| "".into());
static ZERO: LazyLock<Value> = LazyLock::new(|| 0.into());
static FALSE: LazyLock<Value> = LazyLock::new(|| false.into());

/// A place in an object of a built-in kind.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// What it holds; nothing is known of what an open definition does not list.
    ty: Option<&'static Type>,
    definition: Option<&'static Definition>,
    /// The field whose value this is: it tells how its list or map merges. Entries have none.
    field: Option<&'static Field>,
}

impl Table {
    /// An object of a kind.
    pub fn of(definition: &'static Definition) -> Table {
        Table { ty: None, definition: Some(definition), field: None }
    }

    fn place(ty: &'static Type, field: Option<&'static Field>) -> Table {
        Table { ty: Some(ty), definition: ty.definition(), field }
    }

    /// A place of which nothing is known.
    fn free() -> Table {
        Table { ty: None, definition: None, field: None }
    }

    /// What is a number or a text is told to be neither by whoever reads it, not here.
    fn is_free(self) -> bool {
        self.definition.is_none()
            && matches!(self.ty, None | Some(Type::Any | Type::Alternative(_) | Type::IntOrString))
    }
}

impl<'s> Shape<'s> for Table {
    fn scalar(self) -> Option<Scalar> {
        if self.definition.is_some() {
            return None;
        }
        Some(match self.ty {
            Some(Type::String | Type::Bytes) => Scalar::String,
            Some(Type::Bool) => Scalar::Boolean,
            Some(Type::Int32 | Type::Int64 | Type::Number) => Scalar::Numeric,
            None
            | Some(
                Type::Time
                | Type::MicroTime
                | Type::Quantity
                | Type::IntOrString
                | Type::Any
                | Type::Alternative(_),
            ) => Scalar::Untyped,
            Some(Type::Object(_) | Type::List(_) | Type::Map(_)) => return None,
        })
    }

    fn list(self) -> Option<List<'s, Table>> {
        match self.ty {
            Some(Type::List(element)) => Some(List {
                kind: match self.field.map(|f| f.list).unwrap_or_default() {
                    schema::ListKind::Atomic => ListKind::Atomic,
                    schema::ListKind::Set => ListKind::Set,
                    schema::ListKind::Map => ListKind::Map,
                },
                keys: Keys::Fixed(self.field.map_or(&[], |f| f.keys)),
                element: Table::place(element, None),
            }),
            _ if self.is_free() => {
                Some(List { kind: ListKind::Atomic, keys: Keys::Fixed(&[]), element: Table::free() })
            }
            _ => None,
        }
    }

    fn map(self) -> Option<Map> {
        let of_field = self.field.is_some_and(|f| f.atomic);
        match (self.definition, self.ty) {
            (Some(definition), _) => {
                let granular = self.field.is_some_and(|f| f.granular);
                Some(Map { atomic: (definition.atomic && !granular) || of_field, deduced: false })
            }
            (None, Some(Type::Map(_))) => Some(Map { atomic: of_field, deduced: false }),
            // Raw JSON in a field is one value; what an open definition does not list merges.
            _ if self.is_free() => Some(Map { atomic: self.ty.is_some(), deduced: true }),
            _ => None,
        }
    }

    fn field(self, name: &str) -> Option<Member<'s, Table>> {
        if let Some(definition) = self.definition {
            let Some(field) = definition.field(name) else {
                let shape = Table::free();
                // Of a type without fields nothing is known either.
                let open = definition.open || definition.fields.is_empty();
                return open.then_some(Member { shape, declared: false, default: None });
            };
            let shape = Table::place(&field.ty, Some(field));
            return Some(Member {
                shape,
                declared: true,
                default: field.default.as_ref().or_else(|| zero(field)),
            });
        }
        let element = match self.ty {
            Some(Type::Map(element)) => element,
            _ if self.is_free() => {
                return Some(Member { shape: Table::free(), declared: false, default: None });
            }
            _ => return None,
        };
        Some(Member { shape: Table::place(element, None), declared: false, default: None })
    }

    fn is_read(self) -> bool {
        true
    }
}

/// What Go prints for a field that it always prints.
fn zero(field: &Field) -> Option<&'static Value> {
    if field.omitempty || field.omitzero || field.pointer {
        return None;
    }
    match field.ty {
        Type::String => Some(&NO_TEXT),
        Type::Int32 | Type::Int64 | Type::Number => Some(&ZERO),
        Type::Bool => Some(&FALSE),
        _ => None,
    }
}
