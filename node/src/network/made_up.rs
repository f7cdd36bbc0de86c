//! A network whose addresses are made up, for simulated runtimes.

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;

use crate::runtime::{NetworkError, PodIdentity, PodNetwork, PortMapping};

/// Gives each sandbox an address that follows from its id, and no interface. So it has nothing to remember.
#[derive(Clone, Debug)]
pub struct MadeUpNetwork {
    first: Ipv4Addr,
}

impl Default for MadeUpNetwork {
    fn default() -> Self {
        MadeUpNetwork::new(Ipv4Addr::new(10, 0, 0, 1))
    }
}

impl MadeUpNetwork {
    /// Addresses from `first` on.
    pub fn new(first: Ipv4Addr) -> Self {
        MadeUpNetwork { first }
    }
}

/// The number in a simulated sandbox's id, so that no two have the same; something of any other id.
fn number(sandbox: &str) -> u32 {
    let digits = sandbox.strip_prefix("sim").and_then(|digits| digits.parse().ok());
    digits.unwrap_or_else(|| sandbox.bytes().fold(1u8, |a, b| a.wrapping_mul(31).wrapping_add(b)).into())
}

#[async_trait]
impl PodNetwork for MadeUpNetwork {
    async fn attach(
        &self,
        sandbox: &str,
        _: &str,
        _: &PodIdentity,
        _: &[PortMapping],
    ) -> Result<Vec<IpAddr>, NetworkError> {
        Ok(vec![Ipv4Addr::from(u32::from(self.first).wrapping_add(number(sandbox))).into()])
    }

    async fn detach(&self, _: &str, _: &str, _: &PodIdentity, _: &[PortMapping]) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), NetworkError> {
        Ok(())
    }
}
