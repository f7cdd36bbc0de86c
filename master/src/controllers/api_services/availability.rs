//! Whether the servers behind APIServices are there: the condition `Available`, which decides whether requests
//! are sent to them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceCondition};

use protocol::labels::SERVICE_NAME;

use super::decide::{Verdict, obstacle};
use super::reading;
use crate::aggregation::Aggregation;
use crate::aggregation::services::{Backend, Registered, SERVICES};
use crate::cache::{Cache, Change};
use crate::controllers::endpoints::slices_of;
use crate::controllers::machinery::watches::{mapped, own};
use crate::controllers::machinery::{API_SERVER, Cx, Key, Outcome, ReconcileError, Reconciler, Watch, meta};

/// Servers come and go without anything being written here: they are asked again after this long.
const AGAIN: Duration = Duration::from_secs(30);
/// The controller.
pub struct AvailabilityController {
    /// The way to the servers.
    pub aggregation: Aggregation,
}

/// The registrations that name a Service.
fn naming(cache: &Cache, namespace: &str, service: &str) -> Vec<Key> {
    let registered = cache.derived::<Registered>();
    let named = registered.backends().filter(|b| b.namespace == namespace && b.service == service);
    named.map(|backend| Key::new("", &backend.name)).collect()
}

fn by_slice(change: &Change, cache: &Cache) -> Vec<Key> {
    let meta = &change.stored.meta;
    meta.labels.get(SERVICE_NAME).map(|name| naming(cache, &meta.namespace, name)).unwrap_or_default()
}

impl Reconciler for AvailabilityController {
    const NAME: &'static str = "available_controller";
    const ACCOUNT: &'static str = "kube-apiserver";
    const PROGRAM: &'static str = API_SERVER;
    const RESOURCE: &'static str = "apiservices";

    /// It is a part of the API server, which may do everything.
    fn caller() -> protocol::Caller {
        protocol::Caller::component("system:apiserver", &["system:masters"])
    }

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<APIService>(),
            mapped::<Service>(|change, cache| {
                naming(cache, &change.stored.meta.namespace, &change.stored.meta.name)
            }),
            mapped::<EndpointSlice>(by_slice),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let snapshot = cx.cache.snapshot();
        let (group, plural) = SERVICES;
        let Some(stored) = snapshot.get(group, plural, "", &key.name) else {
            self.aggregation.known().forget(&key.name);
            return Ok(Outcome::DONE);
        };
        let registration = stored.value().map_err(|e| ReconcileError::Other(e.to_string()))?;
        let Some(backend) = Backend::of(&key.name, &registration) else {
            self.aggregation.known().forget(&key.name);
            say(cx, key, Verdict::local()).await?;
            return Ok(Outcome::DONE);
        };
        let verdict = self.look(cx, &backend).await;
        let failed = (verdict.status != "True").then(|| verdict.message.clone());
        let retries = verdict.reason == "FailedDiscoveryCheck";
        if failed.is_some() {
            self.aggregation.known().mark_stale(&key.name);
        } else {
            match reading::documents(&self.aggregation, &backend).await {
                Ok(documents) => self.aggregation.known().put(&key.name, documents),
                Err(why) => {
                    tracing::warn!(service = backend.name, why, "discovery of an API server was not read");
                    self.aggregation.known().mark_stale(&key.name);
                }
            }
        }
        say(cx, key, verdict).await?;
        match failed.filter(|_| retries) {
            // What failed may be mended any moment.
            Some(why) => Err(ReconcileError::Other(why)),
            None => Ok(Outcome::again(AGAIN)),
        }
    }
}

impl AvailabilityController {
    async fn look(&self, cx: &Cx, backend: &Backend) -> Verdict {
        let service = cx.cache.get::<Service>(&backend.namespace, &backend.service);
        let slices = slices_of(&cx.cache, &backend.namespace, &backend.service);
        let slices: Vec<&EndpointSlice> = slices.iter().map(AsRef::as_ref).collect();
        if let Some(verdict) = obstacle(backend, service.as_deref(), &slices) {
            return verdict;
        }
        match reading::answers(&self.aggregation, backend).await {
            Ok(()) => Verdict::passed(),
            Err(why) => Verdict::failed(why),
        }
    }
}

/// Writes the condition, where it is another.
async fn say(cx: &Cx, key: &Key, verdict: Verdict) -> Result<(), ReconcileError> {
    let Some(service) = cx.cache.get::<APIService>("", &key.name) else { return Ok(()) };
    let mut next = (*service).clone();
    let conditions = next.status.get_or_insert_default().conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|condition| condition.type_ == "Available");
    let same = |c: &APIServiceCondition| {
        c.status == verdict.status
            && c.reason.as_deref() == Some(verdict.reason)
            && c.message.as_deref() == Some(&verdict.message)
    };
    if known.as_deref().is_some_and(same) {
        return Ok(());
    }
    let kept =
        known.as_deref().filter(|c| c.status == verdict.status).and_then(|c| c.last_transition_time.clone());
    let made = APIServiceCondition {
        type_: "Available".to_owned(),
        status: verdict.status.to_owned(),
        reason: Some(verdict.reason.to_owned()),
        message: Some(verdict.message),
        last_transition_time: kept.or_else(|| Some(meta::time(cx.now))),
    };
    match known {
        Some(condition) => *condition = made,
        None => conditions.push(made),
    }
    cx.client.update_status(&next).await?;
    Ok(())
}
