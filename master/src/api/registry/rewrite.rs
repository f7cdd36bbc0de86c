//! Writing an object again from what it was, once for all verbs that do.

use std::sync::Arc;

use protocol::schema::decode::finish;
use protocol::{ApiError, ApiRequest, Verb};
use serde_json::Value;

use super::body::Sent;
use super::part::{Part, count, prepare};
use super::update::MODIFIED;
use super::{Answer, RETRIES_MAX, Subject, canonical, demands, options, owners};
use crate::api::admission::{self, Write};
use crate::api::allocate::Allocation;
use crate::api::invalid::{Errors, Path, check};
use crate::api::kinds::UpdateOrder;
use crate::api::managed::entries;
use crate::api::pipeline::Inner;
use crate::api::{kinds, meta, object};
use crate::cache::{Snapshot, Stored};
use crate::store::{Compare, Op, Txn, TxnResult};

impl Inner {
    /// Rewrites one part of an object: reads it, lets `produce` make the new state, and writes that if
    /// nobody was faster; otherwise again, unless the new state names a revision.
    pub async fn rewrite<M: Into<Sent>>(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        warnings: &mut Vec<String>,
        mut produce: impl FnMut(&Value, &mut Vec<String>) -> Result<M, ApiError>,
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
    async fn rewrite_once<M: Into<Sent>>(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        part: Part,
        snapshot: &Arc<Snapshot>,
        said: &mut Vec<String>,
        produce: &mut impl FnMut(&Value, &mut Vec<String>) -> Result<M, ApiError>,
    ) -> Result<Option<Answer>, ApiError> {
        let resource = subject.resource;
        let stands = subject.find(snapshot).ok_or_else(|| subject.not_found())?;
        let stored = self.found(&subject, snapshot).await?;
        let old = subject.opened(&stored)?;
        let Sent { value: mut new, empties } = self.produced(&subject, &old, said, produce).await?;
        let version = object::text(&new, &["metadata", "resourceVersion"]).to_owned();
        let named = !version.is_empty() && version != "0";
        let patching = request.verb == Verb::Patch;
        if named {
            options::object_revision(&version)?;
            if version != stored.revision.to_string() {
                return Err(ApiError::conflict(resource.group, resource.plural, subject.name, MODIFIED));
            }
        }
        let strategy = kinds::strategy(resource);
        if patching && version == "0" && !strategy.unconditional_update {
            demands::a_revision(&subject)?;
        }
        object::copy_meta(&old, &mut new, "namespace");
        let mut write =
            Write { request, subject, old: Some(&old), snapshot, warnings: said, given_empty: None };
        // Whoever looks at an object on its way sees what was sent, also of what is not to be changed.
        admission::mutate(self, &mut write, &mut new).await?;
        prepare(&subject, part, &strategy, &mut new, &old);
        owners::once(&mut new, owners::Stage::Admitted, write.warnings);
        let mut new = finish(subject.definition, new);
        count(&subject, part, &strategy, &mut new, &old, &empties);
        entries::keep_times(&old, &mut new);
        let new = new;
        if part == Part::Main {
            self.allocatable(subject.stored, Some(&old), &new, snapshot, request.options.dry_run)?;
        }
        let mut errors = Errors::of(empties);
        let at = Path::new("metadata");
        entries::validate(&new["metadata"], &at, &mut errors);
        // That finalizers should name a domain, and what form names have, is told by the kind's own look.
        let segment = meta::NameRule::PathSegment;
        meta::validate(&new["metadata"], resource.namespaced, segment, true, &at, &mut errors);
        meta::validate_update(&new["metadata"], &old["metadata"], &at, &mut errors);
        errors.append(admission::refused_access(&write, &new));
        // Upstream finds these twice on its way, but for kinds whose own validation does not look again.
        let twice = |errors: &mut Errors| {
            if !kinds::checked_once(resource, part) {
                meta::validate_update(&new["metadata"], &old["metadata"], &at, errors);
                if !strategy.plain_finalizers {
                    meta::domains(&new["metadata"], &at, errors);
                }
            }
        };
        let looks =
            if part == Part::Main && subject.custom.is_none() { kinds::checked_again(resource) } else { 0 };
        let object = |errors: &mut Errors| {
            for look in 0..looks.max(1) {
                if looks > 0 {
                    let also = |name: &str| (strategy.own_name)(&new, name);
                    let (names, plain): ((_, meta::AlsoNamed<'_>), _) =
                        ((strategy.names, &also), strategy.plain_finalizers);
                    meta::validate_named(&new["metadata"], resource.namespaced, names, plain, &at, errors);
                }
                strategy.check_object(part, &new, errors);
                if look == 0 {
                    strategy.check_object_once(part, &new, errors);
                }
            }
        };
        match kinds::update_order(resource, &strategy, looks > 0) {
            UpdateOrder::ObjectFirst => {
                object(&mut errors);
                twice(&mut errors);
                strategy.check_change(part, &new, &old, &mut errors);
            }
            UpdateOrder::ChangeFirst => {
                twice(&mut errors);
                strategy.check_change(part, &new, &old, &mut errors);
                object(&mut errors);
            }
            UpdateOrder::MetadataFirst => {
                twice(&mut errors);
                object(&mut errors);
                strategy.check_change(part, &new, &old, &mut errors);
            }
        }
        let kept = subject.check_fields(&new, Some(&old), part == Part::Status, &mut errors);
        // What is wrong is said about the stored kind, whichever version was asked for.
        check(errors, subject.stored.group, subject.stored.kind, subject.name)?;
        write.warnings.extend(kept);
        strategy.say(part, &new, &old, write.warnings);
        if part == Part::Main {
            subject.warn_of_finalizers(&new, Some(&old), write.warnings);
        }
        admission::validate(self, &mut write, &new).await?;
        self.call_validating(&mut write, Some(&new)).await?;
        let charge = admission::quota::charge(&self.config.admission, &self.cache, &write, &new)?;

        let mut new = new;
        let allocation = if part == Part::Main {
            self.allocate(subject.stored, Some(&old), &mut new, snapshot, request.options.dry_run)?
        } else {
            Allocation::default()
        };
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

    /// Whether a stored object is still as it was seen, now that no write will find out.
    pub(super) async fn is_current(&self, subject: &Subject<'_>, seen: &Stored) -> Result<bool, ApiError> {
        let found = subject.find(&*self.fresh().await?);
        Ok(found.is_some_and(|found| found.revision == seen.revision))
    }

    /// The new state, once everything is known that making it needs converted.
    async fn produced<M: Into<Sent>>(
        &self,
        subject: &Subject<'_>,
        old: &Value,
        said: &mut Vec<String>,
        produce: &mut impl FnMut(&Value, &mut Vec<String>) -> Result<M, ApiError>,
    ) -> Result<Sent, ApiError> {
        let (Some(custom), Some(foreseen)) = (subject.custom, subject.foreseen) else {
            return produce(old, said).map(Into::into);
        };
        let kept = said.len();
        for round in 0.. {
            let made = produce(old, said);
            if !self.converter.settle(custom, foreseen, round).await? {
                return made.map(Into::into);
            }
            said.truncate(kept);
        }
        Err(not_possible())
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

fn not_possible() -> ApiError {
    ApiError::internal("an error list was empty")
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
