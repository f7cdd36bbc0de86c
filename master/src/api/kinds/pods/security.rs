//! Validation of security contexts, of pods and of containers.

use serde_json::Value;

use super::containers::KINDS;
use super::windows;
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks;
use crate::api::object::{list, text};

const ID_MAX: i64 = i32::MAX as i64;
const PROFILE_MAX: usize = 4095;
/// Settings that belong to an IPC namespace.
const IPC_SYSCTLS: &[&str] = &[
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];
const SYSCTL: &str = "must have at most 253 characters and match regex \
^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Checks a pod's security context.
pub fn pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let (context, path) = (&spec["securityContext"], path.child("securityContext"));
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        checks::in_range(&context[name], 0, ID_MAX, &path.child(name), errors);
    }
    for (i, group) in list(context, &["supplementalGroups"]).iter().enumerate() {
        checks::in_range(group, 0, ID_MAX, &path.child("supplementalGroups").index(i), errors);
    }
    if spec["shareProcessNamespace"] == Value::Bool(true) && spec["hostPID"] == Value::Bool(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(spec, list(context, &["sysctls"]), &path.child("sysctls"), errors);
    let choice = |name: &str, known: [&str; 2], errors: &mut Errors| {
        checks::choice(&context[name], &known, &path.child(name), errors);
    };
    choice("fsGroupChangePolicy", ["Always", "OnRootMismatch"], errors);
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    windows::options(context, &path, errors);
    app_armor(&context["appArmorProfile"], &path.child("appArmorProfile"), errors);
    choice("supplementalGroupsPolicy", ["Merge", "Strict"], errors);
    // The other way to change labels, by mounting, is not switched on.
    checks::choice(
        &context["seLinuxChangePolicy"],
        &["Recursive"],
        &path.child("seLinuxChangePolicy"),
        errors,
    );
}

/// What a pod shares with its host it may not set.
fn host_sysctl(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let dotted = name.replace('/', ".");
    let of_net = dotted.starts_with("net.");
    let of_ipc = dotted.starts_with("fs.mqueue.") || IPC_SYSCTLS.contains(&dotted.as_str());
    for (shared, within) in [("hostNetwork", of_net), ("hostIPC", of_ipc)] {
        if within && spec[shared] == Value::Bool(true) {
            errors.invalid(path, name, format!("may not be specified when '{shared}' is true"));
        }
    }
}

fn sysctls(spec: &Value, sysctls: &[Value], path: &Path, errors: &mut Errors) {
    for (i, sysctl) in sysctls.iter().enumerate() {
        let (name, path) = (text(sysctl, &["name"]), path.index(i).child("name"));
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            errors.invalid(&path, name, SYSCTL);
        } else if sysctls[..i].iter().any(|s| text(s, &["name"]) == name) {
            errors.duplicate(&path, name);
        }
        host_sysctl(spec, name, &path, errors);
    }
}

fn is_sysctl(name: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 253
        && name.split(['.', '/']).map(str::as_bytes).all(|part| {
            let inner = |b: &u8| end(Some(b)) || matches!(b, b'-' | b'_');
            end(part.first()) && end(part.last()) && part.iter().all(inner)
        })
}

/// A pod in a user namespace of its own cannot share the host's others.
pub fn host_users(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec["hostUsers"] != Value::Bool(false) {
        return;
    }
    // Two of the paths are in the server's own spelling.
    for (name, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec[name] == Value::Bool(true) {
            errors.forbidden(&path.child(shown), "when `hostUsers` is false");
        }
    }
    for kind in KINDS {
        for (i, item) in list(spec, &[kind]).iter().enumerate() {
            if !list(item, &["volumeDevices"]).is_empty() {
                let path = path.child(kind).index(i).child("volumeDevices");
                errors.forbidden(&path, "when `hostUsers` is false");
            }
        }
    }
}

/// Checks a container's security context.
pub fn container(context: &Value, host_users: bool, path: &Path, errors: &mut Errors) {
    if !context.is_object() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        checks::in_range(&context[name], 0, ID_MAX, &path.child(name), errors);
    }
    let mount = path.child("procMount");
    checks::choice(&context["procMount"], &["Default", "Unmasked"], &mount, errors);
    if text(context, &["procMount"]) == "Unmasked" && host_users {
        errors.invalid(&mount, "Unmasked", "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    if context["allowPrivilegeEscalation"] == Value::Bool(false) {
        const CONTEXT: &str = "a.core.v1.SecurityContext";
        if context["privileged"] == Value::Bool(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid_struct(path, CONTEXT, context, detail);
        }
        if list(context, &["capabilities", "add"]).iter().any(|c| c == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid_struct(path, CONTEXT, context, detail);
        }
    }
    windows::options(context, path, errors);
    app_armor(&context["appArmorProfile"], &path.child("appArmorProfile"), errors);
}

fn seccomp(profile: &Value, path: &Path, errors: &mut Errors) {
    if !profile.is_object() {
        return;
    }
    let local = path.child("localhostProfile");
    let kind = text(profile, &["type"]);
    match kind {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        other => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.unsupported(&path.child("type"), other, &known);
        }
    }
    match (kind, profile["localhostProfile"].as_str()) {
        ("Localhost", None) => errors.required(&local, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => checks::descending(file, &local, errors),
        (_, Some(_)) => {
            let shown = checks::internal("a.core.v1.SeccompProfile", profile);
            errors.invalid_shown(&local, &shown, "can only be set when seccomp type is Localhost");
        }
        (_, None) => {}
    }
}

/// Checks the fields of an AppArmor profile.
pub fn app_armor(profile: &Value, path: &Path, errors: &mut Errors) {
    if !profile.is_object() {
        return;
    }
    let local = path.child("localhostProfile");
    match (text(profile, &["type"]), profile["localhostProfile"].as_str()) {
        ("Localhost", None) => errors.required(&local, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&local, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&local, "must be set when AppArmor type is Localhost");
            }
            if name.len() > PROFILE_MAX {
                errors.too_long(&local, PROFILE_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(&local, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&path.child("type"), "type is required when appArmorProfile is set"),
        (other, _) => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.unsupported(&path.child("type"), other, &known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_have_parts() {
        for (name, fine) in
            [("net.core.somaxconn", true), ("net/ipv4/tcp_x", true), ("a b", false), (".a", false)]
        {
            assert_eq!(is_sysctl(name), fine, "{name}");
        }
    }
}
