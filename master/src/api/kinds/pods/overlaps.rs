//! Files of one volume that lie in each other's place.
//!
//! A volume made of named entries may put two of them at one path, or one below the other; which of them a container
//! then sees depends on their order.

use std::fmt;

use serde_json::Value;

use crate::api::invalid::go_quote;
use crate::api::object::{list, text};

/// A file of a volume, and what it comes from where a volume has more than one source.
struct File<'a> {
    path: &'a str,
    source: Option<String>,
}

impl fmt::Display for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&go_quote(self.path))?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

fn file(path: &str, source: Option<String>) -> File<'_> {
    File { path: path.trim_end_matches('/'), source }
}

fn items(source: &Value, named: Option<String>) -> Vec<File<'_>> {
    list(source, &["items"]).iter().map(|item| file(text(item, &["path"]), named.clone())).collect()
}

/// Whether one of the paths is, or lies below, the other.
fn meet(a: &File<'_>, b: &File<'_>) -> bool {
    let below = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !a.path.is_empty() && !b.path.is_empty() && (below(a.path, b.path) || below(b.path, a.path))
}

/// Kinds of volumes that are made of files, how they are shown, and where they say what they come from.
const KINDS: [(&str, &str, Option<&str>); 3] = [
    ("configMap", "ConfigMap", Some("name")),
    ("secret", "Secret", Some("secretName")),
    ("downwardAPI", "DownwardAPI", None),
];

/// What is said about the volumes of a pod.
pub(super) fn volumes(spec: &Value, said: &mut Vec<String>) {
    for volume in list(spec, &["volumes"]) {
        let name = text(volume, &["name"]);
        for (kind, shown, from) in KINDS {
            let source = &volume[kind];
            let what = || match from {
                Some(from) => format!("{shown} {}", go_quote(text(source, &[from]))),
                None => shown.to_owned(),
            };
            tell(name, what, &items(source, None), said);
        }
        let mut all = Vec::new();
        for source in list(volume, &["projected", "sources"]) {
            if source.as_object().is_none_or(|kinds| kinds.values().all(Value::is_null)) {
                said.push(format!("volume {} (Projected) has no sources provided", go_quote(name)));
            }
            all.extend(projected(source));
        }
        tell(name, || "Projected".to_owned(), &all, said);
    }
}

/// The files of one source of a projected volume.
fn projected(source: &Value) -> Vec<File<'_>> {
    for (kind, shown) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if !list(source, &[kind, "items"]).is_empty() {
            let named = format!("{shown} {}", go_quote(text(source, &[kind, "name"])));
            return items(&source[kind], Some(named));
        }
    }
    if !list(source, &["downwardAPI", "items"]).is_empty() {
        return items(&source["downwardAPI"], Some("DownwardAPI".to_owned()));
    }
    let token = &source["serviceAccountToken"];
    if token.is_object() {
        return vec![file(text(token, &["path"]), Some("ServiceAccountToken".to_owned()))];
    }
    let bundle = &source["clusterTrustBundle"];
    if bundle.is_object() {
        let name = bundle["name"].as_str().unwrap_or_else(|| text(bundle, &["signerName"]));
        let named = format!("ClusterTrustBundle {}", go_quote(name));
        return vec![file(text(bundle, &["path"]), Some(named))];
    }
    let certificate = &source["podCertificate"];
    [("certificateChainPath", "chain"), ("keyPath", "key"), ("credentialBundlePath", "credential bundle")]
        .into_iter()
        .map(|(field, shown)| (text(certificate, &[field]), shown))
        .filter(|(path, _)| !path.is_empty())
        .map(|(path, shown)| file(path, Some(format!("PodCertificate {shown}"))))
        .collect()
}

/// Says which of the files of a volume lie in each other's place. Few do: names are put together for those only.
fn tell(volume: &str, what: impl Fn() -> String, files: &[File<'_>], said: &mut Vec<String>) {
    for (i, file) in files.iter().enumerate() {
        for other in files[..i].iter().filter(|other| meet(file, other)) {
            let (volume, what) = (go_quote(volume), what());
            said.push(format!("volume {volume} ({what}): overlapping paths: {file} with {other}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_that_lie_in_each_others_place_are_told() {
        let items = json!([{"path": "a"}, {"path": "a/b/"}, {"path": "ab"}, {"path": "a"}]);
        let spec = json!({"volumes": [
            {"name": "v", "configMap": {"name": "m", "items": items}},
            {"name": "p", "projected": {"sources": [
                {"secret": {"name": "s", "items": [{"path": "t"}]}},
                {"serviceAccountToken": {"path": "t"}},
                {},
            ]}},
        ]});
        let mut said = Vec::new();
        volumes(&spec, &mut said);
        assert_eq!(
            said,
            [
                "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a/b\" with \"a\"",
                "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a\" with \"a\"",
                "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a\" with \"a/b\"",
                "volume \"p\" (Projected) has no sources provided",
                "volume \"p\" (Projected): overlapping paths: \"t\" (ServiceAccountToken) with \"t\" (Secret \"s\")",
            ]
        );
    }
}
