//! Namespaces, nodes, budgets, priorities, autoscalers, and the admission and flow-control configuration.

use serde_json::{Value, json};

use super::podspec::label_selector;
use super::{Strategy, base, immutable, non_negative, workloads};
use crate::api::invalid::Path;
use crate::api::meta::NameRule;
use crate::api::object::{default, list, list_mut, name, object_mut, text};

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

pub(super) fn namespace() -> Strategy {
    Strategy {
        names: NameRule::Label,
        defaults: |object| {
            let label = name(object).to_owned();
            if !label.is_empty() {
                object_mut(object, &["metadata", "labels"])
                    .insert("kubernetes.io/metadata.name".to_owned(), label.into());
            }
        },
        prepare_create: |object| {
            let mut finalizers = list(object, &["spec", "finalizers"]).to_vec();
            if !finalizers.iter().any(|f| f == "kubernetes") {
                finalizers.push("kubernetes".into());
            }
            object["spec"]["finalizers"] = finalizers.into();
            object["status"] = json!({"phase": "Active"});
        },
        prepare_update: |new, old| {
            crate::api::object::copy_field(old, new, "spec");
            crate::api::object::copy_field(old, new, "status");
        },
        ..base()
    }
}

pub(super) fn node() -> Strategy {
    Strategy {
        prepare_create: |_| {},
        validate: |object, errors| {
            let taints = list(object, &["spec", "taints"]);
            for (i, taint) in taints.iter().enumerate() {
                let path = spec("taints").index(i);
                for error in protocol::selector::qualified_name_error(text(taint, &["key"])) {
                    errors.invalid(&path.child("key"), text(taint, &["key"]), error);
                }
                let effect = text(taint, &["effect"]);
                if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
                    errors.unsupported(
                        &path.child("effect"),
                        effect,
                        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
                    );
                }
                let same = |t: &Value| t["key"] == taint["key"] && t["effect"] == taint["effect"];
                if taints[..i].iter().any(same) {
                    errors.duplicate(&path, taint.clone());
                }
            }
        },
        validate_update: |new, old, errors| {
            let (before, after) = (&old["spec"]["podCIDR"], &new["spec"]["podCIDR"]);
            if !before.is_null() && before != after {
                errors.forbidden(
                    &spec("podCIDRs"),
                    "node updates may not change podCIDR except from \"\" to valid",
                );
            }
            let (before, after) = (&old["spec"]["providerID"], &new["spec"]["providerID"]);
            if !before.is_null() && before != after {
                errors.forbidden(
                    &spec("providerID"),
                    "node updates may not change providerID except from \"\" to valid",
                );
            }
        },
        ..base()
    }
}

pub(super) fn disruption_budget() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let budget = &object["spec"];
            if !budget["minAvailable"].is_null() && !budget["maxUnavailable"].is_null() {
                errors.invalid(
                    &Path::new("spec"),
                    budget.clone(),
                    "minAvailable and maxUnavailable cannot be both set",
                );
            }
            for name in ["minAvailable", "maxUnavailable"] {
                workloads::int_or_percent(&budget[name], &spec(name), errors);
            }
            label_selector(&budget["selector"], &spec("selector"), errors);
            let policy = &budget["unhealthyPodEvictionPolicy"];
            if let Some(value) = policy.as_str()
                && !["AlwaysAllow", "IfHealthyBudget"].contains(&value)
            {
                errors.unsupported(
                    &spec("unhealthyPodEvictionPolicy"),
                    value,
                    &["AlwaysAllow", "IfHealthyBudget"],
                );
            }
        },
        ..base()
    }
}

pub(super) fn priority_class() -> Strategy {
    Strategy {
        defaults: |object| default(object_mut(object, &[]), "preemptionPolicy", "PreemptLowerPriority"),
        validate: |object, errors| {
            let value = object["value"].as_i64().unwrap_or(0);
            let system = name(object).starts_with("system-");
            let known = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
            if system {
                if !known.contains(&(name(object), value)) {
                    errors.forbidden(
                        &Path::new("metadata.name"),
                        "priority class names with 'system-' prefix are reserved for system use only. error: the \
                         priority class is not a known system priority class",
                    );
                }
            } else if value > 1_000_000_000 {
                errors.forbidden(
                    &Path::new("value"),
                    "maximum allowed value of a user defined priority is 1000000000",
                );
            }
            let policy = text(object, &["preemptionPolicy"]);
            if !["Never", "PreemptLowerPriority"].contains(&policy) {
                errors.unsupported(
                    &Path::new("preemptionPolicy"),
                    policy,
                    &["Never", "PreemptLowerPriority"],
                );
            }
        },
        validate_update: |new, old, errors| {
            if new["value"] != old["value"] {
                errors.invalid(&Path::new("value"), new["value"].clone(), "field is immutable");
            }
            immutable(
                &new["preemptionPolicy"],
                &old["preemptionPolicy"],
                &Path::new("preemptionPolicy"),
                errors,
            );
        },
        ..base()
    }
}

pub(super) fn autoscaler() -> Strategy {
    Strategy {
        defaults: |object| {
            default(object_mut(object, &["spec"]), "minReplicas", 1);
            if list(object, &["spec", "metrics"]).is_empty() {
                object["spec"]["metrics"] = json!([{
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                }]);
            }
        },
        validate: |object, errors| {
            let (min, max) =
                (object["spec"]["minReplicas"].as_i64(), object["spec"]["maxReplicas"].as_i64().unwrap_or(0));
            if min.is_some_and(|m| m < 1) {
                errors.invalid(&spec("minReplicas"), min, "must be greater than or equal to 1");
            }
            if max < 1 {
                errors.invalid(&spec("maxReplicas"), max, "must be greater than 0");
            }
            if min.is_some_and(|m| max < m) {
                errors.invalid(&spec("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
            }
            for name in ["kind", "name"] {
                if text(object, &["spec", "scaleTargetRef", name]).is_empty() {
                    errors.required(&spec("scaleTargetRef").child(name), "");
                }
            }
        },
        ..base()
    }
}

/// API services, which name where another server serves a group.
pub(super) fn api_service() -> Strategy {
    Strategy {
        names: NameRule::PathSegment,
        defaults: |object| {
            if let Some(service) = object.pointer_mut("/spec/service").and_then(Value::as_object_mut) {
                default(service, "port", 443);
            }
        },
        ..base()
    }
}

/// Webhooks and policies.
pub(super) fn admission(plural: &str) -> Strategy {
    match plural {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => Strategy {
            defaults: |object| {
                let mutating = object["kind"] == "MutatingWebhookConfiguration";
                for hook in list_mut(object, &["webhooks"]) {
                    let fields = object_mut(hook, &[]);
                    default(fields, "failurePolicy", "Fail");
                    default(fields, "matchPolicy", "Equivalent");
                    default(fields, "namespaceSelector", json!({}));
                    default(fields, "objectSelector", json!({}));
                    default(fields, "timeoutSeconds", 10);
                    if mutating {
                        default(fields, "reinvocationPolicy", "Never");
                    }
                    if let Some(service) =
                        hook.pointer_mut("/clientConfig/service").and_then(Value::as_object_mut)
                    {
                        default(service, "port", 443);
                    }
                    for rule in list_mut(hook, &["rules"]) {
                        default(object_mut(rule, &[]), "scope", "*");
                    }
                }
            },
            ..base()
        },
        "validatingadmissionpolicies" | "mutatingadmissionpolicies" => Strategy {
            defaults: |object| {
                let fields = object_mut(object, &["spec"]);
                default(fields, "failurePolicy", "Fail");
                if object["spec"]["matchConstraints"].is_object() {
                    let fields = object_mut(object, &["spec", "matchConstraints"]);
                    default(fields, "matchPolicy", "Equivalent");
                    default(fields, "namespaceSelector", json!({}));
                    default(fields, "objectSelector", json!({}));
                    for kind in ["resourceRules", "excludeResourceRules"] {
                        for rule in list_mut(object, &["spec", "matchConstraints", kind]) {
                            default(object_mut(rule, &[]), "scope", "*");
                        }
                    }
                }
            },
            ..base()
        },
        _ => Strategy {
            defaults: |object| {
                if object["spec"]["matchResources"].is_object() {
                    let fields = object_mut(object, &["spec", "matchResources"]);
                    default(fields, "matchPolicy", "Equivalent");
                    default(fields, "namespaceSelector", json!({}));
                    default(fields, "objectSelector", json!({}));
                }
            },
            ..base()
        },
    }
}

/// Flow schemas and priority levels: kept, not enforced.
pub(super) fn flow(plural: &str) -> Strategy {
    if plural == "flowschemas" {
        return Strategy {
            defaults: |object| {
                let fields = object_mut(object, &["spec"]);
                if fields.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(0) == 0 {
                    fields.insert("matchingPrecedence".to_owned(), 1000.into());
                }
            },
            ..base()
        };
    }
    Strategy {
        defaults: |object| {
            for kind in ["limited", "exempt"] {
                if !object["spec"][kind].is_object() {
                    continue;
                }
                let fields = object_mut(object, &["spec", kind]);
                default(fields, "nominalConcurrencyShares", if kind == "limited" { 30 } else { 0 });
                default(fields, "lendablePercent", 0);
            }
            if object["spec"]["limited"]["limitResponse"]["type"] == "Queue" {
                let fields = object_mut(object, &["spec", "limited", "limitResponse", "queuing"]);
                for (name, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                    if fields.get(name).and_then(Value::as_i64).unwrap_or(0) == 0 {
                        fields.insert(name.to_owned(), value.into());
                    }
                }
            }
        },
        validate: |object, errors| {
            non_negative(&object["spec"]["limited"]["nominalConcurrencyShares"], &spec("limited"), errors)
        },
        ..base()
    }
}
