//! Where upstream stores the kinds, as far as clients are told.

use protocol::Resource;

/// Kinds that upstream stores under another name than their own.
const STORED_AS: &[(&str, &str)] = &[
    ("endpoints", "services/endpoints"),
    ("ingresses", "ingress"),
    ("nodes", "minions"),
    ("replicationcontrollers", "controllers"),
    ("services", "services/specs"),
];

/// Where upstream stores an object: its refusals name the place.
pub fn place(resource: &Resource, namespace: &str, name: &str) -> String {
    // Servers of their own, and kinds that clients declare, are stored by their group too.
    let own = matches!(resource.storage.0, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    let stored = STORED_AS.iter().find(|(plural, _)| *plural == resource.plural && !resource.custom);
    let mut place = match stored {
        Some((_, stored)) => format!("/{stored}/"),
        None if own || resource.custom => format!("/{}/{}/", resource.storage.0, resource.plural),
        None => format!("/{}/", resource.plural),
    };
    if !namespace.is_empty() {
        place = place + namespace + "/";
    }
    place + name
}

#[cfg(test)]
mod tests {
    use protocol::resources;

    use super::place;

    #[test]
    fn objects_are_where_upstream_has_them() {
        for (group, plural, namespace, wanted) in [
            ("", "configmaps", "a", "/configmaps/a/x"),
            ("", "services", "a", "/services/specs/a/x"),
            ("", "nodes", "", "/minions/x"),
            ("networking.k8s.io", "ingresses", "a", "/ingress/a/x"),
            ("apiregistration.k8s.io", "apiservices", "", "/apiregistration.k8s.io/apiservices/x"),
            ("rbac.authorization.k8s.io", "clusterroles", "", "/clusterroles/x"),
        ] {
            let resource = resources::find(group, "v1", plural).expect("a kind");
            assert_eq!(place(resource, namespace, "x"), wanted);
        }
    }
}
