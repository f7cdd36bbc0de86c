//! The connected nodes, and streams into them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::link::{LinkStream, Peer};
use actors::trace::Record;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use protocol::ApiError;
use protocol::link::{ProcessActors, TraceQuery, decode, encode, tag, unreachable};
use protocol::streams::{
    AttachRequest, DialRequest, ExecRequest, Frame, FrameStream, LogBytes, LogRequest, NodeStreams,
    PortForwardRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a node may take to open a stream, or to answer a question.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);

/// The nodes that are connected now. Cheap to clone.
#[derive(Clone, Default)]
pub struct Nodes {
    peers: Arc<Mutex<BTreeMap<String, Peer>>>,
}

impl Nodes {
    /// A node has connected: an older connection of the same node is ended.
    pub(super) fn insert(&self, node: &str, peer: Peer) {
        if let Some(older) = self.peers.lock().insert(node.to_owned(), peer) {
            older.close();
        }
    }

    /// A connection has ended; a newer one of the same node stays.
    pub(super) fn remove_closed(&self, node: &str) {
        let mut peers = self.peers.lock();
        if peers.get(node).is_some_and(Peer::is_closed) {
            peers.remove(node);
        }
    }

    /// The names of the connected nodes.
    pub fn connected(&self) -> Vec<String> {
        self.peers.lock().keys().cloned().collect()
    }

    /// Whether a node has made a link that is still up, as far as is known.
    pub fn is_connected(&self, node: &str) -> bool {
        self.peers.lock().contains_key(node)
    }

    fn peer(&self, node: &str) -> Result<Peer, ApiError> {
        let peer = self.peers.lock().get(node).cloned();
        peer.ok_or_else(|| ApiError::internal(format!("node \"{node}\" is not connected to this master")))
    }

    async fn open(&self, node: &str, asked: u16, request: &impl Serialize) -> Result<LinkStream, ApiError> {
        let payload = encode(request).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let failed = |e| unreachable(&format!("node \"{node}\""), e);
        let mut stream = self.peer(node)?.open(asked, payload).await.map_err(failed)?;
        let first = tokio::time::timeout(NODE_TIMEOUT, stream.receive()).await.ok().flatten();
        let first =
            first.ok_or_else(|| ApiError::internal(format!("node \"{node}\" did not open the stream")))?;
        decode::<Result<(), ApiError>>(&first).map_err(ApiError::internal)??;
        Ok(stream)
    }

    async fn frames(
        &self,
        node: &str,
        asked: u16,
        request: &impl Serialize,
    ) -> Result<FrameStream, ApiError> {
        let stream = self.open(node, asked, request).await?;
        let (client, FrameStream { input, mut output }) = FrameStream::pair();
        let (mut sender, mut receiver) = stream.split();
        tokio::spawn(async move {
            let watched = input.clone();
            let outward = async {
                while let Some(frame) = output.recv().await {
                    let Ok(item) = encode(&frame) else { return };
                    if sender.send(item).await.is_err() {
                        return;
                    }
                }
                // The client has nothing more to say, which is no reason not to hear the node out.
                sender.finish().await;
                std::future::pending::<()>().await;
            };
            let inward = async {
                while let Some(item) = receiver.receive().await {
                    let Ok(frame) = decode::<Frame>(&item) else { return };
                    if input.send(frame).await.is_err() {
                        return;
                    }
                }
            };
            // The node has ended the stream, or is lost, or the client has dropped its end.
            tokio::select! {
                () = outward => {}
                () = inward => {}
                () = watched.closed() => {}
            }
        });
        Ok(client)
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        node: &str,
        asked: u16,
        question: &impl Serialize,
    ) -> Result<A, ApiError> {
        let payload = encode(question).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let answer = self.peer(node)?.ask(asked, payload, NODE_TIMEOUT).await;
        decode(&answer.map_err(|e| unreachable(&format!("node \"{node}\""), e))?).map_err(ApiError::internal)
    }

    /// Asks every connected node the same; those that do not answer are named in the log and left out.
    async fn ask_all<A: DeserializeOwned>(&self, asked: u16, question: &impl Serialize) -> Vec<(String, A)> {
        let asks = self.connected().into_iter().map(|node| async move {
            match self.ask::<A>(&node, asked, question).await {
                Ok(answer) => Some((node, answer)),
                Err(e) => {
                    tracing::warn!(node, error = %e, "the node did not answer");
                    None
                }
            }
        });
        futures::future::join_all(asks).await.into_iter().flatten().collect()
    }

    /// Trace records of all nodes.
    pub async fn records(&self, query: &TraceQuery) -> Vec<(String, Vec<Record>)> {
        self.ask_all(tag::RECORDS, query).await
    }

    /// The live actors of all nodes.
    pub async fn actors(&self) -> Vec<ProcessActors> {
        let answers = self.ask_all(tag::ACTORS, &()).await;
        answers
            .into_iter()
            .map(|(node, actors)| ProcessActors { process: format!("node/{node}"), actors })
            .collect()
    }

    /// Makes an actor on a node panic.
    pub async fn inject_panic(&self, node: &str, path: &str) -> Result<bool, ApiError> {
        self.ask(node, tag::PANIC, &path).await
    }
}

#[async_trait]
impl NodeStreams for Nodes {
    async fn exec(&self, node: &str, request: ExecRequest) -> Result<FrameStream, ApiError> {
        self.frames(node, tag::EXEC, &request).await
    }

    async fn attach(&self, node: &str, request: AttachRequest) -> Result<FrameStream, ApiError> {
        self.frames(node, tag::ATTACH, &request).await
    }

    async fn port_forward(&self, node: &str, request: PortForwardRequest) -> Result<FrameStream, ApiError> {
        self.frames(node, tag::PORT_FORWARD, &request).await
    }

    async fn dial(&self, node: &str, request: DialRequest) -> Result<FrameStream, ApiError> {
        self.frames(node, tag::DIAL, &request).await
    }

    async fn logs(&self, node: &str, request: LogRequest) -> Result<LogBytes, ApiError> {
        let stream = self.open(node, tag::LOGS, &request).await?;
        Ok(stream::unfold(stream, |mut stream| async move {
            let item = stream.receive().await?;
            let piece =
                decode::<Result<Bytes, ApiError>>(&item).unwrap_or_else(|e| Err(ApiError::internal(e)));
            Some((piece, stream))
        })
        .boxed())
    }
}
