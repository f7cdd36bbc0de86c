//! Which endpoint a connection goes to: the schedulers that IPVS made classic. Pure.
//!
//! Endpoints have no weights in Kubernetes, so all weigh the same here. Where several are equally good, they take turns.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::proxy::endpoints::Backend;

/// What a half-closed connection is worth beside an open one, in [`Scheduler::LeastConnection`].
const OPEN_WEIGHS: usize = 256;

/// How an endpoint is chosen. The short names are those of IPVS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// One after the other.
    #[default]
    #[value(alias = "rr")]
    RoundRobin,
    /// Where the fewest connections are; half-closed ones hardly count.
    #[value(alias = "lc")]
    LeastConnection,
    /// By the client's address: a client always gets the same.
    #[value(alias = "sh")]
    SourceHash,
    /// By the address that was aimed at.
    #[value(alias = "dh")]
    DestinationHash,
    /// Where the next connection is expected to be served first: where the fewest are open, counting itself.
    #[value(alias = "sed")]
    ShortestExpectedDelay,
    /// An idle one where there is one, else as for the shortest expected delay.
    #[value(alias = "nq")]
    NeverQueue,
}

/// An endpoint and what it has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where.
    pub backend: Backend,
    /// Connections that are open on both sides, or UDP flows.
    pub open: usize,
    /// Connections that one side has ended.
    pub half_closed: usize,
}

/// Who connects to what.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// The client.
    pub client: IpAddr,
    /// What it aims at.
    pub destination: IpAddr,
}

impl Scheduler {
    /// Chooses among those servers that `usable` lets through; the index of the chosen one. `turn` is whose turn it
    /// would be next: one after the last that was chosen.
    pub fn choose(
        self,
        servers: &[Server],
        usable: impl Fn(&Server) -> bool,
        turn: usize,
        aim: Aim,
    ) -> Option<usize> {
        let count = servers.len();
        let in_turn = || {
            let order = (0..count).map(move |i| (turn % count + i) % count);
            order.filter_map(|i| servers.get(i).map(|s| (i, s))).filter(|(_, s)| usable(s))
        };
        // Of equals, the first in turn.
        let least = |load: fn(&Server) -> usize| in_turn().min_by_key(|(_, s)| load(s)).map(|(i, _)| i);
        let most_alike =
            |address: IpAddr| in_turn().max_by_key(|(_, s)| affinity(address, s.backend)).map(|(i, _)| i);
        match self {
            Scheduler::RoundRobin => in_turn().next().map(|(i, _)| i),
            Scheduler::LeastConnection => least(|s| s.open * OPEN_WEIGHS + s.half_closed),
            Scheduler::SourceHash => most_alike(aim.client),
            Scheduler::DestinationHash => most_alike(aim.destination),
            Scheduler::ShortestExpectedDelay => least(|s| s.open + 1),
            Scheduler::NeverQueue => {
                let idle = in_turn().find(|(_, s)| s.open == 0).map(|(i, _)| i);
                idle.or_else(|| least(|s| s.open + 1))
            }
        }
    }
}

/// How much an address and an endpoint belong together. An endpoint that comes or goes moves only those whom it takes or
/// leaves; a table of hashes by number would move nearly all.
fn affinity(address: IpAddr, backend: Backend) -> u64 {
    let mut hasher = DefaultHasher::new();
    (address, backend).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
