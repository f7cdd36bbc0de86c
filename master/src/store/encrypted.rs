//! Encryption at rest: a store in front of another one that keeps some kinds' objects unreadable to whoever
//! reads the disk.
//!
//! What is stored is a JSON object still, with the name of the key and the sealed bytes in base64; the object's
//! store key is sealed along, so that values cannot be swapped. The first provider of a resource writes; all of
//! them read. So a key is replaced by putting a new one first, and writing every object once.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::{
    Batch, BatchStream, LeaseId, Op, Range, RangeResult, Record, Store, StoreError, Txn, TxnResult, parse_key,
};

pub mod config;

pub use config::EncryptionConfig;

/// The store behind, and what is encrypted on the way to it.
pub struct EncryptedStore {
    inner: Arc<dyn Store>,
    sealer: Arc<Sealer>,
}

/// A sealed object.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// Provider, version and name of the key: `aesgcm:v1:NAME`.
    #[serde(rename = "k8s:enc")]
    by: String,
    data: String,
}

/// What every sealed object begins with; no other does.
const PREFIX: &[u8] = b"{\"k8s:enc\":";

/// One way to keep objects.
pub enum Provider {
    /// As they are.
    Identity,
    /// Sealed by AES-GCM.
    AesGcm(Vec<Key>),
}

/// A named key.
pub struct Key {
    name: String,
    key: LessSafeKey,
}

impl Key {
    /// A key of 16 or 32 bytes.
    ///
    /// # Errors
    /// When its length is another one.
    pub fn new(name: &str, secret: &[u8]) -> Result<Self, String> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            other => return Err(format!("key {name:?} has {other} bytes; 16 or 32 are needed")),
        };
        let key = UnboundKey::new(algorithm, secret).map_err(|_| format!("key {name:?} is unusable"))?;
        Ok(Key { name: name.to_owned(), key: LessSafeKey::new(key) })
    }
}

/// Seals and opens objects as a configuration says.
pub struct Sealer {
    config: EncryptionConfig,
    random: SystemRandom,
}

impl Sealer {
    /// By a configuration.
    pub fn new(config: EncryptionConfig) -> Self {
        Sealer { config, random: SystemRandom::new() }
    }

    fn providers(&self, key: &str) -> &[Provider] {
        match parse_key(key) {
            Some(parts) => self.config.providers(parts.group, parts.resource),
            None => &[],
        }
    }

    fn seal(&self, key: &str, object: &Bytes) -> Result<Bytes, StoreError> {
        let Some(Provider::AesGcm(keys)) = self.providers(key).first() else { return Ok(object.clone()) };
        let failed = |why: &str| StoreError::Corrupt { key: key.to_owned(), why: why.to_owned() };
        let with = keys.first().ok_or_else(|| failed("the provider has no key"))?;
        let mut nonce = [0u8; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| failed("there is no randomness"))?;
        let mut sealed = object.to_vec();
        with.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| failed("it cannot be sealed"))?;
        let data = STANDARD.encode([&nonce[..], &sealed].concat());
        let sealed = Sealed { by: format!("aesgcm:v1:{}", with.name), data };
        serde_json::to_vec(&sealed).map(Bytes::from).map_err(|e| failed(&e.to_string()))
    }

    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, StoreError> {
        let failed = |why: &str| StoreError::Corrupt { key: key.to_owned(), why: why.to_owned() };
        if !stored.starts_with(PREFIX) {
            return Ok(stored);
        }
        let sealed: Sealed = serde_json::from_slice(&stored).map_err(|e| failed(&e.to_string()))?;
        let name =
            sealed.by.strip_prefix("aesgcm:v1:").ok_or_else(|| failed("its encryption is not known"))?;
        let with = self
            .providers(key)
            .iter()
            .filter_map(|provider| match provider {
                Provider::AesGcm(keys) => Some(keys),
                Provider::Identity => None,
            })
            .flatten()
            .find(|k| k.name == name)
            .ok_or_else(|| failed(&format!("no key named {name:?} is configured")))?;
        let mut data = STANDARD.decode(&sealed.data).map_err(|e| failed(&e.to_string()))?;
        let nonce = data.get(..NONCE_LEN).and_then(|n| Nonce::try_assume_unique_for_key(n).ok());
        let nonce = nonce.ok_or_else(|| failed("it is cut off"))?;
        let opened = with
            .key
            .open_within(nonce, Aad::from(key.as_bytes()), &mut data, NONCE_LEN..)
            .map_err(|_| failed("the key does not open it"))?;
        Ok(Bytes::copy_from_slice(opened))
    }

    fn opened(&self, mut record: Record) -> Result<Record, StoreError> {
        record.value = self.open(&record.key, record.value)?;
        Ok(record)
    }
}

impl EncryptedStore {
    /// A store before `inner`.
    pub fn new(inner: Arc<dyn Store>, config: EncryptionConfig) -> Self {
        EncryptedStore { inner, sealer: Arc::new(Sealer::new(config)) }
    }
}

#[async_trait]
impl Store for EncryptedStore {
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        let mut result = self.inner.range(range).await?;
        let records = std::mem::take(&mut result.records);
        for record in records {
            let key = record.key.clone();
            match self.sealer.opened(record) {
                Ok(record) => result.records.push(record),
                Err(error) => {
                    tracing::error!(key, %error, "a stored object cannot be opened");
                    result.corrupt.push(key);
                }
            }
        }
        Ok(result)
    }

    async fn txn(&self, mut txn: Txn) -> Result<TxnResult, StoreError> {
        for op in &mut txn.ops {
            if let Op::Put { key, value, .. } = op {
                *value = self.sealer.seal(key, value)?;
            }
        }
        match self.inner.txn(txn).await? {
            TxnResult::Conflict { current, revision } => {
                let open = |record: Option<Record>| record.map(|r| self.sealer.opened(r)).transpose();
                let current = current.into_iter().map(open).collect::<Result<_, _>>()?;
                Ok(TxnResult::Conflict { current, revision })
            }
            committed => Ok(committed),
        }
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError> {
        let sealer = self.sealer.clone();
        let batches = self.inner.watch(prefix, after_revision).await?;
        Ok(batches.map(move |batch| batch.map(|batch| opened_batch(&sealer, batch))).boxed())
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn current_revision(&self) -> Result<u64, StoreError> {
        self.inner.current_revision().await
    }

    fn known_revision(&self) -> Option<u64> {
        self.inner.known_revision()
    }

    async fn lease_grant(&self, ttl: std::time::Duration) -> Result<LeaseId, StoreError> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_revoke(lease).await
    }
}

/// A batch in the clear. What cannot be opened is passed over, as it is when everything is loaded.
fn opened_batch(sealer: &Sealer, mut batch: Batch) -> Batch {
    batch.events.retain_mut(|event| {
        let Some(record) = event.record.take() else { return true };
        match sealer.opened(record) {
            Ok(record) => {
                event.record = Some(record);
                true
            }
            Err(error) => {
                tracing::error!(key = event.key, %error, "a stored object cannot be opened");
                false
            }
        }
    });
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(text: &str) -> Sealer {
        Sealer::new(EncryptionConfig::parse(text).expect("is a configuration"))
    }

    fn config(keys: &[(&str, &str)]) -> String {
        let keys: Vec<String> = keys.iter().map(|(n, s)| format!("{{name: {n}, secret: {s}}}")).collect();
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
             providers:\n  - aesgcm: {{keys: [{}]}}\n  - identity: {{}}\n",
            keys.join(", ")
        )
    }

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const KEY: &str = "/registry/core/secrets/a/b";

    #[test]
    fn secrets_are_sealed_and_keys_rotate() {
        let object = Bytes::from_static(b"{\"data\":{\"a\":\"c2VjcmV0\"}}");
        let old = sealer(&config(&[("one", ONE)]));
        let sealed = old.seal(KEY, &object).expect("sealed");
        assert!(sealed.starts_with(PREFIX) && !sealed.windows(8).any(|w| w == b"c2VjcmV0"));
        assert_ne!(sealed, old.seal(KEY, &object).expect("sealed"), "a nonce is used once");

        let rotated = sealer(&config(&[("two", TWO), ("one", ONE)]));
        assert_eq!(rotated.open(KEY, sealed.clone()), Ok(object.clone()));
        let anew = rotated.seal(KEY, &object).expect("sealed");
        assert!(old.open(KEY, anew).is_err(), "the old configuration does not know the new key");

        assert!(old.open("/registry/core/secrets/a/other", sealed).is_err(), "values cannot be swapped");
        assert_eq!(old.open(KEY, object.clone()), Ok(object.clone()), "what was stored in the clear is read");
        let map = "/registry/core/configmaps/a/b";
        assert_eq!(old.seal(map, &object), Ok(object), "other kinds are left alone");
    }
}
