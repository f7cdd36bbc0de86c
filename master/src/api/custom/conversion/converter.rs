//! Asking the webhook, and objects in the version that a request asks for.

use std::sync::Arc;

use protocol::ApiError;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::shared::{Claim, Found, Key, Shared};
use super::{Foreseen, Webhook};
use crate::api::custom::Version;
use crate::api::object::{self, text};
use crate::api::webhook::call::Webhooks;
use crate::cache::{Cache, Stored};
use crate::store::Record;

/// Seconds that a webhook has for an answer.
const SECONDS: u64 = 30;
/// Questions that are under way at the same time.
const CALLS_MAX: usize = 32;
/// Objects of one question.
const OBJECTS_MAX: usize = 256;
/// Bytes of the objects of one question, unless it is about a single one.
const QUESTION_BYTES_MAX: usize = 1 << 20;
/// How often one write's conversions are foreseen; every time at least one more is known.
const FORESEEN_MAX: usize = 32;

/// Brings objects of declared kinds from one version to another. Cheap to clone.
#[derive(Clone)]
pub struct Converter {
    cache: Cache,
    webhooks: Webhooks,
    shared: Shared,
    calls: Arc<Semaphore>,
}

/// The answer to a request whose object cannot be converted.
fn failed(why: impl Into<String>) -> ApiError {
    ApiError::new(500, "", why)
}

impl Converter {
    /// Asks by `webhooks`, for objects of a cache.
    pub fn new(cache: Cache, webhooks: Webhooks) -> Self {
        Converter { cache, webhooks, shared: Shared::default(), calls: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// Stored objects in the version of a request. Without a webhook that is how they are stored, and what
    /// differs is left to [`Version::from_storage`].
    pub async fn stored(
        &self,
        version: &Version,
        all: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let Some(webhook) = &version.webhook else { return Ok(all) };
        let head = object::head(version.resource);
        let mut made = all;
        let mut open: Vec<usize> =
            (0..made.len()).filter(|i| !made[*i].json.starts_with(head.as_bytes())).collect();
        while !open.is_empty() {
            let (mut mine, mut coming) = (Vec::new(), Vec::new());
            for i in open {
                let key = Key {
                    since: version.since,
                    version: version.resource.version,
                    object: made[i].key.clone(),
                    revision: made[i].revision,
                };
                match self.shared.find(key) {
                    Found::Ready(known) => made[i] = known,
                    Found::Coming(other) => coming.push((i, other)),
                    Found::Mine(claim) => mine.push((i, claim)),
                }
            }
            self.fulfil(version, webhook, mine, &mut made).await?;
            open = Vec::new();
            for (i, other) in coming {
                match other.wait().await {
                    Some(outcome) => made[i] = outcome?,
                    None => open.push(i),
                }
            }
        }
        Ok(made)
    }

    /// Converts what nobody else does, as many at a time as one question holds.
    async fn fulfil(
        &self,
        version: &Version,
        webhook: &Webhook,
        mine: Vec<(usize, Claim)>,
        made: &mut [Arc<Stored>],
    ) -> Result<(), ApiError> {
        let mut rest = mine.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut claims, mut objects, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some((i, claim)) = rest.next_if(|(i, _)| {
                let more = bytes + made[*i].json.len();
                claims.is_empty() || (claims.len() < OBJECTS_MAX && more <= QUESTION_BYTES_MAX)
            }) {
                bytes += made[i].json.len();
                objects.push(version.from_store(made[i].value().map_err(ApiError::internal)?));
                claims.push((i, claim));
            }
            match self.ask(version, webhook, version.resource.version, objects).await {
                Ok(converted) => {
                    for ((i, claim), value) in claims.into_iter().zip(converted) {
                        made[i] = self.converted(&made[i], &value)?;
                        claim.fulfil(Ok(made[i].clone()));
                    }
                }
                Err(error) => {
                    claims.into_iter().for_each(|(_, claim)| claim.fulfil(Err(error.clone())));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn converted(&self, stored: &Stored, value: &Value) -> Result<Arc<Stored>, ApiError> {
        let record = Record {
            key: stored.key.to_string(),
            value: object::encode_own(value),
            trace: stored.trace,
            create_revision: stored.create_revision,
            mod_revision: stored.revision,
            version: 1,
        };
        self.cache.stored(record).ok_or_else(|| failed("the converted object is no object"))
    }

    /// An object in another version, such as `v2`.
    pub async fn object(&self, version: &Version, to: &str, value: Value) -> Result<Value, ApiError> {
        let Some(webhook) = &version.webhook else { return Ok(value) };
        let wanted = format!("{}/{to}", version.resource.group);
        if text(&value, &["apiVersion"]) == wanted {
            return Ok(value);
        }
        let mut made = self.ask(version, webhook, to, vec![value]).await?;
        made.pop().ok_or_else(|| failed("the webhook answered with no object"))
    }

    /// Converts what a computation needed and did not have. Says whether it has to be run again.
    pub async fn settle(
        &self,
        version: &Version,
        foreseen: &Foreseen,
        round: usize,
    ) -> Result<bool, ApiError> {
        let wanted = foreseen.take();
        if wanted.is_empty() || round >= FORESEEN_MAX {
            return Ok(false);
        }
        for (object, to) in wanted {
            let name = to.rsplit('/').next().unwrap_or_default();
            let converted = self.object(version, name, object.clone()).await?;
            foreseen.put(&object, &to, converted);
        }
        Ok(true)
    }

    /// Asks the webhook for objects in another version, and takes out what that version does not have.
    async fn ask(
        &self,
        version: &Version,
        webhook: &Webhook,
        to: &str,
        objects: Vec<Value>,
    ) -> Result<Vec<Value>, ApiError> {
        let desired = format!("{}/{to}", version.resource.group);
        let about = objects.first().map(object::shown_kind).unwrap_or_default();
        let uid = uuid::Uuid::new_v4().to_string();
        let question = webhook.dialect.question(&uid, &desired, &objects);
        let permit = self.calls.acquire().await.map_err(ApiError::internal)?;
        let answer = self.webhooks.call(&webhook.place, SECONDS, &question).await;
        drop(permit);
        let mut answer =
            answer.map_err(|why| failed(format!("conversion webhook for {about} failed: {why}")))?;
        let mut made = webhook.dialect.accept(&uid, &desired, &objects, &mut answer).map_err(failed)?;
        if let Some(fields) = version.siblings.get(to) {
            made.iter_mut().for_each(|value| drop(fields.prune(value)));
        }
        Ok(made)
    }
}
