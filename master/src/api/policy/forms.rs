//! The objects of a write in the forms that rules name.
//!
//! The same objects may be served by several resources: versions of a declared kind, `events` of two groups,
//! `autoscaling/v1` and `v2`. A rule that is not `Exact` matches through any of them, and then its webhook or
//! policy sees, and changes, the object as that resource shows it. Through `scale` everybody sees a Scale; what is
//! called rather than stored (an Eviction) everybody sees as it is.

use std::borrow::Cow;

use protocol::{ApiError, Resource, resources};
use serde_json::Value;

use super::matching::Attempt;
use crate::api::admission::{Write, calls};
use crate::api::pipeline::Inner;
use crate::api::registry::body::defaulted;
use crate::api::subresources::scale_of;
use crate::api::{convert, object};

/// The subresource whose body is no part of the object.
const SCALE: &str = "scale";

/// Group, version and kind of what a request to a resource, or to something under it, is about.
pub fn kind_of(resource: &Resource, subresource: &str) -> (&'static str, &'static str, &'static str) {
    let own = (resource.group, resource.version, resource.kind);
    let Some(sub) = resource.subresource(subresource) else { return own };
    let (group, version) = sub.api.unwrap_or((resource.group, resource.version));
    (group, version, sub.kind)
}

/// The other resources that show the objects of a request, in the order in which they are tried.
pub fn equivalents(attempt: &Attempt<'_>) -> Vec<&'static Resource> {
    let own = attempt.resource;
    let shows = |other: &&'static Resource| {
        let under = attempt.subresource.is_empty() || other.subresource(attempt.subresource).is_some();
        under && (other.group, other.version) != (own.group, own.version)
    };
    match attempt.custom {
        Some(custom) => custom.family.iter().copied().filter(shows).collect(),
        None => {
            let same = |other: &&Resource| other.plural == own.plural && other.storage == own.storage;
            resources::all().iter().filter(same).filter(shows).collect()
        }
    }
}

/// What a webhook or a policy sees of a write: the new and the old object in one form, `null` where there is none.
pub struct Seen<'v> {
    /// The object as it will be.
    pub object: Cow<'v, Value>,
    /// The object as it is.
    pub old: Cow<'v, Value>,
}

/// The forms of a write's objects that somebody wanted to see, each made once.
#[derive(Default)]
pub struct Forms<'v>(Vec<(&'static Resource, Result<Seen<'v>, ApiError>)>);

impl<'v> Forms<'v> {
    /// Sees to it that a form is there.
    pub async fn make(
        &mut self,
        inner: &Inner,
        write: &Write<'v>,
        form: &'static Resource,
        object: Option<&'v Value>,
    ) {
        if self.get(form).is_none() {
            let seen = inner.seen(write, form, object).await;
            self.0.push((form, seen));
        }
    }

    /// A form, if it was made, or why it could not be.
    pub fn get(&self, form: &Resource) -> Option<&Result<Seen<'v>, ApiError>> {
        let same = |known: &Resource| (known.group, known.version) == (form.group, form.version);
        self.0.iter().find(|(known, _)| same(known)).map(|(_, seen)| seen)
    }
}

fn is_scale(write: &Write<'_>) -> bool {
    write.request.target.subresource.as_deref() == Some(SCALE)
}

impl Inner {
    /// Both objects of a write in a form.
    pub async fn seen<'v>(
        &self,
        write: &Write<'v>,
        form: &'static Resource,
        object: Option<&'v Value>,
    ) -> Result<Seen<'v>, ApiError> {
        static NONE: Value = Value::Null;
        let object = self.seen_as(write, form, object.unwrap_or(&NONE)).await?;
        let old = self.seen_as(write, form, write.old.unwrap_or(&NONE)).await?;
        Ok(Seen { object, old })
    }

    /// An object of a write in a form.
    pub async fn seen_as<'v>(
        &self,
        write: &Write<'_>,
        form: &'static Resource,
        value: &'v Value,
    ) -> Result<Cow<'v, Value>, ApiError> {
        if value.is_null() || calls::is_call(write) {
            return Ok(Cow::Borrowed(value));
        }
        let scaled = write.subject.custom.and_then(|custom| custom.scale.as_ref());
        match (is_scale(write), scaled, write.subject.custom) {
            (true, Some(paths), _) => Ok(Cow::Owned(paths.read_or_empty(value))),
            (true, None, _) => Ok(Cow::Owned(scale_of(value))),
            (false, _, Some(custom)) if form.version != custom.resource.version => {
                let mut made = self.converter.object(custom, form.version, value.clone()).await?;
                made["apiVersion"] = form.api_version().into();
                Ok(Cow::Owned(made))
            }
            (false, _, None) if form.is_view() => Ok(Cow::Owned(convert::from_storage(form, value.clone()))),
            (false, ..) => Ok(Cow::Borrowed(value)),
        }
    }

    /// The object of a write after its form was changed: converted back, with its defaults.
    pub async fn meant(
        &self,
        write: &Write<'_>,
        form: &'static Resource,
        object: &Value,
        mut changed: Value,
    ) -> Result<Value, ApiError> {
        let subject = write.subject;
        if calls::is_call(write) {
            return Ok(changed);
        }
        if is_scale(write) {
            let replicas = changed["spec"]["replicas"].as_i64().unwrap_or(0);
            let mut new = object.clone();
            match subject.custom.and_then(|custom| custom.scale.as_ref()) {
                Some(paths) => paths.write(&mut new, replicas),
                None => drop(
                    object::object_mut(&mut new, &["spec"]).insert("replicas".to_owned(), replicas.into()),
                ),
            }
            return Ok(new);
        }
        let Some(custom) = subject.custom else {
            return Ok(defaulted(form, subject.stored, subject.definition, changed));
        };
        if form.version != custom.resource.version {
            if let Some(fields) = custom.siblings.get(form.version) {
                fields.prune(&mut changed);
                fields.default(&mut changed);
            }
            changed = self.converter.object(custom, custom.resource.version, changed).await?;
            object::object_mut(&mut changed, &[])
                .insert("apiVersion".to_owned(), custom.resource.api_version().into());
        }
        custom.admit(&mut changed).map_err(ApiError::internal)?;
        Ok(changed)
    }
}
