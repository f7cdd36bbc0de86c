//! Servers behind an Ingress, on loopback: what they answer tells who they are and what they were asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A server. Dropping it closes its port and its connections, as the end of a process does.
pub struct Backend {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(name: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let headers: serde_json::Map<String, serde_json::Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().into()))
        .collect();
    let (version, method) = (format!("{:?}", request.version()), request.method().to_string());
    let uri = request.uri().to_string();
    let body = request.into_body().collect().await.map(|b| b.to_bytes().len()).unwrap_or_default();
    let told = json!({"name": name, "version": version, "method": method, "uri": uri, "headers": headers, "body": body});
    Response::builder()
        .header("content-type", "application/json")
        .header("x-backend", name)
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(Full::from(told.to_string()))
        .unwrap()
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    each: impl Fn(TcpStream) -> F + Send + 'static,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(each(stream));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Backend {
    async fn start<F: Future<Output = ()> + Send + 'static>(
        each: impl Fn(TcpStream, Arc<AtomicUsize>) -> F + Send + 'static,
    ) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let task = tokio::spawn(serve(listener, move |stream| each(stream, counter.clone())));
        Backend { address, asked, task }
    }

    /// Speaks HTTP/1.1.
    pub async fn http(name: &'static str) -> Backend {
        Backend::start(move |stream, asked| async move {
            let service = service_fn(|request| {
                asked.fetch_add(1, Ordering::Relaxed);
                async move { Ok::<_, Infallible>(answer(name, request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        })
        .await
    }

    /// Speaks HTTP/2 without TLS.
    pub async fn h2c(name: &'static str) -> Backend {
        Backend::start(move |stream, asked| async move {
            let service = service_fn(|request| {
                asked.fetch_add(1, Ordering::Relaxed);
                async move { Ok::<_, Infallible>(answer(name, request).await) }
            });
            let builder = http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        })
        .await
    }

    /// Speaks HTTP/1.1 in TLS, with a certificate of its own making; says by which name it was asked for.
    pub async fn https(name: &'static str) -> Backend {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["pod".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Backend::start(move |stream, asked| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let said = format!("{name} as {}", stream.get_ref().1.server_name().unwrap_or_default());
                let service = service_fn(|request| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let said = said.clone();
                    async move { Ok::<_, Infallible>(answer(&said, request).await) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Speaks HTTP/1.1, and answers paths other than `/` when the gate is opened.
    pub async fn held(name: &'static str, gate: Arc<Notify>) -> Backend {
        Backend::start(move |stream, asked| {
            let gate = gate.clone();
            async move {
                let service = service_fn(|request: Request<Incoming>| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let gate = gate.clone();
                    async move {
                        if request.uri().path() != "/" {
                            gate.notified().await;
                        }
                        Ok::<_, Infallible>(answer(name, request).await)
                    }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Reads the head of a request and hangs up.
    pub async fn rude() -> Backend {
        Backend::start(move |mut stream, asked| async move {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await
    }

    /// Echoes what it is sent by WebSocket.
    pub async fn websocket() -> Backend {
        Backend::start(move |stream, asked| async move {
            asked.fetch_add(1, Ordering::Relaxed);
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    return;
                }
            }
        })
        .await
    }
}
