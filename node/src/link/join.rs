//! How a new node gets its certificate: with a bootstrap token and nothing else.
//!
//! First the master proves, with the token's secret, which CA is the cluster's; only then, over TLS that
//! this CA vouches for, the token itself is shown and a certificate is signed. The key never leaves the node.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actors::AskError;
use actors::link::{LinkStream, Peer, Serve};
use async_trait::async_trait;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use protocol::ApiError;
use protocol::link::{
    CERTIFICATE_BACKDATED, JoinAnswer, JoinGrant, JoinQuestion, JoinRequest, decode, encode, tag,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ClientConfig;

use super::connector::{ConnectError, dial, roots};
use crate::unverified;

#[cfg(test)]
mod tests;

const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Clocks that are further apart than this are refused: few certificates live long enough to forgive more.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(5 * 60);

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is not of the form `abcdef.0123456789abcdef`.
    #[error("the token is not of the form abcdef.0123456789abcdef; make one with: troupe token create")]
    MalformedToken,
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The master does not know the token's secret.
    #[error(
        "{0} could not prove that it knows the token's secret: the token is wrong, has expired or is of another \
         cluster (make a new one with: troupe token create), or something else answers at that address"
    )]
    Unproven(String),
    /// The master refused.
    #[error("the master refused: {0}")]
    Refused(ApiError),
    /// No answer.
    #[error("the master did not answer: {0}; try again, and look at the master's log")]
    NoAnswer(AskError),
    /// Certificates, tokens and leases are judged by the clock.
    #[error(
        "this machine's clock is {minutes} minutes {direction} the master's: set one of them right (chrony or \
         systemd-timesyncd keep them so), then join again"
    )]
    Clock {
        /// By how much.
        minutes: u64,
        /// `ahead of` or `behind`.
        direction: &'static str,
    },
    /// The key, request or certificate could not be made or written.
    #[error("{0}")]
    Local(String),
}

fn local(e: impl std::fmt::Display) -> JoinError {
    JoinError::Local(e.to_string())
}

/// Names of the files that a joined node keeps in its certificate folder.
pub mod files {
    /// The node's certificate.
    pub const CERTIFICATE: &str = "node.crt";
    /// Its private key.
    pub const KEY: &str = "node.key";
    /// The cluster's CA.
    pub const CA: &str = "ca.crt";
    /// What the master said about the cluster's network.
    pub const GRANT: &str = "cluster.json";
}

/// Joins the cluster at `address` and writes key, certificate, CA and cluster facts into `folder`.
pub async fn join(
    address: &str,
    token: &str,
    node: &str,
    names: Vec<String>,
    folder: &Path,
) -> Result<JoinGrant, JoinError> {
    let (token_id, secret) = token.split_once('.').ok_or(JoinError::MalformedToken)?;
    if token_id.len() != 6 || secret.len() != 16 {
        return Err(JoinError::MalformedToken);
    }
    let ca_pem = prove(address, token_id, secret).await?;

    let key = KeyPair::generate().map_err(local)?;
    let mut params = CertificateParams::new(names.clone()).map_err(local)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let csr_pem = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(local)?;

    let config =
        ClientConfig::builder().with_root_certificates(roots(ca_pem.as_bytes())?).with_no_client_auth();
    let request = JoinRequest { token: token.to_owned(), node: node.to_owned(), csr_pem, names };
    let grant: JoinGrant = ask(address, config, tag::JOIN, &request).await?;
    compare_clocks(signed_at(&grant.certificate_pem)?, actors::time::now())?;

    let write = async |name: &str, text: &str| {
        let path = folder.join(name);
        write_private(&path, text).await.map_err(|e| JoinError::Local(format!("{}: {e}", path.display())))
    };
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(|e| JoinError::Local(format!("{}: {e}", folder.display())))?;
    write(files::CA, &ca_pem).await?;
    write(files::KEY, &key.serialize_pem()).await?;
    write(files::GRANT, &serde_json::to_string(&grant).map_err(local)?).await?;
    // Last: a folder with a certificate is complete.
    write(files::CERTIFICATE, &grant.certificate_pem).await?;
    Ok(grant)
}

/// What the master's clock said when it signed a certificate that is new.
fn signed_at(pem: &str) -> Result<SystemTime, JoinError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(local)?;
    let certificate = block.parse_x509().map_err(local)?;
    let from = u64::try_from(certificate.validity().not_before.timestamp()).map_err(local)?;
    Ok(UNIX_EPOCH + Duration::from_secs(from) + CERTIFICATE_BACKDATED)
}

fn compare_clocks(master: SystemTime, here: SystemTime) -> Result<(), JoinError> {
    let (apart, direction) = match here.duration_since(master) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    if apart <= CLOCKS_APART_MAX {
        return Ok(());
    }
    Err(JoinError::Clock { minutes: apart.as_secs() / 60, direction })
}

/// What an earlier join left, if it is complete.
pub async fn joined(folder: &Path) -> Option<JoinGrant> {
    tokio::fs::metadata(folder.join(files::CERTIFICATE)).await.ok()?;
    serde_json::from_slice(&tokio::fs::read(folder.join(files::GRANT)).await.ok()?).ok()
}

async fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).await?;
    tokio::io::AsyncWriteExt::write_all(&mut file, text.as_bytes()).await?;
    file.sync_all().await
}

/// Learns the CA over an unproven connection, and checks the proof.
async fn prove(address: &str, token_id: &str, secret: &str) -> Result<String, JoinError> {
    // The answer proves itself.
    let config = unverified::client_config();
    let nonce = rand::random();
    let question = JoinQuestion { token_id: token_id.to_owned(), nonce };
    let answer: JoinAnswer = ask(address, config, tag::JOIN_INFO, &question).await?;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).map_err(local)?;
    mac.update(&nonce);
    mac.update(answer.ca_pem.as_bytes());
    mac.verify_slice(&answer.proof).map_err(|_| JoinError::Unproven(address.to_owned()))?;
    Ok(answer.ca_pem)
}

async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
    address: &str,
    config: ClientConfig,
    asked: u16,
    question: &Q,
) -> Result<A, JoinError> {
    let io = dial(address, config).await?;
    let connecting = actors::link::connect(io, address, Arc::new(Nothing), tag::name).await;
    let (peer, serving): (Peer, _) = connecting.map_err(ConnectError::from)?;
    let payload = encode(question).map_err(local)?;
    let answer = tokio::select! {
        answer = peer.ask(asked, payload, JOIN_TIMEOUT) => answer.map_err(JoinError::NoAnswer)?,
        ended = serving => return Err(ConnectError::from(ended).into()),
    };
    decode::<Result<A, ApiError>>(&answer).map_err(local)?.map_err(JoinError::Refused)
}

/// A node that is still joining does nothing for the master.
struct Nothing;

#[async_trait]
impl Serve for Nothing {
    async fn ask(&self, _: u16, _: Bytes) -> Result<Bytes, AskError> {
        Err(AskError::Closed)
    }
    async fn stream(&self, _: u16, _: Bytes, _: LinkStream) {}
    fn tag_name(&self, asked: u16) -> &'static str {
        tag::name(asked)
    }
}
