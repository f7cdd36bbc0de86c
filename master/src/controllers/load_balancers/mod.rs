//! Services of type LoadBalancer: each gets an address of each of its families from the [`Pool`], and a node that announces
//! them.
//!
//! What a cloud's service controller does, for clusters whose nodes share a segment with their clients. The addresses
//! go to `status.loadBalancer`, the node's name to an annotation of the Service: one authority, so that two nodes
//! never both answer because they see the cluster differently. The nodes do the rest (`node::announce`).
//!
//! Services that name the same address in `spec.loadBalancerIP` share it ([`ledger`]), and its node with it.
//!
//! Services of other classes (`spec.loadBalancerClass`) are left to whoever serves those.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use protocol::balancing::{ANNOUNCED_BY, LOAD_BALANCER_CLASS};
use protocol::labels::SERVICE_NAME;

use super::endpoints::pods::protocol;
use super::endpoints::slices::address_types;
use super::endpoints::slices_of;
use super::machinery::meta::{annotation, is_deleting, name, namespace};
use super::machinery::watches::{key_of, mapped};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use super::node::health::takes_outside_traffic;
use crate::cache::{Cache, Change, ChangeKind, Stored};

mod announcers;
mod ledger;
mod pool;

pub use pool::{Pool, PoolError};

use announcers::{choose, nodes_with_endpoints};
use ledger::{Claim, Grant, Ledger, Refusal};

/// A Service that got no address is looked at again when one is given back, and after this time, in case that went
/// unheard.
const AGAIN: Duration = Duration::from_secs(300);
/// A Service that was refused for the sake of one that is just changing is looked at again after this time.
const SOON: Duration = Duration::from_secs(1);

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
            for service in balanced(&cx.cache) {
                let has: Vec<IpAddr> =
                    given(&service).into_iter().filter(|a| self.pool.contains(*a)).collect();
                if !has.is_empty() {
                    ledger.note(&Key::of(&service.metadata), claim(&service), &has);
                }
            }
            ledger
        });
        then(ledger)
    }

    /// Whether the Service that is in the way is no longer what the ledger says, because its turn has not come yet.
    fn is_stale(&self, cx: &Cx, refusal: &Refusal) -> bool {
        refusal.by().is_some_and(|by| {
            let service = cx.cache.get::<Service>(&by.namespace, &by.name).filter(|s| is_ours(s));
            let now = service.map(|service| claim(&service));
            self.with_ledger(cx, |ledger| ledger.claim(by) != now.as_ref())
        })
    }

    /// The node that is to announce a Service's addresses: the same for all that share its address.
    fn announcer(&self, cx: &Cx, service: &Service, addresses: &[IpAddr]) -> Option<String> {
        let named = claim(service).named().filter(|named| addresses.contains(named));
        let address = named.or(addresses.first().copied())?;
        let own = Key::of(&service.metadata);
        let sharing: Vec<Key> = self.with_ledger(cx, |ledger| ledger.holders(address).cloned().collect());
        let others = sharing.iter().filter(|key| **key != own);
        let others = others.filter_map(|key| cx.cache.get::<Service>(&key.namespace, &key.name));
        let mut sharing: Vec<Arc<Service>> = others.collect();
        sharing.push(Arc::new(service.clone()));
        sharing.sort_by_cached_key(|service| Key::of(&service.metadata));

        let nodes = cx.cache.list::<Node>("");
        let mut candidates: BTreeSet<String> =
            nodes.iter().filter(|n| takes_outside_traffic(n)).map(|n| name(&n.metadata).to_owned()).collect();
        let local: Vec<&Arc<Service>> = sharing.iter().filter(|service| is_local(service)).collect();
        if !local.is_empty() {
            // They have the same pods: where one of them has endpoints, the others have or soon will.
            let slices = local.iter().flat_map(|service| {
                slices_of(&cx.cache, namespace(&service.metadata), name(&service.metadata))
            });
            let slices: Vec<Arc<EndpointSlice>> = slices.collect();
            let here = nodes_with_endpoints(slices.iter().map(|s| &**s));
            candidates.retain(|node| here.contains(node));
        }
        // Who has just come here may still say who announced what it had before.
        let present = sharing.iter().filter(|service| given(service).contains(&address));
        let mut present = present.filter_map(|service| annotation(&service.metadata, ANNOUNCED_BY));
        let present = present.find(|node| candidates.contains(*node));
        choose(address, present, &candidates).map(str::to_owned)
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

/// What a Service wants.
fn claim(service: &Service) -> Claim {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_ref()).into_iter().flatten();
    Claim {
        asked: spec.and_then(|s| s.load_balancer_ip.clone()).filter(|asked| !asked.is_empty()),
        ipv6: address_types(service).into_iter().map(|family| family == "IPv6").collect(),
        ports: ports.map(|port| (protocol(port).to_owned(), port.port)).collect(),
        local: is_local(service),
        selector: spec.and_then(|s| s.selector.clone()).filter(|selector| !selector.is_empty()),
    }
}

/// The addresses that a Service's status tells.
fn given(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|i| i.ip.as_deref()?.parse().ok()).collect()
}

/// The Services whose addresses are ours to give.
fn balanced(cache: &Cache) -> Vec<Arc<Service>> {
    let snapshot = cache.snapshot();
    let services = snapshot.list("", "services", "");
    services.filter_map(ours).collect()
}

/// A stored Service, if its address is ours to give. Most are of other types, and are not parsed for it.
fn ours(stored: &Arc<Stored>) -> Option<Arc<Service>> {
    let balanced = stored.field("spec.type") == "LoadBalancer";
    let service = balanced.then(|| stored.typed::<Service>().ok()).flatten();
    service.filter(|service| is_ours(service))
}

fn keys(services: impl IntoIterator<Item = Arc<Service>>) -> impl Iterator<Item = Key> {
    services.into_iter().map(|service| Key::of(&service.metadata))
}

/// A change of a Service concerns itself. Where it changes what others may have, it also concerns those that wait for an
/// address, and those that share its own.
fn changed(change: &Change, cache: &Cache) -> Vec<Key> {
    let own = key_of(&change.stored);
    let had = change.previous.as_ref().and_then(ours);
    let has = Some(&change.stored).filter(|_| change.kind != ChangeKind::Deleted).and_then(ours);
    let about = |service: &Option<Arc<Service>>| {
        let service = service.as_ref()?;
        let announcer = annotation(&service.metadata, ANNOUNCED_BY).map(str::to_owned);
        Some((given(service), claim(service), announcer))
    };
    let (before, after) = (about(&had), about(&has));
    let mut concerned = vec![own.clone()];
    // One that comes has nothing yet that anybody else may want.
    if before.is_some() && before != after {
        let named: Vec<IpAddr> =
            [&before, &after].into_iter().flatten().filter_map(|(_, c, _)| c.named()).collect();
        let touched = |service: &Arc<Service>| {
            let claim = claim(service);
            let waits = given(service).len() < claim.ipv6.len();
            waits || claim.named().is_some_and(|address| named.contains(&address))
        };
        let others = keys(balanced(cache).into_iter().filter(touched));
        concerned.extend(others.filter(|key| *key != own));
    }
    concerned
}

/// A node that may announce now and could not before, or the other way round, concerns every balanced Service.
fn turned(change: &Change, cache: &Cache) -> Vec<Key> {
    let may = |stored: &Arc<Stored>| stored.typed::<Node>().is_ok_and(|n| takes_outside_traffic(&n));
    let before = change.previous.as_ref().is_some_and(may);
    let after = change.kind != ChangeKind::Deleted && may(&change.stored);
    if before == after { Vec::new() } else { keys(balanced(cache)).collect() }
}

/// Where endpoints are concerns the Services whose traffic must find one on the node that it comes to, and those that
/// share an address with them.
fn moved(change: &Change, cache: &Cache) -> Vec<Key> {
    let meta = &change.stored.meta;
    let Some(service) = meta.labels.get(SERVICE_NAME) else { return Vec::new() };
    let stored = cache.snapshot().get("", "services", &meta.namespace, service).and_then(ours);
    let Some(service) = stored.filter(|service| is_local(service)) else { return Vec::new() };
    match claim(&service).named() {
        None => vec![Key::of(&service.metadata)],
        named => keys(balanced(cache).into_iter().filter(|s| claim(s).named() == named)).collect(),
    }
}

/// A Service's status and annotation as they should be; `None` when they are.
fn written(service: &Service, addresses: &[IpAddr], node: Option<String>) -> Option<Service> {
    let mut next = service.clone();
    let balancer = next.status.get_or_insert_default().load_balancer.get_or_insert_default();
    if addresses.is_empty() {
        balancer.ingress = None;
    } else if given(service) != addresses {
        let entry = |address: &IpAddr| LoadBalancerIngress {
            ip: Some(address.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        };
        balancer.ingress = Some(addresses.iter().map(entry).collect());
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
            if was_ours && let Some(next) = written(&service, &[], None) {
                cx.client.update_status(&next).await?;
            }
            return Ok(Outcome::DONE);
        }
        let granted = self.with_ledger(cx, |ledger| ledger.give(&self.pool, key, claim(&service)));
        let Grant { addresses, lacks } = match granted {
            Ok(grant) => grant,
            Err(refusal) if self.is_stale(cx, &refusal) => return Ok(Outcome::again(SOON)),
            Err(refusal) => return refuse(cx, &service, &refusal).await,
        };
        let node = self.announcer(cx, &service, &addresses);
        if let Some(next) = written(&service, &addresses, node) {
            cx.client.update_status(&next).await?;
            if given(&service) != addresses {
                let which = if addresses.len() == 1 { "address" } else { "addresses" };
                let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                let text = format!("Assigned the {which} {}", texts.join(", "));
                cx.events.normal(&*service, "EnsuredLoadBalancer", text);
            }
        }
        match lacks {
            None => Ok(Outcome::DONE),
            Some(lacks) => Ok(tell(cx, &service, &lacks)),
        }
    }
}

/// Tells why a Service lacks an address.
fn tell(cx: &Cx, service: &Service, refusal: &Refusal) -> Outcome {
    let text = format!("Error syncing load balancer: {refusal}");
    cx.events.warning(service, "SyncLoadBalancerFailed", text);
    Outcome::again(AGAIN)
}

/// Tells why a Service has no address. One that it had and may no longer have is taken from it.
async fn refuse(cx: &Cx, service: &Service, refusal: &Refusal) -> Result<Outcome, ReconcileError> {
    let outcome = tell(cx, service, refusal);
    if let Some(next) = written(service, &[], None) {
        cx.client.update_status(&next).await?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests;
