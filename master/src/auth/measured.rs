//! What is counted of authorization, under upstream's names.

use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::Decision;
use crate::metrics::held::Held;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    result: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// The metrics of authorization.
#[derive(Clone)]
pub struct AuthorizationMetrics {
    attempts: Family<Decided, Counter>,
    durations: Family<Decided, Histogram, fn() -> Histogram>,
    held: Arc<Held<&'static str, (Counter, Histogram)>>,
}

impl Default for AuthorizationMetrics {
    fn default() -> Self {
        AuthorizationMetrics {
            attempts: Family::default(),
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            held: Arc::default(),
        }
    }
}

impl AuthorizationMetrics {
    /// Registers them with the stage. Once per stage.
    pub fn register(&self, stage: &Stage) {
        stage.with_metrics(|r| {
            r.register(
                "authorization_attempts",
                "[ALPHA] Counter of authorization attempts broken down by result",
                self.attempts.clone(),
            );
            r.register(
                "authorization_duration_seconds",
                "[ALPHA] Authorization duration in seconds broken out by result",
                self.durations.clone(),
            );
        });
    }

    /// It was decided about a request.
    pub fn decided(&self, decision: &Decision, took: Duration) {
        let result = match decision {
            Decision::Allow(_) => "allowed",
            Decision::Deny(_) => "denied",
            Decision::NoOpinion(_) => "no-opinion",
        };
        let (attempts, durations) = self.held.get(&result, || {
            let decided = Decided { result };
            (self.attempts.get_or_create_owned(&decided), self.durations.get_or_create_owned(&decided))
        });
        attempts.inc();
        durations.observe(took.as_secs_f64());
    }
}
