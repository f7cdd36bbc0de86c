//! The versions of a kind, as the rules of ownership see them.

use std::borrow::Cow;

use protocol::apply::Table;
use protocol::apply::compare::Filter;
use protocol::apply::update::Versions;
use protocol::schema::{self, Definition, decode::finish};
use protocol::{Resource, resources};
use serde_json::{Value, json};

use super::reset;
use super::shape::Place;
use crate::api::convert;
use crate::api::registry::Subject;

/// The version of the scale that workloads show.
pub const SCALE: &str = "autoscaling/v1";

/// A kind in all its versions.
pub enum KindVersions<'a> {
    /// A served kind.
    Kind {
        /// The kind, and the version asked for.
        subject: Subject<'a>,
        /// What the write does not own.
        filter: Filter<'static>,
        /// That is so in every version.
        everywhere: bool,
    },
    /// The scale of a workload, which has one version.
    Scale(&'static Definition),
}

impl<'a> KindVersions<'a> {
    /// A kind that is written, or a subresource that is a part of it.
    pub fn of(subject: Subject<'a>, subresource: &str) -> Self {
        let has_status = subject.resource.subresource("status").is_some();
        let declared = subject.custom.is_some();
        let filter = reset::filter(subject.stored.plural, declared, has_status, subresource);
        // What a write of a declared kind puts back is known of the version asked for alone, but for parts.
        KindVersions::Kind { subject, filter, everywhere: !declared || !subresource.is_empty() }
    }

    /// The kind in one of its versions.
    fn resource(&self, version: &str) -> Option<&'static Resource> {
        let KindVersions::Kind { subject, .. } = self else { return None };
        for known in [subject.resource, subject.stored] {
            if known.api_version() == version {
                return Some(known);
            }
        }
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        resources::find(group, version, subject.stored.plural).filter(|r| r.storage == subject.stored.storage)
    }

    /// The fields of a version.
    pub fn definition(&self, version: &str) -> Option<&'static Definition> {
        match self {
            KindVersions::Scale(definition) => (version == SCALE).then_some(*definition),
            KindVersions::Kind { subject, .. } if subject.custom.is_some() => {
                self.resource(version).map(|_| schema::custom())
            }
            KindVersions::Kind { subject, .. } => {
                // What the core group serves knows no fields of another group's version, nor they of it: who owns
                // some of an Event in the one loses them by a write through the other.
                let within = |found: &&Resource| found.group.is_empty() == subject.resource.group.is_empty();
                let resource = self.resource(version).filter(within)?;
                schema::kind(resource.group, resource.version, resource.kind)
            }
        }
    }

    /// An object with nothing in it, as its creation is compared with.
    pub fn empty(&self, version: &str) -> Value {
        self.definition(version).map_or_else(|| json!({}), |definition| finish(definition, json!({})))
    }

    /// A stored object in a version.
    pub fn shown<'v>(&self, stored: &'v Value, version: &str) -> Cow<'v, Value> {
        match self.resource(version) {
            // Objects of declared kinds come here in the version asked for.
            Some(resource) if resource.is_view() && !self.is_custom() => {
                Cow::Owned(convert::from_storage(resource, stored.clone()))
            }
            _ => Cow::Borrowed(stored),
        }
    }

    fn is_custom(&self) -> bool {
        matches!(self, KindVersions::Kind { subject: Subject { custom: Some(_), .. }, .. })
    }
}

impl Versions for KindVersions<'_> {
    type Shape<'s>
        = Place<'s>
    where
        Self: 's;

    fn shape(&self, version: &str) -> Option<Place<'_>> {
        if let KindVersions::Kind { subject: Subject { custom: Some(custom), .. }, .. } = self {
            let (group, version) = version.split_once('/')?;
            let fields = custom.siblings.get(version).filter(|_| group == custom.stored.group)?;
            return Some(Place::declared(fields.schema()));
        }
        self.definition(version).map(|definition| Place::Table(Table::of(definition)))
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Cow<'v, Value> {
        if from == to {
            return Cow::Borrowed(object);
        }
        if let KindVersions::Kind { subject: Subject { custom: Some(_), foreseen, .. }, .. } = self {
            // Without a webhook, versions of a declared kind differ in their names alone, which nobody owns.
            return match foreseen {
                Some(foreseen) => Cow::Owned(foreseen.convert(object, to)),
                None => Cow::Borrowed(object),
            };
        }
        let stored = match self.resource(from) {
            Some(from) if from.is_view() => Cow::Owned(convert::to_storage(from, object.clone())),
            _ => Cow::Borrowed(object),
        };
        match self.resource(to) {
            Some(to) if to.is_view() => Cow::Owned(convert::from_storage(to, stored.into_owned())),
            _ => stored,
        }
    }

    fn filter(&self, version: &str) -> Filter<'_> {
        match self {
            KindVersions::Kind { subject, everywhere: false, .. }
                if subject.resource.api_version() != version =>
            {
                Filter::None
            }
            KindVersions::Kind { filter, .. } => *filter,
            KindVersions::Scale(_) => Filter::None,
        }
    }
}
