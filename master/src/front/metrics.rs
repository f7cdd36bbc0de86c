//! What the API server counts of its requests, under upstream's names.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actors::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use protocol::{Resource, Target, Verb};

use crate::metrics::held::Held;
use crate::metrics::{Bare, DURATIONS};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    code: u16,
    component: &'static str,
    dry_run: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    component: &'static str,
    dry_run: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Inflight {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lasts {
    component: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    group: &'static str,
    resource: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempted {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct User {
    username: &'static str,
}

struct Families {
    requests: Family<Requested, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
    own_durations: Family<Lasts, Histogram, fn() -> Histogram>,
    inflight: Family<Inflight, Gauge>,
    lasting: Family<Lasts, Gauge>,
    answers: Family<Lasts, Histogram, fn() -> Histogram>,
    bodies: Family<Sent, Histogram, fn() -> Histogram>,
    events: Family<Watched, Counter>,
    event_sizes: Family<Watched, Histogram, fn() -> Histogram>,
    handshakes_failed: Counter,
    attempts: Family<Attempted, Bare>,
    identifying: Family<Attempted, Histogram, fn() -> Histogram>,
    users: Family<User, Bare>,
    audited: Counter,
    audit_lost: Counter,
}

/// Members of the families, at hand.
#[derive(Default)]
struct Hands {
    inflight: Held<&'static str, Gauge>,
    identified: Held<(&'static str, &'static str), Identified>,
    answered: Held<Timed, Arc<Answered>>,
}

/// What counts those who were identified with one result, and as whom.
#[derive(Clone)]
struct Identified {
    attempts: Bare,
    took: Histogram,
    /// None for those who are nobody.
    user: Option<Bare>,
}

/// What counts requests that are alike. Of those that last or have no size some of it is never there.
#[derive(Default)]
struct Answered {
    bytes: OnceLock<Histogram>,
    took: OnceLock<(Histogram, Histogram)>,
    codes: Held<u16, Counter>,
}

/// The metrics of the front.
#[derive(Clone)]
pub struct FrontMetrics {
    families: Arc<Families>,
    hands: Arc<Hands>,
}

/// What a request is about, as labels tell. They name what is served only: whatever anybody thinks up would be labels
/// without end.
#[derive(Clone, Copy)]
pub struct About {
    kind: &'static Resource,
    subresource: &'static str,
    scope: &'static str,
}

impl About {
    /// A target of a kind; `None` where the kind has no such part.
    pub fn of(kind: &'static Resource, target: &Target) -> Option<Self> {
        let subresource = match target.subresource.as_deref() {
            None => "",
            Some(name) => kind.subresource(name)?.name,
        };
        let scope = match (&target.name, &target.namespace) {
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        Some(About { kind, subresource, scope })
    }
}

/// What is said of one request.
pub struct Request {
    /// What it was about; `None` for paths that are no served resource.
    pub about: Option<About>,
    /// The verb as upstream's metrics spell it, such as `LIST`.
    pub verb: &'static str,
    /// Nothing was to be stored.
    pub dry_run: bool,
    /// A path that is no resource, where it is one of a few.
    pub page: &'static str,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

/// Without the two shortest, as upstream has it.
fn own_durations() -> Histogram {
    Histogram::new(DURATIONS.into_iter().skip(2))
}

fn answer_bytes() -> Histogram {
    Histogram::new(exponential_buckets(1000.0, 10.0, 7))
}

fn body_bytes() -> Histogram {
    Histogram::new(linear_buckets(50_000.0, 100_000.0, 31))
}

fn event_bytes() -> Histogram {
    Histogram::new(exponential_buckets(1024.0, 2.0, 8))
}

fn identifying() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// A user, as far as labels tell: names that anybody may have would be labels without end.
fn shortened(user: &str) -> &'static str {
    match user {
        "admin" => "admin",
        "client" => "client",
        "kube_proxy" => "kube_proxy",
        "kubelet" => "kubelet",
        "system:serviceaccount:kube-system:default" => "system:serviceaccount:kube-system:default",
        other if other.contains('@') => "email_id",
        _ => "other",
    }
}

impl FrontMetrics {
    /// Registers the metrics with the stage. Once per stage.
    pub fn register(stage: &Stage) -> Self {
        let families = Families {
            requests: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
            own_durations: Family::new_with_constructor(own_durations as fn() -> Histogram),
            inflight: Family::default(),
            lasting: Family::default(),
            answers: Family::new_with_constructor(answer_bytes as fn() -> Histogram),
            bodies: Family::new_with_constructor(body_bytes as fn() -> Histogram),
            events: Family::default(),
            event_sizes: Family::new_with_constructor(event_bytes as fn() -> Histogram),
            handshakes_failed: Counter::default(),
            attempts: Family::default(),
            identifying: Family::new_with_constructor(identifying as fn() -> Histogram),
            users: Family::default(),
            audited: Counter::default(),
            audit_lost: Counter::default(),
        };
        stage.with_metrics(|r| {
            r.register(
                "apiserver_request",
                "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, \
                 resource, scope, component, and HTTP response code",
                families.requests.clone(),
            );
            r.register(
                "apiserver_request_duration_seconds",
                "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, \
                 resource, subresource, scope and component",
                families.durations.clone(),
            );
            r.register(
                "apiserver_request_sli_duration_seconds",
                "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue \
                 wait times) in seconds for each verb, group, version, resource, subresource, scope and component",
                families.own_durations.clone(),
            );
            r.register(
                "apiserver_current_inflight_requests",
                "[STABLE] Number of requests that are being served, per request kind",
                families.inflight.clone(),
            );
            r.register(
                "apiserver_longrunning_requests",
                "[STABLE] Gauge of all active watches broken out by group, version, resource and scope",
                families.lasting.clone(),
            );
            r.register(
                "apiserver_response_sizes",
                "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, \
                 scope and component",
                families.answers.clone(),
            );
            r.register(
                "apiserver_request_body_size_bytes",
                "[ALPHA] Apiserver request body size in bytes broken out by resource and verb",
                families.bodies.clone(),
            );
            r.register(
                "apiserver_watch_events",
                "[ALPHA] Number of events sent in watch clients",
                families.events.clone(),
            );
            r.register(
                "apiserver_watch_events_sizes",
                "[ALPHA] Watch event size distribution in bytes",
                families.event_sizes.clone(),
            );
            r.register(
                "apiserver_tls_handshake_errors",
                "[ALPHA] Number of connections dropped as their TLS handshake failed",
                families.handshakes_failed.clone(),
            );
            r.register(
                "authentication_attempts",
                "[ALPHA] Counter of authenticated attempts",
                families.attempts.clone(),
            );
            r.register(
                "authentication_duration_seconds",
                "[ALPHA] Authentication duration in seconds broken out by result",
                families.identifying.clone(),
            );
            r.register(
                "authenticated_user_requests",
                "[ALPHA] Counter of authenticated requests broken out by username",
                families.users.clone(),
            );
            r.register(
                "apiserver_audit_event",
                "[ALPHA] Counter of audit events generated and sent to the audit backend",
                families.audited.clone(),
            );
            r.register(
                "apiserver_audit_error",
                "[ALPHA] Counter of audit events that failed to be audited properly",
                families.audit_lost.clone(),
            );
        });
        FrontMetrics { families: Arc::new(families), hands: Arc::default() }
    }

    /// A request begins; the end of what is returned is its end.
    pub(super) fn begin(&self, mutating: bool) -> Running {
        let request_kind = if mutating { "mutating" } else { "readOnly" };
        let make = || self.families.inflight.get_or_create_owned(&Inflight { request_kind });
        Running::of(self.hands.inflight.get(&request_kind, make))
    }

    /// A request was answered with so many bytes, where these are known; how long it took, where it is no stream, and how
    /// much of that was the server's own.
    pub(super) fn answered(
        &self,
        request: &Request,
        code: u16,
        took: Option<(Duration, Duration)>,
        bytes: Option<u64>,
    ) {
        let (lasts, families) = (request.labels(), &self.families);
        let Lasts { component, group, resource, scope, subresource, verb, version } = lasts.clone();
        let dry_run = if request.dry_run { "All" } else { "" };
        let timed = Timed { component, dry_run, group, resource, scope, subresource, verb, version };
        let answered = self.hands.answered.get(&timed, Arc::default);
        if let Some(bytes) = bytes.filter(|_| matches!(verb, "GET" | "LIST")) {
            answered.bytes.get_or_init(|| families.answers.get_or_create_owned(&lasts)).observe(bytes as f64);
        }
        if let Some((all, own)) = took {
            let (durations, own_durations) = answered.took.get_or_init(|| {
                let durations = families.durations.get_or_create_owned(&timed);
                (durations, families.own_durations.get_or_create_owned(&lasts))
            });
            durations.observe(all.as_secs_f64());
            own_durations.observe(own.as_secs_f64());
        }
        let requests = answered.codes.get(&code, || {
            families.requests.get_or_create_owned(&Requested {
                code,
                component,
                dry_run,
                group,
                resource,
                scope,
                subresource,
                verb,
                version,
            })
        });
        requests.inc();
    }

    /// A body was read.
    pub(super) fn received(&self, resource: &Resource, verb: Verb, bytes: usize) {
        let sent = Sent { group: resource.group, resource: resource.plural, verb: verb.as_str() };
        self.families.bodies.get_or_create(&sent).observe(bytes as f64);
    }

    /// A watch begins.
    pub(super) fn watching(&self, resource: &Resource, request: &Request) -> Watching {
        let watched = Watched { group: resource.group, resource: resource.plural, version: resource.version };
        Watching {
            events: self.families.events.get_or_create_owned(&watched),
            sizes: self.families.event_sizes.get_or_create_owned(&watched),
            _running: Running::of(self.families.lasting.get_or_create_owned(&request.labels())),
        }
    }

    /// A connection came to nothing.
    pub(super) fn handshake_failed(&self) {
        self.families.handshakes_failed.inc();
    }

    /// Somebody was identified, or was not.
    pub(super) fn identified(&self, user: Result<&str, ()>, took: Duration) {
        let result = if user.is_ok() { "success" } else { "error" };
        let username = user.map_or("", shortened);
        let Identified { attempts, took: durations, user } =
            self.hands.identified.get(&(result, username), || {
                let (families, attempted) = (&self.families, Attempted { result });
                let user = user.ok().map(|_| families.users.get_or_create_owned(&User { username }));
                Identified {
                    attempts: families.attempts.get_or_create_owned(&attempted),
                    took: families.identifying.get_or_create_owned(&attempted),
                    user,
                }
            });
        attempts.inc();
        durations.observe(took.as_secs_f64());
        if let Some(user) = user {
            user.inc();
        }
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

impl Request {
    fn labels(&self) -> Lasts {
        let (component, verb) = ("apiserver", self.verb);
        let Some(About { kind, subresource, scope }) = self.about else {
            let (group, resource, scope, version) = ("", "", "", "");
            return Lasts { component, group, resource, scope, subresource: self.page, verb, version };
        };
        Lasts {
            component,
            group: kind.group,
            resource: kind.plural,
            scope: if verb == "POST" { "resource" } else { scope },
            subresource: if subresource.is_empty() { self.page } else { subresource },
            verb,
            version: kind.version,
        }
    }
}

/// A request that runs.
pub(super) struct Running {
    gauge: Gauge,
}

impl Running {
    fn of(gauge: Gauge) -> Running {
        gauge.inc();
        Running { gauge }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// A watch that runs.
pub(super) struct Watching {
    events: Counter,
    sizes: Histogram,
    _running: Running,
}

impl Watching {
    /// An event was written, in so many bytes.
    pub(super) fn sent(&self, bytes: usize) {
        self.events.inc();
        self.sizes.observe(bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few_and_upstreams() {
        let pods = protocol::resources::find("", "v1", "pods").expect("pods are served");
        let about = |name: Option<&str>, namespace: Option<&str>, subresource: Option<&str>| {
            let target = Target {
                name: name.map(str::to_owned),
                namespace: namespace.map(str::to_owned),
                subresource: subresource.map(str::to_owned),
                ..Target::default()
            };
            About::of(pods, &target)
        };
        for (about, verb, scope, subresource) in [
            (about(Some("a"), Some("n"), None), "GET", "resource", ""),
            (about(Some("a"), Some("n"), Some("status")), "PUT", "resource", "status"),
            (about(None, Some("n"), None), "LIST", "namespace", ""),
            (about(None, None, None), "WATCH", "cluster", ""),
            (about(None, Some("n"), None), "POST", "resource", ""),
            // Nothing that is served: no label is made of it.
            (about(Some("a"), Some("n"), Some("thought-up")), "GET", "", "/readyz"),
            (None, "GET", "", "/readyz"),
        ] {
            let page = if about.is_none() { "/readyz" } else { "" };
            let labels = Request { about, verb, dry_run: false, page }.labels();
            assert_eq!((labels.scope, labels.subresource), (scope, subresource), "{verb}");
        }
        for (user, shown) in [("admin", "admin"), ("jane@example.com", "email_id"), ("jane", "other")] {
            assert_eq!(shortened(user), shown);
        }
    }
}
