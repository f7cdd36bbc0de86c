//! Endpoints and EndpointSlices: the addresses behind each Service.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::labels::{SERVICE_NAME, ZONE};

use crate::cache::{Cache, Change, ChangeKind};
use crate::controllers::deployment::is_namespace_terminating;
use crate::controllers::machinery::labels::Labels;
use crate::controllers::machinery::meta::{controller_reference, is_deleting, name, namespace};
use crate::controllers::machinery::pods::node_name;
use crate::controllers::machinery::watches::{key_of, mapped, own};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

pub mod mirroring;
pub mod pods;
pub mod slices;
pub mod subsets;
pub mod trigger;

use pods::{HEADLESS, is_headless};
use slices::{Frame, MANAGED_BY};
use trigger::{TRIGGER_TIME, Triggers};

const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// How soon a Service is looked at again of which a pod was left out because its node is not known.
const NODE_PAUSE: Duration = Duration::from_secs(2);

/// Writes Endpoints.
#[derive(Default)]
pub struct EndpointsController {
    triggers: Triggers,
}

/// Writes EndpointSlices.
#[derive(Default)]
pub struct EndpointSliceController {
    triggers: Triggers,
}

/// The Services whose selectors select a pod, before or after a change.
fn services_of(change: &Change, cache: &Cache) -> Vec<Key> {
    let mut keys = Vec::new();
    let services = cache.list::<Service>(&change.stored.meta.namespace);
    for service in services {
        let Some(selector) = selector_of(&service) else { continue };
        let touches = change
            .previous
            .iter()
            .chain([&change.stored])
            .any(|pod| selector.iter().all(|(k, v)| pod.meta.labels.get(k) == Some(v.as_str())));
        if touches {
            keys.push(Key::of(&service.metadata));
        }
    }
    keys
}

fn selector_of(service: &Service) -> Option<&Labels> {
    service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty())
}

fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("ExternalName")
}

fn selected_pods(cx: &Cx, service: &Service, selector: &Labels) -> Vec<Arc<Pod>> {
    let snapshot = cx.cache.snapshot();
    let pods = snapshot.list("", "pods", namespace(&service.metadata));
    pods.filter(|p| selector.iter().all(|(k, v)| p.meta.labels.get(k) == Some(v.as_str())))
        .filter_map(|p| p.typed::<Pod>().ok())
        .collect()
}

impl Reconciler for EndpointsController {
    const NAME: &'static str = "endpoint";
    const ACCOUNT: &'static str = "endpoint-controller";
    const RESOURCE: &'static str = "services";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Service>(),
            // What somebody else writes into them stays until the Service or its pods change.
            mapped::<Endpoints>(|change, _| {
                if change.kind == ChangeKind::Deleted { namesake(change) } else { Vec::new() }
            }),
            mapped::<Pod>(services_of),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let current = cx.cache.get::<Endpoints>(&key.namespace, &key.name);
        let Some(service) = cx.cache.get::<Service>(&key.namespace, &key.name) else {
            // With a Service go its Endpoints, whoever made them. Those that never had one nobody asks about.
            self.triggers.forget(key);
            if current.is_some() {
                match cx.client.delete::<Endpoints>(&key.namespace, &key.name, None, None).await {
                    Err(e) if !e.is_not_found() => return Err(e.into()),
                    _ => {}
                }
            }
            return Ok(Outcome::DONE);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Outcome::DONE) };
        if is_external_name(&service) || is_deleting(&service.metadata) {
            return Ok(Outcome::DONE);
        }
        let pods = selected_pods(cx, &service, selector);
        let trigger = self.triggers.since_last_look(key, &service, &pods);
        let (subsets, over) = subsets::subsets(&service, &pods);
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if is_headless(&service) {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
        let mut annotations = Labels::new();
        if over {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        }
        let trigger = trigger.map(|at| (TRIGGER_TIME.to_owned(), at.to_string()));
        let subsets = (!subsets.is_empty()).then_some(subsets);
        let wanted = match &current {
            None => Endpoints {
                metadata: ObjectMeta {
                    name: service.metadata.name.clone(),
                    namespace: service.metadata.namespace.clone(),
                    labels: Some(labels),
                    annotations: Some(annotations.into_iter().chain(trigger).collect()),
                    ..ObjectMeta::default()
                },
                subsets,
            },
            Some(current) => {
                let mut wanted = (**current).clone();
                wanted.metadata.labels = Some(labels);
                if !over && let Some(annotations) = &mut wanted.metadata.annotations {
                    annotations.remove(OVER_CAPACITY);
                }
                if over {
                    wanted.metadata.annotations.get_or_insert_default().extend(annotations);
                }
                wanted.subsets = subsets;
                if wanted == **current {
                    return Ok(Outcome::DONE);
                }
                // Of the write alone: a time is no reason to write.
                let all = wanted.metadata.annotations.get_or_insert_default();
                all.remove(TRIGGER_TIME);
                all.extend(trigger);
                wanted
            }
        };
        let result = match current {
            None => cx.client.create(&wanted).await,
            Some(_) => cx.client.update(&wanted).await,
        };
        match result {
            Ok(_) => Ok(Outcome::DONE),
            Err(e) if is_namespace_terminating(&e) => Ok(Outcome::DONE),
            Err(e) => {
                if !e.is_conflict() && !e.is_already_exists() {
                    let text = format!("Failed to update endpoint {key}: {e}");
                    cx.events.warning(&wanted, "FailedToUpdateEndpoint", text);
                }
                Err(e.into())
            }
        }
    }
}

impl Reconciler for EndpointSliceController {
    const NAME: &'static str = "endpoint_slice";
    const ACCOUNT: &'static str = "endpointslice-controller";
    const RESOURCE: &'static str = "services";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Service>(),
            mapped::<Pod>(services_of),
            mapped::<EndpointSlice>(|change, _| {
                let meta = &change.stored.meta;
                let ours = meta.labels.get(MANAGED_BY) == Some("endpointslice-controller.k8s.io");
                let service = meta.labels.get(SERVICE_NAME).filter(|_| ours);
                service.map(|name| Key::new(&meta.namespace, name)).into_iter().collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        // Slices of a Service that is gone are the garbage collector's.
        let Some(service) = cx.cache.get::<Service>(&key.namespace, &key.name) else {
            self.triggers.forget(key);
            return Ok(Outcome::DONE);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Outcome::DONE) };
        if is_external_name(&service) || is_deleting(&service.metadata) {
            return Ok(Outcome::DONE);
        }
        let frame = Frame::of(&service, controller_reference(&*service));
        let pods = selected_pods(cx, &service, selector);
        let existing = managed_slices(&cx.cache, key, "endpointslice-controller.k8s.io");
        let trigger = self.triggers.since_last_look(key, &service, &pods);
        let zone_of = |node: &str| {
            let node = cx.cache.get::<Node>("", node)?;
            Some(node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE).cloned()))
        };
        let types = slices::address_types(&service);
        for kind in &types {
            let of_kind: Vec<_> = existing
                .iter()
                .filter(|s| s.address_type == *kind || !types.contains(&s.address_type.as_str()))
                .cloned()
                .collect();
            let wanted = slices::desired(&service, &pods, kind, zone_of);
            let mut plan = slices::plan(&frame, kind, &of_kind, wanted, true);
            if let Some(at) = trigger {
                plan.annotate(TRIGGER_TIME, &at.to_string());
            }
            write_slices(cx, &*service, key, plan).await?;
        }
        let homeless = |pod: &Arc<Pod>| pods::may_serve(pod, true) && zone_of(node_name(pod)).is_none();
        let again = !pods::publishes_unready(&service) && pods.iter().any(homeless);
        Ok(Outcome::again(again.then_some(NODE_PAUSE)))
    }
}

/// The slices of a Service, whoever manages them. Those of others are not parsed for it.
pub fn slices_of(cache: &Cache, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
    let snapshot = cache.snapshot();
    let all = snapshot.list("discovery.k8s.io", "endpointslices", namespace);
    let of = all.filter(|s| s.meta.labels.get(SERVICE_NAME) == Some(service));
    of.filter_map(|s| s.typed::<EndpointSlice>().ok()).collect()
}

/// The slices of a Service that a writer manages.
fn managed_slices(cache: &Cache, service: &Key, manager: &str) -> Vec<Arc<EndpointSlice>> {
    let mut all = slices_of(cache, &service.namespace, &service.name);
    all.retain(|s| {
        let labels = s.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == manager)
    });
    all
}

async fn write_slices<K: protocol::Object>(
    cx: &Cx,
    about: &K,
    key: &Key,
    plan: slices::Plan,
) -> Result<(), ReconcileError> {
    let result = async {
        for slice in &plan.create {
            match cx.client.create(slice).await {
                Err(e) if is_namespace_terminating(&e) => return Ok(()),
                other => drop(other?),
            }
        }
        for slice in &plan.update {
            cx.client.update(slice).await?;
        }
        for gone in &plan.delete {
            match cx.client.delete::<EndpointSlice>(&key.namespace, gone, None, None).await {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    result.await.map_err(|e: protocol::ApiError| {
        if !e.is_conflict() {
            let text = format!("Error updating Endpoint Slices for Service {key}: {e}");
            cx.events.warning(about, "FailedToUpdateEndpointSlices", text);
        }
        e.into()
    })
}

/// The key of the Service that a stored Endpoints object belongs to: its namesake.
fn namesake(change: &Change) -> Vec<Key> {
    vec![key_of(&change.stored)]
}

/// The name of an object that must have one.
fn named(meta: &ObjectMeta) -> String {
    name(meta).to_owned()
}
