//! What PodSecurity holds namespaces to that say nothing, and whom it leaves alone (PodSecurityConfiguration).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::policy::{Level, Policy, Standard, Version};
use crate::api::admission::config::of;

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What holds where labels say nothing.
    pub defaults: Policy,
    /// Whom it leaves alone.
    pub exempt: Exempt,
}

/// Whom PodSecurity leaves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Exempt {
    /// Users, by their names.
    pub usernames: BTreeSet<String>,
    /// Pods of these RuntimeClasses.
    pub runtime_classes: BTreeSet<String>,
    /// Namespaces.
    pub namespaces: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    defaults: BTreeMap<String, String>,
    #[serde(default)]
    exemptions: Exempt,
}

impl Settings {
    /// Reads a PodSecurityConfiguration.
    pub fn parse(value: Value) -> Result<Self, String> {
        let usual = ("pod-security.admission.config.k8s.io/v1", "PodSecurityConfiguration");
        let written: Written = of(value, usual, &[])?;
        let mut defaults = Policy::default();
        for (name, text) in &written.defaults {
            let standard = |standard: &mut Standard| -> Result<(), String> {
                match name.ends_with("-version") {
                    true => {
                        standard.version = Version::parse(text).ok_or("must be \"latest\" or \"v1.x\"")?
                    }
                    false => {
                        standard.level =
                            Level::parse(text).ok_or("must be one of privileged, baseline, restricted")?;
                    }
                }
                Ok(())
            };
            match name.trim_end_matches("-version") {
                "enforce" => standard(&mut defaults.enforce),
                "audit" => standard(&mut defaults.audit),
                "warn" => standard(&mut defaults.warn),
                _ => Err("is not known".to_owned()),
            }
            .map_err(|why| format!("defaults.{name}: {text:?}: {why}"))?;
        }
        Ok(Settings { defaults, exempt: written.exemptions })
    }
}
