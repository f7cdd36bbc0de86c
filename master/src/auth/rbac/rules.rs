//! Questions about single rules: pure functions.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use protocol::selector::Selector;

use super::super::Attributes;

/// Whether a rule allows a request.
pub fn covers(rule: &PolicyRule, attributes: &Attributes) -> bool {
    let verb = has(&rule.verbs, &attributes.verb);
    if !attributes.is_resource() {
        return verb
            && list(&rule.non_resource_urls).iter().any(|pattern| grants_url(pattern, &attributes.path));
    }
    let names = list(&rule.resource_names);
    verb && has(list(&rule.api_groups), &attributes.group)
        && list(&rule.resources)
            .iter()
            .any(|pattern| grants_resource(pattern, &attributes.resource, &attributes.subresource))
        && (names.is_empty() || names.contains(&attributes.name))
}

fn list(values: &Option<Vec<String>>) -> &[String] {
    values.as_deref().unwrap_or_default()
}

fn has(values: &[String], wanted: &str) -> bool {
    values.iter().any(|v| v == "*" || v == wanted)
}

/// `pods`, `pods/log`, `*` (everything) and `*/scale` (that subresource of everything).
fn grants_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// Whether a non-resource URL of a rule stands for a path: `*`, the path itself, or a prefix ending in `*`.
pub fn grants_url(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// The parts of `wanted` that `owned` does not cover: what somebody with `owned` may not grant. Each is a
/// rule with one verb, and one group, resource and name, or one URL.
pub fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(break_down).filter(|part| !owned.iter().any(|rule| includes(rule, part))).collect()
}

fn break_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |value: &str| Some(vec![value.to_owned()]);
    let mut parts = Vec::new();
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let part = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match list(&rule.resource_names) {
                    [] => parts.push(part),
                    names => parts.extend(
                        names.iter().map(|name| PolicyRule { resource_names: one(name), ..part.clone() }),
                    ),
                }
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        for verb in &rule.verbs {
            let (non_resource_urls, verbs) = (one(url), vec![verb.clone()]);
            parts.push(PolicyRule { non_resource_urls, verbs, ..PolicyRule::default() });
        }
    }
    parts
}

/// Puts together the verbs of parts that are about the same resource and name; others stay as they are.
pub fn compact(parts: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let same = |a: &PolicyRule, b: &PolicyRule| {
        a.resources.is_some()
            && (&a.api_groups, &a.resources, &a.resource_names)
                == (&b.api_groups, &b.resources, &b.resource_names)
    };
    let mut made: Vec<PolicyRule> = Vec::new();
    for part in parts {
        match made.iter_mut().find(|rule| same(rule, &part)) {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => made.push(part),
        }
    }
    made
}

/// Whether a rule includes a part as [`break_down`] makes it.
fn includes(rule: &PolicyRule, part: &PolicyRule) -> bool {
    if !part.verbs.iter().all(|verb| has(&rule.verbs, verb)) {
        return false;
    }
    if part.resources.is_none() {
        let within = |url: &String| {
            list(&rule.non_resource_urls).iter().any(|owned| {
                owned == url || owned.strip_suffix('*').is_some_and(|prefix| url.starts_with(prefix))
            })
        };
        return list(&part.non_resource_urls).iter().all(within);
    }
    let resources = list(&rule.resources);
    let resource_within = |wanted: &String| {
        resources.iter().any(|owned| {
            owned == "*"
                || owned == wanted
                || wanted.split_once('/').is_some_and(|(_, sub)| owned.strip_prefix("*/") == Some(sub))
        })
    };
    let names = list(&rule.resource_names);
    let wanted_names = list(&part.resource_names);
    list(&part.api_groups).iter().all(|group| has(list(&rule.api_groups), group))
        && list(&part.resources).iter().all(resource_within)
        && (names.is_empty() || (!wanted_names.is_empty() && wanted_names.iter().all(|n| names.contains(n))))
}

/// The rules that an aggregating role should have: those of the roles that its selectors choose, in the
/// order of their names, each once. `None` when the role does not aggregate.
pub fn aggregate<'a>(
    role: &ClusterRole,
    all: impl Iterator<Item = &'a ClusterRole>,
) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let selectors: Vec<Selector> =
        selectors.iter().filter_map(|s| Selector::from_label_selector(s).ok()).collect();
    let mut rules: Vec<PolicyRule> = Vec::new();
    // Each selector brings its own roles; a role never aggregates itself.
    let mut parts: Vec<&ClusterRole> = all.filter(|part| part.metadata.name != role.metadata.name).collect();
    parts.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    for selector in &selectors {
        let labels = |part: &ClusterRole| part.metadata.labels.clone().unwrap_or_default();
        for rule in
            parts.iter().filter(|p| selector.matches(&labels(p))).flat_map(|p| p.rules.iter().flatten())
        {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_of_one_resource_are_told_together() {
        let texts = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        let wanted = PolicyRule {
            api_groups: Some(texts(&[""])),
            resources: Some(texts(&["pods", "secrets"])),
            verbs: texts(&["get", "list"]),
            ..PolicyRule::default()
        };
        let urls = PolicyRule {
            non_resource_urls: Some(texts(&["/a"])),
            verbs: texts(&["get", "head"]),
            ..PolicyRule::default()
        };
        let made = compact(uncovered(&[], &[wanted, urls]));
        let shown: Vec<_> = made.iter().map(|r| (list(&r.resources).to_vec(), r.verbs.clone())).collect();
        assert_eq!(
            shown,
            [
                (texts(&["pods"]), texts(&["get", "list"])),
                (texts(&["secrets"]), texts(&["get", "list"])),
                (texts(&[]), texts(&["get"])),
                (texts(&[]), texts(&["head"])),
            ]
        );
    }
}
