//! ServiceAccount tokens: JSON web tokens signed by the cluster's key, bound to an account and perhaps to
//! a pod, secret or node, and good only as long as those exist.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use protocol::Caller;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::meta::{NameRule, name_errors};
use crate::cache::Cache;

pub mod lasting;

/// Who issues the tokens, and the audience that the API server is.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// What is wrong with a token or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this cluster, or it is damaged.
    #[error("invalid bearer token")]
    Invalid,
    /// Its time is over, or has not come.
    #[error("service account token has expired")]
    Expired,
    /// It is for somebody else.
    #[error("token audiences {0:?} are not accepted")]
    Audience(Vec<String>),
    /// The account, or what the token is bound to, is gone or another one.
    #[error("service account token has been invalidated: {0}")]
    Invalidated(String),
    /// The signing key is unusable.
    #[error("the service account key is unusable: {0}")]
    Key(String),
}

/// The key that signs tokens.
pub struct TokenKeys {
    signing: EncodingKey,
    verifying: DecodingKey,
    algorithm: Algorithm,
    id: String,
    jwk: Jwk,
}

/// An object that claims name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Name.
    pub name: String,
    /// Uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The private claims under `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The account's namespace.
    pub namespace: String,
    /// The node that the pod runs on, or that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    /// The pod that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    /// The secret that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    /// The account.
    pub serviceaccount: ObjectRef,
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is.
    pub aud: Vec<String>,
    /// Until when it is good, in seconds since the epoch.
    pub exp: u64,
    /// When it was issued.
    pub iat: u64,
    /// Who issued it.
    pub iss: String,
    /// Its own id.
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// From when it is good.
    pub nbf: u64,
    /// The account's user name.
    pub sub: String,
}

impl std::fmt::Debug for TokenKeys {
    /// Shows which key it is, not the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A token that was made just now.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: String,
    /// What names it, without being it.
    pub credential_id: String,
}

impl TokenKeys {
    /// The key in a PEM file: RSA (RS256, what upstream has) or P-256 (ES256), as PKCS#8.
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let bad = |e: jsonwebtoken::errors::Error| TokenError::Key(e.to_string());
        let (signing, algorithm) = match EncodingKey::from_rsa_pem(pem.as_bytes()) {
            Ok(key) => (key, Algorithm::RS256),
            Err(_) => (EncodingKey::from_ec_pem(pem.as_bytes()).map_err(bad)?, Algorithm::ES256),
        };
        let mut jwk = Jwk::from_encoding_key(&signing, algorithm).map_err(bad)?;
        let verifying = DecodingKey::from_jwk(&jwk).map_err(bad)?;
        let public = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => format!("{}.{}", rsa.n, rsa.e),
            AlgorithmParameters::EllipticCurve(ec) => format!("{}.{}", ec.x, ec.y),
            _ => return Err(TokenError::Key("it is neither RSA nor P-256".to_owned())),
        };
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(public.as_bytes()));
        jwk.common.key_id = Some(id.clone());
        Ok(TokenKeys { signing, verifying, algorithm, id, jwk })
    }

    /// The key set that `/openid/v1/jwks` serves.
    pub fn jwks(&self) -> Value {
        let mut key = serde_json::to_value(&self.jwk).unwrap_or_default();
        key["use"] = "sig".into();
        json!({"keys": [key]})
    }

    /// The document that `/.well-known/openid-configuration` serves.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [format!("{:?}", self.algorithm)],
        })
    }

    /// Signs a token for an account. `bound` says everything but the account's own claims.
    pub fn mint(
        &self,
        audiences: &[String],
        lifetime: Duration,
        now: SystemTime,
        bound: Bound,
    ) -> Result<Minted, TokenError> {
        let seconds = seconds(now);
        let claims = Claims {
            aud: audiences.to_vec(),
            exp: seconds + lifetime.as_secs(),
            iat: seconds,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: seconds,
            sub: user_name(&bound.namespace, &bound.serviceaccount.name),
            bound,
        };
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.signing);
        let token = token.map_err(|e| TokenError::Key(e.to_string()))?;
        Ok(Minted { token, credential_id: credential_id(&claims.jti) })
    }

    /// Checks signature, issuer, times and audiences. Returns the claims and the audiences that both sides
    /// name.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: SystemTime,
    ) -> Result<(Claims, Vec<String>), TokenError> {
        let mut validation = Validation::new(self.algorithm);
        // The clock and the audiences are ours to check: one is virtual in tests, the others may be many.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims: Claims = jsonwebtoken::decode(token, &self.verifying, &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        let now = seconds(now);
        if claims.iss != ISSUER {
            return Err(TokenError::Invalid);
        }
        if now >= claims.exp || now + 10 < claims.nbf {
            return Err(TokenError::Expired);
        }
        let common: Vec<String> = audiences.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(TokenError::Audience(claims.aud));
        }
        Ok((claims, common))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// An account's user name.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Namespace and name of the account behind a user name.
pub fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let fits = |rule, text: &str| name_errors(rule, text, false).is_empty();
    (fits(NameRule::Label, namespace) && fits(NameRule::Subdomain, name)).then_some((namespace, name))
}

/// The groups of an account, without `system:authenticated`.
pub fn account_groups(namespace: &str) -> [String; 2] {
    ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// How identities and the audit log name a token.
fn credential_id(jti: &str) -> String {
    format!("JTI={jti}")
}

/// Who a checked token stands for, provided that the account and all that it is bound to still exist.
pub fn caller_of(claims: &Claims, cache: &Cache, now: SystemTime) -> Result<Caller, TokenError> {
    let Bound { namespace, node, pod, secret, serviceaccount } = &claims.bound;
    let gone = |what: &str, name: &str| TokenError::Invalidated(format!("{what} {namespace}/{name} is gone"));
    if claims.sub != user_name(namespace, &serviceaccount.name) {
        return Err(TokenError::Invalid);
    }
    let account = cache.get::<ServiceAccount>(namespace, &serviceaccount.name);
    let account = account.ok_or_else(|| gone("serviceaccount", &serviceaccount.name))?;
    if account.metadata.uid.as_deref() != Some(serviceaccount.uid.as_str()) {
        return Err(gone("serviceaccount", &serviceaccount.name));
    }
    let mut extra = BTreeMap::new();
    let mut remember = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    remember("credential-id", &credential_id(&claims.jti));
    if let Some(pod) = pod {
        let found = cache.get::<Pod>(namespace, &pod.name).ok_or_else(|| gone("pod", &pod.name))?;
        let deleted = found
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|t| UNIX_EPOCH + Duration::from_secs(t.0.as_second().try_into().unwrap_or(0)));
        // A pod that is going away keeps its token for a minute beyond its grace period.
        if found.metadata.uid.as_deref() != Some(pod.uid.as_str())
            || deleted.is_some_and(|at| at + Duration::from_secs(60) < now)
        {
            return Err(gone("pod", &pod.name));
        }
        remember("pod-name", &pod.name);
        remember("pod-uid", &pod.uid);
    }
    if let Some(secret) = secret {
        let found =
            cache.get::<Secret>(namespace, &secret.name).ok_or_else(|| gone("secret", &secret.name))?;
        if found.metadata.uid.as_deref() != Some(secret.uid.as_str()) {
            return Err(gone("secret", &secret.name));
        }
    }
    if let Some(node) = node {
        // A pod's token outlives its node; a node's token does not.
        if pod.is_none() {
            let found = cache.get::<Node>("", &node.name).ok_or_else(|| gone("node", &node.name))?;
            if found.metadata.uid.as_deref() != Some(node.uid.as_str()) {
                return Err(gone("node", &node.name));
            }
        }
        remember("node-name", &node.name);
        remember("node-uid", &node.uid);
    }
    let mut groups = account_groups(namespace).to_vec();
    groups.push(super::AUTHENTICATED.to_owned());
    Ok(Caller { user: claims.sub.clone(), uid: serviceaccount.uid.clone(), groups, extra })
}
