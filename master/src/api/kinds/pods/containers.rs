//! Validation of containers.

use std::collections::HashSet;

use serde_json::Value;

use super::{probes, security};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{
    self, config_key_errors, env_name_errors, named, port_name_errors, port_number,
};
use crate::api::kinds::resources;
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{list, text};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
/// What an environment variable can show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// The kinds of containers, in the order in which things are looked for in all of them.
pub const KINDS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const RESTART_ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// What stands around a container in its pod.
pub struct Around<'a> {
    /// The pod's spec.
    pub spec: &'a Value,
    /// Names of the volumes that can be mounted.
    pub volumes: &'a HashSet<&'a str>,
    /// Names of the pod's resource claims.
    pub claims: &'a [&'a str],
}

impl Around<'_> {
    fn grace_seconds(&self) -> i64 {
        self.spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30)
    }

    fn shares_users(&self) -> bool {
        self.spec["hostUsers"] != Value::Bool(false)
    }
}

/// Checks all containers of a pod spec.
pub fn validate(spec: &Value, around: &Around<'_>, path: &Path, errors: &mut Errors) {
    let mut names = HashSet::new();
    let regular = list(spec, &["containers"]);
    if regular.is_empty() {
        errors.required(&path.child("containers"), "");
    }
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, item) in list(spec, &[kind]).iter().enumerate() {
            let (all, path) = (path.child(kind), path.child(kind).index(i));
            container(item, around, &path, errors);
            let mut unique = |errors: &mut Errors| {
                let name = text(item, &["name"]);
                if names.contains(name) {
                    errors.duplicate(&path.child("name"), name);
                } else if kind != "initContainers" || !name.is_empty() {
                    names.insert(name);
                }
            };
            match kind {
                "containers" => {
                    unique(errors);
                    running(item, around, &path, errors);
                    restart_policy(item, false, &path, errors);
                }
                "initContainers" => {
                    restart_policy(item, true, &path, errors);
                    unique(errors);
                    // They run one after the other, so each has the host's ports to itself.
                    host_port_conflicts(std::slice::from_ref(item), &all, errors);
                    initial(item, around, &path, errors);
                }
                _ => {
                    untrimmed_image(item, &path, errors);
                    unique(errors);
                    ephemeral(item, spec, &path, errors);
                }
            }
        }
        if kind == "containers" {
            host_port_conflicts(regular, &path.child(kind), errors);
        }
    }
}

/// What is asked of pods only, not of templates.
pub fn validate_in_pod(spec: &Value, path: &Path, errors: &mut Errors) {
    for kind in ["containers", "initContainers"] {
        for (i, item) in list(spec, &[kind]).iter().enumerate() {
            untrimmed_image(item, &path.child(kind).index(i), errors);
        }
    }
}

/// An image's name has nothing around it.
pub fn untrimmed_image(item: &Value, path: &Path, errors: &mut Errors) {
    let image = text(item, &["image"]);
    if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path, errors: &mut Errors) {
    let mut taken = HashSet::new();
    for (i, item) in containers.iter().enumerate() {
        for (j, port) in list(item, &["ports"]).iter().enumerate() {
            let Some(number) = port["hostPort"].as_i64().filter(|n| *n != 0) else { continue };
            let shown = format!("{}/{}/{number}", text(port, &["protocol"]), text(port, &["hostIP"]));
            if !taken.insert(shown.clone()) {
                let path = path.index(i).child("ports").index(j).child("hostPort");
                errors.duplicate(&path, shown);
            }
        }
    }
}

/// What only containers that run along have.
fn running(item: &Value, around: &Around<'_>, path: &Path, errors: &mut Errors) {
    probes::lifecycle(&item["lifecycle"], around.grace_seconds(), &path.child("lifecycle"), errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probes::probe(&item[probe], probe, around.grace_seconds(), &path.child(probe), errors);
    }
}

/// When a container is started again, where that differs from its pod.
fn restart_policy(item: &Value, initial: bool, path: &Path, errors: &mut Errors) {
    let (rules, at) = (list(item, &["restartPolicyRules"]), path.child("restartPolicy"));
    if item["restartPolicy"].is_null() {
        if !rules.is_empty() {
            errors.required(&at, "must specify restartPolicy when restart rules are used");
        }
        if initial {
            return;
        }
    } else {
        checks::choice(&item["restartPolicy"], &["Always", "Never", "OnFailure"], &at, errors);
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        errors.too_many(&path, rules.len(), RESTART_RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let action = text(rule, &["action"]);
        if !RESTART_ACTIONS.contains(&action) {
            errors.unsupported(&path.child("action"), action, RESTART_ACTIONS);
        }
        let (codes, path) = (&rule["exitCodes"], path.child("exitCodes"));
        if codes.is_null() {
            errors.required(&path, "must be specified");
            continue;
        }
        let operator = text(codes, &["operator"]);
        if !["In", "NotIn"].contains(&operator) {
            errors.unsupported(&path.child("operator"), operator, &["In", "NotIn"]);
        }
        let count = list(codes, &["values"]).len();
        if count > EXIT_CODES_MAX {
            errors.too_many(&path.child("values"), count, EXIT_CODES_MAX);
        }
    }
}

fn initial(item: &Value, around: &Around<'_>, path: &Path, errors: &mut Errors) {
    if text(item, &["restartPolicy"]) == "Always" {
        return running(item, around, path, errors);
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if !item[name].is_null() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.forbidden(&path.child(name), detail);
        }
    }
    for (j, policy) in list(item, &["resizePolicy"]).iter().enumerate() {
        if text(policy, &["restartPolicy"]) == "RestartContainer" {
            let path = path.child("resizePolicy").index(j).child("restartPolicy");
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.invalid(&path, "RestartContainer", detail);
        }
    }
}

fn ephemeral(item: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let target = text(item, &["targetContainerName"]);
    let known = |kind: &str| list(spec, &[kind]).iter().any(|c| text(c, &["name"]) == target);
    if !target.is_empty() && !known("containers") && !known("initContainers") {
        errors.not_found(&path.child("targetContainerName"), target);
    }
    for name in [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        let given = match &item[name] {
            Value::Null => errors.is_given_empty(&path.child(name)),
            Value::Object(fields) if name == "resources" => {
                let inner = |name: &str| errors.is_given_empty(&path.child("resources").child(name));
                !fields.is_empty() || ["claims", "limits", "requests"].into_iter().any(inner)
            }
            _ => true,
        };
        if given {
            errors.forbidden(&path.child(name), NOT_EPHEMERAL);
        }
    }
    for (i, mount) in list(item, &["volumeMounts"]).iter().enumerate() {
        for name in ["subPath", "subPathExpr"] {
            if !text(mount, &[name]).is_empty() {
                errors.forbidden(&path.child("volumeMounts").index(i).child(name), NOT_EPHEMERAL);
            }
        }
    }
}

fn container(item: &Value, around: &Around<'_>, path: &Path, errors: &mut Errors) {
    checks::required_name(NameRule::Label, item, "name", path, errors);
    checks::required(item, "image", path, errors);
    checks::required_choice(
        &item["terminationMessagePolicy"],
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
        errors,
    );
    ports(item, &path.child("ports"), errors);
    environment(item, &path.child("env"), errors);
    environment_from(item, &path.child("envFrom"), errors);
    mounts(item, around, &path.child("volumeMounts"), errors);
    devices(item, around, &path.child("volumeDevices"), errors);
    checks::required_choice(&item["imagePullPolicy"], PULL_POLICIES, &path.child("imagePullPolicy"), errors);
    resources::requirements(&item["resources"], around.claims, &path.child("resources"), errors);
    let never = text(around.spec, &["restartPolicy"]) == "Never";
    resize_policies(item, never, &path.child("resizePolicy"), errors);
    security::container(
        &item["securityContext"],
        around.shares_users(),
        &path.child("securityContext"),
        errors,
    );
}

fn resize_policies(item: &Value, never_restarted: bool, path: &Path, errors: &mut Errors) {
    let policies = list(item, &["resizePolicy"]);
    for (i, policy) in policies.iter().enumerate() {
        let name = text(policy, &["resourceName"]);
        if policies[..i].iter().any(|p| text(p, &["resourceName"]) == name) {
            errors.duplicate(&path.index(i), name);
        }
        match name {
            "" => errors.required(path, ""),
            "cpu" | "memory" => {}
            other => errors.unsupported(path, other, &["cpu", "memory"]),
        }
        let restart = text(policy, &["restartPolicy"]);
        match restart {
            "" => errors.required(path, ""),
            "NotRequired" | "RestartContainer" => {}
            other => errors.unsupported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if never_restarted && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid(path, restart, detail);
        }
    }
}

fn ports(item: &Value, path: &Path, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, port) in list(item, &["ports"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            let wrong = port_name_errors(name);
            if wrong.is_empty() {
                if !names.insert(name) {
                    errors.duplicate(&path.child("name"), name);
                }
            } else {
                wrong.into_iter().for_each(|e| errors.invalid(&path.child("name"), name, e));
            }
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(number, &path.child("containerPort"), errors),
        }
        if let Some(number) = port["hostPort"].as_i64().filter(|n| *n != 0) {
            port_number(number, &path.child("hostPort"), errors);
        }
        checks::required_choice(&port["protocol"], &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
    }
}

fn environment(item: &Value, path: &Path, errors: &mut Errors) {
    for (i, variable) in list(item, &["env"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(variable, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if let Some(wrong) = env_name_errors(name) {
            errors.invalid(&path.child("name"), name, wrong);
        }
        if variable["valueFrom"].is_object() {
            let valued = !text(variable, &["value"]).is_empty();
            value_from(&variable["valueFrom"], valued, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(from: &Value, valued: bool, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let (reference, path) = (&from[kind], path.child(kind));
        if !reference.is_object() {
            continue;
        }
        sources += 1;
        match kind {
            "fieldRef" => env_field(reference, ENV_FIELDS, &path, errors),
            "resourceFieldRef" => resource_field(reference, false, &path, errors),
            "fileKeyRef" => file_key(reference, &path, errors),
            _ => {
                named(NameRule::Subdomain, text(reference, &["name"]), &path.child("name"), errors);
                match text(reference, &["key"]) {
                    "" => errors.required(&path.child("key"), ""),
                    key => config_key_errors(key)
                        .into_iter()
                        .for_each(|e| errors.invalid(&path.child("key"), key, e)),
                }
            }
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
                      `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if valued {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A line of a file in a volume.
fn file_key(reference: &Value, path: &Path, errors: &mut Errors) {
    match text(reference, &["key"]) {
        "" => errors.required(&path.child("key"), ""),
        key => {
            env_name_errors(key).into_iter().for_each(|e| errors.invalid(&path.child("key"), key, e));
        }
    }
    checks::required_name(NameRule::Label, reference, "volumeName", path, errors);
    checks::required(reference, "path", path, errors);
    checks::no_backsteps(text(reference, &["path"]), &path.child("path"), errors);
}

/// The volumes whose files variables are read from are of one kind only.
pub fn file_volumes(spec: &Value, path: &Path, errors: &mut Errors) {
    for kind in KINDS {
        for (i, item) in list(spec, &[kind]).iter().enumerate() {
            let path = path.child(kind).index(i).child("env");
            for (j, variable) in list(item, &["env"]).iter().enumerate() {
                let reference = &variable["valueFrom"]["fileKeyRef"];
                if !reference.is_object() {
                    continue;
                }
                let name = text(reference, &["volumeName"]);
                let at = path.index(j).child("valueFrom").child("fileKeyRef").child("volumeName");
                // Of two volumes of a name, the last counts.
                match list(spec, &["volumes"]).iter().rev().find(|v| text(v, &["name"]) == name) {
                    None => errors.not_found(&at, name),
                    Some(volume) if volume["emptyDir"].is_null() => {
                        errors.invalid(&at, name, "referenced volume must be of type emptyDir");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// A reference to a field of the pod.
pub fn env_field(reference: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let version = text(reference, &["apiVersion"]);
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let field = text(reference, &["fieldPath"]);
    let at = path.child("fieldPath");
    if field.is_empty() {
        errors.required(&at, "");
        return;
    }
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&at, field, detail);
        return;
    }
    if let Some((base, key)) = field.strip_suffix("']").and_then(|f| f.split_once("['")) {
        match base {
            "metadata.annotations" => checks::qualified(&key.to_lowercase(), path, errors),
            "metadata.labels" => checks::qualified(key, path, errors),
            _ => {
                let detail =
                    format!("error converting fieldPath: field label does not support subscript: {field}");
                errors.invalid(&at, field, detail);
            }
        }
        return;
    }
    let all = [
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
    ];
    // An old name of the node.
    let internal = if field == "spec.host" { "spec.nodeName" } else { field };
    if !ENV_FIELDS.contains(&internal) && !all.contains(&internal) {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.invalid(&at, field, detail);
    } else if !known.contains(&internal) {
        errors.unsupported(&at, internal, known);
    }
}

/// A reference to what a container requests or may use.
pub fn resource_field(reference: &Value, in_volume: bool, path: &Path, errors: &mut Errors) {
    let name = text(reference, &["resource"]);
    if in_volume && text(reference, &["containerName"]).is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if name.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&name) && !is_huge_field(name) {
        errors.unsupported(&path.child("resource"), name, RESOURCE_FIELDS);
    }
    divisor(name, &reference["divisor"], &path.child("divisor"), errors);
}

fn is_huge_field(name: &str) -> bool {
    ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| name.starts_with(p))
}

fn divisor(resource: &str, divisor: &Value, path: &Path, errors: &mut Errors) {
    let Some(given) = checks::amount(divisor).filter(|q| !q.is_zero()) else { return };
    let bytes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (units, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&bytes, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (&bytes, "local ephemeral storage"),
        huge if is_huge_field(huge) => (&bytes, "hugepages"),
        _ => return,
    };
    if !units.contains(&given.to_string().as_str()) {
        let known = if what == "cpu" { units.join(" and ") } else { units.join(", ") };
        let detail = format!("only divisor's values {known} are supported with the {what} resource");
        errors.invalid(path, resource, detail);
    }
}

fn environment_from(item: &Value, path: &Path, errors: &mut Errors) {
    for (i, source) in list(item, &["envFrom"]).iter().enumerate() {
        let at = path.index(i);
        let prefix = text(source, &["prefix"]);
        if !prefix.is_empty()
            && let Some(wrong) = env_name_errors(prefix)
        {
            errors.invalid(&at.child("prefix"), prefix, wrong);
        }
        let mut sources = 0;
        for kind in ["configMapRef", "secretRef"] {
            if source[kind].is_object() {
                sources += 1;
                let at = at.child(kind).child("name");
                match text(&source[kind], &["name"]) {
                    "" => errors.required(&at, ""),
                    // The name may be a prefix, as of generated names.
                    name => name_errors(NameRule::Subdomain, name, true)
                        .into_iter()
                        .for_each(|e| errors.invalid(&at, name, e)),
                }
            }
        }
        // These name the list, not the entry.
        if sources == 0 {
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if sources > 1 {
            errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

fn mounts(item: &Value, around: &Around<'_>, path: &Path, errors: &mut Errors) {
    let mut paths = HashSet::new();
    let devices = list(item, &["volumeDevices"]);
    for (i, mount) in list(item, &["volumeMounts"]).iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        checks::required(mount, "name", &at, errors);
        if !around.volumes.contains(name) {
            errors.not_found(&at.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&at.child("mountPath"), "");
        }
        if !paths.insert(target) {
            errors.invalid(&at.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|d| text(d, &["name"]) == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| text(d, &["devicePath"]) == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&at.child("mountPath"), target, detail);
        }
        // The paths of these errors name the list, not the entry.
        let inner = text(mount, &["subPath"]);
        if !inner.is_empty() {
            checks::descending(inner, &path.child("subPath"), errors);
        }
        let expression = text(mount, &["subPathExpr"]);
        if !expression.is_empty() {
            if !inner.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&at.child("subPathExpr"), expression, detail);
            }
            checks::descending(expression, &path.child("subPathExpr"), errors);
        }
        propagation(item, mount, &path.child("mountPropagation"), errors);
        recursive(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn propagation(item: &Value, mount: &Value, path: &Path, errors: &mut Errors) {
    let known = ["Bidirectional", "HostToContainer", "None"];
    checks::choice(&mount["mountPropagation"], &known, path, errors);
    let privileged = item["securityContext"]["privileged"] == Value::Bool(true);
    if text(mount, &["mountPropagation"]) == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(path, detail);
    }
}

fn recursive(mount: &Value, path: &Path, errors: &mut Errors) {
    match mount["recursiveReadOnly"].as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount["readOnly"] != Value::Bool(true) {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !["", "None"].contains(&text(mount, &["mountPropagation"])) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(path, detail);
            }
        }
        Some(other) => errors.unsupported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn devices(item: &Value, around: &Around<'_>, path: &Path, errors: &mut Errors) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    let mounts = list(item, &["volumeMounts"]);
    for (i, device) in list(item, &["volumeDevices"]).iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (text(device, &["name"]), text(device, &["devicePath"]));
        checks::required(device, "name", &at, errors);
        if !name.is_empty() && !names.insert(name) {
            errors.invalid(&at.child("name"), name, "must be unique");
        }
        let claimed = list(around.spec, &["volumes"]).iter().any(|v| {
            text(v, &["name"]) == name
                && (v["persistentVolumeClaim"].is_object() || v["ephemeral"].is_object())
        });
        if around.volumes.contains(name) && !claimed {
            let detail =
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.invalid(&at.child("name"), name, detail);
        }
        if !around.volumes.contains(name) {
            errors.not_found(&at.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&at.child("devicePath"), "");
        }
        if paths.contains(target) {
            errors.invalid(&at.child("devicePath"), target, "must be unique");
        }
        if target.split('/').any(|p| p == "..") {
            errors.invalid(&at.child("devicePath"), target, "can not contain backsteps ('..')");
        } else {
            paths.insert(target);
        }
        if mounts.iter().any(|m| text(m, &["name"]) == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| text(m, &["mountPath"]) == target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&at.child("devicePath"), target, detail);
        }
    }
}
