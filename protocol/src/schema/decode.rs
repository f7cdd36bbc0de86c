//! Reading objects the way Go's typed decoder does: wrong types are refused with its words, unknown and
//! repeated fields are reported, absent and zero fields come out as Go would print them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::{Alternative, Definition, Empties, Field, Type, binary, embedded, numbers, times};
use crate::quantity::{Quantity, QuantityError};

/// An object as read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, in the form that Go would print.
    pub value: Value,
    /// What strict validation refuses, in order of appearance: `unknown field "spec.x"`, `duplicate field …`.
    pub strict: Vec<String>,
    /// What was given as empty, of which the object's form knows nothing.
    pub empties: Empties,
}

/// How much of what strict validation finds is told.
pub(crate) const STRICT_ERRORS_MAX: usize = 100;

/// Reads JSON text as an object of `definition`. The error is Go's message.
pub fn decode(definition: &'static Definition, text: &[u8]) -> Result<Decoded, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let decoded = read(definition, &mut deserializer).map_err(|e| numbers::as_written(e, text))?;
    deserializer.end().map_err(|e| e.to_string())?;
    Ok(decoded)
}

/// Reads a JSON value as an object of `definition`, and leaves a copy of it that is right.
pub fn decode_value(definition: &'static Definition, value: &Value) -> Result<Decoded, String> {
    read(definition, value)
}

/// [`decode_value`] in place: what is right already is neither copied nor built anew. Returns what strict validation
/// refuses, and what was given as empty. After an error the value is neither what it was nor what it should be.
pub fn decode_in(
    definition: &'static Definition,
    value: &mut Value,
) -> Result<(Vec<String>, Empties), String> {
    let mut report = Report::default();
    let seed = Seed { ty: None, field: None, parent: Some(definition), root: true, report: &mut report };
    seed.read_in(value);
    match report.error {
        Some(error) => Err(error),
        None => {
            let empties = Empties::of(definition, value);
            finish_in(definition, value);
            Ok((report.strict, empties))
        }
    }
}

fn read<'de, D: Deserializer<'de>>(
    definition: &'static Definition,
    deserializer: D,
) -> Result<Decoded, String>
where
    D::Error: fmt::Display,
{
    let mut report = Report::default();
    let seed = Seed { ty: None, field: None, parent: Some(definition), root: true, report: &mut report };
    let value = seed.deserialize(deserializer).map_err(|e| e.to_string())?;
    match report.error {
        Some(error) => Err(error),
        None => {
            let empties = Empties::of(definition, &value);
            Ok(Decoded { value: finish(definition, value), strict: report.strict, empties })
        }
    }
}

#[derive(Default)]
struct Report {
    /// Names from the root, for `unknown field "spec.containers[0].x"`.
    path: Vec<Segment>,
    strict: Vec<String>,
    error: Option<String>,
    /// The error ended Go's reading, and so came before those that it goes on after.
    ended: bool,
}

enum Segment {
    /// A field of a definition.
    Name(Cow<'static, str>, &'static Definition),
    Key(String),
    Index(usize),
}

impl Report {
    fn text(&self, last: &str) -> String {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Index(i) => text.push_str(&format!("[{i}]")),
                Segment::Name(name, _) => dotted(&mut text, name),
                Segment::Key(name) => dotted(&mut text, name),
            }
        }
        dotted(&mut text, last);
        text
    }

    /// Takes the last name of the path back out of it.
    fn leave(&mut self) -> String {
        match self.path.pop() {
            Some(Segment::Name(name, _)) => name.into_owned(),
            Some(Segment::Key(name)) => name,
            Some(Segment::Index(_)) | None => String::new(),
        }
    }

    fn strict(&mut self, what: &str, name: &str) {
        if self.strict.len() < STRICT_ERRORS_MAX {
            let text = format!("{what} field {:?}", self.text(name));
            // What is there twice is told once.
            if !self.strict.contains(&text) {
                self.strict.push(text);
            }
        }
    }

    /// Go's path in type errors has only names of fields, and of the structs that they are embedded with.
    fn go_path(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for segment in &self.path {
            if let Segment::Name(name, definition) = segment {
                // Metadata of declared kinds is read by itself.
                if std::ptr::eq(*definition, super::custom()) {
                    continue;
                }
                names.extend(embedded::within(definition, name));
                names.push(name);
            }
        }
        names.join(".")
    }

    /// An error that Go goes on after: the first of these counts.
    fn fail(&mut self, message: String) {
        self.error.get_or_insert(message);
    }

    /// An error of a type that reads itself. Go's reading ends with it, whatever was found before.
    fn end(&mut self, message: String) {
        if !self.ended {
            (self.error, self.ended) = (Some(message), true);
        }
    }
}

fn dotted(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

/// Reads one value of a type; `parent` is the struct whose field (or whose field's element) it is.
struct Seed<'r> {
    ty: Option<&'static Type>,
    field: Option<&'static Field>,
    parent: Option<&'static Definition>,
    root: bool,
    report: &'r mut Report,
}

/// What is expected within an object or a list: the type, and whose field it is.
#[derive(Clone, Copy)]
struct Inner {
    ty: Option<&'static Type>,
    field: Option<&'static Field>,
    parent: Option<&'static Definition>,
}

impl Inner {
    /// What a field of an object may hold; `None` where there is no such field.
    fn of(definition: &'static Definition, name: &str) -> Option<Self> {
        match definition.field(name) {
            Some(found) => Some(Inner { ty: Some(&found.ty), field: Some(found), parent: Some(definition) }),
            None => definition.open.then_some(Inner { ty: Some(&Type::Any), field: None, parent: None }),
        }
    }

    fn seed(self, report: &mut Report) -> Seed<'_> {
        Seed { ty: self.ty, field: self.field, parent: self.parent, root: false, report }
    }
}

impl Seed<'_> {
    /// What a list holds, where there may be one.
    fn element(&self) -> Option<&'static Type> {
        match self.ty {
            Some(Type::List(element)) => Some(*element),
            Some(Type::Any) => Some(&Type::Any),
            _ => None,
        }
    }

    /// What a map holds, where there may be one.
    fn entry(&self) -> Option<&'static Type> {
        match self.ty {
            Some(Type::Map(element)) => Some(*element),
            Some(Type::Any) => Some(&Type::Any),
            _ => None,
        }
    }

    /// Reads a value where it lies.
    fn read_in(self, value: &mut Value) {
        if let Some(Type::Alternative(alternative)) = self.ty {
            return self.alternative(*alternative, value);
        }
        match value {
            Value::Null => {}
            Value::Bool(_) => {
                if !matches!(self.ty, Some(Type::Bool | Type::Any)) {
                    *value = self.other("bool");
                }
            }
            Value::Number(number) => *value = self.number(number.clone()),
            Value::String(text) => {
                if !matches!(self.ty, Some(Type::String | Type::Any | Type::IntOrString)) {
                    *value = self.scalar_text(text);
                }
            }
            Value::Array(items) => {
                let Some(element) = self.element() else {
                    *value = self.other("array");
                    return;
                };
                let Seed { field, parent, report, .. } = self;
                for (i, item) in items.iter_mut().enumerate() {
                    report.path.push(Segment::Index(i));
                    Inner { ty: Some(element), field, parent }.seed(report).read_in(item);
                    report.path.pop();
                }
            }
            Value::Object(map) => {
                let (definition, element) = (self.definition(), self.entry());
                if definition.is_none() && element.is_none() {
                    *value = self.other("object");
                    return;
                }
                let Seed { field, parent, report, .. } = self;
                map.retain(|name, value| {
                    let (inner, segment) = match definition {
                        None => (Inner { ty: element, field, parent }, Segment::Key(name.clone())),
                        Some(definition) => {
                            let Some(inner) = Inner::of(definition, name) else {
                                report.strict("unknown", name);
                                return false;
                            };
                            let known = inner.field.map(|field| Cow::Borrowed(field.name));
                            let named = known.unwrap_or_else(|| Cow::Owned(name.clone()));
                            (inner, Segment::Name(named, definition))
                        }
                    };
                    report.path.push(segment);
                    inner.seed(report).read_in(value);
                    report.path.pop();
                    true
                });
            }
        }
    }

    /// Reads what may be a schema. What is wrong within is told at its own place, as of what it is in.
    fn alternative(self, alternative: Alternative, value: &mut Value) {
        if let Err(why) = alternative.read_in(value) {
            let mismatch = why.strip_prefix("json: cannot unmarshal ").and_then(|rest| {
                let (got, into) = rest.split_once(" into Go ")?;
                Some((got, into.rsplit_once(" of type ")?.1))
            });
            let message = match mismatch {
                Some((got, of)) => self.mismatched(got, of),
                None => why,
            };
            self.report.end(message);
            *value = Value::Null;
        }
    }

    fn definition(&self) -> Option<&'static Definition> {
        if self.root { self.parent } else { self.ty.and_then(Type::definition) }
    }

    /// A value of the wrong kind: reported, and read as absent, as Go goes on after such an error.
    fn mismatch(self, got: &str) -> Value {
        let of = match (self.ty, self.definition()) {
            (_, Some(definition)) => struct_name(definition),
            (Some(ty), None) => go_type(ty, self.field),
            _ => String::new(),
        };
        let message = self.mismatched(got, &of);
        match self.ty {
            Some(Type::Time | Type::MicroTime | Type::IntOrString) => self.report.end(message),
            _ => self.report.fail(message),
        }
        Value::Null
    }

    /// Go's words for a value of another kind than this place has.
    fn mismatched(&self, got: &str, of: &str) -> String {
        match self.parent {
            Some(parent) if !self.root => format!(
                "json: cannot unmarshal {got} into Go struct field {}.{} of type {of}",
                parent.go_name(),
                self.report.go_path()
            ),
            _ => format!("json: cannot unmarshal {got} into Go value of type {of}"),
        }
    }

    /// Whether this is an amount of a `ResourceList`, which knows no finer amounts than thousandths.
    fn in_resources(&self) -> bool {
        let listed = self.field.is_some_and(|field| matches!(field.ty, Type::Map(Type::Quantity)));
        listed && self.parent.is_some_and(|parent| parent.name.starts_with("a.core.v1."))
    }

    fn scalar_text(self, text: &str) -> Value {
        match self.ty {
            Some(Type::String | Type::Any | Type::IntOrString) => Value::String(text.to_owned()),
            Some(Type::Bytes) => binary::canonical(text).map_or_else(
                |error| {
                    self.report.fail(error);
                    Value::Null
                },
                Value::String,
            ),
            Some(Type::Quantity) => {
                let written = Quantity::written(text, self.in_resources());
                self.checked(written.map_err(|e| e.to_string()))
            }
            Some(ty @ (Type::Time | Type::MicroTime)) => self.checked(time(text, *ty == Type::MicroTime)),
            _ => self.mismatch("string"),
        }
    }

    /// What is neither a text nor a number: Go reads quantities from whatever is there.
    fn other(self, got: &str) -> Value {
        match self.ty {
            Some(Type::Quantity) => self.checked(Err(QuantityError::Form.to_string())),
            _ => self.mismatch(got),
        }
    }

    /// A text of a type that reads itself; one that it cannot read is reported and read as absent.
    fn checked(self, text: Result<String, String>) -> Value {
        text.map_or_else(
            |error| {
                self.report.end(error);
                Value::Null
            },
            Value::String,
        )
    }

    fn number(self, number: Number) -> Value {
        let whole = number.as_i64();
        match self.ty {
            Some(Type::Int32) if whole.is_some_and(|n| i32::try_from(n).is_ok()) => Value::Number(number),
            Some(Type::Int64) if whole.is_some() => Value::Number(number),
            Some(Type::IntOrString) if whole.is_some_and(|n| i32::try_from(n).is_ok()) => {
                Value::Number(number)
            }
            Some(Type::Int32 | Type::Int64 | Type::IntOrString) => self.mismatch(&format!("number {number}")),
            Some(Type::Number | Type::Any) => Value::Number(number),
            Some(Type::Quantity) => self.scalar_text(&number.to_string()),
            _ => self.mismatch("number"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if let Some(Type::Alternative(alternative)) = self.ty {
            let mut value = Value::deserialize(deserializer)?;
            self.alternative(*alternative, &mut value);
            return Ok(value);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(match self.ty {
            Some(Type::Bool | Type::Any) => Value::Bool(value),
            _ => self.other("bool"),
        })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // YAML knows numbers that JSON does not; Go would not print them either.
        Ok(match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.mismatch("number"),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(self.scalar_text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let element = match self.element() {
            Some(element) => element,
            None if self.ty == Some(&Type::Bytes) => {
                let mut numbers = Vec::new();
                while let Some(number) = items.next_element::<Value>()? {
                    numbers.push(number);
                }
                let wrong = match binary::of_numbers(&numbers) {
                    Ok(bytes) => return Ok(Value::String(bytes)),
                    Err(wrong) => wrong,
                };
                let message = self.mismatched(&wrong, "uint8");
                self.report.fail(message);
                return Ok(Value::Null);
            }
            None => {
                while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                return Ok(self.other("array"));
            }
        };
        let Seed { field, parent, report, .. } = self;
        let mut read = Vec::new();
        loop {
            report.path.push(Segment::Index(read.len()));
            let item = items.next_element_seed(Inner { ty: Some(element), field, parent }.seed(report));
            report.path.pop();
            match item? {
                Some(item) => read.push(item),
                None => return Ok(Value::Array(read)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let definition = self.definition();
        let element = self.entry();
        if definition.is_none() && element.is_none() {
            while entries.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            return Ok(self.other("object"));
        }
        let kept = self.field.is_some() && self.ty == Some(&Type::Any);
        let Seed { field, parent, report, .. } = self;
        let mut read = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let repeated = read.contains_key(&name);
            // Within what is kept as it is, nobody looks.
            if repeated && !kept {
                report.strict("duplicate", &name);
            }
            let inner = match definition {
                None => Inner { ty: element, field, parent },
                Some(definition) => match Inner::of(definition, &name) {
                    Some(inner) => inner,
                    None => {
                        report.strict("unknown", &name);
                        entries.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    }
                },
            };
            // The name lies in the path while what it leads to is read, and is taken back from there.
            report.path.push(match definition {
                Some(definition) => Segment::Name(Cow::Owned(name), definition),
                None => Segment::Key(name),
            });
            let value = entries.next_value_seed(inner.seed(report));
            let name = report.leave();
            let value = value?;
            match definition.filter(|_| repeated).and_then(|_| read.get_mut(&name)) {
                Some(before) => read_on(before, value),
                None => {
                    read.insert(name, value);
                }
            }
        }
        Ok(Value::Object(read))
    }
}

/// A field that comes again is read into what is there already, as Go does: objects gain entries.
fn read_on(before: &mut Value, value: Value) {
    match (before, value) {
        (Value::Object(entries), Value::Object(more)) => entries.extend(more),
        (before, value) => *before = value,
    }
}

fn struct_name(definition: &Definition) -> String {
    let mut parts = definition.name.rsplit('.');
    let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version = if matches!(version, "m" | "x" | "g") { "v1" } else { version };
    format!("{version}.{name}")
}

/// Lists and maps that have a name of their own in Go.
const COLLECTIONS: [&str; 4] =
    ["ExtraValue", "ValidationRules", "JSONSchemaDefinitions", "JSONSchemaDependencies"];

fn go_type(ty: &Type, field: Option<&Field>) -> String {
    let collection = field.filter(|f| COLLECTIONS.contains(&f.go)).and_then(Field::go_type);
    let named = if collection.is_some() { None } else { field.and_then(Field::go_type) };
    let scalar = |plain: &str| named.clone().unwrap_or_else(|| plain.to_owned());
    match ty {
        Type::String => scalar("string"),
        Type::Bool => scalar("bool"),
        Type::Int32 => scalar("int32"),
        Type::Int64 => scalar("int64"),
        Type::Number => scalar("float64"),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Time => "string".to_owned(),
        Type::MicroTime => "string".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        // What is no text is read as a number.
        Type::IntOrString => "int32".to_owned(),
        Type::Any | Type::Alternative(_) => scalar("interface {}"),
        Type::Object(_) => ty.definition().map(struct_name).unwrap_or_default(),
        Type::List(element) => collection.unwrap_or_else(|| format!("[]{}", go_entry(element, field))),
        Type::Map(Type::Quantity) if named.is_some() => "v1.ResourceList".to_owned(),
        Type::Map(Type::Object(_) | Type::Alternative(_)) if collection.is_some() => {
            collection.unwrap_or_default()
        }
        Type::Map(element) => {
            let key = field.map(|f| f.keyed).filter(|k| !k.is_empty());
            let key = key.map_or_else(|| "string".to_owned(), |key| format!("v1.{key}"));
            format!("map[{key}]{}", go_entry(element, field))
        }
    }
}

/// The type of entries, which are not read yet where what is around them cannot be.
fn go_entry(ty: &Type, field: Option<&Field>) -> String {
    match ty {
        Type::Time => "v1.Time".to_owned(),
        Type::MicroTime => "v1.MicroTime".to_owned(),
        ty => go_type(ty, field),
    }
}

/// Reads a time as Go does and prints it in UTC.
fn time(text: &str, micro: bool) -> Result<String, String> {
    if let Some(error) = times::error(text, micro) {
        return Err(error);
    }
    let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|e| format!("parsing time {text:?}: {e}"))?;
    Ok(if micro { print_micro(parsed) } else { print_time(parsed) })
}

/// A time as objects carry it: UTC, whole seconds.
pub fn print_time(at: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(form).unwrap_or_default()
}

/// A time as leases and events carry it: UTC, microseconds.
pub fn print_micro(at: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    at.to_offset(time::UtcOffset::UTC).format(form).unwrap_or_default()
}

/// Leaves out what Go leaves out, and adds what it always prints.
pub fn finish(definition: &'static Definition, mut value: Value) -> Value {
    finish_in(definition, &mut value);
    value
}

/// [`finish`] in place: what is right already is not built anew.
pub fn finish_in(definition: &'static Definition, value: &mut Value) {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { return };
    // Built-in kinds are stored as protobuf, which cannot tell an empty list from none.
    let builtin = definition.name.starts_with("a.");
    map.retain(|name, value| match definition.field(name) {
        Some(field) => {
            // What is kept as it was written, is.
            if builtin && field.ty != Type::Any && value.as_array().is_some_and(Vec::is_empty) {
                *value = Value::Null;
            }
            finish_field(field, value)
        }
        None => definition.open,
    });
    for field in &definition.fields {
        let silent = field.omitempty && (field.pointer || !is_struct(&field.ty));
        if silent || map.contains_key(field.name) {
            continue;
        }
        let mut value = Value::Null;
        if finish_field(field, &mut value) {
            map.insert(field.name.to_owned(), value);
        }
    }
}

/// Brings a field's value into its form. Whether it is printed.
fn finish_field(field: &'static Field, value: &mut Value) -> bool {
    if !(matches!(field.ty, Type::Object(_)) && value.is_null() && field.pointer) {
        finish_value(&field.ty, value);
    }
    let zero = match &*value {
        Value::Null => true,
        Value::Bool(b) => !field.pointer && !b,
        Value::Number(n) => !field.pointer && n.as_f64() == Some(0.0) && field.ty != Type::IntOrString,
        Value::String(s) => !field.pointer && s.is_empty(),
        Value::Array(items) => items.is_empty() && field.ty != Type::Any,
        Value::Object(map) => map.is_empty() && matches!(field.ty, Type::Map(_)),
    };
    let zero_struct = !field.pointer && matches!(&*value, Value::Object(map) if map.is_empty());
    if (zero && field.omitempty && (field.pointer || !is_struct(&field.ty)))
        || (field.omitzero && (zero || zero_struct))
    {
        return false;
    }
    if value.is_null() && !field.pointer {
        *value = match field.ty {
            Type::String | Type::Bytes => Value::String(String::new()),
            Type::Int32 | Type::Int64 | Type::Number => 0.into(),
            Type::Bool => false.into(),
            Type::Quantity => "0".into(),
            Type::IntOrString => 0.into(),
            _ => Value::Null,
        };
    }
    true
}

/// Whether Go's `omitempty` has no effect: a struct that is not behind a pointer.
fn is_struct(ty: &Type) -> bool {
    matches!(ty, Type::Object(_) | Type::Time | Type::MicroTime | Type::Quantity | Type::IntOrString)
}

fn finish_value(ty: &'static Type, value: &mut Value) {
    match (ty, value) {
        (Type::Object(_), value) => {
            if let Some(definition) = ty.definition() {
                finish_in(definition, value);
            }
        }
        (Type::List(element), Value::Array(items)) => {
            items.iter_mut().for_each(|item| finish_element(element, item));
        }
        (Type::Map(element), Value::Object(map)) => {
            map.values_mut().for_each(|value| finish_element(element, value));
        }
        _ => {}
    }
}

/// Elements are never left out: an absent one is a zero.
fn finish_element(ty: &'static Type, value: &mut Value) {
    finish_value(ty, value);
    if value.is_null() {
        *value = match ty {
            Type::String | Type::Bytes => Value::String(String::new()),
            Type::Int32 | Type::Int64 | Type::Number => 0.into(),
            Type::Quantity => "0".into(),
            _ => return,
        };
    }
}
