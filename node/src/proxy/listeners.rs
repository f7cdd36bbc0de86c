//! Where programs of this node take connections in the endpoints' place, in the userspace mode. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::endpoints::Backend;
use super::plan::{PortPlan, Reach};
use crate::family::Family;

/// By service port and choice of endpoints.
pub type Listeners = BTreeMap<(String, Reach), SocketAddr>;

/// Who takes a port's connections in its endpoints' place, if anybody does.
pub fn listener(listeners: &Listeners, port: &PortPlan, reach: Reach) -> Option<Backend> {
    let listener = listeners.get(&(port.key.clone(), reach))?;
    let backend = Backend { ip: listener.ip(), port: listener.port() };
    // A port has the same name in both families.
    (Family::of(backend.ip) == port.family()).then_some(backend)
}

/// Who takes a port's connections: who listens in the endpoints' place, or these themselves.
pub fn takers(listeners: &Listeners, port: &PortPlan, reach: Reach) -> Vec<Backend> {
    match listener(listeners, port, reach) {
        Some(listener) => vec![listener],
        None => port.backends(reach).to_vec(),
    }
}
