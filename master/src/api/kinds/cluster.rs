//! Namespaces, nodes, budgets, priorities, leases, runtime classes, API services, revisions.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::checks::{self, IMMUTABLE, internal, named, qualified};
use super::pods::warnings::old_label;
use super::{MetadataTurn, Strategy, base, keep_metadata, resources};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{copy_field, default, default_text, existing_mut, list, name, object_mut, text};

mod features;

use features::declared_features;

const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

fn label_namespace(object: &mut Value) {
    let label = name(object).to_owned();
    if !label.is_empty() {
        object_mut(object, &["metadata", "labels"])
            .insert("kubernetes.io/metadata.name".to_owned(), label.into());
    }
}

/// The name of what must happen before a namespace ends.
fn finalizer(name: &str, path: &Path, errors: &mut Errors) {
    qualified(name, path, errors);
    if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&name) {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

pub(super) fn namespace() -> Strategy {
    Strategy {
        names: NameRule::Label,
        defaults: |object| {
            label_namespace(object);
            let status = object_mut(object, &["status"]);
            default_text(status, "phase", "Active");
        },
        prepare_create: |object| {
            // A generated name is known only now.
            label_namespace(object);
            let mut finalizers = list(object, &["spec", "finalizers"]).to_vec();
            if !finalizers.iter().any(|f| f == "kubernetes") {
                finalizers.push("kubernetes".into());
            }
            object["spec"]["finalizers"] = finalizers.into();
            object["status"] = json!({"phase": "Active"});
        },
        prepare_update: |new, old| {
            copy_field(old, new, "spec");
            copy_field(old, new, "status");
        },
        validate: |object, errors| {
            for name in list(object, &["spec", "finalizers"]).iter().filter_map(Value::as_str) {
                finalizer(name, &spec("finalizers"), errors);
            }
        },
        validate_finalizers: |new, _, errors| {
            let names = list(new, &["spec", "finalizers"]).iter().filter_map(Value::as_str).enumerate();
            names.for_each(|(i, name)| finalizer(name, &spec("finalizers").index(i), errors));
        },
        validate_status: |new, _, errors| {
            let deleted = !new["metadata"]["deletionTimestamp"].is_null();
            let (wanted, state) = if deleted { ("Terminating", "not empty") } else { ("Active", "empty") };
            let phase = text(new, &["status", "phase"]);
            if phase != wanted {
                let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
                errors.invalid(&Path::new("status.Phase"), phase, detail);
            }
        },
        ..base()
    }
}

pub(super) fn node() -> Strategy {
    Strategy {
        keeps_status: true,
        warnings: |node, _, said| {
            if !text(node, &["spec", "externalID"]).is_empty() {
                let at = spec("externalID");
                said.push(format!("{at}: this field is deprecated, and is unused by Kubernetes"));
            }
            checks::range_notes(list(node, &["spec", "podCIDRs"]), &spec("podCIDRs"), said);
        },
        prepare_create: |node| {
            without_source(node);
            if let Some(status) = existing_mut(node, &["status"]) {
                status.remove("config");
            }
        },
        prepare_update: |new, _| without_source(new),
        // What a kubelet did with that configuration stays where it is said already.
        prepare_status: |new, old| {
            if old["status"]["config"].is_null() {
                object_mut(new, &["status"]).remove("config");
            }
        },
        defaults: |object| {
            // Two fields of one value.
            let range = text(object, &["spec", "podCIDR"]).to_owned();
            if !range.is_empty() && list(object, &["spec", "podCIDRs"]).first() != Some(&json!(range)) {
                object["spec"]["podCIDRs"] = json!([range]);
            } else if let Some(first) = list(object, &["spec", "podCIDRs"]).first().cloned() {
                object["spec"]["podCIDR"] = first;
            }
            // What is there is there to be used, unless the node says less.
            let capacity = object["status"]["capacity"].as_object().cloned().unwrap_or_default();
            let unset = object["status"]["allocatable"].as_object().is_none_or(|a| a.is_empty());
            if unset && !capacity.is_empty() {
                object["status"]["allocatable"] = capacity.into();
            }
        },
        validate: |object, errors| {
            avoided_pods(object, errors);
            taints(list(object, &["spec", "taints"]), &Path::new("metadata.taints"), errors);
            amounts(object, errors);
            declared_features(object, errors);
            let (ranges, path) = (list(object, &["spec", "podCIDRs"]), spec("podCIDRs"));
            for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
                checks::cidr(range, &path.index(i), errors);
            }
            let is_v6 = |range: &Value| range.as_str().is_some_and(|r| r.contains(':'));
            let unread = |range: &Value| range.as_str().and_then(checks::parse_cidr).is_none();
            let bad = ranges.iter().position(unread).filter(|_| ranges.len() > 1);
            if let Some(at) = bad {
                let range = ranges[at].as_str().unwrap_or_default();
                let detail = format!(
                    "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{at}]: <nil> (invalid CIDR \
                     address: {range})"
                );
                errors.internal(&path, &detail);
            }
            let alike = ranges.len() > 1 && is_v6(&ranges[0]) == is_v6(&ranges[1]);
            if bad.is_some() || alike || ranges.len() > 2 {
                let detail = "may specify no more than one CIDR for each IP family";
                errors.invalid(&path, ranges.to_vec(), detail);
            }
        },
        validate_update: |new, old, errors| {
            // What a node has is looked at a second time.
            avoided_pods(new, errors);
            amounts(new, errors);
            declared_features(new, errors);
            addresses(new, errors);
            let (was, is) = (list(old, &["spec", "podCIDRs"]), list(new, &["spec", "podCIDRs"]));
            let changed = if was.len() == is.len() {
                was.iter().zip(is).filter(|(was, is)| was != is).count()
            } else {
                usize::from(!was.is_empty())
            };
            for _ in 0..changed {
                let detail = "node updates may not change podCIDR except from \"\" to valid";
                errors.forbidden(&spec("podCIDRs"), detail);
            }
            let provider = |node: &Value| text(node, &["spec", "providerID"]).to_owned();
            if !provider(old).is_empty() && provider(old) != provider(new) {
                let detail = "node updates may not change providerID except from \"\" to valid";
                errors.forbidden(&spec("providerID"), detail);
            }
            taints(list(new, &["spec", "taints"]), &Path::new("metadata.taints"), errors);
            if text(new, &["spec", "externalID"]) != text(old, &["spec", "externalID"]) {
                errors.forbidden(&spec("externalID"), "may not be updated");
            }
        },
        validate_status: |new, _, errors| {
            amounts(new, errors);
            declared_features(new, errors);
            addresses(new, errors);
            taints(list(new, &["spec", "taints"]), &Path::new("metadata.taints"), errors);
        },
        ..base()
    }
}

/// Where kubelets once had their configuration from is said no more.
fn without_source(node: &mut Value) {
    object_mut(node, &["spec"]).remove("configSource");
}

fn addresses(node: &Value, errors: &mut Errors) {
    let addresses = list(node, &["status", "addresses"]);
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            let shown = internal("a.core.v1.NodeAddress", address);
            errors.duplicate_shown(&Path::new("status.addresses").index(i), &shown);
        }
    }
}

/// Which pods a node would rather not have, as an annotation said it once.
fn avoided_pods(node: &Value, errors: &mut Errors) {
    const AVOID: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";
    let (given, path) = (text(node, &["metadata", "annotations", AVOID]), Path::new("metadata.annotations"));
    if given.is_empty() {
        return;
    }
    match serde_json::from_str::<Value>(given) {
        Ok(avoided) => {
            for (i, entry) in list(&avoided, &["preferAvoidPods"]).iter().enumerate() {
                let (signature, at) =
                    (&entry["podSignature"], path.child(AVOID).index(i).child("PodSignature"));
                let controller = &signature["podController"];
                if controller.is_null() {
                    errors.required(&at, "");
                } else if controller["controller"] != true {
                    let at = at.child("PodController").child("Controller");
                    errors.invalid(&at, false, "must point to a controller");
                }
            }
        }
        Err(error) => {
            let why = protocol::schema::syntax::error(given.as_bytes()).unwrap_or_else(|| error.to_string());
            errors.invalid(&path.child("AvoidPods"), AVOID, why);
        }
    }
}

fn amounts(node: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, value) in node["status"][field].as_object().into_iter().flatten() {
            let path = Path::new("status").child(field).child(name);
            checks::quantity(value, &path, errors);
            let whole = name == "pods" || resources::is_extended(name);
            if whole && checks::amount(value).is_some_and(|q| !q.is_whole()) {
                errors.invalid(&path, value.clone(), "must be an integer");
            }
        }
    }
}

fn taints(taints: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let (key, effect) = (text(taint, &["key"]), text(taint, &["effect"]));
        qualified(key, &path.child("key"), errors);
        let wrong = protocol::selector::label_value_error(text(taint, &["value"]));
        if !wrong.is_empty() {
            errors.invalid(&path.child("value"), text(taint, &["value"]), wrong.join(";"));
        }
        checks::required_choice(&taint["effect"], TAINT_EFFECTS, &path.child("effect"), errors);
        if !seen.insert((key, effect)) {
            let shown = internal("a.core.v1.Taint", taint);
            let detail = "taints must be unique by key and effect pair";
            errors.duplicate_shown(&path, &format!("{shown}: {detail}"));
        }
    }
}

pub(super) fn disruption_budget() -> Strategy {
    Strategy {
        // Upstream's validation of the kind does not look at metadata.
        names: NameRule::PathSegment,
        metadata: MetadataTurn::Last,
        validate: |object, errors| {
            let budget = &object["spec"];
            if !budget["minAvailable"].is_null() && !budget["maxUnavailable"].is_null() {
                errors.invalid_struct(
                    &Path::new("spec"),
                    "a.policy.v1.PodDisruptionBudgetSpec",
                    budget,
                    "minAvailable and maxUnavailable cannot be both set",
                );
            }
            for name in ["minAvailable", "maxUnavailable"] {
                if !budget[name].is_null() {
                    checks::int_or_percent(&budget[name], &spec(name), errors);
                    checks::at_most_all(&budget[name], &spec(name), errors);
                }
            }
            checks::label_selector(&budget["selector"], &spec("selector"), errors);
            checks::choice(
                &budget["unhealthyPodEvictionPolicy"],
                &["AlwaysAllow", "IfHealthyBudget"],
                &spec("unhealthyPodEvictionPolicy"),
                errors,
            );
        },
        validate_status: |new, _, errors| {
            let (status, path) = (&new["status"], Path::new("status"));
            checks::conditions(list(status, &["conditions"]), &path.child("conditions"), errors);
            let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
            checks::all_non_negative(status, &counts, &path, errors);
        },
        ..base()
    }
}

const PRIORITY_MAX: i64 = 1_000_000_000;
/// The classes of the cluster's own pods, and what they stand for.
pub const SYSTEM_PRIORITIES: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) fn priority_class() -> Strategy {
    Strategy {
        defaults: |object| default(object_mut(object, &[]), "preemptionPolicy", "PreemptLowerPriority"),
        // What may not change is not looked at again.
        validate_create: |object, errors| {
            let (given, value) = (name(object), object["value"].as_i64().unwrap_or(0));
            if given.starts_with("system-") {
                let wrong = match SYSTEM_PRIORITIES.iter().find(|(n, _)| *n == given) {
                    None => Some(format!("{given} is not a known system priority class")),
                    Some((_, known)) if *known != value => {
                        Some(format!("value of {given} PriorityClass must be {known}"))
                    }
                    Some(_) if object["globalDefault"] == Value::Bool(true) => {
                        Some(format!("globalDefault of {given} PriorityClass must be false"))
                    }
                    Some(_) => None,
                };
                if let Some(why) = wrong {
                    let detail = format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                    );
                    errors.forbidden(&Path::new("metadata.name"), detail);
                }
            } else if value > PRIORITY_MAX {
                let detail = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
                errors.forbidden(&Path::new("value"), detail);
            }
            checks::required_choice(
                &object["preemptionPolicy"],
                &["PreemptLowerPriority", "Never"],
                &Path::new("preemptionPolicy"),
                errors,
            );
        },
        validate_update: |new, old, errors| {
            if new["value"] != old["value"] {
                errors.forbidden(&Path::new("value"), "may not be changed in an update.");
            }
            let path = Path::new("preemptionPolicy");
            checks::immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &path, errors);
        },
        ..base()
    }
}

/// API services, which name where another server serves a group.
pub(super) fn api_service() -> Strategy {
    Strategy {
        names: NameRule::PathSegment,
        own_name: |object, name| {
            let service = &object["spec"];
            let wanted = format!("{}.{}", text(service, &["version"]), text(service, &["group"]));
            let other = name != wanted && name_errors(NameRule::PathSegment, name, false).is_empty();
            other.then(|| format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"))
        },
        defaults: |object| {
            if let Some(service) = object.pointer_mut("/spec/service").and_then(Value::as_object_mut) {
                default(service, "port", 443);
            }
        },
        prepare_status: keep_metadata,
        prepare_create: |object| {
            // What this server serves itself is available at once.
            if !object["spec"]["service"].is_object() {
                object["status"] = json!({"conditions": [{
                    "type": "Available", "status": "True", "lastTransitionTime": crate::api::object::now(),
                    "reason": "Local", "message": "Local APIServices are always available",
                }]});
            }
        },
        validate: |object, errors| {
            let service = &object["spec"];
            let (group, version) = (text(service, &["group"]), text(service, &["version"]));
            if group.is_empty() {
                if version != "v1" {
                    let detail = "only v1 may have an empty group and it better be legacy kube";
                    errors.required(&spec("group"), detail);
                }
            } else {
                named(NameRule::Subdomain, group, &spec("group"), errors);
            }
            named(NameRule::Label1035, version, &spec("version"), errors);
            for (field, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
                let number = service[field].as_i64().unwrap_or(0);
                if number <= 0 || number > most {
                    errors.invalid(&spec(field), number, format!("must be positive and less than {most}"));
                }
            }
            api_backend(service, errors);
        },
        validate_status: |new, _, errors| {
            const STATUSES: &[&str] = &["True", "False", "Unknown"];
            for (i, condition) in list(new, &["status", "conditions"]).iter().enumerate() {
                let status = text(condition, &["status"]);
                if !STATUSES.contains(&status) {
                    let path = Path::new("status.conditions").index(i).child("status");
                    errors.unsupported(&path, status, STATUSES);
                }
            }
        },
        ..base()
    }
}

fn api_backend(service: &Value, errors: &mut Errors) {
    let bundle = text(service, &["caBundle"]);
    let insecure = service["insecureSkipTLSVerify"] == Value::Bool(true);
    let backend = &service["service"];
    if !backend.is_object() {
        if !bundle.is_empty() {
            let bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            let detail = "local APIServices may not have a caBundle";
            errors.invalid(&spec("caBundle"), format!("{bytes} bytes"), detail);
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&spec("insecureSkipTLSVerify"), true, detail);
        }
        return;
    }
    let path = spec("service");
    checks::required(backend, "namespace", &path, errors);
    checks::required(backend, "name", &path, errors);
    if backend["port"].as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid(&path.child("port"), backend["port"].clone(), detail);
    }
    if insecure && !bundle.is_empty() {
        let detail = "may not be true if caBundle is present";
        errors.invalid(&spec("insecureSkipTLSVerify"), true, detail);
    }
}

pub(super) fn lease() -> Strategy {
    Strategy {
        // Coordinated leader election is off, and so are its fields.
        prepare_create: uncoordinated,
        prepare_update: |new, _| uncoordinated(new),
        validate: |object, errors| {
            let lease = &object["spec"];
            if lease["leaseDurationSeconds"].as_i64().is_some_and(|n| n <= 0) {
                let path = spec("leaseDurationSeconds");
                errors.invalid(&path, lease["leaseDurationSeconds"].clone(), "must be greater than 0");
            }
            checks::non_negative(&lease["leaseTransitions"], &spec("leaseTransitions"), errors);
        },
        ..base()
    }
}

fn uncoordinated(object: &mut Value) {
    for name in ["strategy", "preferredHolder"] {
        object_mut(object, &["spec"]).remove(name);
    }
}

pub(super) fn runtime_class() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let path = Path::new("");
            checks::required_name(NameRule::Label, object, "handler", &path, errors);
            if object["overhead"].is_object() {
                let limits = json!({"limits": object["overhead"]["podFixed"]});
                resources::requirements(&limits, &[], &Path::new("overhead"), errors);
            }
            let scheduling = &object["scheduling"];
            let path = Path::new("scheduling");
            crate::api::meta::labels(&scheduling["nodeSelector"], &path.child("nodeSelector"), errors);
            let tolerations = list(scheduling, &["tolerations"]);
            super::pods::scheduling::tolerations(tolerations, &path.child("tolerations"), errors);
            for (i, toleration) in tolerations.iter().enumerate() {
                if tolerations[..i].contains(toleration) {
                    let shown = internal("a.core.v1.Toleration", toleration);
                    errors.duplicate_shown(&path.child("tolerations").index(i), &shown);
                }
            }
        },
        validate_update: |new, old, errors| {
            checks::immutable(&new["handler"], &old["handler"], &Path::new("handler"), errors);
        },
        warnings: |object, _, said| {
            let selector = object["scheduling"]["nodeSelector"].as_object();
            for key in selector.into_iter().flat_map(|labels| labels.keys()) {
                old_label(key, &Path::new("scheduling.nodeSelector"), said);
            }
        },
        ..base()
    }
}

pub(super) fn controller_revision() -> Strategy {
    let revision = |object: &Value, errors: &mut Errors| {
        checks::non_negative(&object["revision"], &Path::new("revision"), errors);
    };
    Strategy {
        validate_create: |object, errors| {
            let path = Path::new("data");
            match &object["data"] {
                Value::Null => errors.required(&path, "data is mandatory"),
                Value::Object(_) => {}
                _ => errors.required(&path, "data must be a valid JSON object"),
            }
        },
        validate: revision,
        validate_update: |new, old, errors| {
            if new["data"] != old["data"] {
                errors.invalid(&Path::new("data"), new["data"].clone(), IMMUTABLE);
            }
        },
        ..base()
    }
}
