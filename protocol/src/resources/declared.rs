//! Kinds that clients declare while the server runs.
//!
//! What a kind is called and may do is small, and the same few kinds come again whenever their declaration
//! changes. So each distinct identity is made once and lives as long as the program, as the table's kinds do;
//! schemas, which are big and change, are somebody else's. Identities are bounded in number and size: a client
//! that invents names for ever is refused at some point, and costs no more memory.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use parking_lot::Mutex;

use super::{Resource, Subresource};
use crate::request::Verb;

/// Bytes that all identities together may take; some hundred thousand kinds.
const BYTES_MAX: usize = 64 << 20;
/// What an identity takes beside its texts.
const BYTES_EACH: usize = size_of::<Resource>() + 2 * size_of::<Subresource>() + size_of::<Declaration>();

/// What declares one kind in one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Declaration {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Kind of the collection.
    pub list_kind: String,
    /// Plural name.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Short names.
    pub short_names: Vec<String>,
    /// Groups of kinds that it belongs to.
    pub categories: Vec<String>,
    /// Hash that discovery shows; never empty.
    pub storage_hash: String,
    /// Version in which objects are stored.
    pub storage_version: String,
    /// It has a `status` subresource.
    pub status: bool,
    /// It has a `scale` subresource.
    pub scale: bool,
    /// Fields that selectors may use.
    pub selectable: Vec<String>,
}

impl Declaration {
    fn texts(&self) -> impl Iterator<Item = &String> {
        let one = [
            &self.group,
            &self.version,
            &self.kind,
            &self.list_kind,
            &self.plural,
            &self.singular,
            &self.storage_hash,
            &self.storage_version,
        ];
        one.into_iter().chain(&self.short_names).chain(&self.categories).chain(&self.selectable)
    }
}

const VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];
const PART_VERBS: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

#[derive(Default)]
struct Pool {
    texts: HashSet<&'static str>,
    known: HashMap<Declaration, &'static Resource>,
    bytes: usize,
}

impl Pool {
    fn text(&mut self, text: &str) -> &'static str {
        if let Some(known) = self.texts.get(text) {
            return known;
        }
        let made: &'static str = Box::leak(text.into());
        self.texts.insert(made);
        made
    }

    fn texts(&mut self, texts: &[String]) -> &'static [&'static str] {
        texts.iter().map(|t| self.text(t)).collect::<Vec<_>>().leak()
    }

    fn declare(&mut self, declaration: &Declaration) -> Option<&'static Resource> {
        if let Some(known) = self.known.get(declaration) {
            return Some(known);
        }
        let size = BYTES_EACH + declaration.texts().map(|t| 2 * t.len() + 32).sum::<usize>();
        if self.bytes + size > BYTES_MAX {
            return None;
        }
        self.bytes += size;
        let kind = self.text(&declaration.kind);
        let mut subresources = Vec::new();
        if declaration.status {
            subresources.push(Subresource { name: "status", kind, api: None, verbs: PART_VERBS });
        }
        if declaration.scale {
            let api = Some(("autoscaling", "v1"));
            subresources.push(Subresource { name: "scale", kind: "Scale", api, verbs: PART_VERBS });
        }
        let group = self.text(&declaration.group);
        let resource = Resource {
            group,
            version: self.text(&declaration.version),
            kind,
            list_kind: self.text(&declaration.list_kind),
            plural: self.text(&declaration.plural),
            singular: self.text(&declaration.singular),
            namespaced: declaration.namespaced,
            verbs: VERBS,
            short_names: self.texts(&declaration.short_names),
            categories: self.texts(&declaration.categories),
            storage_hash: self.text(&declaration.storage_hash),
            storage: (group, self.text(&declaration.storage_version)),
            subresources: subresources.leak(),
            selectable: self.texts(&declaration.selectable),
            columns: &[],
            custom: true,
        };
        let resource: &'static Resource = Box::leak(Box::new(resource));
        self.known.insert(declaration.clone(), resource);
        Some(resource)
    }
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

/// The kind that a declaration stands for, always the same one for equal declarations; `None` when so many
/// were declared since the program started that no room is left.
pub fn declare(declaration: &Declaration) -> Option<&'static Resource> {
    POOL.lock().declare(declaration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(plural: String) -> Declaration {
        Declaration {
            group: "example.com".to_owned(),
            version: "v1".to_owned(),
            kind: "Thing".to_owned(),
            list_kind: "ThingList".to_owned(),
            plural,
            storage_hash: "h".to_owned(),
            storage_version: "v2".to_owned(),
            scale: true,
            ..Declaration::default()
        }
    }

    #[test]
    fn equal_declarations_are_one_kind() {
        let mut pool = Pool::default();
        let first = pool.declare(&declaration("things".to_owned())).expect("room");
        let bytes = pool.bytes;
        for _ in 0..1000 {
            let again = pool.declare(&declaration("things".to_owned())).expect("room");
            assert!(std::ptr::eq(first, again));
        }
        assert_eq!(pool.bytes, bytes);
        assert!(first.is_view() && first.custom && first.subresource("scale").is_some());
        assert_eq!(first.key("", "x"), "/registry/example.com/things/x");
    }

    #[test]
    fn there_is_an_end_to_new_names() {
        let mut pool = Pool { bytes: BYTES_MAX - 3 * (BYTES_EACH + 1000), ..Pool::default() };
        let made = (0..100).filter(|i| pool.declare(&declaration(format!("things{i}"))).is_some()).count();
        assert!((1..100).contains(&made), "{made}");
        assert!(pool.bytes <= BYTES_MAX);
    }
}
