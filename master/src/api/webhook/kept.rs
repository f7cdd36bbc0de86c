//! Connections to webhooks that wait for the next question: to dial, and to prove who is there, costs more than to ask.
//!
//! They belong to the bundle by which the webhook was proved, and end with it: whoever changes a configuration has new ones.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::streams::proxy::place::Place as Reached;

/// Connections that wait for one bundle's webhooks, at most; further ones end after their answer.
const WAITING_MAX: usize = 16;
/// A connection that was not used for so long ends. Most servers would soon end it too.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    Host(String, u16),
    Endpoint(Reached),
}

/// The near end of a connection.
pub(super) type Sender = SendRequest<Full<Bytes>>;

struct Waiting {
    at: At,
    /// The name that was proved.
    host: String,
    since: Instant,
    sender: Sender,
}

/// The connections that wait.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Waiting>>);

impl Kept {
    /// One to this place, proved to have this name: the one that was used last.
    pub fn take(&self, at: &At, host: &str) -> Option<Sender> {
        let mut waiting = self.0.lock();
        waiting.retain(Waiting::lives);
        let found = waiting.iter().rposition(|one| one.at == *at && one.host == host)?;
        Some(waiting.remove(found).sender)
    }

    /// Lets one wait whose answer was read to its end.
    pub fn keep(&self, at: &At, host: &str, sender: Sender) {
        let mut waiting = self.0.lock();
        waiting.retain(Waiting::lives);
        if waiting.len() < WAITING_MAX {
            waiting.push(Waiting { at: at.clone(), host: host.to_owned(), since: Instant::now(), sender });
        }
    }

    /// Ends those that waited for too long.
    pub fn sweep(&self) {
        self.0.lock().retain(Waiting::lives);
    }
}

impl Waiting {
    fn lives(&self) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < WAIT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> At {
        At::Host(name.to_owned(), 443)
    }

    /// A connection whose far end is `DuplexStream`, and that is driven until it ends.
    async fn connection() -> (Sender, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let io = hyper_util::rt::TokioIo::new(near);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(io).await.expect("no bytes are needed");
        tokio::spawn(connection);
        (sender, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_leads_where_it_led_before_and_ends_when_it_is_not_used() {
        let kept = Kept::default();
        let (sender, _far) = connection().await;
        kept.keep(&host("a"), "a", sender);
        assert!(kept.take(&host("b"), "b").is_none(), "another place");
        assert!(kept.take(&host("a"), "b").is_none(), "another name was proved");
        let sender = kept.take(&host("a"), "a").expect("it waits");
        assert!(kept.take(&host("a"), "a").is_none(), "one question at a time");
        kept.keep(&host("a"), "a", sender);
        tokio::time::advance(WAIT_MAX).await;
        kept.sweep();
        assert!(kept.0.lock().is_empty());
    }

    #[tokio::test]
    async fn what_ended_and_what_is_too_many_is_not_kept() {
        let kept = Kept::default();
        let (mut sender, far) = connection().await;
        drop(far);
        assert!(sender.ready().await.is_err());
        kept.keep(&host("a"), "a", sender);
        assert!(kept.take(&host("a"), "a").is_none());
        let mut ends = Vec::new();
        for _ in 0..=WAITING_MAX {
            let (sender, far) = connection().await;
            ends.push(far);
            kept.keep(&host("a"), "a", sender);
        }
        assert_eq!(kept.0.lock().len(), WAITING_MAX);
    }
}
