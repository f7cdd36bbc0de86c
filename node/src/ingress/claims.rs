//! What one Ingress asks for: which requests go where, and by which certificates. Pure.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};

use super::hosts::Host;

/// Namespace and name, as `namespace/name`.
pub type Key = Arc<str>;

/// The key of an object.
pub fn key(namespace: &str, name: &str) -> Key {
    format!("{namespace}/{name}").into()
}

/// Where an Ingress stands among others that ask for the same: the oldest wins, then the first by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank {
    created_second: i64,
    /// The Ingress.
    pub ingress: Key,
}

/// A port of a Service, as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// By its name.
    Name(String),
    /// By its number.
    Number(i32),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Name(name) => f.write_str(name),
            Port::Number(number) => write!(f, "{number}"),
        }
    }
}

/// The Service that requests go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The Service.
    pub service: Key,
    /// Which of its ports.
    pub port: Port,
}

/// Where requests are to go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// To a Service.
    Service(Target),
    /// To an object of another kind, which nothing here knows how to reach.
    Resource(String),
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// It is the path.
    Exact,
    /// It begins the path, element by element. What is left to implementations is this, too.
    Prefix,
}

/// A path and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// How it is compared.
    pub kind: PathKind,
    /// A prefix has no final slash here.
    pub text: Arc<str>,
    /// Where it leads.
    pub goal: Arc<Goal>,
}

/// What an Ingress asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Its place among others.
    pub rank: Rank,
    /// Paths by host.
    pub paths: Vec<(Host, Path)>,
    /// Where other requests for its hosts go.
    pub otherwise: Vec<(Host, Arc<Goal>)>,
    /// Hosts and the Secrets with their certificates.
    pub certificates: Vec<(Host, Key)>,
}

fn goal(namespace: &str, backend: &IngressBackend) -> Option<Goal> {
    if let Some(resource) = &backend.resource {
        return Some(Goal::Resource(format!("{} {:?}", resource.kind, resource.name)));
    }
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let named = port.name.clone().filter(|name| !name.is_empty()).map(Port::Name);
    let port = named.or_else(|| port.number.map(Port::Number))?;
    Some(Goal::Service(Target { service: key(namespace, &service.name), port }))
}

fn path(namespace: &str, path: &HTTPIngressPath) -> Option<Path> {
    let goal = Arc::new(goal(namespace, &path.backend)?);
    let text = path.path.as_deref().unwrap_or_default();
    Some(match path.path_type.as_str() {
        "Exact" => Path { kind: PathKind::Exact, text: text.into(), goal },
        _ => Path { kind: PathKind::Prefix, text: text.trim_end_matches('/').into(), goal },
    })
}

impl Claims {
    /// Those of an Ingress. What the API would not have admitted asks for nothing.
    pub fn of(ingress: &Ingress) -> Claims {
        let meta = &ingress.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let rank = Rank {
            created_second: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
            ingress: key(namespace, meta.name.as_deref().unwrap_or_default()),
        };
        let mut claims = Claims { rank, paths: Vec::new(), otherwise: Vec::new(), certificates: Vec::new() };
        let Some(spec) = &ingress.spec else { return claims };
        let mut hosts = Vec::new();
        for rule in spec.rules.iter().flatten() {
            let host = Host::parse(rule.host.as_deref().unwrap_or_default());
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            for mut path in paths.filter_map(|p| path(namespace, p)) {
                // Said once, kept once.
                if let Some((_, same)) = claims.paths.iter().find(|(_, known)| known.goal == path.goal) {
                    path.goal = same.goal.clone();
                }
                claims.paths.push((host.clone(), path));
            }
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        // Its own hosts only: what one Ingress falls back to is not where strangers' requests go. Without
        // hosts it is for everybody.
        if let Some(goal) =
            spec.default_backend.as_ref().and_then(|backend| goal(namespace, backend)).map(Arc::new)
        {
            let for_hosts = if hosts.is_empty() { vec![Host::Any] } else { hosts.clone() };
            claims.otherwise = for_hosts.into_iter().map(|host| (host, goal.clone())).collect();
        }
        for tls in spec.tls.iter().flatten() {
            let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let secret = key(namespace, secret);
            let named: Vec<Host> = tls.hosts.iter().flatten().map(|host| Host::parse(host)).collect();
            let named = match (named.is_empty(), hosts.is_empty()) {
                (false, _) => named,
                (true, false) => hosts.clone(),
                (true, true) => vec![Host::Any],
            };
            claims.certificates.extend(named.into_iter().map(|host| (host, secret.clone())));
        }
        claims.paths.shrink_to_fit();
        claims.certificates.shrink_to_fit();
        claims
    }

    /// All hosts that requests are routed by.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let paths = self.paths.iter().map(|(host, _)| host);
        paths.chain(self.otherwise.iter().map(|(host, _)| host))
    }

    /// All places that requests go to.
    pub fn goals(&self) -> impl Iterator<Item = &Goal> {
        let paths = self.paths.iter().map(|(_, path)| &*path.goal);
        paths.chain(self.otherwise.iter().map(|(_, goal)| &**goal))
    }

    /// The Services among them, each once.
    pub fn targets(&self) -> std::collections::BTreeSet<&Target> {
        let targets = self.goals().filter_map(|goal| match goal {
            Goal::Service(target) => Some(target),
            Goal::Resource(_) => None,
        });
        targets.collect()
    }

    /// The Secrets, each once.
    pub fn secrets(&self) -> std::collections::BTreeSet<&Key> {
        self.certificates.iter().map(|(_, secret)| secret).collect()
    }
}
