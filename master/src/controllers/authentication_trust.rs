//! What other API servers need to know whom to believe stands in a ConfigMap of `kube-system`, and stays there.
//!
//! Somebody else's entries are left alone; ours are put back when they are changed, and the whole when it is deleted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::Caller;

use super::deployment::is_namespace_terminating;
use super::machinery::watches::mapped;
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// Name of the ConfigMap.
pub const NAME: &str = "extension-apiserver-authentication";
/// Its namespace.
pub const NAMESPACE: &str = "kube-system";

/// The controller.
pub struct AuthenticationTrust {
    /// The entries that have to be there.
    pub data: BTreeMap<String, String>,
}

impl Reconciler for AuthenticationTrust {
    const NAME: &'static str = "cluster_authentication_trust_controller";
    const ACCOUNT: &'static str = "kube-apiserver";
    const RESOURCE: &'static str = "configmaps";
    const WORKERS: usize = 1;

    /// It is part of the API server, and writes as that.
    fn caller() -> Caller {
        Caller::component("system:apiserver", &["system:masters"])
    }

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<ConfigMap>(|change, _| {
            let meta = &change.stored.meta;
            let ours = &*meta.name == NAME && &*meta.namespace == NAMESPACE;
            if ours { vec![Key::new(NAMESPACE, NAME)] } else { Vec::new() }
        })]
    }

    async fn reconcile(&self, cx: &Cx, _: &Key) -> Result<Outcome, ReconcileError> {
        let current = cx.cache.get::<ConfigMap>(NAMESPACE, NAME);
        let data = current.as_ref().and_then(|map| map.data.clone()).unwrap_or_default();
        let Some(data) = mended(&data, &self.data) else { return Ok(Outcome::DONE) };
        let result = match current {
            Some(current) => {
                let mut map = (*current).clone();
                map.data = Some(data);
                cx.client.update(&map).await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(NAMESPACE.to_owned()),
                    ..ObjectMeta::default()
                };
                cx.client.create(&ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).await
            }
        };
        match result {
            Err(e) if e.is_not_found() || is_namespace_terminating(&e) => Ok(Outcome::DONE),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(Outcome::DONE),
        }
    }
}

/// The entries as they should be; `None` where they are. Pure.
fn mended(
    data: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    if ours.iter().all(|(key, value)| data.get(key) == Some(value)) {
        return None;
    }
    let mut data = data.clone();
    data.extend(ours.iter().map(|(key, value)| (key.clone(), value.clone())));
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_entries_are_put_back() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let ours = map(&[("client-ca-file", "PEM")]);
        for (found, expected) in [
            (map(&[]), Some(map(&[("client-ca-file", "PEM")]))),
            (
                map(&[("client-ca-file", "other"), ("more", "x")]),
                Some(map(&[("client-ca-file", "PEM"), ("more", "x")])),
            ),
            (map(&[("client-ca-file", "PEM"), ("more", "x")]), None),
        ] {
            assert_eq!(mended(&found, &ours), expected, "{found:?}");
        }
    }
}
