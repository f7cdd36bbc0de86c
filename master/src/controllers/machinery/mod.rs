//! What every controller stands on: the [`Reconciler`] that it is, the actor that drives it, and readings of
//! objects that several of them share.
//!
//! A controller only says what it watches, how a change maps to keys, and how to reconcile one key. The
//! [`dispatch`] reads changes once for all and tells whom they concern. The [`driver`] does the rest: it queues keys,
//! gives them to workers, waits until the cache shows what a reconcile wrote before the same key is looked at again,
//! and retries.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use protocol::{ApiError, Caller, Client, Resource};

use crate::cache::{Cache, Change};
use protocol::events::Recorder;

pub mod claim;
pub mod dispatch;
pub mod driver;
pub mod history;
pub mod labels;
pub mod meta;
pub mod metrics;
pub mod pods;
pub mod totals;
pub mod watches;
mod writes;

pub use meta::Key;
pub use writes::Writes;

/// The program that runs most controllers upstream.
pub const AGENT: &str = "kube-controller-manager";
/// The program that runs those of an API server's own affairs.
pub const API_SERVER: &str = "kube-apiserver";

/// What one reconcile works with.
#[derive(Clone)]
pub struct Cx {
    /// Writes, under the controller's own identity; what it writes is waited for.
    pub client: Client,
    /// Reads.
    pub cache: Cache,
    /// Events.
    pub events: Recorder,
    /// When the reconcile began.
    pub now: Timestamp,
}

/// How a reconcile ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Look at the key again after this long.
    pub again_after: Option<Duration>,
}

impl Outcome {
    /// Nothing more to do until something changes.
    pub const DONE: Outcome = Outcome { again_after: None };

    /// Look again after a while.
    pub fn again(after: impl Into<Option<Duration>>) -> Self {
        Outcome { again_after: after.into() }
    }
}

/// Why a reconcile failed; the key is retried with a growing pause.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Something else is not as it should be yet.
    #[error("{0}")]
    Other(String),
}

/// Maps one change to the keys that it concerns.
pub type MapChange = Box<dyn Fn(&Change, &Cache) -> Vec<Key> + Send + Sync>;

/// A kind that a controller follows.
pub struct Watch {
    /// API group; empty for core.
    pub group: &'static str,
    /// Plural resource name.
    pub resource: &'static str,
    /// The keys that a change concerns.
    pub map: MapChange,
}

/// A controller.
pub trait Reconciler: Send + Sync + 'static {
    /// Its name, in metrics and actor paths: `deployment`.
    const NAME: &'static str;
    /// The service account in `kube-system` that it acts as: `deployment-controller`.
    const ACCOUNT: &'static str;
    /// The component that its events come from.
    const COMPONENT: &'static str = Self::ACCOUNT;
    /// The program that runs it upstream: what it writes belongs to that.
    const PROGRAM: &'static str = AGENT;
    /// The plural of what its keys name, for traces: `deployments`.
    const RESOURCE: &'static str;
    /// Whom its requests are made as.
    fn caller() -> Caller {
        super::caller(Self::ACCOUNT)
    }
    /// How many keys are worked on at a time.
    const WORKERS: usize = 4;

    /// What it follows.
    fn watches(&self) -> Vec<Watch>;

    /// How it follows a kind that clients declared; `None` where only kinds of the table concern it.
    fn watch_declared(&self, _kind: &'static Resource) -> Option<Watch> {
        None
    }

    /// Makes one object as it should be. Must be safe to repeat; called with the same key only after the
    /// former call has ended and the cache shows what it wrote.
    fn reconcile(&self, cx: &Cx, key: &Key) -> impl Future<Output = Result<Outcome, ReconcileError>>;
}

/// The object path of a key, as traces name it: `deployments/default/web`.
pub fn trace_key(resource: &str, key: &Key) -> Arc<str> {
    format!("{resource}/{key}").into()
}
