//! An authenticating proxy in front of this server: it shows a certificate of its own, and says in headers on whose
//! behalf it asks. Only what comes with such a certificate is believed; from everybody else the headers are noise.

use std::collections::BTreeMap;

use protocol::Caller;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AUTHENTICATED;
use super::authenticate::percent_decode;
use crate::pki::FRONT_PROXY;

/// Which proxies are believed, and how they say who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders {
    /// Common names that a proxy's certificate may have; empty for any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name, the most wanted first.
    pub username: Vec<String>,
    /// Headers with the user's uid.
    pub uid: Vec<String>,
    /// Headers with groups.
    pub group: Vec<String>,
    /// What headers with further attributes begin with.
    pub extra_prefix: Vec<String>,
}

/// Why a proxy is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The certificate is none.
    #[error("the proxy's certificate cannot be read")]
    Certificate,
    /// Its name is not one of the allowed ones.
    #[error("x509: subject with cn={0} is not in the allowed list")]
    Name(String),
}

fn add(to: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !to.iter().any(|known| same(known, name)) {
            to.push(name.clone());
        }
    }
}

fn same(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

impl RequestHeaders {
    /// How this server itself says on whose behalf it asks other servers.
    pub fn own() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        RequestHeaders {
            allowed_names: one(FRONT_PROXY),
            username: one("X-Remote-User"),
            uid: Vec::new(),
            group: one("X-Remote-Group"),
            extra_prefix: one("X-Remote-Extra-"),
        }
    }

    /// What other servers are told to believe: this server, and the proxies in front of it.
    pub fn joined(mut self, proxies: &RequestHeaders) -> Self {
        // Any name of theirs means any name.
        if proxies.allowed_names.is_empty() {
            self.allowed_names.clear();
        } else {
            add(&mut self.allowed_names, &proxies.allowed_names);
        }
        add(&mut self.username, &proxies.username);
        add(&mut self.uid, &proxies.uid);
        add(&mut self.group, &proxies.group);
        add(&mut self.extra_prefix, &proxies.extra_prefix);
        self
    }

    /// Whom a request is made for, by a proxy whose certificate (DER) was verified; `None` where it does not say.
    ///
    /// # Errors
    /// When it is no proxy that is believed.
    pub fn caller<'a>(
        &self,
        der: &[u8],
        headers: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Caller>, ProxyError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ProxyError::Certificate)?;
        let name = certificate.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
        let name = name.unwrap_or_default();
        if !self.allowed_names.is_empty() && !self.allowed_names.iter().any(|allowed| allowed == name) {
            return Err(ProxyError::Name(name.to_owned()));
        }
        Ok(self.named(headers))
    }

    fn named<'a>(&self, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Caller> {
        let headers: Vec<(&str, &str)> = headers.filter(|(_, value)| !value.is_empty()).collect();
        let first = |names: &[String]| {
            let of =
                |name: &String| headers.iter().find(|(n, _)| same(n, name)).map(|(_, v)| (*v).to_owned());
            names.iter().find_map(of)
        };
        let user = first(&self.username)?;
        let mut groups: Vec<String> = Vec::new();
        for name in &self.group {
            groups
                .extend(headers.iter().filter(|(n, _)| same(n, name)).map(|(_, value)| (*value).to_owned()));
        }
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &headers {
            let prefixes = self.extra_prefix.iter().map(String::len);
            let begins = |length: &usize| {
                name.get(..*length).is_some_and(|head| self.extra_prefix.iter().any(|p| same(p, head)))
            };
            let Some(key) = prefixes.filter(begins).max().and_then(|length| name.get(length..)) else {
                continue;
            };
            let key = percent_decode(&key.to_ascii_lowercase());
            extra.entry(key).or_default().push((*value).to_owned());
        }
        Some(Caller { user, uid: first(&self.uid).unwrap_or_default(), groups, extra })
    }

    /// Whether a header says something about the caller: what other servers believe of us must not come from others.
    pub fn names(&self, header: &str) -> bool {
        let all = [&self.username, &self.uid, &self.group];
        all.into_iter().flatten().any(|name| same(name, header))
            || self.extra_prefix.iter().any(|p| header.get(..p.len()).is_some_and(|head| same(p, head)))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::pki::Pki;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    fn headers(allowed: &[&str]) -> RequestHeaders {
        RequestHeaders {
            allowed_names: texts(allowed),
            username: texts(&["X-Remote-User", "X-User"]),
            uid: texts(&["X-Remote-Uid"]),
            group: texts(&["X-Remote-Group", "X-Group"]),
            extra_prefix: texts(&["X-Remote-Extra-"]),
        }
    }

    #[test]
    fn headers_tell_who_asks() {
        let sent = [
            ("x-user", "jane"),
            ("x-remote-user", ""),
            ("x-group", "b"),
            ("x-remote-group", "a"),
            ("x-remote-uid", "7"),
            ("X-Remote-Extra-example.com%2fScope", "x"),
            ("x-remote-extra-example.com%2fscope", "y"),
            ("accept", "*/*"),
        ];
        let caller = headers(&[]).named(sent.into_iter()).expect("somebody");
        assert_eq!((caller.user.as_str(), caller.uid.as_str()), ("jane", "7"));
        assert_eq!(caller.groups, ["a", "b", AUTHENTICATED]);
        assert_eq!(caller.extra, [("example.com/scope".to_owned(), texts(&["x", "y"]))].into());
        assert_eq!(headers(&[]).named([("x-remote-group", "a")].into_iter()), None);
    }

    #[test]
    fn only_allowed_proxies_are_believed() {
        let dir = tempfile::tempdir().expect("a folder");
        let pki = Pki::open(dir.path()).expect("keys");
        let pair = pki.front_proxy_client().expect("a certificate");
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("one certificate");
        let sent = || [("x-remote-user", "jane")].into_iter();
        for (allowed, believed) in [(&[][..], true), (&["front-proxy"], true), (&["other"], false)] {
            assert_eq!(headers(allowed).caller(&der, sent()).is_ok(), believed, "{allowed:?}");
        }
    }

    #[test]
    fn other_servers_are_told_of_both() {
        let all = RequestHeaders::own().joined(&headers(&["proxy"]));
        assert_eq!(all.allowed_names, ["front-proxy", "proxy"]);
        assert_eq!(all.username, ["X-Remote-User", "X-User"]);
        assert!(RequestHeaders::own().joined(&headers(&[])).allowed_names.is_empty());
    }

    #[test]
    fn what_says_who_asks_is_known() {
        let headers = headers(&[]);
        assert!(["x-user", "X-REMOTE-EXTRA-a", "x-remote-uid"].iter().all(|name| headers.names(name)));
        assert!(!["x-users", "x-remote-extra", "accept"].iter().any(|name| headers.names(name)));
    }
}
