//! Deleting objects: at once, gracefully, or when their finalizers are done.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{ApiError, ApiRequest, Verb};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{Answer, RETRIES_MAX, Subject, seal, shown};
use crate::api::admission::reinvocation::Reinvocation;
use crate::api::admission::{self, Write};
use crate::api::pipeline::Inner;
use crate::api::{kinds, object};
use crate::cache::{Snapshot, Stored};
use crate::store::{Compare, Op, Txn, TxnResult};

/// Warnings that the deletion of a collection gives at most.
const WARNINGS_MAX: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a delete does to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It goes now.
    Gone,
    /// It stays, in this state, until someone finishes the deletion.
    Marked(Value),
    /// It is on its way out already, and nothing changes.
    Same,
}

/// Decides what a delete does.
pub fn decide(
    resource: &protocol::Resource,
    object: &Value,
    request: &ApiRequest,
    now: OffsetDateTime,
) -> Fate {
    let options = &request.options;
    let mut new = object.clone();
    let mark = kinds::strategy(resource).mark_deleted;
    if let Some(mark) = mark.filter(|_| !object::is_deleting(object)) {
        mark(&mut new);
    }
    let finalizers = wanted_finalizers(resource, &new, request);
    if finalizers.is_empty() {
        object::object_mut(&mut new, &["metadata"]).remove("finalizers");
    } else {
        new["metadata"]["finalizers"] = finalizers.clone().into();
    }
    let grace =
        if resource.plural == "pods" && resource.group.is_empty() { pod_grace(object, options) } else { 0 };
    let namespace = resource.plural == "namespaces";
    let waits =
        !finalizers.is_empty() || (namespace && !object::list(object, &["spec", "finalizers"]).is_empty());
    if grace == 0 && !waits {
        return Fate::Gone;
    }
    let deleting = object::is_deleting(object);
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    // A later delete may only shorten the time.
    if !deleting || before.is_some_and(|b| grace < b) {
        let at = protocol::schema::decode::print_time(now + Duration::seconds(grace));
        let meta = object::object_mut(&mut new, &["metadata"]);
        meta.insert("deletionTimestamp".to_owned(), at.into());
        meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        let counted =
            meta.get("generation").and_then(Value::as_i64).filter(|g| *g > 0 && mark.is_none() && !deleting);
        if let Some(generation) = counted {
            meta.insert("generation".to_owned(), (generation + 1).into());
        }
    }
    // Who has a way of ending such kinds of its own names no time; whoever deletes them once more does.
    if mark.is_some() {
        let meta = object::object_mut(&mut new, &["metadata"]);
        if deleting {
            meta.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
        } else {
            meta.remove("deletionGracePeriodSeconds");
        }
    }
    if namespace {
        new["status"]["phase"] = "Terminating".into();
        object::object_mut(&mut new, &["metadata"]).remove("deletionGracePeriodSeconds");
    }
    if new == *object { Fate::Same } else { Fate::Marked(new) }
}

fn wanted_finalizers(resource: &protocol::Resource, object: &Value, request: &ApiRequest) -> Vec<String> {
    let options = &request.options;
    let present: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(orphan), _) => (orphan, false),
        (_, Some("Orphan")) => (true, false),
        (_, Some("Foreground")) => (false, true),
        (_, Some(_)) => (false, false),
        _ if present.iter().any(|f| f == ORPHAN) => (true, false),
        _ if present.iter().any(|f| f == FOREGROUND) => (false, true),
        _ => (kinds::strategy(resource).orphans_by_default, false),
    };
    let mut made: Vec<String> = present.into_iter().filter(|f| f != ORPHAN && f != FOREGROUND).collect();
    // Nothing owns what events and the like are about; the collector would only have to undo it.
    if orphan && resource.plural != "events" {
        made.push(ORPHAN.to_owned());
    }
    if foreground && resource.plural != "events" {
        made.push(FOREGROUND.to_owned());
    }
    made
}

/// How long a pod has to end. One that no node runs, or that has ended, needs no time.
fn pod_grace(pod: &Value, options: &protocol::Options) -> i64 {
    let spec = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let grace = options.grace_period_seconds.unwrap_or(spec);
    let ended = matches!(object::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if object::text(pod, &["spec", "nodeName"]).is_empty() || ended {
        return 0;
    }
    if grace < 0 { 1 } else { grace }
}

/// The pod whose time a delete ended, and what was said of it.
struct Ended {
    pod: Arc<Stored>,
    json: Bytes,
    revision: u64,
}

impl Inner {
    /// Deletes one object.
    pub async fn delete(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let resource = subject.resource;
        let mut ended = None;
        for attempt in 0..RETRIES_MAX {
            let (snapshot, fresh) = self.to_write_from(request, attempt > 0).await?;
            let mut said = Vec::new();
            let done = match self.delete_once(request, subject, &snapshot, &mut ended, &mut said).await {
                // Somebody changed it meanwhile: what the delete meant is decided anew.
                Ok(None) => continue,
                // It may be about a state that is no more.
                Err(_) if !fresh => continue,
                Ok(Some(answer)) => Ok(answer),
                Err(error) => Err(error),
            };
            warnings.append(&mut said);
            return done;
        }
        Err(ApiError::conflict(resource.group, resource.plural, subject.name, "too many conflicting writes"))
    }

    /// Deletes an object as a snapshot shows it, if nobody is faster.
    async fn delete_once(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        snapshot: &Arc<Snapshot>,
        ended: &mut Option<Ended>,
        said: &mut Vec<String>,
    ) -> Result<Option<Answer>, ApiError> {
        let found = subject.find(snapshot);
        let stored = match (found, &*ended) {
            (Some(stored), Some(ended)) if stored.meta.uid == ended.pod.meta.uid => stored,
            // Who collects pods was faster; another of the same name is none of this delete's.
            (_, Some(Ended { json, revision, .. })) => {
                let body = shown(&subject, json, *revision)?;
                return Ok(Some(Answer { code: 200, body, revision: *revision }));
            }
            (Some(stored), None) => stored,
            (None, None) => return Err(subject.not_found()),
        };
        // They held when the pod's time ended, and this call itself gave it another version then.
        if ended.is_none() {
            preconditions(request, &subject, &stored.meta.uid, stored.revision)?;
        }
        let old = stored.value().map_err(ApiError::internal)?;
        admission::node_restriction::deletion(request, &old)?;
        let shown_to = self.found(&subject, snapshot).await?;
        let seen = match subject.custom {
            None => Cow::Borrowed(&old),
            Some(_) => Cow::Owned(subject.opened(&shown_to)?),
        };
        let mut write =
            Write { request, subject, old: Some(&seen), snapshot, warnings: said, given_empty: None };
        // An eviction was admitted as one.
        if request.target.subresource.is_none() {
            admission::deletion(self, &mut write).await?;
            self.call_mutating(&mut write, &mut Value::Null, &mut Reinvocation::default()).await?;
            self.call_validating(&mut write, None).await?;
        }
        let fate = decide(subject.stored, &old, request, actors::time::now().into());
        drop(seen);
        let strategy = kinds::strategy(subject.stored);
        let dry = request.options.dry_run;
        let mut txn = Txn {
            compares: vec![Compare { key: subject.key(), mod_revision: stored.revision }],
            ..Txn::default()
        };
        // Who asks in the old way that dependents go is told when the object itself does not yet.
        let kept = if request.options.orphan_dependents == Some(false) { 202 } else { 200 };
        match fate {
            Fate::Same if !self.is_current(&subject, &stored).await? => Ok(None),
            Fate::Same => Ok(Some(Answer {
                code: kept,
                body: super::view(&subject, shown_to.json.clone(), stored.revision)?,
                revision: stored.revision,
            })),
            Fate::Marked(new) => {
                let (sealed, json) = seal(&subject, new);
                if dry {
                    let body = self.shown(&subject, &json, stored.revision, false).await?;
                    return Ok(Some(Answer { code: kept, body, revision: stored.revision }));
                }
                txn.ops.push(self.put(&subject, &sealed, &json).await?);
                let TxnResult::Committed { revision } = self.commit(txn).await? else { return Ok(None) };
                let body = self.shown(&subject, &json, revision, true).await?;
                Ok(Some(Answer { code: kept, body, revision }))
            }
            Fate::Gone => {
                let freed = self.release(subject.stored, &old);
                let pod = subject.stored.plural == "pods" && subject.stored.group.is_empty();
                let over = if pod { Some(over(&subject, old)) } else { None };
                if let Some((true, sealed, json)) = &over
                    && !dry
                {
                    // Watchers are told that its time is over before they are told that it is gone.
                    txn.ops.push(self.put(&subject, sealed, json).await?);
                    let TxnResult::Committed { revision } = self.commit(txn).await? else { return Ok(None) };
                    *ended = Some(Ended { pod: stored.clone(), json: json.clone(), revision });
                    let compares = vec![Compare { key: subject.key(), mod_revision: revision }];
                    txn = Txn { compares, ..Txn::default() };
                }
                txn.ops.push(Op::Delete { key: subject.key() });
                txn.ops.extend(freed);
                if !dry && !matches!(self.commit(txn).await?, TxnResult::Committed { .. }) {
                    return Ok(None);
                }
                match over {
                    Some((_, _, json)) => {
                        let body = shown(&subject, &json, stored.revision)?;
                        Ok(Some(Answer { code: 200, body, revision: stored.revision }))
                    }
                    None => answer(&subject, &shown_to, strategy.returns_deleted, 200).map(Some),
                }
            }
        }
    }

    /// Deletes every object of a collection that the selectors choose.
    pub async fn delete_collection(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let chosen = match self.select(request, &subject).await {
            Err(error) if super::read::is_expired(&error) => {
                return Ok(super::read::expired(&request.options));
            }
            chosen => chosen?,
        };
        let mut items = Vec::new();
        for stored in &chosen.items {
            let one = Subject { name: &stored.meta.name, namespace: &stored.meta.namespace, ..subject };
            let mut single = request.clone();
            single.verb = Verb::Delete;
            let mut said = Vec::new();
            let deleted = self.delete(&single, one, &mut said).await;
            // They may all be told the same.
            for text in said {
                if warnings.len() < WARNINGS_MAX && !warnings.contains(&text) {
                    warnings.push(text);
                }
            }
            match deleted {
                Ok(_) => items.push(stored.clone()),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        let body = super::read::list_body(&subject, &items, &chosen.meta(request, &subject))?;
        Ok(Answer { code: 200, body, revision: chosen.revision })
    }
}

/// Whether an object is the one, and of the version, that a delete demands.
pub fn preconditions(
    request: &ApiRequest,
    subject: &Subject<'_>,
    stored_uid: &str,
    revision: u64,
) -> Result<(), ApiError> {
    let resource = subject.resource;
    let stored_revision = revision.to_string();
    let fail =
        |why: String| Err(ApiError::conflict(subject.stored.group, subject.stored.kind, subject.name, &why));
    if let Some(uid) = request.options.precondition_uid.as_deref()
        && uid != stored_uid
    {
        if resource.plural == "namespaces" || resource.plural == "customresourcedefinitions" {
            let why =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored_uid}");
            return Err(ApiError::conflict(resource.group, resource.plural, subject.name, &why));
        }
        return fail(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({stored_uid}). The object might have \
             been deleted and then recreated"
        ));
    }
    if let Some(version) = request.options.precondition_resource_version.as_deref()
        && version != stored_revision
    {
        if resource.plural == "namespaces" || resource.plural == "customresourcedefinitions" {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {stored_revision}"
            );
            return Err(ApiError::conflict(resource.group, resource.plural, subject.name, &why));
        }
        return fail(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
             ({stored_revision}). The object might have been modified"
        ));
    }
    Ok(())
}

/// A pod that goes at once, as one whose time is over, also as it is printed; before it, whether that had to be said.
fn over(subject: &Subject<'_>, mut pod: Value) -> (bool, Value, Bytes) {
    let said = end(&mut pod);
    let (sealed, json) = seal(subject, pod);
    (!said, sealed, json)
}

/// Ends a pod's time, and says whether it was over before.
fn end(pod: &mut Value) -> bool {
    let deleting = object::is_deleting(pod);
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    let meta = object::object_mut(pod, &["metadata"]);
    meta.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    if !deleting {
        meta.insert("deletionTimestamp".to_owned(), object::now().into());
        if let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
            meta.insert("generation".to_owned(), (generation + 1).into());
        }
    } else if grace > 0 {
        // It is deleted as of when it was first, with no time from then on.
        let until = meta.get("deletionTimestamp").and_then(Value::as_str);
        let until = until.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        if let Some(since) = until.and_then(|until| until.checked_sub(Duration::seconds(grace))) {
            meta.insert("deletionTimestamp".to_owned(), protocol::schema::decode::print_time(since).into());
        }
    }
    deleting && grace == 0
}

fn answer(subject: &Subject<'_>, stored: &Stored, object: bool, code: u16) -> Result<Answer, ApiError> {
    if object {
        return Ok(Answer {
            code,
            body: super::view(subject, stored.json.clone(), stored.revision)?,
            revision: stored.revision,
        });
    }
    let resource = subject.resource;
    let mut details = json!({"name": subject.name, "kind": resource.plural, "uid": &*stored.meta.uid});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    Ok(Answer::json(code, &status))
}

#[cfg(test)]
mod tests;
