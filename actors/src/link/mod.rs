//! Links to actors in other processes.
//!
//! One [`Peer`] per connection, over any byte stream (mutual TLS between machines, memory within a process).
//! Asks and streams are multiplexed; a stream's sender waits for credit, so that a slow reader slows its
//! writer and nothing piles up; a peer that says nothing for [`SILENCE_MAX`] is given up, and whatever was
//! asked of it fails as `Unreachable`. Delivery is at most once.

pub mod codec;
mod frame;
mod peer;
mod stream;

pub use frame::{Frame, Hello, LinkError, VERSION_MAX, VERSION_MIN};
pub use peer::{Peer, Serve, connect};
pub use stream::{LinkStream, STREAM_CREDIT_BYTES};

use std::time::Duration;

/// A ping is sent after this long without a word to the peer.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A peer that says nothing for this long is given up.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Asks that may be under way to one peer; a further one waits.
pub const ASKS_MAX: usize = 1024;
/// Streams that one peer may have open.
pub const STREAMS_MAX: usize = 4096;
