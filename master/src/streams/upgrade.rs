//! From an HTTP request to two streams of bytes: an upgraded connection, or a WebSocket that tunnels SPDY.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use bytes::Bytes;
use futures::{StreamExt, stream};
use protocol::ApiError;
use tokio::sync::mpsc;

use super::spdy::{self, Inbound};

/// Names the protocols that a SPDY client offers, and the one that the server chooses.
pub(super) const STREAM_PROTOCOL: &str = "X-Stream-Protocol-Version";

/// The first of the client's offers that is known; the first known one when it offers none.
pub(super) fn choose(http: &HttpRequest, known: &[&'static str]) -> Result<&'static str, ApiError> {
    let values = http.headers().get_all(STREAM_PROTOCOL).filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
    if offered.is_empty() {
        return known.last().copied().ok_or_else(|| ApiError::internal("no stream protocol"));
    }
    let chosen = offered.iter().find_map(|offer| known.iter().find(|k| *k == offer).copied());
    chosen.ok_or_else(|| {
        ApiError::new(
            403,
            "Forbidden",
            format!("unable to negotiate protocol: client supports {offered:?}, server supports {known:?}"),
        )
    })
}

/// Answers `101 Switching Protocols` and gives the bytes of both directions.
pub(super) fn raw(
    payload: web::Payload,
    protocol: &'static str,
) -> (HttpResponse, Inbound, mpsc::Sender<Bytes>) {
    let (outbound, written) = mpsc::channel(spdy::WRITES_WAITING_MAX);
    let response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS)
        .upgrade("SPDY/3.1")
        .insert_header((STREAM_PROTOCOL, protocol))
        .streaming(receiver(written).map(Ok::<_, actix_web::Error>));
    let inbound = payload.take_while(|piece| std::future::ready(piece.is_ok())).filter_map(async |p| p.ok());
    (response, inbound.boxed_local(), outbound)
}

/// The bytes that travel in a WebSocket's binary messages.
pub(super) fn tunnel(session: Session, messages: AggregatedMessageStream) -> (Inbound, mpsc::Sender<Bytes>) {
    let (outbound, mut written) = mpsc::channel::<Bytes>(spdy::WRITES_WAITING_MAX);
    let mut writing = session.clone();
    actors::spawn(async move {
        while let Some(bytes) = written.recv().await {
            if writing.binary(bytes).await.is_err() {
                return;
            }
        }
        let _ = writing.close(Some(CloseReason::from(CloseCode::Normal))).await;
    });
    let inbound = stream::unfold((session, messages), |(mut session, mut messages)| async move {
        loop {
            match messages.recv().await?.ok()? {
                AggregatedMessage::Binary(bytes) => return Some((bytes, (session, messages))),
                AggregatedMessage::Ping(data) => session.pong(&data).await.ok()?,
                AggregatedMessage::Close(_) => return None,
                AggregatedMessage::Text(_) | AggregatedMessage::Pong(_) => {}
            }
        }
    });
    (inbound.boxed_local(), outbound)
}

fn receiver(written: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Bytes> {
    stream::unfold(written, |mut written| async move { Some((written.recv().await?, written)) })
}
