//! # The stage
//!
//! A layer over `actix`: supervised actors with bounded mailboxes, metrics, an always-on message trace
//! and remote links. Knows nothing of Kubernetes.
//!
//! ## Layout
//!
//! - [`stage`]: the actor system, its registry of live actors.
//! - [`supervision`]: policies, strategies, groups, [`Props`].
//! - [`reference`]: [`ActorRef`], [`Recipient`], tell and ask and how they fail.
//! - [`context`]: what a running actor can do.
//! - [`message`]: what may be sent; the [`message!`](crate::message!) macro.
//! - [`trace`]: causality, the ring of records.
//! - [`queue`]: a work queue of keys.
//! - [`link`]: links to actors in other processes.
//! - [`time`], [`random`]: the clock and the dice, which tests replace.
//! - `mailbox`, `cell`, `metrics`: the machinery.

pub mod context;
pub mod link;
pub mod message;
pub mod queue;
pub mod random;
pub mod reference;
pub mod stage;
pub mod supervision;
pub mod time;
pub mod trace;

mod cell;
mod mailbox;
mod metrics;

#[doc(hidden)]
pub use actix;
pub use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, AtomicResponse, Handler, MessageResult,
    ResponseActFuture, ResponseFuture, SpawnHandle, WrapFuture, fut,
};
pub use cell::spawn;
pub use context::Context;
pub use message::{Message, handling};
pub use queue::WorkQueue;
pub use reference::{ActorRef, AskError, Recipient, Rejected, Takes, TellError};
pub use stage::{ActorInfo, Stage};
pub use supervision::{Group, Intensity, Props, RestartPolicy, Strategy};
pub use trace::TraceContext;
