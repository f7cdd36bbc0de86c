//! What is counted of calls to admission webhooks, under upstream's names. Their labels are names of configured
//! webhooks, and as many of these as a cluster may reasonably have.

use std::collections::HashSet;
use std::time::Duration;

use actors::Stage;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::hooks::Hook;
use crate::api::policy::matching::Operation;
use crate::metrics::Bare;

/// Names that have labels of their own; further ones share one.
const NAMES_MAX: usize = 256;
/// Upper ends of the buckets of durations, in seconds: upstream's.
const SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: u16,
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    error_type: &'static str,
    name: String,
    operation: &'static str,
    rejection_code: u16,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Opened {
    name: String,
    r#type: &'static str,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It let the request pass.
    Allowed,
    /// It refused the request with this code.
    Denied(u16),
    /// It could not be asked, and this code says why; the request passes all the same where `open`.
    Failed {
        /// The code.
        code: u16,
        /// The failure is ignored.
        open: bool,
    },
}

/// The metrics of webhooks.
pub struct HookMetrics {
    durations: Family<Called, Histogram, fn() -> Histogram>,
    requests: Family<Answered, Counter>,
    rejections: Family<Rejection, Bare>,
    opened: Family<Opened, Bare>,
    names: Mutex<HashSet<String>>,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for HookMetrics {
    fn default() -> Self {
        HookMetrics {
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            requests: Family::default(),
            rejections: Family::default(),
            opened: Family::default(),
            names: Mutex::default(),
        }
    }
}

impl HookMetrics {
    /// Registers them with the stage. Once per stage.
    pub fn register(&self, stage: &Stage) {
        stage.with_metrics(|r| {
            r.register(
                "apiserver_admission_webhook_admission_duration_seconds",
                "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each \
                 operation and API resource and type (validate or admit)",
                self.durations.clone(),
            );
            r.register(
                "apiserver_admission_webhook_request",
                "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type \
                 (validating or mutating) and operation",
                self.requests.clone(),
            );
            r.register(
                "apiserver_admission_webhook_rejection_count",
                "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type \
                 (validating or admit) and operation",
                self.rejections.clone(),
            );
            r.register(
                "apiserver_admission_webhook_fail_open_count",
                "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type \
                 (validating or admit)",
                self.opened.clone(),
            );
        });
    }

    fn name(&self, hook: &Hook) -> String {
        let mut names = self.names.lock();
        if names.len() < NAMES_MAX || names.contains(&hook.name) {
            names.insert(hook.name.clone());
            return hook.name.clone();
        }
        "other".to_owned()
    }

    /// A webhook was called.
    pub fn called(&self, hook: &Hook, operation: Operation, took: Duration, outcome: Outcome) {
        let (name, step, operation) = (self.name(hook), hook.step(), operation.as_str());
        let (code, rejection) = match outcome {
            Outcome::Allowed => (200, None),
            Outcome::Denied(code) => (code, Some("no_error")),
            Outcome::Failed { code, open: true } => (code, None),
            Outcome::Failed { code, open: false } => (code, Some("calling_webhook_error")),
        };
        let rejected = if rejection.is_some() { "true" } else { "false" };
        let called = Called { name: name.clone(), operation, rejected, r#type: step };
        self.durations.get_or_create(&called).observe(took.as_secs_f64());
        let answered = Answered { code, name: name.clone(), operation, rejected, r#type: step };
        self.requests.get_or_create(&answered).inc();
        if let Some(error_type) = rejection {
            let rejection =
                Rejection { error_type, name: name.clone(), operation, rejection_code: code, r#type: step };
            self.rejections.get_or_create(&rejection).inc();
        }
        if matches!(outcome, Outcome::Failed { open: true, .. }) {
            self.opened.get_or_create(&Opened { name, r#type: step }).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let metrics = HookMetrics::default();
        let hook = |i: usize| Hook {
            name: format!("h{i}"),
            ..Hook::of(&serde_json::Value::Null, &"c".into(), true)
        };
        for i in 0..NAMES_MAX {
            assert_eq!(metrics.name(&hook(i)), format!("h{i}"));
        }
        assert_eq!(metrics.name(&hook(NAMES_MAX)), "other");
        assert_eq!(metrics.name(&hook(3)), "h3");
    }

    #[test]
    fn failures_that_are_ignored_are_no_rejections() {
        let metrics = HookMetrics::default();
        let hook = Hook::of(&serde_json::json!({"name": "h"}), &"c".into(), true);
        let stage = Stage::new(0);
        metrics.register(&stage);
        for (outcome, line) in [
            (
                Outcome::Denied(403),
                "rejection_count{error_type=\"no_error\",name=\"h\",operation=\"CREATE\",rejection_code=\"403\",type=\"admit\"} 1",
            ),
            (Outcome::Failed { code: 503, open: true }, "fail_open_count{name=\"h\",type=\"admit\"} 1"),
        ] {
            metrics.called(&hook, Operation::Create, Duration::from_millis(1), outcome);
            let text = stage.encode_metrics();
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
