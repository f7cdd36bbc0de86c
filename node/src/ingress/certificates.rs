//! Certificates by host, from the Secrets that Ingresses name; what a client that asks for a host is shown.
//!
//! A Secret that is broken leaves in use what it held before; one that is deleted does not.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::claims::{Claims, Key, Rank};
use super::hosts::ByHost;

/// What is wrong with a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// It does not exist.
    #[error("secret \"{0}\" does not exist")]
    Missing(Key),
    /// It has no such entry.
    #[error("secret \"{0}\" has no {1}")]
    NoEntry(Key, &'static str),
    /// Its entries are not understood, or not of one another.
    #[error("secret \"{0}\" holds no certificate with its key in PEM: {1}")]
    Broken(Key, String),
    /// There are more Secrets than this node follows.
    #[error("secret \"{0}\" is not followed: Ingresses name more than {SECRETS_MAX} Secrets")]
    TooMany(Key),
}

impl SecretFault {
    /// The reason of an event about it.
    pub fn reason(&self) -> &'static str {
        match self {
            SecretFault::Missing(_) => "SecretMissing",
            SecretFault::NoEntry(..) | SecretFault::Broken(..) => "SecretBroken",
            SecretFault::TooMany(_) => "SecretNotFollowed",
        }
    }
}

/// Secrets that a node follows at most: each is a watch of its own.
pub const SECRETS_MAX: usize = 1024;

/// The certificate and key of a Secret.
///
/// # Errors
/// When there are none, or they do not belong together.
pub fn read(name: &Key, secret: &Secret) -> Result<Arc<CertifiedKey>, SecretFault> {
    let entry = |entry: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(entry));
        data.map(|bytes| bytes.0.as_slice()).ok_or(SecretFault::NoEntry(name.clone(), entry))
    };
    let broken = |why: String| SecretFault::Broken(name.clone(), why);
    let (certificates, key) = (entry("tls.crt")?, entry("tls.key")?);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|e| broken(format!("tls.crt: {e}")))?;
    if chain.is_empty() {
        return Err(broken("tls.crt: no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| broken(format!("tls.key: {e}")))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map(Arc::new).map_err(|e| broken(e.to_string()))
}

/// What is known of a Secret.
#[derive(Debug, Default)]
struct Known {
    /// The Ingresses that name it.
    by: Vec<Key>,
    certificate: Option<Arc<CertifiedKey>>,
    fault: Option<SecretFault>,
}

/// All certificates.
#[derive(Debug, Default)]
pub struct Certificates {
    secrets: HashMap<Key, Known>,
    /// Who names which Secret for hosts, in order of precedence.
    hosts: ByHost<Vec<(Rank, Key)>>,
}

impl Certificates {
    /// An Ingress names other hosts and Secrets than before. Secrets that nobody names any more are forgotten.
    pub fn change(&mut self, before: Option<&Claims>, now: Option<&Claims>) {
        if let Some(claims) = before {
            for (host, secret) in &claims.certificates {
                let of_host = self.hosts.at(host);
                of_host.retain(|(rank, named)| *rank != claims.rank || named != secret);
                if of_host.is_empty() {
                    self.hosts.remove(host);
                }
            }
        }
        if let Some(claims) = now {
            for (host, secret) in &claims.certificates {
                let (of_host, named) = (self.hosts.at(host), (claims.rank.clone(), secret.clone()));
                if let Err(place) = of_host.binary_search(&named) {
                    of_host.reserve_exact(1);
                    of_host.insert(place, named);
                }
                let known = self.secrets.entry(secret.clone()).or_default();
                if !known.by.contains(&claims.rank.ingress) {
                    known.by.push(claims.rank.ingress.clone());
                }
            }
        }
        let kept = now.map(Claims::secrets).unwrap_or_default();
        if let Some(claims) = before {
            for secret in claims.secrets().into_iter().filter(|secret| !kept.contains(secret)) {
                let Some(known) = self.secrets.get_mut(secret) else { continue };
                known.by.retain(|ingress| *ingress != claims.rank.ingress);
                if known.by.is_empty() {
                    self.secrets.remove(secret);
                }
            }
        }
    }

    /// A Secret as it is now.
    pub fn set(&mut self, secret: &Key, read: Result<Arc<CertifiedKey>, SecretFault>) {
        let Some(known) = self.secrets.get_mut(secret) else { return };
        match read {
            Ok(certificate) => {
                known.certificate = Some(certificate);
                known.fault = None;
            }
            Err(fault) => {
                if matches!(fault, SecretFault::Missing(_)) {
                    known.certificate = None;
                }
                known.fault = Some(fault);
            }
        }
    }

    /// The Secrets that Ingresses name.
    pub fn secrets(&self) -> impl Iterator<Item = &Key> {
        self.secrets.keys()
    }

    /// The Ingresses that name a Secret.
    pub fn users(&self, secret: &Key) -> BTreeSet<Key> {
        self.secrets.get(secret).into_iter().flat_map(|known| known.by.iter().cloned()).collect()
    }

    /// What is wrong with a Secret, as far as is known.
    pub fn fault(&self, secret: &Key) -> Option<&SecretFault> {
        self.secrets.get(secret)?.fault.as_ref()
    }

    /// The certificate for a host; without a name, the one for clients that name none.
    pub fn find(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = self.hosts.matching(host.unwrap_or_default());
        let mut secrets = named.flatten().filter_map(|(_, secret)| self.secrets.get(secret));
        secrets.find_map(|known| known.certificate.clone())
    }

    /// Takes over what an earlier table knew of Secrets that are named here too.
    pub fn take_over(&mut self, earlier: &mut Certificates) {
        for (secret, known) in &mut self.secrets {
            if known.certificate.is_none()
                && let Some(earlier) = earlier.secrets.get_mut(secret)
            {
                known.certificate = earlier.certificate.take();
            }
        }
    }
}

#[cfg(test)]
mod tests;
