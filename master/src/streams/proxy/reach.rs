//! A connection to a place: over a node's link, or from here, with TLS where it is wanted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ApiError;
use protocol::streams::{DialRequest, FRAME_BYTES_MAX, Frame, FrameStream, NodeStreams};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::place::Place;

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that lie between HTTP and a link's stream.
const PIPE_BYTES: usize = 64 * 1024;

/// A connection in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreached(String);

impl From<Unreached> for ApiError {
    fn from(why: Unreached) -> Self {
        unreachable(&why)
    }
}

/// Why nothing answers, as clients are told.
pub(crate) fn unreachable(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", format!("error trying to reach service: {why}"))
}

/// How to speak TLS to what is behind a proxy.
#[derive(Clone)]
pub(in crate::streams) struct Tls {
    /// To kubelets, which want our certificate.
    kubelet: Arc<ClientConfig>,
    /// To pods and Services, whose certificates nobody can check.
    any: Arc<ClientConfig>,
}

impl Tls {
    pub fn new(kubelet: Arc<ClientConfig>) -> Self {
        let any = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Anyone::verifier(kubelet.crypto_provider().clone()))
            .with_no_client_auth();
        Tls { kubelet, any: Arc::new(any) }
    }

    async fn over(&self, io: Box<dyn Io>, place: &Place) -> Result<Box<dyn Io>, Unreached> {
        let config = if place.kubelet { self.kubelet.clone() } else { self.any.clone() };
        secured(io, config, ServerName::IpAddress(place.address.into())).await
    }
}

/// TLS over a connection, with a server of that name.
pub(crate) async fn secured(
    io: Box<dyn Io>,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Box<dyn Io>, Unreached> {
    let handshake = tokio_rustls::TlsConnector::from(config).connect(name, io);
    match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(io)) => Ok(Box::new(io)),
        Ok(Err(e)) => Err(Unreached(refusal(&e))),
        Err(_) => Err(Unreached("net/http: TLS handshake timeout".to_owned())),
    }
}

/// Why a TLS handshake failed, in upstream's words where it is the usual reason.
fn refusal(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Connects.
pub(super) async fn connect(
    nodes: &dyn NodeStreams,
    tls: &Tls,
    place: &Place,
) -> Result<Box<dyn Io>, Unreached> {
    let io = plain(nodes, place).await?;
    if place.tls { tls.over(io, place).await } else { Ok(io) }
}

/// Connects without TLS.
pub(crate) async fn plain(nodes: &dyn NodeStreams, place: &Place) -> Result<Box<dyn Io>, Unreached> {
    match &place.node {
        Some(node) if nodes.dials(node) => {
            let request = DialRequest { address: place.address, port: place.port };
            Ok(Box::new(pipe(nodes.dial(node, request).await.map_err(|e| Unreached(e.to_string()))?)))
        }
        _ => dialled(&place.address.to_string(), place.port).await,
    }
}

/// Connects from here, to an address or a name.
pub(crate) async fn dialled(host: &str, port: u16) -> Result<Box<dyn Io>, Unreached> {
    let at = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let connecting = tokio::net::TcpStream::connect((host, port));
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(tcp)) => Ok(Box::new(tcp)),
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Unreached(format!("dial tcp {at}: connect: connection refused")))
        }
        Ok(Err(e)) => Err(Unreached(format!("dial tcp {at}: {e}"))),
        Err(_) => Err(Unreached(format!("dial tcp {at}: i/o timeout"))),
    }
}

/// A stream of frames as a connection. It ends when either end is dropped.
fn pipe(frames: FrameStream) -> DuplexStream {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (mut read, mut write) = tokio::io::split(far);
    let FrameStream { input, mut output } = frames;
    tokio::spawn(async move {
        let outward = async {
            let mut buffer = vec![0; FRAME_BYTES_MAX];
            loop {
                match read.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => {
                        let piece = Bytes::copy_from_slice(&buffer[..n]);
                        if input.send(Frame::Stdin(piece)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        let inward = async {
            while let Some(frame) = output.recv().await {
                match frame {
                    Frame::Stdout(piece) => {
                        let written = write.write_all(&piece).await;
                        if written.is_err() {
                            return;
                        }
                    }
                    // An HTTP peer that has said all says nothing more; one that failed neither.
                    Frame::CloseStdout | Frame::Error(_) => break,
                    _ => {}
                }
            }
            let _ = write.shutdown().await;
            std::future::pending::<()>().await;
        };
        // An HTTP client gives its connection up as a whole, when it has read what the peer had to say.
        tokio::select! {
            () = outward => {}
            () = inward => {}
        }
    });
    near
}

/// Accepts any certificate: pods and Services have none that the cluster could check.
#[derive(Debug)]
pub(crate) struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl Anyone {
    /// For a configuration that uses this cryptography.
    pub fn verifier(provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Anyone { provider })
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
