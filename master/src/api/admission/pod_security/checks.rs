//! The checks of the Pod Security Standards, each by itself: what it forbids, and how it says so.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{Level, Standard, Version};
use crate::api::invalid::go_quote;
use crate::api::object::{at, list, text};

/// What a check found: why, and in detail where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Why the pod is forbidden.
    pub reason: &'static str,
    /// By which of its parts.
    pub detail: String,
}

/// A pod under check.
pub struct Subject<'a> {
    /// Its metadata.
    pub meta: &'a Value,
    /// Its spec.
    pub spec: &'a Value,
    /// The version of the standard.
    pub version: Version,
}

struct Check {
    /// The version that brought it.
    since: u32,
    run: fn(&Subject<'_>) -> Option<Violation>,
    /// The version since which the restricted level has a stricter form of it.
    stricter_since: Option<u32>,
}

const fn check(since: u32, run: fn(&Subject<'_>) -> Option<Violation>) -> Check {
    Check { since, run, stricter_since: None }
}

/// The baseline, in the order that clients are told in.
const BASELINE: &[Check] = &[
    check(0, app_armor),
    Check { since: 0, run: capabilities_baseline, stricter_since: Some(22) },
    check(0, host_namespaces),
    Check { since: 0, run: host_path_volumes, stricter_since: Some(0) },
    check(0, host_ports),
    check(34, probe_hosts),
    check(0, privileged),
    Check { since: 0, run: proc_mount_baseline, stricter_since: Some(35) },
    check(0, se_linux),
    Check { since: 0, run: seccomp_baseline, stricter_since: Some(19) },
    check(0, sysctls),
    check(0, windows_host_process),
];

/// What the restricted level adds.
const RESTRICTED: &[Check] = &[
    check(8, allow_privilege_escalation),
    check(22, capabilities_restricted),
    check(35, proc_mount),
    check(0, restricted_volumes),
    check(0, run_as_non_root),
    check(23, run_as_user),
    check(19, seccomp_restricted),
];

/// Everything about a pod that a standard forbids.
pub fn violations(standard: Standard, meta: &Value, spec: &Value) -> Vec<Violation> {
    let pod = Subject { meta, spec, version: standard.version };
    let run = |c: &Check| if pod.version.has(c.since) { (c.run)(&pod) } else { None };
    match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline => BASELINE.iter().filter_map(run).collect(),
        Level::Restricted => {
            let stays = |c: &&Check| !c.stricter_since.is_some_and(|since| pod.version.has(since));
            BASELINE.iter().filter(stays).chain(RESTRICTED).filter_map(run).collect()
        }
    }
}

impl Subject<'_> {
    /// Every container with its name: init containers first.
    fn containers(&self) -> impl Iterator<Item = (&str, &Value)> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|kind| list(self.spec, &[kind]))
            .map(|c| (text(c, &["name"]), c))
    }

    /// Names of the containers for which something holds.
    fn containers_where(&self, mut test: impl FnMut(&Value) -> bool) -> Vec<&str> {
        self.containers().filter(|(_, c)| test(c)).map(|(name, _)| name).collect()
    }

    fn security(&self) -> &Value {
        &self.spec["securityContext"]
    }

    /// Windows has none of what most restricted checks are about.
    fn exempt_windows(&self) -> bool {
        self.version.has(25) && text(self.spec, &["os", "name"]) == "windows"
    }

    /// Root inside of a user namespace of its own is nobody outside.
    fn own_users(&self) -> bool {
        self.version.has(35) && self.spec["hostUsers"] == Value::Bool(false)
    }
}

/// Each in quotes, whatever is in it.
fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|n| format!("\"{}\"", n.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
fn named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

fn found(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

/// `pod`, `containers "a", "b"`, or both: those that set something bad.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_owned());
    }
    if !containers.is_empty() {
        parts.push(named(containers));
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

fn app_armor(pod: &Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut bad = |context: &Value| {
        let kind = text(context, &["appArmorProfile", "type"]);
        let bad = !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let pod_bad = bad(pod.security());
    let containers = pod.containers_where(|c| bad(&c["securityContext"]));
    let annotations: Vec<String> = pod.meta["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(ANNOTATION))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, v)| !(v.is_empty() || *v == "runtime/default" || v.starts_with("localhost/")))
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    let mut parts: Vec<String> = setters(pod_bad, &containers).into_iter().collect();
    if !annotations.is_empty() {
        parts.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if parts.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    found(
        reason,
        format!("{} must not set AppArmor profile type to {}", parts.join(" and "), quoted(&values)),
    )
}

/// What containers have without asking.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added_beyond<'a>(pod: &'a Subject<'_>, allowed: &[&str]) -> Option<(Vec<&'a str>, BTreeSet<String>)> {
    let mut beyond = BTreeSet::new();
    let containers = pod.containers_where(|c| {
        let added = list(c, &["securityContext", "capabilities", "add"]).iter().filter_map(Value::as_str);
        let bad: Vec<String> = added.filter(|a| !allowed.contains(a)).map(str::to_owned).collect();
        let any = !bad.is_empty();
        beyond.extend(bad);
        any
    });
    (!containers.is_empty()).then_some((containers, beyond))
}

fn must_not_add((containers, beyond): (Vec<&str>, BTreeSet<String>)) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", named(&containers), quoted(&beyond))
}

fn capabilities_baseline(pod: &Subject<'_>) -> Option<Violation> {
    found("non-default capabilities", must_not_add(added_beyond(pod, &DEFAULT_CAPABILITIES)?))
}

fn capabilities_restricted(pod: &Subject<'_>) -> Option<Violation> {
    if pod.exempt_windows() {
        return None;
    }
    let keeping = pod.containers_where(|c| {
        !list(c, &["securityContext", "capabilities", "drop"]).iter().any(|d| d == "ALL")
    });
    let mut parts = Vec::new();
    if !keeping.is_empty() {
        parts.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    parts.extend(added_beyond(pod, &["NET_BIND_SERVICE"]).map(must_not_add));
    if parts.is_empty() { None } else { found("unrestricted capabilities", parts.join("; ")) }
}

fn host_namespaces(pod: &Subject<'_>) -> Option<Violation> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|name| pod.spec[**name] == Value::Bool(true))
        .map(|name| format!("{name}=true"))
        .collect();
    if used.is_empty() { None } else { found("host namespaces", used.join(", ")) }
}

fn host_path_volumes(pod: &Subject<'_>) -> Option<Violation> {
    let volumes = list(pod.spec, &["volumes"]).iter().filter(|v| v["hostPath"].is_object());
    let names: Vec<&str> = volumes.map(|v| text(v, &["name"])).collect();
    if names.is_empty() {
        return None;
    }
    found("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)))
}

fn host_ports(pod: &Subject<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let containers = pod.containers_where(|c| {
        let used: Vec<i64> =
            list(c, &["ports"]).iter().filter_map(|p| p["hostPort"].as_i64()).filter(|p| *p != 0).collect();
        ports.extend(used.iter().map(i64::to_string));
        !used.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        named(&containers),
        plural("uses", "use", containers.len()),
        plural("hostPort", "hostPorts", ports.len()),
        ports.iter().cloned().collect::<Vec<_>>().join(", ")
    );
    found("hostPort", detail)
}

fn probe_hosts(pod: &Subject<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = BTreeSet::new();
    let mut names: Vec<&str> = pod.containers_where(|c| {
        let mut any = false;
        for handler in HANDLERS {
            for kind in ["httpGet", "tcpSocket"] {
                let host = text(&at(c, handler)[kind], &["host"]);
                if !host.is_empty() {
                    hosts.insert(host.to_owned());
                    any = true;
                }
            }
        }
        any
    });
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let detail = format!(
        "{} {} {} {}",
        named(&names),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts)
    );
    found("probe or lifecycle host", detail)
}

fn privileged(pod: &Subject<'_>) -> Option<Violation> {
    let containers = pod.containers_where(|c| c["securityContext"]["privileged"] == Value::Bool(true));
    if containers.is_empty() {
        return None;
    }
    found("privileged", format!("{} must not set securityContext.privileged=true", named(&containers)))
}

fn proc_mount_baseline(pod: &Subject<'_>) -> Option<Violation> {
    // In a user namespace of its own, an unmasked /proc shows nothing that root there should not see.
    if pod.own_users() { None } else { proc_mount(pod) }
}

fn proc_mount(pod: &Subject<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let containers = pod.containers_where(|c| {
        let kind = text(c, &["securityContext", "procMount"]);
        let bad = !matches!(kind, "" | "Default");
        if bad {
            kinds.insert(kind.to_owned());
        }
        bad
    });
    if containers.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.procMount to {}", named(&containers), quoted(&kinds));
    found("procMount", detail)
}

fn se_linux(pod: &Subject<'_>) -> Option<Violation> {
    let (mut kinds, mut user, mut role) = (BTreeSet::new(), false, false);
    let engine = pod.version.has(31);
    let mut bad = |context: &Value| {
        let options = &context["seLinuxOptions"];
        let kind = text(options, &["type"]);
        let allowed = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (engine && kind == "container_engine_t");
        let (has_user, has_role) =
            (!text(options, &["user"]).is_empty(), !text(options, &["role"]).is_empty());
        if !allowed {
            kinds.insert(kind.to_owned());
        }
        user |= has_user;
        role |= has_role;
        !allowed || has_user || has_role
    };
    let pod_bad = bad(pod.security());
    let containers = pod.containers_where(|c| bad(&c["securityContext"]));
    let setters = setters(pod_bad, &containers)?;
    let mut parts = Vec::new();
    if !kinds.is_empty() {
        parts.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    }
    if user {
        parts.push("user may not be set".to_owned());
    }
    if role {
        parts.push("role may not be set".to_owned());
    }
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", parts.join("; "));
    found("seLinuxOptions", detail)
}

fn seccomp_setters(pod: &Subject<'_>, bad: impl Fn(&str) -> bool) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let mut test = |context: &Value| {
        let kind = text(context, &["seccompProfile", "type"]);
        let is_bad = context["seccompProfile"].is_object() && bad(kind);
        if is_bad {
            kinds.insert(kind.to_owned());
        }
        is_bad
    };
    let pod_bad = test(pod.security());
    let containers = pod.containers_where(|c| test(&c["securityContext"]));
    let setters = setters(pod_bad, &containers)?;
    found(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(&kinds)),
    )
}

/// What once stood in annotations, before profiles were fields.
fn seccomp_annotations(pod: &Subject<'_>) -> Option<Violation> {
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let names = pod.containers().map(|(name, _)| format!("{OF_CONTAINER}{name}"));
    let bad: BTreeSet<String> = std::iter::once(OF_POD.to_owned())
        .chain(names)
        .filter_map(|key| {
            let value = pod.meta["annotations"][key.as_str()].as_str()?;
            let fine =
                matches!(value, "" | "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!fine).then(|| format!("{key}={}", go_quote(value)))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let shown = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    found("seccompProfile", format!("forbidden {} {shown}", plural("annotation", "annotations", bad.len())))
}

fn seccomp_baseline(pod: &Subject<'_>) -> Option<Violation> {
    if !pod.version.has(19) {
        return seccomp_annotations(pod);
    }
    seccomp_setters(pod, |kind| kind == "Unconfined")
}

fn seccomp_restricted(pod: &Subject<'_>) -> Option<Violation> {
    if pod.exempt_windows() {
        return None;
    }
    let bad = seccomp_setters(pod, |kind| !matches!(kind, "RuntimeDefault" | "Localhost"));
    if bad.is_some() {
        return bad;
    }
    if pod.security()["seccompProfile"].is_object() {
        return None;
    }
    let silent = pod.containers_where(|c| !c["securityContext"]["seccompProfile"].is_object());
    if silent.is_empty() {
        return None;
    }
    found(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named(&silent)
        ),
    )
}

/// Settings of the kernel that concern only the pod, and the version that allowed them.
const SAFE_SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: &Subject<'_>) -> Option<Violation> {
    let safe = |name: &str| SAFE_SYSCTLS.iter().any(|(n, since)| *n == name && pod.version.has(*since));
    let names = list(pod.security(), &["sysctls"]).iter().map(|s| text(s, &["name"]));
    let bad: Vec<&str> = names.filter(|name| !safe(name)).collect();
    if bad.is_empty() { None } else { found("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: &Subject<'_>) -> Option<Violation> {
    let bad = |context: &Value| context["windowsOptions"]["hostProcess"] == Value::Bool(true);
    let containers = pod.containers_where(|c| bad(&c["securityContext"]));
    let setters = setters(bad(pod.security()), &containers)?;
    found("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn allow_privilege_escalation(pod: &Subject<'_>) -> Option<Violation> {
    if pod.exempt_windows() {
        return None;
    }
    let containers =
        pod.containers_where(|c| c["securityContext"]["allowPrivilegeEscalation"] != Value::Bool(false));
    if containers.is_empty() {
        return None;
    }
    found(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&containers)),
    )
}

/// Volumes that the restricted level allows.
const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn restricted_volumes(pod: &Subject<'_>) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in list(pod.spec, &["volumes"]) {
        let sources =
            volume.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).filter(|k| *k != "name");
        let bad: Vec<&str> = sources.filter(|k| !ALLOWED_VOLUMES.contains(k)).collect();
        if !bad.is_empty() {
            names.push(text(volume, &["name"]));
            kinds.extend(bad);
        }
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    found("restricted volume types", detail)
}

fn run_as_non_root(pod: &Subject<'_>) -> Option<Violation> {
    if pod.own_users() {
        return None;
    }
    let of_pod = pod.security()["runAsNonRoot"].as_bool();
    let explicit = pod.containers_where(|c| c["securityContext"]["runAsNonRoot"] == Value::Bool(false));
    if let Some(setters) = setters(of_pod == Some(false), &explicit) {
        return found(
            "runAsNonRoot != true",
            format!("{setters} must not set securityContext.runAsNonRoot=false"),
        );
    }
    if of_pod == Some(true) {
        return None;
    }
    let silent = pod.containers_where(|c| !c["securityContext"]["runAsNonRoot"].is_boolean());
    if silent.is_empty() {
        return None;
    }
    found(
        "runAsNonRoot != true",
        format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent)),
    )
}

fn run_as_user(pod: &Subject<'_>) -> Option<Violation> {
    if pod.own_users() {
        return None;
    }
    let root = |context: &Value| context["runAsUser"].as_i64() == Some(0);
    let containers = pod.containers_where(|c| root(&c["securityContext"]));
    let setters = setters(root(pod.security()), &containers)?;
    found("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}
