//! Ways to reach the master: TLS between machines, memory within a process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::link::LinkError;
use async_trait::async_trait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A connection, TLS included, stands within this time.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection in both directions.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address does not answer.
    #[error("{address}: {source}; is the master running, and is the address right?")]
    Tcp {
        /// What was dialled.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Nothing comes back.
    #[error(
        "{address} does not answer within {seconds} s; is the address right, and does no firewall swallow packets?"
    )]
    Silent {
        /// What was dialled.
        address: String,
        /// How long it had.
        seconds: u64,
    },
    /// TLS failed: certificates, or a clock that is off.
    #[error(
        "TLS with {address}: {source}; compare the clocks of both machines, and the cluster that the certificate is of"
    )]
    Tls {
        /// What was dialled.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The master's certificate is good, but not for the address dialled.
    #[error(
        "{address}: the master's certificate is not for \"{host}\"; start the master with --advertise {host} \
         (an address) or --certificate-name {host}, or dial a name that it has"
    )]
    Unnamed {
        /// What was dialled.
        address: String,
        /// The host in it.
        host: String,
    },
    /// Something that is no master's link port.
    #[error("{address}: what answers there speaks no TLS, so it is no master's link port (usually 6444)")]
    NotTls {
        /// What was dialled.
        address: String,
    },
    /// The node's own certificate or key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The master's end of the process is gone.
    #[error("the master in this process has stopped")]
    Gone,
    /// The link protocol failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Makes connections to the master.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// What is dialled, for messages.
    fn name(&self) -> &str;
    /// Connects once.
    async fn connect(&self) -> Result<Box<dyn Io>, ConnectError>;
}

/// Mutual TLS over TCP. The files are read at each connect, so a renewed certificate is used at the next.
pub struct Tls {
    /// `host:port` of the master's link port.
    pub address: String,
    /// The node's certificate in PEM.
    pub certificate: PathBuf,
    /// Its key in PEM.
    pub key: PathBuf,
    /// The cluster CA in PEM.
    pub ca: PathBuf,
}

#[async_trait]
impl Connector for Tls {
    fn name(&self) -> &str {
        &self.address
    }

    async fn connect(&self) -> Result<Box<dyn Io>, ConnectError> {
        let read = async |path: &PathBuf| {
            tokio::fs::read(path)
                .await
                .map_err(|e| ConnectError::Certificate(format!("{}: {e}", path.display())))
        };
        let bad = |e: &dyn std::fmt::Display| ConnectError::Certificate(e.to_string());
        let (certificate, key, ca) =
            (read(&self.certificate).await?, read(&self.key).await?, read(&self.ca).await?);
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().map_err(|e| bad(&e))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| bad(&e))?;
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots(&ca)?)
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad(&e))?;
        Ok(Box::new(dial(&self.address, config).await?))
    }
}

pub(super) fn roots(ca_pem: &[u8]) -> Result<rustls::RootCertStore, ConnectError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|e| ConnectError::Certificate(format!("cluster CA: {e}")))?;
        roots.add(certificate).map_err(|e| ConnectError::Certificate(format!("cluster CA: {e}")))?;
    }
    Ok(roots)
}

/// Connects, or gives up in time to dial anew: the kernel asks ever more seldom, at last every minute, and would
/// not notice for so long that packets pass again.
pub(super) async fn dial(
    address: &str,
    config: rustls::ClientConfig,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, dial_patiently(address, config)).await;
    dialled.unwrap_or_else(|_| {
        Err(ConnectError::Silent { address: address.to_owned(), seconds: DIAL_TIMEOUT.as_secs() })
    })
}

async fn dial_patiently(
    address: &str,
    config: rustls::ClientConfig,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|source| ConnectError::Tcp { address: address.to_owned(), source })?;
    // Small frames (a heartbeat, a keystroke) are not to wait for more.
    tcp.set_nodelay(true).map_err(|source| ConnectError::Tcp { address: address.to_owned(), source })?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| ConnectError::Certificate(format!("{address}: not a host name or address: {e}")))?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|source| handshake_failure(address, host, source))
}

fn handshake_failure(address: &str, host: &str, source: std::io::Error) -> ConnectError {
    use rustls::{CertificateError as Bad, Error};
    let address = address.to_owned();
    match source.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {
            ConnectError::Unnamed { address, host: host.to_owned() }
        }
        Some(Error::InvalidMessage(_)) => ConnectError::NotTls { address },
        _ => ConnectError::Tls { address, source },
    }
}

/// A connection within the process: the far end goes to the master's acceptor.
pub struct InMemory {
    /// Where the master's ends go.
    pub accept: mpsc::Sender<tokio::io::DuplexStream>,
}

/// Bytes that lie between both ends of an in-memory connection.
const IN_MEMORY_BYTES: usize = 64 * 1024;

#[async_trait]
impl Connector for InMemory {
    fn name(&self) -> &str {
        "this process"
    }

    async fn connect(&self) -> Result<Box<dyn Io>, ConnectError> {
        let (near, far) = tokio::io::duplex(IN_MEMORY_BYTES);
        self.accept.send(far).await.map_err(|_| ConnectError::Gone)?;
        Ok(Box::new(near))
    }
}
