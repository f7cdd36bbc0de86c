//! The standard `workqueue_*` metrics, one series per controller.

use std::sync::Arc;

use actors::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-6, 10.0, 10))
}

/// The metrics of all queues.
#[derive(Clone)]
pub struct QueueMetrics {
    inner: Arc<Families>,
}

struct Families {
    depth: Family<Name, Gauge>,
    adds: Family<Name, Counter>,
    retries: Family<Name, Counter>,
    waited: Family<Name, Histogram, fn() -> Histogram>,
    worked: Family<Name, Histogram, fn() -> Histogram>,
}

/// The metrics of one queue.
#[derive(Clone)]
pub struct OneQueue {
    /// Keys that wait.
    pub depth: Gauge,
    /// Keys added.
    pub adds: Counter,
    /// Keys that come back after a failure.
    pub retries: Counter,
    /// How long keys waited, in seconds.
    pub waited: Histogram,
    /// How long reconciles took, in seconds.
    pub worked: Histogram,
}

impl QueueMetrics {
    /// Registers the metrics with the stage. Once per stage.
    pub fn register(stage: &Stage) -> Self {
        let families = Families {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waited: Family::new_with_constructor(seconds as fn() -> Histogram),
            worked: Family::new_with_constructor(seconds as fn() -> Histogram),
        };
        stage.with_metrics(|r| {
            r.register("workqueue_depth", "Current depth of workqueue", families.depth.clone());
            r.register("workqueue_adds", "Total number of adds handled by workqueue", families.adds.clone());
            r.register(
                "workqueue_retries",
                "Total number of retries handled by workqueue",
                families.retries.clone(),
            );
            r.register(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested",
                families.waited.clone(),
            );
            r.register(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes",
                families.worked.clone(),
            );
        });
        QueueMetrics { inner: Arc::new(families) }
    }

    /// The series of one queue.
    pub fn of(&self, name: &'static str) -> OneQueue {
        let name = Name { name };
        OneQueue {
            depth: self.inner.depth.get_or_create(&name).clone(),
            adds: self.inner.adds.get_or_create(&name).clone(),
            retries: self.inner.retries.get_or_create(&name).clone(),
            waited: self.inner.waited.get_or_create(&name).clone(),
            worked: self.inner.worked.get_or_create(&name).clone(),
        }
    }
}
