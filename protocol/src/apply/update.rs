//! What a write does to the managers of an object, and what an applied configuration makes of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::compare::{Comparison, Filter, compare};
use super::created::created;
use super::element::{Element, same};
use super::fields::{fields, reconcile};
use super::managers::{Conflict, Managed, Manager, Operation, Owned, entry};
use super::merge::merge;
use super::remove::remove;
use super::set::Set;
use super::shape::Shape;
use super::validate::{Problems, validate};

/// The versions of a kind: every manager owns fields of the version that it writes.
pub trait Versions {
    /// What tells how objects merge.
    type Shape<'s>: Shape<'s>
    where
        Self: 's;

    /// The shape of a version; `None` for versions that are no longer served.
    fn shape(&self, version: &str) -> Option<Self::Shape<'_>>;

    /// An object of one version in another.
    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Cow<'v, Value>;

    /// Fields that a write of this version does not own.
    fn filter(&self, version: &str) -> Filter<'_>;
}

/// Why an update of managers or an apply fails.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Others own fields that the configuration changes.
    #[error("conflicts with other managers")]
    Conflicts(Vec<Conflict>),
    /// The configuration does not have the form of its kind.
    #[error("{0}")]
    Config(Problems),
    /// The object that is there does not have the form of its kind.
    #[error("{0}")]
    Live(Problems),
    /// The configuration cannot be merged.
    #[error("failed to merge config: {0}")]
    Merge(Problems),
    /// The objects cannot be compared.
    #[error("failed to compare objects: {0}")]
    Compare(Problems),
    /// An object does not have the form of another version, which some manager writes.
    #[error("failed to convert {0} object: {1}")]
    Convert(&'static str, Problems),
    /// What is there before the first apply does not have the form of its kind.
    #[error("{0}")]
    First(Problems),
    /// The version is not served.
    #[error("no type information for {0}")]
    Version(String),
    /// Some manager's version is none.
    #[error("unexpected GroupVersion string: {0}")]
    NoVersion(String),
}

/// Fields that belong to nobody, as they identify the object or are the server's.
static NOBODYS: LazyLock<Set> = LazyLock::new(|| {
    let own = ["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation"];
    let mut set = Set::of(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for name in own.into_iter().chain(["managedFields", "resourceVersion"]) {
        set.insert([Element::field("metadata"), Element::field(name)]);
    }
    set
});

/// How many updaters an object has at most.
const UPDATERS_MAX: usize = 10;

/// One write: who writes what version, from which state.
pub struct Write<'w, V> {
    /// The kind's versions.
    pub versions: &'w V,
    /// The version that is written.
    pub version: &'w str,
    /// The object as it is, in that version and without its managers; for a new one, all zero.
    pub live: &'w Value,
    /// Who writes.
    pub manager: Manager,
    /// Now, as objects spell times.
    pub now: &'w str,
}

impl<V: Versions> Write<'_, V> {
    fn shape(&self) -> Result<V::Shape<'_>, Refusal> {
        self.versions.shape(self.version).ok_or_else(|| Refusal::Version(self.version.to_owned()))
    }

    /// What a write changes of the fields that writers own.
    pub fn changes(&self, new: &Value) -> Result<Comparison, Refusal> {
        let shape = self.shape()?;
        formed(shape, new)?;
        formed(shape, self.live)?;
        let compared = compare(shape, self.live, new).map_err(Refusal::Compare)?;
        let compared = compared.filtered(self.versions.filter(self.version));
        Ok(Comparison {
            removed: compared.removed.difference(&NOBODYS),
            modified: compared.modified.difference(&NOBODYS),
            added: compared.added.difference(&NOBODYS),
        })
    }

    /// The managed fields of a new object that nobody managed yet, written: all that is in it is its writer's. Null
    /// where that is nothing. `live` is the object with nothing in it.
    pub fn create(&self, new: &Value) -> Result<Value, Refusal> {
        let shape = self.shape()?;
        formed(shape, new)?;
        match created(shape, self.live, new, self.versions.filter(self.version), &NOBODYS) {
            Some(Value::Object(fields)) if fields.is_empty() => Ok(Value::Null),
            Some(fields) => {
                Ok(Value::Array(vec![entry(&self.manager, self.version, Some(self.now), fields)]))
            }
            None => self.update(new, &self.changes(new)?, Managed::default()).map(|managed| managed.encode()),
        }
    }

    /// Gives the writer what it changes, and takes that from everybody else.
    pub fn update(
        &self,
        new: &Value,
        changes: &Comparison,
        mut managed: Managed,
    ) -> Result<Managed, Refusal> {
        self.reconcile(&mut managed)?;
        self.take(new, changes, &mut managed, None, true)?;
        let mut own = changes.changed();
        own = self.versions.filter(self.version).apply(&own).difference(&NOBODYS);
        if !own.is_empty() {
            let version = self.version.to_owned();
            let time = Some(self.now.to_owned());
            match managed.0.get_mut(&self.manager) {
                Some(owned) => {
                    owned.fields.extend(&own);
                    owned.version = version;
                    owned.time = time;
                }
                None => drop(managed.0.insert(self.manager.clone(), Owned { fields: own, version, time })),
            }
        }
        managed.cap_updaters(UPDATERS_MAX);
        Ok(managed)
    }

    /// Merges a configuration into the object. The new object is absent when nothing changes.
    pub fn apply(
        &self,
        config: &Value,
        mut managed: Managed,
        force: bool,
    ) -> Result<(Option<Value>, Managed), Refusal> {
        let shape = self.shape()?;
        validate(shape, config, false).map_err(Refusal::Config)?;
        validate(shape, self.live, true).map_err(Refusal::Live)?;
        self.reconcile(&mut managed)?;
        let merged = merge(shape, self.live, config).map_err(Refusal::Merge)?;
        let own = self.versions.filter(self.version).apply(&fields(shape, config));
        let time = managed.0.get(&self.manager).and_then(|o| o.time.clone());
        let owned = Owned { fields: own, version: self.version.to_owned(), time };
        let last = managed.0.insert(self.manager.clone(), owned);
        let new = match last {
            Some(last) if !last.fields.is_empty() => self.prune(merged, &last, &managed),
            _ => merged,
        };
        let compared = compare(shape, self.live, &new).map_err(Refusal::Compare)?;
        let compared = compared.filtered(self.versions.filter(self.version));
        self.take(&new, &compared, &mut managed, Some(&self.manager), force)?;
        if let Some(owned) = managed.0.get_mut(&self.manager) {
            owned.fields = owned.fields.difference(&NOBODYS);
            if owned.fields.is_empty() {
                managed.0.remove(&self.manager);
            }
        }
        if same(self.live, &new) {
            return Ok((None, managed));
        }
        if let Some(owned) = managed.0.get_mut(&self.manager) {
            owned.time = Some(self.now.to_owned());
        }
        Ok((Some(new), managed))
    }

    /// Brings all managers' fields to the present schema; managers of versions that are gone are dropped.
    fn reconcile(&self, managed: &mut Managed) -> Result<(), Refusal> {
        if let Some(owned) = managed.0.values().find(|owned| owned.version.matches('/').count() > 1) {
            return Err(Refusal::NoVersion(owned.version.clone()));
        }
        managed.0.retain(|_, owned| {
            let Some(shape) = self.versions.shape(&owned.version) else { return false };
            if let Some(fields) = reconcile(shape, &owned.fields) {
                owned.fields = fields;
            }
            true
        });
        Ok(())
    }

    /// Takes what a write changes or removes from everybody but `except`; without `force`, what it changes and
    /// others own is a conflict.
    fn take(
        &self,
        new: &Value,
        compared: &Comparison,
        managed: &mut Managed,
        except: Option<&Manager>,
        force: bool,
    ) -> Result<(), Refusal> {
        let mut others: BTreeMap<&str, Comparison> = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut losses: Vec<(Manager, Set)> = Vec::new();
        let changed = compared.changed();
        for (manager, owned) in &managed.0 {
            if Some(manager) == except {
                continue;
            }
            let (changed, removed) = if owned.version == self.version {
                (Cow::Borrowed(&changed), &compared.removed)
            } else {
                if !others.contains_key(owned.version.as_str()) {
                    let found = self.compare_as(new, &owned.version)?;
                    others.insert(&owned.version, found);
                }
                let Some(found) = others.get(owned.version.as_str()) else { continue };
                (Cow::Owned(found.changed()), &found.removed)
            };
            let lost = owned.fields.intersection(&changed);
            conflicts
                .extend(lost.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
            if !lost.is_empty() || !removed.is_empty() {
                losses.push((manager.clone(), lost.union(removed)));
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(Refusal::Conflicts(conflicts));
        }
        for (manager, lost) in losses {
            if let Some(owned) = managed.0.get_mut(&manager) {
                owned.fields = owned.fields.difference(&lost);
            }
        }
        managed.0.retain(|_, owned| !owned.fields.is_empty());
        Ok(())
    }

    /// The write's changes as a manager of another version sees them.
    fn compare_as(&self, new: &Value, version: &str) -> Result<Comparison, Refusal> {
        let Some(shape) = self.versions.shape(version) else { return Ok(Comparison::default()) };
        let old = self.versions.convert(self.live, self.version, version);
        let new = self.versions.convert(new, self.version, version);
        validate(shape, &old, true).map_err(|why| Refusal::Convert("old", why))?;
        validate(shape, &new, true).map_err(|why| Refusal::Convert("new", why))?;
        let compared = compare(shape, &old, &new).map_err(Refusal::Compare)?;
        Ok(compared.filtered(self.versions.filter(version)))
    }

    /// Removes what the manager applied last time, does not apply now, and nobody else owns.
    fn prune(&self, merged: Value, last: &Owned, managed: &Managed) -> Value {
        let Some(shape) = self.versions.shape(&last.version) else { return merged };
        let at_last = self.versions.convert(&merged, self.version, &last.version).into_owned();
        let mut pruned =
            (remove(shape, &at_last, &last.fields.with_named(Some(shape))), last.version.clone());
        let mut whole = (at_last.clone(), last.version.clone());
        let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
        for owned in managed.0.values() {
            by_version.entry(&owned.version).or_default().extend(&owned.fields);
        }
        // The version that was pruned comes first: conversion may need fields that are put back there.
        let first = by_version.remove_entry(last.version.as_str());
        for (version, owned) in first.into_iter().chain(by_version) {
            let Some(shape) = self.versions.shape(version) else { continue };
            whole = (self.versions.convert(&whole.0, &whole.1, version).into_owned(), version.to_owned());
            let cut = self.versions.convert(&pruned.0, &pruned.1, version);
            let stays = fields(shape, &cut).with_named(Some(shape)).union(&owned.with_named(Some(shape)));
            let gone = fields(shape, &whole.0).with_named(Some(shape)).difference(&stays);
            pruned = (remove(shape, &whole.0, &gone), version.to_owned());
        }
        // Only what this manager had owned goes.
        let cut = self.versions.convert(&pruned.0, &pruned.1, &last.version);
        let gone = fields(shape, &at_last)
            .with_named(Some(shape))
            .difference(&fields(shape, &cut).with_named(Some(shape)))
            .intersection(&last.fields.with_named(Some(shape)));
        let result = remove(shape, &at_last, &gone);
        self.versions.convert(&result, &last.version, self.version).into_owned()
    }

    /// Gives everything that is in the object to a manager of its own, before anything is applied to an object
    /// whose managers were not followed.
    pub fn before_first_apply(&self, empty: &Value) -> Result<Managed, Refusal> {
        let first = Write {
            versions: self.versions,
            version: self.version,
            live: empty,
            manager: Manager::new(
                "before-first-apply",
                Operation::Update,
                self.version,
                &self.manager.subresource,
            ),
            now: self.now,
        };
        let changes = first.changes(self.live).map_err(|refusal| match refusal {
            Refusal::Live(why) => Refusal::First(why),
            other => other,
        })?;
        first.update(self.live, &changes, Managed::default())
    }
}

/// Checks that an object has the form of its kind, where nobody did when it was read.
fn formed<'s, S: Shape<'s>>(shape: S, object: &Value) -> Result<(), Refusal> {
    if shape.is_read() { Ok(()) } else { validate(shape, object, true).map_err(Refusal::Live) }
}

#[cfg(test)]
mod tests;
