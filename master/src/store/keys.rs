//! How objects are named in the store: `/registry/<group or core>/<resource>[/<namespace>]/<name>`.

/// The prefix of everything that Troupe stores.
pub const ROOT: &str = "/registry/";

/// The group's segment of a key.
fn group_segment(group: &str) -> &str {
    if group.is_empty() { "core" } else { group }
}

/// The key of an object; an empty `namespace` means a cluster-scoped one.
pub fn key(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    joined(group, resource, namespace, name)
}

/// The prefix of a kind's keys, or of its keys in one namespace when `namespace` is not empty.
pub fn prefix(group: &str, resource: &str, namespace: &str) -> String {
    joined(group, resource, namespace, "")
}

/// A prefix and a name. Every look into a snapshot makes one of these, so it is allocated once and not formatted.
fn joined(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    let slash = if namespace.is_empty() { "" } else { "/" };
    [ROOT, group_segment(group), "/", resource, "/", namespace, slash, name].concat()
}

/// What a key says about its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// Takes a key apart; `None` when it is not an object's key.
pub fn parse_key(key: &str) -> Option<KeyParts<'_>> {
    let mut parts = key.strip_prefix(ROOT)?.split('/');
    let group = parts.next().filter(|g| !g.is_empty())?;
    let resource = parts.next().filter(|r| !r.is_empty())?;
    let first = parts.next().filter(|n| !n.is_empty())?;
    let second = parts.next();
    if parts.next().is_some() || second == Some("") {
        return None;
    }
    let group = if group == "core" { "" } else { group };
    let (namespace, name) = match second {
        Some(name) => (first, name),
        None => ("", first),
    };
    Some(KeyParts { group, resource, namespace, name })
}

/// How traces name what a key stands for: `deployments/default/web`.
pub fn trace_key(key: &str) -> std::sync::Arc<str> {
    // The same, without root and group.
    let named = parse_key(key).and_then(|_| key.strip_prefix(ROOT)?.split_once('/'));
    named.map_or(key, |(_, named)| named).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_as_they_were_made() {
        for (group, resource, namespace, name, text) in [
            ("", "pods", "default", "web", "/registry/core/pods/default/web"),
            ("", "nodes", "", "n1", "/registry/core/nodes/n1"),
            ("apps", "deployments", "default", "web", "/registry/apps/deployments/default/web"),
            (
                "rbac.authorization.k8s.io",
                "clusterroles",
                "",
                "system:node",
                "/registry/rbac.authorization.k8s.io/clusterroles/system:node",
            ),
        ] {
            assert_eq!(key(group, resource, namespace, name), text);
            let begins = prefix(group, resource, namespace);
            assert_eq!(format!("{begins}{name}"), text);
            assert_eq!(parse_key(text), Some(KeyParts { group, resource, namespace, name }));
        }
    }

    #[test]
    fn traces_leave_out_root_and_group() {
        for (key, named) in [
            ("/registry/core/pods/default/web", "pods/default/web"),
            ("/registry/apps/deployments/default/web", "deployments/default/web"),
            ("/registry/core/nodes/n1", "nodes/n1"),
            ("/registry/core/pods/", "/registry/core/pods/"),
            ("/other", "/other"),
        ] {
            assert_eq!(&*trace_key(key), named, "{key}");
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for text in [
            "",
            "/registry/",
            "/registry/core/pods",
            "/registry/core/pods/",
            "/registry/core/pods/a/b/c",
            "/other/core/pods/a/b",
            "/registry/core/pods/a/",
            "/registry//pods/a/b",
            "/registry/~cause",
        ] {
            assert_eq!(parse_key(text), None, "{text}");
        }
    }
}
