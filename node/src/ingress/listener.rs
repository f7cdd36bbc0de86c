//! A port that clients connect to: connections, TLS, and their limits.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actors::{Actor, Context};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::forward::Forwarder;
use super::headers::Arrival;
use super::table::Table;

/// A TLS handshake takes no longer.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time; the head of a request takes no longer.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// What a client does not take or acknowledge for this time ends its connection.
const UNTAKEN_MAX: Duration = Duration::from_secs(120);
/// Silent connections are asked for a sign of life this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Bytes of all headers of a request.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 128;
/// Pause after a connection could not be accepted, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening port of the node.
pub struct Listener {
    shared: Arc<Shared>,
    socket: Arc<std::net::TcpListener>,
    tls: bool,
}

impl Listener {
    pub(super) fn new(shared: Arc<Shared>, socket: Arc<std::net::TcpListener>, tls: bool) -> Self {
        Listener { shared, socket, tls }
    }

    fn open(&self) -> io::Result<Port> {
        let listener = TcpListener::from_std(self.socket.try_clone()?)?;
        let port = listener.local_addr()?.port();
        let tls = if self.tls { Some(acceptor(&self.shared)?) } else { None };
        Ok(Port { listener, port, tls })
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let opened = self.open();
        let shared = self.shared.clone();
        let serving = async move {
            match opened {
                Ok(port) => port.serve(shared).await,
                Err(error) => error.to_string(),
            }
        };
        ctx.run(serving, |_, why, ctx| ctx.fail(why));
    }
}

/// What clients are shown.
#[derive(Debug)]
struct Shown(Arc<parking_lot::RwLock<Table>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.0.read().certificates.find(name.as_deref())
    }
}

fn acceptor(shared: &Shared) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown(shared.table.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// An open port.
struct Port {
    listener: TcpListener,
    port: u16,
    tls: Option<TlsAcceptor>,
}

impl Port {
    /// Serves until dropped; all connections end with it.
    async fn serve(self, shared: Arc<Shared>) -> String {
        let end = CancellationToken::new();
        let _ended = end.clone().drop_guard();
        let forwarder = Arc::new(Forwarder {
            table: shared.table.clone(),
            metrics: shared.metrics.clone(),
            room: shared.requests.clone(),
            end,
        });
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut connections = JoinSet::new();
        loop {
            // Without room nothing is accepted: what waits, waits in the kernel, and not for long.
            let room = shared.connections.clone().acquire_owned();
            let permit = tokio::select! {
                Ok(permit) = room => permit,
                () = shared.draining.cancelled() => break,
            };
            let (stream, client) = tokio::select! {
                () = shared.draining.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, scheme, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                Some(_) = connections.join_next() => continue,
            };
            let arrival = Arrival { client, port: self.port, tls: self.tls.is_some() };
            let (tls, forwarder) = (self.tls.clone(), forwarder.clone());
            let draining = shared.draining.clone();
            let counted = shared.metrics.connection(scheme);
            connections.spawn(async move {
                let _held = (permit, counted);
                if let Err(why) = connection(stream, arrival, tls, forwarder, draining).await {
                    tracing::debug!(%client, %why, "a connection ended");
                }
            });
        }
        // What was upgraded has no end of its own that could be waited for.
        forwarder.end.cancel();
        while connections.join_next().await.is_some() {}
        std::future::pending().await
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no handshake in time")]
    Late,
    #[error("handshake: {0}")]
    Handshake(io::Error),
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

async fn connection(
    stream: TcpStream,
    arrival: Arrival,
    tls: Option<TlsAcceptor>,
    forwarder: Arc<Forwarder>,
    draining: CancellationToken,
) -> Result<(), Ended> {
    prepare(&stream);
    let Some(acceptor) = tls else { return serve_http1(stream, arrival, forwarder, draining).await };
    let shaken = tokio::time::timeout(HANDSHAKE_WAIT, acceptor.accept(stream)).await;
    let stream = match shaken.map_err(|_| Ended::Late).and_then(|shaken| shaken.map_err(Ended::Handshake)) {
        Ok(stream) => stream,
        Err(why) => {
            forwarder.metrics.handshake_failed();
            return Err(why);
        }
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(stream, arrival, forwarder, draining).await
    } else {
        serve_http1(stream, arrival, forwarder, draining).await
    }
}

/// What the kernel sees to. A connection goes on without.
fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(SIGN_OF_LIFE).with_interval(SIGN_OF_LIFE);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNTAKEN_MAX)));
    if let Err(error) = set {
        tracing::debug!(%error, "an option of a connection is not set");
    }
}

async fn serve_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    arrival: Arrival,
    forwarder: Arc<Forwarder>,
    draining: CancellationToken,
) -> Result<(), Ended> {
    let service = service_fn(move |request| {
        let forwarder = forwarder.clone();
        async move { Ok::<_, Infallible>(forwarder.handle(request, arrival).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    builder.max_header_size(HEADER_BYTES_MAX).max_headers(HEADERS_MAX);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        ended = serving.as_mut() => return Ok(ended?),
        () = draining.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    arrival: Arrival,
    forwarder: Arc<Forwarder>,
    draining: CancellationToken,
) -> Result<(), Ended> {
    let requests = Arc::new(AtomicU64::new(0));
    let counter = requests.clone();
    let service = service_fn(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        let forwarder = forwarder.clone();
        async move { Ok::<_, Infallible>(forwarder.handle(request, arrival).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(SIGN_OF_LIFE);
    builder.max_concurrent_streams(STREAMS_MAX).enable_connect_protocol();
    builder.max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut seen = None;
    loop {
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = draining.cancelled() => {
                serving.as_mut().graceful_shutdown();
                return Ok(serving.await?);
            }
            () = tokio::time::sleep(IDLE_MAX) => {
                let now = requests.load(Ordering::Relaxed);
                // What is under way may end; a client that wants more connects anew.
                if seen.replace(now) == Some(now) {
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Binds a port; all addresses of IPv6 are those of IPv4 too, and these alone on a machine without IPv6.
pub(super) fn bind(address: SocketAddr) -> io::Result<Arc<std::net::TcpListener>> {
    match open(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let lacking = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::EPROTONOSUPPORT];
    lacking.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn open(address: SocketAddr) -> io::Result<Arc<std::net::TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(socket.into()))
}

/// Makes a port refuse connections from now on.
pub(super) fn close(socket: &std::net::TcpListener) {
    if let Err(error) = SockRef::from(socket).shutdown(std::net::Shutdown::Both) {
        tracing::debug!(%error, "a port stays open until the process ends");
    }
}
