//! A pod's status from its spec and what the engine says: phase, conditions, container states. Pure, and
//! worded as upstream words it, because people and programs read it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Health, Observed};
use super::pod::{self, Role};
use super::resources;
use crate::runtime::{ContainerInfo, ContainerState as Life, clock};

#[cfg(test)]
mod tests;

/// A waiting container's reason and message.
pub type Waiting = (String, String);

/// What goes into a status beside the spec.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The engine's name, the scheme of container ids.
    pub engine: &'a str,
    /// The engine's view.
    pub observed: &'a Observed,
    /// The probes' view.
    pub health: &'a Health,
    /// Last errors of containers that could not be started.
    pub errors: &'a BTreeMap<String, Waiting>,
    /// Containers in back-off, with its length.
    pub backing_off: &'a BTreeMap<String, Duration>,
    /// Last words of ended containers, by id.
    pub last_words: &'a BTreeMap<String, String>,
    /// Image ids as the API shows them, by the engine's image id.
    pub image_ids: &'a BTreeMap<String, String>,
    /// The pod's addresses.
    pub ips: &'a [String],
    /// The node's addresses, the primary one first.
    pub host_ips: &'a [String],
    /// Nothing of the pod runs, nor will.
    pub ended: bool,
    /// Why the kubelet ended the pod (`Evicted`, `DeadlineExceeded`), and the message.
    pub verdict: Option<&'a Waiting>,
}

/// Makes the status. `owner.status` is the last known one: times of unchanged conditions stay, and what the
/// engine has forgotten is kept.
pub fn status(owner: &Pod, facts: &Facts<'_>, now: &Time) -> PodStatus {
    let old = owner.status.clone().unwrap_or_default();
    let Some(spec) = &owner.spec else { return old };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let old_init = old.init_container_statuses.as_deref().unwrap_or_default();
    let old_main = old.container_statuses.as_deref().unwrap_or_default();
    let init_statuses: Vec<_> =
        init.iter().map(|c| container_status(c, pod::init_role(c), owner, facts, old_init)).collect();
    let main_statuses: Vec<_> =
        spec.containers.iter().map(|c| container_status(c, Role::Main, owner, facts, old_main)).collect();
    let old_added = old.ephemeral_container_statuses.as_deref().unwrap_or_default();
    let added: Vec<_> = pod::ephemeral(spec)
        .iter()
        .map(|c| container_status(c, Role::Ephemeral, owner, facts, old_added))
        .collect();
    let mut phase = match facts.verdict {
        Some(_) => "Failed",
        None => phase(pod::restart_policy(spec), init, &init_statuses, &main_statuses, facts.ended),
    };
    // A pod that has ended does not come back.
    if let Some(terminal @ ("Succeeded" | "Failed")) = old.phase.as_deref() {
        phase = if terminal == "Failed" { "Failed" } else { "Succeeded" };
    }
    let ips = pod_ips(facts, &old, spec.host_network == Some(true));
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        qos_class: Some(old.qos_class.clone().unwrap_or_else(|| resources::qos(spec).as_str().to_owned())),
        host_ip: facts.host_ips.first().cloned(),
        host_ips: Some(facts.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: Some(old.start_time.clone().unwrap_or_else(|| now.clone())),
        container_statuses: Some(main_statuses),
        init_container_statuses: (!init.is_empty()).then_some(init_statuses),
        ephemeral_container_statuses: (!added.is_empty()).then_some(added),
        observed_generation: owner.metadata.generation,
        reason: facts.verdict.map(|v| v.0.clone()).or_else(|| old.reason.clone()),
        message: facts.verdict.map(|v| v.1.clone()).or_else(|| old.message.clone()),
        nominated_node_name: old.nominated_node_name.clone(),
        // What others say of the pod's claims of devices is theirs.
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        extended_resource_claim_status: old.extended_resource_claim_status.clone(),
        ..PodStatus::default()
    };
    let conditions = conditions(owner, &status, facts);
    status.conditions = Some(merge_conditions(old.conditions, conditions, owner.metadata.generation, now));
    status
}

fn pod_ips(facts: &Facts<'_>, old: &PodStatus, host_network: bool) -> Vec<String> {
    if host_network {
        return facts.host_ips.to_vec();
    }
    if !facts.ips.is_empty() {
        return facts.ips.to_vec();
    }
    // An ended pod keeps showing the address that it had.
    if facts.ended {
        return old.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect();
    }
    Vec::new()
}

fn container_status(
    container: &Container,
    role: Role,
    owner: &Pod,
    facts: &Facts<'_>,
    old: &[ContainerStatus],
) -> ContainerStatus {
    let old = old.iter().find(|s| s.name == container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let Some(latest) = facts.observed.latest(&container.name) else {
        return forgotten(status, role, owner, facts, old);
    };
    status.container_id = Some(id_of(facts.engine, &latest.id));
    status.image_id = facts.image_ids.get(&latest.image_id).unwrap_or(&latest.image_id).clone();
    status.restart_count = i32::try_from(latest.attempt()).unwrap_or(i32::MAX);
    status.last_state = facts
        .observed
        .previous(&container.name)
        .map(|previous| terminated_state(previous, facts))
        .or_else(|| old.filter(|o| o.container_id == status.container_id).and_then(|o| o.last_state.clone()))
        .or_else(|| old.filter(|o| o.container_id != status.container_id).and_then(ended_of));
    match latest.state {
        Life::Running => {
            let started = facts.health.started.contains(&latest.id) || role == Role::Init;
            // Nobody probes, or waits for, what was added.
            status.started = Some(started && role != Role::Ephemeral);
            status.ready = started && role != Role::Init && facts.health.ready.contains(&latest.id);
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: latest.started_at.map(clock::api_time) }),
                ..ContainerState::default()
            });
        }
        Life::Created if latest.error.is_empty() => {
            status.state = Some(waiting_for(container, owner, facts));
        }
        Life::Created | Life::Exited => {
            status.ready = role == Role::Init && latest.exit_code == 0 && latest.state == Life::Exited;
            let ended = terminated_state(latest, facts);
            match waiting_of(container, owner, facts) {
                Some(waiting) if !facts.ended => {
                    status.last_state = Some(ended);
                    status.state = Some(waiting);
                }
                _ => status.state = Some(ended),
            }
        }
    }
    status
}

/// The status of a container that the engine does not know: not yet, or not any more.
fn forgotten(
    mut status: ContainerStatus,
    role: Role,
    owner: &Pod,
    facts: &Facts<'_>,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let ran = old.filter(|o| o.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    if let Some(old) = ran {
        status.restart_count = old.restart_count;
        status.last_state = ended_of(old).or_else(|| old.last_state.clone());
        status.image_id = old.image_id.clone();
        let ended = old.state.as_ref().and_then(|s| s.terminated.as_ref());
        if let Some(ended) = ended.filter(|_| facts.ended || matches!(role, Role::Init | Role::Ephemeral)) {
            status.container_id = old.container_id.clone();
            status.state =
                Some(ContainerState { terminated: Some(ended.clone()), ..ContainerState::default() });
            status.last_state = old.last_state.clone();
            status.ready = role == Role::Init && ended.exit_code == 0;
            return status;
        }
        if facts.ended {
            // It ran when it was last seen, and its end was not.
            status.container_id = old.container_id.clone();
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some(
                        "The container could not be located when the pod was terminated".to_owned(),
                    ),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
            return status;
        }
    }
    let container = owner
        .spec
        .as_ref()
        .and_then(|spec| pod::container(spec, &status.name))
        .map(|(_, c)| c)
        .unwrap_or_default();
    status.state = Some(waiting_for(&container, owner, facts));
    status
}

fn ended_of(old: &ContainerStatus) -> Option<ContainerState> {
    let terminated = old.state.as_ref()?.terminated.clone()?;
    Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

/// Why an ended or absent container waits, if it does.
fn waiting_of(container: &Container, owner: &Pod, facts: &Facts<'_>) -> Option<ContainerState> {
    if let Some(delay) = facts.backing_off.get(&container.name) {
        return Some(waiting("CrashLoopBackOff", Some(back_off_message(*delay, &container.name, owner))));
    }
    let (reason, message) = facts.errors.get(&container.name)?;
    Some(waiting(reason, (!message.is_empty()).then(|| message.clone())))
}

fn waiting_for(container: &Container, owner: &Pod, facts: &Facts<'_>) -> ContainerState {
    let init = owner.spec.as_ref().is_some_and(|s| s.init_containers.iter().flatten().next().is_some());
    waiting_of(container, owner, facts)
        .unwrap_or_else(|| waiting(if init { "PodInitializing" } else { "ContainerCreating" }, None))
}

/// The text of a restart's back-off.
pub fn back_off_message(delay: Duration, container: &str, owner: &Pod) -> String {
    let text = go_duration(delay);
    format!(
        "back-off {text} restarting failed container={container} pod={}",
        pod::full_name(&pod::identity(owner))
    )
}

/// Whole seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}

fn id_of(engine: &str, id: &str) -> String {
    format!("{engine}://{id}")
}

fn terminated_state(ended: &ContainerInfo, facts: &Facts<'_>) -> ContainerState {
    let failed_start =
        ended.started_at.is_none() && (!ended.error.is_empty() || ended.state == Life::Created);
    let reason = match ended.exit_code {
        _ if ended.oom_killed => "OOMKilled",
        _ if failed_start => "ContainerCannotRun",
        0 => "Completed",
        _ => "Error",
    };
    let exit_code = if failed_start && ended.exit_code == 0 { 128 } else { ended.exit_code };
    let words = facts.last_words.get(&ended.id).cloned();
    let message = words.filter(|m| !m.is_empty()).or_else(|| failed_start.then(|| ended.error.clone()));
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id_of(facts.engine, &ended.id)),
            exit_code,
            started_at: ended.started_at.or(Some(ended.created_at)).map(clock::api_time),
            finished_at: ended.finished_at.or(Some(ended.created_at)).map(clock::api_time),
            reason: Some(reason.to_owned()),
            message,
            signal: None,
        }),
        ..ContainerState::default()
    }
}

/// The pod's phase from its containers' states.
fn phase(
    policy: &str,
    init: &[Container],
    init_statuses: &[ContainerStatus],
    main: &[ContainerStatus],
    ended: bool,
) -> &'static str {
    let ended_code = |s: &ContainerStatus| {
        let of = |state: &Option<ContainerState>| {
            state.as_ref().and_then(|s| s.terminated.as_ref().map(|t| t.exit_code))
        };
        of(&s.state)
            .or_else(|| s.state.as_ref().and_then(|st| st.waiting.as_ref()).and_then(|_| of(&s.last_state)))
    };
    let mut pending_init = false;
    let mut failed_init = false;
    for (container, status) in init.iter().zip(init_statuses) {
        let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        if pod::init_role(container) == Role::Sidecar {
            pending_init |= !running && status.restart_count == 0 && ended_code(status).is_none();
            continue;
        }
        match ended_code(status) {
            Some(0) if !running => {}
            Some(_) if !running => {
                failed_init = true;
                pending_init = true;
            }
            _ => pending_init = true,
        }
    }
    if failed_init && (policy == "Never" || ended) {
        return "Failed";
    }
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in main {
        if status.state.as_ref().is_some_and(|s| s.running.is_some()) {
            running += 1;
        } else if let Some(code) = ended_code(status) {
            stopped += 1;
            succeeded += usize::from(code == 0);
        } else {
            waiting += 1;
        }
    }
    match () {
        () if ended && waiting > 0 => "Failed",
        () if ended && running == 0 && stopped == succeeded => "Succeeded",
        () if ended && running == 0 => "Failed",
        () if pending_init && running + stopped == 0 => "Pending",
        () if waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if policy == "Always" => "Running",
        () if stopped == succeeded => "Succeeded",
        () if policy == "Never" => "Failed",
        () => "Running",
    }
}

fn condition(kind: &str, truth: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if truth { "True" } else { "False" }.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        ..PodCondition::default()
    }
}

fn conditions(owner: &Pod, status: &PodStatus, facts: &Facts<'_>) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let sandbox = facts.observed.sandbox().is_some() && (status.pod_ip.is_some()) && !facts.ended;
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let main = status.container_statuses.as_deref().unwrap_or_default();
    let roles: BTreeMap<&str, Role> =
        owner.spec.iter().flat_map(pod::containers).map(|(r, c)| (c.name.as_str(), r)).collect();
    let is_sidecar = |s: &&ContainerStatus| roles.get(s.name.as_str()) == Some(&Role::Sidecar);
    let names = |all: Vec<&str>| format!("[{}]", all.join(" "));
    let begun =
        main.iter().any(|s| s.state.as_ref().is_some_and(|st| st.waiting.is_none()) || s.restart_count > 0);
    let incomplete: Vec<&str> = init
        .iter()
        .filter(|s| if is_sidecar(s) { s.started != Some(true) } else { !s.ready } && !begun)
        .map(|s| s.name.as_str())
        .collect();
    let unready: Vec<&str> =
        init.iter().filter(is_sidecar).chain(main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    let initialized = match phase {
        "Succeeded" => condition("Initialized", true, "PodCompleted", String::new()),
        _ if incomplete.is_empty() => condition("Initialized", true, "", String::new()),
        _ => condition(
            "Initialized",
            false,
            "ContainersNotInitialized",
            format!("containers with incomplete status: {}", names(incomplete)),
        ),
    };
    let containers_ready = match phase {
        "Succeeded" => condition("ContainersReady", false, "PodCompleted", String::new()),
        "Failed" => condition("ContainersReady", false, "PodFailed", String::new()),
        _ if unready.is_empty() => condition("ContainersReady", true, "", String::new()),
        _ => condition(
            "ContainersReady",
            false,
            "ContainersNotReady",
            format!("containers with unready status: {}", names(unready)),
        ),
    };
    let mut ready = PodCondition { type_: "Ready".to_owned(), ..containers_ready.clone() };
    if ready.status == "True"
        && let Some(why) = unmet_gates(owner)
    {
        ready = condition("Ready", false, "ReadinessGatesNotReady", why);
    }
    vec![
        condition("PodReadyToStartContainers", sandbox, "", String::new()),
        initialized,
        ready,
        containers_ready,
        condition("PodScheduled", true, "", String::new()),
    ]
}

fn unmet_gates(owner: &Pod) -> Option<String> {
    let gates = owner.spec.as_ref()?.readiness_gates.as_ref()?;
    let have = owner.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let unmet: Vec<_> = gates
        .iter()
        .filter_map(|gate| match have.iter().find(|c| c.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => None,
        })
        .collect();
    (!unmet.is_empty()).then(|| unmet.join(", "))
}

/// Puts new conditions over old ones: others' stay, unchanged ones keep their time.
fn merge_conditions(
    old: Option<Vec<PodCondition>>,
    new: Vec<PodCondition>,
    generation: Option<i64>,
    now: &Time,
) -> Vec<PodCondition> {
    let old = old.unwrap_or_default();
    let mut merged: Vec<_> = new
        .into_iter()
        .map(|mut condition| {
            let before = old.iter().find(|o| o.type_ == condition.type_);
            condition.observed_generation = generation;
            condition.last_transition_time = match before {
                Some(before) if before.status == condition.status => before.last_transition_time.clone(),
                _ => Some(now.clone()),
            };
            condition
        })
        .collect();
    for other in old {
        if !merged.iter().any(|c| c.type_ == other.type_) {
            merged.push(other);
        }
    }
    merged
}
