//! CustomResourceDefinitions: which names a declared kind gets, when it is served, and what goes with it.
//!
//! The first definition of a group that claims a name has it. A kind is established once all its names are
//! accepted, and stays so. A deleted definition goes after its objects.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use protocol::{ApiRequest, Caller, Resource, Target, Verb};
use serde_json::{Value, json};

use super::machinery::watches::mapped;
use super::machinery::{API_SERVER, Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::api::custom::definition::{CLEANUP, set_condition};
use crate::api::custom::kind::is_true;
use crate::api::custom::{Catalog, DEFINITIONS};
use crate::api::object::{self, list, text};
use crate::cache::{Cache, Change, ChangeKind, Stored};

mod names;

/// Objects whose finalizers somebody else has to work off are looked at again after this long.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The controller.
pub struct CustomResourceController;

/// Names that one definition gives up or gets concern every other definition of its group.
fn group_of(change: &Change, cache: &Cache) -> Vec<Key> {
    let own = Key::new("", &change.stored.meta.name);
    let Some((_, group)) = own.name.split_once('.') else { return vec![own] };
    let (definitions, plural) = DEFINITIONS;
    let snapshot = cache.snapshot();
    let others = snapshot.list(definitions, plural, "").filter(|s| {
        s.meta.name.split_once('.').is_some_and(|(_, g)| g == group) && s.meta.name != change.stored.meta.name
    });
    std::iter::once(own.clone()).chain(others.map(|s| Key::new("", &s.meta.name))).collect()
}

impl Reconciler for CustomResourceController {
    const NAME: &'static str = "crd_naming_condition_controller";
    const ACCOUNT: &'static str = "kube-apiserver";
    const PROGRAM: &'static str = API_SERVER;
    const RESOURCE: &'static str = "customresourcedefinitions";

    /// It is a part of the API server, which may do everything.
    fn caller() -> Caller {
        Caller::component("system:apiserver", &["system:masters"])
    }

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<CustomResourceDefinition>(group_of)]
    }

    fn watch_declared(&self, kind: &'static Resource) -> Option<Watch> {
        // The last object's end is awaited by its definition.
        let map = Box::new(move |change: &Change, _: &Cache| {
            let ends = change.kind == ChangeKind::Deleted;
            if ends { vec![Key::new("", &format!("{}.{}", kind.plural, kind.group))] } else { Vec::new() }
        });
        Some(Watch { group: kind.group, resource: kind.plural, map })
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let (group, plural) = DEFINITIONS;
        let snapshot = cx.cache.snapshot();
        let Some(stored) = snapshot.get(group, plural, "", &key.name) else { return Ok(Outcome::DONE) };
        let definition = value_of(stored)?;
        if stored.meta.is_deleting() {
            if !stored.meta.finalizers.iter().any(|f| **f == *CLEANUP) {
                return Ok(Outcome::DONE);
            }
            return finalize(cx, definition).await;
        }
        let others: Vec<Value> = snapshot
            .list(group, plural, "")
            .filter(|s| s.key != stored.key)
            .map(|s| value_of(s))
            .collect::<Result<_, _>>()?;
        let next = names::decide(&definition, &others);
        if next["status"] != definition["status"] {
            update(cx, &next, Some("status")).await?;
        }
        Ok(Outcome::DONE)
    }
}

fn value_of(stored: &Stored) -> Result<Value, ReconcileError> {
    stored.value().map_err(|e| ReconcileError::Other(e.to_string()))
}

async fn update(cx: &Cx, definition: &Value, subresource: Option<&str>) -> Result<Value, ReconcileError> {
    let (group, plural) = DEFINITIONS;
    let target = Target {
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: plural.to_owned(),
        namespace: None,
        name: Some(object::name(definition).to_owned()),
        subresource: subresource.map(str::to_owned),
    };
    let mut request = ApiRequest::new(Verb::Update, target);
    request.body = definition.to_string().into();
    let answer = cx.client.send(request).await?;
    serde_json::from_slice(&answer.body).map_err(|e| ReconcileError::Other(e.to_string()))
}

/// The reason of the condition that says that no object of a kind is left.
const COMPLETED: &str = "InstanceDeletionCompleted";

/// Deletes the objects of a kind, and then lets its definition go.
async fn finalize(cx: &Cx, mut definition: Value) -> Result<Outcome, ReconcileError> {
    let (group, plural) = (
        text(&definition, &["spec", "group"]).to_owned(),
        text(&definition, &["spec", "names", "plural"]).to_owned(),
    );
    let terminating = |status: &str, reason: &str, message: &str| json!({"type": "Terminating", "status": status, "reason": reason, "message": message});
    // What was said already is not said again: that would wake this very reconcile, over and over.
    let completed = list(&definition, &["status", "conditions"])
        .iter()
        .any(|c| c["type"] == "Terminating" && c["reason"] == COMPLETED)
        && cx.cache.snapshot().count(&group, &plural) == 0;
    // A definition that never got its names has no objects; those under its name are another's.
    if is_true(&definition, "Established") && !completed {
        let before = definition["status"].clone();
        set_condition(
            &mut definition,
            terminating("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress"),
        );
        if definition["status"] != before {
            definition = update(cx, &definition, Some("status")).await?;
        }
        // In the version that most of them are stored in, where it is served: then nothing is converted.
        let kind = cx.cache.derived::<Catalog>().custom(&group, &plural).and_then(|kind| {
            let stored = kind.versions.iter().find(|v| !v.resource.is_view());
            stored.or(kind.versions.first()).map(|v| v.resource)
        });
        if let Some(kind) = kind {
            delete_all(cx, kind).await?;
        }
        if cx.cache.snapshot().count(&group, &plural) > 0 {
            return Ok(Outcome::again(AGAIN));
        }
        set_condition(&mut definition, terminating("False", COMPLETED, "removed all instances"));
        // Nothing is stored any more, in whichever versions somebody said that it was.
        let storage = list(&definition, &["spec", "versions"]).iter().find(|v| v["storage"] == true);
        let storage: Vec<Value> = storage.map(|v| v["name"].clone()).into_iter().collect();
        definition["status"]["storedVersions"] = storage.into();
        definition = update(cx, &definition, Some("status")).await?;
    }
    let kept: Vec<&str> = object::finalizers(&definition).into_iter().filter(|f| *f != CLEANUP).collect();
    definition["metadata"]["finalizers"] = json!(kept);
    update(cx, &definition, None).await?;
    Ok(Outcome::DONE)
}

/// Deletes every object of a kind, and waits until the cache shows it.
async fn delete_all(cx: &Cx, kind: &'static Resource) -> Result<(), ReconcileError> {
    let snapshot = cx.cache.snapshot();
    let doomed = snapshot.list(kind.group, kind.plural, "").filter(|s| !s.meta.is_deleting());
    let namespaces: std::collections::BTreeSet<String> =
        doomed.map(|s| s.meta.namespace.to_string()).collect();
    let mut newest = 0;
    for namespace in namespaces {
        let target = Target {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: Some(namespace).filter(|n| !n.is_empty()),
            name: None,
            subresource: None,
        };
        let mut request = ApiRequest::new(Verb::DeleteCollection, target.clone());
        request.options.propagation_policy = Some("Background".to_owned());
        cx.client.send(request).await?;
        // What a list at the newest revision shows tells how far the cache has to be.
        newest = cx.client.send(ApiRequest::new(Verb::List, target)).await?.revision;
    }
    cx.cache.wait_for(newest).await;
    Ok(())
}
