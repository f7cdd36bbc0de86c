//! What the two versions of OpenAPI write differently.

use serde_json::{Value, json};

/// A version of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Version 2.
    V2,
    /// Version 3.
    V3,
}

impl Form {
    /// A reference to a definition.
    pub fn reference(self, name: &str) -> Value {
        let place = match self {
            Form::V2 => "definitions",
            Form::V3 => "components/schemas",
        };
        json!({"$ref": format!("#/{place}/{name}")})
    }

    /// A reference to one of the meta package's.
    pub fn meta(self, name: &str) -> Value {
        self.reference(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
    }

    /// A schema that more can be said beside. In version 3 a reference has no room for that.
    pub fn roomy(self, schema: Value) -> Value {
        match self {
            Form::V3 if schema.get("$ref").is_some() => json!({"allOf": [schema]}),
            _ => schema,
        }
    }

    /// A schema of what is one of these types. Version 2 has no words for that: there it is text.
    pub fn either(self, types: [&str; 2], mut schema: Value) -> Value {
        match self {
            Form::V2 => schema["type"] = "string".into(),
            Form::V3 => schema["oneOf"] = types.map(|one| json!({"type": one})).into_iter().collect(),
        }
        schema
    }

    /// A schema with words.
    pub fn described(self, schema: Value, said: &str) -> Value {
        let mut made = self.roomy(schema);
        made["description"] = said.into();
        made
    }
}
