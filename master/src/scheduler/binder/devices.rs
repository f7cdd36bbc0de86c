//! Writes of claims: their devices, and for whom these are.

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use protocol::{ApiError, Client, PatchKind};
use serde_json::json;

use crate::cache::Cache;
use crate::controllers::machinery::meta::{self, is_deleting, name, namespace};
use crate::scheduler::devices::PROTECTION;
use crate::scheduler::devices::claims::is_reserved_for;
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
        let mut claim = (*reservation.claim).clone();
        let mut tries = 1;
        let written = loop {
            match write(client, claim, reservation, pod).await {
                Err(e) if e.is_conflict() && tries < TRIES => {}
                other => break other?,
            }
            tries += 1;
            let (ns, n) = (namespace(&reservation.claim.metadata), name(&reservation.claim.metadata));
            let found = client.get::<ResourceClaim>(ns, n).await;
            claim = found.map_err(|e| ReserveError::Reserve(shown(&reservation.claim), e))?;
        };
        let revision = written.metadata.resource_version.as_deref().and_then(|v| v.parse().ok());
        cache.wait_for(revision.unwrap_or(0)).await;
    }
    Ok(())
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
    if is_deleting(&claim.metadata) || claim.metadata.uid != reservation.claim.metadata.uid {
        return Err(ReserveError::Deleted(shown));
    }
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

/// Takes a pod off the claims that were reserved for it. They keep their devices, for its next attempt.
pub async fn unreserve(client: &Client, cache: &Cache, claims: &[Reservation], pod: &str) {
    for Reservation { claim, .. } in claims {
        let (ns, n) = (namespace(&claim.metadata), name(&claim.metadata));
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
