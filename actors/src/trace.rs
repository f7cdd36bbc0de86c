//! Causality: which message made which other message happen.
//!
//! Every message has an id; every handler, and every future that a handler starts, runs "under" the
//! message that caused it. The context travels in envelopes, in stored objects and in link frames, so a
//! chain of causes never breaks.

use serde::{Deserialize, Serialize};

/// The position of a message in its causal chain. The default value means "no known cause".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    /// The chain: the same for everything that one root message caused (a W3C trace id).
    pub trace: u128,
    /// The message within it, unique in the cluster.
    pub message: u64,
}
