//! From a container's spec to what the engine is told. Pure, but for reading a seccomp profile.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};

use super::environment::{ConfigError, expand_all};
use super::plan::Start;
use super::{pod, resources};
use crate::runtime::{ContainerConfig, Image, Limits, Mount, NamespaceMode, Security, labels};

/// Where the container leaves its last words unless its spec says otherwise.
pub const TERMINATION_PATH: &str = "/dev/termination-log";

/// What a container's configuration is made of.
pub struct Parts<'a> {
    /// The pod.
    pub owner: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Which start it is.
    pub start: &'a Start,
    /// Its image, present.
    pub image: &'a Image,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its cgroup settings.
    pub limits: Limits,
    /// Path of its log.
    pub log_path: String,
}

/// Puts the parts together.
pub fn config(parts: Parts<'_>) -> Result<ContainerConfig, ConfigError> {
    let Parts { owner, container, start, image, environment, mounts, limits, log_path } = parts;
    let default = PodSpec::default();
    let spec = owner.spec.as_ref().unwrap_or(&default);
    let security = security(owner, spec, container, image)?;
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    let all = BTreeMap::from([
        (labels::HASH.to_owned(), pod::container_hash(container)),
        (labels::BACKOFF.to_owned(), start.backoff_seconds.to_string()),
        (labels::INIT.to_owned(), matches!(start.role, pod::Role::Init | pod::Role::Sidecar).to_string()),
        (labels::GRACE_PERIOD.to_owned(), grace.to_string()),
        (labels::TERMINATION_PATH.to_owned(), termination_path(container).to_owned()),
        (
            labels::TERMINATION_POLICY.to_owned(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned()),
        ),
    ]);
    Ok(ContainerConfig {
        pod: pod::identity(owner),
        name: container.name.clone(),
        attempt: start.attempt,
        image: image.id.clone(),
        command: expand_all(container.command.as_ref(), &environment),
        args: expand_all(container.args.as_ref(), &environment),
        env: environment,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        labels: all,
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => NamespaceMode::Host,
            (_, Some(true)) => NamespaceMode::Pod,
            _ => NamespaceMode::Own,
        },
        host_network: pod::host_network(spec),
        host_ipc: spec.host_ipc == Some(true),
        security,
        limits,
        log_path,
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()).unwrap_or_default(),
    })
}

/// Where a container leaves its last words.
pub fn termination_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or(TERMINATION_PATH)
}

fn security(
    owner: &Pod,
    spec: &PodSpec,
    container: &Container,
    image: &Image,
) -> Result<Security, ConfigError> {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        non_root(owner, container, user, image)?;
    }
    let image_user = image.user.split(':').next().unwrap_or_default();
    let user = match (user, group) {
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (Some(user), None) => user.to_string(),
        (None, Some(group)) => format!("{}:{group}", if image_user.is_empty() { "0" } else { image_user }),
        (None, None) => String::new(),
    };
    let mut groups = of_pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(of_pod.fs_group);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Ok(Security {
        user,
        groups,
        privileged: own.privileged == Some(true),
        read_only_root: own.read_only_root_filesystem == Some(true),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp: seccomp(&own, spec)?,
        apparmor: match own.app_armor_profile.or(of_pod.app_armor_profile) {
            Some(profile) if profile.type_ == "Unconfined" => "unconfined".to_owned(),
            Some(profile) if profile.type_ == "Localhost" => profile.localhost_profile.unwrap_or_default(),
            _ => String::new(),
        },
    })
}

fn seccomp(own: &SecurityContext, spec: &PodSpec) -> Result<String, ConfigError> {
    let of_pod = spec.security_context.as_ref().and_then(|c| c.seccomp_profile.clone());
    match own.seccomp_profile.clone().or(of_pod) {
        Some(profile) if profile.type_ == "Unconfined" => Ok("unconfined".to_owned()),
        Some(profile) if profile.type_ == "Localhost" => {
            let name = profile.localhost_profile.unwrap_or_default();
            // The engine takes the profile's text, not its name.
            std::fs::read_to_string(format!("/var/lib/kubelet/seccomp/{name}"))
                .map_err(|e| ConfigError(format!("cannot load seccomp profile \"{name}\": {e}")))
        }
        _ => Ok(String::new()),
    }
}

fn non_root(owner: &Pod, container: &Container, user: Option<i64>, image: &Image) -> Result<(), ConfigError> {
    let place =
        format!("(pod: \"{}\", container: {})", pod::full_name(&pod::identity(owner)), container.name);
    let of_image = image.user.split(':').next().unwrap_or_default();
    match (user, of_image) {
        (Some(0), _) => Err(ConfigError(format!("container's runAsUser breaks non-root policy {place}"))),
        (Some(_), _) => Ok(()),
        (None, "" | "0") => {
            Err(ConfigError(format!("container has runAsNonRoot and image will run as root {place}")))
        }
        (None, name) if name.parse::<i64>().is_err() => Err(ConfigError(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        ))),
        (None, _) => Ok(()),
    }
}

/// A container's cgroup settings on a machine with so much memory.
pub fn limits(owner: &Pod, container: &Container, memory: i64, pids: i64, cgroup: &str) -> Limits {
    let default = PodSpec::default();
    let spec = owner.spec.as_ref().unwrap_or(&default);
    Limits { cgroup_parent: cgroup.to_owned(), ..resources::limits(spec, container, memory, pids) }
}
