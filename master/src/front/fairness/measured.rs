//! What is counted of seats and of the wait for them, under upstream's names.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actors::Stage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;

use super::config::{Config, Level};
use crate::cache::Cache;
use crate::metrics::held::Held;

/// Upper ends of the buckets of waits and executions, in seconds: upstream's.
const SECONDS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flow {
    flow_schema: Arc<str>,
    priority_level: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    flow_schema: Arc<str>,
    priority_level: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    execute: &'static str,
    flow_schema: Arc<str>,
    priority_level: Arc<str>,
}

struct Families {
    dispatched: Family<Flow, Counter>,
    rejected: Family<Rejected, Counter>,
    executing: Family<Flow, Gauge>,
    seats: Family<Flow, Gauge>,
    queued: Family<Flow, Gauge>,
    waits: Family<Waited, Histogram, fn() -> Histogram>,
    executions: Family<Flow, Histogram, fn() -> Histogram>,
    widths: Family<Flow, Histogram, fn() -> Histogram>,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn widths() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 10.0])
}

/// The metrics of fairness.
#[derive(Clone)]
pub struct FairnessMetrics {
    families: Arc<Families>,
    held: Arc<Held<Flow, Arc<Counted>>>,
}

/// What counts the requests of a schema at a level. What never happens to them is not shown.
pub(super) struct Counted {
    families: Arc<Families>,
    flow: Flow,
    widths: OnceLock<Histogram>,
    waited: OnceLock<Histogram>,
    running: OnceLock<Dispatched>,
}

/// What counts those that run.
struct Dispatched {
    all: Counter,
    executing: Gauge,
    seats: Gauge,
    took: Histogram,
}

impl FairnessMetrics {
    /// Registers the metrics with the stage, and the limits that the cache's configuration says. Once per stage.
    pub fn register(stage: &Stage, cache: Cache) -> Self {
        let families = Families {
            dispatched: Family::default(),
            rejected: Family::default(),
            executing: Family::default(),
            seats: Family::default(),
            queued: Family::default(),
            waits: Family::new_with_constructor(seconds as fn() -> Histogram),
            executions: Family::new_with_constructor(seconds as fn() -> Histogram),
            widths: Family::new_with_constructor(widths as fn() -> Histogram),
        };
        stage.with_metrics(|r| {
            r.register(
                "apiserver_flowcontrol_dispatched_requests",
                "[BETA] Number of requests executed by API Priority and Fairness subsystem",
                families.dispatched.clone(),
            );
            r.register(
                "apiserver_flowcontrol_rejected_requests",
                "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
                families.rejected.clone(),
            );
            r.register(
                "apiserver_flowcontrol_current_executing_requests",
                "[BETA] Number of requests in execution stage in the API Priority and Fairness subsystem",
                families.executing.clone(),
            );
            r.register(
                "apiserver_flowcontrol_current_executing_seats",
                "[BETA] Concurrency (number of seats) occupied by the currently executing requests in the API \
                 Priority and Fairness subsystem",
                families.seats.clone(),
            );
            r.register(
                "apiserver_flowcontrol_current_inqueue_requests",
                "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
                families.queued.clone(),
            );
            r.register(
                "apiserver_flowcontrol_request_wait_duration_seconds",
                "[BETA] Length of time a request spent waiting in its queue",
                families.waits.clone(),
            );
            r.register(
                "apiserver_flowcontrol_request_execution_seconds",
                "[ALPHA] Duration of request execution in the API Priority and Fairness subsystem",
                families.executions.clone(),
            );
            r.register(
                "apiserver_flowcontrol_work_estimated_seats",
                "[ALPHA] Number of estimated seats associated with requests in API Priority and Fairness",
                families.widths.clone(),
            );
            r.register_collector(Box::new(Seats { cache }));
        });
        FairnessMetrics { families: Arc::new(families), held: Arc::default() }
    }

    /// What counts the requests of a schema at a level.
    pub(super) fn of(&self, schema: &Arc<str>, level: &Arc<str>) -> Arc<Counted> {
        let flow = Flow { flow_schema: schema.clone(), priority_level: level.clone() };
        self.held.get(&flow, || {
            Arc::new(Counted {
                families: self.families.clone(),
                flow: flow.clone(),
                widths: OnceLock::new(),
                waited: OnceLock::new(),
                running: OnceLock::new(),
            })
        })
    }
}

impl Counted {
    /// A request arrived that takes so many seats.
    pub(super) fn arrived(&self, seats: u32) {
        let widths = self.widths.get_or_init(|| self.families.widths.get_or_create_owned(&self.flow));
        widths.observe(f64::from(seats));
    }

    /// It waits, until what is returned is dropped.
    pub(super) fn queued(&self) -> Queued {
        let gauge = self.families.queued.get_or_create_owned(&self.flow);
        gauge.inc();
        Queued(gauge)
    }

    /// It waited so long, and then got its seat or did not.
    pub(super) fn waited(&self, time: Duration, executed: bool) {
        let waits = || {
            let waited = Waited {
                execute: if executed { "true" } else { "false" },
                flow_schema: self.flow.flow_schema.clone(),
                priority_level: self.flow.priority_level.clone(),
            };
            self.families.waits.get_or_create_owned(&waited)
        };
        if executed {
            self.waited.get_or_init(waits).observe(time.as_secs_f64());
        } else {
            waits().observe(time.as_secs_f64());
        }
    }

    /// It runs in so many seats, until what is returned is dropped.
    pub(super) fn dispatched(self: &Arc<Self>, seats: u32) -> Execution {
        let running = self.running();
        running.all.inc();
        running.executing.inc();
        running.seats.inc_by(i64::from(seats));
        Execution { counted: self.clone(), seats, begun: Instant::now() }
    }

    fn running(&self) -> &Dispatched {
        self.running.get_or_init(|| Dispatched {
            all: self.families.dispatched.get_or_create_owned(&self.flow),
            executing: self.families.executing.get_or_create_owned(&self.flow),
            seats: self.families.seats.get_or_create_owned(&self.flow),
            took: self.families.executions.get_or_create_owned(&self.flow),
        })
    }

    /// It was turned away.
    pub(super) fn rejected(&self, reason: &'static str) {
        let Flow { flow_schema, priority_level } = self.flow.clone();
        self.families.rejected.get_or_create(&Rejected { flow_schema, priority_level, reason }).inc();
    }
}

/// A request that waits.
pub(super) struct Queued(Gauge);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request that runs.
pub(super) struct Execution {
    counted: Arc<Counted>,
    seats: u32,
    begun: Instant,
}

impl Drop for Execution {
    fn drop(&mut self) {
        let running = self.counted.running();
        running.executing.dec();
        running.seats.dec_by(i64::from(self.seats));
        running.took.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// The limits of levels, read off the configuration when somebody asks.
struct Seats {
    cache: Cache,
}

impl std::fmt::Debug for Seats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seats")
    }
}

impl Collector for Seats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let config = self.cache.derived::<Config>();
        type Read = fn(&Level) -> u32;
        let nominal: Read = |level| level.limits.map_or(0, |limits| limits.seats);
        let lower: Read =
            |level| level.limits.map_or(0, |limits| limits.seats.saturating_sub(level.lendable));
        for (name, help, read) in [
            (
                "apiserver_flowcontrol_nominal_limit_seats",
                "[BETA] Nominal number of execution seats configured for each priority level",
                nominal,
            ),
            (
                "apiserver_flowcontrol_lower_limit_seats",
                "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
                lower,
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (level, limits) in config.levels.iter().filter(|(_, level)| level.limits.is_some()) {
                let labels = [("priority_level", &**level)];
                ConstGauge::new(u64::from(read(limits))).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
