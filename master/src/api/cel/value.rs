//! Values of expressions. What comes from an object is looked at where it is, not copied.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::{Caller, Quantity};
use serde_json::{Map, Value as Json};
use time::OffsetDateTime;

use super::time::parse_time;
use super::types::{Identity, Type};
use crate::api::custom::schema::formats::duration;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Arc<str>),
    /// `bytes`
    Bytes(Arc<[u8]>),
    /// A duration in nanoseconds.
    Duration(i64),
    /// A time.
    Timestamp(OffsetDateTime),
    /// A list that an expression made.
    List(Arc<Vec<Value<'a>>>),
    /// What came of a list of an object and another, and what tells its entries apart.
    Merged(Arc<Vec<Value<'a>>>, &'a Identity),
    /// A list of an object, its entries' type, and what tells them apart.
    JsonList(&'a [Json], &'a Type, &'a Identity),
    /// A map that an expression made.
    Map(Arc<Vec<(Value<'a>, Value<'a>)>>),
    /// A map that an expression is given, in which each key that is not there stands for an empty map.
    Open(Arc<Vec<(Value<'a>, Value<'a>)>>),
    /// A map or object of an object.
    JsonMap(&'a Map<String, Json>, &'a Type),
    /// An object of a named type that an expression made.
    Struct(Arc<str>, Arc<BTreeMap<String, Value<'a>>>),
    /// A value that may be absent.
    Optional(Option<Arc<Value<'a>>>),
    /// A type.
    Type(Arc<str>),
    /// A value of Kubernetes' libraries.
    Opaque(Opaque),
    /// A part of an object that is not what its type says: whoever reads it fails.
    Misread,
}

/// Why what is [`Value::Misread`] cannot be read. Only of a text is so little sure: one that has a format may be a
/// list.
pub const MISREAD: &str = "invalid data, expected string, got []interface {}";

/// Values of Kubernetes' libraries.
#[derive(Clone, Debug)]
pub enum Opaque {
    /// A URL.
    Url(Arc<super::library::Url>),
    /// An address.
    Ip(IpAddr),
    /// A network.
    Cidr(ipnet::IpNet),
    /// A quantity.
    Quantity(Quantity),
    /// A version.
    Semver(Arc<super::library::Semver>),
    /// A form of texts.
    Format(&'static str),
    /// Whom the authorizer is asked about.
    Authorizer(Arc<Caller>),
    /// A question to the authorizer.
    Check(Arc<crate::auth::Attributes>),
    /// Its answer: allowed, and why.
    Decision(bool, Arc<str>),
}

static DYN: Type = Type::Dyn;

impl<'a> Value<'a> {
    /// A part of an object as a value of a type.
    pub fn of(json: &'a Json, ty: &'a Type) -> Value<'a> {
        match (json, ty) {
            (Json::Null, _) => Value::Null,
            (Json::Bool(b), _) => Value::Bool(*b),
            (Json::Number(n), Type::Double) => Value::Double(n.as_f64().unwrap_or_default()),
            (Json::Number(n), _) => match n.as_i64() {
                Some(n) => Value::Int(n),
                None => Value::Double(n.as_f64().unwrap_or_default()),
            },
            (Json::String(s), Type::Bytes) => match STANDARD.decode(s) {
                Ok(bytes) => Value::Bytes(bytes.into()),
                Err(_) => Value::String(s.as_str().into()),
            },
            (Json::String(s), Type::Duration) => {
                duration(s).map_or_else(|| Value::String(s.as_str().into()), Value::Duration)
            }
            (Json::String(s), Type::Timestamp) => {
                let time = parse_time(s).or_else(|| parse_time(&format!("{s}T00:00:00Z")));
                time.map_or_else(|| Value::String(s.as_str().into()), Value::Timestamp)
            }
            (Json::String(s), _) => Value::String(s.as_str().into()),
            (Json::Array(items), Type::List(of, identity)) => Value::JsonList(items, of, identity),
            (Json::Array(_), Type::String | Type::Bytes | Type::Duration | Type::Timestamp) => Value::Misread,
            (Json::Array(items), _) => Value::JsonList(items, &DYN, &Identity::Place),
            (Json::Object(map), ty) => Value::JsonMap(map, ty),
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) | Value::Merged(..) | Value::JsonList(..) => "list",
            Value::JsonMap(_, Type::Object(object)) => &object.name,
            Value::Map(_) | Value::Open(_) | Value::JsonMap(..) => "map",
            Value::Struct(name, _) => name,
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Misread => "error",
            Value::Opaque(opaque) => match opaque {
                Opaque::Url(_) => "kubernetes.URL",
                Opaque::Ip(_) => "net.IP",
                Opaque::Cidr(_) => "net.CIDR",
                Opaque::Quantity(_) => "kubernetes.Quantity",
                Opaque::Semver(_) => "kubernetes.Semver",
                Opaque::Format(_) => "kubernetes.NamedFormat",
                Opaque::Authorizer(_) => "kubernetes.authorization.Authorizer",
                Opaque::Check(_) => "kubernetes.authorization.ResourceCheck",
                Opaque::Decision(..) => "kubernetes.authorization.Decision",
            },
        }
    }

    /// A text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Value::String(text.into())
    }

    /// The entries of a list; `None` for anything else.
    pub fn items(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::List(items) | Value::Merged(items, _) => Some(items.to_vec()),
            Value::JsonList(items, of, _) => Some(items.iter().map(|item| Value::of(item, of)).collect()),
            _ => None,
        }
    }

    /// The entries of a map; `None` for anything else.
    pub fn entries(&self) -> Option<Vec<(Value<'a>, Value<'a>)>> {
        match self {
            Value::Map(entries) | Value::Open(entries) => Some(entries.to_vec()),
            Value::JsonMap(map, ty) => {
                let one = |(name, json): (&'a String, &'a Json)| {
                    (Value::text(name.as_str()), Value::of(json, entry_type(ty, name)))
                };
                Some(map.iter().map(one).collect())
            }
            Value::Struct(_, fields) => {
                Some(fields.iter().map(|(n, v)| (Value::text(n.as_str()), v.clone())).collect())
            }
            _ => None,
        }
    }

    /// How many entries, characters or bytes there are.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Value::String(s) => s.chars().count(),
            Value::Bytes(b) => b.len(),
            Value::List(items) | Value::Merged(items, _) => items.len(),
            Value::JsonList(items, ..) => items.len(),
            Value::Map(entries) | Value::Open(entries) => entries.len(),
            Value::JsonMap(map, _) => map.len(),
            Value::Struct(_, fields) => fields.len(),
            _ => return None,
        })
    }

    /// A field or an entry by its name.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::JsonMap(map, Type::Object(object)) => {
                let (own, ty) = object.field(name)?;
                map.get(own).filter(|v| !v.is_null()).map(|json| Value::of(json, ty))
            }
            Value::JsonMap(map, ty) => map.get(name).map(|json| Value::of(json, entry_type(ty, name))),
            Value::Struct(_, fields) => fields.get(name).cloned(),
            Value::Map(_) => self.written(name),
            Value::Open(_) => Some(self.written(name).unwrap_or_else(|| Value::Map(Arc::default()))),
            _ => None,
        }
    }

    /// An entry that really is there.
    fn written(&self, name: &str) -> Option<Value<'a>> {
        let (Value::Map(entries) | Value::Open(entries)) = self else { return self.field(name) };
        let found = entries.iter().find(|(key, _)| matches!(key, Value::String(k) if **k == *name));
        found.map(|(_, value)| value.clone())
    }

    /// Whether a map has a key; `None` for anything else.
    pub fn has_key(&self, key: &Value<'_>) -> Option<bool> {
        match (self, key) {
            (Value::Open(_), Value::String(name)) => Some(self.written(name).is_some()),
            (of, key) => of.entries().map(|_| of.entry(key).is_some()),
        }
    }

    /// An entry of a map by its key.
    pub fn entry(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Value::Map(entries), key) => entries.iter().find(|(k, _)| k.same(key)).map(|(_, v)| v.clone()),
            (_, Value::String(name)) => self.field(name),
            _ => None,
        }
    }

    /// What tells its entries apart, if it is a list.
    fn identity(&self) -> &'a Identity {
        match self {
            Value::JsonList(_, _, identity) | Value::Merged(_, identity) => identity,
            _ => &Identity::Place,
        }
    }

    /// Two lists in one: of a set or a map, what comes again replaces what was there.
    pub fn joined(&self, other: &Value<'a>) -> Option<Value<'a>> {
        let (mut made, more) = (self.items()?, other.items()?);
        let identity = self.identity();
        let mut places: HashMap<String, usize> = HashMap::new();
        if !matches!(identity, Identity::Place) {
            places.extend(made.iter().enumerate().filter_map(|(i, item)| Some((identity.key(item)?, i))));
        }
        for item in more {
            let key = identity.key(&item);
            match key.as_ref().and_then(|key| places.get(key)) {
                Some(place) => made[*place] = item,
                None => {
                    places.extend(key.map(|key| (key, made.len())));
                    made.push(item);
                }
            }
        }
        let made = Arc::new(made);
        Some(match identity {
            Identity::Place => Value::List(made),
            identity => Value::Merged(made, identity),
        })
    }

    /// Whether it is, or has anywhere in it, what cannot be read.
    pub fn is_misread(&self) -> bool {
        match self {
            Value::Misread => true,
            Value::JsonList(items, of, _) => items.iter().any(|item| misread(item, of)),
            Value::JsonMap(map, ty) => map.iter().any(|(name, json)| misread(json, entry_type(ty, name))),
            _ => false,
        }
    }

    /// Whether two values are equal.
    pub fn same(&self, other: &Value<'_>) -> bool {
        if let (Some(a), Some(b)) = (self.items(), other.items()) {
            return a.len() == b.len() && self.identity().pairs(&a, &b, |a, b| a.same(b));
        }
        // Parts of objects have fields that expressions cannot name, and values that they take for absent.
        if let (Value::JsonMap(a, of_a), Value::JsonMap(b, of_b)) = (self, other) {
            return a.len() == b.len()
                && a.iter().all(|(name, a)| {
                    let b = b.get(name).map(|b| Value::of(b, entry_type(of_b, name)));
                    b.is_some_and(|b| Value::of(a, entry_type(of_a, name)).same(&b))
                });
        }
        if let (Some(a), Some(_)) = (self.entries(), other.entries()) {
            return self.size() == other.size()
                && a.iter().all(|(key, value)| other.entry(key).is_some_and(|o| value.same(&o)));
        }
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.same(b),
                (None, None) => true,
                _ => false,
            },
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Opaque(a), Value::Opaque(b)) => match (a, b) {
                (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
                (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
                (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
                (Opaque::Semver(a), Opaque::Semver(b)) => a.order(b).is_eq(),
                (Opaque::Url(a), Opaque::Url(b)) => a == b,
                (Opaque::Format(a), Opaque::Format(b)) => a == b,
                _ => false,
            },
            (a, b) => a.order(b).is_some_and(Ordering::is_eq),
        }
    }

    /// The order of two values that have one.
    pub fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
            (Value::Int(a), Value::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Value::Uint(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (a, b) => return a.number()?.partial_cmp(&b.number()?),
        })
    }

    fn number(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Uint(n) => Some(*n as f64),
            Value::Double(n) => Some(*n),
            _ => None,
        }
    }

    /// The value as JSON; `None` for what JSON has no form for.
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Uint(n) => (*n).into(),
            Value::Double(n) => (*n).into(),
            Value::String(s) => (&**s).into(),
            Value::Bytes(b) => STANDARD.encode(b).into(),
            Value::Duration(n) => super::time::print_duration(*n).into(),
            Value::Timestamp(t) => protocol::schema::decode::print_time(*t).into(),
            Value::JsonList(items, ..) => items.to_vec().into(),
            Value::JsonMap(map, _) => Json::Object((*map).clone()),
            Value::List(items) | Value::Merged(items, _) => {
                items.iter().map(Value::to_json).collect::<Option<Vec<_>>>()?.into()
            }
            Value::Map(_) | Value::Open(_) | Value::Struct(..) => {
                let mut made = Map::new();
                for (key, value) in self.entries()? {
                    let Value::String(key) = key else { return None };
                    made.insert(key.to_string(), value.to_json()?);
                }
                made.into()
            }
            Value::Optional(Some(inner)) => inner.to_json()?,
            Value::Optional(None) | Value::Type(_) | Value::Misread => return None,
            Value::Opaque(Opaque::Quantity(q)) => q.to_string().into(),
            Value::Opaque(Opaque::Ip(ip)) => ip.to_string().into(),
            Value::Opaque(Opaque::Cidr(net)) => net.to_string().into(),
            Value::Opaque(_) => return None,
        })
    }
}

/// Whether a part of an object has anything in it that cannot be read as its type.
fn misread(json: &Json, ty: &Type) -> bool {
    match json {
        Json::Array(_) | Json::Object(_) => Value::of(json, ty).is_misread(),
        _ => false,
    }
}

/// The type of an entry of a map, or of a field.
fn entry_type<'a>(ty: &'a Type, name: &str) -> &'a Type {
    match ty {
        Type::Map(_, of) => of,
        Type::Object(object) => {
            object.fields.values().find(|(own, _)| own == name).map_or(&DYN, |(_, ty)| ty)
        }
        _ => &DYN,
    }
}

impl Identity {
    /// What an entry is known by; nothing where it is known by its place.
    fn key(&self, entry: &Value<'_>) -> Option<String> {
        match self {
            Identity::Place => None,
            Identity::Value => Some(entry.to_json()?.to_string()),
            Identity::Keys(keys) => {
                let said = |of: &Map<String, Json>| {
                    keys.iter().map(|key| format!("{}\n", of.get(key).unwrap_or(&Json::Null))).collect()
                };
                match entry {
                    Value::JsonMap(map, _) => Some(said(map)),
                    made => made.to_json()?.as_object().map(said),
                }
            }
        }
    }

    /// Whether each entry of a list has its like in another that is as long.
    fn pairs(
        &self,
        a: &[Value<'_>],
        b: &[Value<'_>],
        alike: impl Fn(&Value<'_>, &Value<'_>) -> bool,
    ) -> bool {
        if matches!(self, Identity::Place) {
            return a.iter().zip(b).all(|(a, b)| alike(a, b));
        }
        let known: HashMap<String, &Value<'_>> =
            a.iter().filter_map(|entry| Some((self.key(entry)?, entry))).collect();
        b.iter().all(|b| self.key(b).and_then(|key| known.get(&key)).is_some_and(|a| alike(a, b)))
    }
}
