//! A real server and a client that speaks raw WebSocket, with a node that answers from memory.

use actix_web::{App, HttpServer};
use async_trait::async_trait;
use bytes::Bytes;
use protocol::streams::{DialRequest, Frame, LogBytes, LogRequest, PortForwardRequest, exit_status};
use protocol::{Target, Verb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Echo;

fn router() -> Router {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubelet = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Router { cache: Cache::new(), nodes: Arc::new(Echo), tls: proxy::Tls::new(Arc::new(kubelet)) }
}

#[async_trait]
impl NodeStreams for Echo {
    async fn exec(&self, _: &str, _: ExecRequest) -> Result<FrameStream, ApiError> {
        let (client, mut node) = FrameStream::pair();
        tokio::spawn(async move {
            while let Some(frame) = node.output.recv().await {
                match frame {
                    Frame::Stdin(data) => node.input.send(Frame::Stdout(data)).await.unwrap(),
                    _ => break,
                }
            }
            let status = Bytes::from(exit_status(3).to_string());
            node.input.send(Frame::Error(status)).await.unwrap();
        });
        Ok(client)
    }

    async fn attach(&self, _: &str, _: AttachRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal("not here"))
    }

    async fn port_forward(&self, _: &str, _: PortForwardRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal("not here"))
    }

    async fn dial(&self, _: &str, _: DialRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal("not here"))
    }

    async fn logs(&self, _: &str, _: LogRequest) -> Result<LogBytes, ApiError> {
        Err(ApiError::internal("not here"))
    }
}

/// Messages of a client are masked; a mask of zeros leaves them readable.
fn masked(data: &[u8]) -> Vec<u8> {
    [&[0x82, 0x80 | data.len() as u8, 0, 0, 0, 0], data].concat()
}

#[actix_web::test]
async fn an_exec_over_a_websocket_echoes_and_ends_with_its_status() {
    let serve = || {
        App::new().default_service(web::to(|http: HttpRequest, payload: web::Payload| async move {
            let (stdio, request) =
                (Stdio { stdin: true, stdout: true, ..Stdio::default() }, ExecRequest::default());
            let frames = Echo.exec("n", request).await.unwrap();
            let router = router();
            router.carry(Language::of(http.headers()).unwrap(), http, payload, stdio, frames).unwrap()
        }))
    };
    let server = HttpServer::new(serve).workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\
                Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&masked(b"\0ls")).await.unwrap();
    client.write_all(&masked(b"\xff\0")).await.unwrap();
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    let text = String::from_utf8_lossy(&read);
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    assert!(text.contains("v5.channel.k8s.io"), "{text}");
    // The message that opens, the echo, the status.
    let at = |needle: &[u8]| read.windows(needle.len()).position(|w| w == needle);
    let (opened, echoed) = (at(b"\x82\x01\x01").unwrap(), at(b"\x82\x03\x01ls").unwrap());
    let ended = at(b"\x03{").unwrap();
    assert!(opened < echoed && echoed < ended && text.contains("exit code 3"), "{text}");
    handle.stop(false).await;
}

#[test]
fn a_pod_that_does_not_exist_is_not_found() {
    let router = router();
    let target = Target {
        version: "v1".into(),
        resource: "pods".into(),
        namespace: Some("ns".into()),
        name: Some("p".into()),
        subresource: Some("exec".into()),
        ..Target::default()
    };
    let missing = router.pod(&ApiRequest::new(Verb::Get, target)).unwrap_err();
    assert_eq!(missing.to_string(), "pods \"p\" not found");
}

mod upgrades;
