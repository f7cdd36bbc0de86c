//! Labels by which Kubernetes' objects name one another, as master and node both read them.

/// On an EndpointSlice: the Service that it is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// On a node: its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
