//! Every namespace has a ConfigMap with the certificate by which pods know the API server.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::deployment::is_namespace_terminating;
use super::machinery::labels::Labels;
use super::machinery::meta::is_deleting;
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// Name of the ConfigMap.
pub const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

/// The controller.
pub struct RootCaController {
    /// The certificates, as PEM.
    pub pem: String,
}

impl Reconciler for RootCaController {
    const NAME: &'static str = "root_ca_cert_publisher";
    const ACCOUNT: &'static str = "root-ca-cert-publisher";
    const RESOURCE: &'static str = "namespaces";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Namespace>(),
            mapped::<ConfigMap>(|change, _| {
                let ours = &*change.stored.meta.name == NAME;
                if ours { vec![Key::new("", &change.stored.meta.namespace)] } else { Vec::new() }
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = cx.cache.get::<Namespace>("", &key.name) else { return Ok(Outcome::DONE) };
        if is_deleting(&namespace.metadata) {
            return Ok(Outcome::DONE);
        }
        let data = Labels::from([("ca.crt".to_owned(), self.pem.clone())]);
        let result = match cx.cache.get::<ConfigMap>(&key.name, NAME) {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.to_owned()),
                        namespace: Some(key.name.to_string()),
                        annotations: Some(Labels::from([(DESCRIPTION.to_owned(), TEXT.to_owned())])),
                        ..ObjectMeta::default()
                    },
                    data: Some(data),
                    ..ConfigMap::default()
                };
                cx.client.create(&map).await
            }
            Some(current) => {
                let annotations = current.metadata.annotations.as_ref();
                let described = annotations.and_then(|a| a.get(DESCRIPTION)).is_some_and(|v| v == TEXT);
                if current.data.as_ref() == Some(&data) && described {
                    return Ok(Outcome::DONE);
                }
                let mut map = (*current).clone();
                map.data = Some(data);
                map.metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(DESCRIPTION.to_owned(), TEXT.to_owned());
                cx.client.update(&map).await
            }
        };
        match result {
            Err(e) if !e.is_not_found() && !e.is_already_exists() && !is_namespace_terminating(&e) => {
                Err(e.into())
            }
            _ => Ok(Outcome::DONE),
        }
    }
}
