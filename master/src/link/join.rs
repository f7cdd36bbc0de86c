//! Letting nodes join: proving the CA, checking tokens, signing certificates.

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use protocol::ApiError;
use protocol::link::{JoinAnswer, JoinGrant, JoinQuestion, JoinRequest};

/// Decides about newcomers.
#[async_trait]
pub trait Joining: Send + Sync + 'static {
    /// Proves that the cluster's CA is the one that the token's maker meant.
    async fn prove(&self, question: &JoinQuestion) -> Result<JoinAnswer, ApiError>;

    /// Checks the token and signs the node's certificate.
    async fn grant(&self, request: &JoinRequest) -> Result<JoinGrant, ApiError>;
}

/// The proof that whoever made it knows `secret`: HMAC-SHA256 of the nonce and the CA.
pub fn proof(secret: &str, nonce: &[u8; 32], ca_pem: &str) -> Result<Vec<u8>, ApiError> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).map_err(ApiError::internal)?;
    mac.update(nonce);
    mac.update(ca_pem.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}
