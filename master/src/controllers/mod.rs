//! Controllers: each makes one kind of thing as it is declared.
//!
//! A controller is a [`machinery::Reconciler`]; adding one is its own file and one line in [`start`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use ipnet::Ipv4Net;
use protocol::{Api, Caller, DualRange};

use crate::aggregation::Aggregation;
use crate::auth::tokens::TokenKeys;
use crate::cache::Cache;
use crate::pki::Pki;
use protocol::events::{Recorder, Source};

pub mod api_services;
pub mod authentication_trust;
pub mod autoscaler;
pub mod bootstrap_tokens;
pub mod certificates;
pub mod cluster_role_aggregation;
pub mod cronjob;
pub mod custom_resources;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod flow_schemas;
pub mod garbage;
pub mod ingress;
pub mod job;
pub mod load_balancers;
pub mod machinery;
pub mod namespace;
pub mod node;
pub mod pod_garbage;
pub mod policy_types;
pub mod replicaset;
pub mod resource_claims;
pub mod resource_quota;
pub mod root_ca;
pub mod service_account;
pub mod service_cidrs;
pub mod statefulset;
pub mod token_secrets;
pub mod volumes;

use machinery::Reconciler;
use machinery::dispatch::Dispatch;
use machinery::driver::{self, Setup};
use machinery::metrics::QueueMetrics;

/// What controllers are told of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Certificates by which pods know the API server, as PEM.
    pub root_ca_pem: String,
    /// What tokens in Secrets are signed with; without, there are none.
    pub token_keys: Option<Arc<TokenKeys>>,
    /// The CA that signs what is approved; without one, nothing is signed.
    pub pki: Option<Arc<Pki>>,
    /// What other API servers are told of whom to believe; nothing where there is nothing to tell.
    pub authentication: BTreeMap<String, String>,
    /// The way to other API servers; without it, nobody looks whether they are there.
    pub aggregation: Option<Aggregation>,
    /// Pods get their addresses from here: each node a part of it. Without, nodes get none.
    pub cluster_cidr: Option<DualRange>,
    /// Services of type LoadBalancer get their addresses from here; without, somebody else gives them theirs.
    pub load_balancer_pool: Option<load_balancers::Pool>,
    /// A node that is silent for so long counts as gone.
    pub node_grace: Duration,
    /// Ended pods beyond this number are deleted, oldest first; 0 for no limit.
    pub ended_pods_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            root_ca_pem: String::new(),
            token_keys: None,
            pki: None,
            authentication: BTreeMap::new(),
            aggregation: None,
            cluster_cidr: Some(Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16).into()),
            load_balancer_pool: None,
            node_grace: Duration::from_secs(40),
            ended_pods_max: 12_500,
        }
    }
}

/// The identity of a controller: its service account in `kube-system`.
pub fn caller(account: &str) -> Caller {
    let user = format!("system:serviceaccount:kube-system:{account}");
    Caller::component(user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"])
}

struct Starter<'a, F> {
    stage: &'a Stage,
    cache: &'a Cache,
    api_for: F,
    dispatch: Dispatch,
    metrics: QueueMetrics,
}

impl<F: Fn(Caller) -> Arc<dyn Api>> Starter<'_, F> {
    fn start<R: Reconciler>(&self, reconciler: R) {
        let api = (self.api_for)(R::caller());
        let setup = Setup {
            reconciler: Arc::new(reconciler),
            cache: self.cache.clone(),
            dispatch: self.dispatch.clone(),
            events: Recorder::start(self.stage, Source::master(R::COMPONENT, machinery::AGENT), api.clone()),
            api,
            metrics: self.metrics.clone(),
        };
        driver::start(self.stage, setup);
    }
}

/// Starts every controller, each told of changes by a dispatcher. Once per stage.
pub fn start(
    stage: &Stage,
    cache: &Cache,
    dispatch: Dispatch,
    api_for: impl Fn(Caller) -> Arc<dyn Api>,
    config: &Config,
) {
    let s = Starter { stage, cache, api_for, dispatch, metrics: QueueMetrics::register(stage) };
    s.start(custom_resources::CustomResourceController);
    s.start(policy_types::PolicyTypeController);
    s.start(flow_schemas::FlowSchemaController);
    s.start(api_services::RegistrationController);
    if let Some(aggregation) = &config.aggregation {
        s.start(api_services::AvailabilityController { aggregation: aggregation.clone() });
    }
    s.start(namespace::NamespaceController { aggregation: config.aggregation.clone() });
    s.start(service_account::ServiceAccountController);
    s.start(authentication_trust::AuthenticationTrust { data: config.authentication.clone() });
    s.start(root_ca::RootCaController { pem: config.root_ca_pem.clone() });
    s.start(deployment::DeploymentController);
    s.start(replicaset::ReplicaSetController);
    s.start(replicaset::ReplicationControllerController);
    s.start(statefulset::StatefulSetController);
    s.start(daemonset::DaemonSetController::default());
    s.start(job::JobController::default());
    s.start(cronjob::CronJobController);
    s.start(job::ttl::TtlAfterFinishedController);
    s.start(autoscaler::AutoscalerController::default());
    s.start(endpoints::EndpointsController::default());
    s.start(endpoints::EndpointSliceController::default());
    s.start(endpoints::mirroring::EndpointSliceMirroringController);
    s.start(node::lifecycle::NodeLifecycleController::new(config.node_grace));
    s.start(node::eviction::TaintEvictionController::default());
    s.start(node::patience::NodePatienceController);
    if let Some(cidr) = config.cluster_cidr {
        s.start(node::ipam::NodeIpamController::new(cidr));
    }
    if let Some(pool) = &config.load_balancer_pool {
        s.start(load_balancers::LoadBalancerController::new(pool.clone()));
    }
    s.start(ingress::IngressClassController);
    s.start(ingress::IngressStatusController);
    s.start(garbage::GarbageCollector::default());
    s.start(pod_garbage::PodGarbageCollector::new(config.ended_pods_max));
    s.start(disruption::DisruptionController);
    s.start(resource_quota::ResourceQuotaController);
    s.start(service_cidrs::ServiceCidrController);
    s.start(volumes::claims::ClaimBinder);
    s.start(volumes::releases::VolumeBinder);
    s.start(volumes::protection::ClaimProtection);
    s.start(volumes::protection::VolumeProtection);
    s.start(volumes::protection::AttributesProtection);
    s.start(volumes::ephemeral::EphemeralVolumes);
    s.start(volumes::expansion::VolumeExpansion);
    s.start(resource_claims::ClaimMaker);
    s.start(resource_claims::ClaimKeeper);
    s.start(cluster_role_aggregation::ClusterRoleAggregation);
    s.start(bootstrap_tokens::cleaner::TokenCleaner);
    s.start(bootstrap_tokens::signer::BootstrapSigner);
    if let Some(keys) = &config.token_keys {
        let (keys, root_ca_pem) = (keys.clone(), config.root_ca_pem.clone());
        s.start(token_secrets::TokenSecrets { keys, root_ca_pem });
    }
    s.start(certificates::approving::Approver);
    s.start(certificates::cleaner::Cleaner);
    if let Some(pki) = &config.pki {
        s.start(certificates::signing::Signer { pki: pki.clone() });
    }
}

#[cfg(test)]
mod tests;
