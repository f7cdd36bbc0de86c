//! Forgetting UDP flows.
//!
//! The kernel remembers where it sent a UDP client, and goes on sending there long after the endpoint is
//! gone; and it remembers that an address led nowhere. Both memories are deleted when endpoints change. TCP
//! needs none of this: its connections end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Stdio;

use super::compile::Frontend;
use super::endpoints::Backend;
use crate::nft::Nft;

/// Remembered flows to delete: those of clients that aim at a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Where the clients aim.
    pub frontend: Frontend,
    /// Only those sent to this endpoint; `None` for those that were sent nowhere.
    pub backend: Option<Ipv4Addr>,
}

/// Which flows a change of endpoints makes stale.
pub fn stale_flows(
    old: &BTreeMap<Frontend, BTreeSet<Backend>>,
    new: &BTreeMap<Frontend, BTreeSet<Backend>>,
) -> BTreeSet<Flow> {
    let none = BTreeSet::new();
    let mut flows = BTreeSet::new();
    for (frontend, backends) in old {
        let remaining = new.get(frontend).unwrap_or(&none);
        for gone in backends.difference(remaining) {
            flows.insert(Flow { frontend: *frontend, backend: Some(gone.ip) });
        }
    }
    for (frontend, backends) in new {
        if !backends.is_empty() && old.get(frontend).is_none_or(BTreeSet::is_empty) {
            flows.insert(Flow { frontend: *frontend, backend: None });
        }
    }
    flows
}

/// The arguments of `conntrack` that delete a flow.
pub fn arguments(flow: &Flow) -> Vec<String> {
    let mut arguments: Vec<String> = ["-D", "-f", "ipv4", "-p", "udp"].map(str::to_owned).into();
    if let Some(ip) = flow.frontend.ip {
        arguments.extend(["--orig-dst".to_owned(), ip.to_string()]);
    }
    arguments.extend(["--orig-port-dst".to_owned(), flow.frontend.port.to_string()]);
    match (flow.backend, flow.frontend.ip) {
        (Some(backend), _) => arguments.extend(["--dst-nat".to_owned(), backend.to_string()]),
        // Flows that were sent nowhere answer from the address that they aimed at.
        (None, Some(ip)) => arguments.extend(["--reply-src".to_owned(), ip.to_string()]),
        (None, None) => {}
    }
    arguments
}

/// Deletes flows. Best effort: without the `conntrack` program they time out by themselves.
pub async fn forget(nft: &Nft, flows: impl IntoIterator<Item = Flow>) {
    for flow in flows {
        let run = nft
            .command("conntrack")
            .args(arguments(&flow))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        // It exits with 1 when there was nothing to delete, which is the usual case.
        if let Err(error) = run.await {
            tracing::warn!(%error, "conntrack is not available: stale UDP flows end by their timeout only");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(frontend: Frontend, last: &[u8]) -> BTreeMap<Frontend, BTreeSet<Backend>> {
        let backends = last.iter().map(|l| Backend { ip: Ipv4Addr::new(10, 0, 0, *l), port: 53 }).collect();
        BTreeMap::from([(frontend, backends)])
    }

    #[test]
    fn endpoints_that_go_and_addresses_that_come_alive_are_forgotten() {
        let frontend = Frontend { ip: Some(Ipv4Addr::new(10, 96, 0, 10)), port: 53 };
        let gone = |l| Flow { frontend, backend: Some(Ipv4Addr::new(10, 0, 0, l)) };
        let check = |old: &[u8], new: &[u8], expected: &[Flow]| {
            let flows = stale_flows(&set(frontend, old), &set(frontend, new));
            assert_eq!(flows, expected.iter().copied().collect(), "{old:?} → {new:?}");
        };
        check(&[1, 2], &[1, 2], &[]);
        check(&[1, 2], &[2, 3], &[gone(1)]);
        check(&[], &[1], &[Flow { frontend, backend: None }]);
        check(&[1], &[], &[gone(1)]);
        assert_eq!(stale_flows(&set(frontend, &[1]), &BTreeMap::new()), BTreeSet::from([gone(1)]));
        let text = arguments(&gone(1)).join(" ");
        assert_eq!(text, "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --dst-nat 10.0.0.1");
    }
}
