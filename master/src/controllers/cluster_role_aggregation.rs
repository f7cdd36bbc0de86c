//! ClusterRoles that are made of others: their rules are those of every ClusterRole that their selectors
//! select.

use k8s_openapi::Resource;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use super::machinery::labels::{selector, selects};
use super::machinery::watches::mapped;
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct ClusterRoleAggregation;

impl Reconciler for ClusterRoleAggregation {
    const NAME: &'static str = "ClusterRoleAggregator";
    const ACCOUNT: &'static str = "clusterrole-aggregation-controller";
    const RESOURCE: &'static str = "clusterroles";

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<ClusterRole>(|_, cache| {
            let all = cache.list::<ClusterRole>("");
            all.iter().filter(|r| r.aggregation_rule.is_some()).map(|r| Key::of(&r.metadata)).collect()
        })]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(role) = cx.cache.get::<ClusterRole>("", &key.name) else { return Ok(Outcome::DONE) };
        let Some(rules) = aggregated(&role, &cx.cache.list::<ClusterRole>("")) else {
            return Ok(Outcome::DONE);
        };
        if role.rules.as_ref().is_some_and(|r| *r == rules) || (role.rules.is_none() && rules.is_empty()) {
            return Ok(Outcome::DONE);
        }
        // Applied, so that a client that applies the role does not take the rules away again.
        let mut wanted = json!({
            "apiVersion": ClusterRole::API_VERSION, "kind": ClusterRole::KIND, "metadata": {"name": key.name.as_ref() as &str},
        });
        if !rules.is_empty() {
            wanted["rules"] = json!(rules);
        }
        cx.client.apply::<ClusterRole>("", &key.name, None, Self::ACCOUNT, &wanted).await?;
        Ok(Outcome::DONE)
    }
}

/// The rules of an aggregating role, each once, in the order of the roles' names; `None` for a role that
/// aggregates nothing. Pure.
fn aggregated(role: &ClusterRole, all: &[std::sync::Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let of = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for wanted in of {
        let wanted = selector(wanted);
        let others = all.iter().filter(|r| r.metadata.name != role.metadata.name);
        for other in others.filter(|r| selects(&wanted, r.metadata.labels.as_ref())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_selected_roles_are_joined_once() {
        let role = |name: &str, label: &str, verb: &str| -> Arc<ClusterRole> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {label: "true"}},
                    "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]}))
                .unwrap(),
            )
        };
        let all = [
            role("a", "view", "get"),
            role("b", "view", "get"),
            role("c", "view", "list"),
            role("d", "x", "delete"),
        ];
        let view: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "view"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"view": "true"}}]}}))
        .unwrap();
        let verbs: Vec<String> = aggregated(&view, &all).unwrap().into_iter().flat_map(|r| r.verbs).collect();
        assert_eq!(verbs, ["get", "list"]);
        assert_eq!(aggregated(&all[0], &all), None);
    }
}
