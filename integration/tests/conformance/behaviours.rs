//! The behaviours that are tried, and by what. A row is a behaviour or a few of one subject; every kind has a row more
//! for its whole API.

use crate::kinds::whole_api;
use crate::scene::Scene;
use crate::{
    accounts, chunks, crds, cronjobs, daemonsets, deployments, discovery, disruption, garbage, jobs, kubectl,
    namespaces, network, objects, openapi, pods, policies, quotas, replicas, samples, scheduling,
    statefulsets, storage, validation, watches, webhooks,
};

/// A behaviour.
pub struct Behaviour {
    /// What it is about.
    pub area: &'static str,
    pub title: String,
    pub test: Box<dyn Fn(&Scene) + Send + Sync>,
}

/// An area's behaviours: a title and a test each.
type Table = [(&'static str, fn(&Scene))];

const GARBAGE: &Table = &[
    ("a deleted deployment takes its replica set and pods along", garbage::deployment_in_the_background),
    ("an orphaning deployment leaves its replica set and pods", garbage::deployment_orphans_its_replica_set),
    (
        "a deleted replication controller takes its pods along",
        garbage::replication_controller_in_the_background,
    ),
    (
        "a replication controller in the foreground waits for its pods",
        garbage::replication_controller_in_the_foreground,
    ),
    ("an orphaning replication controller leaves its pods", garbage::replication_controller_orphans_its_pods),
    ("dependents with another owner stay", garbage::pods_with_another_owner_stay),
    ("owners in a circle are collected", garbage::owners_in_a_circle),
    ("custom resources own one another", garbage::custom_resources_own_one_another),
];

const QUOTAS: &Table = &[
    ("a quota's status is computed as soon as it is there", quotas::status_is_computed),
    ("a quota counts config maps", quotas::config_maps),
    ("a quota counts secrets", quotas::secrets),
    ("a quota counts replica sets", quotas::replica_sets),
    ("a quota counts replication controllers", quotas::replication_controllers),
    ("a quota counts custom resources", quotas::custom_resources),
    ("a quota counts claims and what they ask for", quotas::persistent_volume_claims),
    ("a quota counts services, node ports and balancers", quotas::services),
    ("a quota counts pods and what they ask for", quotas::pods),
    ("a quota for pods of best effort, and one for others", quotas::scopes_of_quality),
    ("a quota for pods with a deadline, and one for others", quotas::scopes_of_ending),
    ("a quota for pods of a priority", quotas::scopes_of_priority),
    ("a quota is updated and deleted", quotas::updated_and_deleted),
    ("a quota is listed everywhere, patched and deleted by label", quotas::lifecycle),
    ("a quota's status is written, and mended", quotas::status_is_written),
];

const NAMESPACES: &Table = &[
    ("a namespace's services go with it", namespaces::services_go_with_it),
    ("a namespace's pods go with it", namespaces::pods_go_with_it),
    ("a namespace's pods go before the rest", namespaces::pods_go_first),
    ("a namespace is patched", namespaces::patched),
    ("a namespace is updated", namespaces::updated),
    ("a namespace's status is read, patched and updated", namespaces::status),
    ("a namespace has finalizers of its own", namespaces::finalizer),
];

const WORKLOADS: &Table = &[
    ("a cron job runs several jobs at a time", cronjobs::several_at_a_time),
    ("a cron job runs one job at a time", cronjobs::one_at_a_time),
    ("a cron job replaces the older job", cronjobs::the_newer_replaces_the_older),
    ("a cron job is suspended", cronjobs::suspended),
    ("a cron job keeps no more finished jobs than it may", cronjobs::finished_jobs_leave_the_list),
    ("a replica set keeps pods", replicas::set_serves),
    ("a replication controller keeps pods", replicas::controller_serves),
    ("a replica set has a scale", replicas::set_scales),
    ("a replication controller has a scale", replicas::controller_scales),
    ("a replica set adopts and releases pods", replicas::set_adopts_and_releases),
    ("a replication controller adopts pods", replicas::controller_adopts),
    ("a replication controller releases pods", replicas::controller_releases),
    ("a replication controller says what fails", replicas::controller_says_what_fails),
    ("a replica set says what fails", replicas::set_says_what_fails),
    ("a replica set is replaced and patched", replicas::set_is_replaced_and_patched),
    ("a replica set lives and ends, with its status", replicas::set_lifecycle),
    ("a replication controller lives and ends, with its status", replicas::controller_lifecycle),
    ("a deployment rolls to a new template", deployments::rolls),
    ("a deployment recreates its pods", deployments::recreates),
    ("a deployment deletes old replica sets", deployments::history_is_limited),
    ("a deployment rolls over a rollout", deployments::rolls_over),
    ("a deployment scales in proportion while it rolls", deployments::scales_in_proportion),
    ("a deployment has a scale", deployments::scale),
    ("a deployment lives and ends, with its status", deployments::lifecycle),
    ("a stateful set goes in order and waits for each pod", statefulsets::in_order),
    ("a stateful set goes all at once where it may", statefulsets::all_at_once),
    ("a stateful set rolls in steps by partition", statefulsets::partitions),
    ("a stateful set rolls and rolls back", statefulsets::rolls_and_rolls_back),
    ("a stateful set makes pods that failed anew", statefulsets::failed_pods),
    ("a stateful set has a scale", statefulsets::scale),
    ("a stateful set's status is written", statefulsets::status),
    ("a daemon set has a pod on every node it wants", daemonsets::on_every_node),
    ("a daemon set makes failed pods anew", daemonsets::failed_pods),
    ("a daemon set rolls and rolls back", daemonsets::rolls_and_rolls_back),
    ("a daemon set's status is written", daemonsets::status),
    ("a job runs to its end", jobs::runs_to_its_end),
    ("an indexed job gives each pod its index", jobs::indexed),
    ("a job adopts and releases pods", jobs::adopts_and_releases),
    ("a job is suspended, resumed and deleted, with its status", jobs::lifecycle),
    ("a job fails early by its pods' exit code", jobs::fails_by_exit_code),
    ("a job overlooks pods that were disrupted", jobs::overlooks_disruptions),
    ("an indexed job goes on when an index fails", jobs::limit_per_index),
    ("an indexed job fails an index by policy", jobs::fails_an_index),
    ("an indexed job ends when too many indexes failed", jobs::too_many_indexes),
    ("an indexed job succeeds by its policy", jobs::succeeds_by_policy),
    ("a budget is created, updated, patched and deleted", disruption::created_updated_patched_deleted),
    ("budgets are listed everywhere and deleted together", disruption::listed_everywhere_and_deleted),
    ("a budget's status follows the pods", disruption::status_follows_pods),
    ("a budget's status is written", disruption::status_is_written),
    ("evictions wait for the budget", disruption::evictions_wait_for_the_budget),
];

const ACCOUNTS: &Table = &[
    ("the root CA is in every namespace", accounts::root_ca_is_everywhere),
    ("tokens are mounted unless declined", accounts::tokens_are_mounted_unless_declined),
    ("a token is made and reviewed", accounts::tokens_are_reviewed),
    ("an account lives and ends", accounts::lifecycle),
    ("an account is updated", accounts::updated),
    ("reviews of access agree with access", accounts::reviews_of_access),
    ("the issuer of tokens is discovered", accounts::issuer_is_discovered),
    ("a signing request is approved and its certificate issued", accounts::signing_requests),
];

const NETWORK: &Table = &[
    ("a service without pods has an empty slice", network::slices_without_pods),
    ("a service without pods has empty endpoints", network::endpoints_without_pods),
    ("a service's endpoints are its ready pods", network::pods_behind_a_service),
    ("endpoints of others are mirrored", network::endpoints_are_mirrored),
    ("the API server has endpoints and a slice", network::api_server_has_endpoints),
    ("kubernetes is a service, and listed everywhere", network::kubernetes_is_a_service),
    ("a service's status is patched and updated", network::service_status),
    ("services are deleted together", network::services_are_deleted_by_label),
    ("a service changes its type", network::types_of_a_service_change),
    ("endpoints live and end", network::lifecycle_of_endpoints),
    ("every one of many services gets endpoints", network::many_services_get_endpoints),
    ("a balanced service has an address of each family", network::balanced_services_have_an_address_a_family),
    ("balanced services share an address by port", network::balanced_services_share_an_address),
];

const SCHEDULING: &Table = &[
    ("a pod of a runtime class with overhead is scheduled", scheduling::runtime_class_with_overhead),
    ("a pod of a runtime class without overhead is scheduled", scheduling::runtime_class_without_overhead),
    ("a pod of no known runtime class is rejected", scheduling::runtime_class_that_is_not_there),
    ("a pod of a deleted runtime class is rejected", scheduling::runtime_class_that_is_gone),
    ("a pod for no node stays unscheduled", scheduling::selector_that_no_node_has),
    ("a pod goes to the node that it selects", scheduling::selector_that_a_node_has),
    ("a node has room for so much", scheduling::node_without_room),
    ("a node's ports are taken once", scheduling::host_ports_conflict),
    ("a more important pod takes another's place", scheduling::the_more_important_comes_first),
    ("priority classes change in what may change", scheduling::priority_classes),
    ("limits give pods defaults and bounds", scheduling::limits_have_defaults),
    (
        "limits are listed everywhere, patched and deleted together",
        scheduling::limits_are_listed_everywhere_and_deleted,
    ),
];

const OBJECTS: &Table = &[
    ("a config map's keys are not empty", objects::config_map_with_an_empty_key),
    ("a secret's keys are not empty", objects::secret_with_an_empty_key),
    ("an immutable config map stays as it is", objects::immutable_config_map),
    ("an immutable secret stays as it is", objects::immutable_secret),
    ("a config map lives and ends", objects::config_map_lifecycle),
    ("a secret lives and ends", objects::secret_lifecycle),
    ("a config map is updated", objects::config_map_is_updated),
    ("a pod template is replaced", objects::pod_template_is_replaced),
    ("an event lives and ends", objects::core_events),
    ("an event of the newer group lives and ends", objects::newer_events),
    ("events are deleted together", objects::core_events_together),
    ("events of the newer group are deleted together", objects::newer_events_together),
    ("leases are made, updated, patched and deleted together", objects::leases),
    ("a node lives and ends", objects::node_lifecycle),
    ("pods have a quality of service", pods::quality_of_service),
    ("sysctls have names", pods::sysctls_that_are_none),
    ("a pod has volumes of drivers", pods::inline_volumes),
    ("a pod's status is patched", pods::status_is_patched),
    ("a pod's generation counts changes of what is wanted", pods::generations),
    ("a pod's deadline is only shortened", pods::deadline_is_shortened),
    ("pods are deleted together", pods::deleted_together),
    ("a volume and a claim live and end", storage::lifecycle_of_volume_and_claim),
    ("a volume's and a claim's status is written", storage::status_of_volume_and_claim),
    ("an attachment's status is written", storage::status_of_an_attachment),
    ("drivers live and end", storage::drivers),
    ("a claim that grows waits for whoever provides its volume", storage::growth_of_a_claim),
];

const EXTENSION: &Table = &[
    ("a declared kind comes and goes", crds::created_and_deleted),
    ("a declaration's status is written", crds::status),
    ("declarations are listed and deleted together", crds::listed_and_deleted_together),
    ("custom objects are watched", crds::objects_are_watched),
    ("custom objects have defaults, stored and read", crds::defaults),
    ("declarations are discovered", crds::discovered),
    ("custom objects are selected by their fields", crds::selected_by_their_fields),
    ("a schema is published and kept to by kubectl", openapi::with_a_schema),
    ("a schema of open fields is published", openapi::without_a_schema),
    ("an open schema is published", openapi::preserving_at_the_root),
    ("a schema of open embedded objects is published", openapi::preserving_in_an_embedded_object),
    ("schemas of several groups are published", openapi::several_groups),
    ("schemas of several versions are published", openapi::several_versions),
    ("schemas of several kinds are published", openapi::several_kinds),
    ("a renamed version is published", openapi::renamed_version),
    ("a version that is no longer served is not published", openapi::version_no_longer_served),
    ("a policy validates deployments", policies::deployments_are_validated),
    ("a policy's expressions have variables", policies::expressions_have_variables),
    ("a policy's types are checked", policies::types_are_checked),
    ("a policy changes deployments", policies::deployments_are_changed),
    ("a policy annotates deployments", policies::deployments_are_annotated),
    ("a webhook denies pods and config maps", webhooks::denies),
    ("a webhook changes config maps", webhooks::changes),
    ("a webhook changes pods before their defaults", webhooks::changes_pods),
    ("a webhook changes and denies custom objects", webhooks::custom_objects),
    ("a webhook denies declarations", webhooks::denies_declarations),
    ("a webhook that is not there denies all, if it must be asked", webhooks::fails_closed),
    ("webhooks' configurations are left alone", webhooks::own_configurations),
    ("webhooks are listed, patched and deleted together", webhooks::listed_and_patched),
    ("webhooks have conditions, which are checked", webhooks::conditions),
];

const SERVING: &Table = &[
    ("every group has a preferred version", discovery::preferred_versions),
    ("every version of a group has resources", discovery::resources_of_every_group),
    ("discovery is had all together", discovery::all_together),
    ("discovery is had as it is accepted", discovery::by_what_is_accepted),
    ("declared kinds are discovered all together", discovery::declared_kinds_all_together),
    ("the server has a version", discovery::version_of_the_server),
    ("no table is made of what has none", discovery::tables_that_nobody_makes),
    ("tables are made of pods, and in chunks", discovery::tables),
    ("unknown and double fields of typed objects", validation::of_typed_objects),
    ("unknown metadata of typed objects", validation::of_typed_metadata),
    ("custom objects that fit their schema", validation::of_custom_objects_that_fit),
    ("unknown fields of custom objects", validation::of_custom_objects_with_more),
    ("custom objects without a schema", validation::of_custom_objects_without_a_schema),
    ("double fields of custom objects where all is kept", validation::twice_where_all_is_kept),
    ("unknown metadata of custom objects", validation::of_custom_metadata),
    ("watches see what their selectors let through", watches::several_selectors),
    ("a watch begins at a version", watches::from_a_version),
    ("a watch goes on where another ended", watches::closed_and_begun_anew),
    ("a watch sees labels come and go", watches::labels_come_and_go),
    ("all watches see one order", watches::all_see_one_order),
    ("chunks of a list are of one moment", chunks::of_one_moment),
    ("chunks of a list go on when their moment is forgotten", chunks::of_a_moment_that_is_forgotten),
];

const KUBECTL: &Table = &[
    ("kubectl api-versions", kubectl::api_versions),
    ("kubectl cluster-info", kubectl::cluster_info),
    ("kubectl version", kubectl::versions),
    ("kubectl diff", kubectl::diff),
    ("kubectl run", kubectl::run_a_pod),
    ("kubectl patch, dry", kubectl::dry_run),
    ("kubectl proxy on any port", kubectl::proxy_on_any_port),
    ("kubectl proxy on a socket", kubectl::proxy_on_a_socket),
    ("kubectl label", kubectl::label),
    ("kubectl describe", kubectl::describe),
    ("kubectl patch", kubectl::patch),
    ("kubectl expose", kubectl::expose),
    ("kubectl replace", kubectl::replace),
    ("kubectl scale", kubectl::scale),
];

/// All of them.
pub fn all() -> Vec<Behaviour> {
    let areas: [(&'static str, &'static Table); 11] = [
        ("garbage", GARBAGE),
        ("quotas", QUOTAS),
        ("namespaces", NAMESPACES),
        ("workloads", WORKLOADS),
        ("accounts", ACCOUNTS),
        ("network", NETWORK),
        ("scheduling", SCHEDULING),
        ("objects", OBJECTS),
        ("extension", EXTENSION),
        ("serving", SERVING),
        ("kubectl", KUBECTL),
    ];
    let of = |(area, table): (&'static str, &'static Table)| {
        table.iter().map(move |&(title, test)| Behaviour {
            area,
            title: title.to_owned(),
            test: Box::new(test),
        })
    };
    let kinds = samples::ALL.iter().map(|sample| Behaviour {
        area: "kinds",
        title: format!("the whole API of {} {}", sample.group_version, sample.plural),
        test: Box::new(move |scene| whole_api(scene, sample)),
    });
    areas.into_iter().flat_map(of).chain(kinds).collect()
}
