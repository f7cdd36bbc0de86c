//! The Secrets that the actor follows: one watch each, as a node may read only those that Ingresses name.

use std::collections::BTreeMap;

use actors::actix::SpawnHandle;
use actors::{AsyncContext, Context, message};
use k8s_openapi::api::core::v1::Secret;
use protocol::Client;

use super::actor::IngressActor;
use super::certificates::SECRETS_MAX;
use super::claims::Key;
use crate::follow::{Followed, follow_one};

/// Something about a Secret.
pub struct SecretTold {
    /// Which.
    pub secret: Key,
    /// What.
    pub told: Followed<Secret>,
}
message!(SecretTold => (), |m| Some(format!("secrets/{}", m.secret).into()));

/// The watches.
#[derive(Default)]
pub struct Watched(BTreeMap<Key, SpawnHandle>);

impl Watched {
    /// Whether a Secret is watched.
    pub fn has(&self, secret: &Key) -> bool {
        self.0.contains_key(secret)
    }

    /// Watches a Secret, unless it is watched; `false` where there are too many.
    pub fn begin(&mut self, secret: &Key, client: &Client, ctx: &mut Context<IngressActor>) -> bool {
        if self.has(secret) {
            return true;
        }
        let Some((namespace, name)) = secret.split_once('/') else { return false };
        if self.0.len() >= SECRETS_MAX {
            return false;
        }
        let (me, of) = (ctx.me(), secret.clone());
        let watch = follow_one(client.clone(), namespace.to_owned(), name.to_owned(), move |told| {
            let (me, secret) = (me.clone(), of.clone());
            async move { me.tell(SecretTold { secret, told }).await.is_ok() }
        });
        self.0.insert(secret.clone(), ctx.run(watch, |_, (), _| {}));
        true
    }

    /// Watches a Secret no longer; whether there was no room for others before.
    pub fn end(&mut self, secret: &Key, ctx: &mut Context<IngressActor>) -> bool {
        let full = self.0.len() >= SECRETS_MAX;
        let watch = self.0.remove(secret);
        watch.is_some_and(|watch| ctx.cancel_future(watch)) && full
    }
}
