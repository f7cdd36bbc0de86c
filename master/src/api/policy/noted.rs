//! What validating policies have written in the audit log.

use std::collections::BTreeMap;

use serde_json::json;

use super::compiled::{Binding, Expression, Policy};
use super::validating::evaluate;
use crate::api::cel::Scope;
use crate::api::cel::value::Value as CelValue;
use crate::audit::annotations::annotate;

/// What policies say in the audit log: values by policy and key.
#[derive(Default)]
pub struct Noted(BTreeMap<String, Vec<String>>);

impl Noted {
    /// Notes a value.
    pub fn add(&mut self, policy: &str, key: &str, value: &str) {
        let values = self.0.entry(format!("{policy}/{key}")).or_default();
        if !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
        }
    }

    /// Has them written.
    pub fn publish(self) {
        self.0.iter().for_each(|(key, values)| annotate(key, &values.join(", ")));
    }
}

/// The annotation about a rule that was broken.
const BROKEN: &str = "validation.policy.admission.k8s.io/validation_failure";

/// Notes that a rule of a policy was broken.
pub fn broken(policy: &Policy, binding: &Binding, index: usize, message: &str) {
    let failure = json!([{
        "message": message, "policy": policy.name, "binding": binding.name,
        "expressionIndex": index, "validationActions": binding.actions,
    }]);
    annotate(BROKEN, &failure.to_string());
}

/// What an expression says in the audit log: text, or nothing.
pub fn value_of(
    expression: &Expression,
    scope: &Scope<'_>,
    budget: &mut u64,
) -> Result<Option<String>, String> {
    let source = &expression.source;
    match evaluate(expression, scope, budget) {
        Ok(CelValue::Null) => Ok(None),
        Ok(CelValue::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Ok(_) => Err(format!(
            "valueExpression '{source}' resulted in unsupported return type. Return type must be either string or null."
        )),
        Err(why) => Err(format!("expression '{source}' resulted in error: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::annotations::collect;

    #[tokio::test]
    async fn what_several_bindings_say_is_said_once() {
        let (_, said) = collect(async {
            let mut noted = Noted::default();
            for (key, value) in [("a", "1"), ("a", "2"), ("a", "1"), ("b", "3")] {
                noted.add("policy", key, value);
            }
            noted.publish();
        })
        .await;
        assert_eq!((said["policy/a"].value.as_str(), said["policy/b"].value.as_str()), ("1, 2", "3"));
    }
}
