//! Secrets of type `kubernetes.io/service-account-token`: gives each its token, and deletes those whose account
//! is gone.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use protocol::Caller;

use super::machinery::meta::{is_deleting, uid};
use super::machinery::watches::{key_of, mapped};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::auth::tokens::TokenKeys;
use crate::auth::tokens::lasting::TYPE;
use crate::cache::{Cache, Change, ChangeKind, Stored};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// The controller.
pub struct TokenSecrets {
    /// What tokens are signed with.
    pub keys: Arc<TokenKeys>,
    /// The certificates that go with a token, as PEM.
    pub root_ca_pem: String,
}

/// What a Secret needs.
#[derive(Debug, PartialEq)]
enum Need {
    Nothing,
    /// Its account is gone, or another one.
    End,
    /// What is missing, filled in.
    Fill(Box<Secret>),
}

fn account_of(secret: &Secret) -> Option<&str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(ACCOUNT_NAME).map(String::as_str).filter(|name| !name.is_empty())
}

impl TokenSecrets {
    fn need(&self, secret: &Secret, account: Option<&ServiceAccount>) -> Result<Need, ReconcileError> {
        let meta = &secret.metadata;
        if secret.type_.as_deref() != Some(TYPE) || is_deleting(meta) {
            return Ok(Need::Nothing);
        }
        let Some(name) = account_of(secret) else { return Ok(Need::Nothing) };
        let said = meta.annotations.as_ref().and_then(|a| a.get(ACCOUNT_UID)).filter(|uid| !uid.is_empty());
        let account = account.map(|a| uid(&a.metadata));
        let Some(account) = account.filter(|uid| said.is_none_or(|said| said == uid)) else {
            return Ok(Need::End);
        };
        let mut filled = secret.clone();
        let (namespace, own) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        filled
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(ACCOUNT_UID.to_owned(), account.to_owned());
        let data = filled.data.get_or_insert_default();
        data.insert("ca.crt".to_owned(), ByteString(self.root_ca_pem.clone().into_bytes()));
        data.entry("namespace".to_owned()).or_insert_with(|| ByteString(namespace.as_bytes().to_vec()));
        if data.get("token").is_none_or(|token| token.0.is_empty()) {
            let token = self
                .keys
                .mint_lasting(namespace, own, name, account)
                .map_err(|e| ReconcileError::Other(e.to_string()))?;
            data.insert("token".to_owned(), ByteString(token.into_bytes()));
        }
        Ok(if filled == *secret { Need::Nothing } else { Need::Fill(Box::new(filled)) })
    }
}

/// The Secrets that name a changed account.
fn naming(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.kind == ChangeKind::Modified {
        return Vec::new();
    }
    let meta = &change.stored.meta;
    let names = |stored: &&Arc<Stored>| {
        // Few Secrets are of this type; the others are not parsed for it.
        let secret = (stored.field("type") == TYPE).then(|| stored.typed::<Secret>().ok()).flatten();
        secret.is_some_and(|secret| account_of(&secret) == Some(&*meta.name))
    };
    cache.snapshot().list("", "secrets", &meta.namespace).filter(names).map(|s| key_of(s)).collect()
}

/// Takes a token that is gone out of the lists of the accounts that still name it.
async fn forget(cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
    for account in cx.cache.list::<ServiceAccount>(&key.namespace) {
        let Some(kept) = without(&account, &key.name) else { continue };
        match cx.client.update(&kept).await {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(Outcome::DONE)
}

/// An account that no longer names a Secret; `None` where it does not name it.
fn without(account: &ServiceAccount, secret: &str) -> Option<ServiceAccount> {
    let is_it = |r: &k8s_openapi::api::core::v1::ObjectReference| r.name.as_deref() == Some(secret);
    if is_deleting(&account.metadata) || !account.secrets.iter().flatten().any(is_it) {
        return None;
    }
    let mut copy = account.clone();
    if let Some(secrets) = &mut copy.secrets {
        secrets.retain(|r| !is_it(r));
    }
    copy.secrets = copy.secrets.filter(|all| !all.is_empty());
    Some(copy)
}

impl Reconciler for TokenSecrets {
    const NAME: &'static str = "serviceaccount_tokens";
    const ACCOUNT: &'static str = "tokens-controller";
    const RESOURCE: &'static str = "secrets";

    /// What signs tokens is no account: it would have to have a token first.
    fn caller() -> Caller {
        Caller::component("system:kube-controller-manager".to_owned(), &[])
    }

    fn watches(&self) -> Vec<Watch> {
        let tokens = |change: &Change, _: &Cache| {
            if change.stored.field("type") == TYPE { vec![key_of(&change.stored)] } else { Vec::new() }
        };
        vec![mapped::<Secret>(tokens), mapped::<ServiceAccount>(naming)]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(secret) = cx.cache.get::<Secret>(&key.namespace, &key.name) else {
            return forget(cx, key).await;
        };
        let account =
            account_of(&secret).and_then(|name| cx.cache.get::<ServiceAccount>(&key.namespace, name));
        let done = match self.need(&secret, account.as_deref())? {
            Need::Nothing => return Ok(Outcome::DONE),
            Need::End => {
                let id = Some(uid(&secret.metadata));
                cx.client.delete::<Secret>(&key.namespace, &key.name, id, None).await
            }
            Need::Fill(filled) => cx.client.update(&*filled).await.map(drop),
        };
        match done {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_gone_is_named_no_more() {
        let account: ServiceAccount = serde_json::from_value(
            json!({"metadata": {"name": "a"}, "secrets": [{"name": "x"}, {"name": "y"}]}),
        )
        .unwrap();
        let left = without(&account, "x").unwrap();
        assert_eq!(json!(left)["secrets"], json!([{"name": "y"}]));
        assert_eq!(json!(without(&left, "y").unwrap())["secrets"], json!(null));
        assert_eq!(without(&account, "z"), None);
    }

    #[test]
    fn a_secret_is_filled_for_its_account_and_ends_with_it() {
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let keys = Arc::new(TokenKeys::from_pem(&pem).expect("a key"));
        let controller = TokenSecrets { keys: keys.clone(), root_ca_pem: "PEM".to_owned() };
        let secret = |uid: &str| -> Secret {
            serde_json::from_value(json!({
                "type": TYPE,
                "metadata": {"name": "t", "namespace": "n", "annotations": {ACCOUNT_NAME: "a", ACCOUNT_UID: uid}},
            }))
            .expect("a secret")
        };
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}}))
                .expect("an account");
        assert_eq!(controller.need(&secret(""), None).expect("a decision"), Need::End);
        assert_eq!(controller.need(&secret("other"), Some(&account)).expect("a decision"), Need::End);
        let Need::Fill(filled) = controller.need(&secret(""), Some(&account)).expect("a decision") else {
            panic!("a new secret is filled")
        };
        let data = filled.data.as_ref().expect("data");
        let token = String::from_utf8(data["token"].0.clone()).expect("text");
        assert_eq!((&*data["ca.crt"].0, &*data["namespace"].0), (&b"PEM"[..], &b"n"[..]));
        let claims = keys.verify_lasting(&token).expect("a good token");
        assert_eq!((claims.account.as_str(), claims.uid.as_str(), claims.secret.as_str()), ("a", "u", "t"));
        assert!(keys.verify(&token, &[], std::time::SystemTime::now()).is_err());
        assert_eq!(controller.need(&filled, Some(&account)).expect("a decision"), Need::Nothing);
        let plain = Secret { type_: Some("Opaque".to_owned()), ..secret("") };
        assert_eq!(controller.need(&plain, None).expect("a decision"), Need::Nothing);
    }
}
