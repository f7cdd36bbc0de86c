//! Which backend a request goes to, by its host and path. Pure.
//!
//! Hosts first, the most particular that has a matching path; among its paths the longest, and of two as long the
//! exact one. Where no path matches, what an Ingress of that host falls back to. A change to an Ingress compiles
//! the hosts that it names, and no others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::claims::{Claims, Goal, Key, PathKind, Rank};
use super::hosts::{ByHost, Host};

/// Where a request goes, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The Ingress.
    pub ingress: Key,
    /// Where to.
    pub goal: Arc<Goal>,
}

/// Routes by path, sorted: hosts have few, and there are many hosts.
type ByPath = Vec<(Arc<str>, Route)>;

fn at<'a>(table: &'a ByPath, path: &str) -> Option<&'a Route> {
    let found = table.binary_search_by(|(text, _)| (**text).cmp(path)).ok()?;
    table.get(found).map(|(_, route)| route)
}

/// Puts a route in, unless there is one.
fn put(table: &mut ByPath, path: &Arc<str>, route: Route) {
    if let Err(place) = table.binary_search_by(|(text, _)| text.cmp(path)) {
        table.insert(place, (path.clone(), route));
    }
}

/// All that is said about the same hosts.
#[derive(Clone, Debug, Default)]
struct HostRoutes {
    /// Who says it, in order of precedence.
    by: Vec<Rank>,
    exact: ByPath,
    prefixes: ByPath,
    /// Bytes of the longest prefix: a path need not be looked at beyond.
    prefix_bytes_max: usize,
    otherwise: Option<Route>,
}

impl HostRoutes {
    /// From all claims on these hosts; of two equal ones the first is kept.
    fn compile(&mut self, host: &Host, claims: &HashMap<Key, Arc<Claims>>) {
        self.exact.clear();
        self.prefixes.clear();
        self.prefix_bytes_max = 0;
        self.otherwise = None;
        for claims in self.by.iter().filter_map(|rank| claims.get(&rank.ingress)) {
            let route = |goal: &Arc<Goal>| Route { ingress: claims.rank.ingress.clone(), goal: goal.clone() };
            for (_, path) in claims.paths.iter().filter(|(of, _)| of == host) {
                let table = match path.kind {
                    PathKind::Exact => &mut self.exact,
                    PathKind::Prefix => &mut self.prefixes,
                };
                put(table, &path.text, route(&path.goal));
                if path.kind == PathKind::Prefix {
                    self.prefix_bytes_max = self.prefix_bytes_max.max(path.text.len());
                }
            }
            if self.otherwise.is_none() {
                let fallback = claims.otherwise.iter().find(|(of, _)| of == host);
                self.otherwise = fallback.map(|(_, goal)| route(goal));
            }
        }
        self.exact.shrink_to_fit();
        self.prefixes.shrink_to_fit();
    }

    fn find(&self, path: &str) -> Option<&Route> {
        if let Some(found) = at(&self.exact, path) {
            return Some(found);
        }
        let mut rest = path.trim_end_matches('/');
        loop {
            if rest.len() <= self.prefix_bytes_max
                && let Some(found) = at(&self.prefixes, rest)
            {
                return Some(found);
            }
            rest = rest.rsplit_once('/')?.0;
        }
    }
}

/// The routes of all Ingresses.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    claims: HashMap<Key, Arc<Claims>>,
    hosts: ByHost<HostRoutes>,
}

impl Routes {
    /// Takes in what an Ingress asks for, in place of what it asked for before; `None` where it is gone.
    /// Answers what it asked for before.
    pub fn set(&mut self, ingress: &Key, claims: Option<Arc<Claims>>) -> Option<Arc<Claims>> {
        let before = self.claims.remove(ingress);
        let mut touched: BTreeSet<Host> = BTreeSet::new();
        if let Some(before) = &before {
            for host in before.hosts() {
                self.hosts.at(host).by.retain(|rank| *rank != before.rank);
                touched.insert(host.clone());
            }
        }
        if let Some(claims) = claims {
            for host in claims.hosts() {
                let by = &mut self.hosts.at(host).by;
                if let Err(place) = by.binary_search(&claims.rank) {
                    by.insert(place, claims.rank.clone());
                }
                touched.insert(host.clone());
            }
            self.claims.insert(ingress.clone(), claims);
        }
        for host in touched {
            let routes = self.hosts.at(&host);
            if routes.by.is_empty() {
                self.hosts.remove(&host);
            } else {
                routes.compile(&host, &self.claims);
            }
        }
        before
    }

    /// What an Ingress asks for.
    pub fn claims(&self, ingress: &Key) -> Option<&Arc<Claims>> {
        self.claims.get(ingress)
    }

    /// The Ingresses.
    pub fn ingresses(&self) -> impl Iterator<Item = &Key> {
        self.claims.keys()
    }

    /// Where a request goes: `host` in lower case and without port, `path` as it was sent, without the query.
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let by_path = self.hosts.matching(host).find_map(|routes| routes.find(path));
        by_path.or_else(|| self.hosts.matching(host).find_map(|routes| routes.otherwise.as_ref()))
    }
}

#[cfg(test)]
mod tests;
