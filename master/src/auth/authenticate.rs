//! From credentials to a caller.
//!
//! A credential that is there but wrong is refused (401); no credential is `system:anonymous`. Client
//! certificates were verified against the cluster's CA by TLS before they come here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use protocol::{ApiError, Caller};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cache::Cache;

use super::oidc::{Oidc, OidcError};
use super::tokens::{self, TokenError, TokenKeys, account_groups, account_of, lasting};
use super::{ANONYMOUS, AUTHENTICATED, Attributes, UNAUTHENTICATED};

/// The extra attribute that names the credential.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Turns credentials into callers.
#[derive(Clone)]
pub struct Authenticator {
    cache: Cache,
    keys: Arc<TokenKeys>,
    oidc: Option<Arc<Oidc>>,
}

impl Authenticator {
    /// Accounts, secrets and pods are looked up in `cache`.
    pub fn new(cache: Cache, keys: Arc<TokenKeys>) -> Self {
        Authenticator { cache, keys, oidc: None }
    }

    /// Accepts the tokens of an outside issuer too.
    pub fn with_oidc(mut self, oidc: Option<Arc<Oidc>>) -> Self {
        self.oidc = oidc;
        self
    }

    /// The key that signs ServiceAccount tokens.
    pub fn keys(&self) -> &Arc<TokenKeys> {
        &self.keys
    }

    /// Who makes a request: its verified client certificate (DER), and its Authorization header.
    pub fn authenticate(
        &self,
        certificate: Option<&[u8]>,
        authorization: Option<&str>,
    ) -> Result<Arc<Caller>, ApiError> {
        if let Some(der) = certificate {
            return certificate_caller(der);
        }
        match authorization.and_then(bearer) {
            Some(token) => self
                .token(token, &[tokens::ISSUER.to_owned()])
                .map(|(caller, _)| Arc::new(caller))
                .map_err(|error| {
                    tracing::debug!(%error, "a bearer token was refused");
                    ApiError::new(401, "Unauthorized", "Unauthorized")
                }),
            None => Ok(Arc::new(anonymous())),
        }
    }

    /// Who a token stands for, and for which of the audiences it is good.
    pub fn token(&self, token: &str, audiences: &[String]) -> Result<(Caller, Vec<String>), TokenError> {
        let now = actors::time::now();
        if let Some((id, secret)) = bootstrap_parts(token) {
            let caller = self.bootstrap(id, secret, now).ok_or(TokenError::Invalid)?;
            return Ok((caller, audiences.to_vec()));
        }
        if let Some(oidc) = &self.oidc {
            match oidc.caller(token, now) {
                Ok(caller) => return Ok((caller, audiences.to_vec())),
                Err(OidcError::Foreign) => {}
                Err(error) => {
                    tracing::debug!(%error, "a token of the outside issuer was refused");
                    return Err(TokenError::Invalid);
                }
            }
        }
        match self.keys.verify(token, audiences, now) {
            Ok((claims, common)) => {
                tokens::caller_of(&claims, &self.cache, now).map(|caller| (caller, common))
            }
            // Last, since few tokens are of this kind and checking a signature costs something.
            Err(TokenError::Invalid) => self.lasting(token, audiences),
            Err(error) => Err(error),
        }
    }

    /// A token that a Secret holds. It names no audience: it is for the API server.
    fn lasting(&self, token: &str, audiences: &[String]) -> Result<(Caller, Vec<String>), TokenError> {
        let claims = self.keys.verify_lasting(token)?;
        let caller = lasting::caller_of(token, &claims, &self.cache)?;
        let common: Vec<String> = audiences.iter().filter(|a| *a == tokens::ISSUER).cloned().collect();
        if common.is_empty() { Err(TokenError::Audience(common)) } else { Ok((caller, common)) }
    }

    fn bootstrap(&self, id: &str, secret: &str, now: SystemTime) -> Option<Caller> {
        let stored = self.cache.get::<Secret>("kube-system", &format!("bootstrap-token-{id}"))?;
        bootstrap_caller(&stored, id, secret, now)
    }
}

/// The caller without a credential.
pub fn anonymous() -> Caller {
    Caller { user: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Caller::default() }
}

/// The token of an Authorization header, where its scheme is Bearer.
fn bearer(header: &str) -> Option<&str> {
    let mut parts = header.trim().split(' ');
    let scheme = parts.next()?;
    let token = parts.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Id and secret of a bootstrap token (`abcdef.0123456789abcdef`).
pub fn bootstrap_parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

fn bootstrap_caller(stored: &Secret, id: &str, secret: &str, now: SystemTime) -> Option<Caller> {
    let data = |key: &str| {
        stored.data.as_ref()?.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned())
    };
    if stored.type_.as_deref() != Some("bootstrap.kubernetes.io/token")
        || stored.metadata.deletion_timestamp.is_some()
        || data("token-id").as_deref() != Some(id)
        || data("usage-bootstrap-authentication").as_deref() != Some("true")
        || !same(data("token-secret")?.as_bytes(), secret.as_bytes())
    {
        return None;
    }
    if let Some(expiration) = data("expiration").filter(|e| !e.is_empty()) {
        let format = &time::format_description::well_known::Rfc3339;
        let until = time::OffsetDateTime::parse(&expiration, format).ok()?;
        if SystemTime::from(until) <= now {
            return None;
        }
    }
    let extra = data("auth-extra-groups").unwrap_or_default();
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in extra.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        // Only such groups may be named by a token.
        if !group.starts_with("system:bootstrappers:") {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.push(AUTHENTICATED.to_owned());
    Some(Caller { user: format!("system:bootstrap:{id}"), groups, ..Caller::default() })
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (x, y)| seen | (x ^ y)) == 0
}

/// Certificates whose callers a thread remembers.
const CERTIFICATES_MAX: usize = 32;

/// A certificate (DER), and the caller that it names.
type Known = (Box<[u8]>, Arc<Caller>);

thread_local! {
    /// The callers of the certificates seen last, newest first. What a certificate names never changes, and every
    /// request on a connection brings the same one.
    static KNOWN: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

/// The caller that a verified client certificate names: user is its common name, groups its organizations.
pub fn certificate_caller(der: &[u8]) -> Result<Arc<Caller>, ApiError> {
    let known =
        KNOWN.with_borrow(|known| known.iter().find(|(d, _)| **d == *der).map(|(_, caller)| caller.clone()));
    if let Some(caller) = known {
        return Ok(caller);
    }
    let caller = Arc::new(named_by(der)?);
    KNOWN.with_borrow_mut(|known| {
        known.push_front((der.into(), caller.clone()));
        known.truncate(CERTIFICATES_MAX);
    });
    Ok(caller)
}

fn named_by(der: &[u8]) -> Result<Caller, ApiError> {
    let unauthorized = || ApiError::new(401, "Unauthorized", "Unauthorized");
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unauthorized())?;
    let subject = certificate.subject();
    let user =
        subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default().to_owned();
    if user.is_empty() {
        return Err(unauthorized());
    }
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    if !groups.iter().any(|g| g == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let mut id = "X509SHA256=".to_owned();
    for byte in Sha256::digest(der) {
        // Writing to a String does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    let extra = [(CREDENTIAL_ID.to_owned(), vec![id])].into();
    Ok(Caller { user, uid: String::new(), groups, extra })
}

/// The `data` of a bootstrap token's Secret, base64 as the API has it.
pub fn bootstrap_secret(id: &str, secret: &str, expiration: Option<&str>, groups: &str) -> serde_json::Value {
    let mut data = serde_json::Map::new();
    let mut put = |key: &str, value: &str| data.insert(key.to_owned(), STANDARD.encode(value).into());
    put("token-id", id);
    put("token-secret", secret);
    put("usage-bootstrap-authentication", "true");
    put("usage-bootstrap-signing", "true");
    put("auth-extra-groups", groups);
    if let Some(expiration) = expiration {
        put("expiration", expiration);
    }
    serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "data": data,
    })
}

/// Whom a request wants to act as: the `Impersonate-*` headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    /// `Impersonate-User`.
    pub user: String,
    /// `Impersonate-Uid`.
    pub uid: String,
    /// `Impersonate-Group`.
    pub groups: Vec<String>,
    /// `Impersonate-Extra-*`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// Reads the headers; `None` when nobody is to be impersonated.
    pub fn from_headers<'a>(
        headers: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>, ApiError> {
        let mut wanted = Impersonation::default();
        for (name, value) in headers {
            // Most requests have no such header.
            let Some(what) = after(name, "impersonate-") else { continue };
            let what = what.to_ascii_lowercase();
            match what.as_str() {
                // Of one that is there twice the first counts.
                "user" if wanted.user.is_empty() => wanted.user = value.to_owned(),
                "uid" if wanted.uid.is_empty() => wanted.uid = value.to_owned(),
                "group" => wanted.groups.push(value.to_owned()),
                _ => {
                    if let Some(key) = what.strip_prefix("extra-") {
                        wanted.extra.entry(percent_decode(key)).or_default().push(value.to_owned());
                    }
                }
            }
        }
        if wanted == Impersonation::default() {
            return Ok(None);
        }
        if wanted.user.is_empty() {
            let message = format!("requested {} without impersonating a user name", wanted.as_go());
            return Err(ApiError::bad_request(message));
        }
        Ok(Some(wanted))
    }

    /// What `actor` must be allowed for this: ask the authorizer each.
    pub fn permissions(&self, actor: &Arc<Caller>) -> Vec<Attributes> {
        let ask = |group: &str, resource: &str, name: &str| Attributes {
            caller: actor.clone(),
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        let mut asks = vec![match account_of(&self.user) {
            Some((namespace, name)) => {
                Attributes { namespace: namespace.to_owned(), ..ask("", "serviceaccounts", name) }
            }
            None => ask("", "users", &self.user),
        }];
        asks.extend(self.groups.iter().map(|group| ask("", "groups", group)));
        if !self.uid.is_empty() {
            asks.push(ask("authentication.k8s.io", "uids", &self.uid));
        }
        for (key, values) in &self.extra {
            asks.extend(values.iter().map(|value| Attributes {
                subresource: key.clone(),
                ..ask("authentication.k8s.io", "userextras", value)
            }));
        }
        asks
    }

    /// The caller that results.
    pub fn caller(self) -> Caller {
        let mut groups = self.groups;
        if let (true, Some((namespace, _))) = (groups.is_empty(), account_of(&self.user)) {
            groups.extend(account_groups(namespace));
        }
        let anonymous = self.user == ANONYMOUS;
        let marker = if anonymous { UNAUTHENTICATED } else { AUTHENTICATED };
        // Nobody in particular is never somebody known, whatever else is said.
        if !groups.iter().any(|g| g == UNAUTHENTICATED || (g == AUTHENTICATED && !anonymous)) {
            groups.push(marker.to_owned());
        }
        Caller { user: self.user, uid: self.uid, groups, extra: self.extra }
    }

    /// As upstream prints it.
    fn as_go(&self) -> String {
        let strings = |values: &[String]| {
            let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let groups = if self.groups.is_empty() { "[]string(nil)".to_owned() } else { strings(&self.groups) };
        let extra: Vec<String> =
            self.extra.iter().map(|(key, values)| format!("{key:?}:{}", strings(values))).collect();
        let extra = if extra.is_empty() {
            "map[string][]string(nil)".to_owned()
        } else {
            format!("map[string][]string{{{}}}", extra.join(", "))
        };
        format!(
            "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
            self.user, self.uid
        )
    }
}

/// What follows a beginning that is written in whatever case.
fn after<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(beginning.len())?;
    head.eq_ignore_ascii_case(beginning).then_some(tail)
}

pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
