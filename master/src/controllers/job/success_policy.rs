//! When a Job's success policy says that enough indexes have succeeded. Pure.

use k8s_openapi::api::batch::v1::JobSpec;

use super::indexes::Indexes;

/// Why the Job has succeeded, where a rule says so.
pub fn met(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    let completions = spec.completions?;
    let enough =
        |wanted: Option<i32>, there: i32| wanted.is_some_and(|wanted| wanted >= 0 && there >= wanted);
    let rules = &spec.success_policy.as_ref()?.rules;
    let at = rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let named = Indexes::parse(text, completions);
            let there = named.common(succeeded);
            enough(rule.succeeded_count, there) || there == named.count()
        }
        None => enough(rule.succeeded_count, succeeded.count()),
    })?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_rule_names_indexes_or_a_number() {
        let check = |rules: Value, succeeded: &[i32], expected: Option<&str>| {
            let spec = json!({"completions": 5, "successPolicy": {"rules": rules}, "template": {}});
            let spec = serde_json::from_value(spec).unwrap();
            let succeeded = succeeded.iter().copied().collect();
            assert_eq!(met(&spec, &succeeded).as_deref(), expected, "{rules} {succeeded:?}");
        };
        let all = json!([{"succeededIndexes": "0-2"}]);
        check(all.clone(), &[0, 2], None);
        check(all, &[0, 1, 2], Some("Matched rules at index 0"));
        let some = json!([{"succeededIndexes": "0-2", "succeededCount": 2}]);
        check(some.clone(), &[0, 4], None);
        check(some, &[0, 2], Some("Matched rules at index 0"));
        let any = json!([{"succeededIndexes": "4"}, {"succeededCount": 1}]);
        check(any.clone(), &[], None);
        check(any, &[3], Some("Matched rules at index 1"));
    }
}
