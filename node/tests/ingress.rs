//! Ingresses over real sockets on loopback: what endpoints are asked, what clients are answered, and what happens
//! while certificates and endpoints change.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/backends.rs"]
mod backends;
#[path = "support/scripted.rs"]
mod scripted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actors::Stage;
use backends::Backend;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::ext::Protocol;
use hyper::{Request, StatusCode, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node::ingress::{self, IngressConfig, IngressHandle};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use scripted::Scripted;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

fn ingress(host: &str, service: &str, port: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "a", "name": host},
        "spec": {"ingressClassName": "troupe",
            "tls": [{"hosts": [host], "secretName": format!("{host}-tls")}],
            "rules": [{"host": host, "http": {"paths": [{"pathType": "Prefix", "path": "/",
                "backend": {"service": {"name": service, "port": port}}}]}}]}})
}

fn service(name: &str, protocol: Option<&str>) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "a", "name": name},
        "spec": {"ports": [{"name": "web", "port": 80, "appProtocol": protocol}]}})
}

/// A slice of its own for each backend, as each has a port of its own.
fn slice(service: &str, backend: &Backend) -> Value {
    let port = backend.address.port();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "a", "name": format!("{service}-{port}"), "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "web", "port": port}], "endpoints": [{"addresses": [backend.address.ip()]}]})
}

struct Scene {
    api: Scripted,
    stage: Stage,
    served: IngressHandle,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: hyper::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn told(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Scene {
    async fn start() -> Scene {
        let api = Scripted::default();
        api.set(
            "ingressclasses",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "troupe"},
                "spec": {"controller": "troupe.dev/ingress"}}),
        );
        let stage = Stage::local();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = IngressConfig { node: "n1".to_owned(), http: Some(any), https: Some(any) };
        let served = ingress::start(&stage, config, api.client()).unwrap();
        Scene { api, stage, served, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    fn publish(&self, host: &str, protocol: Option<&str>, backends: &[&Backend]) {
        self.api.set("services", service(host, protocol));
        for backend in backends {
            self.api.set("endpointslices", slice(host, backend));
        }
        self.api.set("ingresses", ingress(host, host, json!({"name": "web"})));
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        ask(&self.client, self.served.http.unwrap(), request).await.unwrap()
    }

    async fn get(&self, host: &str, path: &str) -> Answer {
        self.ask(get(host, path)).await
    }

    /// Asks until the answer is as wanted: changes need a moment to arrive.
    async fn until(&self, host: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let mut last = None;
        for _ in 0..2000 {
            let answer = self.get(host, "/").await;
            if wanted(&answer) {
                return answer;
            }
            last = Some(answer);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never answered as wanted, but {last:?}")
    }
}

fn get(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).body(Full::default()).unwrap()
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    at: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    *request.uri_mut() = format!("http://{at}{}", request.uri()).parse().unwrap();
    let response = client.request(request).await.map_err(|e| format!("{e:?}"))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

fn play<F: Future<Output = ()>>(test: impl FnOnce(Scene) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let scene = Scene::start().await;
        let stage = scene.stage.clone();
        tokio::time::timeout(Duration::from_secs(120), test(scene)).await.expect("it ends");
        assert!(stage.shut_down(Duration::from_secs(10)).await.is_empty());
    });
}

#[test]
fn requests_reach_endpoints_as_a_proxy_sends_them() {
    play(async |scene| {
        let one = Backend::http("one").await;
        scene.publish("a.example", None, &[&one]);
        scene.until("a.example", |a| a.status == StatusCode::OK).await;

        let answer = scene.get("A.Example:80", "/deep/path?q=1&r=%2F").await;
        let told = answer.told();
        assert_eq!(told["uri"], "/deep/path?q=1&r=%2F");
        assert_eq!(told["version"], "HTTP/1.1");
        assert_eq!(told["headers"]["host"], "A.Example:80", "the host is the client's");
        assert_eq!(told["headers"]["x-forwarded-for"], "127.0.0.1");
        assert_eq!(told["headers"]["x-forwarded-proto"], "http");
        let port = scene.served.http.unwrap().port().to_string();
        assert_eq!(told["headers"]["x-forwarded-port"], port.as_str());
        // What the endpoint's connection is like is not the client's affair.
        assert_eq!(answer.headers["x-backend"], "one");
        assert!(!answer.headers.contains_key("x-private"));

        let body = Full::from(vec![b'x'; 3 << 20]);
        let post = Request::post("/").header("host", "a.example").body(body).unwrap();
        assert_eq!(scene.ask(post).await.told()["body"], 3 << 20);

        let elsewhere = scene.get("elsewhere.example", "/").await;
        assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
        let twice = Request::get("/").header("host", "a.example").header("host", "b.example");
        assert_eq!(scene.ask(twice.body(Full::default()).unwrap()).await.status, StatusCode::BAD_REQUEST);
        let long = format!("/{}", "x".repeat(20 << 10));
        assert_eq!(scene.get("a.example", &long).await.status, StatusCode::URI_TOO_LONG);

        let wide = Request::get("/").header("host", "a.example").header("x-wide", "x".repeat(70 << 10));
        let wide = scene.ask(wide.body(Full::default()).unwrap()).await;
        assert_eq!(wide.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

        scene.api.delete("endpointslices", slice("a.example", &one));
        let nothing = scene.until("a.example", |a| a.status == StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(nothing.headers["retry-after"], "1");
        let metrics = scene.stage.encode_metrics();
        for line in
            ["troupe_ingress_requests_total{code=\"404\"} 1", "troupe_ingress_upstream_latency_seconds_count"]
        {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
    });
}

fn post(host: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post("/").header("host", host).body(Full::from(body)).unwrap()
}

#[test]
fn what_never_left_goes_elsewhere_and_what_may_have_arrived_is_not_sent_twice() {
    play(async |scene| {
        let (one, gone) = (Backend::http("one").await, Backend::http("gone").await);
        let of_gone = slice("a.example", &gone);
        drop(gone);
        scene.publish("a.example", None, &[&one]);
        scene.api.set("endpointslices", of_gone);
        scene.until("a.example", |a| a.status == StatusCode::OK).await;
        let retried =
            |scene: &Scene| !scene.stage.encode_metrics().contains("troupe_ingress_retries_total 0\n");
        for _ in 0..2000 {
            let answer = scene.ask(post("a.example", b"whole")).await;
            assert_eq!((answer.status, answer.told()["body"].clone()), (StatusCode::OK, json!(5)));
            if retried(&scene) {
                break;
            }
        }
        assert!(retried(&scene), "the endpoint that is not there has its turn");

        let rude = Backend::rude().await;
        scene.publish("rude.example", None, &[&rude]);
        scene.until("rude.example", |a| a.status == StatusCode::BAD_GATEWAY).await;
        let asked = || rude.asked.swap(0, Ordering::Relaxed);
        asked();
        assert_eq!(scene.ask(post("rude.example", b"once")).await.status, StatusCode::BAD_GATEWAY);
        assert_eq!(asked(), 1);
        // Asking twice does no harm where nothing is done.
        assert_eq!(scene.get("rude.example", "/").await.status, StatusCode::BAD_GATEWAY);
        assert_eq!(asked(), 2);
    });
}

#[test]
fn endpoints_that_speak_http2_are_spoken_to_in_it() {
    play(async |scene| {
        let two = Backend::h2c("two").await;
        scene.publish("two.example", Some("kubernetes.io/h2c"), &[&two]);
        let told = scene.until("two.example", |a| a.status == StatusCode::OK).await.told();
        assert_eq!(told["version"], "HTTP/2.0");
        assert_eq!(told["uri"], "http://two.example/");
        let asks = (0..50).map(|_| scene.get("two.example", "/many"));
        let answers = futures::future::join_all(asks).await;
        assert!(answers.iter().all(|a| a.status == StatusCode::OK));
    });
}

#[test]
fn endpoints_that_speak_tls_are_spoken_to_in_it() {
    play(async |scene| {
        let secret = Backend::https("secret").await;
        scene.publish("tls.example", Some("https"), &[&secret]);
        let told = scene.until("tls.example", |a| a.status == StatusCode::OK).await.told();
        assert_eq!(told["name"], "secret as tls.example.a.svc");
        assert_eq!(told["headers"]["host"], "tls.example");
        assert_eq!(scene.ask(post("tls.example", b"whole")).await.told()["body"], 5);
        // A Service that says otherwise is spoken to otherwise, from then on.
        scene.api.set("services", service("tls.example", None));
        scene.until("tls.example", |a| a.status == StatusCode::BAD_GATEWAY).await;
    });
}

#[test]
fn requests_under_way_end_well_at_the_processs_end() {
    play(async |scene| {
        let gate = Arc::new(Notify::new());
        let one = Backend::held("one", gate.clone()).await;
        scene.publish("a.example", None, &[&one]);
        scene.until("a.example", |a| a.status == StatusCode::OK).await;
        one.asked.store(0, Ordering::Relaxed);
        let at = scene.served.http.unwrap();
        let end = async {
            while one.asked.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let opened = async {
                while TcpStream::connect(at).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                gate.notify_one();
            };
            futures::join!(scene.served.drain(), opened);
        };
        let (answer, ()) = futures::join!(scene.get("a.example", "/slow"), end);
        assert_eq!(answer.status, StatusCode::OK);
        assert!(ask(&scene.client, at, get("a.example", "/")).await.is_err(), "nothing listens any more");
    });
}

#[test]
fn websockets_pass_through_and_end_with_the_listener() {
    play(async |scene| {
        let echo = Backend::websocket().await;
        scene.publish("ws.example", None, &[&echo]);
        // A plain request is none for it; that it arrives shows that the route is there.
        scene.until("ws.example", |_| echo.asked.load(Ordering::Relaxed) > 0).await;
        let stream = TcpStream::connect(scene.served.http.unwrap()).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("ws://ws.example/chat", stream).await.unwrap();
        for text in ["hello", &"long".repeat(100_000)] {
            socket.send(Message::text(text)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
        }
        // Changes of routes do not touch what is open.
        scene.api.delete("endpointslices", slice("ws.example", &echo));
        scene.until("ws.example", |a| a.status == StatusCode::SERVICE_UNAVAILABLE).await;
        socket.send(Message::text("still")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still"));
        scene.served.stop();
        let ended = socket.next().await;
        assert!(!matches!(ended, Some(Ok(ref m)) if m.is_text()), "{ended:?}");
    });
}

#[test]
fn websockets_by_http2_reach_endpoints_of_http1() {
    play(async |scene| {
        let (echo, two) = (Backend::websocket().await, Backend::h2c("two").await);
        let identity = identity("ws.example");
        scene.api.set("secrets", identity.secret.clone());
        scene.publish("ws.example", None, &[&echo]);
        scene.publish("two.example", Some("kubernetes.io/h2c"), &[&two]);
        scene.until("ws.example", |_| echo.asked.load(Ordering::Relaxed) > 0).await;
        scene.until("two.example", |a| a.status == StatusCode::OK).await;
        let io = loop {
            match shake(scene.served.https.unwrap(), "ws.example", &identity, b"h2").await {
                Ok(stream) => break TokioIo::new(stream),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), io)
                .await
                .unwrap();
        tokio::spawn(connection);
        let ask = |host: &str, protocol: Option<&'static str>| {
            let mut request = Request::connect(format!("https://{host}/chat"))
                .header("sec-websocket-version", "13")
                .body(Full::default())
                .unwrap();
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(Protocol::from_static(protocol));
            }
            request
        };
        // The server says that it knows how, before anything else that it says.
        let plain = Request::get("https://two.example/").body(Full::default()).unwrap();
        assert_eq!(sender.send_request(plain).await.unwrap().status(), StatusCode::OK);
        let response = sender.send_request(ask("ws.example", Some("websocket"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        for text in ["hello", &"long".repeat(100_000)] {
            socket.send(Message::text(text)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
        }
        let other = sender.send_request(ask("ws.example", Some("connect-udp"))).await.unwrap();
        assert_eq!(other.status(), StatusCode::METHOD_NOT_ALLOWED);
        let none = sender.send_request(ask("two.example", Some("websocket"))).await.unwrap();
        assert_eq!(none.status(), StatusCode::NOT_IMPLEMENTED);
    });
}

struct Identity {
    secret: Value,
    certificate: CertificateDer<'static>,
}

fn identity(host: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
    let base64 = |text: String| serde_json::to_value(k8s_openapi::ByteString(text.into_bytes())).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"namespace": "a", "name": format!("{host}-tls")},
        "data": {"tls.crt": base64(certificate.pem()), "tls.key": base64(key.serialize_pem())}});
    Identity { secret, certificate: certificate.der().clone() }
}

/// Connects with TLS, for this protocol.
async fn shake(
    at: SocketAddr,
    host: &str,
    trusted: &Identity,
    alpn: &[u8],
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
    Ok(stream)
}

/// Connects with TLS and asks once, in the protocol that is agreed on.
async fn secure(
    at: SocketAddr,
    host: &str,
    trusted: &Identity,
    alpn: &[u8],
) -> Result<(CertificateDer<'static>, Version, Value), String> {
    let stream = shake(at, host, trusted, alpn).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let io = TokioIo::new(stream);
    let response = if alpn == b"h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("https://{host}/")).body(Full::<Bytes>::default()).unwrap();
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(get(host, "/")).await
    };
    let response = response.map_err(|e| e.to_string())?;
    let version = response.version();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok((shown, version, serde_json::from_slice(&body).unwrap()))
}

#[test]
fn certificates_are_shown_by_name_and_change_with_their_secrets() {
    play(async |scene| {
        let one = Backend::http("one").await;
        let hosts = ["a.example", "b.example"];
        let identities = hosts.map(identity);
        for (host, identity) in hosts.iter().zip(&identities) {
            scene.api.set("secrets", identity.secret.clone());
            scene.publish(host, None, &[&one]);
            scene.until(host, |a| a.status == StatusCode::OK).await;
        }
        let at = scene.served.https.unwrap();
        let shown = async |host: &'static str, trusted: &Identity, alpn: &'static [u8]| {
            for _ in 0..2000 {
                if let Ok(shown) = secure(at, host, trusted, alpn).await {
                    return shown;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("{host} never shows what is trusted")
        };
        for (host, identity) in hosts.iter().zip(&identities) {
            let (certificate, version, told) = shown(host, identity, b"http/1.1").await;
            assert_eq!((&certificate, version), (&identity.certificate, Version::HTTP_11));
            assert_eq!(told["headers"]["x-forwarded-proto"], "https");
            let (certificate, version, told) = shown(host, identity, b"h2").await;
            assert_eq!((&certificate, version), (&identity.certificate, Version::HTTP_2));
            assert_eq!(told["headers"]["host"], *host, "HTTP/2's authority is HTTP/1.1's host");
            assert_eq!(told["version"], "HTTP/1.1");
        }
        // Nobody is shown another's certificate.
        assert!(secure(at, "c.example", &identities[0], b"h2").await.is_err());
        let renewed = identity("a.example");
        scene.api.set("secrets", renewed.secret.clone());
        shown("a.example", &renewed, b"h2").await;
        assert!(secure(at, "a.example", &identities[0], b"h2").await.is_err());
        shown("b.example", &identities[1], b"h2").await;
    });
}

/// Clients that ask without pause, and what became of it.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(at: SocketAddr, host: &'static str) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let client = Client::builder(TokioExecutor::new()).build_http();
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match ask(&client, at, get(host, "/load")).await {
                        Ok(answer) if answer.status == StatusCode::OK => {}
                        Ok(answer) => failures.push(answer.status.to_string()),
                        Err(error) => failures.push(error),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        };
        let clients = (0..8).map(|_| one()).collect();
        Load { stop, answered, clients }
    }

    /// Waits for as many more answers.
    async fn more(&self, answers: usize) {
        let until = self.answered.load(Ordering::Relaxed) + answers;
        while self.answered.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let failures = futures::future::join_all(self.clients).await;
        failures.into_iter().flat_map(Result::unwrap).collect()
    }
}

#[test]
fn endpoints_come_and_go_under_load_and_no_request_fails() {
    play(async |scene| {
        let (one, two) = (Backend::http("one").await, Backend::http("two").await);
        scene.publish("a.example", None, &[&one, &two]);
        scene.until("a.example", |a| a.status == StatusCode::OK).await;
        let load = Load::begin(scene.served.http.unwrap(), "a.example");
        load.more(200).await;
        assert!(
            one.asked.load(Ordering::Relaxed) > 20 && two.asked.load(Ordering::Relaxed) > 20,
            "both have their turn"
        );

        // An orderly end: first no longer an endpoint, then gone.
        scene.api.delete("endpointslices", slice("a.example", &two));
        loop {
            let before = two.asked.load(Ordering::Relaxed);
            load.more(100).await;
            if two.asked.load(Ordering::Relaxed) == before {
                break;
            }
        }
        drop(two);
        load.more(200).await;

        // A rude one: gone while it is still an endpoint, in the middle of requests.
        let three = Backend::http("three").await;
        scene.api.set("endpointslices", slice("a.example", &three));
        while three.asked.load(Ordering::Relaxed) < 20 {
            load.more(8).await;
        }
        let gone = slice("a.example", &three);
        drop(three);
        load.more(400).await;
        scene.api.delete("endpointslices", gone);
        load.more(100).await;
        assert_eq!(load.end().await, Vec::<String>::new());
        let metrics = scene.stage.encode_metrics();
        assert!(!metrics.contains("troupe_ingress_retries_total 0\n"), "{metrics}");
    });
}
