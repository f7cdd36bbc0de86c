//! What is counted of actors, by path class and message type, as OpenMetrics.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::stage::WeakStage;

pub(crate) mod exposition;

/// Labels of what is counted per actor class and message type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    class: String,
    message: String,
}

/// Labels of what is counted per actor class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestartLabels {
    class: String,
    cause: String,
}

type Histograms = Family<MessageLabels, Histogram, fn() -> Histogram>;

/// All metrics of one stage.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    wait: Histograms,
    handling: Histograms,
    restarts: Family<RestartLabels, Counter>,
    panics: Family<ClassLabels, Counter>,
    rejected: Family<ClassLabels, Counter>,
    dead_letters: Family<ClassLabels, Counter>,
    escalations: Counter,
}

/// 1 µs to about 17 s, each bucket four times the one before.
fn buckets() -> Histogram {
    Histogram::new([1e-6, 4e-6, 16e-6, 64e-6, 256e-6, 1e-3, 4e-3, 16e-3, 64e-3, 0.25, 1.0, 4.0, 16.0])
}

/// Why an actor was rebuilt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RestartCause {
    Panic,
    Failure,
    Sibling,
    Stopped,
}

impl RestartCause {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RestartCause::Panic => "panic",
            RestartCause::Failure => "failure",
            RestartCause::Sibling => "sibling",
            RestartCause::Stopped => "stopped",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Metrics {
            registry: Mutex::new(Registry::default()),
            wait: Family::new_with_constructor(buckets),
            handling: Family::new_with_constructor(buckets),
            restarts: Family::default(),
            panics: Family::default(),
            rejected: Family::default(),
            dead_letters: Family::default(),
            escalations: Counter::default(),
        };
        {
            let mut r = metrics.registry.lock();
            let seconds = Unit::Seconds;
            r.register_with_unit(
                "troupe_actor_mailbox_wait",
                "Time from sending a message to the start of its handling",
                seconds.clone(),
                metrics.wait.clone(),
            );
            r.register_with_unit(
                "troupe_actor_handling",
                "Time from the start of a message's handling to the end of all that the handler started",
                seconds,
                metrics.handling.clone(),
            );
            r.register("troupe_actor_restarts", "Actors rebuilt, by cause", metrics.restarts.clone());
            r.register("troupe_actor_panics", "Panics caught in actors", metrics.panics.clone());
            r.register(
                "troupe_actor_rejected",
                "Messages refused by a full mailbox",
                metrics.rejected.clone(),
            );
            r.register(
                "troupe_actor_dead_letters",
                "Messages sent to, or left in, the mailbox of a stopped actor",
                metrics.dead_letters.clone(),
            );
            r.register(
                "troupe_actor_escalations",
                "Groups of actors that failed more often than their supervisor bears",
                metrics.escalations.clone(),
            );
        }
        metrics
    }

    pub(crate) fn collect_cells(&self, stage: WeakStage) {
        self.registry.lock().register_collector(Box::new(Cells { stage }));
    }

    pub(crate) fn with_registry<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        f(&mut self.registry.lock())
    }

    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry.lock()).is_err() {
            // Only a formatter of ours can fail here; say so in the output rather than hide it.
            let _ = writeln!(text, "# some metrics could not be encoded");
        }
        text
    }

    pub(crate) fn restarted(&self, class: &str, cause: RestartCause) {
        let labels = RestartLabels { class: class.to_owned(), cause: cause.as_str().to_owned() };
        self.restarts.get_or_create(&labels).inc();
    }

    pub(crate) fn panicked(&self, class: &str) {
        self.panics.get_or_create(&ClassLabels { class: class.to_owned() }).inc();
    }

    pub(crate) fn rejected(&self, class: &str) {
        self.rejected.get_or_create(&ClassLabels { class: class.to_owned() }).inc();
    }

    pub(crate) fn dead_letters(&self, class: &str, count: u64) {
        self.dead_letters.get_or_create(&ClassLabels { class: class.to_owned() }).inc_by(count);
    }

    pub(crate) fn escalated(&self) {
        self.escalations.inc();
    }
}

/// The metrics of one actor class, as its cells use them.
pub(crate) struct ClassMetrics {
    pub(crate) class: Arc<str>,
    pub(crate) all: Arc<Metrics>,
}

/// The metrics of one message type in one class: looked up once per cell.
pub(crate) struct MessageMetrics {
    pub(crate) kind: Arc<str>,
    pub(crate) wait: Histogram,
    pub(crate) handling: Histogram,
}

impl ClassMetrics {
    pub(crate) fn message(&self, name: &'static str) -> MessageMetrics {
        let labels = MessageLabels { class: self.class.to_string(), message: name.to_owned() };
        MessageMetrics {
            kind: name.into(),
            wait: self.all.wait.get_or_create(&labels).clone(),
            handling: self.all.handling.get_or_create(&labels).clone(),
        }
    }

    pub(crate) fn shared(class: &Arc<str>, all: &Arc<Metrics>) -> Rc<Self> {
        Rc::new(ClassMetrics { class: class.clone(), all: all.clone() })
    }
}

/// Gauges that are read off the live actors when somebody asks.
struct Cells {
    stage: WeakStage,
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cells")
    }
}

impl Collector for Cells {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(stage) = self.stage.upgrade() else { return Ok(()) };
        #[derive(Default)]
        struct Sum {
            actors: u64,
            depth: u64,
            capacity: u64,
            oldest: f64,
        }
        let mut classes: std::collections::BTreeMap<Arc<str>, Sum> = Default::default();
        for actor in stage.actors() {
            let sum = classes.entry(actor.class.clone()).or_default();
            sum.actors += 1;
            sum.depth += actor.depth as u64;
            sum.capacity += actor.capacity as u64;
            sum.oldest = sum.oldest.max(actor.oldest_wait.as_secs_f64());
        }
        type Read = fn(&Sum) -> f64;
        let gauges: [(&str, &str, Read); 4] = [
            ("troupe_actors", "Live actors", |s| s.actors as f64),
            ("troupe_actor_mailbox_depth", "Messages waiting in mailboxes", |s| s.depth as f64),
            ("troupe_actor_mailbox_capacity", "Messages that mailboxes have room for", |s| s.capacity as f64),
            ("troupe_actor_mailbox_oldest_wait_seconds", "Wait of the oldest waiting message", |s| s.oldest),
        ];
        for (name, help, read) in gauges {
            let mut family =
                encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?;
            for (class, sum) in &classes {
                let labels = [("class", class.to_string())];
                ConstGauge::new(read(sum)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
