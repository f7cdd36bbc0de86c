//! Letting nodes join: proving the CA, checking tokens, signing certificates.

use std::sync::Arc;

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use k8s_openapi::api::core::v1::Secret;
use protocol::link::{JoinAnswer, JoinGrant, JoinQuestion, JoinRequest, RenewRequest};
use protocol::{ApiError, DualRange};
use rcgen::SanType;

use crate::auth::Authenticator;
use crate::cache::Cache;
use crate::pki::{Pki, Usage};

/// Decides about newcomers.
#[async_trait]
pub trait Joining: Send + Sync + 'static {
    /// Proves that the cluster's CA is the one that the token's maker meant.
    async fn prove(&self, question: &JoinQuestion) -> Result<JoinAnswer, ApiError>;

    /// Checks the token and signs the node's certificate.
    async fn grant(&self, request: &JoinRequest) -> Result<JoinGrant, ApiError>;

    /// Signs a new certificate for a node that has joined before.
    async fn renew(&self, node: &str, request: &RenewRequest) -> Result<String, ApiError>;
}

/// The proof that whoever made it knows `secret`: HMAC-SHA256 of the nonce and the CA.
fn proof(secret: &[u8], nonce: &[u8; 32], ca_pem: &str) -> Result<Vec<u8>, ApiError> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).map_err(ApiError::internal)?;
    mac.update(nonce);
    mac.update(ca_pem.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

/// What joining nodes are told about the cluster's network.
#[derive(Clone, Debug)]
pub struct ClusterFacts {
    /// Address of the cluster's DNS service.
    pub dns: String,
    /// The pods' addresses.
    pub cluster_cidr: DualRange,
    /// The services' addresses.
    pub service_cidr: DualRange,
}

/// Whether a node's certificate may have a name: one that others could be known by would let it pass for them.
fn belongs(name: &SanType, node: &str, services: DualRange) -> bool {
    match name {
        SanType::DnsName(dns) => dns.as_str() == node,
        SanType::IpAddress(address) => !services.contains(address),
        _ => false,
    }
}

/// Bootstrap tokens (Secrets in kube-system) let nodes in, and the cluster's CA signs their certificates.
pub struct TokenJoining {
    pki: Arc<Pki>,
    cache: Cache,
    authenticator: Authenticator,
    facts: ClusterFacts,
}

impl TokenJoining {
    /// Tokens are looked up in the cache.
    pub fn new(pki: Arc<Pki>, cache: Cache, authenticator: Authenticator, facts: ClusterFacts) -> Self {
        TokenJoining { pki, cache, authenticator, facts }
    }

    /// A certificate for a node; the request says only which key, and which further names.
    async fn sign(&self, node: &str, csr_pem: &str) -> Result<String, ApiError> {
        let (pki, node, csr) = (self.pki.clone(), node.to_owned(), csr_pem.to_owned());
        let services = self.facts.service_cidr;
        let signed = tokio::task::spawn_blocking(move || {
            let own = |name: &SanType| belongs(name, &node, services);
            pki.sign_csr(&csr, &format!("system:node:{node}"), &["system:nodes"], Usage::Both, &own)
        });
        let signed = signed.await.map_err(ApiError::internal)?;
        signed.map_err(|e| ApiError::bad_request(format!("the certificate request cannot be signed: {e}")))
    }
}

#[async_trait]
impl Joining for TokenJoining {
    async fn prove(&self, question: &JoinQuestion) -> Result<JoinAnswer, ApiError> {
        let secret =
            self.cache.get::<Secret>("kube-system", &format!("bootstrap-token-{}", question.token_id));
        let secret = secret.and_then(|s| s.data.as_ref()?.get("token-secret").map(|v| v.0.clone()));
        // Nothing tells an unknown token from a wrong secret: the proof just fails to convince.
        let secret = secret.unwrap_or_else(|| rand::random::<[u8; 16]>().to_vec());
        let ca_pem = self.pki.ca().to_owned();
        let proof = proof(&secret, &question.nonce, &ca_pem)?;
        Ok(JoinAnswer { ca_pem, proof })
    }

    async fn grant(&self, request: &JoinRequest) -> Result<JoinGrant, ApiError> {
        let refused = |why: &str| ApiError::new(401, "Unauthorized", why);
        let audience = [crate::auth::tokens::ISSUER.to_owned()];
        let (caller, _) = self.authenticator.token(&request.token, &audience).map_err(|_| {
            refused("the token is unknown or has expired; make a new one with: troupe token create")
        })?;
        if !caller.groups.iter().any(|g| g == "system:bootstrappers") {
            return Err(refused("the token does not let nodes join"));
        }
        let name = &request.node;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            return Err(ApiError::bad_request(format!(
                "\"{name}\" is no node name: use lowercase letters, digits, '-' and '.'"
            )));
        }
        let certificate_pem = self.sign(name, &request.csr_pem).await?;
        tracing::info!(node = name, "a node joined");
        Ok(JoinGrant {
            certificate_pem,
            cluster_dns: self.facts.dns.clone(),
            cluster_cidr: self.facts.cluster_cidr.to_string(),
            service_cidr: self.facts.service_cidr.to_string(),
        })
    }

    async fn renew(&self, node: &str, request: &RenewRequest) -> Result<String, ApiError> {
        let certificate = self.sign(node, &request.csr_pem).await?;
        tracing::info!(node, "a node's certificate is renewed");
        Ok(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_be_called_by_its_own_names_only() {
        let services = "10.96.0.0/16,fd00:10:96::/112".parse().expect("ranges");
        let dns = |name: &str| SanType::DnsName(name.try_into().expect("a name"));
        let ip = |text: &str| SanType::IpAddress(text.parse().expect("an address"));
        for (name, fine) in [
            (dns("n1"), true),
            (dns("n2"), false),
            (dns("kubernetes.default.svc"), false),
            (ip("192.0.2.7"), true),
            (ip("10.96.0.1"), false),
            (ip("fd00:10:96::1"), false),
        ] {
            assert_eq!(belongs(&name, "n1", services), fine, "{name:?}");
        }
    }
}
