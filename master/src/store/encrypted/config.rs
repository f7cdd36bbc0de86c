//! `EncryptionConfiguration` files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Key, Provider};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    api_version: String,
    kind: String,
    resources: Vec<WrittenResources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenResources {
    resources: Vec<String>,
    providers: Vec<WrittenProvider>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum WrittenProvider {
    Identity {},
    AesGcm(WrittenKeys),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKeys {
    keys: Vec<WrittenKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    name: String,
    secret: String,
}

/// Which resources are kept how; the first entry that names a resource counts.
pub struct EncryptionConfig {
    entries: Vec<(Vec<String>, Vec<Provider>)>,
}

impl EncryptionConfig {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it. Providers that this program does not have (`aescbc`, `secretbox`, `kms`) are told
    /// as unknown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = crate::yaml::read(text)?.value;
        let written: Written = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if written.api_version != "apiserver.config.k8s.io/v1" || written.kind != "EncryptionConfiguration" {
            return Err(format!(
                "{} in {} is no apiserver.config.k8s.io/v1 EncryptionConfiguration",
                written.kind, written.api_version
            ));
        }
        let mut entries = Vec::new();
        for (i, entry) in written.resources.into_iter().enumerate() {
            if entry.resources.is_empty() || entry.providers.is_empty() {
                return Err(format!("resources[{i}] needs resources and providers"));
            }
            let providers: Result<Vec<Provider>, String> =
                entry.providers.into_iter().map(provider).collect();
            entries.push((entry.resources, providers.map_err(|why| format!("resources[{i}]: {why}"))?));
        }
        Ok(EncryptionConfig { entries })
    }

    /// The providers of a resource; none where it is kept as it is. The core group is `core`, as in store keys.
    pub(super) fn providers(&self, group: &str, resource: &str) -> &[Provider] {
        let group = if group == "core" { "" } else { group };
        let found = self.entries.iter().find(|(names, _)| names.iter().any(|n| is(n, group, resource)));
        found.map_or(&[], |(_, providers)| providers)
    }
}

fn provider(written: WrittenProvider) -> Result<Provider, String> {
    match written {
        WrittenProvider::Identity {} => Ok(Provider::Identity),
        WrittenProvider::AesGcm(WrittenKeys { keys }) => {
            if keys.is_empty() {
                return Err("aesgcm needs keys".to_owned());
            }
            let keys = keys.into_iter().map(|written| {
                let secret = STANDARD.decode(&written.secret);
                let secret = secret.map_err(|e| format!("the secret of key {:?}: {e}", written.name))?;
                Key::new(&written.name, &secret)
            });
            Ok(Provider::AesGcm(keys.collect::<Result<_, _>>()?))
        }
    }
}

/// `secrets`, `deployments.apps`, `*.` (the core group), `*.apps`, `*.*`.
fn is(name: &str, group: &str, resource: &str) -> bool {
    match name.split_once('.') {
        None => name == resource && group.is_empty(),
        Some(("*", "*")) => true,
        Some(("*", of)) => of == group,
        Some((named, of)) => named == resource && of == group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_upstream_names_them() {
        for (name, group, resource, expected) in [
            ("secrets", "", "secrets", true),
            ("secrets", "apps", "secrets", false),
            ("deployments.apps", "apps", "deployments", true),
            ("*.", "", "pods", true),
            ("*.apps", "apps", "deployments", true),
            ("*.*", "apps", "deployments", true),
            ("*.apps", "", "pods", false),
        ] {
            assert_eq!(is(name, group, resource), expected, "{name} {group} {resource}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
        for providers in [
            "[{kms: {name: x}}]",
            "[{aesgcm: {keys: [{name: a, secret: AAAA}]}}]",
            "[{aesgcm: {keys: []}}]",
            "[]",
        ] {
            let text = format!("{head}- resources: [secrets]\n  providers: {providers}\n");
            assert!(EncryptionConfig::parse(&text).is_err(), "{providers}");
        }
        assert!(EncryptionConfig::parse("kind: Other\n").is_err());
    }
}
