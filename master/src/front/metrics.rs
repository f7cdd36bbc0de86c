//! What the API server counts of its requests, under upstream's names.

use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use protocol::Target;

/// Upper ends of the buckets of request durations, in seconds: upstream's.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    code: u16,
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Inflight {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flow {
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

struct Families {
    requests: Family<Requested, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
    inflight: Family<Inflight, Gauge>,
    dispatched: Family<Flow, Counter>,
    rejected: Family<Rejected, Counter>,
    audited: Counter,
    audit_lost: Counter,
}

/// The metrics of the front.
#[derive(Clone)]
pub struct FrontMetrics {
    families: Arc<Families>,
}

/// What is said of one request.
pub struct Request<'a> {
    /// What it was about; `None` for paths that are no served resource.
    pub target: Option<&'a Target>,
    /// The verb as upstream's metrics spell it, such as `LIST`.
    pub verb: &'static str,
    /// Nothing was to be stored.
    pub dry_run: bool,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl FrontMetrics {
    /// Registers the metrics with the stage. Once per stage.
    pub fn register(stage: &Stage) -> Self {
        let families = Families {
            requests: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
            inflight: Family::default(),
            dispatched: Family::default(),
            rejected: Family::default(),
            audited: Counter::default(),
            audit_lost: Counter::default(),
        };
        stage.with_metrics(|r| {
            r.register(
                "apiserver_request",
                "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, \
                 scope, component, and HTTP response code",
                families.requests.clone(),
            );
            r.register(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, dry run value, group, version, resource, \
                 subresource, scope and component",
                families.durations.clone(),
            );
            r.register(
                "apiserver_current_inflight_requests",
                "Number of currently used inflight request limit of this apiserver per request kind",
                families.inflight.clone(),
            );
            r.register(
                "apiserver_flowcontrol_dispatched_requests",
                "Number of requests executed by API Priority and Fairness subsystem",
                families.dispatched.clone(),
            );
            r.register(
                "apiserver_flowcontrol_rejected_requests",
                "Number of requests rejected by API Priority and Fairness subsystem",
                families.rejected.clone(),
            );
            r.register(
                "apiserver_audit_event",
                "Counter of audit events generated and sent to the audit backend",
                families.audited.clone(),
            );
            r.register(
                "apiserver_audit_error",
                "Counter of audit events that failed to be audited properly",
                families.audit_lost.clone(),
            );
        });
        FrontMetrics { families: Arc::new(families) }
    }

    /// A request begins; the end of what is returned is its end.
    pub(super) fn begin(&self, mutating: bool) -> Running {
        let request_kind = if mutating { "mutating" } else { "readOnly" };
        let gauge = self.families.inflight.get_or_create(&Inflight { request_kind }).clone();
        gauge.inc();
        Running { gauge }
    }

    /// A request was answered.
    pub(super) fn answered(&self, request: &Request<'_>, code: u16, took: Option<Duration>) {
        let none = Target::default();
        let target = request.target.unwrap_or(&none);
        let scope = match (request.target, &target.name, &target.namespace) {
            (None, ..) => "",
            (_, Some(_), _) => "resource",
            (_, None, Some(_)) => "namespace",
            (_, None, None) => "cluster",
        };
        let timed = Timed {
            component: "apiserver",
            dry_run: if request.dry_run { "All" } else { "" },
            group: target.group.clone(),
            resource: target.resource.clone(),
            scope,
            subresource: target.subresource.clone().unwrap_or_default(),
            verb: request.verb,
            version: target.version.clone(),
        };
        if let Some(took) = took {
            self.families.durations.get_or_create(&timed).observe(took.as_secs_f64());
        }
        let Timed { component, dry_run, group, resource, scope, subresource, verb, version } = timed;
        let requested =
            Requested { code, component, dry_run, group, resource, scope, subresource, verb, version };
        self.families.requests.get_or_create(&requested).inc();
    }

    /// A request got its seat.
    pub(super) fn dispatched(&self, level: &str, schema: &str) {
        let flow = Flow { flow_schema: schema.to_owned(), priority_level: level.to_owned() };
        self.families.dispatched.get_or_create(&flow).inc();
    }

    /// A request was turned away.
    pub(super) fn rejected(&self, level: &str, schema: &str, reason: &'static str) {
        let rejected = Rejected { flow_schema: schema.to_owned(), priority_level: level.to_owned(), reason };
        self.families.rejected.get_or_create(&rejected).inc();
    }

    /// An event went into the audit log.
    pub fn audited(&self) {
        self.families.audited.inc();
    }

    /// An event did not find its way into the audit log.
    pub fn audit_lost(&self) {
        self.families.audit_lost.inc();
    }
}

/// A request that runs.
pub(super) struct Running {
    gauge: Gauge,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
