//! Objects in the version that a request asks for, and in the one that is stored, where a webhook lies between.
//!
//! Of kinds without such a webhook nothing is done here: the little that differs is seen to where objects are read
//! and written.

use std::sync::Arc;

use bytes::Bytes;
use protocol::ApiError;
use serde_json::Value;

use super::{Subject, seal, shown, spliced};
use crate::api::object;
use crate::api::pipeline::Inner;
use crate::cache::{Snapshot, Stored};
use crate::store::Record;

impl Inner {
    /// Stored objects in the version asked for, as far as a webhook makes it.
    pub async fn in_version(
        &self,
        subject: &Subject<'_>,
        all: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        match subject.custom {
            Some(custom) => self.converter.stored(custom, all).await,
            None => Ok(all),
        }
    }

    /// The object in a snapshot, in the version asked for as far as a webhook makes it.
    pub async fn found(&self, subject: &Subject<'_>, snapshot: &Snapshot) -> Result<Arc<Stored>, ApiError> {
        let stored = subject.find(snapshot).ok_or_else(|| subject.not_found())?;
        let mut one = self.in_version(subject, vec![stored]).await?;
        one.pop().ok_or_else(|| subject.not_found())
    }

    /// The object as it is stored, in the version that is stored.
    pub async fn sealed(&self, subject: &Subject<'_>, value: Value) -> Result<(Value, Bytes), ApiError> {
        let value = match subject.custom {
            Some(custom) => self.converter.object(custom, custom.stored.version, value).await?,
            None => value,
        };
        Ok(seal(subject, value))
    }

    /// What was stored just now as the client sees it: with its resourceVersion, in the version asked for. What
    /// was not stored after all (of a dry run) is nobody else's business.
    pub async fn shown(
        &self,
        subject: &Subject<'_>,
        json: &Bytes,
        revision: u64,
        stored: bool,
    ) -> Result<Bytes, ApiError> {
        let Some(custom) = subject.custom.filter(|custom| custom.webhook.is_some()) else {
            return shown(subject, json, revision);
        };
        let json = spliced(json, revision);
        if json.starts_with(object::head(subject.resource).as_bytes()) {
            return Ok(json);
        }
        if !stored {
            let value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
            let made = self.converter.object(custom, subject.resource.version, value).await?;
            return Ok(object::encode_own(&made));
        }
        let record = Record {
            key: subject.key(),
            value: json,
            trace: actors::trace::current(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        };
        let stored = self.cache.stored(record).ok_or_else(|| ApiError::internal("no object was stored"))?;
        let made = self.converter.stored(custom, vec![stored]).await?;
        made.into_iter().next().map(|stored| stored.json.clone()).ok_or_else(|| subject.not_found())
    }
}
