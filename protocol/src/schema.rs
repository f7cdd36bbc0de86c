//! The field tables of the API types: what a field holds, how lists merge, what Go would leave out.
//!
//! Strategic merge, server-side apply, strict field validation, defaults, OpenAPI and the reading of
//! request bodies ([`decode`]) all work from these tables, so no kind needs code of its own there. The data
//! (`data/schema.txt`) is parsed once, at first use.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use self::places::Places;

mod alternative;
pub(crate) mod binary;
pub mod decode;
mod defaults;
mod embedded;
mod empties;
pub mod internal;
mod numbers;
mod places;
pub mod protobuf;
pub mod syntax;
pub(crate) mod times;
pub mod untyped;
pub mod written;

pub use alternative::Alternative;
pub use decode::{Decoded, decode, decode_in, decode_value};
pub use defaults::apply_defaults;
pub use empties::Empties;

/// What a field or an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// Any number.
    Number,
    /// Bytes in base64.
    Bytes,
    /// A time in seconds (RFC 3339).
    Time,
    /// A time in microseconds.
    MicroTime,
    /// A quantity.
    Quantity,
    /// An integer or text.
    IntOrString,
    /// Any JSON, kept as it is.
    Any,
    /// A JSON schema, or what may stand in its place.
    Alternative(Alternative),
    /// An object of this definition.
    Object(usize),
    /// A list of these.
    List(&'static Type),
    /// A map from text to these.
    Map(&'static Type),
}

impl Type {
    /// The definition of an object type.
    pub fn definition(&self) -> Option<&'static Definition> {
        match self {
            Type::Object(index) => SCHEMA.definitions.get(*index),
            _ => None,
        }
    }

    /// The element type of a list or a map.
    pub fn element(&self) -> Option<&'static Type> {
        match self {
            Type::List(element) | Type::Map(element) => Some(element),
            _ => None,
        }
    }
}

/// How the entries of a list belong together, as server-side apply sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Entries are their own keys.
    Set,
    /// Entries are found by key fields.
    Map,
}

/// One field of a definition.
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// What it holds.
    pub ty: Type,
    /// Its place in the order in which Go declares the fields. What it is comes first.
    pub order: u16,
    /// Must be given.
    pub required: bool,
    /// Absent differs from zero.
    pub pointer: bool,
    /// Left out when zero.
    pub omitempty: bool,
    /// Left out when it is a zero struct.
    pub omitzero: bool,
    /// How list entries belong together.
    pub list: ListKind,
    /// Keys of a map-like list.
    pub keys: &'static [&'static str],
    /// The map or object is replaced as a whole by server-side apply.
    pub atomic: bool,
    /// It is not, though its type is elsewhere.
    pub granular: bool,
    /// Strategic merge merges the list instead of replacing it.
    pub merge: bool,
    /// Strategic merge replaces the object instead of merging it.
    pub replace: bool,
    /// Strategic merge clears fields that the patch does not list in `$retainKeys`.
    pub retain_keys: bool,
    /// The field that identifies entries in a strategic merge.
    pub merge_key: &'static str,
    /// Allowed values, of a list's or a map's elements too; empty for any.
    pub values: &'static [&'static str],
    /// Value of an absent field.
    pub default: Option<Value>,
    /// The Go type in error messages, where it has a name of its own; of what is in a list or a map, but for
    /// those that have a name themselves.
    pub go: &'static str,
    /// The Go type of a map's keys, where it has a name of its own.
    pub keyed: &'static str,
}

impl Field {
    /// The Go type in error messages, with its package, where it has a name of its own.
    pub fn go_type(&self) -> Option<String> {
        match self.go {
            "" => None,
            "UID" => Some("types.UID".to_owned()),
            name if name.contains(['[', '.']) => Some(name.to_owned()),
            name => Some(format!("v1.{name}")),
        }
    }
}

/// Fields of which there is only one at a time.
#[derive(Clone, Debug)]
pub struct Union {
    /// The field that says which, by its name with a capital; empty where none does.
    pub discriminator: &'static str,
    /// The fields.
    pub fields: &'static [&'static str],
}

/// The fields of one object type.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Short name, such as `a.core.v1.Pod`.
    pub name: &'static str,
    /// Group, version and kind, for types that stand alone.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// Fields that are not listed may be there too, and are kept as they are.
    pub open: bool,
    /// No OpenAPI document lists it.
    pub unlisted: bool,
    /// Of some fields there is only one at a time.
    pub union: Option<Union>,
    /// Fields, sorted by name.
    pub fields: Vec<Field>,
    /// Where in `fields` a name stands.
    places: Places,
}

impl Definition {
    /// The field of that JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.places.candidates(name).filter_map(|i| self.fields.get(i)).find(|field| field.name == name)
    }

    /// The type's name without its package, such as `PodSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The name that OpenAPI documents use, such as `io.k8s.api.core.v1.Pod`.
    pub fn full_name(&self) -> String {
        let (short, rest) = self.name.split_at(2);
        PREFIXES
            .iter()
            .find(|(s, _)| *s == short)
            .map_or_else(|| self.name.to_owned(), |(_, long)| format!("{long}{rest}"))
    }
}

const PREFIXES: [(&str, &str); 5] = [
    ("a.", "io.k8s.api."),
    ("m.", "io.k8s.apimachinery.pkg.apis.meta.v1."),
    ("p.", "io.k8s.apimachinery.pkg."),
    ("x.", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."),
    ("g.", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1."),
];

/// Every definition.
pub fn all() -> &'static [Definition] {
    &SCHEMA.definitions
}

/// A definition by its short name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    SCHEMA.by_name.get(name).map(|i| &SCHEMA.definitions[*i])
}

/// The definition of objects whose kind a client declared: metadata, and whatever else there is.
pub fn custom() -> &'static Definition {
    &CUSTOM
}

static CUSTOM: LazyLock<Definition> = LazyLock::new(|| {
    let fields = ["apiVersion s o", "kind s o", "metadata @m.ObjectMeta o"];
    let fields: Vec<Field> = fields.iter().map(|line| field(line, &SCHEMA.by_name)).collect();
    let places = Places::of(fields.iter().map(|field| field.name));
    Definition {
        name: "custom",
        gvk: None,
        atomic: false,
        open: true,
        unlisted: false,
        union: None,
        fields,
        places,
    }
});

/// The definition of a kind.
pub fn kind(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    SCHEMA.by_gvk.get(&(group, version, kind)).map(|i| &SCHEMA.definitions[*i])
}

/// The definition of what an object says it is.
pub fn of(value: &Value) -> Option<&'static Definition> {
    let name = value.get("kind")?.as_str()?;
    // Some discovery documents do not say that they are of `v1`.
    let api_version = value.get("apiVersion").map_or(Some("v1"), Value::as_str)?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let version = if (group, version) == ("meta.k8s.io", "v1beta1") { "v1" } else { version };
    kind(group, version, name)
}

/// The field behind a path of names; lists and maps are passed through (`spec`, `containers`, `image`).
pub fn field_at<'a>(
    root: &'static Definition,
    path: impl IntoIterator<Item = &'a str>,
) -> Option<&'static Field> {
    let (mut at, mut found) = (Some(root), None);
    for name in path {
        let field = at?.field(name)?;
        let mut ty = &field.ty;
        while let Some(element) = ty.element() {
            ty = element;
        }
        (at, found) = (ty.definition(), Some(field));
    }
    found
}

struct Schema {
    definitions: Vec<Definition>,
    by_name: HashMap<&'static str, usize>,
    by_gvk: HashMap<(&'static str, &'static str, &'static str), usize>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| parse(include_str!("../data/schema.txt")));

/// Types that Go reads and prints by code of their own.
fn scalar(name: &str) -> Option<Type> {
    Some(match name {
        "m.Time" => Type::Time,
        "m.MicroTime" => Type::MicroTime,
        "p.api.resource.Quantity" => Type::Quantity,
        "p.util.intstr.IntOrString" => Type::IntOrString,
        "p.runtime.RawExtension" | "m.FieldsV1" | "m.Patch" | "x.JSON" => Type::Any,
        _ => return alternative::named(name),
    })
}

/// How many fields come before whatever is in a message: `kind` and `apiVersion`.
const FIELDS_OF_TYPE_META: u16 = 2;

fn parse(text: &'static str) -> Schema {
    let names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("def ")).collect();
    let by_name = names.iter().enumerate().map(|(i, l)| (l.split(' ').next().unwrap_or(l), i)).collect();
    let mut schema = Schema { definitions: Vec::with_capacity(names.len()), by_name, by_gvk: HashMap::new() };
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("def ") {
            let mut made = Definition {
                name: "",
                gvk: None,
                atomic: false,
                open: false,
                unlisted: false,
                union: None,
                fields: Vec::new(),
                places: Places::default(),
            };
            for (i, word) in rest.split(' ').enumerate() {
                match word.split_once('=') {
                    None if i == 0 => made.name = word,
                    Some(("gvk", gvk)) => {
                        let mut parts = gvk.split('/');
                        let mut next = || parts.next().unwrap_or_default();
                        made.gvk = Some((next(), next(), next()));
                    }
                    Some(("map", value)) => made.atomic = value == "atomic",
                    Some(("union", value)) => {
                        made.union = value.split_once(':').map(|(discriminator, fields)| Union {
                            discriminator,
                            fields: split(fields, ','),
                        });
                    }
                    None => made.unlisted = word == "unlisted",
                    _ => {}
                }
            }
            schema.definitions.push(made);
        } else {
            let made = field(line, &schema.by_name);
            if let Some(last) = schema.definitions.last_mut() {
                last.fields.push(made);
            }
        }
    }
    for (i, definition) in schema.definitions.iter_mut().enumerate() {
        for (order, field) in (FIELDS_OF_TYPE_META..).zip(&mut definition.fields) {
            field.order = order;
        }
        definition.fields.sort_by_key(|f| f.name);
        definition.places = Places::of(definition.fields.iter().map(|field| field.name));
        embedded::number(definition);
        if let Some(gvk) = definition.gvk {
            schema.by_gvk.entry(gvk).or_insert(i);
        }
    }
    schema
}

fn field(line: &'static str, names: &HashMap<&'static str, usize>) -> Field {
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (name, ty, flags) = (next(), next(), next());
    let mut field = Field {
        name,
        ty: type_of(ty, names),
        order: 0,
        required: flags.contains('r'),
        pointer: flags.contains('*'),
        omitempty: flags.contains('o'),
        omitzero: flags.contains('z'),
        list: ListKind::Atomic,
        keys: &[],
        atomic: false,
        granular: false,
        merge: false,
        replace: false,
        retain_keys: false,
        merge_key: "",
        values: &[],
        default: None,
        go: "",
        keyed: "",
    };
    for (key, value) in words.filter_map(|w| w.split_once('=')) {
        match key {
            "list" => {
                field.list = match value {
                    "set" => ListKind::Set,
                    "map" => ListKind::Map,
                    _ => ListKind::Atomic,
                }
            }
            "keys" => field.keys = split(value, ','),
            "map" => (field.atomic, field.granular) = (value == "atomic", value == "granular"),
            "patch" => {
                field.merge = value.contains("merge");
                field.replace = value == "replace";
                field.retain_keys = value.contains("retainKeys");
            }
            "key" => field.merge_key = value,
            // Words end at spaces.
            "enum" if value.contains('~') => field.values = split(value.replace('~', " ").leak(), '|'),
            "enum" => field.values = split(value, '|'),
            "default" => field.default = serde_json::from_str(value).ok(),
            "go" => field.go = value,
            "keyed" => field.keyed = value,
            _ => {}
        }
    }
    field
}

/// Parts of a word of the table, which is read once and kept.
fn split(value: &'static str, by: char) -> &'static [&'static str] {
    value.split(by).collect::<Vec<_>>().leak()
}

fn type_of(text: &'static str, names: &HashMap<&'static str, usize>) -> Type {
    let (first, rest) = text.split_at(1);
    let element = || -> &'static Type { Box::leak(Box::new(type_of(rest, names))) };
    match first {
        "s" => Type::String,
        "b" => Type::Bool,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "n" => Type::Number,
        "B" => Type::Bytes,
        "[" => Type::List(element()),
        "{" => Type::Map(element()),
        "@" => scalar(rest).or_else(|| names.get(rest).map(|i| Type::Object(*i))).unwrap_or(Type::Any),
        _ => Type::Any,
    }
}

#[cfg(test)]
mod tests;
