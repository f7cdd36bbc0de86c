//! Who owns which fields: `metadata.managedFields`, kept up with every write, and server-side apply.
//!
//! The rules are [`protocol::apply`]'s; here they are joined to requests and kinds.
//!
//! - [`versions`], [`shape`]: a kind's versions and their fields, as the rules see them. - [`reset`]: fields that a write does not own.
//! - [`apply`]: applying a configuration. - [`scale`]: ownership of replicas through the scale subresource.
//! - [`agent`]: what a writer is called. - [`entries`]: entries as they lie in objects.

use std::borrow::Cow;

use protocol::ApiRequest;
use protocol::apply::managers::is_reset;
use protocol::apply::update::Write;
use protocol::apply::{Managed, Manager, Operation, Refusal};
use protocol::schema::{Definition, Empties};
use serde_json::Value;

use super::object;
use super::registry::Subject;

pub mod agent;
pub mod apply;
pub mod entries;
pub mod reset;
pub mod scale;
pub mod shape;
pub mod versions;

use versions::KindVersions;

/// Who writes what, as far as ownership goes.
pub struct Tracking<'a> {
    versions: KindVersions<'a>,
    /// The version that is written, such as `apps/v1`.
    version: String,
    /// Its kind.
    kind: &'a str,
    /// The subresource that it is written through; empty for none.
    subresource: &'a str,
    /// What the writer is called.
    name: String,
    /// The fields of a kind of the table.
    definition: Option<&'static Definition>,
}

impl<'a> Tracking<'a> {
    /// A write of an object, or of a subresource that is a part of it.
    pub fn of(request: &'a ApiRequest, subject: Subject<'a>) -> Self {
        let subresource = request.target.subresource.as_deref().unwrap_or_default();
        Tracking {
            version: subject.resource.api_version(),
            kind: subject.resource.kind,
            versions: KindVersions::of(subject, subresource),
            subresource,
            name: agent::manager(request),
            definition: subject.custom.is_none().then_some(subject.definition),
        }
    }

    fn manager(&self, operation: Operation) -> Manager {
        let name = if self.name.is_empty() { "unknown" } else { &self.name };
        Manager::new(name, operation, &self.version, self.subresource)
    }

    fn write<'w>(
        &'w self,
        live: &'w Value,
        now: &'w str,
        operation: Operation,
    ) -> Write<'w, KindVersions<'a>> {
        Write {
            versions: &self.versions,
            version: &self.version,
            live,
            manager: self.manager(operation),
            now,
        }
    }

    /// An object as it is shown, with the lists and maps that were given as empty and are shown even if they are not.
    fn shown<'v>(&self, value: &'v Value, empties: &Empties) -> Cow<'v, Value> {
        let mut shown = self.versions.shown(value, &self.version);
        if let Some(definition) = self.definition.filter(|definition| empties.are_shown(definition)) {
            empties.show_in(definition, shown.to_mut());
        }
        shown
    }

    /// Gives a new object's fields to its writer, also those that it was given as empty, where they are shown.
    pub fn create(&self, value: &mut Value, empties: &Empties) {
        let given = entries::take(value);
        let managed = match is_reset(&given) {
            true => Managed::default(),
            false => Managed::decode(&given).unwrap_or_default(),
        };
        let empty = self.versions.empty(&self.version);
        let new = self.shown(value, empties);
        let now = object::now();
        let write = self.write(&empty, &now, Operation::Update);
        let owned = if managed.0.is_empty() {
            write.create(&new)
        } else {
            let owned = write.changes(&new).and_then(|changes| write.update(&new, &changes, managed));
            owned.map(|managed| managed.encode())
        };
        drop(new);
        match owned {
            Ok(managed) => entries::set(value, managed),
            Err(why) => untracked(&why),
        }
    }

    /// Gives the fields that a write changes to its writer. Both objects are of the stored version.
    pub fn update(&self, old: &Value, new: &mut Value, empties: &Empties) {
        let given = entries::take(new);
        let live = &old["metadata"]["managedFields"];
        if let Some(kept) = self.updated(old, new, empties, live, given) {
            entries::set(new, kept);
        }
    }

    /// The managed fields after a write; `None` for none.
    fn updated(
        &self,
        old: &Value,
        new: &Value,
        empties: &Empties,
        live: &Value,
        given: Value,
    ) -> Option<Value> {
        let same = given == *live;
        // Through subresources nobody sets managed fields by hand.
        let by_hand = self.subresource.is_empty() && !given.is_null() && !same;
        if by_hand && is_reset(&given) {
            return None;
        }
        let chosen = by_hand.then(|| Managed::decode(&given).ok().filter(|m| !m.0.is_empty())).flatten();
        if chosen.is_none() && live.is_null() {
            return None;
        }
        // Most writes bring what is there.
        let live = if same { Cow::Owned(given) } else { Cow::Borrowed(live) };
        let (before, after) = (self.versions.shown(old, &self.version), self.shown(new, empties));
        let now = object::now();
        let write = self.write(&before, &now, Operation::Update);
        let changes = match write.changes(&after) {
            Ok(changes) => changes,
            Err(why) => {
                untracked(&why);
                return None;
            }
        };
        let managed = match chosen {
            Some(managed) => managed,
            None if changes.is_same() => return Some(live.into_owned()),
            // Most writes change fields that their writer owns already: then nothing is taken apart.
            None => match entries::holder(&live, &changes, &write.manager, &self.version) {
                Some(holder) => return Some(entries::dated(live.into_owned(), holder, &now)),
                None => Managed::decode(&live).ok().filter(|m| !m.0.is_empty())?,
            },
        };
        match write.update(&after, &changes, managed) {
            Ok(managed) => Some(managed.encode()).filter(|m| !m.is_null()),
            Err(why) => {
                untracked(&why);
                None
            }
        }
    }
}

/// An object whose managers cannot be followed, as it or what they own does not have the form of its kind, has none.
fn untracked(why: &Refusal) {
    tracing::warn!(%why, "the managers of an object's fields are forgotten");
}

#[cfg(test)]
mod tests;
