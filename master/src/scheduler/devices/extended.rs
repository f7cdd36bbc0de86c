//! Extended resources that classes of devices stand behind: which of a pod's a node has devices for, and the claim that
//! would get them there. Nodes whose kubelets offer the resource themselves need none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ContainerExtendedResourceRequest, Pod};
use k8s_openapi::api::resource::v1::{DeviceClaim, ResourceClaim, ResourceClaimSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::claims::of_extended;
use super::mappings::{Mappings, mappings};
use super::request::Wanted;
use super::selectors::Compiler;
use super::{Cluster, Trouble};
use crate::api::kinds::devices::extended::{Backed, CLAIM};
use crate::cache::Snapshot;
use crate::controllers::machinery::meta::{name, namespace, uid};
use crate::scheduler::pod::PodFacts;
use crate::scheduler::resources::Amounts;

/// What a claim is called that is still to be made: not like any that there is.
pub const UNMADE: &str = "<extended-resources>";

/// A pod's extended resources, some of which have a class of devices behind them.
pub struct Extended {
    pod: Arc<Pod>,
    /// What the pod requests of them.
    requests: BTreeMap<String, i64>,
    backed: Arc<Backed>,
    snapshot: Snapshot,
    /// A claim that an attempt before this one left behind.
    stale: Option<Arc<ResourceClaim>>,
    /// What to claim, by the resources that are to be had by it.
    variants: RefCell<BTreeMap<Vec<String>, Rc<Variant>>>,
}

/// What is claimed on nodes that offer the same resources.
pub struct Variant {
    /// All that the pod wants to have allocated, this claim last.
    pub wanted: Vec<Wanted>,
    /// The claim.
    pub claim: Arc<ResourceClaim>,
    /// For which container each of its requests is.
    pub mappings: Arc<Vec<ContainerExtendedResourceRequest>>,
}

impl Extended {
    /// What a pod requests; `None` where no class stands behind any of it.
    pub fn of(cluster: &Cluster<'_>, pod: &PodFacts) -> Option<Self> {
        let requests = pod.requests.others.iter().filter(|(_, amount)| **amount != 0);
        let requests: BTreeMap<_, _> = requests.map(|(name, amount)| (name.clone(), *amount)).collect();
        if !requests.keys().any(|name| cluster.backed.class_of(name).is_some()) {
            return None;
        }
        Some(Extended {
            stale: of_extended(cluster.snapshot, &pod.namespace, &pod.uid).next(),
            pod: pod.pod.clone(),
            requests,
            backed: cluster.backed.clone(),
            snapshot: cluster.snapshot.clone(),
            variants: RefCell::default(),
        })
    }

    /// A claim that an attempt before this one left behind.
    pub fn stale(&self) -> Option<&Arc<ResourceClaim>> {
        self.stale.as_ref()
    }

    /// What is claimed on a node that has so much of everything, beside what the pod names; `None` for nothing.
    pub fn on(
        &self,
        has: &Amounts,
        named: &[Wanted],
        compiler: &mut Compiler,
    ) -> Result<Option<Rc<Variant>>, Trouble> {
        if self.stale.is_some() {
            // Whether what it has is still good is not worth finding out: it is given back.
            return Err(Trouble::Node("cannot schedule extended resource claim".to_owned()));
        }
        let offered = |name: &String| has.others.get(name).is_some_and(|amount| *amount > 0);
        let claimed = |name: &&String| self.backed.class_of(name).is_some() && !offered(name);
        let claimed: Vec<String> = self.requests.keys().filter(claimed).cloned().collect();
        if let Some(variant) = self.variants.borrow().get(&claimed) {
            return Ok(Some(variant.clone()));
        }
        let Mappings { requests, mappings } = mappings(&self.pod, &claimed, &self.backed);
        if requests.is_empty() {
            return Ok(None);
        }
        let meta = &self.pod.metadata;
        let claim = Arc::new(ResourceClaim {
            metadata: ObjectMeta {
                name: Some(UNMADE.to_owned()),
                generate_name: Some(format!("{}-extended-resources-", name(meta))),
                namespace: Some(namespace(meta).to_owned()),
                // Until it has one of its own.
                uid: Some(uid(meta).to_owned()),
                owner_references: Some(vec![OwnerReference {
                    api_version: Pod::API_VERSION.to_owned(),
                    kind: Pod::KIND.to_owned(),
                    name: name(meta).to_owned(),
                    uid: uid(meta).to_owned(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]),
                annotations: Some(BTreeMap::from([(CLAIM.to_owned(), "true".to_owned())])),
                ..ObjectMeta::default()
            },
            spec: ResourceClaimSpec {
                devices: Some(DeviceClaim { requests: Some(requests), ..DeviceClaim::default() }),
            },
            status: None,
        });
        let mut wanted = named.to_vec();
        wanted.push(Wanted::of(&self.snapshot, &claim, compiler).map_err(Trouble::Broken)?);
        let variant = Rc::new(Variant { wanted, claim, mappings: Arc::new(mappings) });
        self.variants.borrow_mut().insert(claimed, variant.clone());
        Ok(Some(variant))
    }
}
