//! NetworkPolicies: which pods may talk to the pods of this node, and to whom these may talk.
//!
//! Every packet that a pod sends to others, or gets from them, passes its node's forwarding; there the first packet
//! of each connection is judged, by the addresses and ports that it has after a Service's were replaced. Deciding is
//! pure; acting is one `nft` transaction a batch.
//!
//! ## Layout
//!
//! - [`objects`]: what is remembered of pods; [`claims`]: whose an address is. [`rules`]: what a NetworkPolicy says.
//! - [`world`]: pods, namespaces and policies together: who is isolated, by whom, and who each peer is.
//! - [`table`]: the sets and chains that say so, and what of them the kernel doesn't have yet.
//! - `actor`: the supervised actor that ties these together; [`handle`]: how it is started and asked.
//! - [`guard`]: no pod starts before it is isolated.
//!
//! ## In the kernel
//!
//! Everything lies in the table `inet troupe-policy`; deleting it undoes all of it. Each policy that selects a pod of
//! this node has a chain for each direction that it speaks of; each isolated pod has a chain that asks its policies
//! and then drops. Peers are sets of addresses, shared by all rules with the same selectors. So a pod that comes or
//! goes anywhere is an element in a few sets. Chains are reached by the pod's address, through one map for each
//! direction. Where pods have two families of addresses, there are as many sets and maps again, with the same policies'
//! chains behind.
//!
//! ## What upstream leaves open, and how it is here
//!
//! - Connections that are there when a policy comes go on.
//! - The node always reaches its own pods (probes), and they it; but the cluster's DNS, which the node serves, is a peer
//!   like any pod: one with the label `k8s-app: kube-dns` in `kube-system`, so that the usual policies let it in.
//! - A pod always reaches itself. Pods on the host's network are neither isolated nor peers, except by address.
//! - Rules without ports are about every protocol, those with ports about TCP, UDP and SCTP alone.
//! - Where pods have IPv4 addresses only, what they could say to one another by IPv6 within their bridge, past every
//!   policy, is dropped. Where they have both, so is what they say by link-local and multicast addresses of IPv6, but
//!   for the question who has an address.

mod actor;
pub mod claims;
pub mod guard;
pub mod handle;
pub mod objects;
pub mod rules;
pub mod table;
pub mod world;

use crate::nft::{self, RulesError};

pub use guard::guard;
pub use handle::{PolicyConfig, PolicyHandle, PolicyState, start};

/// Removes what was left in this network namespace, by an actor that runs or not: for `down`, after a crash too.
pub async fn clean_up() -> Result<(), RulesError> {
    nft::remove_table(table::TABLE).await
}
