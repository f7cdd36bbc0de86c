//! Types of expressions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::api::custom::schema::{Additional, Schema};

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known only when it runs.
    Dyn,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Duration`
    Duration,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// A list, and what tells its entries apart.
    List(Arc<Type>, Identity),
    /// A map.
    Map(Arc<Type>, Arc<Type>),
    /// An object with known fields.
    Object(Arc<ObjectType>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A type as a value.
    Type(Named),
    /// What is wrong, of which enough was said: it is taken for anything.
    Error,
    /// A type of Kubernetes' libraries.
    Opaque(&'static str),
    /// A parameter of a function's type.
    Param(char),
    /// What the entries of something empty are: whatever they are first taken for.
    Unknown(u32),
}

/// Which type it is that is a value. It is no part of the value's type: any type may be compared to any other.
#[derive(Clone, Debug)]
pub struct Named(pub Arc<Type>);

impl PartialEq for Named {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Named {
    /// The type of a name.
    pub fn called(name: &str) -> Self {
        let dyns = || Arc::new(Type::Dyn);
        Named(Arc::new(match name {
            "list" => Type::list(Type::Dyn),
            "map" => Type::Map(dyns(), dyns()),
            "null_type" => Type::Null,
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "net.IP" => Type::Opaque("net.IP"),
            "net.CIDR" => Type::Opaque("net.CIDR"),
            name => Type::scalar(name).unwrap_or(Type::Dyn),
        }))
    }
}

/// What tells the entries of a list apart. It is no part of the list's type: lists of all sorts may stand where one
/// of their entries' type may.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    /// Where they stand.
    #[default]
    Place,
    /// What they are: the list is a set.
    Value,
    /// These fields of them: the list is a map.
    Keys(Arc<[String]>),
}

impl PartialEq for Identity {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Identity {
    fn of(schema: &Schema) -> Self {
        match schema.list_type.as_str() {
            "set" => Identity::Value,
            "map" => Identity::Keys(schema.list_keys.clone().into()),
            _ => Identity::Place,
        }
    }
}

/// An object with known fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectType {
    /// Name, for messages.
    pub name: String,
    /// Fields, by the name that expressions use, with the name in the object.
    pub fields: BTreeMap<String, (String, Type)>,
}

impl ObjectType {
    /// A field by the name that an expression uses. Words of the language may be used as they are, too.
    pub fn field(&self, name: &str) -> Option<&(String, Type)> {
        let reserved = || RESERVED.contains(&name).then(|| self.fields.get(&format!("__{name}__"))).flatten();
        self.fields.get(name).or_else(reserved)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn | Type::Unknown(_) => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(of, _) => write!(f, "list({of})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Object(object) => f.write_str(&object.name),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Type(Named(of)) => write!(f, "type({of})"),
            Type::Error => f.write_str("!error!"),
            Type::Opaque(name) => f.write_str(name),
            Type::Param(name) => write!(f, "{name}"),
        }
    }
}

impl Type {
    /// A list of entries of a type.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of), Identity::Place)
    }

    /// Its full name, as refusals of what an expression evaluates to have it.
    pub fn full_name(&self) -> String {
        match self {
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Type::Null => "null_type".to_owned(),
            Type::List(of, _) => format!("list({})", of.full_name()),
            Type::Map(key, value) => format!("map({}, {})", key.full_name(), value.full_name()),
            Type::Type(Named(of)) => format!("type({})", of.full_name()),
            other => other.to_string(),
        }
    }

    /// The simple type of a name, where there is one.
    pub fn scalar(name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            _ => return None,
        })
    }

    /// Whether there are no other types within it.
    pub fn is_whole(&self) -> bool {
        !matches!(self, Type::List(..) | Type::Map(..) | Type::Optional(_) | Type::Object(_) | Type::Type(_))
    }

    /// Whether it may be anything.
    pub fn is_open(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }
}

/// Words that the language keeps for itself.
pub const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name by which expressions call a field; `None` for fields that they cannot reach.
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::new();
    let chars: Vec<char> = name.chars().collect();
    let mut i = 0;
    while i < chars.len() {
        match chars[i] {
            '_' if chars.get(i + 1) == Some(&'_') => {
                out.push_str("__underscores__");
                i += 1;
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => out.push(c),
            _ => return None,
        }
        i += 1;
    }
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins.then_some(out)
}

/// Whether expressions call a field by a name. What is a word of the language may be called as it is, too.
pub fn is_called(field: &str, name: &str) -> bool {
    escape(field).as_deref() == Some(name) || (field == name && RESERVED.contains(&name))
}

/// The type of what a schema describes; `None` where rules may not look at it at all.
pub fn of_schema(schema: &Schema, resource: bool, name: &str) -> Type {
    if schema.int_or_string {
        return Type::Dyn;
    }
    match schema.ty.as_str() {
        "array" => {
            let of = schema
                .items
                .as_ref()
                .map_or(Type::Dyn, |items| of_schema(items, items.embedded, &format!("{name}.@idx")));
            Type::List(Arc::new(of), Identity::of(schema))
        }
        "object" => {
            if let Additional::Schema(of) = &schema.additional {
                let of = of_schema(of, of.embedded, &format!("{name}.@elem"));
                return Type::Map(Arc::new(Type::String), Arc::new(of));
            }
            let mut fields = BTreeMap::new();
            for (field, inner) in &schema.properties {
                // What is preserved without a type may be anything, and is out of reach.
                if inner.ty.is_empty() && !inner.int_or_string {
                    continue;
                }
                if let Some(escaped) = escape(field) {
                    let ty = of_schema(inner, inner.embedded, &format!("{name}.{field}"));
                    fields.insert(escaped, (field.clone(), ty));
                }
            }
            if resource {
                for field in ["apiVersion", "kind"] {
                    fields.insert(field.to_owned(), (field.to_owned(), Type::String));
                }
                let meta = ["name", "generateName"].map(|n| (n.to_owned(), (n.to_owned(), Type::String)));
                let meta =
                    ObjectType { name: format!("{name}.metadata"), fields: meta.into_iter().collect() };
                fields.insert("metadata".to_owned(), ("metadata".to_owned(), Type::Object(Arc::new(meta))));
            }
            Type::Object(Arc::new(ObjectType { name: name.to_owned(), fields }))
        }
        "string" => match schema.format.as_str() {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        "integer" => Type::Int,
        "number" => Type::Double,
        "boolean" => Type::Bool,
        _ => Type::Dyn,
    }
}
