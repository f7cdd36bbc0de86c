//! Writes of claims: their devices, and for whom these are. Claims for extended resources are made here, and unmade.

use k8s_openapi::api::core::v1::{ContainerExtendedResourceRequest, Pod};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use protocol::{ApiError, Client, PatchKind};
use serde_json::json;

use crate::cache::Cache;
use crate::controllers::machinery::meta::{self, is_deleting, name, namespace};
use crate::scheduler::devices::PROTECTION;
use crate::scheduler::devices::claims::{is_reserved_for, of_extended};
use crate::scheduler::devices::demand::Reservation;

/// Tries against others who write the same claim.
const TRIES: usize = 5;

/// Why devices could not be reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// It is going.
    #[error("claim {0} got deleted in the meantime")]
    Deleted(String),
    /// Another was faster.
    #[error("claim {0} got allocated elsewhere in the meantime")]
    Allocated(String),
    /// What it had is given up.
    #[error("claim {0} got deallocated elsewhere in the meantime")]
    Deallocated(String),
    /// It cannot be made.
    #[error("create claim for extended resources {0}: {1}")]
    Create(String, ApiError),
    /// The pod cannot be told of it.
    #[error("update pod {0} ExtendedResourceClaimStatus: {1}")]
    Tell(String, ApiError),
    /// It cannot be kept from going.
    #[error("add finalizer to claim {0}: {1}")]
    Protect(String, ApiError),
    /// It cannot be given devices.
    #[error("add allocation and reservation to claim {0}: {1}")]
    Allocate(String, ApiError),
    /// It cannot be reserved.
    #[error("add reservation to claim {0}: {1}")]
    Reserve(String, ApiError),
}

impl ReserveError {
    fn is_conflict(&self) -> bool {
        match self {
            ReserveError::Protect(_, e) | ReserveError::Allocate(_, e) | ReserveError::Reserve(_, e) => {
                e.is_conflict()
            }
            _ => false,
        }
    }
}

/// The pod that devices are for.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Reserves claims for a pod, with the devices that were chosen for them. What is written is in the cache when this ends.
pub(super) async fn reserve(
    client: &Client,
    cache: &Cache,
    reservations: &[Reservation],
    pod: &Consumer,
) -> Result<(), ReserveError> {
    for reservation in reservations {
        let mut claim = match &reservation.made_for {
            Some(_) => make(client, &reservation.claim).await?,
            None => (*reservation.claim).clone(),
        };
        // A claim that has been made is found again by its pod, should the next steps fail.
        cache.wait_for(meta::revision(&claim.metadata)).await;
        let (ns, n) = (namespace(&claim.metadata).to_owned(), name(&claim.metadata).to_owned());
        let (id, shown) = (claim.metadata.uid.clone(), shown(&claim));
        let mut tries = 1;
        let written = loop {
            if is_deleting(&claim.metadata) || claim.metadata.uid != id {
                return Err(ReserveError::Deleted(shown));
            }
            match write(client, claim, reservation, pod).await {
                Err(e) if e.is_conflict() && tries < TRIES => {}
                other => break other?,
            }
            tries += 1;
            let found = client.get::<ResourceClaim>(&ns, &n).await;
            claim = found.map_err(|e| ReserveError::Reserve(shown.clone(), e))?;
        };
        cache.wait_for(meta::revision(&written.metadata)).await;
        if let Some(mappings) = &reservation.made_for {
            tell(client, pod, &n, mappings).await?;
        }
    }
    Ok(())
}

/// Makes a claim for extended resources.
async fn make(client: &Client, claim: &ResourceClaim) -> Result<ResourceClaim, ReserveError> {
    let mut claim = claim.clone();
    (claim.metadata.name, claim.metadata.uid) = (None, None);
    claim.metadata.finalizers = Some(vec![PROTECTION.to_owned()]);
    client.create(&claim).await.map_err(|e| ReserveError::Create(shown(&claim), e))
}

/// Says in a pod's status which claim was made for its extended resources, and what in it is for which container.
async fn tell(
    client: &Client,
    pod: &Consumer,
    claim: &str,
    mappings: &[ContainerExtendedResourceRequest],
) -> Result<(), ReserveError> {
    let status = json!({"resourceClaimName": claim, "requestMappings": mappings});
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"extendedResourceClaimStatus": status}});
    let (ns, n) = (&pod.namespace, &pod.name);
    let written = client.patch::<Pod>(ns, n, Some("status"), PatchKind::Strategic, &patch).await;
    written.map(drop).map_err(|e| ReserveError::Tell(format!("{ns}/{n}"), e))
}

fn shown(claim: &ResourceClaim) -> String {
    format!("{}/{}", namespace(&claim.metadata), name(&claim.metadata))
}

async fn write(
    client: &Client,
    mut claim: ResourceClaim,
    reservation: &Reservation,
    pod: &Consumer,
) -> Result<ResourceClaim, ReserveError> {
    let shown = shown(&claim);
    let has = claim.status.as_ref().is_some_and(|s| s.allocation.is_some());
    if reservation.allocation.is_some() {
        if has {
            return Err(ReserveError::Allocated(shown));
        }
        let finalizers = claim.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == PROTECTION) {
            finalizers.push(PROTECTION.to_owned());
            claim = client.update(&claim).await.map_err(|e| ReserveError::Protect(shown.clone(), e))?;
        }
        let mut allocation = reservation.allocation.as_deref().cloned();
        if let Some(allocation) = &mut allocation {
            let now = meta::time(meta::now());
            allocation.allocation_timestamp.get_or_insert(Time(now.0));
        }
        claim.status.get_or_insert_default().allocation = allocation;
    } else if !has {
        return Err(ReserveError::Deallocated(shown));
    }
    if is_reserved_for(&claim, &pod.uid) && reservation.allocation.is_none() {
        return Ok(claim);
    }
    let reserved = claim.status.get_or_insert_default().reserved_for.get_or_insert_default();
    reserved.push(ResourceClaimConsumerReference {
        api_group: None,
        name: pod.name.clone(),
        resource: "pods".to_owned(),
        uid: pod.uid.clone(),
    });
    client.update_status(&claim).await.map_err(|e| match reservation.allocation {
        Some(_) => ReserveError::Allocate(shown, e),
        None => ReserveError::Reserve(shown, e),
    })
}

/// Takes a pod off the claims that were reserved for it. They keep their devices, for its next attempt; what was made for it
/// goes.
pub async fn unreserve(client: &Client, cache: &Cache, claims: &[Reservation], pod: &str) {
    for Reservation { claim, made_for, .. } in claims {
        let (ns, n) = (namespace(&claim.metadata), name(&claim.metadata));
        if made_for.is_some() {
            let made: Vec<_> = of_extended(&cache.snapshot(), ns, pod).collect();
            for claim in made {
                discard(client, &claim).await;
            }
            continue;
        }
        let Some(now) = cache.get::<ResourceClaim>(ns, n) else { continue };
        if now.metadata.uid != claim.metadata.uid || !is_reserved_for(&now, pod) {
            continue;
        }
        let patch = json!({
            "metadata": {"uid": claim.metadata.uid},
            "status": {"reservedFor": [{"$patch": "delete", "uid": pod}]},
        });
        let kind = PatchKind::Strategic;
        if let Err(error) = client.patch::<ResourceClaim>(ns, n, Some("status"), kind, &patch).await {
            tracing::debug!(%error, claim = n, "a claim stays reserved; the pod's next attempt goes on with that");
        }
    }
}

/// Deletes a claim that was made for a pod's extended resources, whatever it has.
pub async fn discard(client: &Client, claim: &ResourceClaim) {
    let (ns, n) = (namespace(&claim.metadata), name(&claim.metadata));
    let id = claim.metadata.uid.as_deref();
    let mut claim = claim.clone();
    let mut tries = 1;
    let gone = loop {
        // Nobody else frees it while its pod is there.
        claim.metadata.finalizers.iter_mut().for_each(|all| all.retain(|f| f != PROTECTION));
        match client.update(&claim).await {
            Err(e) if e.is_conflict() && tries < TRIES => {}
            Err(e) => break Err(e),
            Ok(_) => break client.delete::<ResourceClaim>(ns, n, id, None).await,
        }
        tries += 1;
        match client.get::<ResourceClaim>(ns, n).await {
            Ok(now) if now.metadata.uid.as_deref() == id => claim = now,
            Ok(_) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    match gone {
        Err(error) if !error.is_not_found() => {
            tracing::debug!(%error, claim = n, "a claim stays; the pod's next attempt sees to that");
        }
        _ => {}
    }
}
