//! Warnings about a validating policy's expressions: what would fail for the kinds that it is about. Pure.

use serde_json::Value;

use super::compiled::with_variables;
use super::request::environment;
use super::types;
use crate::api::cel::{Environment, Program, Type};
use crate::api::custom::Catalog;
use crate::api::object::{list, text};

/// Kinds that a policy is checked for.
const KINDS_MAX: usize = 10;

/// A warning about one expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where the expression stands.
    pub field: String,
    /// What is wrong with it, for each kind.
    pub text: String,
}

/// A kind that a policy is about: group, version and kind.
type Kind = (String, String, String);

/// What is wrong with a policy's expressions.
pub fn warnings(catalog: &Catalog, policy: &Value) -> Vec<Warning> {
    let spec = &policy["spec"];
    let environments: Vec<(Kind, Environment)> = kinds(catalog, spec)
        .into_iter()
        .filter_map(|kind| {
            let object = types::of_kind(catalog, &api_version(&kind), &kind.2)?;
            Some((kind, environment_of(catalog, spec, object)))
        })
        .collect();
    let check = |source: &str| -> Vec<String> {
        let one = |((group, version, kind), environment): &(Kind, Environment)| {
            let why = Program::check(environment, source).err()?;
            Some(format!("{group}/{version}, Kind={kind}: {why}\n"))
        };
        environments.iter().filter_map(one).collect()
    };
    let mut found = Vec::new();
    for (i, validation) in list(spec, &["validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, &[field]);
            let wrong = if source.is_empty() { Vec::new() } else { check(source) };
            if !wrong.is_empty() {
                let field = format!("spec.validations[{i}].{field}");
                found.push(Warning { field, text: wrong.join("\n") });
            }
        }
    }
    found
}

fn api_version((group, version, _): &Kind) -> String {
    if group.is_empty() { version.clone() } else { format!("{group}/{version}") }
}

/// The kinds that a policy names, sorted. Rules with wildcards name none.
fn kinds(catalog: &Catalog, spec: &Value) -> Vec<Kind> {
    let mut found = Vec::new();
    for rule in list(spec, &["matchConstraints", "resourceRules"]) {
        let texts = |field: &str| -> Vec<&str> {
            let mut texts: Vec<&str> = list(rule, &[field]).iter().filter_map(Value::as_str).collect();
            texts.sort_unstable();
            texts
        };
        let plain = |field: &str| Some(texts(field)).filter(|all| all.iter().all(|t| !t.contains('*')));
        let (Some(groups), Some(versions)) = (plain("apiGroups"), plain("apiVersions")) else { continue };
        let resources = texts("resources").into_iter().filter(|name| !name.contains(['*', '/']));
        let resources: Vec<&str> = resources.collect();
        let combined = groups.iter().flat_map(|group| versions.iter().map(move |version| (group, version)));
        let kinds = combined.flat_map(|(group, version)| {
            let resources = resources.iter();
            resources.filter_map(|name| catalog.find(group, version, name).map(|found| found.resource))
        });
        let kinds = kinds.map(|r| (r.group.to_owned(), r.version.to_owned(), r.kind.to_owned()));
        found.extend(kinds.take(KINDS_MAX));
    }
    found.sort();
    found.dedup();
    found.truncate(KINDS_MAX);
    found
}

/// What the expressions may use where the policy is about objects of a type.
fn environment_of(catalog: &Catalog, spec: &Value, object: Type) -> Environment {
    let kind = &spec["paramKind"];
    let params = types::of_kind(catalog, text(kind, &["apiVersion"]), text(kind, &["kind"]));
    // Of what nobody knows anything may be.
    let mut made = environment(kind.is_object());
    let mut put = |name: &str, ty: Type| drop(made.variables.insert(name.to_owned(), ty));
    put("object", object.clone());
    put("oldObject", object);
    if let Some(params) = params {
        put("params", params);
    }
    with_variables(spec, made, |_, _, _| {}).0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(resources: &[&str], validation: Value) -> Value {
        json!({"spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": resources}]},
            "variables": [{"name": "wanted", "expression": "object.spec.replicas"}],
            "validations": [validation]}})
    }

    fn said(policy: &Value) -> Vec<(String, String)> {
        let found = warnings(&Catalog::default(), policy);
        found.into_iter().map(|w| (w.field, w.text)).collect()
    }

    #[test]
    fn what_a_kind_does_not_have_is_warned_of() {
        let wrong = policy(&["deployments"], json!({"expression": "object.replicas > 1"}));
        let text = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > \
                    1\n | ......^\n";
        assert_eq!(said(&wrong), [("spec.validations[0].expression".to_owned(), text.to_owned())]);
    }

    #[test]
    fn what_fits_is_not() {
        for expression in [
            "object.spec.replicas > 1",
            "variables.wanted > 1",
            "object.metadata.labels['a'] == 'b'",
            "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && has(c.resources.claims))",
            "namespaceObject.metadata.name == request.namespace",
            "authorizer.group('apps').resource('deployments').check('get').allowed()",
        ] {
            let policy = policy(&["deployments", "*/scale"], json!({"expression": expression}));
            assert_eq!(said(&policy), [], "{expression}");
        }
    }

    #[test]
    fn every_kind_has_its_say_and_messages_are_checked_too() {
        let validation =
            json!({"expression": "object.spec.strategy.type == 'Recreate'", "messageExpression": "'x' + 1"});
        let said = said(&policy(&["statefulsets", "deployments"], validation));
        assert_eq!(said.len(), 2);
        assert!(
            said[0]
                .1
                .starts_with("apps/v1, Kind=StatefulSet: ERROR: <input>:1:12: undefined field 'strategy'")
        );
        assert_eq!(said[1].0, "spec.validations[0].messageExpression");
        assert_eq!(said[1].1.matches("found no matching overload for '_+_'").count(), 2, "{}", said[1].1);
    }

    #[test]
    fn quantities_cannot_be_named() {
        let said = said(&policy(
            &["deployments"],
            json!({"expression": "object.spec.template.spec.containers.all(c, has(c.resources.limits))"}),
        ));
        assert!(said[0].1.contains("undefined field 'limits'"), "{said:?}");
    }

    #[test]
    fn wildcards_are_about_no_kind() {
        let mut wild = policy(&["*"], json!({"expression": "object.nothing"}));
        assert_eq!(said(&wild), []);
        wild["spec"]["matchConstraints"]["resourceRules"][0]["resources"] = json!(["deployments"]);
        wild["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["*"]);
        assert_eq!(said(&wild), []);
    }
}
