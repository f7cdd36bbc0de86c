//! How long a store takes, under the names that upstream has for etcd; the embedded store is measured alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::Stage;
use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{
    BatchStream, KeyRange, LeaseId, Op, Range, RangeResult, Store, StoreError, Txn, TxnResult, parse_key,
};
use crate::metrics::DURATIONS;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    group: String,
    operation: &'static str,
    resource: String,
}

/// A store in front of another one, which it measures.
pub struct MeasuredStore {
    inner: Arc<dyn Store>,
    requests: Family<Asked, Counter>,
    errors: Family<Asked, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

/// What a transaction does to the object that it is about, which is the first one.
fn operation(txn: &Txn) -> (&'static str, &str) {
    let key = txn.ops.first().map_or("", Op::key);
    let fresh = txn.compares.iter().any(|compare| compare.key == key && compare.mod_revision == 0);
    let does = match txn.ops.first() {
        Some(Op::Delete { .. }) => "delete",
        Some(Op::Put { .. }) if fresh => "create",
        Some(Op::Put { .. }) => "update",
        None => "get",
    };
    (does, key)
}

/// The kind whose keys a read is about.
fn labels(operation: &'static str, key: &str) -> Asked {
    // A prefix names a kind as the key of an object of it does.
    let named = if key.ends_with('/') { format!("{key}-") } else { key.to_owned() };
    let (group, resource) = parse_key(&named).map_or(("", ""), |parts| (parts.group, parts.resource));
    Asked { group: group.to_owned(), operation, resource: resource.to_owned() }
}

impl MeasuredStore {
    /// Measures a store. Once per stage.
    pub fn new(inner: Arc<dyn Store>, stage: &Stage) -> Self {
        let store = MeasuredStore {
            inner,
            requests: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
        };
        stage.with_metrics(|r| {
            r.register(
                "etcd_requests",
                "[ALPHA] Etcd request counts for each operation and object type",
                store.requests.clone(),
            );
            r.register(
                "etcd_request_errors",
                "[ALPHA] Etcd failed request counts for each operation and object type",
                store.errors.clone(),
            );
            r.register(
                "etcd_request_duration_seconds",
                "[ALPHA] Etcd request latency in seconds for each operation and object type",
                store.durations.clone(),
            );
        });
        store
    }

    async fn measured<T>(
        &self,
        labels: Asked,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = work.await;
        self.durations.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
        self.requests.get_or_create(&labels).inc();
        if result.is_err() {
            self.errors.get_or_create(&labels).inc();
        }
        result
    }
}

#[async_trait]
impl Store for MeasuredStore {
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        let labels = match &range.keys {
            KeyRange::Key(key) => labels("get", key),
            KeyRange::Prefix(prefix) => labels("list", prefix),
        };
        self.measured(labels, self.inner.range(range)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let (does, key) = operation(&txn);
        let labels = labels(does, key);
        self.measured(labels, self.inner.txn(txn)).await
    }

    async fn watch(&self, prefix: &str, after_revision: u64) -> Result<BatchStream, StoreError> {
        self.inner.watch(prefix, after_revision).await
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

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_revoke(lease).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_about_its_first_object() {
        let put = |revision| Txn::put("/registry/core/pods/default/a", revision, "{}");
        assert_eq!(operation(&put(0)), ("create", "/registry/core/pods/default/a"));
        assert_eq!(operation(&put(7)).0, "update");
        assert_eq!(operation(&Txn::delete("/registry/apps/deployments/n/a", 7)).0, "delete");
    }

    #[test]
    fn keys_and_prefixes_name_kinds() {
        for (key, group, resource) in [
            ("/registry/core/pods/default/a", "", "pods"),
            ("/registry/apps/deployments/", "apps", "deployments"),
            ("/registry/apps/deployments/default/", "apps", "deployments"),
            ("/registry/", "", ""),
            ("elsewhere", "", ""),
        ] {
            let labels = labels("get", key);
            assert_eq!((labels.group.as_str(), labels.resource.as_str()), (group, resource), "{key}");
        }
    }
}
