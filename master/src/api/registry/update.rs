//! Replacing and patching objects.

use std::cell::LazyCell;
use std::sync::Arc;

use protocol::schema::{self, decode::finish};
use protocol::{ApiError, ApiRequest, PatchKind, Verb};
use serde_json::Value;

use super::patch::{apply_patch, invalid_patch, unsupported_media};
use super::{Answer, RETRIES_MAX, Subject, body, canonical, options, owners};
use crate::api::admission::{self, Write};
use crate::api::invalid::{Errors, Path, check};
use crate::api::managed::{Tracking, apply, entries};
use crate::api::pipeline::Inner;
use crate::api::{convert, kinds, meta, object};
use crate::auth::{Attributes, Authorizer};
use crate::cache::{Snapshot, Stored};
use crate::store::{Compare, Op, Txn, TxnResult};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status (and metadata).
    Status,
    /// A namespace's `spec.finalizers`.
    Finalizers,
    /// A pod's ephemeral containers.
    EphemeralContainers,
    /// A signing request's conditions about approval (and metadata).
    Approval,
    /// The resources of a pod's containers.
    Resize,
}

impl Part {
    /// The part that a subresource writes to; `None` for those that are no part of the object.
    pub fn of(subresource: Option<&str>) -> Option<Part> {
        Some(match subresource {
            None => Part::Main,
            Some("resize") => Part::Resize,
            Some("status") => Part::Status,
            Some("finalize") => Part::Finalizers,
            Some("ephemeralcontainers") => Part::EphemeralContainers,
            Some("approval") => Part::Approval,
            Some(_) => return None,
        })
    }
}

const MODIFIED: &str =
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
        let mut new = body::object(&subject, &request.body, validation, warnings)?;
        check_name(&subject, &new)?;
        owners::once(&mut new, owners::Stage::Sent, warnings);
        let strategy = kinds::strategy(subject.stored);
        let absent = part == Part::Main && strategy.create_on_update && self.is_absent(&subject).await?;
        if absent {
            if let Some(meta) = object::existing_mut(&mut new, &["metadata"]) {
                meta.remove("resourceVersion");
            }
            let mut making = request.clone();
            making.verb = Verb::Create;
            self.authorizer.require(&Attributes::of(&making)).await?;
            Tracking::of(request, subject).create(&mut new);
            return self.create_object(&making, subject, new, warnings).await;
        }
        let version = object::text(&new, &["metadata", "resourceVersion"]);
        let unconditional = version.is_empty() || version == "0";
        if unconditional && !strategy.unconditional_update {
            let mut errors = Errors::default();
            errors.invalid(&Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
            // An absent object is reported as such first.
            if self.is_absent(&subject).await? {
                return Err(subject.not_found());
            }
            check(errors, subject.resource.group, subject.resource.plural, subject.name)?;
        }
        let tracking = Tracking::of(request, subject);
        let produce = |old: &Value, _: &mut Vec<String>| {
            let mut new = new.clone();
            tracking.update(old, &mut new);
            Ok(new)
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
            let mut value = apply_patch(definition, kind, shown, &request.body, validation, warnings)?;
            if let Some(custom) = subject.custom {
                let unknown = custom.admit(&mut value);
                body::strict(unknown, validation, warnings)
                    .map_err(|why| invalid_patch(&value.to_string(), &why))?;
            } else {
                value = body::defaulted(resource, subject.stored, subject.definition, value);
            }
            tracking.update(old, &mut value);
            check_name(&subject, &value)?;
            Ok(value)
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
            let value = tracking.apply(old, &config.value, force)?;
            apply::config::strict(&config, request.options.field_validation.as_deref(), said)?;
            check_name(&subject, &value)?;
            Ok(value)
        };
        for _ in 0..RETRIES_MAX {
            let absent = request.target.subresource.is_none() && self.is_absent(&subject).await?;
            let result = if absent {
                let mut said = Vec::new();
                let value = produce(None, &mut said)?;
                self.apply_new(request, subject, value, said, warnings).await
            } else {
                self.rewrite(request, subject, part, warnings, |old, said| produce(Some(old), said)).await
            };
            match result {
                // Somebody made or deleted the object meanwhile.
                Err(error) if absent && error.is_already_exists() && !request.options.dry_run => {}
                Err(error) if !absent && error.is_not_found() && request.target.subresource.is_none() => {}
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
        mut value: Value,
        mut said: Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let (resource, name) = (subject.resource, subject.name);
        let uid = object::text(&value, &["metadata", "uid"]);
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(resource.group, resource.plural, name, &why));
        }
        let mut making = request.clone();
        making.verb = Verb::Create;
        self.authorizer.require(&Attributes::of(&making)).await?;
        object::object_mut(&mut value, &["metadata"]).remove("resourceVersion");
        warnings.append(&mut said);
        self.create_object(&making, subject, value, warnings).await
    }

    /// Rewrites one part of an object: reads it, lets `produce` make the new state, and writes that if
    /// nobody was faster; otherwise again, unless the new state names a revision.
    pub async fn rewrite(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        warnings: &mut Vec<String>,
        mut produce: impl FnMut(&Value, &mut Vec<String>) -> Result<Value, ApiError>,
    ) -> Result<Answer, ApiError> {
        for attempt in 0..RETRIES_MAX {
            let mut said = Vec::new();
            let (snapshot, fresh) = self.to_write_from(request, attempt > 0).await?;
            match self.rewrite_once(request, subject, part, &snapshot, &mut said, &mut produce).await {
                // Somebody was faster: what was said was about another state.
                Ok(None) => {}
                // It may be about a state that is no more.
                Err(_) if !fresh => {}
                Ok(Some(answer)) => {
                    warnings.append(&mut said);
                    return Ok(answer);
                }
                Err(error) => {
                    warnings.append(&mut said);
                    return Err(error);
                }
            }
        }
        Err(ApiError::conflict(subject.resource.group, subject.resource.plural, subject.name, MODIFIED))
    }

    /// Rewrites one part of an object, if nobody is faster.
    async fn rewrite_once(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        snapshot: &Arc<Snapshot>,
        said: &mut Vec<String>,
        produce: &mut impl FnMut(&Value, &mut Vec<String>) -> Result<Value, ApiError>,
    ) -> Result<Option<Answer>, ApiError> {
        let resource = subject.resource;
        let stands = subject.find(snapshot).ok_or_else(|| subject.not_found())?;
        let stored = self.found(&subject, snapshot).await?;
        let old = subject.opened(&stored)?;
        let mut new = self.produced(&subject, &old, said, produce).await?;
        let version = object::text(&new, &["metadata", "resourceVersion"]).to_owned();
        let named = !version.is_empty() && version != "0";
        let patching = request.verb == Verb::Patch;
        let uid = object::text(&new, &["metadata", "uid"]);
        if !patching && !uid.is_empty() && uid != &*stored.meta.uid {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                stored.meta.uid
            );
            return Err(ApiError::conflict(resource.group, resource.plural, subject.name, &why));
        }
        if named {
            options::object_revision(&version)?;
            if version != stored.revision.to_string() {
                return Err(ApiError::conflict(resource.group, resource.plural, subject.name, MODIFIED));
            }
        }
        let strategy = kinds::strategy(resource);
        self.prepare(&subject, part, &strategy, &mut new, &old);
        let mut write = Write { request, subject, old: Some(&old), snapshot, warnings: said };
        admission::mutate(self, &mut write, &mut new).await?;
        self.call_mutating(&mut write, &mut new).await?;
        owners::once(&mut new, owners::Stage::Admitted, write.warnings);
        let mut new = finish(subject.definition, new);
        entries::keep_times(&old, &mut new);
        let new = new;
        if part == Part::Main {
            self.allocatable(subject.stored, Some(&old), &new, snapshot, request.options.dry_run)?;
        }
        let mut errors = Errors::default();
        let at = Path::new("metadata");
        entries::validate(&new["metadata"], &at, &mut errors);
        let whole = |names, plain: bool, errors: &mut Errors| {
            meta::validate(&new["metadata"], resource.namespaced, names, plain, &at, errors);
        };
        // That finalizers should name a domain, and what form names have, is told by the kind's own look.
        whole(meta::NameRule::PathSegment, true, &mut errors);
        meta::validate_update(&new["metadata"], &old["metadata"], &at, &mut errors);
        // Upstream finds these twice on its way, but for kinds whose own validation does not look again.
        let twice = |errors: &mut Errors| {
            if !kinds::checked_once(resource) {
                meta::validate_update(&new["metadata"], &old["metadata"], &at, errors);
                if !strategy.plain_finalizers {
                    meta::domains(&new["metadata"], &at, errors);
                }
            }
        };
        let looks =
            if part == Part::Main && subject.custom.is_none() { kinds::checked_again(resource) } else { 0 };
        let object = |errors: &mut Errors| {
            (0..looks).for_each(|_| whole(strategy.names, strategy.plain_finalizers, errors));
            strategy.check_object(part, &new, errors);
        };
        // Who looks at all of the metadata again does so with the rest of the object, and at the change next to it.
        if looks > 0 && !strategy.change_first {
            object(&mut errors);
            twice(&mut errors);
            strategy.check_change(part, &new, &old, &mut errors);
        } else if strategy.change_first {
            twice(&mut errors);
            strategy.check_change(part, &new, &old, &mut errors);
            object(&mut errors);
        } else {
            twice(&mut errors);
            object(&mut errors);
            strategy.check_change(part, &new, &old, &mut errors);
        }
        let kept = subject.check_fields(&new, Some(&old), part == Part::Status, &mut errors);
        // What is wrong is said about the stored kind, whichever version was asked for.
        check(errors, subject.stored.group, subject.stored.kind, subject.name)?;
        write.warnings.extend(kept);
        admission::validate(self, &mut write, &new).await?;
        self.call_validating(&mut write, Some(&new)).await?;
        (strategy.warnings)(&new, Some(&old), write.warnings);
        if part == Part::Main {
            subject.warn_of_finalizers(&new, Some(&old), write.warnings);
        }
        let charge = admission::quota::charge(&self.config.admission, &write, &new)?;

        let mut new = new;
        let allocation =
            self.allocate(subject.stored, Some(&old), &mut new, snapshot, request.options.dry_run)?;
        let (sealed, json) = self.sealed(&subject, new).await?;
        let before = match subject.custom {
            None => old,
            // What stands in the store may lack defaults that the kind got later, or be of another version.
            Some(_) => stands.value().map_err(ApiError::internal)?,
        };
        let before = canonical(&subject, before);
        let same = is_same(&subject, &sealed, &before);
        if same && !self.is_current(&subject, &stored).await? {
            return Ok(None);
        }
        if same || request.options.dry_run {
            let body = self.shown(&subject, &json, stored.revision, same).await?;
            return Ok(Some(Answer { code: 200, body, revision: stored.revision }));
        }
        let mut txn = Txn {
            compares: vec![Compare { key: subject.key(), mod_revision: stored.revision }],
            ..Txn::default()
        };
        if is_finished(&sealed, &before) {
            txn.ops.push(Op::Delete { key: subject.key() });
            self.release(subject.stored, &sealed).into_iter().for_each(|op| txn.ops.push(op));
        } else {
            txn.ops.push(self.put(&subject, &sealed, &json).await?);
            allocation.add_to(&mut txn);
            charge.add_to(&mut txn);
        }
        match self.commit(txn).await? {
            TxnResult::Committed { revision } => {
                let body = self.shown(&subject, &json, revision, true).await?;
                Ok(Some(Answer { code: 200, body, revision }))
            }
            TxnResult::Conflict { .. } if named && !patching => {
                Err(ApiError::conflict(resource.group, resource.plural, subject.name, MODIFIED))
            }
            TxnResult::Conflict { .. } => Ok(None),
        }
    }

    /// Whether there is no such object, in the newest state there is.
    async fn is_absent(&self, subject: &Subject<'_>) -> Result<bool, ApiError> {
        Ok(subject.find(&*self.recent().await?).is_none() && subject.find(&*self.fresh().await?).is_none())
    }

    /// Whether a stored object is still as it was seen, now that no write will find out.
    pub(super) async fn is_current(&self, subject: &Subject<'_>, seen: &Stored) -> Result<bool, ApiError> {
        let found = subject.find(&*self.fresh().await?);
        Ok(found.is_some_and(|found| found.revision == seen.revision))
    }

    /// The new state, once everything is known that making it needs converted.
    async fn produced(
        &self,
        subject: &Subject<'_>,
        old: &Value,
        said: &mut Vec<String>,
        produce: &mut impl FnMut(&Value, &mut Vec<String>) -> Result<Value, ApiError>,
    ) -> Result<Value, ApiError> {
        let (Some(custom), Some(foreseen)) = (subject.custom, subject.foreseen) else {
            return produce(old, said);
        };
        let kept = said.len();
        for round in 0.. {
            let made = produce(old, said);
            if !self.converter.settle(custom, foreseen, round).await? {
                return made;
            }
            said.truncate(kept);
        }
        Err(not_possible())
    }

    /// Keeps what this write may not change, and counts the generation.
    fn prepare(
        &self,
        subject: &Subject<'_>,
        part: Part,
        strategy: &kinds::Strategy,
        new: &mut Value,
        old: &Value,
    ) {
        for name in ["creationTimestamp", "generation", "namespace"] {
            object::copy_meta(old, new, name);
        }
        // What an object that is being deleted says about that stays; to make others so is refused.
        let absent = |new: &Value, name: &str| new["metadata"].get(name).is_none_or(Value::is_null);
        if object::is_deleting(old) {
            object::copy_meta(old, new, "deletionTimestamp");
        }
        if absent(new, "deletionGracePeriodSeconds") {
            object::copy_meta(old, new, "deletionGracePeriodSeconds");
        }
        if object::text(new, &["metadata", "uid"]).is_empty() {
            object::copy_meta(old, new, "uid");
        }
        let has_status = subject.stored.subresource("status").is_some();
        match part {
            Part::Main | Part::Resize => {
                if has_status {
                    object::copy_field(old, new, "status");
                }
                if part == Part::Main {
                    (strategy.prepare_update)(new, old);
                    kinds::without_disabled(subject.stored, new, Some(old));
                } else {
                    (strategy.prepare_resize)(new, old);
                }
                if strategy.generation || strategy.generation_of_changes {
                    let canonical = LazyCell::new(|| finish(subject.definition, new.clone()));
                    let counts = |(name, _): &(&String, &Value)| match name.as_str() {
                        "metadata" | "kind" | "apiVersion" => false,
                        "status" => !has_status,
                        _ => true,
                    };
                    let fields = |v: &'_ Value| v.as_object().into_iter().flatten().filter(counts).count();
                    let differs = |v: &Value| {
                        let mut all = v.as_object().into_iter().flatten().filter(counts);
                        all.any(|(name, value)| old.get(name) != Some(value))
                    };
                    // What is as it was needs no form: it had it already.
                    let same = fields(new) == fields(old) && !differs(new);
                    let differs = !same && differs(&canonical);
                    // Of two kinds some of the metadata is of the spec.
                    let counted = match subject.stored.plural {
                        "deployments" => Some("annotations"),
                        "endpointslices" => Some("labels"),
                        _ => None,
                    };
                    let marked =
                        counted.is_some_and(|name| !object::same(&canonical, old, &["metadata", name]));
                    if differs || marked {
                        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                        new["metadata"]["generation"] = generation.into();
                    }
                }
            }
            Part::Status if subject.custom.is_some() => {
                let mut kept = kept_but_managed(old, new);
                object::copy_field(new, &mut kept, "status");
                *new = kept;
            }
            Part::Status => {
                keep_all_but(new, old, "status");
                if subject.stored.plural == "deployments" {
                    object::copy_meta(old, new, "labels");
                }
                (strategy.prepare_status)(new, old);
            }
            Part::Finalizers => {
                let finalizers = new["spec"]["finalizers"].clone();
                object::copy_field(old, new, "spec");
                object::copy_field(old, new, "status");
                if finalizers.is_null() {
                    object::object_mut(new, &["spec"]).remove("finalizers");
                } else {
                    new["spec"]["finalizers"] = finalizers;
                }
            }
            Part::EphemeralContainers => {
                let containers = new["spec"]["ephemeralContainers"].clone();
                let mut kept = kept_but_managed(old, new);
                if containers.is_null() {
                    object::object_mut(&mut kept, &["spec"]).remove("ephemeralContainers");
                } else if containers != kept["spec"]["ephemeralContainers"] {
                    kept["spec"]["ephemeralContainers"] = containers;
                    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                    kept["metadata"]["generation"] = generation.into();
                }
                *new = kept;
            }
            Part::Approval => {
                let conditions = new["status"]["conditions"].clone();
                keep_all_but(new, old, "");
                object::object_mut(new, &["status"]).insert("conditions".to_owned(), conditions);
                (strategy.prepare_status)(new, old);
            }
        }
    }
}

/// Whether two objects are stored alike. A kind of the table is stored in one version, whatever they say of theirs.
fn is_same(subject: &Subject<'_>, a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    if subject.custom.is_some() {
        return a == b;
    }
    let said = |(name, _): &(&String, &Value)| *name != "apiVersion" && *name != "kind";
    a.iter().filter(said).eq(b.iter().filter(said))
}

/// The object as it is, with the managers (and the demanded revision) of a write.
fn kept_but_managed(old: &Value, new: &Value) -> Value {
    let mut kept = old.clone();
    for name in ["resourceVersion", "managedFields"] {
        object::copy_meta(new, &mut kept, name);
    }
    kept
}

fn not_possible() -> ApiError {
    ApiError::internal("an error list was empty")
}

/// Puts everything but the metadata and this field back as it was.
fn keep_all_but(new: &mut Value, old: &Value, field: &str) {
    let names: Vec<String> = new
        .as_object()
        .into_iter()
        .flatten()
        .chain(old.as_object().into_iter().flatten())
        .map(|(k, _)| k.clone())
        .collect();
    for name in names {
        if name != field && name != "metadata" {
            object::copy_field(old, new, &name);
        }
    }
}

/// Checks that an object is the one that its path names.
pub fn check_name(subject: &Subject<'_>, value: &Value) -> Result<(), ApiError> {
    let given = object::name(value);
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
    let namespace = object::namespace(value);
    if subject.resource.namespaced && !namespace.is_empty() && namespace != subject.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Whether an object that is being deleted has nothing left to wait for.
fn is_finished(new: &Value, old: &Value) -> bool {
    let waits = |v: &Value| {
        !object::finalizers(v).is_empty()
            || (v["kind"] == "Namespace" && !object::list(v, &["spec", "finalizers"]).is_empty())
    };
    let grace = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    object::is_deleting(new) && !waits(new) && waits(old) && grace == 0
}
