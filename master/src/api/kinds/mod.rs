//! What is particular about each kind: defaults, preparation of writes, validation.
//!
//! The registry knows no kind; it asks [`strategy`] for the functions in this table. A kind that is not in it
//! gets the common behaviour, which is right for most.

use protocol::Resource;
use serde_json::Value;

use super::invalid::{Errors, Path};
use super::meta::NameRule;

mod batch;
mod cluster;
mod config;
mod containers;
mod extension;
mod pods;
mod podspec;
mod podspec_defaults;
mod rbac;
mod resources;
mod services;
mod storage;
mod workloads;

pub use pods::qos_class;
pub use podspec::validate_template;

/// How a kind behaves.
pub struct Strategy {
    /// Form of its names.
    pub names: NameRule,
    /// Fills in absent fields; also runs on what patches produce.
    pub defaults: fn(&mut Value),
    /// Clears what clients may not set, and sets what the server sets, before a create.
    pub prepare_create: fn(&mut Value),
    /// The same before an update of the main resource; the second is the stored object.
    pub prepare_update: fn(&mut Value, &Value),
    /// Checks an object.
    pub validate: fn(&Value, &mut Errors),
    /// Checks a change; runs besides `validate`.
    pub validate_update: fn(&Value, &Value, &mut Errors),
    /// `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Updates need no resourceVersion.
    pub unconditional_update: bool,
    /// A replace of an absent object makes it.
    pub create_on_update: bool,
    /// A delete answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// Dependents are orphaned by a delete that does not say.
    pub orphans_by_default: bool,
    /// What the first delete changes, for kinds that end by a controller's work and know no time of grace.
    pub mark_deleted: Option<fn(&mut Value)>,
}

fn nothing(_: &mut Value) {}
fn nothing_old(_: &mut Value, _: &Value) {}
fn valid(_: &Value, _: &mut Errors) {}
fn valid_update(_: &Value, _: &Value, _: &mut Errors) {}

/// Kinds whose generation counts changes of the spec.
const GENERATION: &[&str] = &[
    "cronjobs",
    "customresourcedefinitions",
    "daemonsets",
    "deployments",
    "deviceclasses",
    "endpointslices",
    "flowschemas",
    "ingressclasses",
    "ingresses",
    "jobs",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "networkpolicies",
    "poddisruptionbudgets",
    "pods",
    "podtemplates",
    "priorityclasses",
    "prioritylevelconfigurations",
    "replicasets",
    "replicationcontrollers",
    "resourceslices",
    "statefulsets",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];
/// Kinds whose updates must name a resourceVersion.
const CONDITIONAL: &[&str] = &[
    "apiservices",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "customresourcedefinitions",
    "ipaddresses",
    "leases",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "poddisruptionbudgets",
    "runtimeclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
];
/// Kinds that a replace makes where they are absent.
const CREATED_BY_UPDATE: &[&str] = &[
    "clusterrolebindings",
    "clusterroles",
    "endpoints",
    "events",
    "leases",
    "limitranges",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "services",
];
/// Kinds whose own validation does not look at metadata again after the common one.
pub const CHECKED_ONCE: &[&str] = &[
    "customresourcedefinitions",
    "events",
    "limitranges",
    "validatingwebhookconfigurations",
    "volumeattachments",
    "flowschemas",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "persistentvolumes",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];
/// Kinds whose delete answers with the object.
const RETURNED: &[&str] = &[
    "csinodes",
    "deviceclasses",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcequotas",
    "resourceslices",
    "serviceaccounts",
    "servicecidrs",
    "services",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
];

/// The behaviour of a kind.
pub fn strategy(resource: &Resource) -> Strategy {
    if resource.custom {
        return Strategy { generation: true, unconditional_update: false, ..base() };
    }
    let plural = resource.plural;
    let common = Strategy {
        names: NameRule::Subdomain,
        defaults: nothing,
        prepare_create: nothing,
        prepare_update: nothing_old,
        validate: valid,
        validate_update: valid_update,
        generation: GENERATION.contains(&plural),
        unconditional_update: !CONDITIONAL.contains(&plural),
        create_on_update: CREATED_BY_UPDATE.contains(&plural),
        returns_deleted: RETURNED.contains(&plural),
        orphans_by_default: matches!(plural, "replicationcontrollers" | "jobs"),
        mark_deleted: None,
    };
    let particular = |strategy: Strategy| Strategy {
        generation: common.generation,
        unconditional_update: common.unconditional_update,
        create_on_update: common.create_on_update,
        returns_deleted: common.returns_deleted,
        orphans_by_default: common.orphans_by_default,
        ..strategy
    };
    let made = match (resource.storage.0, plural) {
        ("", "pods") => pods::strategy(),
        ("", "podtemplates") => workloads::pod_template(),
        ("", "replicationcontrollers") => workloads::replication_controller(),
        ("", "services") => services::service(),
        ("", "endpoints") => services::endpoints(),
        ("discovery.k8s.io", "endpointslices") => services::endpoint_slice(),
        ("", "namespaces") => cluster::namespace(),
        ("", "nodes") => cluster::node(),
        ("", "configmaps") => config::config_map(),
        ("", "secrets") => config::secret(),
        ("", "limitranges") => config::limit_range(),
        ("", "persistentvolumes") => storage::volume(),
        ("", "persistentvolumeclaims") => storage::claim(),
        ("storage.k8s.io", "storageclasses") => storage::class(),
        ("storage.k8s.io", "csidrivers") => storage::csi_driver(),
        ("apps", "deployments") => workloads::deployment(),
        ("apps", "replicasets") => workloads::replica_set(),
        ("apps", "statefulsets") => workloads::stateful_set(),
        ("apps", "daemonsets") => workloads::daemon_set(),
        ("batch", "jobs") => batch::job(),
        ("batch", "cronjobs") => batch::cron_job(),
        ("policy", "poddisruptionbudgets") => cluster::disruption_budget(),
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class(),
        ("autoscaling", "horizontalpodautoscalers") => cluster::autoscaler(),
        ("networking.k8s.io", "networkpolicies") => services::network_policy(),
        ("rbac.authorization.k8s.io", "roles") => rbac::role(),
        ("rbac.authorization.k8s.io", "clusterroles") => rbac::role(),
        ("rbac.authorization.k8s.io", "rolebindings") => rbac::binding(),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => rbac::binding(),
        ("apiextensions.k8s.io", _) => extension::definition(),
        ("admissionregistration.k8s.io", _) => cluster::admission(plural),
        ("flowcontrol.apiserver.k8s.io", _) => cluster::flow(plural),
        ("apiregistration.k8s.io", _) => cluster::api_service(),
        _ => base(),
    };
    particular(made)
}

/// The common behaviour, to be completed with what a kind has of its own.
fn base() -> Strategy {
    Strategy {
        names: NameRule::Subdomain,
        defaults: nothing,
        prepare_create: nothing,
        prepare_update: nothing_old,
        validate: valid,
        validate_update: valid_update,
        generation: false,
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
        orphans_by_default: false,
        mark_deleted: None,
    }
}

/// A field that must not change.
fn immutable(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, new.clone(), "field is immutable");
    }
}

/// A number that must not be negative.
fn non_negative(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.invalid(path, value.clone(), "must be greater than or equal to 0");
    }
}
