//! What the node does for its master over the link.

use std::sync::Arc;

use actors::link::{LinkStream, Serve};
use actors::{AskError, Stage};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use protocol::ApiError;
use protocol::link::{TraceQuery, decode, encode, tag};
use protocol::streams::{Frame, FrameStream, NodeStreams};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) struct Service {
    stage: Stage,
    streams: Arc<dyn NodeStreams>,
}

impl Service {
    pub(super) fn new(stage: Stage, streams: Arc<dyn NodeStreams>) -> Self {
        Service { stage, streams }
    }
}

fn answer<T: Serialize>(value: &T) -> Result<Bytes, AskError> {
    encode(value).map_err(|e| {
        tracing::error!(error = %e, "an answer to the master could not be encoded");
        AskError::Closed
    })
}

fn question<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ApiError> {
    decode(payload).map_err(|e| ApiError::Malformed(e.to_string()))
}

#[async_trait]
impl Serve for Service {
    async fn ask(&self, asked: u16, payload: Bytes) -> Result<Bytes, AskError> {
        match asked {
            tag::RECORDS => match decode::<TraceQuery>(&payload) {
                Ok(query) => answer(&query.answer()),
                Err(_) => Err(AskError::Closed),
            },
            tag::ACTORS => answer(&self.stage.actors()),
            tag::PANIC => match decode::<String>(&payload) {
                Ok(path) => answer(&self.stage.inject_panic(&path)),
                Err(_) => Err(AskError::Closed),
            },
            _ => Err(AskError::Closed),
        }
    }

    async fn stream(&self, asked: u16, payload: Bytes, stream: LinkStream) {
        let open = async {
            let node = "";
            match asked {
                tag::EXEC => self.streams.exec(node, question(&payload)?).await,
                tag::ATTACH => self.streams.attach(node, question(&payload)?).await,
                tag::PORT_FORWARD => self.streams.port_forward(node, question(&payload)?).await,
                tag::DIAL => self.streams.dial(node, question(&payload)?).await,
                _ => Err(ApiError::Malformed(format!("stream {asked} is unknown"))),
            }
        };
        if asked == tag::LOGS {
            self.logs(&payload, stream).await;
            return;
        }
        let opened = open.await;
        let verdict = opened.as_ref().map(|_| ()).map_err(Clone::clone);
        let Ok(first) = answer(&verdict) else { return };
        if stream.send(first).await.is_err() {
            return;
        }
        if let Ok(frames) = opened {
            carry(stream, frames).await;
        }
    }

    fn tag_name(&self, asked: u16) -> &'static str {
        tag::name(asked)
    }
}

impl Service {
    /// The first item is the verdict; then `Result<Bytes, ApiError>` pieces of text.
    async fn logs(&self, payload: &[u8], mut stream: LinkStream) {
        let opened = match question(payload) {
            Ok(request) => self.streams.logs("", request).await,
            Err(e) => Err(e),
        };
        let verdict = opened.as_ref().map(|_| ()).map_err(Clone::clone);
        let Ok(first) = answer(&verdict) else { return };
        if stream.send(first).await.is_err() {
            return;
        }
        let Ok(mut text) = opened else { return };
        loop {
            tokio::select! {
                piece = text.next() => {
                    let Some(piece) = piece else { break };
                    let Ok(item) = answer(&piece) else { break };
                    if stream.send(item).await.is_err() {
                        return;
                    }
                }
                // The reader sends nothing: an item, or the end, means that it has gone.
                _ = stream.receive() => return,
            }
        }
        stream.finish().await;
    }
}

/// Moves frames both ways until the process's side ends, or the client's side is gone.
async fn carry(stream: LinkStream, frames: FrameStream) {
    let FrameStream { input, mut output } = frames;
    let (mut sender, mut receiver) = stream.split();
    let outward = async {
        while let Some(frame) = output.recv().await {
            let Ok(item) = answer(&frame) else { return };
            if sender.send(item).await.is_err() {
                return;
            }
        }
        sender.finish().await;
    };
    let inward = async {
        while let Some(item) = receiver.receive().await {
            let Ok(frame) = decode::<Frame>(&item) else { return };
            if input.send(frame).await.is_err() {
                break;
            }
        }
        // Whether the client has finished or gone, the process learns it by its input's end.
        drop(input);
    };
    // The end of the process's output ends the stream; the end of the client's input does not.
    let inward = async {
        inward.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}
