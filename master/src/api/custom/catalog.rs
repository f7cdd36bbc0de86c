//! The catalog: every kind that is served at one state of the store, the table's and the declared ones.
//!
//! It is immutable. Whoever needs a consistent view of the kinds holds one; the next one shares with it what
//! did not change.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use protocol::Target;
use protocol::resources::{self, Resource};

use super::conversion::Foreseen;
use super::kind::CustomKind;
use super::{DEFINITIONS, Version};
use crate::api::openapi::Declared;
use crate::api::registry::Subject;
use crate::cache::{Cache, Derived, Snapshot, Stored};
use crate::front::discovery::Documents;

type Entry = (u64, Arc<CustomKind>);

/// Every served kind.
#[derive(Default)]
pub struct Catalog {
    /// Definitions that are established, by group and plural; each with the revision that it was made from.
    kinds: BTreeMap<&'static str, BTreeMap<&'static str, Entry>>,
    discovery: OnceLock<Documents>,
    openapi: OnceLock<Declared>,
}

/// A kind that was found, in one version.
#[derive(Clone)]
pub struct Found {
    /// The kind.
    pub resource: &'static Resource,
    /// Its declaration, if it is no kind of the table.
    pub custom: Option<Arc<CustomKind>>,
    /// Where a webhook converts its versions: what the request needs converted beside its object.
    pub foreseen: Option<Arc<Foreseen>>,
}

impl Found {
    fn of_table(group: &str, version: &str, plural: &str) -> Option<Self> {
        let resource = resources::find(group, version, plural)?;
        Some(Found { resource, custom: None, foreseen: None })
    }

    /// The kind's whole collection; `None` when the version is not served any more.
    pub fn subject(&self) -> Option<Subject<'_>> {
        match &self.custom {
            None => Subject::new(self.resource, "", "").ok(),
            Some(kind) => kind.version(self.resource.version).map(|v| Subject::custom(v, "", "")),
        }
    }
}

impl Derived for Catalog {
    const KINDS: &'static [(&'static str, &'static str)] = &[DEFINITIONS];

    fn derive(before: Option<&Self>, snapshot: &Snapshot) -> Self {
        let mut known: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in before.into_iter().flat_map(|b| b.kinds.values().flat_map(BTreeMap::values)) {
            known.insert(&entry.1.uid, entry);
        }
        let make = |stored: &Arc<Stored>| -> Option<Entry> {
            if let Some(same) = known.get(&*stored.meta.uid).filter(|(at, _)| *at == stored.revision) {
                return Some((*same).clone());
            }
            let value = stored.value().ok()?;
            CustomKind::of(&value, &stored.meta.uid, stored.revision).map(|kind| (stored.revision, kind))
        };
        let (group, plural) = DEFINITIONS;
        let mut kinds: BTreeMap<&str, BTreeMap<&str, Entry>> = BTreeMap::new();
        for entry in snapshot.list(group, plural, "").filter_map(make) {
            kinds.entry(entry.1.group).or_default().insert(entry.1.plural, entry);
        }
        Catalog { kinds, discovery: OnceLock::new(), openapi: OnceLock::new() }
    }
}

impl Catalog {
    /// The kind behind a path, as of the cache's newest state, which only declared kinds need to be looked up in.
    pub fn find_in(cache: &Cache, target: &Target) -> Option<Found> {
        let (group, version, plural) = (&target.group, &target.version, &target.resource);
        Found::of_table(group, version, plural)
            .or_else(|| cache.derived::<Catalog>().declared(group, version, plural))
    }

    /// The kind behind a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Found> {
        Found::of_table(group, version, plural).or_else(|| self.declared(group, version, plural))
    }

    fn declared(&self, group: &str, version: &str, plural: &str) -> Option<Found> {
        let kind = self.custom(group, plural)?;
        let version = kind.version(version)?;
        let foreseen = version.webhook.as_ref().map(|_| Arc::default());
        Some(Found { resource: version.resource, custom: Some(kind.clone()), foreseen })
    }

    /// A declared kind.
    pub fn custom(&self, group: &str, plural: &str) -> Option<&Arc<CustomKind>> {
        self.kinds.get(group)?.get(plural).map(|(_, kind)| kind)
    }

    /// A declared kind in one version.
    pub fn version(&self, resource: &Resource) -> Option<&Version> {
        self.custom(resource.group, resource.plural)?.version(resource.version)
    }

    /// Every declared kind, by group and plural.
    pub fn customs(&self) -> impl Iterator<Item = &Arc<CustomKind>> {
        self.kinds.values().flat_map(BTreeMap::values).map(|(_, kind)| kind)
    }

    /// The kind of a group, in the version that is preferred.
    pub fn find_any(&self, group: &str, plural: &str) -> Option<&'static Resource> {
        resources::find_any(group, plural)
            .or_else(|| self.custom(group, plural)?.versions.first().map(|v| v.resource))
    }

    /// The kind by its own name.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&'static Resource> {
        resources::by_kind(api_version, kind).or_else(|| {
            let (group, version) = api_version.split_once('/')?;
            let mut all = self.customs().filter(|k| k.group == group).filter_map(|k| k.version(version));
            all.find(|v| v.resource.kind == kind).map(|v| v.resource)
        })
    }

    /// Every served kind in every served version: the table's in its order, then the declared ones.
    pub fn all(&self) -> impl Iterator<Item = &'static Resource> {
        let custom = self.customs().flat_map(|k| k.versions.iter().map(|v| v.resource));
        resources::all().iter().chain(custom)
    }

    /// Every kind that is stored, once: in the version that is stored, or the preferred one.
    pub fn stored(&self) -> impl Iterator<Item = &'static Resource> {
        let table = resources::all().iter().filter(|r| r.is_stored() && !r.is_view());
        table.chain(self.customs().filter_map(|k| k.versions.first().map(|v| v.resource)))
    }

    /// The discovery documents.
    pub fn discovery(&self) -> &Documents {
        self.discovery.get_or_init(|| Documents::new(&self.groups(), &self.all().collect::<Vec<_>>()))
    }

    /// The OpenAPI documents.
    pub fn openapi(&self) -> &Declared {
        self.openapi.get_or_init(|| Declared::new(self))
    }

    /// Groups with their versions, in discovery order; the first version is the preferred one.
    pub fn groups(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups = resources::groups().to_vec();
        let table = groups.len();
        for version in self.customs().flat_map(|k| &k.versions) {
            let (group, name) = (version.resource.group, version.resource.version);
            match groups.iter_mut().find(|(g, _)| *g == group) {
                Some((_, versions)) if versions.contains(&name) => {}
                Some((_, versions)) => versions.push(name),
                None => groups.push((group, vec![name])),
            }
        }
        for (_, versions) in &mut groups[table..] {
            versions.sort_by(|a, b| super::versions::compare(a, b));
        }
        groups
    }
}
