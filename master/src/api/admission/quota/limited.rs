//! What may be consumed only where a quota covers it (`limitedResources` of a ResourceQuotaConfiguration).

use serde::Deserialize;
use serde_json::Value;

use crate::api::admission::config::of;
use crate::api::kinds::totals::Amounts;

/// Resources of a kind that somebody has to have allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limited {
    /// The kind's group; empty for the core group.
    #[serde(default)]
    api_group: String,
    /// The kind's plural.
    resource: String,
    /// What the names of the resources contain.
    #[serde(default)]
    match_contains: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default)]
    limited_resources: Vec<Limited>,
}

impl Limited {
    /// Reads a ResourceQuotaConfiguration. Scopes (`matchScopes`) are not known here, and refused.
    pub fn parse(value: Value) -> Result<Vec<Self>, String> {
        let (version, kind) = ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration");
        let (old_version, old_kind) = ("resourcequota.admission.k8s.io/v1", "Configuration");
        let others = [(version, old_kind), (old_version, kind), (old_version, old_kind)];
        let written: Written = of(value, (version, kind), &others)?;
        Ok(written.limited_resources)
    }
}

/// The names, sorted, of what an object consumes that a quota has to cover.
pub fn consumed<'a>(limited: &[Limited], group: &str, plural: &str, usage: &'a Amounts) -> Vec<&'a str> {
    let meant = |limited: &&Limited| limited.api_group == group && limited.resource == plural;
    let parts: Vec<&String> = limited.iter().filter(meant).flat_map(|l| &l.match_contains).collect();
    let names = usage.iter().filter(|(_, amount)| !amount.is_zero()).map(|(name, _)| name.as_str());
    let mut names: Vec<&str> =
        names.filter(|name| parts.iter().any(|part| name.contains(part.as_str()))).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::kinds::totals::amounts;

    #[test]
    fn what_is_limited_is_told_by_parts_of_names() {
        let usage = amounts(&json!({"requests.cpu": "1", "limits.cpu": "0", "pods": "1", "memory": "1Gi"}));
        let limited = Limited::parse(json!({"apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "ResourceQuotaConfiguration", "limitedResources": [
                {"resource": "pods", "matchContains": ["cpu", "memory"]},
                {"apiGroup": "apps", "resource": "deployments", "matchContains": ["count"]}]}));
        let limited = limited.expect("a configuration");
        assert_eq!(consumed(&limited, "", "pods", &usage), ["memory", "requests.cpu"]);
        assert!(consumed(&limited, "", "services", &usage).is_empty());
        assert!(Limited::parse(json!({"apiVersion": "v1", "kind": "ResourceQuotaConfiguration"})).is_err());
    }
}
