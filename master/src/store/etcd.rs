//! The store on an external etcd cluster (v3 API, 3.4 and newer), what production uses.
//!
//! Calls fail as [`StoreError::Unavailable`] within [`DEADLINE`]; the connection is mended underneath
//! without anyone's help. Reads are tried again within the deadline, writes are not: whether a lost one
//! happened is for the caller to find out, by its compare.
//!
//! Every transaction also puts [`HEAD`], with the cause of the write. That tells two things which etcd
//! alone does not: who deleted a key, and the newest revision of our own data, whoever else uses the
//! cluster.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Client, Compare as EtcdCompare, CompareOp, ConnectOptions, Error, GetOptions, KeyValue, PutOptions,
    TxnOp, TxnOpResponse,
};
use futures::StreamExt;

use super::{
    BatchStream, KeyRange, LeaseId, Op, Range, RangeResult, Record, Store, StoreError, TXN_BYTES_MAX, Txn,
    TxnResult, envelope,
};

mod watching;

/// A call is answered, or fails, within this time.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The key that every transaction puts. It lies before all objects, outside of their prefix.
const HEAD: &str = "/registry.head";
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A connection that does not answer a ping for so long is given up.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Keeps a little room for what etcd adds to a request.
const REQUEST_SLACK: usize = 4096;

/// The store on etcd. Cheap to clone.
#[derive(Clone)]
pub struct EtcdStore {
    client: Client,
}

impl EtcdStore {
    /// A store on these endpoints (`http://10.0.0.1:2379`). Does not wait for them: calls fail until one
    /// can be reached.
    pub async fn connect(endpoints: &[String]) -> Result<Self, StoreError> {
        let options = ConnectOptions::new()
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(Duration::from_secs(2))
            .with_require_leader(true);
        let client = Client::connect(endpoints, Some(options)).await.map_err(|e| failure(e, 0))?;
        Ok(EtcdStore { client })
    }

    /// Asks once, within the deadline.
    async fn once<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(result) => result.map_err(|e| failure(e, 0)),
            Err(_) => Err(StoreError::Unavailable("etcd does not answer".to_owned())),
        }
    }

    /// Asks a question that changes nothing, again and again within the deadline.
    async fn read<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = tokio::time::Instant::now() + DEADLINE;
        let mut backoff = BACKOFF_MIN;
        loop {
            let error = match tokio::time::timeout_at(until, ask(self.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => failure(error, 0),
                Err(_) => return Err(StoreError::Unavailable("etcd does not answer".to_owned())),
            };
            if !matches!(error, StoreError::Unavailable(_)) || tokio::time::Instant::now() + backoff >= until
            {
                return Err(error);
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        let mut options = GetOptions::new();
        let start = match &range.keys {
            KeyRange::Key(key) => {
                if range.start_after.as_ref().is_some_and(|after| key <= after) {
                    let revision = range.revision.unwrap_or(self.current_revision().await?);
                    return Ok(RangeResult { revision, ..RangeResult::default() });
                }
                key.clone().into_bytes()
            }
            KeyRange::Prefix(prefix) => {
                options = options.with_range(prefix_end(prefix));
                match &range.start_after {
                    // The next possible key.
                    Some(after) if after >= prefix => [after.as_bytes(), b"\0"].concat(),
                    _ => prefix.clone().into_bytes(),
                }
            }
        };
        if range.limit > 0 {
            options = options.with_limit(range.limit as i64);
        }
        if let Some(revision) = range.revision {
            options = options.with_revision(as_i64(revision));
        }
        let answer = self
            .read(|client| {
                let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
                let (start, options) = (start.clone(), options.clone());
                async move { kv.get(start, Some(options)).await }
            })
            .await
            .map_err(|error| at_revision(error, &range))?;
        let mut result = RangeResult {
            revision: range.revision.unwrap_or(revision_of(answer.header())),
            more: answer.more(),
            remaining: (answer.count() as u64).saturating_sub(answer.kvs().len() as u64),
            ..RangeResult::default()
        };
        for kv in answer.kvs() {
            match record(kv) {
                Ok(record) => result.records.push(record),
                Err(StoreError::Corrupt { key, .. }) if matches!(range.keys, KeyRange::Prefix(_)) => {
                    result.corrupt.push(key);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(result)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        txn.check()?;
        let compares: Vec<EtcdCompare> = txn
            .compares
            .iter()
            .map(|c| EtcdCompare::mod_revision(c.key.as_str(), CompareOp::Equal, as_i64(c.mod_revision)))
            .collect();
        let mut ops = vec![TxnOp::put(HEAD, envelope::encode(txn.trace, b"{}"), None)];
        for op in &txn.ops {
            ops.push(match op {
                Op::Put { key, value, lease } => TxnOp::put(
                    key.as_str(),
                    envelope::encode(txn.trace, value),
                    lease.map(|lease| PutOptions::new().with_lease(lease.0)),
                ),
                Op::Delete { key } => TxnOp::delete(key.as_str(), None),
            });
        }
        let reads: Vec<TxnOp> = txn.compares.iter().map(|c| TxnOp::get(c.key.as_str(), None)).collect();
        let asked = etcd_client::Txn::new().when(compares).and_then(ops).or_else(reads);
        let mut kv = self
            .client
            .kv_client()
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(TXN_BYTES_MAX + REQUEST_SLACK * 1024);
        let answer = self.once(async move { kv.txn(asked).await }).await.map_err(|error| match error {
            StoreError::LeaseNotFound(_) => StoreError::LeaseNotFound(lease_of(&txn)),
            other => other,
        })?;
        let revision = revision_of(answer.header());
        if answer.succeeded() {
            return Ok(TxnResult::Committed { revision });
        }
        let mut current = Vec::with_capacity(txn.compares.len());
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(found) = response {
                current.push(found.kvs().first().map(record).transpose()?);
            }
        }
        Ok(TxnResult::Conflict { current, revision })
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError> {
        let watch = watching::Watch::new(self.client.clone(), prefix, after_revision);
        let batches = futures::stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(batch) => Some((Ok(batch), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(batches.boxed())
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let mut kv = self.client.kv_client();
        self.once(async move { kv.compact(as_i64(revision), None).await })
            .await
            .map_err(|error| at_revision(error, &Range::key("").at(revision)))
            .map(drop)
    }

    async fn current_revision(&self) -> Result<u64, StoreError> {
        let answer = self
            .read(|client| {
                let mut kv = client.kv_client();
                async move { kv.get(HEAD, None).await }
            })
            .await?;
        let head = answer.kvs().first().map(|kv| as_u64(kv.mod_revision()));
        // Nothing of ours yet: any revision that exists will do.
        Ok(head.unwrap_or(revision_of(answer.header())))
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        // etcd counts whole seconds; a lease must not end early.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let mut lease = self.client.lease_client();
        let answer = self.once(async move { lease.grant(as_i64(seconds.max(1)), None).await }).await?;
        Ok(LeaseId(answer.id()))
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<(), StoreError> {
        let answer = self
            .read(|client| async move {
                let mut lease = client.lease_client();
                let (mut keeper, mut answers) = lease.keep_alive(id.0).await?;
                keeper.keep_alive().await?;
                answers.message().await
            })
            .await
            .map_err(|error| name_lease(error, id))?;
        match answer {
            Some(answer) if answer.ttl() > 0 => Ok(()),
            Some(_) => Err(StoreError::LeaseNotFound(id)),
            None => Err(StoreError::Unavailable("etcd ended the lease's stream".to_owned())),
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        let mut lease = self.client.lease_client();
        self.once(async move { lease.revoke(id.0).await }).await.map(drop).map_err(|e| name_lease(e, id))
    }
}

fn as_i64(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn as_u64(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> u64 {
    header.map_or(0, |header| as_u64(header.revision()))
}

fn lease_of(txn: &Txn) -> LeaseId {
    let leases = txn.ops.iter().filter_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } => None,
    });
    leases.last().unwrap_or(LeaseId(0))
}

fn name_lease(error: StoreError, id: LeaseId) -> StoreError {
    match error {
        StoreError::LeaseNotFound(_) => StoreError::LeaseNotFound(id),
        other => other,
    }
}

/// Names the revision that was asked for in errors about it.
fn at_revision(error: StoreError, range: &Range) -> StoreError {
    match error {
        StoreError::Future { current, .. } => {
            StoreError::Future { asked: range.revision.unwrap_or_default(), current }
        }
        other => other,
    }
}

/// The first key after everything under a prefix.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // etcd's spelling of "no end".
    vec![0]
}

fn record(kv: &KeyValue) -> Result<Record, StoreError> {
    let key = String::from_utf8_lossy(kv.key()).into_owned();
    let (trace, value) = envelope::decode(&key, Bytes::copy_from_slice(kv.value()))?;
    Ok(Record {
        key,
        value,
        trace,
        create_revision: as_u64(kv.create_revision()),
        mod_revision: as_u64(kv.mod_revision()),
        version: as_u64(kv.version()),
    })
}

/// What an error of the client means. `current` is the newest revision known, where one is.
fn failure(error: Error, current: u64) -> StoreError {
    let whole = error.to_string();
    let message = match &error {
        Error::GRpcStatus(status) => status.message(),
        _ => whole.as_str(),
    };
    if message.contains("has been compacted") {
        // etcd does not say which is the oldest revision that is left.
        return StoreError::Compacted { oldest: 0 };
    }
    if message.contains("is a future revision") {
        return StoreError::Future { asked: 0, current };
    }
    if message.contains("request is too large") || message.contains("larger than max") {
        return StoreError::TooLarge { bytes: 0, max: TXN_BYTES_MAX };
    }
    if message.contains("lease not found") {
        return StoreError::LeaseNotFound(LeaseId(0));
    }
    StoreError::Unavailable(format!("etcd: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        for (prefix, end) in [("/registry/", &b"/registry0"[..]), ("a", b"b"), ("", b"\0")] {
            assert_eq!(prefix_end(prefix), end, "{prefix}");
        }
        assert!(HEAD < super::super::ROOT);
    }
}
