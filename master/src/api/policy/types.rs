//! The types of the objects that policies are about, as their expressions would have them. Pure.
//!
//! Policies are evaluated without types, since one expression may meet many kinds; the types serve to warn.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::schema::{self, Definition, Type as FieldType};

use crate::api::cel::Type;
use crate::api::cel::types::{ObjectType, escape, of_schema};
use crate::api::custom::Catalog;

/// The type of a kind's objects; `None` where nobody declares their fields.
pub fn of_kind(catalog: &Catalog, api_version: &str, kind: &str) -> Option<Type> {
    let resource = catalog.by_kind(api_version, kind)?;
    let Some(version) = catalog.version(resource) else {
        let definition = schema::kind(resource.group, resource.version, resource.kind)?;
        return Some(Made::default().object(definition));
    };
    let mut made = match of_schema(version.fields.schema(), true, kind) {
        Type::Object(object) => (*object).clone(),
        other => return Some(other),
    };
    // Metadata is that of every object, whatever the schema says of it.
    if let Some(metadata) = schema::custom().field("metadata")
        && let Some(ty) = Made::default().field(&metadata.ty)
    {
        made.fields.insert("metadata".to_owned(), ("metadata".to_owned(), ty));
    }
    Some(Type::Object(Arc::new(made)))
}

/// The types that were made already, by the names of their definitions; those being made have none yet.
#[derive(Default)]
struct Made(BTreeMap<&'static str, Option<Type>>);

impl Made {
    fn object(&mut self, definition: &'static Definition) -> Type {
        match self.0.get(definition.name) {
            Some(Some(known)) => return known.clone(),
            // It contains itself.
            Some(None) => return Type::Dyn,
            None => {}
        }
        self.0.insert(definition.name, None);
        let fields = definition.fields.iter().filter_map(|field| {
            let ty = self.field(&field.ty)?;
            Some((escape(field.name)?, (field.name.to_owned(), ty)))
        });
        let fields: BTreeMap<_, _> = fields.collect();
        // Of a type without fields nothing is known.
        let made = match definition.open || fields.is_empty() {
            true => Type::Dyn,
            false => Type::Object(Arc::new(ObjectType { name: definition.go_name().to_owned(), fields })),
        };
        self.0.insert(definition.name, Some(made.clone()));
        made
    }

    /// The type of a field; `None` where expressions cannot name the field at all: quantities are declared as
    /// alternatives, of which upstream makes no type.
    fn field(&mut self, ty: &FieldType) -> Option<Type> {
        Some(match ty {
            FieldType::String => Type::String,
            FieldType::Bool => Type::Bool,
            FieldType::Int32 | FieldType::Int64 => Type::Int,
            FieldType::Number => Type::Double,
            FieldType::Bytes => Type::Bytes,
            FieldType::Time | FieldType::MicroTime => Type::Timestamp,
            FieldType::Quantity => return None,
            FieldType::IntOrString | FieldType::Any | FieldType::Alternative(_) => Type::Dyn,
            FieldType::Object(_) => ty.definition().map_or(Type::Dyn, |definition| self.object(definition)),
            FieldType::List(element) => Type::list(self.field(element)?),
            FieldType::Map(element) => Type::Map(Arc::new(Type::String), Arc::new(self.field(element)?)),
        })
    }
}
