//! What is counted of requests.

use std::time::Duration;

use actors::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Scheme {
    scheme: &'static str,
}

/// The metrics. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Code, Counter>,
    latency: Histogram,
    retries: Counter,
    connections: Family<Scheme, Gauge>,
    handshakes_failed: Counter,
}

impl Metrics {
    /// Registers them with the stage. Once per stage.
    pub fn register(stage: &Stage) -> Self {
        let seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
        let metrics = Metrics {
            requests: Family::default(),
            latency: Histogram::new(seconds),
            retries: Counter::default(),
            connections: Family::default(),
            handshakes_failed: Counter::default(),
        };
        stage.with_metrics(|r| {
            r.register("troupe_ingress_requests", "Requests answered, by code", metrics.requests.clone());
            r.register_with_unit(
                "troupe_ingress_upstream_latency",
                "Time from sending a request to an endpoint to the head of its answer",
                Unit::Seconds,
                metrics.latency.clone(),
            );
            let help = "Requests that were sent to another endpoint, as one was not reached";
            r.register("troupe_ingress_retries", help, metrics.retries.clone());
            let help = "Connections of clients, by scheme";
            r.register("troupe_ingress_connections", help, metrics.connections.clone());
            let help = "TLS handshakes that came to nothing";
            r.register("troupe_ingress_handshakes_failed", help, metrics.handshakes_failed.clone());
        });
        metrics
    }

    /// A request was answered.
    pub fn answered(&self, code: u16) {
        self.requests.get_or_create(&Code { code }).inc();
    }

    /// An endpoint answered, after this time.
    pub fn upstream(&self, took: Duration) {
        self.latency.observe(took.as_secs_f64());
    }

    /// A request goes to another endpoint.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A handshake failed.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// A connection is counted as long as what this answers lives.
    pub fn connection(&self, scheme: &'static str) -> Counted {
        let gauge = self.connections.get_or_create(&Scheme { scheme }).clone();
        gauge.inc();
        Counted(gauge)
    }
}

/// Counts one.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
