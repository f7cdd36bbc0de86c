//! Connections that are upgraded through the HTTP proxies: a client, this server, and a pod that answers from memory.

use std::net::SocketAddr;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, ServerHandle};

use super::*;
use crate::streams::door::Door;
use crate::streams::proxy::place::Place;

/// A pod that speaks `protocol` to whoever upgrades to it, which means: it repeats everything in capitals. To others it
/// answers 426.
struct Pod {
    protocol: &'static str,
}

#[async_trait]
impl NodeStreams for Pod {
    async fn exec(&self, _: &str, _: ExecRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal("not here"))
    }

    async fn attach(&self, _: &str, _: AttachRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal("not here"))
    }

    async fn port_forward(&self, _: &str, _: PortForwardRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal("not here"))
    }

    async fn dial(&self, node: &str, to: DialRequest) -> Result<FrameStream, ApiError> {
        assert_eq!((node, to.port), ("n", 81));
        let (client, mut pod) = FrameStream::pair();
        let wanted = format!("\r\nupgrade: {}\r\n", self.protocol.to_lowercase());
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {}\r\nX-Pod: yes\r\n\r\n",
            self.protocol
        );
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                match pod.output.recv().await {
                    Some(Frame::Stdin(data)) => head.extend_from_slice(&data),
                    _ => return,
                }
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            assert!(
                head.starts_with("get /chat?room=1 http/1.1\r\n") && !head.contains("authorization"),
                "{head}"
            );
            if !head.contains(&wanted) {
                let refused = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\nnone";
                let _ = pod.input.send(Frame::Stdout(Bytes::from_static(refused.as_bytes()))).await;
                return;
            }
            let _ = pod.input.send(Frame::Stdout(switching.into())).await;
            while let Some(Frame::Stdin(data)) = pod.output.recv().await {
                let _ = pod.input.send(Frame::Stdout(data.to_ascii_uppercase().into())).await;
            }
            let _ = pod.input.send(Frame::CloseStdout).await;
        });
        Ok(client)
    }

    async fn logs(&self, _: &str, _: LogRequest) -> Result<LogBytes, ApiError> {
        Err(ApiError::internal("not here"))
    }
}

/// A server whose every path is a proxy to such a pod, behind the same door as the API server's.
fn served(protocol: &'static str) -> (SocketAddr, ServerHandle) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let factory = move || {
        let app =
            App::new().default_service(web::to(move |http: HttpRequest, payload: web::Payload| async move {
                let target =
                    Target { namespace: Some("a".into()), resource: "pods".into(), ..Target::default() };
                let request = ApiRequest::new(Verb::Get, target);
                let place = Place {
                    node: Some("n".into()),
                    address: [10, 0, 0, 9].into(),
                    port: 81,
                    tls: false,
                    kubelet: false,
                };
                let tls = router().tls;
                proxy::serve(&Pod { protocol }, &tls, &place, http, payload, &request).await.unwrap()
            }));
        let app = app.into_factory().map_err(|e: actix_web::Error| e.as_response_error().error_response());
        let http = HttpService::build().finish(map_config(app, |_| AppConfig::default()));
        fn_service(
            |io: TcpStream| async move { Ok::<_, DispatchError>((Door::new(io), Protocol::Http1, None)) },
        )
        .and_then(http)
    };
    let server = actix_server::Server::build().workers(1).disable_signals().listen("test", listener, factory);
    let server = server.unwrap().run();
    let handle = server.handle();
    actix_rt::spawn(server);
    (address, handle)
}

async fn asked(address: SocketAddr, upgrade: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /api/v1/namespaces/a/pods/b:81/proxy/chat?room=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\
         Connection: Upgrade\r\nUpgrade: {upgrade}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

/// Reads until something was read.
async fn until(client: &mut TcpStream, expected: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(expected) {
        let mut piece = [0; 1024];
        let length = client.read(&mut piece).await.unwrap();
        assert!(length > 0, "it ends with {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[actix_web::test]
async fn an_upgraded_connection_is_a_pipe_in_both_directions() {
    for protocol in ["websocket", "SPDY/3.1", "raw"] {
        let (address, handle) = served(protocol);
        let mut client = asked(address, protocol).await;
        let head = until(&mut client, "\r\n\r\n").await.to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains(&format!("upgrade: {}\r\n", protocol.to_lowercase())), "{head}");
        assert!(head.contains("x-pod: yes"), "{head}");
        for (said, expected) in [("hello", "HELLO"), ("once more", "ONCE MORE")] {
            client.write_all(said.as_bytes()).await.unwrap();
            until(&mut client, expected).await;
        }
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
        handle.stop(false).await;
    }
}

#[actix_web::test]
async fn a_pod_that_does_not_upgrade_answers_for_itself() {
    let (address, handle) = served("other");
    let mut client = asked(address, "websocket").await;
    let answer = until(&mut client, "none").await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    handle.stop(false).await;
}
