//! What is particular about each kind: defaults, preparation of writes, validation.
//!
//! The registry knows no kind; it asks [`strategy`] for the functions in this table. A kind that is not in it
//! gets the common behaviour, which is right for most.

use protocol::Resource;
use serde_json::Value;

use super::invalid::Errors;
use super::meta::NameRule;
use super::registry::part::Part;

mod autoscaling;
mod batch;
pub(crate) mod certificates;
pub mod checks;
mod cluster;
mod config;
pub(crate) mod devices;
mod endpoints;
mod events;
mod extension;
mod flowcontrol;
mod key_pairs;
mod networking;
mod notices;
mod places;
mod pods;
mod quota;
mod rbac;
mod resources;
pub mod services;
mod storage;
mod templates;
#[cfg(test)]
mod tests;
mod volume_notes;
mod volumes;
pub mod webhooks;
mod workloads;

pub use cluster::SYSTEM_PRIORITIES;
pub use notices::{is_held, left_behind, notices, selects_namespace, unknown_field};
pub use places::place;
pub use pods::{qos_class, totals};
pub use templates::{template, without_disabled};

/// What checks a new state against an old one.
pub type Change = fn(&Value, &Value, &mut Errors);

/// When a new object's metadata is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataTurn {
    /// Before everything else.
    First,
    /// After what old and new objects must satisfy, before what only new ones must.
    Between,
    /// By nobody but the registry, and only where nothing else is wrong.
    Last,
}

/// What `metadata.generation` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Nothing: there is none.
    None,
    /// The states of the spec, the first being 1.
    States,
    /// Changes of the spec only, from none.
    Changes,
    /// The first state, for ever.
    Creation,
}

/// How a kind behaves.
pub struct Strategy {
    /// Form of its names.
    pub names: NameRule,
    /// What is wrong with a name of that form, or the beginning of one, in an object that says what it must be.
    pub own_name: fn(&Value, &str) -> Option<String>,
    /// When the metadata of a new object is looked at.
    pub metadata: MetadataTurn,
    /// Fills in absent fields; also runs on what patches produce.
    pub defaults: fn(&mut Value),
    /// Clears what clients may not set, and sets what the server sets, before a create.
    pub prepare_create: fn(&mut Value),
    /// The same before an update of the main resource; the second is the stored object.
    pub prepare_update: fn(&mut Value, &Value),
    /// The same before an update of the status.
    pub prepare_status: fn(&mut Value, &Value),
    /// The same before an approval.
    pub prepare_approval: fn(&mut Value, &Value),
    /// The same before a resize.
    pub prepare_resize: fn(&mut Value, &Value),
    /// Checks an object.
    pub validate: fn(&Value, &mut Errors),
    /// Checks what is looked at once even where an update looks twice; runs after `validate`.
    pub validate_once: fn(&Value, &mut Errors),
    /// Checks what only a new object must satisfy; runs besides `validate`.
    pub validate_create: fn(&Value, &mut Errors),
    /// Checks a change; runs besides `validate`.
    pub validate_update: Change,
    /// What is wrong with a change is said before what is wrong with the object.
    pub change_first: bool,
    /// Checks a change of the status.
    pub validate_status: Change,
    /// Checks a change of what was decided about a request.
    pub validate_approval: Change,
    /// Checks a change of what must happen before it ends.
    pub validate_finalizers: Change,
    /// Checks a resize; runs besides `validate`.
    pub validate_resize: Change,
    /// Checks a change of the ephemeral containers; runs besides `validate`.
    pub validate_ephemeral: Change,
    /// Says of a new object, before it is prepared and checked, what its author had better say otherwise.
    pub sent_warnings: fn(&Value, &mut Vec<String>),
    /// Says what is allowed but unwise; the second is the stored object, on updates.
    pub warnings: fn(&Value, Option<&Value>, &mut Vec<String>),
    /// What is said of the status instead where it alone is written, for kinds that say something else then.
    pub status_warnings: Option<fn(&Value, &mut Vec<String>)>,
    /// A new object keeps the status that its author gave it.
    pub keeps_status: bool,
    /// What its generation counts.
    pub generation: Generation,
    /// Updates need no resourceVersion.
    pub unconditional_update: bool,
    /// A replace of an absent object makes it.
    pub create_on_update: bool,
    /// An apply to an absent object's status makes the object.
    pub create_by_status: bool,
    /// A delete answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// Dependents are orphaned by a delete that does not say.
    pub orphans_by_default: bool,
    /// What the first delete changes, for kinds that end by a controller's work and know no time of grace.
    pub mark_deleted: Option<fn(&mut Value)>,
    /// Finalizers need not name a domain.
    pub plain_finalizers: bool,
}

impl Strategy {
    /// Checks an object whose part was changed: as a whole, but where that part has all its own checks.
    pub fn check_object(&self, part: Part, new: &Value, errors: &mut Errors) {
        if !matches!(part, Part::Status | Part::Approval | Part::Finalizers) {
            (self.validate)(new, errors);
        }
    }

    /// The same, of what is looked at once.
    pub fn check_object_once(&self, part: Part, new: &Value, errors: &mut Errors) {
        if !matches!(part, Part::Status | Part::Approval | Part::Finalizers) {
            (self.validate_once)(new, errors);
        }
    }

    /// Says what is allowed but unwise in a change of a part of an object.
    pub fn say(&self, part: Part, new: &Value, old: &Value, said: &mut Vec<String>) {
        match self.status_warnings {
            Some(of_status) if part == Part::Status => of_status(new, said),
            _ => (self.warnings)(new, Some(old), said),
        }
    }

    /// Checks a change of a part of an object.
    pub fn check_change(&self, part: Part, new: &Value, old: &Value, errors: &mut Errors) {
        let change = match part {
            Part::Main => self.validate_update,
            Part::Status => self.validate_status,
            Part::Approval => self.validate_approval,
            Part::Resize => self.validate_resize,
            Part::EphemeralContainers => self.validate_ephemeral,
            Part::Finalizers => self.validate_finalizers,
        };
        change(new, old, errors);
    }
}

fn nothing(_: &mut Value) {}
fn nothing_old(_: &mut Value, _: &Value) {}
fn valid(_: &Value, _: &mut Errors) {}
fn valid_update(_: &Value, _: &Value, _: &mut Errors) {}
fn silent(_: &Value, _: Option<&Value>, _: &mut Vec<String>) {}
fn silent_alone(_: &Value, _: &mut Vec<String>) {}

/// Keeps what others say in the metadata on a write of the status.
fn keep_metadata(new: &mut Value, old: &Value) {
    for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
        crate::api::object::copy_meta(old, new, name);
    }
}

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
/// Kinds that an apply to their status makes where they are absent, though a replace does not.
const CREATED_BY_STATUS: &[&str] = &["namespaces", "validatingadmissionpolicies"];
/// Kinds whose own validation does not look at metadata again after the common one.
const CHECKED_ONCE: &[&str] = &[
    "csinodes",
    "endpointslices",
    "events",
    "flowschemas",
    "limitranges",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "persistentvolumes",
    "poddisruptionbudgets",
    "prioritylevelconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
];
/// Kinds whose validation of an update looks at all of the metadata again.
const CHECKED_AGAIN: &[&str] = &[
    "apiservices",
    "certificatesigningrequests",
    "clusterrolebindings",
    "clusterroles",
    "configmaps",
    "controllerrevisions",
    "csinodes",
    "csistoragecapacities",
    "deviceclasses",
    "endpoints",
    "endpointslices",
    "flowschemas",
    "ingressclasses",
    "ingresses",
    "ipaddresses",
    "jobs",
    "limitranges",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "namespaces",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "prioritylevelconfigurations",
    "resourceclaims",
    "resourceclaimtemplates",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "secrets",
    "serviceaccounts",
    "storageclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
    "volumeattributesclasses",
];
/// Kinds that do so twice.
const CHECKED_AGAIN_TWICE: &[&str] = &["persistentvolumes"];
/// Kinds whose finalizers need not name a domain.
const PLAIN_FINALIZERS: &[&str] = &[
    "apiservices",
    "customresourcedefinitions",
    "leases",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "poddisruptionbudgets",
    "runtimeclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];
/// Kinds whose delete answers with the object.
const RETURNED: &[&str] = &[
    "csidrivers",
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

/// The behaviour of a kind, in the version asked for or the one that is stored.
pub fn strategy(resource: &Resource) -> Strategy {
    if resource.custom {
        return Strategy {
            generation: Generation::States,
            unconditional_update: false,
            plain_finalizers: true,
            ..base()
        };
    }
    let plural = resource.plural;
    let made = match (resource.storage.0, plural) {
        ("", "pods") => pods::strategy(),
        ("", "podtemplates") => workloads::pod_template(),
        ("", "replicationcontrollers") => workloads::replication_controller(),
        ("", "services") => services::service(),
        ("", "endpoints") => endpoints::endpoints(),
        ("discovery.k8s.io", "endpointslices") => endpoints::endpoint_slice(),
        ("", "namespaces") => cluster::namespace(),
        ("", "nodes") => cluster::node(),
        ("", "configmaps") => config::config_map(),
        ("", "secrets") => config::secret(),
        ("", "serviceaccounts") => config::service_account(),
        ("", "limitranges") => quota::limit_range(),
        ("", "resourcequotas") => quota::resource_quota(),
        ("", "persistentvolumes") => volumes::volume(),
        ("", "persistentvolumeclaims") => volumes::claim(),
        // The two APIs of events share a store, not their rules.
        ("", "events") if resource.is_view() => events::own(),
        ("", "events") => events::core(),
        ("storage.k8s.io", "storageclasses") => storage::class(),
        ("storage.k8s.io", "csidrivers") => storage::csi_driver(),
        ("storage.k8s.io", "csinodes") => storage::csi_node(),
        ("storage.k8s.io", "csistoragecapacities") => storage::storage_capacity(),
        ("storage.k8s.io", "volumeattachments") => storage::attachment(),
        ("storage.k8s.io", "volumeattributesclasses") => storage::attributes_class(),
        ("apps", "deployments") => workloads::deployment(),
        ("apps", "replicasets") => workloads::replica_set(),
        ("apps", "statefulsets") => workloads::stateful_set(),
        ("apps", "daemonsets") => workloads::daemon_set(),
        ("apps", "controllerrevisions") => cluster::controller_revision(),
        ("batch", "jobs") => batch::job(),
        ("batch", "cronjobs") => batch::cron_job(),
        ("policy", "poddisruptionbudgets") => cluster::disruption_budget(),
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class(),
        ("coordination.k8s.io", "leases") => cluster::lease(),
        ("node.k8s.io", "runtimeclasses") => cluster::runtime_class(),
        ("autoscaling", "horizontalpodautoscalers") => autoscaling::autoscaler(),
        ("networking.k8s.io", "ingresses") => networking::ingress(),
        ("networking.k8s.io", "ingressclasses") => networking::ingress_class(),
        ("networking.k8s.io", "networkpolicies") => networking::network_policy(),
        ("networking.k8s.io", "ipaddresses") => networking::ip_address(),
        ("networking.k8s.io", "servicecidrs") => networking::service_cidr(),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => rbac::role(),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => rbac::binding(),
        ("certificates.k8s.io", "certificatesigningrequests") => certificates::signing_request(),
        ("resource.k8s.io", "resourceclaims") => devices::claim(),
        ("resource.k8s.io", "resourceclaimtemplates") => devices::claim_template(),
        ("resource.k8s.io", "deviceclasses") => devices::class(),
        ("resource.k8s.io", "resourceslices") => devices::slice(),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations",
        ) => webhooks::configuration(),
        ("admissionregistration.k8s.io", _) => extension::policy(plural),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flowcontrol::flow_schema(),
        ("flowcontrol.apiserver.k8s.io", _) => flowcontrol::priority_level(),
        ("apiextensions.k8s.io", _) => extension::definition(),
        ("apiregistration.k8s.io", _) => cluster::api_service(),
        _ => base(),
    };
    Strategy {
        generation: match plural {
            "csidrivers" => Generation::Changes,
            "priorityclasses" => Generation::Creation,
            _ if GENERATION.contains(&plural) => Generation::States,
            _ => Generation::None,
        },
        unconditional_update: !CONDITIONAL.contains(&plural),
        create_on_update: CREATED_BY_UPDATE.contains(&plural),
        create_by_status: CREATED_BY_UPDATE.contains(&plural) || CREATED_BY_STATUS.contains(&plural),
        returns_deleted: RETURNED.contains(&plural),
        orphans_by_default: matches!(plural, "replicationcontrollers" | "jobs"),
        plain_finalizers: PLAIN_FINALIZERS.contains(&plural) || (plural == "events" && !resource.is_view()),
        ..made
    }
}

/// Why an object of a kind cannot become what is kept of it, though its fields can be read.
pub fn unconvertible(group: &str, kind: &str, object: &Value) -> Option<String> {
    match (group, kind) {
        ("apps", "DaemonSet") => workloads::no_generation(object),
        _ => None,
    }
}

/// Whether an update finds what is wrong with metadata only once. Upstream looks twice on its way, but for
/// kinds whose own validation does not look again.
pub fn checked_once(resource: &Resource, part: Part) -> bool {
    // Volumes do so where their status is written alone.
    if resource.plural == "persistentvolumes" && part == Part::Status {
        return false;
    }
    CHECKED_ONCE.contains(&resource.plural) && !(resource.plural == "events" && resource.is_view())
}

/// In which order an update looks at a change of the metadata, at the object, and at other changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrder {
    /// At the object, the metadata's change, the other changes.
    ObjectFirst,
    /// At the metadata's change, the object, the other changes.
    MetadataFirst,
    /// At the metadata's change, the other changes, the object.
    ChangeFirst,
}

/// The order of a kind. Who looks at all of the metadata `again` mostly does so with the rest of the object, and at
/// the metadata's change after it.
pub fn update_order(resource: &Resource, strategy: &Strategy, again: bool) -> UpdateOrder {
    let own_event = resource.plural == "events" && resource.is_view();
    match resource.plural {
        _ if strategy.change_first => UpdateOrder::ChangeFirst,
        "apiservices" | "endpoints" | "persistentvolumeclaims" | "pods" | "serviceaccounts" => {
            UpdateOrder::MetadataFirst
        }
        _ if again || own_event => UpdateOrder::ObjectFirst,
        _ => UpdateOrder::MetadataFirst,
    }
}

/// The field of a kind whose change, down to an empty list in the place of none, counts as a new generation.
pub fn compared_exactly(resource: &Resource) -> Option<&'static str> {
    match resource.plural {
        "networkpolicies" => Some("spec"),
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => Some("webhooks"),
        _ => None,
    }
}

/// How often the validation of a kind's update looks at all of its metadata again.
pub fn checked_again(resource: &Resource) -> usize {
    let is_in = |kinds: &[&str]| usize::from(kinds.contains(&resource.plural));
    is_in(CHECKED_AGAIN) + is_in(CHECKED_AGAIN_TWICE)
}

/// The common behaviour, to be completed with what a kind has of its own.
fn base() -> Strategy {
    Strategy {
        names: NameRule::Subdomain,
        own_name: |_, _| None,
        metadata: MetadataTurn::First,
        defaults: nothing,
        prepare_create: nothing,
        prepare_update: nothing_old,
        prepare_status: nothing_old,
        prepare_approval: nothing_old,
        prepare_resize: nothing_old,
        validate: valid,
        validate_once: valid,
        validate_create: valid,
        validate_update: valid_update,
        change_first: false,
        validate_status: valid_update,
        validate_approval: valid_update,
        validate_finalizers: valid_update,
        validate_resize: valid_update,
        validate_ephemeral: valid_update,
        sent_warnings: silent_alone,
        warnings: silent,
        status_warnings: None,
        keeps_status: false,
        generation: Generation::None,
        unconditional_update: true,
        create_on_update: false,
        create_by_status: false,
        returns_deleted: false,
        orphans_by_default: false,
        mark_deleted: None,
        plain_finalizers: false,
    }
}
