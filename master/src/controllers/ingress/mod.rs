//! What the cluster says about Ingresses that its nodes serve: the IngressClass, while there is such a node, and
//! in each Ingress of ours the addresses of those nodes.
//!
//! Written here and not by the nodes: with one writer nobody fights, and the address of a node that is gone is
//! withdrawn by somebody who is not. Nodes only say of themselves that they serve (`protocol::ingress::SERVED`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressClassSpec, IngressLoadBalancerIngress};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::ingress;

use super::machinery::meta::is_deleting;
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::cache::{Cache, Change, ChangeKind, Stored};

mod decide;

/// The account of both controllers.
const ACCOUNT: &str = "ingress-controller";

/// Makes the IngressClass.
pub struct IngressClassController;

impl Reconciler for IngressClassController {
    const NAME: &'static str = "ingress_class";
    const ACCOUNT: &'static str = ACCOUNT;
    const RESOURCE: &'static str = "ingressclasses";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        let class = || vec![Key::new("", ingress::CLASS)];
        vec![
            mapped::<Node>(move |change, _| if turned(change) { class() } else { Vec::new() }),
            mapped::<IngressClass>(move |change, _| {
                if &*change.stored.meta.name == ingress::CLASS { class() } else { Vec::new() }
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        // One that is there may be somebody else's, and is left as it is. Without nodes that serve none is
        // made, but one that users refer to is not taken away.
        if cx.cache.get::<IngressClass>("", &key.name).is_some() || serving(&cx.cache).is_empty() {
            return Ok(Outcome::DONE);
        }
        let class = IngressClass {
            metadata: ObjectMeta { name: Some(key.name.to_string()), ..ObjectMeta::default() },
            spec: Some(IngressClassSpec {
                controller: Some(ingress::CONTROLLER.to_owned()),
                ..IngressClassSpec::default()
            }),
        };
        match cx.client.create(&class).await {
            Err(e) if !e.is_already_exists() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

/// Fills in where Ingresses are reached.
pub struct IngressStatusController;

impl Reconciler for IngressStatusController {
    const NAME: &'static str = "ingress_status";
    const ACCOUNT: &'static str = ACCOUNT;
    const RESOURCE: &'static str = "ingresses";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Ingress>(),
            mapped::<IngressClass>(|_, cache| all(cache)),
            mapped::<Node>(|change, cache| if turned(change) { all(cache) } else { Vec::new() }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(ingress) = cx.cache.get::<Ingress>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let classes = cx.cache.list::<IngressClass>("");
        // What is not ours has another writer, which we would fight.
        if is_deleting(&ingress.metadata) || !ingress::is_ours(&ingress, classes.iter().map(|c| &**c)) {
            return Ok(Outcome::DONE);
        }
        let wanted = serving(&cx.cache);
        let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let shown = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
        if shown == wanted {
            return Ok(Outcome::DONE);
        }
        let mut next = (*ingress).clone();
        let balancer = next.status.get_or_insert_default().load_balancer.get_or_insert_default();
        balancer.ingress = (!wanted.is_empty()).then_some(wanted);
        match cx.client.update_status(&next).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

fn serving(cache: &Cache) -> Vec<IngressLoadBalancerIngress> {
    let nodes = cache.list::<Node>("");
    decide::addresses(nodes.iter().map(|n| &**n))
}

fn all(cache: &Cache) -> Vec<Key> {
    cache.list::<Ingress>("").iter().map(|i| Key::of(&i.metadata)).collect()
}

/// Whether a change of a node changes where Ingresses are reached; heartbeats do not.
fn turned(change: &Change) -> bool {
    let address = |stored: &Arc<Stored>| decide::address(&*stored.typed::<Node>().ok()?);
    let before = change.previous.as_ref().and_then(address);
    let now = if change.kind == ChangeKind::Deleted { None } else { address(&change.stored) };
    // A deletion may be told without what was before.
    before != now || change.kind == ChangeKind::Deleted
}
