//! The registry: one pipeline for every kind, driven by the resource table and the kinds' strategies.
//!
//! - [`body`]: reading request bodies. - [`create`], [`update`], [`delete`]: writes. - [`read`], [`watch`]: reads.
//! - [`versions`]: objects in the versions asked for and stored. - [`patch`]: from a patch to an object. - [`options`]: checking of request options.
//!
//! Every write is a compare-and-swap on the revision of the object that the decision was made from; losers
//! read again, unless the client named a revision.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use protocol::schema::{self, Definition};
use protocol::{ApiError, ApiRequest, Resource};
use serde_json::Value;
use tokio::time::timeout;

use super::custom::Version;
use super::custom::catalog::Found;
use super::custom::conversion::Foreseen;
use super::invalid::Errors;
use super::object;
use super::pipeline::Inner;
use crate::cache::{Snapshot, Stored, with_first_resource_version};
use crate::store::{LeaseId, Op, StoreError, Txn, TxnResult};

pub mod body;
pub mod create;
pub mod delete;
pub(super) mod demands;
mod former;
pub mod options;
mod owners;
pub mod part;
pub mod patch;
pub mod read;
mod rewrite;
pub mod update;
mod versions;
pub mod watch;

/// How long a request waits for the cache to reach a revision.
const FRESH_SECONDS_MAX: Duration = Duration::from_secs(3);
/// How often a write that names no revision is tried anew.
pub(super) const RETRIES_MAX: usize = 32;

/// What a request is about, looked up once.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The kind, in the version asked for.
    pub resource: &'static Resource,
    /// The kind as it is stored (the same, unless `resource` is a view).
    pub stored: &'static Resource,
    /// The stored kind's fields.
    pub definition: &'static Definition,
    /// The kind's declaration, if it is no kind of the table.
    pub custom: Option<&'a Version>,
    /// Where a webhook converts: what is needed converted beside the object itself.
    pub foreseen: Option<&'a Foreseen>,
    /// Namespace; empty for cluster-scoped kinds and requests across namespaces.
    pub namespace: &'a str,
    /// Name; empty for collections.
    pub name: &'a str,
}

impl<'a> Subject<'a> {
    /// A request's object (or collection), of a kind that was looked up for it.
    pub fn of(request: &'a ApiRequest, found: &'a Found) -> Result<Self, ApiError> {
        let target = &request.target;
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let name = target.name.as_deref().unwrap_or_default();
        match &found.custom {
            None => Self::new(found.resource, namespace, name),
            Some(kind) => kind
                .version(found.resource.version)
                .map(|version| Subject {
                    foreseen: found.foreseen.as_deref(),
                    ..Self::custom(version, namespace, name)
                })
                .ok_or_else(not_served),
        }
    }

    /// An object (or collection) of a declared kind.
    pub fn custom(version: &'a Version, namespace: &'a str, name: &'a str) -> Self {
        Subject {
            resource: version.resource,
            stored: version.stored,
            definition: schema::custom(),
            custom: Some(version),
            foreseen: None,
            namespace: if version.resource.namespaced { namespace } else { "" },
            name,
        }
    }

    /// An object (or collection) of a kind of the table.
    pub fn new(resource: &'static Resource, namespace: &'a str, name: &'a str) -> Result<Self, ApiError> {
        let stored = resource.stored();
        let definition = schema::kind(resource.storage.0, resource.storage.1, stored.kind)
            .ok_or_else(|| ApiError::internal(format!("no field table for {}", stored.kind)))?;
        Ok(Subject {
            resource,
            stored,
            definition,
            custom: None,
            foreseen: None,
            namespace: if resource.namespaced { namespace } else { "" },
            name,
        })
    }

    /// The object's key in the store.
    pub fn key(&self) -> String {
        self.stored.key(self.namespace, self.name)
    }

    /// The object in a snapshot.
    pub fn find(&self, snapshot: &Snapshot) -> Option<Arc<Stored>> {
        snapshot.get_key(&self.key()).cloned()
    }

    /// A stored object, as writes that ask for this version see it. Of a kind that a webhook converts it is
    /// converted already.
    pub fn opened(&self, stored: &Stored) -> Result<Value, ApiError> {
        let value = stored.value().map_err(ApiError::internal)?;
        Ok(match self.custom {
            Some(custom) => custom.from_storage(value),
            None => value,
        })
    }

    /// Checks what a declared kind's schema says, in the version asked for. `status_only` is whether only the
    /// status is written. Returns what is wrong but was so before.
    pub fn check_fields(
        &self,
        value: &Value,
        old: Option<&Value>,
        status_only: bool,
        errors: &mut Errors,
    ) -> Vec<String> {
        let Some(custom) = self.custom else { return Vec::new() };
        let mut scaled = Errors::default();
        if let Some(scale) = &custom.scale {
            scale.validate(value, status_only, &mut scaled);
        }
        let fields = &custom.fields;
        if status_only {
            fields.validate_status(value, old, scaled, errors)
        } else {
            fields.validate(value, old, scaled, errors)
        }
    }

    /// Says which new finalizers of a declared kind's object others could easily use too.
    pub fn warn_of_finalizers(&self, value: &Value, old: Option<&Value>, warnings: &mut Vec<String>) {
        if self.custom.is_some() {
            super::meta::finalizer_warnings(&value["metadata"], old.map(|old| &old["metadata"]), warnings);
        }
    }

    /// The 404 answer.
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource.group, self.resource.plural, self.name)
    }
}

/// The answer to a path that leads nowhere.
pub fn not_served() -> ApiError {
    ApiError::about(
        404,
        "NotFound",
        "the server could not find the requested resource",
        serde_json::json!({}),
    )
}

/// What a write or read comes to: an object, and the status code that says how.
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// JSON of the object, the list or the Status.
    pub body: Bytes,
    /// Its revision.
    pub revision: u64,
}

impl Answer {
    /// An answer of some JSON that no revision belongs to.
    pub fn json(code: u16, value: &Value) -> Self {
        Answer { code, body: object::encode_own(value), revision: 0 }
    }
}

/// A failure of the store as clients see it.
pub fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Unavailable(why) => ApiError::about(
            503,
            "ServiceUnavailable",
            format!("the store is unavailable: {why}"),
            serde_json::json!({"retryAfterSeconds": 1}),
        ),
        StoreError::TooLarge { .. } => ApiError::about(
            413,
            "RequestEntityTooLarge",
            "etcdserver: request is too large",
            serde_json::json!({}),
        ),
        other => ApiError::internal(other),
    }
}

impl Inner {
    /// A snapshot that shows everything that was acknowledged before this call. While the store cannot be
    /// reached, the newest there is: reads go on, and a write fails at its transaction.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, ApiError> {
        // Mostly the store need not be asked.
        if let Some(revision) = self.store.known_revision() {
            return self.at_least(revision).await;
        }
        match self.store.current_revision().await {
            Ok(revision) => self.at_least(revision).await,
            Err(StoreError::Unavailable(why)) if self.cache.revision() > 0 => {
                tracing::debug!(why, "the store cannot be reached; a read is answered from memory");
                Ok(self.cache.snapshot())
            }
            Err(error) => Err(store_error(error)),
        }
    }

    /// A snapshot that shows every write that was acknowledged through this master. What others wrote it may not show
    /// yet: enough to make a write from, since that demands what it was made from, but not to refuse one.
    pub async fn recent(&self) -> Result<Arc<Snapshot>, ApiError> {
        self.at_least(self.acknowledged.load(Ordering::Acquire)).await
    }

    /// A snapshot to make a write from, and whether it is a [`fresh`](Self::fresh) one. The first try makes do with a
    /// recent one, where a second would cost nobody anything: webhooks may do more than answer, and a dry run finds
    /// out nothing at its end.
    pub(super) async fn to_write_from(
        &self,
        request: &ApiRequest,
        again: bool,
    ) -> Result<(Arc<Snapshot>, bool), ApiError> {
        if !again && !request.options.dry_run {
            let recent = self.recent().await?;
            if !self.has_webhooks(&recent) {
                return Ok((recent, false));
            }
        }
        Ok((self.fresh().await?, true))
    }

    /// A snapshot not older than `revision`.
    pub async fn at_least(&self, revision: u64) -> Result<Arc<Snapshot>, ApiError> {
        let snapshot = self.cache.snapshot();
        if snapshot.revision() >= revision {
            return Ok(snapshot);
        }
        match timeout(FRESH_SECONDS_MAX, self.cache.wait_for(revision)).await {
            Ok(snapshot) => Ok(snapshot),
            Err(_) => Err(too_large(revision, self.cache.revision(), Some(1))),
        }
    }

    /// Commits a transaction, or tells what is there now.
    pub async fn commit(&self, txn: Txn) -> Result<TxnResult, ApiError> {
        let result = self.store.txn(txn.caused_by(actors::trace::current())).await.map_err(store_error)?;
        if let TxnResult::Committed { revision } = &result {
            self.acknowledged.fetch_max(*revision, Ordering::AcqRel);
        }
        Ok(result)
    }

    /// The operation that writes an object, which lies before us as what it was printed from too.
    pub async fn put(&self, subject: &Subject<'_>, value: &Value, json: &Bytes) -> Result<Op, ApiError> {
        let lease = if subject.stored.plural == "events" { Some(self.event_lease().await?) } else { None };
        let key = subject.key();
        self.cache.announce(&key, json, value);
        Ok(Op::Put { key, value: json.clone(), lease })
    }

    /// The lease that new events live under. A new one is begun every few minutes, so that an event lives an
    /// hour and a little.
    async fn event_lease(&self) -> Result<LeaseId, ApiError> {
        const EVENT_SECONDS: u64 = 3600;
        const RENEW_SECONDS: u64 = 300;
        let now = actors::time::Instant::now();
        if let Some((lease, granted)) = *self.event_lease.lock()
            && now.saturating_duration_since(granted) < Duration::from_secs(RENEW_SECONDS)
        {
            return Ok(lease);
        }
        let ttl = Duration::from_secs(EVENT_SECONDS + RENEW_SECONDS);
        let lease = self.store.lease_grant(ttl).await.map_err(store_error)?;
        *self.event_lease.lock() = Some((lease, now));
        Ok(lease)
    }
}

/// The answer to a request for a revision that does not exist yet.
pub(super) fn too_large(revision: u64, current: u64, retry_after_seconds: Option<u32>) -> ApiError {
    let mut details = serde_json::json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
    });
    if let Some(seconds) = retry_after_seconds {
        details["retryAfterSeconds"] = seconds.into();
    }
    let message = format!("Timeout: Too large resource version: {revision}, current: {current}");
    ApiError::about(504, "Timeout", message, details)
}

/// The object as admission and validation see it: canonical, without a resourceVersion.
pub(super) fn canonical(subject: &Subject<'_>, mut value: Value) -> Value {
    if let Some(meta) = object::existing_mut(&mut value, &["metadata"]) {
        meta.remove("resourceVersion");
        meta.remove("selfLink");
    }
    schema::decode::finish(subject.definition, value)
}

/// The object as it is stored: canonical, without a resourceVersion. What a webhook converts is converted.
pub(super) fn seal(subject: &Subject<'_>, mut value: Value) -> (Value, Bytes) {
    let Some(custom) = subject.custom else {
        let value = canonical(subject, value);
        let json = object::encode(subject.stored, &value);
        return (value, json);
    };
    value = canonical(subject, custom.to_storage(value));
    protocol::go::rewrite(&mut value);
    let json = object::encode_own(&value);
    (value, json)
}

/// What was [sealed](seal) with its resourceVersion.
fn spliced(json: &Bytes, revision: u64) -> Bytes {
    if revision == 0 {
        return json.clone();
    }
    with_first_resource_version(json, revision).unwrap_or_else(|| json.clone())
}

/// Printed JSON of an object with a resourceVersion that a client made up; an empty one is none.
pub(super) fn with_revision(json: &Bytes, named: &str) -> Result<Bytes, ApiError> {
    if named.is_empty() {
        return Ok(json.clone());
    }
    let mut value: Value = serde_json::from_slice(json).map_err(ApiError::internal)?;
    value["metadata"]["resourceVersion"] = named.into();
    Ok(object::encode_own(&value))
}

/// The object as the client sees it: with its resourceVersion, in the version asked for.
pub(super) fn shown(subject: &Subject<'_>, json: &Bytes, revision: u64) -> Result<Bytes, ApiError> {
    // What was made now was made by the schemas of now.
    view(subject, spliced(json, revision), u64::MAX)
}

/// JSON stored at a revision, in the version asked for.
pub(super) fn view(subject: &Subject<'_>, json: Bytes, revision: u64) -> Result<Bytes, ApiError> {
    if let Some(custom) = subject.custom {
        let converted = custom.webhook.is_some() && subject.resource.is_view();
        if converted || (!subject.resource.is_view() && revision > custom.since) {
            return Ok(json);
        }
        let value: Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
        return Ok(object::encode(subject.resource, &custom.from_storage(value)));
    }
    if !subject.resource.is_view() {
        return Ok(json);
    }
    let value: Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
    let shown = super::convert::from_storage(subject.resource, value);
    Ok(object::encode(subject.resource, &shown))
}
