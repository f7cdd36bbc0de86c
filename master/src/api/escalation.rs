//! RBAC's guard against escalation: nobody grants what they do not have, unless they may `escalate` or `bind`.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use protocol::{ApiError, ApiRequest};
use serde_json::{Value, json};

use super::admission::Write;
use super::object;
use super::pipeline::Inner;
use crate::auth::rbac::{compact, uncovered};
use crate::auth::{Attributes, MASTERS};

impl Inner {
    /// Refuses roles and bindings that give more than the writer has.
    pub fn check_escalation(&self, write: &Write<'_>, value: &Value) -> Result<(), ApiError> {
        let request = write.request;
        if request.caller.groups.iter().any(|g| g == MASTERS) {
            return Ok(());
        }
        let unchanged = |field: &str| write.old.is_some_and(|old| old[field] == value[field]);
        match write.subject.stored.plural {
            "roles" | "clusterroles" => {
                if unchanged("rules") && unchanged("aggregationRule") {
                    return Ok(());
                }
                if self.may(request, "escalate", write.subject.stored.plural, object::name(value)) {
                    return Ok(());
                }
                let rules: Vec<PolicyRule> =
                    serde_json::from_value(value["rules"].clone()).unwrap_or_default();
                self.covered(write, value, &rules)?;
                let gathers = |role: &Value| role["aggregationRule"].is_object();
                // Who gathers may gather anything.
                if gathers(value) || write.old.is_some_and(gathers) {
                    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                        {"nonResourceURLs": ["*"], "verbs": ["*"]}]);
                    let all: Vec<PolicyRule> = serde_json::from_value(all).unwrap_or_default();
                    let resource = write.subject.resource;
                    let why = "must have cluster-admin privileges to use the aggregationRule";
                    let refused =
                        |_| ApiError::forbidden(resource.group, resource.plural, object::name(value), why);
                    self.covered(write, value, &all).map_err(refused)?;
                }
                Ok(())
            }
            "rolebindings" | "clusterrolebindings" => {
                if unchanged("roleRef") && unchanged("subjects") {
                    return Ok(());
                }
                let role: RoleRef = serde_json::from_value(value["roleRef"].clone()).unwrap_or_default();
                let plural = match &*role.kind {
                    "ClusterRole" => "clusterroles",
                    "Role" => "roles",
                    other => {
                        return Err(ApiError::new(
                            500,
                            "",
                            format!("unsupported role reference kind: {other:?}"),
                        ));
                    }
                };
                if self.may(request, "bind", plural, &role.name) {
                    return Ok(());
                }
                let Some(rules) = self.authorizer.rbac().role_rules(write.subject.namespace, &role) else {
                    // Upstream names the binding's kind, whose role is missing.
                    let resource = write.subject.resource;
                    return Err(ApiError::not_found(resource.group, resource.plural, &role.name));
                };
                self.covered(write, value, &rules)
            }
            _ => Ok(()),
        }
    }

    fn may(&self, request: &ApiRequest, verb: &str, plural: &str, name: &str) -> bool {
        let attributes = Attributes {
            caller: request.caller.clone(),
            verb: verb.to_owned(),
            group: "rbac.authorization.k8s.io".to_owned(),
            version: "v1".to_owned(),
            resource: plural.to_owned(),
            namespace: request.target.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        self.authorizer.decide(&attributes).is_allowed()
    }

    fn covered(&self, write: &Write<'_>, value: &Value, wanted: &[PolicyRule]) -> Result<(), ApiError> {
        let caller = &write.request.caller;
        let (owned, _) = self.authorizer.rbac().rules(caller, write.subject.namespace);
        let missing = uncovered(&owned, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut shown: Vec<String> = compact(missing).iter().map(|rule| shown_rule(&json!(rule))).collect();
        shown.sort();
        shown.dedup();
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            caller.user,
            protocol::go::quoted_list(&caller.groups),
            shown.join("\n")
        );
        let resource = write.subject.resource;
        Err(ApiError::forbidden(resource.group, resource.plural, object::name(value), &why))
    }
}

fn shown_rule(rule: &Value) -> String {
    let mut parts = Vec::new();
    for (name, label) in [
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("nonResourceURLs", "NonResourceURLs"),
        ("verbs", "Verbs"),
    ] {
        let values: Vec<String> = object::list(rule, &[name]).iter().map(Value::to_string).collect();
        if !values.is_empty() {
            parts.push(format!("{label}:[{}]", values.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}
