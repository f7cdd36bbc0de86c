//! Users of an OpenID Connect issuer: their tokens, checked by the issuer's keys.
//!
//! Checking does no I/O. The keys are fetched by a task of their own: at the start, and when a token names a key
//! that is not known, since issuers change theirs; not more often than every few seconds, whoever asks.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use protocol::Caller;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::AUTHENTICATED;

/// Keys are not fetched more often.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// An issuer has this long to answer.
const FETCH_TIME: Duration = Duration::from_secs(10);
/// Signatures that upstream accepts as well.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Whose tokens are accepted, and what they say.
#[derive(Clone, Debug, Default)]
pub struct OidcConfig {
    /// The issuer's URL, exactly as tokens carry it.
    pub issuer: String,
    /// The audience that tokens must be for.
    pub audience: String,
    /// The claim with the user's name.
    pub username_claim: String,
    /// What names are prefixed with.
    pub username_prefix: String,
    /// The claim with the user's groups.
    pub groups_claim: Option<String>,
    /// What groups are prefixed with.
    pub groups_prefix: String,
    /// Claims that tokens must have.
    pub required: Vec<(String, String)>,
    /// The issuer's CA, PEM.
    pub ca: Option<String>,
    /// The issuer's keys, where they are not fetched.
    pub keys: Option<String>,
}

/// Why a token of the issuer is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// It is no token of this issuer; somebody else may know it.
    #[error("oidc: the token is of another issuer")]
    Foreign,
    /// The key that signed it is not known (yet).
    #[error("oidc: no key {0:?} of the issuer is known")]
    Key(String),
    /// It is not good.
    #[error("oidc: {0}")]
    Token(String),
}

/// The issuer's tokens.
pub struct Oidc {
    config: OidcConfig,
    keys: ArcSwap<JwkSet>,
    wanted: Notify,
}

impl Oidc {
    /// Accepts an issuer's tokens; fetches its keys where none are given.
    ///
    /// # Errors
    /// When the keys that are given are none.
    pub fn start(config: OidcConfig) -> Result<Arc<Self>, String> {
        let given = config.keys.as_deref().map(serde_json::from_str::<JwkSet>).transpose();
        let given = given.map_err(|e| format!("the issuer's keys: {e}"))?;
        let fetches = given.is_none();
        let keys = ArcSwap::from_pointee(given.unwrap_or(JwkSet { keys: Vec::new() }));
        let oidc = Arc::new(Oidc { config, keys, wanted: Notify::new() });
        if fetches {
            oidc.wanted.notify_one();
            actors::spawn(keep_keys(Arc::downgrade(&oidc)));
        }
        Ok(oidc)
    }

    /// Who a token stands for.
    pub fn caller(&self, token: &str, now: SystemTime) -> Result<Caller, OidcError> {
        let bad = |why: &str| OidcError::Token(why.to_owned());
        if issuer_of(token).as_deref() != Some(self.config.issuer.as_str()) {
            return Err(OidcError::Foreign);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|e| bad(&e.to_string()))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(bad("its signature is of a kind that is not accepted"));
        }
        let id = header.kid.unwrap_or_default();
        let keys = self.keys.load();
        let jwk = match id.as_str() {
            "" => keys.keys.first(),
            id => keys.find(id),
        };
        let Some(jwk) = jwk else {
            self.wanted.notify_one();
            return Err(OidcError::Key(id));
        };
        let key = DecodingKey::from_jwk(jwk).map_err(|e| bad(&e.to_string()))?;
        let mut validation = Validation::new(header.alg);
        // The clock is the system's own, and the rest is checked below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
            .map_err(|e| bad(&e.to_string()))?
            .claims;
        self.accept(&claims, now)
    }

    fn accept(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<Caller, OidcError> {
        let config = &self.config;
        let bad = |why: String| Err(OidcError::Token(why));
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let time = |claim: &str| claims.get(claim).and_then(Value::as_f64).map(|t| t as u64);
        match time("exp") {
            Some(until) if seconds < until => {}
            Some(_) => return bad("the token is expired".to_owned()),
            None => return bad("the token never expires".to_owned()),
        }
        if time("nbf").is_some_and(|from| seconds + 60 < from) {
            return bad("the token is not good yet".to_owned());
        }
        let audiences = texts(claims.get("aud"));
        if !audiences.contains(&config.audience) {
            return bad(format!("expected audience {:?} got {audiences:?}", config.audience));
        }
        for (claim, value) in &config.required {
            if claims.get(claim).and_then(Value::as_str) != Some(value) {
                return bad(format!("required claim {claim} not set to {value}"));
            }
        }
        let name = claims.get(&config.username_claim).and_then(Value::as_str).filter(|n| !n.is_empty());
        let Some(name) = name else { return bad(format!("claim {:?} is not there", config.username_claim)) };
        if config.username_claim == "email" && claims.get("email_verified").is_some_and(|v| *v != true) {
            return bad("email not verified".to_owned());
        }
        let groups = config.groups_claim.as_ref().map(|claim| texts(claims.get(claim))).unwrap_or_default();
        let mut groups: Vec<String> =
            groups.into_iter().map(|group| format!("{}{group}", config.groups_prefix)).collect();
        groups.push(AUTHENTICATED.to_owned());
        let user = format!("{}{name}", config.username_prefix);
        Ok(Caller { user, groups, ..Caller::default() })
    }
}

/// A claim that is one text or a list of them.
fn texts(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The issuer that a token names, unchecked.
fn issuer_of(token: &str) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&payload).ok()?["iss"].as_str().map(str::to_owned)
}

/// Fetches keys whenever they are wanted, as long as somebody uses them.
async fn keep_keys(oidc: std::sync::Weak<Oidc>) {
    loop {
        let Some(kept) = oidc.upgrade() else { return };
        kept.wanted.notified().await;
        match fetch(&kept.config).await {
            Ok(keys) => kept.keys.store(Arc::new(keys)),
            Err(error) => {
                tracing::warn!(issuer = kept.config.issuer, error, "the issuer's keys cannot be fetched");
                kept.wanted.notify_one();
            }
        }
        drop(kept);
        tokio::time::sleep(FETCH_PAUSE).await;
    }
}

async fn fetch(config: &OidcConfig) -> Result<JwkSet, String> {
    let text = |e: reqwest::Error| e.to_string();
    let mut client = reqwest::Client::builder().timeout(FETCH_TIME).https_only(true);
    if let Some(ca) = &config.ca {
        let roots = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).map_err(text)?;
        client = client.tls_certs_only(roots);
    }
    let client = client.build().map_err(text)?;
    let get = async |url: String| -> Result<Value, String> {
        let answer = client.get(&url).send().await.map_err(text)?.error_for_status().map_err(text)?;
        answer.json().await.map_err(text)
    };
    let issuer = config.issuer.trim_end_matches('/');
    let about = get(format!("{issuer}/.well-known/openid-configuration")).await?;
    if about["issuer"] != config.issuer.as_str() {
        return Err(format!("the issuer calls itself {}", about["issuer"]));
    }
    let at = about["jwks_uri"].as_str().ok_or("the issuer does not say where its keys are")?;
    serde_json::from_value(get(at.to_owned()).await?).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn oidc(config: OidcConfig) -> Oidc {
        Oidc { config, keys: ArcSwap::from_pointee(JwkSet { keys: Vec::new() }), wanted: Notify::new() }
    }

    fn usual() -> OidcConfig {
        OidcConfig {
            issuer: "https://issuer".into(),
            audience: "troupe".into(),
            username_claim: "sub".into(),
            username_prefix: "https://issuer#".into(),
            groups_claim: Some("groups".into()),
            groups_prefix: "oidc:".into(),
            required: vec![("hd".into(), "example.com".into())],
            ..OidcConfig::default()
        }
    }

    #[test]
    fn claims_become_a_caller() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let good =
            json!({"exp": 2000, "aud": ["troupe"], "sub": "jane", "groups": ["a", "b"], "hd": "example.com"});
        let accept = |claims: &Value| oidc(usual()).accept(claims.as_object().expect("claims"), now);
        let caller = accept(&good).expect("is accepted");
        assert_eq!(caller.user, "https://issuer#jane");
        assert_eq!(caller.groups, ["oidc:a", "oidc:b", AUTHENTICATED]);
        for (claim, value) in [
            ("exp", json!(1000)),
            ("exp", Value::Null),
            ("nbf", json!(1100)),
            ("aud", json!("other")),
            ("hd", json!("example.org")),
            ("sub", json!("")),
        ] {
            let mut claims = good.clone();
            claims[claim] = value.clone();
            assert!(accept(&claims).is_err(), "{claim} {value}");
        }
    }

    #[test]
    fn tokens_of_others_are_left_to_others() {
        let now = UNIX_EPOCH;
        assert_eq!(oidc(usual()).caller("abc.def.ghi", now), Err(OidcError::Foreign));
        assert_eq!(oidc(usual()).caller("", now), Err(OidcError::Foreign));
    }

    #[test]
    fn signatures_are_checked_by_the_issuers_keys() {
        let pem = rcgen::KeyPair::generate().expect("key").serialize_pem();
        let key = jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()).expect("key");
        let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::ES256).expect("public");
        jwk.common.key_id = Some("k".into());
        let mut header = jsonwebtoken::Header::new(Algorithm::ES256);
        header.kid = Some("k".into());
        let claims = json!({
            "iss": "https://issuer", "exp": 2000, "aud": "troupe", "sub": "jane", "hd": "example.com",
        });
        let token = jsonwebtoken::encode(&header, &claims, &key).expect("signed");
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let known = oidc(usual());
        assert_eq!(known.caller(&token, now), Err(OidcError::Key("k".into())));
        known.keys.store(Arc::new(JwkSet { keys: vec![jwk] }));
        assert_eq!(known.caller(&token, now).map(|c| c.user), Ok("https://issuer#jane".into()));
        let forged = token.rsplit_once('.').map(|(body, _)| format!("{body}.AAAA")).expect("three parts");
        assert!(matches!(known.caller(&forged, now), Err(OidcError::Token(_))));
    }
}
