//! The checks that upstream reports, in its order, and which of our parts stands behind each.

use super::Scope;

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The process answers.
    Process,
    /// The store answers.
    Store,
    /// The watch cache is as new as the store.
    Cache,
    /// Everything that a master starts was started.
    Started,
}

/// Name, where it is reported, and what it looks at.
pub const CHECKS: &[(&str, Scope, Part)] = &[
    ("ping", Scope::Everywhere, Part::Process),
    ("log", Scope::Everywhere, Part::Process),
    ("loopback-serving-certificate", Scope::Alive, Part::Process),
    ("etcd", Scope::Alive, Part::Store),
    ("informer-sync", Scope::Ready, Part::Cache),
    ("poststarthook/start-apiserver-admission-initializer", Scope::Everywhere, Part::Started),
    ("poststarthook/generic-apiserver-start-informers", Scope::Everywhere, Part::Started),
    ("poststarthook/priority-and-fairness-config-consumer", Scope::Everywhere, Part::Started),
    ("poststarthook/priority-and-fairness-filter", Scope::Everywhere, Part::Started),
    ("poststarthook/storage-object-count-tracker-hook", Scope::Everywhere, Part::Started),
    ("poststarthook/start-apiextensions-informers", Scope::Everywhere, Part::Started),
    ("poststarthook/start-apiextensions-controllers", Scope::Everywhere, Part::Started),
    ("poststarthook/crd-informer-synced", Scope::Everywhere, Part::Started),
    ("poststarthook/start-system-namespaces-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/peer-endpoint-reconciler-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/start-cluster-authentication-info-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/start-kube-apiserver-identity-lease-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/start-kube-apiserver-identity-lease-garbage-collector", Scope::Everywhere, Part::Started),
    ("poststarthook/storage-readiness", Scope::Everywhere, Part::Started),
    ("poststarthook/start-legacy-token-tracking-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/start-service-ip-repair-controllers", Scope::Everywhere, Part::Started),
    ("poststarthook/rbac/bootstrap-roles", Scope::Everywhere, Part::Started),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", Scope::Everywhere, Part::Started),
    ("poststarthook/priority-and-fairness-config-producer", Scope::Everywhere, Part::Started),
    ("poststarthook/bootstrap-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/start-kubernetes-service-cidr-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/aggregator-reload-proxy-client-cert", Scope::Everywhere, Part::Started),
    ("poststarthook/start-kube-aggregator-informers", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-status-local-available-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-status-remote-available-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-registration-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-wait-for-first-sync", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-discovery-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/kube-apiserver-autoregistration", Scope::Everywhere, Part::Started),
    ("autoregister-completion", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-openapi-controller", Scope::Everywhere, Part::Started),
    ("poststarthook/apiservice-openapiv3-controller", Scope::Everywhere, Part::Started),
    ("shutdown", Scope::Ready, Part::Process),
];
