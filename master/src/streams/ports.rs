//! Port-forwards over WebSocket channels: the n-th port has channel 2n for bytes and 2n+1 for errors, and
//! each channel begins with the port as two bytes, little-endian. One connection per port.

use std::rc::Rc;

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session};
use bytes::{BufMut, Bytes, BytesMut};
use protocol::ApiError;
use protocol::streams::{FRAMES_WAITING_MAX, Frame};
use tokio::sync::mpsc;

use super::forward::Ports;
use super::websocket::{no_common_protocol, offered, open, send_pieces};

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Channels are numbered by one byte, and 255 has a meaning of its own elsewhere.
const PORTS_MAX: usize = 64;

/// The ports that a request names: each value may be a list.
fn parse(values: &[String]) -> Result<Vec<u16>, ApiError> {
    let mut ports = Vec::new();
    for text in values.iter().flat_map(|v| v.split(',')).map(str::trim) {
        match text.parse() {
            Ok(port) if port > 0 => ports.push(port),
            _ => return Err(ApiError::bad_request(format!("invalid port {text:?}"))),
        }
    }
    match ports.len() {
        0 => Err(ApiError::bad_request("query parameter \"ports\" is required")),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(ApiError::bad_request(format!("at most {PORTS_MAX} ports can be forwarded at a time"))),
    }
}

/// Opens the WebSocket and carries bytes until the client leaves or all connections have ended.
pub(super) fn serve(
    http: &HttpRequest,
    payload: web::Payload,
    ports: Ports,
    asked: &[String],
) -> Result<HttpResponse, ApiError> {
    let asked = parse(asked)?;
    let offered = offered(http);
    if !offered.is_empty() && !offered.iter().any(|p| p == PROTOCOL) {
        return Err(no_common_protocol(&offered));
    }
    let (response, session, messages) = open(http, payload, PROTOCOL)?;
    actors::spawn(carry(session, messages, Rc::new(ports), asked));
    Ok(response)
}

async fn carry(session: Session, messages: AggregatedMessageStream, ports: Rc<Ports>, asked: Vec<u16>) {
    let mut inputs = Vec::new();
    let mut connections = Vec::new();
    for (at, port) in asked.into_iter().enumerate() {
        let (sender, sent) = mpsc::channel(FRAMES_WAITING_MAX);
        inputs.push(sender);
        let channel = u8::try_from(at * 2).unwrap_or(u8::MAX);
        connections.push(connection(session.clone(), channel, port, ports.clone(), sent));
    }
    tokio::select! {
        () = inward(messages, session.clone(), inputs) => {}
        _ = futures::future::join_all(connections) => {}
    }
    let _ = session.close(Some(CloseReason::from(CloseCode::Normal))).await;
}

async fn inward(
    mut messages: AggregatedMessageStream,
    mut session: Session,
    inputs: Vec<mpsc::Sender<Bytes>>,
) {
    while let Some(Ok(message)) = messages.recv().await {
        match message {
            AggregatedMessage::Binary(message) => {
                let Some(&channel) = message.first() else { continue };
                let input = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
                if let (Some(input), true) = (input, message.len() > 1) {
                    let _ = input.send(message.slice(1..)).await;
                }
            }
            AggregatedMessage::Ping(data) => {
                if session.pong(&data).await.is_err() {
                    return;
                }
            }
            AggregatedMessage::Close(_) => return,
            AggregatedMessage::Text(_) | AggregatedMessage::Pong(_) => {}
        }
    }
}

async fn connection(
    mut session: Session,
    channel: u8,
    port: u16,
    ports: Rc<Ports>,
    sent: mpsc::Receiver<Bytes>,
) -> Result<(), Closed> {
    for channel in [channel, channel + 1] {
        send(&mut session, channel, &port.to_le_bytes()).await?;
    }
    let why = match ports.connect(port).await {
        Err(e) => e.to_string(),
        Ok(frames) => match exchange(&mut session, channel, sent, frames).await? {
            None => return Ok(()),
            Some(why) => why,
        },
    };
    send(&mut session, channel + 1, ports.failure(port, &why).as_bytes()).await
}

/// Carries bytes until the far end has written all; what went wrong, if anything did.
async fn exchange(
    session: &mut Session,
    channel: u8,
    mut sent: mpsc::Receiver<Bytes>,
    frames: protocol::streams::FrameStream,
) -> Result<Option<String>, Closed> {
    let (input, mut output) = (frames.input, frames.output);
    let inward = async {
        while let Some(data) = sent.recv().await {
            send_pieces(&input, data).await;
        }
    };
    let outward = async {
        while let Some(frame) = output.recv().await {
            match frame {
                Frame::Stdout(data) => send(session, channel, &data).await?,
                Frame::Error(why) => return Ok(Some(String::from_utf8_lossy(&why).into_owned())),
                // These channels cannot tell half an end.
                _ => {}
            }
        }
        Ok(None)
    };
    tokio::select! {
        () = inward => Ok(None),
        end = outward => end,
    }
}

async fn send(session: &mut Session, channel: u8, data: &[u8]) -> Result<(), Closed> {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(data);
    session.binary(message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_or_repeated() {
        for (values, expected) in [
            (&["80"][..], Some(vec![80])),
            (&["80,443", "8080"], Some(vec![80, 443, 8080])),
            (&[], None),
            (&["0"], None),
            (&["http"], None),
        ] {
            let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
            assert_eq!(parse(&values).ok(), expected);
        }
    }
}
