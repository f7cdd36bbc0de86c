//! The APIServices: which versions of groups are served, by whom, and which of them clients should prefer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use serde_json::Value;

use crate::api::custom::{kind, versions};
use crate::api::object::text;
use crate::cache::{Derived, Snapshot};

/// Group and plural of the registrations.
pub const SERVICES: (&str, &str) = ("apiregistration.k8s.io", "apiservices");

/// Another server's version of a group.
#[derive(Debug)]
pub struct Backend {
    /// Name of the registration.
    pub name: String,
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Port of the Service.
    pub port: u16,
    /// The certificates that it must be certified by, as PEM in base64.
    pub ca_bundle: String,
    /// Whoever answers is believed.
    pub insecure: bool,
    /// It was there when somebody looked.
    pub available: bool,
    /// How to speak TLS to it; made when it is first needed.
    pub(super) tls: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Backend {
    /// The server's name, as its certificate has it.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Where it serves the version.
    pub fn root(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// The server behind a registration; `None` where that is this one.
    pub fn of(name: &str, registration: &Value) -> Option<Backend> {
        let spec = &registration["spec"];
        let service = spec.get("service").filter(|service| service.is_object())?;
        let group = text(spec, &["group"]);
        if group.is_empty() {
            // The core group is nobody else's.
            return None;
        }
        Some(Backend {
            name: name.to_owned(),
            group: group.to_owned(),
            version: text(spec, &["version"]).to_owned(),
            namespace: text(service, &["namespace"]).to_owned(),
            service: text(service, &["name"]).to_owned(),
            port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            ca_bundle: text(spec, &["caBundle"]).to_owned(),
            insecure: spec["insecureSkipTLSVerify"] == true,
            available: kind::is_true(registration, "Available"),
            tls: Arc::default(),
        })
    }

    fn is_trusted_like(&self, other: &Backend) -> bool {
        self.ca_bundle == other.ca_bundle && self.insecure == other.insecure
    }
}

/// What is registered.
#[derive(Debug, Default)]
pub struct Registered {
    /// By group and version.
    backends: BTreeMap<(String, String), Arc<Backend>>,
    /// Groups, the most wanted first, with their versions in the same order.
    groups: Vec<(String, Vec<String>)>,
}

impl Derived for Registered {
    const KINDS: &'static [(&'static str, &'static str)] = &[SERVICES];

    fn derive(before: Option<&Self>, snapshot: &Snapshot) -> Self {
        let (group, plural) = SERVICES;
        let all: Vec<(String, Value)> = snapshot
            .list(group, plural, "")
            .filter_map(|stored| Some((stored.meta.name.to_string(), stored.value().ok()?)))
            .collect();
        Registered::of(before, &all)
    }
}

impl Registered {
    fn of(before: Option<&Self>, all: &[(String, Value)]) -> Self {
        let mut backends = BTreeMap::new();
        for (name, registration) in all {
            let Some(mut backend) = Backend::of(name, registration) else { continue };
            let known = before.and_then(|b| b.backend(&backend.group, &backend.version));
            if let Some(known) = known.filter(|known| known.is_trusted_like(&backend)) {
                backend.tls = known.tls.clone();
            }
            backends.insert((backend.group.clone(), backend.version.clone()), Arc::new(backend));
        }
        Registered { backends, groups: ordered(all.iter().map(|(_, registration)| &registration["spec"])) }
    }

    /// Whether everything is served by this server.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// Who serves a version of a group; `None` for this server.
    pub fn backend(&self, group: &str, version: &str) -> Option<Arc<Backend>> {
        // Few are registered, and mostly none: this is asked for every request.
        self.backends.values().find(|backend| backend.group == group && backend.version == version).cloned()
    }

    /// The other servers.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.values()
    }

    /// Where a group stands among all that are registered; those that are not come last.
    pub fn rank(&self, group: &str) -> usize {
        self.groups.iter().position(|(name, _)| name == group).unwrap_or(usize::MAX)
    }

    /// Where a version stands among those of its group; those that are not registered come last.
    pub fn version_rank(&self, group: &str, version: &str) -> usize {
        let versions = self.groups.iter().find(|(name, _)| name == group).map(|(_, versions)| versions);
        versions.and_then(|versions| versions.iter().position(|v| v == version)).unwrap_or(usize::MAX)
    }
}

/// Versions with their priorities.
type Versions<'a> = Vec<(i64, &'a str)>;

/// Groups by their priority and name, each with its versions by theirs.
fn ordered<'a>(specs: impl Iterator<Item = &'a Value>) -> Vec<(String, Vec<String>)> {
    let number = |spec: &Value, field: &str| spec[field].as_i64().unwrap_or(0);
    let mut groups: BTreeMap<&str, (i64, Versions<'_>)> = BTreeMap::new();
    for spec in specs {
        let (priority, versions) = groups.entry(text(spec, &["group"])).or_default();
        *priority = (*priority).max(number(spec, "groupPriorityMinimum"));
        versions.push((number(spec, "versionPriority"), text(spec, &["version"])));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(name, (priority, _))| (Reverse(*priority), *name));
    let versions = |mut versions: Versions<'_>| {
        versions.sort_by(|(a, a_name), (b, b_name)| {
            Reverse(a).cmp(&Reverse(b)).then_with(|| versions::compare(a_name, b_name))
        });
        versions.into_iter().map(|(_, name)| name.to_owned()).collect()
    };
    groups.into_iter().map(|(name, (_, all))| (name.to_owned(), versions(all))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Registrations as they would be found: group, version, priorities, and the Service of another server.
    pub fn registered(all: &[(&str, &str, i64, i64, Option<&str>)]) -> Registered {
        let one =
            |(group, version, priority, version_priority, service): &(&str, &str, i64, i64, Option<&str>)| {
                let mut spec = json!({"group": group, "version": version, "groupPriorityMinimum": priority,
                "versionPriority": version_priority});
                if let Some(name) = service {
                    spec["service"] = json!({"namespace": "n", "name": name, "port": 8443});
                }
                (format!("{version}.{group}"), json!({"spec": spec}))
            };
        Registered::of(None, &all.iter().map(one).collect::<Vec<_>>())
    }

    #[test]
    fn groups_and_versions_are_ordered_by_priority() {
        let registered = registered(&[
            ("b.example.com", "v1", 100, 10, Some("s")),
            ("a.example.com", "v1", 100, 10, None),
            ("apps", "v1", 17800, 15, None),
            ("b.example.com", "v2", 100, 10, None),
            ("b.example.com", "v1beta1", 50, 20, None),
        ]);
        let names: Vec<&str> = registered.groups.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["apps", "a.example.com", "b.example.com"]);
        assert_eq!(registered.groups[2].1, ["v1beta1", "v2", "v1"]);
        assert_eq!(registered.rank("none.example.com"), usize::MAX);
        let backend = registered.backend("b.example.com", "v1").expect("another server's");
        assert_eq!((backend.host().as_str(), backend.port, backend.available), ("s.n.svc", 8443, false));
        assert!(registered.backend("a.example.com", "v1").is_none());
    }

    #[test]
    fn tls_is_kept_while_the_same_is_trusted() {
        let spec = |bundle: &str| {
            json!({"spec": {"group": "g", "version": "v1", "caBundle": bundle,
                "service": {"namespace": "n", "name": "s"}}})
        };
        let first = Registered::of(None, &[("v1.g".to_owned(), spec("A"))]);
        let tls = |of: &Registered| of.backend("g", "v1").expect("is there").tls.clone();
        let same = Registered::of(Some(&first), &[("v1.g".to_owned(), spec("A"))]);
        assert!(Arc::ptr_eq(&tls(&first), &tls(&same)));
        let other = Registered::of(Some(&first), &[("v1.g".to_owned(), spec("B"))]);
        assert!(!Arc::ptr_eq(&tls(&first), &tls(&other)));
    }
}
