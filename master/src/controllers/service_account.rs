//! Every namespace has a ServiceAccount named `default`.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::deployment::is_namespace_terminating;
use super::machinery::meta::is_deleting;
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::cache::ChangeKind;

const DEFAULT: &str = "default";

/// The controller.
pub struct ServiceAccountController;

impl Reconciler for ServiceAccountController {
    const NAME: &'static str = "serviceaccount";
    const ACCOUNT: &'static str = "service-account-controller";
    const RESOURCE: &'static str = "namespaces";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Namespace>(),
            mapped::<ServiceAccount>(|change, _| {
                let gone = change.kind == ChangeKind::Deleted && &*change.stored.meta.name == DEFAULT;
                if gone { vec![Key::new("", &change.stored.meta.namespace)] } else { Vec::new() }
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = cx.cache.get::<Namespace>("", &key.name) else { return Ok(Outcome::DONE) };
        let exists = cx.cache.snapshot().get("", "serviceaccounts", &key.name, DEFAULT).is_some();
        if exists || is_deleting(&namespace.metadata) {
            return Ok(Outcome::DONE);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: Some(key.name.to_string()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match cx.client.create(&account).await {
            Err(e) if !e.is_already_exists() && !e.is_not_found() && !is_namespace_terminating(&e) => {
                Err(e.into())
            }
            _ => Ok(Outcome::DONE),
        }
    }
}
