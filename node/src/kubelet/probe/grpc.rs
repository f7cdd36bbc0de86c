//! The gRPC health check (`grpc.health.v1.Health/Check`), over HTTP/2 without TLS.
//!
//! One call with one string, answered by one number: so its two messages are written and read by hand.

use std::fmt::Display;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 4096;
/// Status codes of gRPC that have a text of their own.
const DEADLINE_EXCEEDED: &str = "4";
const UNIMPLEMENTED: &str = "12";
/// States of a service, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks whether `service` (empty for the whole server) is serving. The error is the text for the event.
pub async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let at = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let until = actors::time::Instant::now() + limit;
    let connected = tokio::time::timeout_at(until, tokio::net::TcpStream::connect((host, port))).await;
    let tcp = match connected {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(e)) => return Err(format!("error: failed to connect service at \"{at}\": {e}")),
        Err(_) => {
            return Err(format!(
                "timeout: failed to connect service \"{at}\" within {limit:?}: context deadline exceeded"
            ));
        }
    };
    let asked = tokio::time::timeout_at(until, ask(tcp, &at, service)).await;
    let state =
        asked.unwrap_or_else(|_| Err(format!("timeout: health rpc did not complete within {limit:?}")))?;
    if state == 1 {
        return Ok(());
    }
    let name = usize::try_from(state).ok().and_then(|n| STATES.get(n)).copied();
    Err(format!("service unhealthy (responded with \"{}\")", name.map_or(state.to_string(), str::to_owned)))
}

fn failed(why: impl Display) -> String {
    format!("error: health rpc probe failed: {why}")
}

async fn ask(tcp: tokio::net::TcpStream, at: &str, service: &str) -> Result<u64, String> {
    let (client, connection) = h2::client::handshake(tcp).await.map_err(failed)?;
    let talk = async {
        let mut client = client.ready().await.map_err(failed)?;
        let request = Request::post(format!("http://{at}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.36")
            .body(())
            .map_err(failed)?;
        let (answer, mut body) = client.send_request(request, false).map_err(failed)?;
        body.send_data(question(service), true).map_err(failed)?;
        let answer = answer.await.map_err(failed)?;
        if answer.status() != http::StatusCode::OK {
            return Err(failed(format!(
                "unexpected HTTP status code received from server: {}",
                answer.status()
            )));
        }
        // A call that fails at once has its status here, and no body.
        refused(answer.headers())?;
        let mut body = answer.into_body();
        let mut said = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(failed)?;
            body.flow_control().release_capacity(piece.len()).map_err(failed)?;
            if said.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(failed("the answer is too long"));
            }
            said.extend_from_slice(&piece);
        }
        if let Some(trailers) = body.trailers().await.map_err(failed)? {
            refused(&trailers)?;
        }
        state(&said).ok_or_else(|| failed("the answer is malformed"))
    };
    // The connection is driven as long as the call lasts, and no longer.
    tokio::select! {
        answer = talk => answer,
        ended = connection => match ended {
            Ok(()) => Err(failed("the connection was closed")),
            Err(e) => Err(failed(e)),
        },
    }
}

/// The call's failure, if these headers or trailers tell of one.
fn refused(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "" | "0" => Ok(()),
        UNIMPLEMENTED => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            text("grpc-message")
        )),
        DEADLINE_EXCEEDED => Err("timeout: health rpc did not complete in time".to_owned()),
        code => Err(failed(format!("rpc error: code = {code} desc = {}", text("grpc-message")))),
    }
}

/// A `HealthCheckRequest { service = 1 }` in its frame.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The state in a framed `HealthCheckResponse { status = 1 }`; one that is left out is 0.
fn state(framed: &[u8]) -> Option<u64> {
    let (head, mut message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..5)?.try_into().ok()?);
    if head.first() != Some(&0) || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut state = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    state = value;
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(state)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    /// A server that knows two services, and answers `broken` as servers without the protocol do.
    async fn server() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(tcp).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                        tokio::spawn(async move {
                            let mut body = request.into_body();
                            let mut said = BytesMut::new();
                            while let Some(Ok(piece)) = body.data().await {
                                said.extend_from_slice(&piece);
                            }
                            let service = said.get(7..).unwrap_or_default();
                            let head = Response::builder().header("content-type", "application/grpc");
                            if service == b"broken" {
                                let head = head.header("grpc-status", "12").header("grpc-message", "unknown");
                                respond.send_response(head.body(()).unwrap(), true).unwrap();
                                return;
                            }
                            let state: &[u8] = match service {
                                b"" => &[0, 0, 0, 0, 2, 0x08, 1],
                                b"slow" => std::future::pending().await,
                                _ => &[0, 0, 0, 0, 2, 0x08, 2],
                            };
                            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                            stream.send_data(Bytes::copy_from_slice(state), false).unwrap();
                            let mut trailers = HeaderMap::new();
                            trailers.insert("grpc-status", HeaderValue::from_static("0"));
                            stream.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn servers_are_asked_and_their_answers_understood() {
        let port = server().await;
        let second = Duration::from_secs(1);
        assert_eq!(check("127.0.0.1", port, "", second).await, Ok(()));
        for (service, expected) in [
            ("down", "service unhealthy (responded with \"NOT_SERVING\")"),
            (
                "broken",
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown",
            ),
            ("slow", "timeout: health rpc did not complete within 1s"),
        ] {
            assert_eq!(check("127.0.0.1", port, service, second).await.unwrap_err(), expected);
        }
        let nobody = check("127.0.0.1", 1, "", second).await.unwrap_err();
        assert!(nobody.starts_with("error: failed to connect service at \"127.0.0.1:1\""), "{nobody}");
    }

    #[test]
    fn messages_are_written_and_read() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(question(&"x".repeat(200))[5..8], [0x0a, 0xc8, 0x01]);
        for (framed, expected) in [
            (&[0, 0, 0, 0, 0][..], Some(0)),
            (&[0, 0, 0, 0, 2, 0x08, 3], Some(3)),
            (&[0, 0, 0, 0, 5, 0x12, 1, 9, 0x08, 1], Some(1)),
            (&[1, 0, 0, 0, 0], None),
            (&[0, 0, 0, 0, 9, 0x08, 1], None),
            (&[0, 0, 0, 0, 2, 0x12, 9], None),
            (&[], None),
        ] {
            assert_eq!(state(framed), expected, "{framed:?}");
        }
    }
}
