//! The node's link to its master: one outgoing connection, kept up.
//!
//! [`LinkActor`] dials, redials with a growing pause, and serves what the master asks over the link
//! (streams into pods, trace records). [`LinkApi`] is the door that everything else on the node uses; its
//! calls wait for a connection up to a deadline.

pub mod connector;
pub mod join;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use actors::link::Peer;
use actors::{Actor, ActorRef, AsyncContext, Context, Props, RestartPolicy, Stage, random};
use async_trait::async_trait;
use futures::stream;
use protocol::link::{RenewRequest, decode, encode, tag, unreachable};
use protocol::streams::NodeStreams;
use protocol::{Api, ApiError, ApiRequest, ApiResponse, WatchEvent, WatchStream};
use tokio::sync::watch;

pub use connector::{Connector, InMemory, Tls};

/// How long a call waits for the link and the answer together.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// First pause before dialling again.
const REDIAL_MIN: Duration = Duration::from_millis(100);
/// Longest pause before dialling again.
const REDIAL_MAX: Duration = Duration::from_secs(10);

/// Keeps the link up.
struct LinkActor {
    connector: Arc<dyn Connector>,
    service: Arc<serve::Service>,
    current: watch::Sender<Option<Peer>>,
    pause: Duration,
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.dial(ctx);
    }
}

impl Drop for LinkActor {
    fn drop(&mut self) {
        self.current.send_replace(None);
    }
}

impl LinkActor {
    fn dial(&mut self, ctx: &mut Context<Self>) {
        let (connector, service, current) =
            (self.connector.clone(), self.service.clone(), self.current.clone());
        let work = async move {
            let io = connector.connect().await?;
            let name = connector.name();
            let (peer, serving) = actors::link::connect(io, name, service, tag::name).await?;
            tracing::info!(master = name, "connected to the master");
            current.send_replace(Some(peer));
            let ended = serving.await;
            current.send_replace(None);
            Ok::<_, connector::ConnectError>(ended)
        };
        ctx.run(work, |actor, result, ctx| {
            match result {
                Ok(ended) => {
                    tracing::warn!(reason = %ended, "the link to the master ended; pods go on, dialling again");
                    actor.pause = REDIAL_MIN;
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot connect to the master; trying again");
                    actor.pause = (actor.pause * 2).min(REDIAL_MAX);
                }
            }
            ctx.run_later(actor.pause.mul_f64(random::jitter(0.3)), Self::dial);
        });
    }
}

/// The node's door to the API.
#[derive(Clone)]
pub struct LinkApi {
    current: watch::Receiver<Option<Peer>>,
}

impl LinkApi {
    /// The connected peer, waiting for one until the deadline.
    async fn peer(&self, deadline: Duration) -> Result<Peer, ApiError> {
        let mut current = self.current.clone();
        let waiting = current.wait_for(|peer| peer.as_ref().is_some_and(|p| !p.is_closed()));
        match tokio::time::timeout(deadline, waiting).await {
            Ok(Ok(peer)) => {
                peer.clone().ok_or_else(|| ApiError::Unreachable("no link to the master".to_owned()))
            }
            Ok(Err(_)) => Err(ApiError::Unreachable("the link's actor has ended".to_owned())),
            Err(_) => Err(ApiError::Unreachable("no link to the master".to_owned())),
        }
    }

    /// Has the master sign a request for this node's certificate; answers the certificate.
    pub async fn renew(&self, csr_pem: String) -> Result<String, ApiError> {
        let peer = self.peer(CALL_TIMEOUT).await?;
        let payload = encode(&RenewRequest { csr_pem }).map_err(malformed)?;
        let answer = peer.ask(tag::RENEW, payload, CALL_TIMEOUT).await;
        let answer = answer.map_err(|e| unreachable("the master", e))?;
        decode::<Result<String, ApiError>>(&answer).map_err(malformed)?
    }

    /// Waits until the link is up.
    pub async fn connected(&self) -> Result<(), ApiError> {
        self.peer(Duration::MAX).await.map(drop)
    }
}

fn malformed(e: impl std::fmt::Display) -> ApiError {
    ApiError::Malformed(e.to_string())
}

#[async_trait]
impl Api for LinkApi {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let until = actors::time::Instant::now() + CALL_TIMEOUT;
        let peer = self.peer(CALL_TIMEOUT).await?;
        let payload = encode(&request).map_err(malformed)?;
        let left = until.saturating_duration_since(actors::time::Instant::now());
        let answer = peer.ask(tag::CALL, payload, left).await.map_err(|e| unreachable("the master", e))?;
        decode::<Result<ApiResponse, ApiError>>(&answer).map_err(malformed)?
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
        let peer = self.peer(CALL_TIMEOUT).await?;
        let payload = encode(&request).map_err(malformed)?;
        let mut stream = peer.open(tag::WATCH, payload).await.map_err(|e| unreachable("the master", e))?;
        let first = tokio::time::timeout(CALL_TIMEOUT, stream.receive()).await;
        let first = first
            .ok()
            .flatten()
            .ok_or_else(|| ApiError::Unreachable("the watch did not begin".to_owned()))?;
        decode::<Result<(), ApiError>>(&first).map_err(malformed)??;
        Ok(Box::pin(stream::unfold(stream, |mut stream| async move {
            let item = stream.receive().await?;
            match decode::<WatchEvent>(&item) {
                Ok(mut event) => {
                    // The hop over the link: what the node does about the change hangs below it.
                    event.trace = actors::trace::note(event.trace, "node/link", event.kind.as_str(), None);
                    Some((event, stream))
                }
                Err(e) => {
                    tracing::error!(error = %e, "a watch event from the master is not understood; the watch ends");
                    None
                }
            }
        })))
    }
}

/// Starts the link. `streams` serves exec, attach, port-forward and logs that the master passes on.
pub fn start(
    stage: &Stage,
    connector: Arc<dyn Connector>,
    streams: Arc<dyn NodeStreams>,
) -> (LinkApi, LinkHandle) {
    let (current, watched) = watch::channel(None);
    let service = Arc::new(serve::Service::new(stage.clone(), streams));
    let props = Props::new("node/link", move || LinkActor {
        connector: connector.clone(),
        service: service.clone(),
        current: current.clone(),
        pause: REDIAL_MIN,
    });
    let actor = stage.spawn(props.restart(RestartPolicy::Permanent));
    (LinkApi { current: watched }, LinkHandle { actor })
}

/// Holds the link's actor.
#[derive(Clone)]
pub struct LinkHandle {
    actor: ActorRef<LinkActor>,
}

impl LinkHandle {
    /// Ends the link.
    pub fn stop(&self) {
        self.actor.stop();
    }
}
