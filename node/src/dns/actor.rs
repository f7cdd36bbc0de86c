//! The actor: owns the sockets and the watches, and is the only writer of the table.

use std::net::SocketAddr;
use std::sync::Arc;

use actors::{Actor, Context, Handler, message};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use protocol::client::Client;
use tokio::sync::watch;

use super::DnsError;
use super::respond::Responder;
use super::server::Sockets;
use super::table::{Change, Kind, Table, Watched};
use crate::follow::{Followed, follow};
use crate::network::loopback::{self, Label};

/// The plural name of a kind, as traces spell it.
fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::Slice => "endpointslices",
        Kind::Pod => "pods",
        Kind::Namespace => "namespaces",
    }
}

/// All objects of a kind, as a list told.
pub(super) struct Listed {
    pub(super) kind: Kind,
    pub(super) changes: Vec<Change>,
}
message!(Listed => (), |m| Some(plural(m.kind).into()));

/// One object changed.
pub(super) struct Changed {
    pub(super) kind: Kind,
    pub(super) change: Change,
}
message!(Changed => (), |m| Some(match m.change.namespace.as_str() {
    "" => format!("{}/{}", plural(m.kind), m.change.name).into(),
    namespace => format!("{}/{namespace}/{}", plural(m.kind), m.change.name).into(),
}));

/// Where the sockets are bound; `None` before they are.
pub(super) type Bound = Option<Result<SocketAddr, Arc<DnsError>>>;

/// What every life of the actor has in common.
pub(super) struct Shared {
    pub(super) listen: SocketAddr,
    pub(super) verify_pods: bool,
    pub(super) client: Client,
    pub(super) responder: Arc<Responder>,
    pub(super) table: Arc<RwLock<Table>>,
    pub(super) bound: watch::Sender<Bound>,
}

/// The DNS of a node.
pub struct Dns {
    shared: Arc<Shared>,
}

impl Dns {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Dns { shared }
    }

    fn follow<K: Watched>(&self, ctx: &mut Context<Self>) {
        let me = ctx.me();
        let following = follow::<K, _>(self.shared.client.clone(), None, move |told| {
            let me = me.clone();
            async move {
                let told = match told {
                    Followed::Listed(all) => {
                        let changes = all.iter().map(|object| object.change(false)).collect();
                        me.tell(Listed { kind: K::PART, changes }).await
                    }
                    Followed::Changed(object) => {
                        me.tell(Changed { kind: K::PART, change: object.change(false) }).await
                    }
                    Followed::Gone(object) => {
                        me.tell(Changed { kind: K::PART, change: object.change(true) }).await
                    }
                };
                told.is_ok()
            }
        });
        ctx.run(following, |_, (), _| {});
    }
}

impl Actor for Dns {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        let serving = async move {
            // After a restart: on the port that was had before, even if the kernel chose it.
            let listen = match &*shared.bound.borrow() {
                Some(Ok(address)) => *address,
                _ => shared.listen,
            };
            let bound = async {
                loopback::ensure(listen.ip(), Label::DNS).await?;
                let failed = |source| DnsError::Bind { address: listen, source };
                let sockets = Sockets::bind(listen).await.map_err(failed)?;
                let at = sockets.address().map_err(failed)?;
                Ok((sockets, at))
            };
            match bound.await {
                Ok((sockets, at)) => {
                    tracing::info!(address = %at, "DNS answers");
                    shared.bound.send_replace(Some(Ok(at)));
                    sockets.serve(shared.responder.clone()).await;
                    "its sockets ended".to_owned()
                }
                Err(error) => {
                    let why = DnsError::to_string(&error);
                    // Keep a known address: the next life binds it again.
                    shared.bound.send_if_modified(|bound| match bound {
                        Some(Ok(_)) => false,
                        _ => {
                            *bound = Some(Err(Arc::new(error)));
                            true
                        }
                    });
                    why
                }
            }
        };
        ctx.run(serving, |_, why, ctx| ctx.fail(why));
        self.follow::<Namespace>(ctx);
        self.follow::<Service>(ctx);
        self.follow::<EndpointSlice>(ctx);
        if self.shared.verify_pods {
            self.follow::<Pod>(ctx);
        }
    }
}

impl Handler<Listed> for Dns {
    type Result = ();
    fn handle(&mut self, message: Listed, _: &mut Context<Self>) {
        self.shared.table.write().replace(message.kind, message.changes);
    }
}

impl Handler<Changed> for Dns {
    type Result = ();
    fn handle(&mut self, message: Changed, _: &mut Context<Self>) {
        self.shared.table.write().apply(message.change);
    }
}
