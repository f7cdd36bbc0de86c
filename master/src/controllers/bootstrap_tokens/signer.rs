//! Signs `kube-public/cluster-info` with every bootstrap token that may: who joins with a token knows by it that
//! the certificate found there is the cluster's.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use sha2::Sha256;

use super::{NAMESPACE, TYPE, data, expires, is_token};
use crate::controllers::machinery::meta::{is_deleting, until};
use crate::controllers::machinery::watches::mapped;
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

const PUBLIC: &str = "kube-public";
const INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const PREFIX: &str = "jws-kubeconfig-";

/// The controller.
pub struct BootstrapSigner;

impl Reconciler for BootstrapSigner {
    const NAME: &'static str = "bootstrap_signer_queue";
    const ACCOUNT: &'static str = "bootstrap-signer";
    const RESOURCE: &'static str = "configmaps";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        let info = || vec![Key::new(PUBLIC, INFO)];
        vec![
            mapped::<ConfigMap>(move |change, _| {
                let ours = &*change.stored.meta.namespace == PUBLIC && &*change.stored.meta.name == INFO;
                if ours { info() } else { Vec::new() }
            }),
            mapped::<Secret>(move |change, _| if is_token(change) { info() } else { Vec::new() }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(info) = cx.cache.get::<ConfigMap>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        let content = info.data.clone().unwrap_or_default();
        let Some(kubeconfig) = content.get(KUBECONFIG) else { return Ok(Outcome::DONE) };
        let snapshot = cx.cache.snapshot();
        let secrets: Vec<_> = snapshot
            .list("", "secrets", NAMESPACE)
            .filter(|s| s.meta.field("type") == TYPE)
            .filter_map(|s| s.typed::<Secret>().ok())
            .filter(|s| !is_deleting(&s.metadata))
            .collect();
        let signing: Vec<&Secret> = secrets.iter().map(AsRef::as_ref).filter(|s| signs(s, cx.now)).collect();
        let ends = signing.iter().filter_map(|s| expires(s).ok().flatten()).min();

        let mut wanted: BTreeMap<String, String> = content
            .iter()
            .filter(|(k, _)| !k.starts_with(PREFIX))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for token in signing {
            let (id, secret) = (data(token, "token-id"), data(token, "token-secret"));
            if let Some(signature) = signature(kubeconfig, &id, &secret) {
                wanted.insert(format!("{PREFIX}{id}"), signature);
            }
        }
        if wanted != content {
            let mut copy = (*info).clone();
            copy.data = Some(wanted);
            cx.client.update(&copy).await?;
        }
        Ok(Outcome::again(ends.map(|at| until(cx.now, at))))
    }
}

/// Whether a token may sign now.
fn signs(secret: &Secret, now: Timestamp) -> bool {
    let (id, key) = (data(secret, "token-id"), data(secret, "token-secret"));
    let named = secret.metadata.name.as_deref() == Some(&*format!("bootstrap-token-{id}"));
    named
        && id.len() == 6
        && key.len() == 16
        && data(secret, "usage-bootstrap-signing") == "true"
        && expires(secret).is_ok_and(|at| at.is_none_or(|at| at > now))
}

/// The detached signature (JWS, HS256) of a text by a token.
fn signature(text: &str, id: &str, secret: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let payload = URL_SAFE_NO_PAD.encode(text);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(format!("{header}.{payload}").as_bytes());
    Some(format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn signatures_are_detached_and_depend_on_token_and_text() {
        let one = signature("content", "abcdef", "0123456789abcdef").unwrap();
        assert!(one.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."), "{one}");
        assert_ne!(signature("other", "abcdef", "0123456789abcdef").unwrap(), one);
        assert_ne!(signature("content", "abcdef", "fedcba9876543210").unwrap(), one);
    }

    #[test]
    fn only_tokens_for_signing_sign_and_only_in_time() {
        let token = |usage: &str, expiration: &str| -> Secret {
            let mut secret: Secret =
                serde_json::from_value(json!({"metadata": {"name": "bootstrap-token-abcdef"}})).unwrap();
            let pairs = [
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-signing", usage),
                ("expiration", expiration),
            ];
            let bytes = |v: &str| k8s_openapi::ByteString(v.as_bytes().to_vec());
            secret.data = Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), bytes(v))).collect());
            secret
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        assert!(signs(&token("true", ""), now));
        assert!(signs(&token("true", "2026-01-01T00:00:01Z"), now));
        assert!(!signs(&token("true", "2025-12-31T23:59:59Z"), now));
        assert!(!signs(&token("true", "soon"), now));
        assert!(!signs(&token("false", ""), now));
    }
}
