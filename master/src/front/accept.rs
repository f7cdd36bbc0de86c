//! Accepting connections: TLS, who the client is, and bytes for the clients that upgrade to SPDY.
//!
//! This is what `actix_web::HttpServer` does, put together by hand for one reason: between TLS and HTTP
//! stand a [`Door`], and what gathers writes.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_server::{Server, ServerBuilder};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::dev::{AppConfig, Extensions};
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};

use super::gathered::Gathered;
use super::{Shared, handle};
use crate::streams::door::Door;

type Connection = Door<Gathered<TlsStream<TcpStream>>>;

/// Connections that one worker thread serves at the same time.
const CONNECTIONS_MAX: usize = 10_000;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How long a client may take over a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// How long running requests get when the server stops, in seconds.
const STOPPING_SECONDS: u64 = 5;

/// A server on a bound listener.
pub(super) fn server(
    listener: TcpListener,
    workers: usize,
    mut tls: rustls::ServerConfig,
    shared: web::Data<Shared>,
) -> io::Result<Server> {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let builder = ServerBuilder::default()
        .workers(workers)
        .max_concurrent_connections(CONNECTIONS_MAX)
        .disable_signals()
        .shutdown_timeout(STOPPING_SECONDS);
    let stopping = builder.graceful_shutdown_signal();
    let factory = move || {
        let shared = shared.clone();
        let (stopping, metrics) = (stopping.clone(), shared.config.metrics.clone());
        let certifiers = shared.config.certifiers.clone();
        let app = App::new().app_data(shared).default_service(web::to(handle::handle));
        let app = app.into_factory().map_err(|e: actix_web::Error| e.as_response_error().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(IDLE)
            .client_request_timeout(HEAD)
            .on_connect_ext(move |connection: &Connection, extensions: &mut Extensions| {
                let (_, session) = connection.get_ref().get_ref().get_ref();
                let shown = session.peer_certificates().and_then(|chain| certifiers.shown(chain));
                shown.map(|shown| extensions.insert(shown));
            })
            .finish(map_config(app, |_| AppConfig::default()));
        let refused = metrics.clone();
        Acceptor::new(tls.clone())
            .map_init_err(|_| ())
            .map_err(move |error| {
                refused.handshake_failed();
                error
            })
            .map_err(TlsError::<io::Error, Infallible>::into_service_error)
            .and_then(|io: TlsStream<TcpStream>| {
                let (socket, session) = io.get_ref();
                let protocol = match session.alpn_protocol() {
                    Some(b"h2") => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                // Events and keystrokes are small, and somebody waits for each.
                let _ = socket.set_nodelay(true);
                let peer = socket.peer_addr().ok();
                let io = Gathered::new(io, protocol == Protocol::Http2);
                std::future::ready(Ok((Door::new(io), protocol, peer)))
            })
            .and_then(http.map_err(TlsError::Service))
    };
    Ok(builder.listen("api", listener, factory)?.run())
}
