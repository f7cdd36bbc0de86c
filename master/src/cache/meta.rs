//! What is kept of an object beside its JSON: metadata, and the fields that selectors may ask for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use protocol::resources;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::store::parse_key;

/// The parsed metadata, and the values of selectable fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Uid.
    pub uid: Box<str>,
    /// Labels.
    pub labels: Labels,
    /// Owner references.
    pub owners: Box<[OwnerRef]>,
    /// Finalizers.
    pub finalizers: Box<[Box<str>]>,
    /// When its deletion began or begins, as the API spells times.
    pub deletion_timestamp: Option<Box<str>>,
    /// When it was created, as the API spells times.
    pub creation_timestamp: Box<str>,
    /// Generation of its spec.
    pub generation: i64,
    /// Values of the fields that the kind's selectors may use; empty values are left out.
    fields: Box<[(&'static str, Box<str>)]>,
}

/// Labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// A label's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a map.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
}

/// An owner reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerRef {
    /// The owner's group and version.
    pub api_version: Box<str>,
    /// The owner's kind.
    pub kind: Box<str>,
    /// The owner's name.
    pub name: Box<str>,
    /// The owner's uid.
    pub uid: Box<str>,
    /// The owner manages the object.
    pub controller: bool,
    /// The owner's foreground deletion waits for the object.
    pub block_owner_deletion: bool,
}

impl Meta {
    /// Whether the object is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// The owner that manages it.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// A selectable field's value; empty when the object has none (or the kind no such field).
    pub fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => &self.name,
            "metadata.namespace" => &self.namespace,
            _ => self.fields.iter().find(|(p, _)| *p == path).map_or("", |(_, value)| value),
        }
    }

    /// `namespace/name`, or `name` for cluster-scoped objects.
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    owner_references: Option<Vec<OwnerRef>>,
    finalizers: Option<Vec<Box<str>>>,
    deletion_timestamp: Option<Box<str>>,
    creation_timestamp: Option<Box<str>>,
    generation: Option<i64>,
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// What is kept of an object that lies in the store as this JSON.
pub(super) fn of_json(key: &str, json: &[u8]) -> Result<Meta, serde_json::Error> {
    let members: Members<'_> = serde_json::from_slice(json)?;
    let raw: Metadata<'_> = match members.get("metadata") {
        Some(raw) => serde_json::from_str(raw.get())?,
        None => Metadata::default(),
    };
    let mut sections = Sections { members: &members, read: BTreeMap::new() };
    Ok(made(key, raw, |path| sections.find(path)))
}

/// The same of an object that was not printed yet; `None` where its JSON would not be understood.
pub(super) fn of_value(key: &str, object: &Map<String, Value>) -> Option<Meta> {
    let raw = match object.get("metadata") {
        Some(raw) => Metadata::deserialize(raw).ok()?,
        None => Metadata::default(),
    };
    Some(made(key, raw, |path| found(object, path)))
}

/// The field of an object's JSON at a path, as selectors compare it.
pub(super) fn field_of_json(json: &[u8], path: &str) -> Option<Box<str>> {
    descend(&serde_json::from_slice::<Members<'_>>(json).ok()?, path)
}

fn made(key: &str, raw: Metadata<'_>, mut find: impl FnMut(&str) -> Option<Box<str>>) -> Meta {
    let selectable = parse_key(key)
        .and_then(|parts| resources::find_any(parts.group, parts.resource))
        .map_or(&[][..], |resource| resource.selectable);
    let fields = selectable.iter().filter_map(|path| field(&mut find, path).map(|value| (*path, value)));
    Meta {
        namespace: raw.namespace.into(),
        name: raw.name.into(),
        uid: raw.uid.into(),
        labels: Labels(raw.labels.unwrap_or_default().into_iter().collect()),
        owners: raw.owner_references.unwrap_or_default().into(),
        finalizers: raw.finalizers.unwrap_or_default().into(),
        deletion_timestamp: raw.deletion_timestamp,
        creation_timestamp: raw.creation_timestamp.unwrap_or_default(),
        generation: raw.generation.unwrap_or_default(),
        fields: fields.collect(),
    }
}

/// An object whose parts are each taken apart but once, however many of their fields are looked for.
struct Sections<'a> {
    members: &'a Members<'a>,
    read: BTreeMap<String, Option<Members<'a>>>,
}

impl Sections<'_> {
    fn find(&mut self, path: &str) -> Option<Box<str>> {
        let Some((first, rest)) = path.split_once('.') else { return descend(self.members, path) };
        if !self.read.contains_key(first) {
            let section = self.members.get(first).and_then(|raw| serde_json::from_str(raw.get()).ok());
            self.read.insert(first.to_owned(), section);
        }
        descend(self.read.get(first)?.as_ref()?, rest)
    }
}

/// A field's value as selectors compare it; `None` when it is empty.
fn field(find: &mut impl FnMut(&str) -> Option<Box<str>>, path: &str) -> Option<Box<str>> {
    let found = match path {
        // An event's source is the component that reports it, under its old or its new name.
        "source" => find("source.component").or_else(|| find("reportingComponent")),
        _ => find(path),
    };
    match found {
        Some(value) => Some(value).filter(|v| !v.is_empty()),
        // Where absent means a value of its own.
        None => match path {
            "spec.unschedulable" | "spec.hostNetwork" => Some("false".into()),
            "status.replicas" | "status.successful" => Some("0".into()),
            _ => None,
        },
    }
}

fn descend(members: &Members<'_>, path: &str) -> Option<Box<str>> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let raw = members.get(first)?.get();
    if !rest.is_empty() {
        return descend(&serde_json::from_str::<Members<'_>>(raw).ok()?, rest);
    }
    text(&serde_json::from_str(raw).ok()?)
}

fn found(object: &Map<String, Value>, path: &str) -> Option<Box<str>> {
    match path.split_once('.') {
        Some((first, rest)) => found(object.get(first)?.as_object()?, rest),
        None => text(object.get(path)?),
    }
}

fn text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Bool(b) => Some(if *b { "true" } else { "false" }.into()),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    }
}
