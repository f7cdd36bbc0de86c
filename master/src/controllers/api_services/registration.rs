//! The APIServices of declared kinds: one for each version of a group that some definition serves.
//!
//! They carry a label that says who keeps them. One without it is somebody else's, and is left alone: so a group can
//! be given to another server although definitions declare it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use serde_json::Value;

use crate::api::custom::DEFINITIONS;
use crate::api::object::{list, text};
use crate::cache::{Change, Snapshot};
use crate::controllers::machinery::meta::{is_deleting, uid};
use crate::controllers::machinery::watches::{mapped, own};
use crate::controllers::machinery::{API_SERVER, Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The label, and what it says of those that are kept as long as they are wanted.
const AUTOMANAGED: (&str, &str) = ("kube-aggregator.kubernetes.io/automanaged", "true");
/// Where groups of declared kinds stand among others.
const GROUP_PRIORITY: i32 = 1000;
/// Where a version stands within its group.
const VERSION_PRIORITY: i32 = 100;

/// The controller.
pub struct RegistrationController;

/// The registrations that a definition, as it is or was, calls for.
fn named(change: &Change) -> Vec<Key> {
    let mut keys = Vec::new();
    for stored in change.previous.iter().chain([&change.stored]) {
        let Ok(definition) = stored.value() else { continue };
        let group = text(&definition, &["spec", "group"]);
        for version in list(&definition, &["spec", "versions"]) {
            let key = Key::new("", &format!("{}.{group}", text(version, &["name"])));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// Whether some definition serves a version of a group.
fn is_served(snapshot: &Snapshot, group: &str, version: &str) -> bool {
    let (definitions, plural) = DEFINITIONS;
    // Of other groups' definitions nothing is read.
    let of_group = snapshot
        .list(definitions, plural, "")
        .filter(|stored| stored.meta.name.split_once('.').is_some_and(|(_, g)| g == group));
    let serves = |definition: &Value| {
        let mut versions = list(definition, &["spec", "versions"]).iter();
        versions.any(|v| v["served"] == true && text(v, &["name"]) == version)
    };
    of_group.filter_map(|stored| stored.value().ok()).any(|definition| serves(&definition))
}

fn wanted(name: &str, group: &str, version: &str) -> APIService {
    let (label, value) = AUTOMANAGED;
    APIService {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(label.to_owned(), value.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            group: Some(group.to_owned()),
            version: Some(version.to_owned()),
            group_priority_minimum: GROUP_PRIORITY,
            version_priority: VERSION_PRIORITY,
            ..APIServiceSpec::default()
        }),
        status: None,
    }
}

impl Reconciler for RegistrationController {
    const NAME: &'static str = "crd_registration_controller";
    const ACCOUNT: &'static str = "kube-apiserver";
    const PROGRAM: &'static str = API_SERVER;
    const RESOURCE: &'static str = "apiservices";
    const WORKERS: usize = 1;

    /// It is a part of the API server, which may do everything.
    fn caller() -> protocol::Caller {
        protocol::Caller::component("system:apiserver", &["system:masters"])
    }

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<CustomResourceDefinition>(|change, _| named(change)), own::<APIService>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some((version, group)) = key.name.split_once('.') else { return Ok(Outcome::DONE) };
        let served = is_served(&cx.cache.snapshot(), group, version);
        let known = cx.cache.get::<APIService>("", &key.name);
        let Some(known) = known else {
            if served {
                match cx.client.create(&wanted(&key.name, group, version)).await {
                    // Somebody else's, made a moment ago.
                    Err(error) if error.is_already_exists() => {}
                    made => drop(made?),
                }
            }
            return Ok(Outcome::DONE);
        };
        let (label, value) = AUTOMANAGED;
        let kept = known.metadata.labels.as_ref().and_then(|labels| labels.get(label));
        if kept.map(String::as_str) != Some(value) || is_deleting(&known.metadata) {
            return Ok(Outcome::DONE);
        }
        let wanted = wanted(&key.name, group, version);
        if !served {
            let id = Some(uid(&known.metadata));
            return match cx.client.delete::<APIService>("", &key.name, id, None).await {
                Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
                _ => Ok(Outcome::DONE),
            };
        }
        if known.spec != wanted.spec {
            cx.client.update(&APIService { spec: wanted.spec, ..(*known).clone() }).await?;
        }
        Ok(Outcome::DONE)
    }
}
