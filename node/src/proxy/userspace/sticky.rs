//! Clients that stay with their endpoint: `sessionAffinity: ClientIP`. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use actors::time::Instant;

use crate::proxy::endpoints::Backend;

/// Clients of one service port that are remembered; of more, those that were silent longest are forgotten.
const CLIENTS_MAX: usize = 10_000;

/// Who was sent where, and when last.
#[derive(Debug, Default)]
pub struct Sticky {
    clients: HashMap<IpAddr, (Instant, Backend)>,
    by_age: BTreeSet<(Instant, IpAddr)>,
}

impl Sticky {
    /// Where a client was sent, unless it has been silent for longer than `timeout`.
    pub fn recall(&mut self, client: IpAddr, timeout: Duration, now: Instant) -> Option<Backend> {
        while let Some((at, oldest)) = self.by_age.first().copied()
            && now.duration_since(at) > timeout
        {
            self.forget(oldest);
        }
        self.clients.get(&client).map(|(_, backend)| *backend)
    }

    /// A client is sent there.
    pub fn remember(&mut self, client: IpAddr, backend: Backend, now: Instant) {
        if let Some((before, _)) = self.clients.insert(client, (now, backend)) {
            self.by_age.remove(&(before, client));
        }
        self.by_age.insert((now, client));
        if self.clients.len() > CLIENTS_MAX
            && let Some((_, oldest)) = self.by_age.first().copied()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, client: IpAddr) {
        if let Some((at, _)) = self.clients.remove(&client) {
            self.by_age.remove(&(at, client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(last: u8) -> Backend {
        Backend { ip: [10, 0, 0, last].into(), port: 80 }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_makes_forget() {
        let mut sticky = Sticky::default();
        let (client, other): (IpAddr, IpAddr) = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        let (timeout, start) = (Duration::from_secs(60), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        sticky.remember(client, backend(1), at(0));
        assert_eq!(sticky.recall(client, timeout, at(60)), Some(backend(1)));
        assert_eq!(sticky.recall(other, timeout, at(60)), None);
        sticky.remember(client, backend(1), at(50));
        assert_eq!(sticky.recall(client, timeout, at(110)), Some(backend(1)), "each connection counts anew");
        assert_eq!(sticky.recall(client, timeout, at(111)), None);
        assert!(sticky.by_age.is_empty() && sticky.clients.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let mut sticky = Sticky::default();
        let start = Instant::now();
        let client = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        for n in 0..CLIENTS_MAX + 5 {
            sticky.remember(client(n), backend(1), start + Duration::from_millis(n as u64));
        }
        assert_eq!((sticky.clients.len(), sticky.by_age.len()), (CLIENTS_MAX, CLIENTS_MAX));
        let now = start + Duration::from_secs(60);
        assert_eq!(sticky.recall(client(4), Duration::from_secs(600), now), None);
        assert_eq!(sticky.recall(client(5), Duration::from_secs(600), now), Some(backend(1)));
    }
}
