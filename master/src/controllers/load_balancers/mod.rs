//! Services of type LoadBalancer: each gets an address from the [`Pool`], and a node that announces it.
//!
//! What a cloud's service controller does, for clusters whose nodes share a segment with their clients. The address
//! goes to `status.loadBalancer`, the node's name to an annotation of the Service: one authority, so that two nodes
//! never both answer because they see the cluster differently. The nodes do the rest (`node::announce`).
//!
//! Services of other classes (`spec.loadBalancerClass`) are left to whoever serves those.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use protocol::balancing::{ANNOUNCED_BY, LOAD_BALANCER_CLASS};
use protocol::labels::SERVICE_NAME;

use super::endpoints::slices_of;
use super::machinery::meta::{annotation, is_deleting, name, namespace};
use super::machinery::watches::{key_of, mapped};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use super::node::health::takes_outside_traffic;
use crate::cache::{Cache, Change, ChangeKind, Stored};

mod announcers;
mod pool;

pub use pool::{Pool, PoolError};

use announcers::{choose, nodes_with_endpoints};
use pool::{Ledger, Refusal};

/// A Service that got no address is looked at again when one is given back, and after this time, in case that went
/// unheard.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(300);

/// The controller.
pub struct LoadBalancerController {
    pool: Pool,
    /// Read from the Services when it is first needed.
    ledger: Mutex<Option<Ledger>>,
}

impl LoadBalancerController {
    /// Gives addresses out of `pool`.
    pub fn new(pool: Pool) -> Self {
        LoadBalancerController { pool, ledger: Mutex::default() }
    }

    fn with_ledger<T>(&self, cx: &Cx, then: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.ledger.lock();
        let ledger = ledger.get_or_insert_with(|| {
            let mut ledger = Ledger::default();
            for service in balanced(&cx.cache)
                .iter()
                .filter_map(|key| cx.cache.get::<Service>(&key.namespace, &key.name))
            {
                if is_ours(&service)
                    && let Some(address) = given(&service).filter(|a| self.pool.contains(*a))
                {
                    ledger.note(&Key::of(&service.metadata), address);
                }
            }
            ledger
        });
        then(ledger)
    }

    /// The node that is to announce a Service's address.
    fn announcer(&self, cx: &Cx, service: &Service, address: Ipv4Addr) -> Option<String> {
        let nodes = cx.cache.list::<Node>("");
        let mut candidates: BTreeSet<String> =
            nodes.iter().filter(|n| takes_outside_traffic(n)).map(|n| name(&n.metadata).to_owned()).collect();
        if is_local(service) {
            let meta = &service.metadata;
            let slices = slices_of(&cx.cache, namespace(meta), name(meta));
            let here = nodes_with_endpoints(slices.iter().map(|s| &**s));
            candidates.retain(|node| here.contains(node));
        }
        choose(address, annotation(&service.metadata, ANNOUNCED_BY), &candidates).map(str::to_owned)
    }
}

/// Whether a Service's address is ours to give.
fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == LOAD_BALANCER_CLASS)
        && !is_deleting(&service.metadata)
}

fn is_local(service: &Service) -> bool {
    let policy = |spec: &ServiceSpec| spec.external_traffic_policy.as_deref() == Some("Local");
    service.spec.as_ref().is_some_and(policy)
}

/// The address that a Service's status tells.
fn given(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.iter().find_map(|i| i.ip.as_deref()?.parse().ok())
}

/// The Services of type LoadBalancer.
fn balanced(cache: &Cache) -> Vec<Key> {
    let snapshot = cache.snapshot();
    let services = snapshot.list("", "services", "");
    services.filter(|s| s.field("spec.type") == "LoadBalancer").map(|s| key_of(s)).collect()
}

/// A change of a Service concerns itself, and, where it gives an address back, then those that wait for one.
fn changed(change: &Change, cache: &Cache) -> Vec<Key> {
    let own = key_of(&change.stored);
    let mut keys = vec![own.clone()];
    let had = change.previous.as_ref().and_then(has);
    let has_now = Some(&change.stored).filter(|_| change.kind != ChangeKind::Deleted).and_then(has);
    if had.is_some() && had != has_now {
        let services = balanced(cache).into_iter().filter(|key| *key != own);
        let waits = |key: &Key| {
            let service = cache.get::<Service>(&key.namespace, &key.name);
            service.is_some_and(|service| is_ours(&service) && given(&service).is_none())
        };
        let waiting: Vec<Key> = services.filter(waits).collect();
        keys.extend(waiting);
    }
    keys
}

/// The address that a stored Service has of us. Most are of other types, and are not parsed for it.
fn has(stored: &std::sync::Arc<Stored>) -> Option<Ipv4Addr> {
    if stored.field("spec.type") != "LoadBalancer" {
        return None;
    }
    stored.typed::<Service>().ok().filter(|service| is_ours(service)).and_then(|service| given(&service))
}

/// A node that may announce now and could not before, or the other way round, concerns every balanced Service.
fn turned(change: &Change, cache: &Cache) -> Vec<Key> {
    let may =
        |stored: &std::sync::Arc<Stored>| stored.typed::<Node>().is_ok_and(|n| takes_outside_traffic(&n));
    let before = change.previous.as_ref().is_some_and(may);
    let after = change.kind != ChangeKind::Deleted && may(&change.stored);
    if before == after { Vec::new() } else { balanced(cache) }
}

/// Where endpoints are concerns the Services whose traffic must find one on the node that it comes to.
fn moved(change: &Change, cache: &Cache) -> Vec<Key> {
    let meta = &change.stored.meta;
    let Some(service) = meta.labels.get(SERVICE_NAME) else { return Vec::new() };
    let snapshot = cache.snapshot();
    let of = snapshot.get("", "services", &meta.namespace, service);
    // Most Services are of other types, and are not parsed for it.
    let concerned = of.filter(|s| s.field("spec.type") == "LoadBalancer").is_some_and(|stored| {
        stored.typed::<Service>().is_ok_and(|service| is_ours(&service) && is_local(&service))
    });
    if concerned { vec![Key::new(&meta.namespace, service)] } else { Vec::new() }
}

/// A Service's status and annotation as they should be; `None` when they are.
fn written(service: &Service, address: Option<Ipv4Addr>, node: Option<String>) -> Option<Service> {
    let mut next = service.clone();
    let balancer = next.status.get_or_insert_default().load_balancer.get_or_insert_default();
    if address.is_none() || address != given(service) {
        balancer.ingress = address.map(|address| {
            vec![LoadBalancerIngress {
                ip: Some(address.to_string()),
                ip_mode: Some("VIP".to_owned()),
                ..LoadBalancerIngress::default()
            }]
        });
    }
    let annotations = next.metadata.annotations.get_or_insert_default();
    match node {
        Some(node) => annotations.insert(ANNOUNCED_BY.to_owned(), node),
        None => annotations.remove(ANNOUNCED_BY),
    };
    let ingress = |s: &Service| s.status.as_ref()?.load_balancer.as_ref()?.ingress.clone();
    let said = |s: &Service| annotation(&s.metadata, ANNOUNCED_BY).map(str::to_owned);
    let same = ingress(service) == ingress(&next) && said(service) == said(&next);
    (!same).then_some(next)
}

impl Reconciler for LoadBalancerController {
    const NAME: &'static str = "load_balancers";
    const ACCOUNT: &'static str = "service-controller";
    const RESOURCE: &'static str = "services";
    /// One: two Services must not be given the same address.
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<Service>(changed), mapped::<Node>(turned), mapped::<EndpointSlice>(moved)]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(service) = cx.cache.get::<Service>(&key.namespace, &key.name) else {
            self.with_ledger(cx, |ledger| ledger.release(key));
            return Ok(Outcome::DONE);
        };
        if !is_ours(&service) {
            self.with_ledger(cx, |ledger| ledger.release(key));
            // What another class' controller writes is its own; only what was ours is taken back.
            let was_ours = annotation(&service.metadata, ANNOUNCED_BY).is_some();
            if was_ours && let Some(next) = written(&service, None, None) {
                cx.client.update_status(&next).await?;
            }
            return Ok(Outcome::DONE);
        }
        let asked = service.spec.as_ref().and_then(|s| s.load_balancer_ip.clone());
        let address = match self.with_ledger(cx, |ledger| ledger.give(&self.pool, key, asked.as_deref())) {
            Ok(address) => address,
            Err(refusal) => return refuse(cx, &service, &refusal).await,
        };
        let node = self.announcer(cx, &service, address);
        let Some(next) = written(&service, Some(address), node) else { return Ok(Outcome::DONE) };
        cx.client.update_status(&next).await?;
        if given(&service) != Some(address) {
            cx.events.normal(&*service, "EnsuredLoadBalancer", format!("Assigned the address {address}"));
        }
        Ok(Outcome::DONE)
    }
}

/// Tells why a Service has no address. One that it had and may no longer have is taken from it.
async fn refuse(cx: &Cx, service: &Service, refusal: &Refusal) -> Result<Outcome, ReconcileError> {
    let text = format!("Error syncing load balancer: {refusal}");
    cx.events.warning(service, "SyncLoadBalancerFailed", text);
    if let Some(next) = written(service, None, None) {
        cx.client.update_status(&next).await?;
    }
    Ok(Outcome::again(AGAIN))
}

#[cfg(test)]
mod tests;
