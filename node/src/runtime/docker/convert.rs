//! Between our words and Docker's. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, EventMessage, HostConfig,
    HostConfigLogConfig, ImageInspect, ImageSummary,
};
use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;

use crate::runtime::{
    ContainerConfig, ContainerInfo, ContainerState, Image, LogLine, Mount, NamespaceMode, PodIdentity,
    RuntimeEvent, SandboxConfig, clock, labels,
};

/// Bytes of output that the engine keeps per file for us to read; we keep our own files.
const ENGINE_LOG_SIZE: &str = "10m";

fn log_config() -> HostConfigLogConfig {
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([
            ("max-size".to_owned(), ENGINE_LOG_SIZE.to_owned()),
            ("max-file".to_owned(), "2".to_owned()),
        ])),
    }
}

fn identity_labels(
    given: &BTreeMap<String, String>,
    pod: &PodIdentity,
    scope: &str,
    name: &str,
    kind: &str,
    attempt: u32,
) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = given.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in [
        (labels::TYPE, kind),
        (labels::CONTAINER_NAME, name),
        (labels::POD_NAME, &pod.name),
        (labels::POD_NAMESPACE, &pod.namespace),
        (labels::POD_UID, &pod.uid),
        (labels::SCOPE, scope),
    ] {
        all.insert(key.to_owned(), value.to_owned());
    }
    all.insert(labels::RESTART_COUNT.to_owned(), attempt.to_string());
    all
}

/// A positive number, or nothing.
fn positive(value: i64) -> Option<i64> {
    (value > 0).then_some(value)
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// The pause container of a pod.
pub fn sandbox(config: &SandboxConfig, scope: &str, oom_score_adj: i64) -> ContainerCreateBody {
    let host = |on: bool| on.then(|| "host".to_owned());
    ContainerCreateBody {
        image: Some(config.image.clone()),
        // Docker refuses a host name together with the host's UTS namespace.
        hostname: (!config.host_network).then(|| config.hostname.clone()),
        labels: Some(identity_labels(
            &config.labels,
            &config.pod,
            scope,
            "POD",
            labels::TYPE_SANDBOX,
            config.attempt,
        )),
        host_config: Some(HostConfig {
            network_mode: Some(if config.host_network { "host" } else { "none" }.to_owned()),
            pid_mode: host(config.host_pid),
            ipc_mode: Some(if config.host_ipc { "host" } else { "shareable" }.to_owned()),
            uts_mode: host(config.host_network),
            sysctls: (!config.sysctls.is_empty())
                .then(|| config.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            cgroup_parent: text(&config.cgroup_parent),
            cpu_shares: Some(2),
            oom_score_adj: Some(oom_score_adj),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// A container that joins a sandbox.
pub fn container(
    sandbox: &str,
    config: &ContainerConfig,
    scope: &str,
    oom_score_adj: i64,
) -> ContainerCreateBody {
    let mut all = identity_labels(
        &config.labels,
        &config.pod,
        scope,
        &config.name,
        labels::TYPE_CONTAINER,
        config.attempt,
    );
    all.insert(labels::SANDBOX_ID.to_owned(), sandbox.to_owned());
    all.insert(labels::LOG_PATH.to_owned(), config.log_path.clone());
    let of_sandbox = format!("container:{sandbox}");
    let security = &config.security;
    let limits = &config.limits;
    ContainerCreateBody {
        image: Some(config.image.clone()),
        user: text(&security.user),
        env: Some(config.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        entrypoint: (!config.command.is_empty()).then(|| config.command.clone()),
        cmd: (!config.args.is_empty()).then(|| config.args.clone()),
        working_dir: text(&config.working_dir),
        open_stdin: Some(config.stdin),
        stdin_once: Some(config.stdin_once),
        tty: Some(config.tty),
        stop_signal: text(&config.stop_signal),
        labels: Some(all),
        host_config: Some(HostConfig {
            binds: Some(config.mounts.iter().map(bind).collect()),
            network_mode: Some(of_sandbox.clone()),
            ipc_mode: Some(if config.host_ipc { "host".to_owned() } else { of_sandbox.clone() }),
            uts_mode: config.host_network.then(|| "host".to_owned()),
            pid_mode: match config.pid {
                NamespaceMode::Own => None,
                NamespaceMode::Pod => Some(of_sandbox),
                NamespaceMode::Host => Some("host".to_owned()),
            },
            privileged: Some(security.privileged),
            readonly_rootfs: Some(security.read_only_root),
            cap_add: (!security.add_capabilities.is_empty()).then(|| security.add_capabilities.clone()),
            cap_drop: (!security.drop_capabilities.is_empty()).then(|| security.drop_capabilities.clone()),
            group_add: (!security.groups.is_empty())
                .then(|| security.groups.iter().map(ToString::to_string).collect()),
            security_opt: Some(security_options(config)),
            cpu_shares: positive(limits.cpu_shares),
            cpu_quota: positive(limits.cpu_quota),
            cpu_period: positive(limits.cpu_period),
            memory: positive(limits.memory),
            // No swap beyond the memory limit, as the kubelet has it.
            memory_swap: positive(limits.memory),
            pids_limit: positive(limits.pids),
            oom_score_adj: Some(oom_score_adj),
            cgroup_parent: text(&limits.cgroup_parent),
            log_config: Some(log_config()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn security_options(config: &ContainerConfig) -> Vec<String> {
    let mut options = Vec::new();
    if config.security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    if !config.security.seccomp.is_empty() {
        options.push(format!("seccomp={}", config.security.seccomp));
    }
    if !config.security.apparmor.is_empty() {
        options.push(format!("apparmor={}", config.security.apparmor));
    }
    options
}

fn bind(mount: &Mount) -> String {
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    match mount.propagation.as_str() {
        "HostToContainer" => options.push("rslave"),
        "Bidirectional" => options.push("rshared"),
        _ => {}
    }
    format!("{}:{}:{}", mount.host_path, mount.container_path, options.join(","))
}

/// An image as listed.
pub fn image_summary(image: ImageSummary) -> Image {
    let named = |names: Vec<String>| names.into_iter().filter(|n| !n.starts_with("<none>")).collect();
    Image {
        id: image.id,
        tags: named(image.repo_tags),
        digests: named(image.repo_digests),
        size: u64::try_from(image.size).unwrap_or(0),
        user: String::new(),
        labels: image.labels.into_iter().collect(),
    }
}

/// An image as inspected.
pub fn image(image: ImageInspect) -> Image {
    let config = image.config.unwrap_or_default();
    Image {
        id: image.id.unwrap_or_default(),
        tags: image.repo_tags.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        size: image.size.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
        user: config.user.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
    }
}

/// A container as listed: without exact times and exit code.
pub fn summary(found: ContainerSummary) -> ContainerInfo {
    let created = found.created.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
    ContainerInfo {
        id: found.id.unwrap_or_default(),
        labels: found.labels.unwrap_or_default().into_iter().collect(),
        state: found.state.map_or(ContainerState::Exited, |s| super::state(s.as_ref())),
        created_at: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(created),
        started_at: None,
        finished_at: None,
        exit_code: 0,
        oom_killed: false,
        error: String::new(),
        image: found.image.unwrap_or_default(),
        image_id: found.image_id.unwrap_or_default(),
        pid: 0,
        tty: false,
        stdin: false,
        cgroup_parent: String::new(),
        signal: 0,
    }
}

/// A container as inspected.
pub fn info(found: ContainerInspectResponse) -> ContainerInfo {
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let life = found.state.unwrap_or_default();
    ContainerInfo {
        id: found.id.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state: life.status.map_or(ContainerState::Exited, |s| super::state(s.as_ref())),
        created_at: found.created.and_then(|t| time(&t.to_string())).unwrap_or(SystemTime::UNIX_EPOCH),
        started_at: life.started_at.and_then(|t| time(&t)),
        finished_at: life.finished_at.and_then(|t| time(&t)),
        exit_code: life.exit_code.and_then(|c| i32::try_from(c).ok()).unwrap_or(0),
        oom_killed: life.oom_killed.unwrap_or(false),
        error: life.error.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        image_id: found.image.unwrap_or_default(),
        pid: life.pid.and_then(|p| u32::try_from(p).ok()).unwrap_or(0),
        tty: config.tty.unwrap_or(false),
        stdin: config.open_stdin.unwrap_or(false),
        cgroup_parent: host.cgroup_parent.unwrap_or_default(),
        signal: 0,
    }
}

/// An RFC 3339 time; the engine's year 1 means never.
fn time(text: &str) -> Option<SystemTime> {
    let stamp: Timestamp = text.parse().ok()?;
    (stamp > Timestamp::UNIX_EPOCH).then(|| clock::system_time(stamp))
}

/// Whole seconds of an RFC 3339 time, 0 for none.
pub fn unix_seconds(text: &str) -> i32 {
    text.parse::<Timestamp>().ok().and_then(|t| i32::try_from(t.as_second()).ok()).unwrap_or(0)
}

/// Whether a time is not earlier than another; unreadable ones count as later, so that nothing is lost.
pub fn not_before(time: &str, since: &str) -> bool {
    match (time.parse::<Timestamp>(), since.parse::<Timestamp>()) {
        (Ok(time), Ok(since)) => time >= since,
        _ => true,
    }
}

/// An event of this node's containers.
pub fn event(event: EventMessage) -> Option<RuntimeEvent> {
    let kind = super::event_kind(event.action.as_deref()?)?;
    let actor = event.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let sandbox = attributes.get(labels::TYPE).is_some_and(|t| t == labels::TYPE_SANDBOX);
    Some(RuntimeEvent {
        id: actor.id.unwrap_or_default(),
        pod_uid: attributes.remove(labels::POD_UID).unwrap_or_default(),
        container: if sandbox {
            String::new()
        } else {
            attributes.remove(labels::CONTAINER_NAME).unwrap_or_default()
        },
        kind,
    })
}

/// A line of output with the time that the engine put before it.
pub fn log_line(item: LogOutput) -> LogLine {
    let stderr = matches!(item, LogOutput::StdErr { .. });
    let bytes: Bytes = item.into_bytes();
    let cut = bytes.iter().position(|b| *b == b' ').unwrap_or(0);
    let (time, text) = match std::str::from_utf8(&bytes[..cut]) {
        Ok(time) if time.len() >= 20 && time.as_bytes()[4] == b'-' => {
            (time.to_owned(), bytes.slice(cut + 1..))
        }
        _ => (String::new(), bytes.clone()),
    };
    LogLine { time, stderr, text }
}
