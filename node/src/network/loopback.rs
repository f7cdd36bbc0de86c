//! Addresses of this node's own programs: a /32 (or /128) each on `lo`, since not every kernel has a dummy driver.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::{Handle, new_connection};

const INTERFACE: &str = "lo";

/// An address on `lo` is not as it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("address {address} on lo: {why}")]
pub struct LoopbackError {
    /// The address.
    pub address: IpAddr,
    /// What netlink says.
    pub why: String,
}

/// Adds the address unless the machine has it; loopback addresses always are there. `label` marks IPv4 addresses as
/// ours (IPv6 ones have none); Linux wants it to begin with the interface's name, and to have at most 15 letters.
pub async fn ensure(address: IpAddr, label: &str) -> Result<(), LoopbackError> {
    if needs_nothing(address) {
        return Ok(());
    }
    with_netlink(address, async |handle, index| {
        if find(handle, address).await?.is_some() {
            return Ok(());
        }
        let mut request = handle.address().add(index, address, full_length(address));
        if address.is_ipv4() {
            request.message_mut().attributes.push(AddressAttribute::Label(label.to_owned()));
        }
        match request.execute().await {
            // Somebody added it meanwhile.
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -(nix::errno::Errno::EEXIST as i32) => {
                Ok(())
            }
            other => other,
        }
    })
    .await
}

/// Removes the address if it is there and has this label.
pub async fn remove(address: IpAddr, label: &str) -> Result<(), LoopbackError> {
    if needs_nothing(address) {
        return Ok(());
    }
    with_netlink(address, async |handle, index| match find(handle, address).await? {
        Some(message) if message.header.index == index && is_ours(&message, label) => {
            handle.address().del(message).execute().await
        }
        _ => Ok(()),
    })
    .await
}

fn needs_nothing(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_ours(message: &AddressMessage, label: &str) -> bool {
    let is_v6 = message.attributes.iter().any(|a| matches!(a, AddressAttribute::Address(IpAddr::V6(_))));
    let labelled = message.attributes.iter().any(|a| matches!(a, AddressAttribute::Label(l) if l == label));
    if is_v6 { message.header.prefix_len == 128 } else { labelled }
}

async fn find(handle: &Handle, address: IpAddr) -> Result<Option<AddressMessage>, rtnetlink::Error> {
    let mut all = handle.address().get().set_address_filter(address).execute();
    let mut found = None;
    // Read to the end: a dump left half way would disturb the next one.
    while let Some(message) = all.try_next().await? {
        found.get_or_insert(message);
    }
    Ok(found)
}

async fn with_netlink(
    address: IpAddr,
    work: impl AsyncFnOnce(&Handle, u32) -> Result<(), rtnetlink::Error>,
) -> Result<(), LoopbackError> {
    let failed = |why: String| LoopbackError { address, why };
    let (connection, handle, _) = new_connection().map_err(|e| failed(e.to_string()))?;
    let driver = tokio::spawn(connection);
    let done = async {
        let link = handle.link().get().match_name(INTERFACE.to_owned()).execute().try_next().await?;
        let index = link.map(|l| l.header.index).ok_or(rtnetlink::Error::RequestFailed)?;
        work(&handle, index).await
    }
    .await;
    driver.abort();
    done.map_err(|e| failed(e.to_string()))
}
