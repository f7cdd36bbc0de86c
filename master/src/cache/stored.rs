//! One object as the cache holds it: its JSON, and beside it what selectors and controllers ask for.

use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use actors::TraceContext;
use bytes::Bytes;
use memchr::memmem;
use parking_lot::Mutex;
use protocol::{Object, resources};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::store::{Record, parse_key};

use super::splice::with_resource_version;

/// JSON bytes of the objects whose parsed form is kept; the forms themselves are a few times as big.
const PARSED_BYTES_MAX: usize = 4 << 20;

/// One object at one revision. Immutable.
pub struct Stored {
    /// The store's key.
    pub key: Arc<str>,
    /// The object as clients get it: with resourceVersion, kind and apiVersion.
    pub json: Bytes,
    /// The parts of it that are asked for often.
    pub meta: Meta,
    /// Store revision, which is also its resourceVersion.
    pub revision: u64,
    /// Revision at which the key came to be.
    pub create_revision: u64,
    /// The message whose handler wrote it.
    pub trace: TraceContext,
    typed: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
    parsed: Arc<Parsed>,
}

/// Two states are the same when key and revision are; values are not compared.
impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.key == other.key
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

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

/// Why a stored object is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl Stored {
    /// Splices the revision in and parses what is kept beside the JSON.
    pub(super) fn parse(record: &Record, parsed: Arc<Parsed>) -> Result<Self, ParseError> {
        let json = with_resource_version(&record.value, record.mod_revision)
            .ok_or_else(|| ParseError("it is not a JSON object with metadata".to_owned()))?;
        let meta = parse_meta(&record.key, &json).map_err(|e| ParseError(e.to_string()))?;
        Ok(Stored {
            key: record.key.as_str().into(),
            json,
            meta,
            revision: record.mod_revision,
            create_revision: record.create_revision,
            trace: record.trace,
            typed: Mutex::new(None),
            parsed,
        })
    }

    /// The last state of a deleted object, at the deletion's revision.
    pub(super) fn at_deletion(&self, revision: u64, trace: TraceContext) -> Self {
        Stored {
            key: self.key.clone(),
            json: with_resource_version(&self.json, revision).unwrap_or_else(|| self.json.clone()),
            meta: self.meta.clone(),
            revision,
            create_revision: self.create_revision,
            trace,
            typed: Mutex::new(None),
            parsed: self.parsed.clone(),
        }
    }

    /// API group (empty for core), plural resource name.
    pub fn kind(&self) -> (&str, &str) {
        parse_key(&self.key).map_or(("", ""), |parts| (parts.group, parts.resource))
    }

    /// A field's value as selectors compare it. Fields of kinds that are no kinds of the table are not kept,
    /// but looked up.
    pub fn field(&self, path: &str) -> Cow<'_, str> {
        let (group, plural) = self.kind();
        if path.starts_with("metadata.") || resources::find_any(group, plural).is_some() {
            return Cow::Borrowed(self.meta.field(path));
        }
        let members = serde_json::from_slice::<Members<'_>>(&self.json).ok();
        Cow::Owned(members.and_then(|m| descend(&m, path)).map(String::from).unwrap_or_default())
    }

    /// Whether its JSON has a member of that name anywhere; or a text of these words. Costs a small part of parsing it.
    pub fn mentions(&self, name: &str) -> bool {
        let bytes = name.as_bytes();
        memmem::find_iter(&self.json, bytes).any(|at| {
            let before = at.checked_sub(1).and_then(|i| self.json.get(i));
            before == Some(&b'"') && self.json.get(at + bytes.len()) == Some(&b'"')
        })
    }

    /// The object as untyped JSON; parsed anew at each call.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.json)
    }

    /// The object as a typed one, without its `managedFields`; parsed once and shared as long as it is in use
    /// or was used lately. A write of it keeps the managed fields that are stored, as one without any does.
    pub fn typed<K: Object>(self: &Arc<Self>) -> Result<Arc<K>, serde_json::Error> {
        if let Some(known) = self.typed.lock().clone()
            && let Ok(object) = known.downcast::<K>()
        {
            return Ok(object);
        }
        let mut object: K = serde_json::from_slice(&self.json)?;
        // Often more than all the rest, and nothing that decides looks at them.
        object.metadata_mut().managed_fields = None;
        let object = Arc::new(object);
        let replaced = self.typed.lock().replace(object.clone());
        if replaced.is_none() {
            self.parsed.keep(self);
        }
        Ok(object)
    }

    /// Bytes that this takes, roughly.
    pub fn size(&self) -> usize {
        self.json.len() + self.key.len() + 256
    }
}

/// Objects whose parsed form is kept, oldest first; bounded by the size of their JSON.
#[derive(Default)]
pub(super) struct Parsed {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    objects: VecDeque<(Weak<Stored>, usize)>,
    bytes: usize,
}

impl Parsed {
    fn keep(&self, stored: &Arc<Stored>) {
        let size = stored.size();
        let mut dropped = Vec::new();
        {
            let mut kept = self.kept.lock();
            kept.objects.push_back((Arc::downgrade(stored), size));
            kept.bytes += size;
            while kept.bytes > PARSED_BYTES_MAX {
                let Some((oldest, size)) = kept.objects.pop_front() else { break };
                kept.bytes -= size;
                dropped.extend(oldest.upgrade());
            }
        }
        for stored in dropped {
            stored.typed.lock().take();
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

fn parse_meta(key: &str, json: &[u8]) -> Result<Meta, serde_json::Error> {
    let members: Members<'_> = serde_json::from_slice(json)?;
    let raw: Metadata<'_> = match members.get("metadata") {
        Some(raw) => serde_json::from_str(raw.get())?,
        None => Metadata::default(),
    };
    let selectable = parse_key(key)
        .and_then(|parts| resources::find_any(parts.group, parts.resource))
        .map_or(&[][..], |resource| resource.selectable);
    let mut sections = Sections { members: &members, read: BTreeMap::new() };
    let fields = selectable.iter().filter_map(|path| field(&mut sections, path).map(|value| (*path, value)));
    Ok(Meta {
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
    })
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
fn field(sections: &mut Sections<'_>, path: &str) -> Option<Box<str>> {
    let found = match path {
        // An event's source is the component that reports it, under its old or its new name.
        "source" => sections.find("source.component").or_else(|| sections.find("reportingComponent")),
        _ => sections.find(path),
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
    match serde_json::from_str(raw).ok()? {
        Value::String(text) => Some(text.into()),
        Value::Bool(b) => Some(if b { "true" } else { "false" }.into()),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    }
}
