//! How master and nodes agree on the addresses of Services of type LoadBalancer.

/// The class (`spec.loadBalancerClass`) that is served from the cluster's own pool; Services without a class are
/// served from it too.
pub const LOAD_BALANCER_CLASS: &str = "troupe.dev/pool";

/// The annotation by which a Service says which node announces its address; written by the master alone.
pub const ANNOUNCED_BY: &str = "troupe.dev/announced-by";
