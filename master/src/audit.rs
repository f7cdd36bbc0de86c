//! The audit log: who asked what, and how it was answered, as far as a policy wants to know.
//!
//! - [`annotations`]: what admission says of a request. - [`policy`]: what is recorded of which requests. - [`event`]: one request's record. - [`log`]: the file.
//!
//! A request waits for room in the log's bounded queue rather than going unrecorded; the file itself is written
//! elsewhere. What comes in over HTTP is audited. Controllers and nodes, which are the cluster itself, are not.

pub mod annotations;
pub mod event;
pub mod log;
pub mod policy;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::front::metrics::FrontMetrics;

pub use event::{Draft, Facts};
pub use policy::{Level, Policy, Stage};

/// Lines that wait for the file at most.
const LINES_MAX: usize = 10_000;

/// Where the log is kept, and how much of it.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// A file longer than this is put aside.
    pub bytes_max: u64,
    /// Files put aside that are kept; 0 keeps all.
    pub backups_max: usize,
    /// Days that files put aside are kept; 0 keeps them for ever.
    pub days_max: u64,
}

/// Records requests.
#[derive(Clone)]
pub struct Auditor {
    policy: Arc<Policy>,
    lines: mpsc::Sender<String>,
    metrics: FrontMetrics,
}

impl Auditor {
    /// An auditor that writes to a log. The log is written until the auditor and all drafts are gone.
    pub fn start(policy: Policy, config: LogConfig, metrics: FrontMetrics) -> Self {
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let failed = metrics.clone();
        actors::spawn(log::write(config, waiting, move || failed.audit_lost()));
        Auditor { policy: Arc::new(policy), lines, metrics }
    }

    /// Begins a request's record; `None` where the policy does not care.
    pub async fn begin(&self, facts: Facts) -> Option<Draft> {
        let rule = self.policy.rule(&facts)?;
        let draft = Draft::new(facts, rule);
        self.record(&draft, Stage::RequestReceived, None).await;
        Some(draft)
    }

    /// A request that lasts has begun to be answered.
    pub async fn started(&self, draft: &Draft, code: u16) {
        self.record(draft, Stage::ResponseStarted, Some(code)).await;
    }

    /// A request was answered.
    pub async fn complete(&self, draft: &Draft, code: u16) {
        self.record(draft, Stage::ResponseComplete, Some(code)).await;
    }

    async fn record(&self, draft: &Draft, stage: Stage, code: Option<u16>) {
        if draft.rule.omit_stages.contains(&stage) {
            return;
        }
        let line = draft.line(stage, code);
        match self.lines.send(line).await {
            Ok(()) => self.metrics.audited(),
            // The writer has ended with the program.
            Err(_) => self.metrics.audit_lost(),
        }
    }
}
