//! Deletes bootstrap tokens whose time is over.

use k8s_openapi::api::core::v1::Secret;

use super::{TYPE, expires, is_token};
use crate::controllers::machinery::meta::{uid, until};
use crate::controllers::machinery::watches::{key_of, mapped};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct TokenCleaner;

impl Reconciler for TokenCleaner {
    const NAME: &'static str = "token_cleaner";
    const ACCOUNT: &'static str = "token-cleaner";
    const RESOURCE: &'static str = "secrets";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<Secret>(
            |change, _| if is_token(change) { vec![key_of(&change.stored)] } else { Vec::new() },
        )]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(secret) = cx.cache.get::<Secret>(&key.namespace, &key.name) else {
            return Ok(Outcome::DONE);
        };
        if secret.type_.as_deref() != Some(TYPE) {
            return Ok(Outcome::DONE);
        }
        let left = match expires(&secret) {
            Ok(None) => return Ok(Outcome::DONE),
            Ok(Some(at)) => until(cx.now, at),
            Err(_) => std::time::Duration::ZERO,
        };
        if !left.is_zero() {
            return Ok(Outcome::again(left));
        }
        let id = Some(uid(&secret.metadata));
        match cx.client.delete::<Secret>(&key.namespace, &key.name, id, None).await {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}
