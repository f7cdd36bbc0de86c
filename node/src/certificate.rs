//! The node's certificate, which is renewed long before it ends, without a restart.
//!
//! The key stays; the master signs it again over the link, for the node that the link is of. Connections that
//! are made from then on show the new certificate: the kubelet's ports take it from here, the next link takes
//! it from the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actors::{Actor, ActorRef, AsyncContext, Context, Props, RestartPolicy, Stage};
use parking_lot::RwLock;
use protocol::link::CERTIFICATE_BACKDATED;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::GeneralName;

use crate::link::LinkApi;

/// A failed renewal is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(600);
/// However short certificates live, the master is not asked more often than this.
const RENEWALS_APART_MIN: Duration = Duration::from_secs(10);
/// Timers are no longer than this: a day, after which the clock is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Why a certificate cannot be used or renewed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Certificate or key are damaged, or not each other's.
    #[error("the node's certificate is not understood: {0}")]
    Damaged(String),
    /// The file cannot be written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The master did not sign.
    #[error("the master did not renew it: {0}")]
    Refused(#[from] protocol::ApiError),
}

fn damaged(why: impl std::fmt::Display) -> CertificateError {
    CertificateError::Damaged(why.to_string())
}

/// A certificate and its key as they are now. Cloning shares them.
#[derive(Clone)]
pub struct NodeCertificate {
    key_pem: Arc<str>,
    /// Where the certificate is kept, too.
    file: Option<PathBuf>,
    current: Arc<RwLock<Current>>,
}

struct Current {
    pem: Arc<str>,
    key: Arc<CertifiedKey>,
}

impl std::fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeCertificate")
    }
}

fn read(pem: &str, key_pem: &str) -> Result<Current, CertificateError> {
    let chain =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(damaged)?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(damaged)?;
    Ok(Current { pem: pem.into(), key: Arc::new(key) })
}

impl NodeCertificate {
    /// From PEM. What is renewed is written to `file` as well, where there is one.
    ///
    /// # Errors
    /// When the certificate or the key is not understood, or they do not belong together.
    pub fn new(pem: &str, key_pem: &str, file: Option<PathBuf>) -> Result<Self, CertificateError> {
        let current = Arc::new(RwLock::new(read(pem, key_pem)?));
        Ok(NodeCertificate { key_pem: key_pem.into(), file, current })
    }

    fn pem(&self) -> Arc<str> {
        self.current.read().pem.clone()
    }

    /// Takes a new certificate for the same key into use.
    async fn replace(&self, pem: &str) -> Result<(), CertificateError> {
        let new = read(pem, &self.key_pem)?;
        if let Some(path) = &self.file {
            let failed = |source| CertificateError::File { path: path.clone(), source };
            // Whole or not at all: a node that is killed now must find one of the two.
            let beside = path.with_extension("new");
            tokio::fs::write(&beside, pem).await.map_err(failed)?;
            tokio::fs::rename(&beside, path).await.map_err(failed)?;
        }
        *self.current.write() = new;
        Ok(())
    }

    /// Has the key signed again.
    async fn renew(&self, api: &LinkApi) -> Result<(), CertificateError> {
        let (pem, key) = (self.pem(), self.key_pem.clone());
        let request = tokio::task::spawn_blocking(move || request(&pem, &key)).await.map_err(damaged)??;
        let signed = api.renew(request).await?;
        self.replace(&signed).await
    }

    /// Keeps it good: starts the actor that renews it over the link.
    pub fn keep_renewed(&self, stage: &Stage, api: LinkApi) -> ActorRef<Renewal> {
        let certificate = self.clone();
        let make = move || Renewal { certificate: certificate.clone(), api: api.clone() };
        stage.spawn(Props::new("node/certificate", make).restart(RestartPolicy::Permanent))
    }
}

impl ResolvesServerCert for NodeCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().key.clone())
    }
}

/// A signing request with the names of the certificate that is to be replaced.
fn request(pem: &str, key_pem: &str) -> Result<String, CertificateError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(damaged)?;
    let certificate = block.parse_x509().map_err(damaged)?;
    let mut names = Vec::new();
    if let Some(alternatives) = certificate.subject_alternative_name().map_err(damaged)? {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.push(SanType::DnsName((*name).try_into().map_err(damaged)?));
                }
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
                    let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
                    names.push(SanType::IpAddress(ip.map_err(damaged)?));
                }
                _ => {}
            }
        }
    }
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = DistinguishedName::new();
    for name in certificate.subject().iter_common_name() {
        params.distinguished_name.push(DnType::CommonName, name.as_str().map_err(damaged)?);
    }
    let key = KeyPair::from_pem(key_pem).map_err(damaged)?;
    params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(damaged)
}

/// From when to when a certificate is good, as far as its signing and not clocks that are behind are concerned: a
/// short life would else be mostly past when it begins, and renewed without end.
fn lifetime(pem: &str) -> Result<(SystemTime, SystemTime), CertificateError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(damaged)?;
    let validity = block.parse_x509().map_err(damaged)?.validity().clone();
    let time = |t: x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(t.timestamp()).unwrap_or(0))
    };
    let to = time(validity.not_after);
    Ok(((time(validity.not_before) + CERTIFICATE_BACKDATED).min(to), to))
}

/// When to renew: when `share` of the time that it is good has passed.
fn due((from, to): (SystemTime, SystemTime), share: f64) -> SystemTime {
    from + to.duration_since(from).unwrap_or_default().mul_f64(share.clamp(0.0, 1.0))
}

/// Renews the certificate when it is time.
pub struct Renewal {
    certificate: NodeCertificate,
    api: LinkApi,
}

impl Renewal {
    fn look(&mut self, ctx: &mut Context<Self>) {
        let lifetime = match lifetime(&self.certificate.pem()) {
            Ok(lifetime) => lifetime,
            Err(e) => {
                ctx.fail(e.to_string());
                return;
            }
        };
        // Not all nodes at once: between 70 and 90 % of the way.
        let due = due(lifetime, 0.8 * actors::random::jitter(0.125));
        match due.duration_since(actors::time::now()) {
            Ok(wait) if !wait.is_zero() => {
                ctx.run_later(wait.min(LOOK_AGAIN), Self::look);
            }
            _ => self.renew(ctx),
        }
    }

    fn renew(&mut self, ctx: &mut Context<Self>) {
        let (certificate, api) = (self.certificate.clone(), self.api.clone());
        ctx.run(async move { certificate.renew(&api).await }, |_, renewed, ctx| match renewed {
            Ok(()) => {
                tracing::info!("the node's certificate is renewed");
                ctx.run_later(RENEWALS_APART_MIN, Self::look);
            }
            Err(e) => {
                tracing::warn!(error = %e, "the node's certificate cannot be renewed yet; trying again");
                ctx.run_later(TRY_AGAIN.mul_f64(actors::random::jitter(0.2)), Self::renew);
            }
        });
    }
}

impl Actor for Renewal {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(key: &KeyPair, days: u64) -> String {
        let names = vec!["n1".to_owned(), "192.0.2.7".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "system:node:n1");
        params.not_before = (UNIX_EPOCH + Duration::from_secs(1_700_000_000) - CERTIFICATE_BACKDATED).into();
        params.not_after = (UNIX_EPOCH + Duration::from_secs(1_700_000_000 + days * 86_400)).into();
        params.self_signed(key).unwrap().pem()
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_and_kept() {
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.crt");
        let old = signed(&key, 1);
        let certificate = NodeCertificate::new(&old, &key.serialize_pem(), Some(file.clone())).unwrap();
        let before = certificate.current.read().key.clone();
        let new = signed(&key, 2);
        certificate.replace(&new).await.unwrap();
        assert!(!Arc::ptr_eq(&before, &certificate.current.read().key));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), new);
        // Somebody else's certificate changes nothing.
        let other = signed(&KeyPair::generate().unwrap(), 3);
        assert!(certificate.replace(&other).await.is_err());
        assert_eq!(&*certificate.pem(), new);
    }

    #[test]
    fn the_request_has_the_names_of_the_certificate() {
        let key = KeyPair::generate().unwrap();
        let csr = request(&signed(&key, 1), &key.serialize_pem()).unwrap();
        let read = rcgen::CertificateSigningRequestParams::from_pem(&csr).unwrap();
        let names = read.params.subject_alt_names;
        let expected =
            [SanType::DnsName("n1".try_into().unwrap()), SanType::IpAddress("192.0.2.7".parse().unwrap())];
        assert_eq!(names, expected);
    }

    #[test]
    fn it_is_due_well_before_its_end() {
        let key = KeyPair::generate().unwrap();
        let lifetime = lifetime(&signed(&key, 100)).unwrap();
        let day = |n: u64| UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n * 86_400);
        assert_eq!(lifetime, (day(0), day(100)));
        assert_eq!(due(lifetime, 0.8), day(80));
        for share in [-1.0, 2.0] {
            let at = due(lifetime, share);
            assert!(at == day(0) || at == day(100));
        }
    }
}
