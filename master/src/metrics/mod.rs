//! Metrics that belong to no part of the server in particular. What a part counts lies with that part:
//! `front::metrics`, `front::fairness::measured`, `api::webhook::measured`, `store::measured`.
//!
//! - [`cluster`]: what the snapshot shows: objects by kind, other servers that are away.
//! - [`process`]: what the kernel counts of this process.
//! - [`waited`]: which part of a request's time others took.
//! - [`held`]: what is counted with every request, at hand.
//!
//! Names, labels, buckets and help are upstream's where the thing measured is the same. What has no meaning here is
//! left out rather than made up: Go's runtime, gRPC and REST clients, the caches for tokens and data keys, watch
//! caches by kind, and fairness by virtual time.
//! Labels have few values: kinds that are served, names of configured objects, never what a request brought.

pub mod cluster;
pub mod held;
pub mod process;
pub mod waited;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper ends of the buckets of the durations of requests, here and at the store, in seconds: upstream's.
pub const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// A counter that upstream gave a name without `_total`. OpenMetrics knows no such counters, so there it is of no
/// known type.
#[derive(Clone, Debug, Default)]
pub struct Bare(Counter);

impl Bare {
    /// Counts one.
    pub fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for Bare {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Bare {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_bare_counter_keeps_its_name() {
        let (mut registry, bare, mut text) = (Registry::default(), Bare::default(), String::new());
        registry.register("attempts", "Tried", bare.clone());
        bare.inc();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        assert_eq!(text, "# HELP attempts Tried.\n# TYPE attempts unknown\nattempts 1\n# EOF\n");
    }
}
