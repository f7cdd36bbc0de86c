//! What other API servers hold in a namespace.
//!
//! Their kinds are taken from the discovery documents that were read last. A server that is not there may hold
//! something: then the namespace waits for it, and its condition says so.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ApiError, ApiRequest, Target, Verb};
use serde_json::Value;

use super::Left;
use crate::aggregation::Aggregation;
use crate::aggregation::known::All;
use crate::aggregation::services::{Backend, Registered};
use crate::api::object;
use crate::controllers::machinery::Cx;

/// A kind of another server whose objects lie in namespaces and can be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    group: String,
    version: String,
    plural: String,
    /// Many can be deleted at once.
    collection: bool,
    /// They can be listed.
    list: bool,
}

/// What is known of the other servers' kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The kinds, each in one version.
    pub kinds: Vec<Kind>,
    /// Versions of groups whose servers cannot be asked.
    pub failing: Vec<String>,
}

impl Discovered {
    /// The failure as conditions and errors tell it; `None` where all servers are there.
    pub fn failure(&self) -> Option<String> {
        let each = |version: &String| format!("{version}: stale GroupVersion discovery: {version}");
        let all: Vec<String> = self.failing.iter().map(each).collect();
        let text = || format!("unable to retrieve the complete list of server APIs: {}", all.join(", "));
        (!all.is_empty()).then(text)
    }
}

/// Reads what is known.
pub fn discover(cx: &Cx, aggregation: &Aggregation) -> Discovered {
    let registered = cx.cache.derived::<Registered>();
    discovered(registered.backends().map(AsRef::as_ref), &aggregation.known().all())
}

fn discovered<'a>(backends: impl Iterator<Item = &'a Backend>, known: &All) -> Discovered {
    let mut found = Discovered::default();
    let mut seen = BTreeSet::new();
    for backend in backends {
        let documents = known.get(&backend.name).filter(|documents| !documents.stale && backend.available);
        let Some(documents) = documents else {
            found.failing.push(format!("{}/{}", backend.group, backend.version));
            continue;
        };
        for resource in &documents.resources {
            let has = |verb: &str| object::list(resource, &["verbs"]).iter().any(|v| v == verb);
            let plural = object::text(resource, &["resource"]);
            if resource["scope"] != "Namespaced" || !has("delete") || plural.is_empty() {
                continue;
            }
            if seen.insert((backend.group.clone(), plural.to_owned())) {
                found.kinds.push(Kind {
                    group: backend.group.clone(),
                    version: backend.version.clone(),
                    plural: plural.to_owned(),
                    collection: has("deletecollection"),
                    list: has("list"),
                });
            }
        }
    }
    found
}

impl Kind {
    fn qualified(&self) -> String {
        protocol::error::qualified(&self.group, &self.plural)
    }

    fn request(&self, verb: Verb, namespace: &str, name: Option<&str>) -> ApiRequest {
        let target = Target {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.plural.clone(),
            namespace: Some(namespace.to_owned()),
            name: name.map(str::to_owned),
            subresource: None,
        };
        let mut request = ApiRequest::new(verb, target);
        if verb != Verb::List {
            request.options.propagation_policy = Some("Background".to_owned());
        }
        request
    }

    async fn items(&self, cx: &Cx, namespace: &str) -> Result<Vec<Value>, ApiError> {
        if !self.list {
            return Ok(Vec::new());
        }
        let answer = cx.client.send(self.request(Verb::List, namespace, None)).await?;
        let list: Value = serde_json::from_slice(&answer.body).map_err(ApiError::internal)?;
        Ok(object::list(&list, &["items"]).to_vec())
    }

    /// Deletes all objects in a namespace, and tells what is left.
    async fn clear(&self, cx: &Cx, namespace: &str) -> Result<Option<Left>, ApiError> {
        let at_once = self.collection && {
            let asked = cx.client.send(self.request(Verb::DeleteCollection, namespace, None)).await;
            match asked {
                Ok(_) => true,
                // It says that it can, and cannot.
                Err(error) if matches!(error.code(), 404 | 405) => false,
                Err(error) => return Err(error),
            }
        };
        if !at_once {
            for item in self.items(cx, namespace).await? {
                let request = self.request(Verb::Delete, namespace, Some(object::name(&item)));
                match cx.client.send(request).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(left(self.qualified(), &self.items(cx, namespace).await?))
    }
}

fn left(resource: String, items: &[Value]) -> Option<Left> {
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for finalizer in items.iter().flat_map(object::finalizers) {
        *finalizers.entry(finalizer.to_owned()).or_insert(0) += 1;
    }
    let finalizers = finalizers.into_iter().collect();
    (!items.is_empty()).then_some(Left { resource, count: items.len(), finalizers })
}

/// Deletes what the other servers hold in a namespace. Tells what is left of it, and what could not be deleted.
pub async fn clear(cx: &Cx, namespace: &str, kinds: &[Kind]) -> (Vec<Left>, Vec<String>) {
    let (mut remaining, mut failures) = (Vec::new(), Vec::new());
    for kind in kinds {
        match kind.clear(cx, namespace).await {
            Ok(left) => remaining.extend(left),
            Err(error) => failures.push(format!("{}: {error}", kind.qualified())),
        }
    }
    (remaining, failures)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::aggregation::known::Documents;

    fn backend(group: &str, version: &str, available: bool) -> Backend {
        let status = if available { "True" } else { "False" };
        let registration = json!({
            "spec": {"group": group, "version": version, "service": {"name": "s", "namespace": "n"}},
            "status": {"conditions": [{"type": "Available", "status": status}]}});
        Backend::of(&format!("{version}.{group}"), &registration).expect("a server")
    }

    #[test]
    fn kinds_are_found_once_and_absent_servers_told() {
        let resource =
            |name: &str, scope: &str, verbs: Value| json!({"resource": name, "scope": scope, "verbs": verbs});
        let resources = vec![
            resource("flunders", "Namespaced", json!(["delete", "deletecollection", "list"])),
            resource("fischers", "Cluster", json!(["delete"])),
            resource("pods", "Namespaced", json!(["get", "list"])),
            resource("plain", "Namespaced", json!(["delete"])),
        ];
        let documents =
            |stale: bool| Arc::new(Documents { resources: resources.clone(), stale, ..Documents::default() });
        let known: All = [("v1.a", false), ("v2.a", false), ("v1.b", true), ("v1.c", false)]
            .map(|(name, stale)| (name.to_owned(), documents(stale)))
            .into();
        let all = [
            backend("a", "v1", true),
            backend("a", "v2", true),
            backend("b", "v1", true),
            backend("c", "v1", false),
            backend("d", "v1", true),
        ];
        let found = discovered(all.iter(), &known);
        let kinds: Vec<_> = found
            .kinds
            .iter()
            .map(|k| (k.version.as_str(), k.plural.as_str(), k.collection, k.list))
            .collect();
        assert_eq!(kinds, [("v1", "flunders", true, true), ("v1", "plain", false, false)]);
        assert_eq!(found.failing, ["b/v1", "c/v1", "d/v1"]);
        let said = found.failure().expect("a failure");
        assert!(said.starts_with(
            "unable to retrieve the complete list of server APIs: b/v1: stale GroupVersion discovery: b/v1, c/v1: "
        ));
        assert_eq!(Discovered::default().failure(), None);
    }

    #[test]
    fn what_is_left_has_finalizers() {
        let items = [json!({"metadata": {"finalizers": ["a/b"]}}), json!({"metadata": {"name": "x"}})];
        let left = left("flunders.a".to_owned(), &items).expect("something");
        assert_eq!((left.count, left.finalizers), (2, vec![("a/b".to_owned(), 1)]));
    }
}
