//! The columns of admission policies, their bindings and webhooks.

use serde_json::Value;

use super::{age, n, s};
use crate::api::object::{list, text};

pub(super) fn row(plural: &str, item: &Value) -> Vec<Value> {
    let parameter = |value: &Value| {
        if value.is_null() {
            "<unset>".into()
        } else {
            format!("{}/{}", text(value, &["apiVersion"]), text(value, &["kind"])).into()
        }
    };
    match plural {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => {
            vec![n(item), list(item, &["webhooks"]).len().into(), age(item)]
        }
        "validatingadmissionpolicies" => vec![
            n(item),
            list(item, &["spec", "validations"]).len().into(),
            parameter(&item["spec"]["paramKind"]),
            age(item),
        ],
        "mutatingadmissionpolicies" => {
            vec![
                n(item),
                list(item, &["spec", "mutations"]).len().into(),
                parameter(&item["spec"]["paramKind"]),
                age(item),
            ]
        }
        _ => {
            let reference = &item["spec"]["paramRef"];
            let name = text(reference, &["name"]);
            let unset = name.is_empty() && reference["selector"].is_null();
            let shown: Value = if !reference.is_object() || unset {
                "<unset>".into()
            } else if name.is_empty() {
                go_selector(&reference["selector"]).into()
            } else {
                let namespace = text(reference, &["namespace"]);
                format!("{}/{name}", if namespace.is_empty() { "*" } else { namespace }).into()
            };
            vec![n(item), s(text(item, &["spec", "policyName"])), shown, age(item)]
        }
    }
}

/// A label selector as Go prints the struct.
fn go_selector(selector: &Value) -> String {
    let labels: String = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expressions: String = list(selector, &["matchExpressions"])
        .iter()
        .map(|e| {
            let values: Vec<&str> = list(e, &["values"]).iter().filter_map(Value::as_str).collect();
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                text(e, &["key"]),
                text(e, &["operator"]),
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
