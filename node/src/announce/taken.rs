//! The balanced addresses that this machine has: those of IPv4 on `lo`, since what it has there it answers for on every
//! interface; those of IPv6 on the interfaces where they are announced, since for these it answers nowhere else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::segment::{self, AnnounceError};
use crate::network::guests;
use crate::network::loopback::{self, Label};
use crate::network::netlink::NetlinkFailure;

/// Why an address was not taken or given up.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] NetlinkFailure),
    /// There is no interface for it.
    #[error(transparent)]
    Nowhere(#[from] AnnounceError),
    /// IPv6 is switched off where the address belongs.
    #[error(
        "taking {address}: IPv6 is switched off on \"{interface}\"; switch it on there (sysctl -w \
         net.ipv6.conf.{interface}.disable_ipv6=0), or leave IPv6 out of the master's --load-balancer-pool"
    )]
    SwitchedOff {
        /// Which address.
        address: IpAddr,
        /// Where.
        interface: String,
    },
    /// The process is ending.
    #[error("taking {0}: the node is ending")]
    Ending(IpAddr),
}

/// The addresses that were taken, by this process or an earlier one.
pub async fn all() -> Result<BTreeSet<IpAddr>, NetlinkFailure> {
    let v4 = loopback::labelled(Label::BALANCED).await?.into_iter().map(IpAddr::V4);
    Ok(v4.chain(guests::all().await?.into_iter().map(IpAddr::V6)).collect())
}

/// Takes an address, on a machine whose own address is `node`.
pub async fn take(address: IpAddr, node: IpAddr) -> Result<(), TakeError> {
    let IpAddr::V6(guest) = address else { return Ok(loopback::ensure(address, Label::BALANCED).await?) };
    let found = tokio::task::spawn_blocking(move || segment::interfaces(address, node)).await;
    for interface in found.map_err(|_| TakeError::Ending(address))?? {
        match guests::add(interface.index, guest).await {
            Err(refused) if refused.is_forbidden() => {
                return Err(TakeError::SwitchedOff { address, interface: interface.name });
            }
            added => added?,
        }
    }
    Ok(())
}

/// Gives an address up.
pub async fn give_up(address: IpAddr) -> Result<(), NetlinkFailure> {
    match address {
        IpAddr::V4(_) => loopback::remove(address, Label::BALANCED).await,
        IpAddr::V6(guest) => guests::remove(guest).await,
    }
}
