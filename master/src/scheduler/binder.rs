//! The pool that writes decisions: each worker binds one pod at a time, so that a slow API does not hold the
//! next decisions up. Devices that must be made ready first are waited for elsewhere: a worker would be kept too long.

use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use actors::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, WrapFuture, message};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use protocol::{ApiError, Client};
use serde_json::json;
use tokio::time::timeout;

use super::devices::demand::Reservation;
use super::volumes::{Step, claims, is_bound, was_given_back};
use crate::cache::{Cache, WatchFrom};
use crate::controllers::machinery::meta::{name, namespace};
use crate::controllers::volumes::{BOUND_BY_CONTROLLER, SELECTED_NODE};
use protocol::events::reference;

pub mod devices;

use devices::{Consumer, ReserveError, reserve};

/// Bind a pod to a node.
pub struct Bind {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a successor of the same name must not be bound.
    pub uid: Arc<str>,
    /// The node.
    pub node: Arc<str>,
    /// The pod, for its volumes.
    pub pod: Arc<Pod>,
    /// Claims of devices to reserve first.
    pub claims: Vec<Reservation>,
    /// Whether those have devices that must be made ready before the pod is bound: it is not, yet.
    pub prepare: bool,
    /// Until when the devices are held for them.
    pub until: Instant,
}
message!(Bind => Result<(), BindError>, |m| Some(format!("pods/{}/{}", m.namespace, m.name).into()));

/// Why a pod was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no getting at its volumes.
    #[error("running PreBind plugin \"VolumeBinding\": {0}")]
    Volumes(ApiError),
    /// Nor at its devices.
    #[error("running PreBind plugin \"DynamicResources\": {0}")]
    Devices(#[from] ReserveError),
    /// Whoever decided is about to give up, and the devices to others.
    #[error("running PreBind plugin \"DynamicResources\": context deadline exceeded")]
    Late,
    /// The binding was refused.
    #[error("binding rejected: {0}")]
    Refused(#[from] ApiError),
}

/// How long claims may take to be bound.
const VOLUMES_MAX: Duration = Duration::from_secs(90);

/// A worker of the pool.
pub struct Binder {
    /// Writes under the scheduler's identity.
    pub client: Client,
    /// Where claims are seen to be bound.
    pub cache: Cache,
}

impl Actor for Binder {
    type Context = Context<Self>;
}

impl Handler<Bind> for Binder {
    type Result = AtomicResponse<Self, Result<(), BindError>>;

    fn handle(&mut self, m: Bind, _: &mut Context<Self>) -> Self::Result {
        let (client, cache) = (self.client.clone(), self.cache.clone());
        let bind = async move {
            match timeout(VOLUMES_MAX, volumes(&client, &cache, &m)).await {
                Ok(done) => done.map_err(BindError::Volumes)?,
                Err(_) => {
                    let why = ApiError::new(504, "Timeout", "binding volumes: context deadline exceeded");
                    return Err(BindError::Volumes(why));
                }
            }
            let consumer =
                Consumer { namespace: m.namespace.clone(), name: m.name.clone(), uid: m.uid.to_string() };
            let left = m.until.saturating_duration_since(Instant::now());
            match timeout(left, reserve(&client, &cache, &m.claims, &consumer)).await {
                Ok(done) => done?,
                Err(_) => return Err(BindError::Late),
            }
            if m.prepare {
                return Ok(());
            }
            let body = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"namespace": m.namespace, "name": m.name, "uid": &*m.uid},
                "target": {"kind": "Node", "name": &*m.node},
            });
            client.create_subresource::<Pod>(&m.namespace, &m.name, "binding", &body).await?;
            Ok(())
        };
        AtomicResponse::new(Box::pin(bind.into_actor(self).map(|result, _, _| result)))
    }
}

/// Reserves volumes for claims that waited for the pod's node, or has them made, and waits until all are bound.
async fn volumes(client: &Client, cache: &Cache, m: &Bind) -> Result<(), ApiError> {
    let refuse = |why: &str| ApiError::new(409, "Conflict", why);
    let snapshot = cache.snapshot();
    let claims = claims(&snapshot, &m.pod).map_err(|why| refuse(&why))?;
    let Some(claims) = claims else { return Ok(()) };
    let node = cache.get::<Node>("", &m.node).ok_or_else(|| refuse("the node is gone"))?;
    let steps = claims.on(&node).map_err(refuse)?;
    let mut waited = Vec::new();
    for step in steps {
        let claim = match step {
            Step::Reserve(volume, claim) => {
                let mut copy = (*volume).clone();
                let spec = copy.spec.get_or_insert_default();
                if spec.claim_ref.is_none() {
                    let annotations = copy.metadata.annotations.get_or_insert_default();
                    annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
                }
                spec.claim_ref = Some(reference(&*claim));
                client.update(&copy).await?;
                (claim, false)
            }
            Step::Provision(claim) => {
                let mut copy = (*claim).clone();
                let annotations = copy.metadata.annotations.get_or_insert_default();
                annotations.insert(SELECTED_NODE.to_owned(), m.node.to_string());
                let written = client.update(&copy).await?;
                (Arc::new(written), true)
            }
        };
        waited.push(claim);
    }
    for (claim, provisioned) in waited {
        bound(cache, &claim, provisioned).await?;
    }
    Ok(())
}

/// Waits until a claim is bound.
async fn bound(cache: &Cache, claim: &PersistentVolumeClaim, provisioned: bool) -> Result<(), ApiError> {
    let (ns, n) = (namespace(&claim.metadata), name(&claim.metadata));
    let lost = |why: &str| ApiError::new(409, "Conflict", format!("binding volumes: pvc {ns}/{n} {why}"));
    let written: u64 = claim.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
    cache.wait_for(written).await;
    let mut cursor = cache
        .watch("", "persistentvolumeclaims", ns, WatchFrom::InitialState)
        .map_err(|_| lost("cannot be followed"))?;
    loop {
        let Some(now) = cache.get::<PersistentVolumeClaim>(ns, n) else { return Err(lost("is gone")) };
        if is_bound(&now) {
            return Ok(());
        }
        if provisioned && was_given_back(&now) {
            return Err(lost("cannot be provisioned for the node"));
        }
        cursor.next().await.map_err(|_| lost("cannot be followed"))?;
    }
}
