//! Replacing and patching objects.

use protocol::schema::{self, decode::finish};
use protocol::{ApiError, ApiRequest, PatchKind, Verb, patch};
use serde_json::{Value, json};

use super::{Answer, RETRIES_MAX, Subject, body, options, seal, shown};
use crate::api::admission::{self, Write};
use crate::api::invalid::{Errors, Path, check};
use crate::api::pipeline::Inner;
use crate::api::{convert, kinds, meta, object};
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
    /// A signing request's conditions about approval.
    Approval,
}

impl Part {
    /// The part that a subresource writes to; `None` for those that are no part of the object.
    pub fn of(subresource: Option<&str>) -> Option<Part> {
        Some(match subresource {
            None | Some("resize") => Part::Main,
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

/// What a JSON patch that cannot be applied is answered with.
fn patch_rejected() -> ApiError {
    ApiError::about(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        json!({}),
    )
}

/// Applies a request's patch to an object in the version asked for.
pub fn apply_patch(
    definition: &'static schema::Definition,
    kind: PatchKind,
    target: Value,
    text: &[u8],
    validation: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let mut patched = target;
    let mut display = "\"<object>\"".to_owned();
    match kind {
        PatchKind::Json => {
            if let Ok(Value::Object(_)) = serde_json::from_slice::<Value>(text) {
                return Err(ApiError::bad_request(
                    "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
                ));
            }
            let operations: Vec<Value> = serde_json::from_slice(text)
                .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
            let operations: json_patch::Patch =
                serde_json::from_value(Value::Array(operations)).map_err(|_| patch_rejected())?;
            json_patch::patch(&mut patched, &operations).map_err(|_| patch_rejected())?;
        }
        PatchKind::Merge => {
            let given: Value = serde_json::from_slice(text)
                .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
            patch::merge(&mut patched, given);
        }
        PatchKind::Strategic => {
            let given: Value = serde_json::from_slice(text)
                .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
            let Value::Object(map) = &given else {
                return Err(ApiError::bad_request("error decoding patch: the patch is not an object"));
            };
            display = format!("\"{}\"", patch::go_map(map));
            patch::strategic(definition, &mut patched, given)
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
        }
        PatchKind::Apply => return Err(unsupported_media()),
    }
    let invalid = |why: &str| invalid_patch(&display, why);
    let decoded = schema::decode_value(definition, patched).map_err(|e| invalid(&e))?;
    body::strict(decoded.strict, validation, warnings).map_err(|e| invalid(&e))?;
    Ok(decoded.value)
}

/// The answer to a patch that makes no object of the kind.
fn invalid_patch(display: &str, why: &str) -> ApiError {
    let message = format!("Invalid value: {display}: {why}");
    let details = json!({"causes": [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]});
    ApiError::about(422, "Invalid", format!(" \"\" is invalid: patch: {message}"), details)
}

/// The answer to a patch in a language that is not spoken here.
pub fn unsupported_media() -> ApiError {
    ApiError::about(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({}))
}

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
        let new = body::object(&subject, &request.body, validation, warnings)?;
        check_name(&subject, &new)?;
        let strategy = kinds::strategy(subject.stored);
        let absent =
            part == Part::Main && strategy.create_on_update && subject.find(&*self.fresh().await?).is_none();
        if absent {
            let mut new = new;
            if let Some(meta) = object::existing_mut(&mut new, &["metadata"]) {
                meta.remove("resourceVersion");
            }
            return self.create_object(request, subject, new, warnings).await;
        }
        let version = object::text(&new, &["metadata", "resourceVersion"]);
        let unconditional = version.is_empty() || version == "0";
        if unconditional && !strategy.unconditional_update {
            let mut errors = Errors::default();
            errors.invalid(&Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
            // An absent object is reported as such first.
            if subject.find(&*self.fresh().await?).is_none() {
                return Err(subject.not_found());
            }
            check(errors, subject.resource.group, subject.resource.plural, subject.name)?;
        }
        self.rewrite(request, subject, part, warnings, |_, _| Ok(new.clone())).await
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
        if kind == PatchKind::Strategic && subject.custom.is_some() {
            return Err(unsupported_media());
        }
        let validation = request.options.field_validation.as_deref();
        self.rewrite(request, subject, part, warnings, |old, warnings| {
            let shown = if subject.custom.is_some() {
                old.clone()
            } else {
                convert::from_storage(resource, old.clone())
            };
            let mut said = Vec::new();
            let mut value = apply_patch(definition, kind, shown, &request.body, validation, &mut said)?;
            if let Some(custom) = subject.custom {
                let unknown = custom.admit(&mut value);
                body::strict(unknown, validation, &mut said)
                    .map_err(|why| invalid_patch("\"<object>\"", &why))?;
                *warnings = said;
                check_name(&subject, &value)?;
                return Ok(value);
            }
            *warnings = said;
            let value = body::defaulted(resource, subject.stored, subject.definition, value);
            check_name(&subject, &value)?;
            Ok(value)
        })
        .await
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
        let resource = subject.resource;
        for _ in 0..RETRIES_MAX {
            let snapshot = self.fresh().await?;
            let stored = subject.find(&snapshot).ok_or_else(|| subject.not_found())?;
            let old = subject.opened(&stored)?;
            let mut said = Vec::new();
            let mut new = produce(&old, &mut said)?;
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
                options::revision(&version).map_err(|_| {
                    let mut errors = Errors::default();
                    errors.invalid(
                        &Path::new("metadata.resourceVersion"),
                        version.as_str(),
                        "must be an unsigned integer",
                    );
                    errors
                        .into_error(resource.group, resource.kind, subject.name)
                        .unwrap_or_else(not_possible)
                })?;
                if version != stored.revision.to_string() {
                    return Err(ApiError::conflict(resource.group, resource.plural, subject.name, MODIFIED));
                }
            }
            let strategy = kinds::strategy(subject.stored);
            self.prepare(&subject, part, &strategy, &mut new, &old);
            let mut write =
                Write { request, subject, old: Some(&old), snapshot: &snapshot, warnings: &mut said };
            admission::mutate(self, &mut write, &mut new)?;
            let new = finish(subject.definition, new);
            let mut errors = Errors::default();
            let at = Path::new("metadata");
            meta::validate_update(&new["metadata"], &old["metadata"], &at, &mut errors);
            meta::validate(
                &new["metadata"],
                resource.namespaced,
                kinds::strategy(subject.stored).names,
                &at,
                &mut errors,
            );
            // Upstream finds these twice on its way, but for kinds whose own validation does not look again.
            if !kinds::checked_once(subject.stored) {
                meta::validate_update(&new["metadata"], &old["metadata"], &at, &mut errors);
            }
            subject.check_fields(&new, Some(&old), &mut errors);
            if part == Part::Main {
                (strategy.validate)(&new, &mut errors);
                (strategy.validate_update)(&new, &old, &mut errors);
            }
            check(errors, resource.group, resource.kind, subject.name)?;
            admission::validate(self, &mut write, &new)?;
            let charge = admission::quota::charge(&write, &new)?;
            warnings.append(&mut said);

            let mut new = new;
            let allocation = self.allocate(subject.stored, Some(&old), &mut new, &snapshot)?;
            let (sealed, json) = seal(&subject, new);
            // What stands in the store may lack defaults that the kind got later.
            let stands =
                if subject.custom.is_some() { stored.value().map_err(ApiError::internal)? } else { old };
            let (before, json_before) = seal(&subject, stands);
            if json == json_before {
                return Ok(Answer {
                    code: 200,
                    body: shown(&subject, &json, stored.revision)?,
                    revision: stored.revision,
                });
            }
            if request.options.dry_run {
                return Ok(Answer {
                    code: 200,
                    body: shown(&subject, &json, stored.revision)?,
                    revision: stored.revision,
                });
            }
            let mut txn = Txn {
                compares: vec![Compare { key: subject.key(), mod_revision: stored.revision }],
                ..Txn::default()
            };
            if is_finished(&sealed, &before) {
                txn.ops.push(Op::Delete { key: subject.key() });
                self.release(subject.stored, &sealed).into_iter().for_each(|op| txn.ops.push(op));
            } else {
                txn.ops.push(self.put(&subject, &json).await?);
                allocation.add_to(&mut txn);
                charge.add_to(&mut txn);
            }
            match self.commit(txn).await? {
                TxnResult::Committed { revision } => {
                    return Ok(Answer { code: 200, body: shown(&subject, &json, revision)?, revision });
                }
                TxnResult::Conflict { .. } if named && !patching => {
                    return Err(ApiError::conflict(resource.group, resource.plural, subject.name, MODIFIED));
                }
                TxnResult::Conflict { .. } => {}
            }
        }
        Err(ApiError::conflict(resource.group, resource.plural, subject.name, MODIFIED))
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
        for name in ["uid", "creationTimestamp"] {
            if object::text(new, &["metadata", name]).is_empty() {
                object::copy_meta(old, new, name);
            }
        }
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace"] {
            object::copy_meta(old, new, name);
        }
        let has_status = subject.stored.subresource("status").is_some();
        match part {
            Part::Main => {
                if has_status {
                    object::copy_field(old, new, "status");
                }
                (strategy.prepare_update)(new, old);
                if strategy.generation {
                    let canonical = finish(subject.definition, new.clone());
                    let differs = canonical.as_object().into_iter().flatten().any(|(name, value)| {
                        !matches!(name.as_str(), "metadata" | "kind" | "apiVersion")
                            && !(has_status && name == "status")
                            && old.get(name) != Some(value)
                    });
                    let annotated = subject.stored.plural == "deployments"
                        && !object::same(&canonical, old, &["metadata", "annotations"]);
                    if differs || annotated {
                        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                        new["metadata"]["generation"] = generation.into();
                    }
                }
            }
            Part::Status if subject.custom.is_some() => {
                keep_all_but(new, old, "status");
                let revision = new["metadata"]["resourceVersion"].clone();
                object::copy_field(old, new, "metadata");
                new["metadata"]["resourceVersion"] = revision;
            }
            Part::Status => {
                keep_all_but(new, old, "status");
                if subject.stored.plural == "deployments" {
                    object::copy_meta(old, new, "labels");
                }
                object::copy_meta(old, new, "ownerReferences");
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
                let mut kept = old.clone();
                kept["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
                if !containers.is_null() && containers != kept["spec"]["ephemeralContainers"] {
                    kept["spec"]["ephemeralContainers"] = containers;
                    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                    kept["metadata"]["generation"] = generation.into();
                }
                *new = kept;
            }
            Part::Approval => {
                let conditions = new["status"]["conditions"].clone();
                let mut kept = old.clone();
                kept["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
                object::object_mut(&mut kept, &["status"]).insert("conditions".to_owned(), conditions);
                *new = kept;
            }
        }
    }
}

fn not_possible() -> ApiError {
    ApiError::internal("an error list was empty")
}

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

fn check_name(subject: &Subject<'_>, value: &Value) -> Result<(), ApiError> {
    let given = object::name(value);
    if !given.is_empty() && given != subject.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            subject.name
        )));
    }
    if given.is_empty() {
        return Err(ApiError::bad_request("the name of the object must be specified (metadata.name)"));
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
