//! One object as the cache holds it: its JSON, and beside it what selectors and controllers ask for.

use std::any::Any;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use actors::TraceContext;
use bytes::Bytes;
use memchr::memmem;
use parking_lot::Mutex;
use protocol::{Object, resources};
use serde_json::Value;

use crate::store::{Record, parse_key};

use super::meta::{self, Meta};
use super::splice::{with_first_resource_version, with_resource_version};

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

/// Why a stored object is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl Stored {
    /// Splices the revision in and parses what is kept beside the JSON.
    pub(super) fn parse(record: &Record, parsed: Arc<Parsed>) -> Result<Self, ParseError> {
        let json = with_resource_version(&record.value, record.mod_revision)
            .ok_or_else(|| ParseError("it is not a JSON object with metadata".to_owned()))?;
        let meta = meta::of_json(&record.key, &json).map_err(|e| ParseError(e.to_string()))?;
        Ok(Stored::of(record, json, meta, parsed))
    }

    /// The same of a record that was announced, with what is known of it since.
    pub(super) fn announced(record: &Record, meta: Meta, parsed: Arc<Parsed>) -> Option<Self> {
        let json = with_first_resource_version(&record.value, record.mod_revision)?;
        Some(Stored::of(record, json, meta, parsed))
    }

    fn of(record: &Record, json: Bytes, meta: Meta, parsed: Arc<Parsed>) -> Self {
        Stored {
            key: record.key.as_str().into(),
            json,
            meta,
            revision: record.mod_revision,
            create_revision: record.create_revision,
            trace: record.trace,
            typed: Mutex::new(None),
            parsed,
        }
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
        Cow::Owned(meta::field_of_json(&self.json, path).map(String::from).unwrap_or_default())
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
