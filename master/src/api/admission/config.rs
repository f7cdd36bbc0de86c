//! How admission is configured: `--admission-control-config-file` and which plugins are off. Parsing is pure, but for the
//! files that a plugin's entry names, which the caller reads.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::pod_security;
use super::quota::Limited;

/// The plugins that can be turned off, by upstream's names; all of them are on by default.
pub const PLUGINS: [&str; 19] = [
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "PersistentVolumeClaimResize",
    "PodSecurity",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];
/// Those that are always on.
const ALWAYS: [&str; 2] = ["NamespaceLifecycle", "NodeRestriction"];

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// What PodSecurity holds namespaces to that say nothing, and whom it leaves alone.
    pub pod_security: pod_security::Settings,
    /// What may be consumed only where a quota covers it.
    pub limited: Vec<Limited>,
    off: BTreeSet<&'static str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Value,
}

impl AdmissionConfig {
    /// Reads an AdmissionConfiguration; `read` reads files that it names.
    pub fn parse(text: &str, read: impl Fn(&str) -> Result<String, String>) -> Result<Self, String> {
        let value = crate::yaml::read(text)?.value;
        let written: Written = of(value, ("apiserver.config.k8s.io/v1", "AdmissionConfiguration"), &[])?;
        let mut config = AdmissionConfig::default();
        for plugin in written.plugins {
            let value = match plugin.path.as_str() {
                "" => plugin.configuration,
                path => crate::yaml::read(&read(path)?)?.value,
            };
            let wrong = |why: String| format!("plugin {}: {why}", plugin.name);
            match plugin.name.as_str() {
                "PodSecurity" => config.pod_security = pod_security::Settings::parse(value).map_err(wrong)?,
                "ResourceQuota" => config.limited = Limited::parse(value).map_err(wrong)?,
                _ => return Err(wrong("there is nothing to configure".to_owned())),
            }
        }
        Ok(config)
    }

    /// Turns plugins on and off, by upstream's flags.
    pub fn switch(mut self, enabled: &[String], disabled: &[String]) -> Result<Self, String> {
        for name in enabled {
            if !PLUGINS.contains(&name.as_str()) && !ALWAYS.contains(&name.as_str()) {
                return Err(format!("--enable-admission-plugins: this server has no plugin {name}"));
            }
            if disabled.contains(name) {
                return Err(format!(
                    "{name} in both --enable-admission-plugins and --disable-admission-plugins"
                ));
            }
        }
        for name in disabled {
            let known = PLUGINS.iter().find(|known| *known == name);
            let why =
                if ALWAYS.contains(&name.as_str()) { "is always on" } else { "is no plugin of this server" };
            self.off.insert(known.ok_or_else(|| format!("--disable-admission-plugins: {name} {why}"))?);
        }
        Ok(self)
    }

    /// Whether a plugin takes part.
    pub fn is_on(&self, plugin: &str) -> bool {
        !self.off.contains(plugin)
    }
}

/// A value as a configuration of this version and kind, or one of the others that mean the same; else what is wrong with it.
pub(super) fn of<T: serde::de::DeserializeOwned>(
    mut value: Value,
    usual: (&str, &str),
    others: &[(&str, &str)],
) -> Result<T, String> {
    let mut take = |field: &str| match value.as_object_mut().and_then(|fields| fields.remove(field)) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("missing field `{field}`")),
    };
    let (version, kind) = (take("apiVersion")?, take("kind")?);
    let form = (version.as_str(), kind.as_str());
    if form != usual && !others.contains(&form) {
        return Err(format!("{kind} in {version} is no {} {}", usual.0, usual.1));
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read_and_what_is_wrong_is_said() {
        let config = |plugins: &str| {
            let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
            AdmissionConfig::parse(&format!("{head}{plugins}"), |path| {
                match path {
                "ps.yaml" => Ok("apiVersion: pod-security.admission.config.k8s.io/v1\nkind: \
                                 PodSecurityConfiguration\ndefaults: {enforce: baseline, enforce-version: v1.30}\n\
                                 exemptions: {namespaces: [kube-system]}"
                    .to_owned()),
                other => Err(format!("{other}: no such file")),
            }
            })
        };
        let read = config("- {name: PodSecurity, path: ps.yaml}").expect("a configuration");
        assert_eq!(read.pod_security.defaults.enforce.to_string(), "baseline:v1.30");
        assert_eq!(read.pod_security.defaults.warn.to_string(), "privileged:latest");
        assert!(read.pod_security.exempt.namespaces.contains("kube-system"));
        let limited = "- name: ResourceQuota\n  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: \
                       ResourceQuotaConfiguration, limitedResources: [{resource: pods, matchContains: [cpu]}]}";
        let read = config(limited).expect("a configuration");
        assert_eq!(read.limited.len(), 1);
        for (plugins, expected) in [
            ("- {name: PodSecurity, path: none}", "none: no such file"),
            ("- {name: ImagePolicyWebhook}", "nothing to configure"),
            ("- {name: PodSecurity, configuration: {kind: Other, apiVersion: v1}}", "is no"),
            ("- {name: PodSecurity, surprise: 1}", "surprise"),
        ] {
            let why = config(plugins).expect_err(plugins);
            assert!(why.contains(expected), "{plugins}: {why}");
        }
    }

    #[test]
    fn plugins_are_turned_off_by_name() {
        let switch = |on: &[&str], off: &[&str]| {
            let names = |all: &[&str]| -> Vec<String> { all.iter().map(|n| (*n).to_owned()).collect() };
            AdmissionConfig::default().switch(&names(on), &names(off))
        };
        let config = switch(&["NodeRestriction"], &["LimitRanger"]).expect("known names");
        assert!(!config.is_on("LimitRanger") && config.is_on("Priority"));
        for (on, off) in [
            (&["EventRateLimit"][..], &[][..]),
            (&[], &["NamespaceLifecycle"]),
            (&[], &["Nothing"]),
            (&["Priority"], &["Priority"]),
        ] {
            assert!(switch(on, off).is_err(), "{on:?} {off:?}");
        }
    }
}
