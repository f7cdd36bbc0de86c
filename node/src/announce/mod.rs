//! Addresses of Services of type LoadBalancer: those that the master gave to this node to announce.
//!
//! The kernel answers for an address that it has, so the node takes the address ([`taken`]) and tells the segment once
//! that it moved ([`segment`]). The service proxy, which knows the address on every node, does the rest. Addresses
//! stay while the node's process or its master is away; they go when the master gives them to another node, when the
//! last Service that has them goes, and with the node's clean-up.
//!
//! - [`taken`]: which addresses the machine has for this, taking them and giving them up.
//! - [`segment`]: announcing, and on which interfaces it is due; [`arp`] and [`ndp`]: what is said there.
//! - `actor`: follows the Services and makes it so.

mod actor;
pub mod arp;
pub mod ndp;
pub mod segment;
pub mod taken;

pub use actor::start;

use crate::network::netlink::NetlinkFailure;

/// Gives up every address that was taken, by whatever process.
pub async fn clean_up() -> Result<(), NetlinkFailure> {
    for address in taken::all().await? {
        taken::give_up(address).await?;
    }
    Ok(())
}
