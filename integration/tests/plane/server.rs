//! A server that speaks TLS, as webhooks and other API servers do: what it is asked it remembers, what it answers
//! is the test's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// What the server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The far end of the connection.
    pub from: Option<SocketAddr>,
    pub method: String,
    /// Path and query.
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// What the server answers.
pub enum Answer {
    /// A status and JSON.
    Json(u16, Value),
    /// Lines of JSON that do not end.
    Lines(Vec<Value>),
    /// Nothing, for so long.
    Late(Duration),
    /// Nothing, until this says so or is dropped.
    Held(tokio::sync::watch::Receiver<bool>),
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// The server; it ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Its certificate, as a `caBundle`.
    pub ca_bundle: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    handle: actix_web::dev::ServerHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // What is told takes effect in the server's own thread.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An address of this machine that endpoints may have: not that of the loopback.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // No packet is sent: connecting a UDP socket only asks for the route.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).expect("a route");
    socket.local_addr().expect("an address").ip()
}

impl Server {
    /// Starts one that is certified for `names`. With `clients`, PEM of a CA, it serves only whom that certified.
    pub fn start(
        names: &[&str],
        clients: Option<&str>,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        all.extend(["127.0.0.1".to_owned(), "localhost".to_owned()]);
        let made = rcgen::generate_simple_self_signed(all).expect("a certificate");
        let pem = made.cert.pem();
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
        let builder = rustls::ServerConfig::builder();
        let tls = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a CA")).expect("a root");
                let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let tls = tls.with_single_cert(chain, key).expect("a TLS configuration");
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let address = SocketAddr::new(own_address(), listener.local_addr().expect("an address").port());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let handler: Handler = Arc::new(answer);
        let remembered = asked.clone();
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let data = web::Data::new((handler, remembered));
                let app = move || App::new().app_data(data.clone()).default_service(web::to(serve));
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .shutdown_timeout(1)
                    .listen_rustls_0_23(listener, tls)
                    .expect("a server")
                    .run();
                started.send(server.handle()).expect("somebody waits");
                let _ = server.await;
            });
        });
        let handle = starting.recv().expect("the server starts");
        Server { address, ca_bundle: STANDARD.encode(pem), asked, handle, thread: Some(thread) }
    }

    /// Whether it was asked anything below a path that is not forgotten yet.
    pub fn was_asked(&self, path: &str) -> bool {
        self.asked.lock().expect("nobody panicked").iter().any(|one| one.path().starts_with(path))
    }

    /// What it was asked below a path, and forgets that.
    pub fn take(&self, path: &str) -> Vec<Asked> {
        let mut asked = self.asked.lock().expect("nobody panicked");
        let (taken, kept) = asked.drain(..).partition(|one| one.path().starts_with(path));
        *asked = kept;
        taken
    }

    /// Where webhooks find it by its URL.
    pub fn client_config(&self, path: &str) -> Value {
        let url = format!("https://127.0.0.1:{}{path}", self.address.port());
        json!({"url": url, "caBundle": self.ca_bundle})
    }

    /// A Service in the namespace default that leads here, and its endpoints.
    pub fn service(&self, name: &str) -> [Value; 2] {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"name": "https", "port": 443}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "https", "port": self.address.port()}],
            "endpoints": [{"addresses": [self.address.ip().to_string()], "conditions": {"ready": true}}]});
        [service, slice]
    }
}

async fn serve(
    http: HttpRequest,
    body: Bytes,
    data: web::Data<(Handler, Arc<Mutex<Vec<Asked>>>)>,
) -> HttpResponse {
    let headers = http.headers().iter();
    let asked = Asked {
        from: http.peer_addr(),
        method: http.method().to_string(),
        uri: http.uri().to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    data.1.lock().expect("nobody panicked").push(asked.clone());
    match (data.0)(&asked) {
        Answer::Json(code, body) => {
            let code = actix_web::http::StatusCode::from_u16(code).expect("a status");
            HttpResponse::build(code).content_type("application/json").body(body.to_string())
        }
        Answer::Lines(lines) => {
            let lines = futures::stream::iter(lines.into_iter().map(|line| Bytes::from(format!("{line}\n"))));
            let lines = lines.chain(futures::stream::pending());
            HttpResponse::Ok()
                .content_type("application/json")
                .streaming(lines.map(Ok::<_, std::convert::Infallible>))
        }
        Answer::Late(time) => {
            tokio::time::sleep(time).await;
            HttpResponse::Ok().finish()
        }
        Answer::Held(mut until) => {
            let _ = until.wait_for(|now| *now).await;
            HttpResponse::Ok().finish()
        }
    }
}
