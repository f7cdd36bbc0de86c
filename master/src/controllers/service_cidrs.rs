//! ServiceCIDRs: they tell that they are ready, and stay while Services have addresses from them alone.

use ipnet::IpNet;
use k8s_openapi::Resource;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::machinery::meta::{is_deleting, name, time};
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::cache::{Cache, Change, ChangeKind};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The controller.
pub struct ServiceCidrController;

impl Reconciler for ServiceCidrController {
    const NAME: &'static str = "servicecidrs";
    const ACCOUNT: &'static str = "service-cidrs-controller";
    const RESOURCE: &'static str = "servicecidrs";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<ServiceCIDR>(),
            // Another range may take over what one that is going has.
            mapped::<ServiceCIDR>(|_, cache| going(cache)),
            mapped::<IPAddress>(freed),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(range) = cx.cache.get::<ServiceCIDR>("", &key.name) else { return Ok(Outcome::DONE) };
        let finalizers = range.metadata.finalizers.clone().unwrap_or_default();
        let held = finalizers.iter().any(|f| f == FINALIZER);
        if !is_deleting(&range.metadata) {
            if !held {
                let mut copy = (*range).clone();
                copy.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
                cx.client.update(&copy).await?;
                // The rest once that is seen.
                return Ok(Outcome::DONE);
            }
            return tell(cx, &range, "True", "", "Kubernetes Service CIDR is ready").await;
        }
        if !held {
            return Ok(Outcome::DONE);
        }
        if is_needed(cx, &range) {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            return tell(cx, &range, "False", "Terminating", why).await;
        }
        let mut copy = (*range).clone();
        copy.metadata.finalizers.iter_mut().for_each(|f| f.retain(|f| f != FINALIZER));
        match cx.client.update(&copy).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

fn networks(range: &ServiceCIDR) -> Vec<IpNet> {
    let texts = range.spec.as_ref().and_then(|s| s.cidrs.as_ref()).into_iter().flatten();
    texts.filter_map(|t| t.parse().ok()).collect()
}

/// The ranges that are on their way out.
fn going(cache: &Cache) -> Vec<Key> {
    let ranges = cache.list::<ServiceCIDR>("");
    ranges.iter().filter(|r| is_deleting(&r.metadata)).map(|r| Key::of(&r.metadata)).collect()
}

fn freed(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.kind == ChangeKind::Deleted { going(cache) } else { Vec::new() }
}

/// Whether addresses are taken from a range that no other range has too.
fn is_needed(cx: &Cx, range: &ServiceCIDR) -> bool {
    let others: Vec<IpNet> = cx
        .cache
        .list::<ServiceCIDR>("")
        .iter()
        .filter(|r| r.metadata.uid != range.metadata.uid && !is_deleting(&r.metadata))
        .flat_map(|r| networks(r))
        .collect();
    let alone: Vec<IpNet> =
        networks(range).into_iter().filter(|n| !others.iter().any(|o| o.contains(n))).collect();
    if alone.is_empty() {
        return false;
    }
    let snapshot = cx.cache.snapshot();
    snapshot
        .list("networking.k8s.io", "ipaddresses", "")
        .filter_map(|s| s.meta.name.parse::<std::net::IpAddr>().ok())
        .any(|ip| alone.iter().any(|n| n.contains(&ip)) && !others.iter().any(|o| o.contains(&ip)))
}

async fn tell(
    cx: &Cx,
    range: &ServiceCIDR,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<Outcome, ReconcileError> {
    let current = range.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let said = |c: &Condition| c.status == status && c.reason == reason && c.message == message;
    if current.clone().find(|c| c.type_ == "Ready").is_some_and(said) {
        return Ok(Outcome::DONE);
    }
    // This condition alone is the controller's; others may tell more.
    let wanted = json!({
        "apiVersion": ServiceCIDR::API_VERSION, "kind": ServiceCIDR::KIND, "metadata": {"name": range.metadata.name},
        "status": {"conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": time(cx.now),
        }]},
    });
    let range_name = name(&range.metadata);
    match cx
        .client
        .apply::<ServiceCIDR>("", range_name, Some("status"), "service-cidr-controller", &wanted)
        .await
    {
        Ok(_) => Ok(Outcome::DONE),
        Err(e) if e.is_not_found() => Ok(Outcome::DONE),
        Err(e) => {
            tracing::debug!(range = name(&range.metadata), %e, "a range's condition is not written yet");
            Err(e.into())
        }
    }
}
