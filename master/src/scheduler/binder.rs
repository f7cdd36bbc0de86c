//! The pool that writes decisions: each worker binds one pod at a time, so that a slow API does not hold the
//! next decisions up.

use std::sync::Arc;

use actors::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, WrapFuture, message};
use k8s_openapi::api::core::v1::Pod;
use protocol::{ApiError, Client};
use serde_json::json;

/// Bind a pod to a node.
pub struct Bind {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a successor of the same name must not be bound.
    pub uid: Arc<str>,
    /// The node.
    pub node: Arc<str>,
}
message!(Bind => Result<(), ApiError>, |m| Some(format!("pods/{}/{}", m.namespace, m.name).into()));

/// A worker of the pool.
pub struct Binder {
    /// Writes under the scheduler's identity.
    pub client: Client,
}

impl Actor for Binder {
    type Context = Context<Self>;
}

impl Handler<Bind> for Binder {
    type Result = AtomicResponse<Self, Result<(), ApiError>>;

    fn handle(&mut self, m: Bind, _: &mut Context<Self>) -> Self::Result {
        let client = self.client.clone();
        let bind = async move {
            let body = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"namespace": m.namespace, "name": m.name, "uid": &*m.uid},
                "target": {"kind": "Node", "name": &*m.node},
            });
            client.create_subresource::<Pod>(&m.namespace, &m.name, "binding", &body).await.map(drop)
        };
        AtomicResponse::new(Box::pin(bind.into_actor(self).map(|result, _, _| result)))
    }
}
