//! Namespaces: when one is deleted, everything in it goes first, wherever it is held; and its pods before the rest.
//!
//! - [`elsewhere`]: what other API servers hold.

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};
use k8s_openapi::jiff::Timestamp;
use protocol::{ApiRequest, Client, Resource, Target, Verb};

use self::elsewhere::Discovered;
use super::machinery::meta::{is_deleting, time};
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::aggregation::Aggregation;
use crate::api::custom::Catalog;
use crate::cache::ChangeKind;

mod elsewhere;

const FINALIZER: &str = "kubernetes";
/// Objects whose finalizers somebody else has to work off are looked at again after this long.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The controller.
pub struct NamespaceController {
    /// The way to other API servers; without it, nobody else holds anything.
    pub aggregation: Option<Aggregation>,
}

impl Reconciler for NamespaceController {
    const NAME: &'static str = "namespace";
    const ACCOUNT: &'static str = "namespace-controller";
    const RESOURCE: &'static str = "namespaces";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Namespace>(),
            // Pods take their time to end; the last one's end is awaited here.
            mapped::<Pod>(|change, cache| {
                let namespace = &change.stored.meta.namespace;
                let snapshot = cache.snapshot();
                let ends = change.kind == ChangeKind::Deleted
                    && snapshot.get("", "namespaces", "", namespace).is_some_and(|n| n.meta.is_deleting());
                if ends { vec![Key::new("", namespace)] } else { Vec::new() }
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = cx.cache.get::<Namespace>("", &key.name) else { return Ok(Outcome::DONE) };
        if !is_deleting(&namespace.metadata) {
            return Ok(Outcome::DONE);
        }
        let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.clone()).unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(Outcome::DONE);
        }
        let others = self.aggregation.as_ref().map(|all| elsewhere::discover(cx, all)).unwrap_or_default();
        // Pods go before what they may still need: a policy that guards them, a Secret they read.
        let mut failures = delete_content(cx, &key.name, is_pods).await;
        let waits = !content(cx, &key.name, is_pods).await.is_empty();
        // While pods end, the conditions say nothing of what remains.
        let mut content = Vec::new();
        if !waits && failures.is_empty() {
            failures = delete_content(cx, &key.name, |_| true).await;
            let (held, failed) = elsewhere::clear(cx, &key.name, &others.kinds).await;
            failures.extend(failed);
            content = self::content(cx, &key.name, |_| true).await;
            content.extend(held);
        }
        let mut next = (*namespace).clone();
        let status = next.status.get_or_insert_default();
        status.phase = Some("Terminating".to_owned());
        let conditions = status.conditions.get_or_insert_default();
        for condition in conditions_for(&content, &failures, &others, cx.now) {
            set_condition(conditions, condition);
        }
        if next.status != namespace.status {
            next = cx.client.update_status(&next).await?;
        }
        if !failures.is_empty() {
            return Err(ReconcileError::Other(failures.join("; ")));
        }
        if let Some(why) = others.failure() {
            return Err(ReconcileError::Other(why));
        }
        if waits || !content.is_empty() {
            return Ok(Outcome::again(AGAIN));
        }
        if let Some(spec) = &mut next.spec {
            spec.finalizers = Some(finalizers.into_iter().filter(|f| f != FINALIZER).collect());
        }
        finalize(cx, &next).await?;
        Ok(Outcome::DONE)
    }
}

/// What is left of a kind in a namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// `pods`, or `deployments.apps`.
    pub resource: String,
    /// How many.
    pub count: usize,
    /// Their finalizers, with how many have each.
    pub finalizers: Vec<(String, usize)>,
}

/// The kinds whose objects a namespace can hold.
fn kinds(catalog: &Catalog) -> Vec<&'static Resource> {
    catalog.stored().filter(|r| r.namespaced && r.allows(Verb::Delete)).collect()
}

fn is_pods(kind: &Resource) -> bool {
    kind.group.is_empty() && kind.plural == "pods"
}

/// Deletes what a namespace holds of some kinds; what failed.
async fn delete_content(cx: &Cx, namespace: &str, of: impl Fn(&Resource) -> bool) -> Vec<String> {
    let mut failures = Vec::new();
    for kind in kinds(&cx.cache.derived()).into_iter().filter(|kind| of(kind)) {
        let snapshot = cx.cache.snapshot();
        let mut doomed =
            snapshot.list(kind.storage_group(), kind.plural, namespace).filter(|s| !s.meta.is_deleting());
        if doomed.next().is_none() {
            continue;
        }
        let target = Target {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: None,
            subresource: None,
        };
        let mut request = ApiRequest::new(Verb::DeleteCollection, target);
        request.options.propagation_policy = Some("Background".to_owned());
        if let Err(error) = cx.client.send(request).await {
            failures.push(format!("{}: {error}", protocol::error::qualified(kind.group, kind.plural)));
        }
    }
    failures
}

/// What a namespace still holds of some kinds, at the server's newest revision.
async fn content(cx: &Cx, namespace: &str, of: impl Fn(&Resource) -> bool) -> Vec<Left> {
    // What the cache shows now may be from before deletions of ours. A linearizable read of the namespace itself tells how far the cache has to be.
    if let Ok(fresh) = cx.client.list::<Pod>(namespace).await {
        let newest = fresh.iter().map(|p| super::machinery::meta::revision(&p.metadata)).max().unwrap_or(0);
        cx.cache.wait_for(newest).await;
    }
    let snapshot = cx.cache.snapshot();
    let mut left = Vec::new();
    for kind in kinds(&cx.cache.derived()).into_iter().filter(|kind| of(kind)) {
        let mut finalizers: std::collections::BTreeMap<String, usize> = Default::default();
        let mut count = 0;
        for stored in snapshot.list(kind.storage_group(), kind.plural, namespace) {
            count += 1;
            for finalizer in &stored.meta.finalizers {
                *finalizers.entry(finalizer.to_string()).or_insert(0) += 1;
            }
        }
        if count > 0 {
            let resource = protocol::error::qualified(kind.group, kind.plural);
            left.push(Left { resource, count, finalizers: finalizers.into_iter().collect() });
        }
    }
    left
}

/// The conditions that say how far the deletion is. Pure.
pub fn conditions_for(
    content: &[Left],
    failures: &[String],
    others: &Discovered,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let condition = |kind: &str, bad: bool, reason: &str, message: String| NamespaceCondition {
        type_: kind.to_owned(),
        status: if bad { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(time(now)),
    };
    let discovery = "NamespaceDeletionDiscoveryFailure";
    let mut out = vec![
        match others.failure() {
            None => {
                let message = "All resources successfully discovered".to_owned();
                condition(discovery, false, "ResourcesDiscovered", message)
            }
            Some(why) => {
                let count = others.failing.len();
                let message = format!("Discovery failed for some groups, {count} failing: {why}");
                condition(discovery, true, "DiscoveryFailed", message)
            }
        },
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
    ];
    out.push(if failures.is_empty() {
        let message = "All content successfully deleted, may be waiting on finalization";
        condition("NamespaceDeletionContentFailure", false, "ContentDeleted", message.to_owned())
    } else {
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            failures.len(),
            failures.join(", ")
        );
        condition("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", message)
    });
    out.push(if content.is_empty() {
        let message = "All content successfully removed".to_owned();
        condition("NamespaceContentRemaining", false, "ContentRemoved", message)
    } else {
        let list: Vec<String> = content
            .iter()
            .map(|l| format!("{} has {} resource instances", dotted(&l.resource), l.count))
            .collect();
        let message = format!("Some resources are remaining: {}", list.join(", "));
        condition("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
    });
    let mut finalizers: std::collections::BTreeMap<&str, usize> = Default::default();
    for (name, count) in content.iter().flat_map(|l| &l.finalizers) {
        *finalizers.entry(name).or_insert(0) += count;
    }
    out.push(if finalizers.is_empty() {
        let message = "All content-preserving finalizers finished".to_owned();
        condition("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", message)
    } else {
        let list: Vec<String> =
            finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
        let message = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
        condition("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
    });
    out
}

/// Upstream names core kinds with their empty group: `pods.`.
fn dotted(resource: &str) -> String {
    if resource.contains('.') { resource.to_owned() } else { format!("{resource}.") }
}

fn set_condition(list: &mut Vec<NamespaceCondition>, new: NamespaceCondition) {
    match list.iter_mut().find(|c| c.type_ == new.type_) {
        None => list.push(new),
        Some(old) => {
            let since = if old.status == new.status {
                old.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *old = NamespaceCondition { last_transition_time: since, ..new };
        }
    }
}

async fn finalize(cx: &Cx, namespace: &Namespace) -> Result<(), ReconcileError> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let mut request =
        ApiRequest::new(Verb::Update, Client::target::<Namespace>("", Some(name), Some("finalize")));
    let body = serde_json::to_vec(namespace).map_err(|e| ReconcileError::Other(e.to_string()))?;
    request.body = body.into();
    match cx.client.send(request).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_is_left() {
        let left = [
            Left {
                resource: "pods".to_owned(),
                count: 2,
                finalizers: vec![("a.example.org/x".to_owned(), 1)],
            },
            Left { resource: "deployments.apps".to_owned(), count: 1, finalizers: Vec::new() },
        ];
        let got = conditions_for(&left, &[], &Discovered::default(), Timestamp::UNIX_EPOCH);
        let of = |kind: &str| {
            let c = got.iter().find(|c| c.type_ == kind).unwrap();
            (c.status.as_str(), c.message.as_deref().unwrap())
        };
        assert_eq!(
            of("NamespaceContentRemaining"),
            (
                "True",
                "Some resources are remaining: pods. has 2 resource instances, deployments.apps has 1 resource instances"
            )
        );
        assert_eq!(of("NamespaceFinalizersRemaining").0, "True");
        assert_eq!(of("NamespaceDeletionContentFailure").0, "False");
        let none = Discovered::default();
        assert!(conditions_for(&[], &[], &none, Timestamp::UNIX_EPOCH).iter().all(|c| c.status == "False"));
        let away = Discovered { failing: vec!["a/v1".to_owned()], ..none };
        let told = conditions_for(&[], &[], &away, Timestamp::UNIX_EPOCH);
        let discovery = told.iter().find(|c| c.type_ == "NamespaceDeletionDiscoveryFailure").unwrap();
        let message = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server \
                       APIs: a/v1: stale GroupVersion discovery: a/v1";
        assert_eq!((discovery.status.as_str(), discovery.message.as_deref()), ("True", Some(message)));
    }

    #[test]
    fn every_namespaced_kind_is_deleted() {
        let all: Vec<&str> = kinds(&Catalog::default()).iter().map(|k| k.plural).collect();
        for kind in ["pods", "configmaps", "deployments", "rolebindings", "leases", "endpointslices"] {
            assert!(all.contains(&kind), "{kind}");
        }
        assert!(!all.contains(&"nodes"));
    }
}
