//! Audit policies: what is recorded of which requests. Pure.

use serde::Deserialize;

use super::event::Facts;

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what and how it went.
    Metadata,
    /// The request's object besides.
    Request,
    /// The answer's object besides.
    RequestResponse,
}

impl Level {
    /// As events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// Where in its life a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// It came.
    RequestReceived,
    /// The head of an answer that lasts was sent.
    ResponseStarted,
    /// The answer was made.
    ResponseComplete,
    /// The server failed at it.
    Panic,
}

impl Stage {
    /// As events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenRule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    api_version: String,
    kind: String,
    rules: Vec<WrittenRule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

/// What applies to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// How much is recorded.
    pub level: Level,
    /// When nothing is.
    pub omit_stages: Vec<Stage>,
    /// Objects are recorded without their managed fields.
    pub omit_managed_fields: bool,
}

/// A policy: the first rule that matches a request applies.
#[derive(Clone, Debug)]
pub struct Policy {
    written: Written,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = crate::yaml::read(text)?.value;
        let written: Written = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if written.api_version != "audit.k8s.io/v1" || written.kind != "Policy" {
            return Err(format!("{} in {} is no audit.k8s.io/v1 Policy", written.kind, written.api_version));
        }
        if written.rules.is_empty() {
            return Err("a policy without rules records nothing".to_owned());
        }
        for (i, rule) in written.rules.iter().enumerate() {
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if of_resources && !rule.non_resource_urls.is_empty() {
                return Err(format!(
                    "rules[{i}]: rules cannot apply to both regular resources and non-resource URLs"
                ));
            }
        }
        Ok(Policy { written })
    }

    /// What applies to a request; `None` when nothing is recorded of it.
    pub fn rule(&self, facts: &Facts) -> Option<Applied> {
        let rule = self.written.rules.iter().find(|rule| matches(rule, facts))?;
        if rule.level == Level::None {
            return None;
        }
        let omit_stages = rule.omit_stages.iter().chain(&self.written.omit_stages).copied().collect();
        let omit_managed_fields = rule.omit_managed_fields.unwrap_or(self.written.omit_managed_fields);
        Some(Applied { level: rule.level, omit_stages, omit_managed_fields })
    }
}

fn matches(rule: &WrittenRule, facts: &Facts) -> bool {
    let one_of = |list: &[String], value: &str| list.is_empty() || list.iter().any(|v| v == value);
    let user = facts.actor.as_ref().unwrap_or(&facts.caller);
    let in_groups =
        rule.user_groups.is_empty() || user.groups.iter().any(|group| rule.user_groups.contains(group));
    if !one_of(&rule.users, &user.user) || !in_groups || !one_of(&rule.verbs, &facts.verb) {
        return false;
    }
    match &facts.target {
        Some(target) => {
            if !rule.non_resource_urls.is_empty() {
                return false;
            }
            let namespace = target.namespace.as_deref().unwrap_or_default();
            if !one_of(&rule.namespaces, namespace) {
                return false;
            }
            if rule.resources.is_empty() {
                return true;
            }
            let resource = target.resource.as_str();
            let subresource = target.subresource.as_deref().unwrap_or_default();
            let name = target.name.as_deref().unwrap_or_default();
            rule.resources.iter().any(|of| {
                of.group == target.group
                    && (of.resources.is_empty()
                        || of.resources.iter().any(|r| names(r, resource, subresource)))
                    && (of.resource_names.is_empty() || of.resource_names.iter().any(|n| n == name))
            })
        }
        None => {
            if !rule.resources.is_empty() || !rule.namespaces.is_empty() {
                return false;
            }
            let path = facts.uri.split('?').next().unwrap_or_default();
            rule.non_resource_urls.is_empty()
                || rule.non_resource_urls.iter().any(|url| crate::auth::rbac::grants_url(url, path))
        }
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`.
fn names(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (pattern == resource && subresource.is_empty()),
        Some((of, sub)) => {
            (of == "*" || of == resource)
                && if sub == "*" { !subresource.is_empty() } else { sub == subresource }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Caller, Target};

    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [\"system:kube-proxy\"]
  verbs: [watch]
- level: None
  nonResourceURLs: [\"/healthz*\", /version]
- level: RequestResponse
  resources:
  - group: \"\"
    resources: [pods, \"*/status\"]
  omitManagedFields: true
- level: Request
  namespaces: [kube-system]
- level: Metadata
  omitStages: [ResponseStarted]
";

    #[test]
    fn the_first_rule_that_matches_applies() {
        let policy = Policy::parse(POLICY).expect("is a policy");
        let facts = |user: &str, verb: &str, target: Option<Target>, uri: &str| Facts {
            caller: Caller { user: user.into(), ..Caller::default() }.into(),
            verb: verb.into(),
            target,
            uri: uri.into(),
            ..Facts::default()
        };
        let of = |resource: &str, namespace: &str, sub: &str| {
            Some(Target {
                resource: resource.into(),
                namespace: Some(namespace.into()),
                subresource: Some(sub).filter(|s| !s.is_empty()).map(str::to_owned),
                ..Target::default()
            })
        };
        for (facts, level) in [
            (facts("system:kube-proxy", "watch", of("services", "a", ""), ""), None),
            (facts("x", "get", None, "/healthz/ping?verbose"), None),
            (facts("x", "get", None, "/api"), Some(Level::Metadata)),
            (facts("x", "get", of("pods", "a", ""), ""), Some(Level::RequestResponse)),
            (facts("x", "get", of("pods", "a", "log"), ""), Some(Level::Metadata)),
            (facts("x", "get", of("nodes", "a", "status"), ""), Some(Level::RequestResponse)),
            (facts("x", "get", of("secrets", "kube-system", ""), ""), Some(Level::Request)),
        ] {
            assert_eq!(policy.rule(&facts).map(|r| r.level), level, "{facts:?}");
        }
        let last = policy.rule(&facts("x", "get", None, "/api")).expect("applies");
        assert_eq!(last.omit_stages, [Stage::ResponseStarted, Stage::RequestReceived]);
        assert!(Policy::parse("kind: Policy\n").is_err());
    }
}
