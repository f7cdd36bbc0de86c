//! Tokens that never expire: those in Secrets of type `kubernetes.io/service-account-token`. One is good as
//! long as its Secret holds it and its account is the one that it was made for.

use jsonwebtoken::{Header, Validation};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use protocol::Caller;
use serde::{Deserialize, Serialize};

use super::{TokenError, TokenKeys, account_groups, user_name};
use crate::auth::AUTHENTICATED;
use crate::cache::Cache;

const ISSUER: &str = "kubernetes/serviceaccount";

/// The type of such Secrets.
pub const TYPE: &str = "kubernetes.io/service-account-token";

/// What such a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    /// The account's namespace.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The Secret that holds the token.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// The account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// The account's uid.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
    sub: String,
}

impl TokenKeys {
    /// Signs the token that a Secret holds for an account.
    pub fn mint_lasting(
        &self,
        namespace: &str,
        secret: &str,
        account: &str,
        uid: &str,
    ) -> Result<String, TokenError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            uid: uid.to_owned(),
            sub: user_name(namespace, account),
        };
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|e| TokenError::Key(e.to_string()))
    }

    /// What a token of this kind says; [`TokenError::Invalid`] for any other.
    pub fn verify_lasting(&self, token: &str) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(self.algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation);
        decoded.ok().map(|d| d.claims).filter(|c| c.iss == ISSUER).ok_or(TokenError::Invalid)
    }
}

/// Who such a token stands for.
pub fn caller_of(token: &str, claims: &Claims, cache: &Cache) -> Result<Caller, TokenError> {
    let Claims { namespace, secret, account, uid, .. } = claims;
    let gone =
        |what: &str, name: &str| Err(TokenError::Invalidated(format!("{what} {namespace}/{name} is gone")));
    let held = cache.get::<Secret>(namespace, secret).filter(|s| {
        let data = s.data.as_ref().and_then(|data| data.get("token"));
        s.metadata.deletion_timestamp.is_none() && data.is_some_and(|held| held.0 == token.as_bytes())
    });
    if held.is_none() {
        return gone("secret", secret);
    }
    let found = cache.get::<ServiceAccount>(namespace, account);
    if found.is_none_or(|a| a.metadata.uid.as_deref() != Some(uid)) {
        return gone("serviceaccount", account);
    }
    let mut groups = account_groups(namespace).to_vec();
    groups.push(AUTHENTICATED.to_owned());
    Ok(Caller { user: claims.sub.clone(), uid: uid.clone(), groups, ..Caller::default() })
}
