//! Addresses of Services of type LoadBalancer: those that the master gave to this node to announce.
//!
//! The kernel answers for an address that it has, so the node takes the address ([`loopback`]) and tells the
//! segment once that it moved ([`arp`]). The service proxy, which knows the address on every node, does the rest.
//! Addresses stay while the node's process or its master is away; they go when the master gives them to another
//! node, when the Service goes, and with the node's clean-up.
//!
//! - [`arp`]: the announcement itself, and on which interfaces it is due.
//! - `actor`: follows the Services and makes it so.
//!
//! [`loopback`]: crate::network::loopback

mod actor;
pub mod arp;

pub use actor::start;

use crate::network::loopback::{self, Label};
use crate::network::netlink::NetlinkFailure;

/// Gives up every address that was taken, by whatever process.
pub async fn clean_up() -> Result<(), NetlinkFailure> {
    for address in loopback::labelled(Label::BALANCED).await? {
        loopback::remove(address.into(), Label::BALANCED).await?;
    }
    Ok(())
}
