//! The types that every version of every group has: documents list them under all that clients may know.

use serde_json::{Map, Value, json};

/// The groups that clients may know, with their versions; not all of them are served.
const KNOWN: &[(&str, &[&str])] = &[
    ("", &["v1"]),
    ("admission.k8s.io", &["v1", "v1beta1"]),
    ("admissionregistration.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("apiextensions.k8s.io", &["v1", "v1beta1"]),
    ("apiregistration.k8s.io", &["v1", "v1beta1"]),
    ("apps", &["v1", "v1beta1", "v1beta2"]),
    ("authentication.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("authorization.k8s.io", &["v1", "v1beta1"]),
    ("autoscaling", &["v1", "v2"]),
    ("batch", &["v1", "v1beta1"]),
    ("certificates.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("coordination.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("discovery.k8s.io", &["v1", "v1beta1"]),
    ("events.k8s.io", &["v1", "v1beta1"]),
    ("extensions", &["v1beta1"]),
    ("flowcontrol.apiserver.k8s.io", &["v1", "v1beta1", "v1beta2", "v1beta3"]),
    ("imagepolicy.k8s.io", &["v1alpha1"]),
    ("internal.apiserver.k8s.io", &["v1alpha1"]),
    ("networking.k8s.io", &["v1", "v1beta1"]),
    ("node.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("policy", &["v1", "v1beta1"]),
    ("rbac.authorization.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("resource.k8s.io", &["v1", "v1alpha3", "v1beta1", "v1beta2"]),
    ("scheduling.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("storage.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("storagemigration.k8s.io", &["v1beta1"]),
];

/// Those that the servers of declared kinds know nothing of.
const FOREIGN: &[&str] =
    &["admission.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "imagepolicy.k8s.io"];

const COMMON: &[&str] = &["DeleteOptions", "WatchEvent"];

/// Under which versions the types that all have are listed.
#[derive(Clone, Copy)]
pub enum Listed<'a> {
    /// In the document about everything.
    Everywhere,
    /// In one about a version of a group.
    Here(&'a str, &'a str),
    /// In one about declared kinds.
    Declared,
}

/// Says in a document's definitions what the types that all versions have are called there.
pub fn list(definitions: &mut Map<String, Value>, listed: Listed<'_>) {
    let known = |foreign: bool| {
        let groups = KNOWN.iter().filter(move |(group, _)| foreign || !FOREIGN.contains(group));
        groups.flat_map(|(group, versions)| versions.iter().map(|version| (*group, *version))).collect()
    };
    let versions: Vec<(&str, &str)> = match listed {
        Listed::Everywhere => known(true),
        Listed::Declared => known(false),
        Listed::Here("", version) => vec![("", version)],
        Listed::Here(group, version) => vec![("", "v1"), (group, version)],
    };
    for kind in COMMON {
        if let Some(made) = definitions.get_mut(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")) {
            let kinds: Value = versions
                .iter()
                .map(|(group, version)| json!({"group": group, "version": version, "kind": kind}))
                .collect();
            made["x-kubernetes-group-version-kind"] = kinds;
        }
    }
}
