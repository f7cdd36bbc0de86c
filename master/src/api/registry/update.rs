//! Replacing and patching objects.

use protocol::schema;
use protocol::{ApiError, ApiRequest, PatchKind, Verb};
use serde_json::Value;

use super::body::{self, Sent};
use super::create::Wanted;
use super::part::Part;
use super::patch::{apply_patch, invalid_patch, unsupported_media};
use super::{Answer, RETRIES_MAX, Subject, demands, owners};
use crate::api::managed::{Tracking, apply};
use crate::api::pipeline::Inner;
use crate::api::{convert, kinds, object};
use crate::auth::{Attributes, Authorizer};

pub(super) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Inner {
    /// Replaces an object by a request's body.
    pub async fn update(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let validation = request.options.field_validation.as_deref();
        let Sent { value: mut new, empties } = body::object(&subject, &request.body, validation, warnings)?;
        check_name(&subject, &new)?;
        owners::once(&mut new, owners::Stage::Sent, warnings);
        let strategy = kinds::strategy(subject.stored);
        let makes = strategy.create_on_update && matches!(part, Part::Main | Part::Status);
        let absent = makes && self.is_absent(&subject).await?;
        if absent {
            let uid = object::text(&new, &["metadata", "uid"]);
            demands::same_object(&subject, uid, "", request.options.dry_run)?;
            let mut making = request.clone();
            making.verb = Verb::Create;
            self.authorizer.require(&Attributes::of(&making)).await?;
            Tracking::of(request, subject).create(&mut new, &empties);
            let sent = Sent { value: new, empties };
            return self.create_object(&making, subject, sent, Wanted::InPlace, warnings).await;
        }
        let tracking = Tracking::of(request, subject);
        let version = object::text(&new, &["metadata", "resourceVersion"]);
        let conditional = !strategy.unconditional_update && (version.is_empty() || version == "0");
        let produce = |old: &Value, _: &mut Vec<String>| {
            let uid = |object| object::text(object, &["metadata", "uid"]);
            demands::same_object(&subject, uid(&new), uid(old), request.options.dry_run)?;
            if conditional {
                demands::a_revision(&subject)?;
            }
            if let Some(custom) = subject.custom {
                custom.check_type(&new)?;
            }
            let mut new = new.clone();
            tracking.update(old, &mut new, &empties);
            Ok(Sent { value: new, empties: empties.clone() })
        };
        self.rewrite(request, subject, part, warnings, produce).await
    }

    /// Patches an object.
    pub async fn patch(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let resource = subject.resource;
        let definition = match subject.custom {
            Some(_) => schema::custom(),
            None => schema::kind(resource.group, resource.version, resource.kind)
                .ok_or_else(|| ApiError::internal("no field table"))?,
        };
        let kind = request.patch.unwrap_or(PatchKind::Merge);
        if kind == PatchKind::Apply {
            return self.apply(request, subject, part, warnings).await;
        }
        if kind == PatchKind::Strategic && subject.custom.is_some() {
            return Err(unsupported_media());
        }
        let validation = request.options.field_validation.as_deref();
        let tracking = Tracking::of(request, subject);
        self.rewrite(request, subject, part, warnings, |old, warnings| {
            let shown = || match subject.custom {
                Some(_) => old.clone(),
                None => convert::from_storage(resource, old.clone()),
            };
            let (mut made, mut found) =
                apply_patch(definition, kind, shown, &request.body, validation, warnings)?;
            if let Some(custom) = subject.custom {
                let shown = made.value.to_string();
                // Of another kind nobody here knows the fields; that it is of another is told below.
                let read =
                    if custom.is_of_kind(&made.value) { custom.admit(&mut made.value) } else { Ok(vec![]) };
                read.map(|unknown| found.extend(unknown))
                    .and_then(|()| body::strict(found, validation, warnings))
                    .map_err(|why| invalid_patch(&shown, &why))?;
            } else {
                made = body::as_stored(&subject, made);
            }
            tracking.update(old, &mut made.value, &made.empties);
            check_name(&subject, &made.value)?;
            if let Some(custom) = subject.custom {
                custom.check_type(&made.value)?;
            }
            Ok(made)
        })
        .await
    }

    /// Applies a configuration to an object; one that is absent is made.
    async fn apply(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let config = apply::config::read(&request.body)?;
        let tracking = Tracking::of(request, subject);
        let force = request.options.force;
        let produce = |old: Option<&Value>, said: &mut Vec<String>| {
            let made = tracking.apply(old, &config.value, force)?;
            apply::config::strict(&config, request.options.field_validation.as_deref(), said)?;
            check_name(&subject, &made.value)?;
            Ok(made)
        };
        let makes = match part {
            Part::Main => true,
            Part::Status => kinds::strategy(subject.stored).create_by_status,
            _ => false,
        };
        for _ in 0..RETRIES_MAX {
            let absent = makes && self.is_absent(&subject).await?;
            let result = if absent {
                let mut said = Vec::new();
                let made = produce(None, &mut said)?;
                self.apply_new(request, subject, made, said, warnings).await
            } else {
                self.rewrite(request, subject, part, warnings, |old, said| produce(Some(old), said)).await
            };
            match result {
                // Somebody made or deleted the object meanwhile.
                Err(error) if absent && error.is_already_exists() && !request.options.dry_run => {}
                Err(error) if !absent && error.is_not_found() && makes => {}
                result => return result,
            }
        }
        Err(ApiError::conflict(subject.resource.group, subject.resource.plural, subject.name, MODIFIED))
    }

    /// Makes the object of a configuration, which takes the right to make it.
    async fn apply_new(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        made: Sent,
        mut said: Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let (resource, name) = (subject.resource, subject.name);
        let uid = object::text(&made.value, &["metadata", "uid"]);
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(resource.group, resource.plural, name, &why));
        }
        let mut making = request.clone();
        making.verb = Verb::Create;
        self.authorizer.require(&Attributes::of(&making)).await?;
        warnings.append(&mut said);
        self.create_object(&making, subject, made, Wanted::InPlace, warnings).await
    }

    /// Whether there is no such object, in the newest state there is.
    async fn is_absent(&self, subject: &Subject<'_>) -> Result<bool, ApiError> {
        Ok(subject.find(&*self.recent().await?).is_none() && subject.find(&*self.fresh().await?).is_none())
    }
}

/// Checks that an object is the one that its path names.
pub fn check_name(subject: &Subject<'_>, value: &Value) -> Result<(), ApiError> {
    let (given, namespace) = (object::name(value), object::namespace(value));
    if subject.resource.namespaced && !namespace.is_empty() && namespace != subject.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !given.is_empty() && given != subject.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            subject.name
        )));
    }
    if given.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            subject.name
        )));
    }
    Ok(())
}
