//! Exec and attach over WebSocket: each message begins with the number of its channel.

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use protocol::ApiError;
use protocol::streams::{FRAME_BYTES_MAX, Frame, FrameStream, Stdio};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

/// The largest message from a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// From v5 on: the client closes the channel that the next byte names.
const CLOSE: u8 = 255;

/// How messages look: the subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialect {
    /// Payloads are base64 text, and channels are digits.
    base64: bool,
    /// 1 has plain text errors; 4 has a Status; 5 closes single channels.
    version: u8,
}

const DIALECTS: &[(&str, Dialect)] = &[
    ("v5.channel.k8s.io", Dialect { base64: false, version: 5 }),
    ("v4.channel.k8s.io", Dialect { base64: false, version: 4 }),
    ("v4.base64.channel.k8s.io", Dialect { base64: true, version: 4 }),
    ("channel.k8s.io", Dialect { base64: false, version: 1 }),
    ("base64.channel.k8s.io", Dialect { base64: true, version: 1 }),
];

/// The subprotocols that a client offers, in its order.
pub(super) fn offered(http: &HttpRequest) -> Vec<String> {
    let values = http.headers().get_all("sec-websocket-protocol");
    let lists = values.filter_map(|v| v.to_str().ok());
    lists.flat_map(|l| l.split(',')).map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

fn choose(offered: &[String]) -> Option<(&'static str, Dialect)> {
    let known = |offer: &String| DIALECTS.iter().find(|(name, _)| name == offer).copied();
    match offered {
        // A client that offers nothing gets the oldest dialect, and no header.
        [] => Some(("", Dialect { base64: false, version: 1 })),
        offered => offered.iter().find_map(known),
    }
}

/// What a client's message means.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Stdin(Bytes),
    CloseStdin,
    Resize { width: u16, height: u16 },
    Nothing,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", default)]
    width: u16,
    #[serde(rename = "Height", default)]
    height: u16,
}

/// A terminal's size in a client's words.
pub(super) fn size(json: &[u8]) -> Option<(u16, u16)> {
    let mut sizes = serde_json::Deserializer::from_slice(json).into_iter::<Size>();
    sizes.next()?.ok().map(|s| (s.width, s.height))
}

fn read(dialect: Dialect, message: Bytes) -> Input {
    let Some(&first) = message.first() else { return Input::Nothing };
    let mut data = message.slice(1..);
    let mut channel = first;
    if dialect.base64 {
        channel = first.wrapping_sub(b'0');
        data = match STANDARD.decode(&data) {
            Ok(data) => data.into(),
            Err(_) => return Input::Nothing,
        };
    }
    match channel {
        STDIN if data.is_empty() => Input::Nothing,
        STDIN => Input::Stdin(data),
        RESIZE => match size(&data) {
            Some((width, height)) => Input::Resize { width, height },
            None => Input::Nothing,
        },
        CLOSE if dialect.version >= 5 && data.first() == Some(&STDIN) => Input::CloseStdin,
        _ => Input::Nothing,
    }
}

/// What the client reads at the end: a Status, or in the oldest dialect the text of a failure.
pub(super) fn ending(with_status: bool, status: Bytes) -> Option<Bytes> {
    if with_status {
        return Some(status);
    }
    let status: Value = serde_json::from_slice(&status).unwrap_or(Value::Null);
    let failed = status["status"] != "Success";
    failed.then(|| Bytes::from(status["message"].as_str().unwrap_or_default().to_owned()))
}

fn write(dialect: Dialect, frame: Frame) -> Option<(u8, Bytes)> {
    match frame {
        Frame::Stdout(data) => Some((STDOUT, data)),
        Frame::Stderr(data) => Some((STDERR, data)),
        Frame::Error(status) => Some((ERROR, ending(dialect.version >= 4, status)?)),
        _ => None,
    }
}

async fn send(
    session: &mut Session,
    dialect: Dialect,
    channel: u8,
    data: &[u8],
) -> Result<(), actix_ws::Closed> {
    if dialect.base64 {
        return session.text(format!("{channel}{}", STANDARD.encode(data))).await;
    }
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(data);
    session.binary(message).await
}

/// Opens the WebSocket and carries frames until either side ends.
pub(super) fn serve(
    http: &HttpRequest,
    payload: web::Payload,
    stdio: Stdio,
    frames: FrameStream,
) -> Result<HttpResponse, ApiError> {
    let offered = offered(http);
    let (name, dialect) = choose(&offered).ok_or_else(|| no_common_protocol(&offered))?;
    let (response, session, messages) = open(http, payload, name)?;
    actors::spawn(carry(session, messages, dialect, stdio, frames));
    Ok(response)
}

/// The answer to a WebSocket handshake, and both directions.
pub(super) fn open(
    http: &HttpRequest,
    payload: web::Payload,
    protocol: &str,
) -> Result<(HttpResponse, Session, AggregatedMessageStream), ApiError> {
    let (response, session, messages) = actix_ws::handle_with_protocols(http, payload, &[protocol])
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    let messages = messages
        .max_frame_size(MESSAGE_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(MESSAGE_BYTES_MAX);
    Ok((response, session, messages))
}

pub(super) fn no_common_protocol(offered: &[String]) -> ApiError {
    ApiError::bad_request(format!("unable to upgrade: none of the protocols {offered:?} is supported"))
}

async fn carry(
    session: Session,
    messages: AggregatedMessageStream,
    dialect: Dialect,
    stdio: Stdio,
    frames: FrameStream,
) {
    let FrameStream { input, output } = frames;
    // The client has gone (`inward` is done) or the node has ended: both end the stream.
    tokio::select! {
        () = inward(messages, session.clone(), dialect, stdio, input) => {}
        () = outward(output, session.clone(), dialect, stdio) => {}
    }
    let _ = session.close(Some(CloseReason::from(CloseCode::Normal))).await;
}

async fn inward(
    mut messages: AggregatedMessageStream,
    mut session: Session,
    dialect: Dialect,
    stdio: Stdio,
    input: mpsc::Sender<Frame>,
) {
    while let Some(Ok(message)) = messages.recv().await {
        let data = match message {
            AggregatedMessage::Binary(data) => data,
            AggregatedMessage::Text(text) => text.into_bytes(),
            AggregatedMessage::Ping(data) => {
                if session.pong(&data).await.is_err() {
                    return;
                }
                continue;
            }
            AggregatedMessage::Pong(_) => continue,
            AggregatedMessage::Close(_) => return,
        };
        let frame = match read(dialect, data) {
            Input::Stdin(data) if stdio.stdin => {
                if !send_pieces(&input, data).await {
                    // The process no longer reads; what it still writes matters.
                    std::future::pending::<()>().await;
                }
                continue;
            }
            Input::CloseStdin if stdio.stdin => Frame::CloseStdin,
            Input::Resize { width, height } if stdio.tty => Frame::Resize { width, height },
            _ => continue,
        };
        if input.send(frame).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Sends bytes to a node in frames of an allowed size; false when the node no longer takes any.
pub(super) async fn send_pieces(input: &mpsc::Sender<Frame>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        let piece = data.split_to(data.len().min(FRAME_BYTES_MAX));
        if input.send(Frame::Stdin(piece)).await.is_err() {
            return false;
        }
    }
    true
}

async fn outward(mut output: mpsc::Receiver<Frame>, mut session: Session, dialect: Dialect, stdio: Stdio) {
    // An empty message tells the client that the stream is up.
    let lowest = if stdio.stdout {
        STDOUT
    } else if stdio.stderr {
        STDERR
    } else {
        ERROR
    };
    if send(&mut session, dialect, lowest, &[]).await.is_err() {
        return;
    }
    let mut ended = false;
    while let Some(frame) = output.recv().await {
        ended |= matches!(frame, Frame::Error(_));
        let Some((channel, data)) = write(dialect, frame) else { continue };
        if send(&mut session, dialect, channel, &data).await.is_err() {
            return;
        }
    }
    if !ended {
        let status = protocol::streams::failure_status("the connection to the node was lost").to_string();
        if let Some((channel, data)) = write(dialect, Frame::Error(status.into())) {
            let _ = send(&mut session, dialect, channel, &data).await;
        }
    }
}

#[cfg(test)]
mod tests;
