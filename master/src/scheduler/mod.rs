//! The scheduler: finds a node for each pod that has none.
//!
//! - [`facts`]: what it knows of nodes and pods, [`pod`] and [`resources`] the parts.
//! - [`queue`]: what waits, and for what.
//! - [`cycle`]: one decision, a pure function; [`plugins`] its rules; [`preemption`] its last resort.
//! - [`volumes`], [`devices`]: what pods claim beside room on a node.
//! - [`binder`]: the pool that writes decisions.
//! - [`actor`]: the actor that owns facts and queue and acts on decisions; `followed` is what it is told of.

use std::sync::Arc;

use actors::{ActorRef, Props, Stage};
use protocol::{Api, Caller};

use crate::cache::Cache;
use crate::controllers::machinery::dispatch::Dispatch;
use protocol::events::{Recorder, Source};

pub mod actor;
pub mod binder;
pub mod cycle;
pub mod devices;
pub mod facts;
mod followed;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod queue;
pub mod resources;
pub mod volumes;

pub use actor::{Scheduler, Verdict, Why};

/// The name that pods ask for when they ask for none.
pub const DEFAULT_NAME: &str = "default-scheduler";

/// The program that the scheduler is upstream: what it writes belongs to it.
const AGENT: &str = "kube-scheduler";

/// How the scheduler runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods that ask for this scheduler are its own.
    pub name: String,
    /// Bindings written at a time.
    pub binders: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { name: DEFAULT_NAME.to_owned(), binders: 16 }
    }
}

/// The scheduler's identity.
pub fn caller() -> Caller {
    Caller::component("system:kube-scheduler", &[])
}

/// Starts the scheduler, which is told of changes by a dispatcher.
pub fn start(
    stage: &Stage,
    cache: Cache,
    dispatch: Dispatch,
    api_for: impl Fn(Caller) -> Arc<dyn Api>,
    config: Config,
) -> ActorRef<Scheduler> {
    let api = api_for(caller());
    let events = Recorder::start(stage, Source::master(&config.name, AGENT), api.clone());
    let make =
        move || Scheduler::new(cache.clone(), dispatch.clone(), api.clone(), events.clone(), config.clone());
    stage.spawn(Props::new("master/scheduler", make).capacity(4096))
}
