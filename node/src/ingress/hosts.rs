//! Hosts as Ingresses name them, and tables by them. Pure.

use std::collections::HashMap;
use std::sync::Arc;

/// The hosts that something is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// This one.
    Exact(Arc<str>),
    /// Those with exactly one label before this name: `*.example.com`.
    Below(Arc<str>),
    /// All.
    Any,
}

impl Host {
    /// As a rule or a list of TLS hosts writes it; without case. Nothing is all hosts.
    pub fn parse(text: &str) -> Host {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            _ if text.is_empty() => Host::Any,
            Some(rest) => Host::Below(rest.into()),
            None => Host::Exact(text.into()),
        }
    }
}

/// The name in a request's host: without port and final dot, in lower case.
pub fn name_of(authority: &str) -> String {
    let bare = if authority.starts_with('[') {
        // An IPv6 address, which no rule can name.
        authority.split_inclusive(']').next().unwrap_or_default()
    } else {
        authority.split(':').next().unwrap_or_default()
    };
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

/// A table by host.
#[derive(Clone, Debug)]
pub struct ByHost<T> {
    exact: HashMap<Arc<str>, T>,
    below: HashMap<Arc<str>, T>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        ByHost { exact: HashMap::new(), below: HashMap::new(), any: None }
    }
}

impl<T> ByHost<T> {
    /// What is for these very hosts, made where there is nothing.
    pub fn at(&mut self, host: &Host) -> &mut T
    where
        T: Default,
    {
        match host {
            Host::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Host::Below(name) => self.below.entry(name.clone()).or_default(),
            Host::Any => self.any.get_or_insert_default(),
        }
    }

    /// Takes out what is for these very hosts.
    pub fn remove(&mut self, host: &Host) -> Option<T> {
        match host {
            Host::Exact(name) => self.exact.remove(name),
            Host::Below(name) => self.below.remove(name),
            Host::Any => self.any.take(),
        }
    }

    /// What is for a name, the most particular first: the name itself, all below its parent, all.
    pub fn matching<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let parent = name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
        let below = parent.and_then(|parent| self.below.get(parent));
        [self.exact.get(name), below, self.any.as_ref()].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_first() {
        let mut table: ByHost<&str> = ByHost::default();
        for host in ["a.example.com", "*.example.com", "", "*.com"] {
            *table.at(&Host::parse(host)) = host;
        }
        let found = |name: &str| table.matching(name).copied().collect::<Vec<_>>();
        assert_eq!(found("a.example.com"), ["a.example.com", "*.example.com", ""]);
        assert_eq!(found("b.example.com"), ["*.example.com", ""]);
        // A wildcard stands for one label: neither for none nor for two.
        assert_eq!(found("example.com"), ["*.com", ""]);
        assert_eq!(found("x.b.example.com"), [""]);
        assert_eq!(found(".example.com"), [""]);
        assert_eq!(found(""), [""]);
        assert_eq!(table.remove(&Host::Any), Some(""));
        assert!(table.matching("else").next().is_none());
    }

    #[test]
    fn names_of_requests() {
        for (authority, wanted) in [
            ("A.Example.com:8080", "a.example.com"),
            ("a.example.com.", "a.example.com"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("", ""),
        ] {
            assert_eq!(name_of(authority), wanted);
        }
    }
}
