//! What to do next for a pod: a pure function of its spec, of what the engine says, and of what probes
//! found. Nothing here acts, and nothing is remembered: the plan is made anew at every look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::pod::{self, Role};
use crate::runtime::{ContainerInfo, ContainerState, labels};

#[cfg(test)]
mod tests;

/// What the engine says of one pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Pause containers, oldest first.
    pub sandboxes: Vec<ContainerInfo>,
    /// Containers, oldest first.
    pub containers: Vec<ContainerInfo>,
}

impl Observed {
    /// Sorts what was listed.
    pub fn new(all: Vec<ContainerInfo>) -> Self {
        let (mut sandboxes, mut containers): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.is_sandbox());
        sandboxes.sort_by_key(|c| (c.attempt(), c.created_at));
        containers.sort_by_key(|c| (c.attempt(), c.created_at));
        Observed { sandboxes, containers }
    }

    /// The sandbox in use: the newest one, if it runs.
    pub fn sandbox(&self) -> Option<&ContainerInfo> {
        self.sandboxes.last().filter(|s| s.state == ContainerState::Running)
    }

    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&ContainerInfo> {
        self.containers.iter().rfind(|c| c.name() == name)
    }

    /// The one before the newest.
    pub fn previous(&self, name: &str) -> Option<&ContainerInfo> {
        self.containers.iter().filter(|c| c.name() == name).rev().nth(1)
    }

    /// Containers that run.
    pub fn running(&self) -> impl Iterator<Item = &ContainerInfo> {
        self.containers.iter().filter(|c| c.state == ContainerState::Running)
    }
}

/// What probes found, by container id.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Containers that have started: their startup probe succeeded, or they have none.
    pub started: BTreeSet<String>,
    /// Containers that are ready.
    pub ready: BTreeSet<String>,
    /// Containers to be killed, with the message that says why.
    pub unhealthy: BTreeMap<String, String>,
}

/// The restart back-off's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// First delay.
    pub initial: Duration,
    /// Longest delay; a container that ran for twice as long starts over.
    pub max: Duration,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its place.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// How many of its name came before.
    pub attempt: u32,
    /// What the restart after this one has to wait, in seconds: kept with the container.
    pub backoff_seconds: u64,
}

/// A container to kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The event's message.
    pub why: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Make a sandbox, the so-manieth.
    pub sandbox: Option<u32>,
    /// The old sandbox went away under the pod.
    pub sandbox_changed: bool,
    /// Containers to kill first.
    pub kill: Vec<Kill>,
    /// Containers to start then, in order.
    pub start: Vec<Start>,
    /// Containers that wait before their restart, and how long the whole wait is.
    pub waiting: BTreeMap<String, Duration>,
    /// When to look again though nothing happened.
    pub wake_at: Option<SystemTime>,
    /// Everything has ended for good: what is left of the pod can be taken down.
    pub finished: bool,
}

/// Makes the plan. `restarts` has the restart counts that the API remembers, for containers that the
/// engine has forgotten.
pub fn plan(
    owner: &Pod,
    observed: &Observed,
    health: &Health,
    restarts: &BTreeMap<String, u32>,
    backoff: Backoff,
    now: SystemTime,
) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &owner.spec else { return plan };
    let policy = pod::restart_policy(spec);
    let sandbox = observed.sandbox();
    let Some(sandbox) = sandbox else {
        plan_without_sandbox(&mut plan, spec, observed, restarts, backoff, now);
        return plan;
    };
    let mut look =
        Look { plan: &mut plan, observed, health, restarts, backoff, now, sandbox: &sandbox.id, policy };
    let main_begun = spec.containers.iter().any(|c| look.in_sandbox(&c.name).is_some());
    let init = spec.init_containers.as_deref().unwrap_or_default();
    match look.initialize(init, main_begun) {
        Progress::Failed => {
            plan.finished = observed.running().next().is_none();
            plan.start.clear();
            kill_all(&mut plan, observed);
            return plan;
        }
        Progress::Busy => return plan,
        Progress::Done => {}
    }
    let mut alive = false;
    for container in &spec.containers {
        alive |= look.keep(container, Role::Main);
    }
    if alive {
        for container in pod::ephemeral(spec) {
            look.begin_once(&container);
        }
    }
    if !alive {
        // Sidecars go when the work is done.
        plan.start.clear();
        plan.wake_at = None;
        plan.waiting.clear();
        kill_all(&mut plan, observed);
        plan.finished = observed.running().next().is_none();
    }
    plan
}

fn kill_all(plan: &mut Plan, observed: &Observed) {
    for container in observed.running() {
        if !plan.kill.iter().any(|k| k.id == container.id) {
            plan.kill.push(Kill {
                id: container.id.clone(),
                name: container.name().to_owned(),
                why: format!("Stopping container {}", container.name()),
            });
        }
    }
}

/// There is no sandbox: make one, unless the pod has done its work.
fn plan_without_sandbox(
    plan: &mut Plan,
    spec: &PodSpec,
    observed: &Observed,
    restarts: &BTreeMap<String, u32>,
    backoff: Backoff,
    now: SystemTime,
) {
    let before = observed.sandboxes.last();
    let policy = pod::restart_policy(spec);
    let done = |c: &Container| match observed.latest(&c.name) {
        Some(latest) => !restarts_after(policy_of(c, policy), latest),
        None => false,
    };
    let begun = !observed.containers.is_empty();
    // A failed init container of a pod that never restarts is the end, as is every main container done.
    let init_failed = policy == "Never"
        && spec.init_containers.iter().flatten().any(|c| {
            pod::init_role(c) == Role::Init
                && observed
                    .latest(&c.name)
                    .is_some_and(|l| l.state == ContainerState::Exited && l.exit_code != 0)
        });
    kill_all(plan, observed);
    if (begun && policy == "Never" && before.is_some()) || init_failed || spec.containers.iter().all(done) {
        plan.finished = plan.kill.is_empty();
        return;
    }
    plan.sandbox = Some(before.map_or(0, |s| s.attempt() + 1));
    plan.sandbox_changed = before.is_some();
    let first_init = spec.init_containers.iter().flatten().next();
    let starts: Vec<_> = match first_init {
        Some(first) => vec![(pod::init_role(first), first)],
        None => spec.containers.iter().filter(|c| !done(c)).map(|c| (Role::Main, c)).collect(),
    };
    for (role, container) in starts {
        plan.start.push(start_of(role, &container.name, observed, restarts, backoff, now).0);
    }
}

fn policy_of<'a>(container: &'a Container, of_pod: &'a str) -> &'a str {
    container.restart_policy.as_deref().unwrap_or(of_pod)
}

/// Whether an ended container is started again.
fn restarts_after(policy: &str, ended: &ContainerInfo) -> bool {
    match policy {
        "Never" => ended.state == ContainerState::Created && ended.error.is_empty(),
        "OnFailure" => ended.state != ContainerState::Exited || ended.exit_code != 0,
        _ => true,
    }
}

/// The next start of a container, and how long after its last end it is due.
fn start_of(
    role: Role,
    name: &str,
    observed: &Observed,
    restarts: &BTreeMap<String, u32>,
    backoff: Backoff,
    now: SystemTime,
) -> (Start, Duration) {
    let latest = observed.latest(name);
    let attempt = match latest {
        Some(latest) => latest.attempt() + 1,
        None => restarts.get(name).map_or(0, |n| n + 1),
    };
    let (delay, next) = match latest {
        None => (Duration::ZERO, Duration::ZERO),
        Some(latest) => {
            let seconds = latest.label_or_empty(labels::BACKOFF).parse().unwrap_or(0);
            let ended = latest.finished_at.unwrap_or(now);
            let lived = ended.duration_since(latest.created_at).unwrap_or_default();
            if lived > backoff.max * 2 {
                // It did well for long: as if it had never failed.
                (Duration::ZERO, backoff.initial)
            } else if seconds == 0 {
                (Duration::ZERO, backoff.initial)
            } else {
                let delay = Duration::from_secs(seconds);
                (delay, (delay * 2).min(backoff.max))
            }
        }
    };
    (Start { role, name: name.to_owned(), attempt, backoff_seconds: next.as_secs() }, delay)
}

enum Progress {
    Done,
    Busy,
    Failed,
}

struct Look<'a> {
    plan: &'a mut Plan,
    observed: &'a Observed,
    health: &'a Health,
    restarts: &'a BTreeMap<String, u32>,
    backoff: Backoff,
    now: SystemTime,
    sandbox: &'a str,
    policy: &'a str,
}

impl Look<'_> {
    /// The newest container of a name, if it belongs to the sandbox in use.
    fn in_sandbox(&self, name: &str) -> Option<&ContainerInfo> {
        self.observed.latest(name).filter(|c| c.label_or_empty(labels::SANDBOX_ID) == self.sandbox)
    }

    fn initialize(&mut self, init: &[Container], main_begun: bool) -> Progress {
        for container in init {
            if pod::init_role(container) == Role::Sidecar {
                self.keep(container, Role::Sidecar);
                let running = self.in_sandbox(&container.name).is_some_and(|c| {
                    c.state == ContainerState::Running && self.health.started.contains(&c.id)
                });
                if !running && !main_begun {
                    return Progress::Busy;
                }
                continue;
            }
            if main_begun {
                continue;
            }
            match self.in_sandbox(&container.name) {
                Some(c) if c.state == ContainerState::Running => return Progress::Busy,
                Some(c) if c.state == ContainerState::Exited && c.exit_code == 0 => {}
                Some(_) if self.policy == "Never" => return Progress::Failed,
                Some(_) => {
                    self.restart(container, Role::Init);
                    return Progress::Busy;
                }
                None => {
                    self.begin(container, Role::Init);
                    return Progress::Busy;
                }
            }
        }
        Progress::Done
    }

    /// Keeps a container as its policy wants it; whether it lives or will.
    fn keep(&mut self, container: &Container, role: Role) -> bool {
        let policy = policy_of(container, self.policy).to_owned();
        let Some(latest) = self.in_sandbox(&container.name).cloned() else {
            // Of an earlier sandbox, and done: not again.
            if self.observed.latest(&container.name).is_some_and(|old| !restarts_after(&policy, old)) {
                return false;
            }
            self.begin(container, role);
            return true;
        };
        if latest.state != ContainerState::Running {
            if !restarts_after(&policy, &latest) {
                return false;
            }
            self.restart(container, role);
            return true;
        }
        let changed = latest.label_or_empty(labels::HASH) != pod::container_hash(container)
            && !latest.label_or_empty(labels::HASH).is_empty();
        let why = match self.health.unhealthy.get(&latest.id) {
            _ if changed => {
                Some(format!("Container {} definition changed, will be restarted", container.name))
            }
            Some(why) if policy == "Never" => Some(why.replace(", will be restarted", "")),
            other => other.cloned(),
        };
        if let Some(why) = why {
            self.plan.kill.push(Kill { id: latest.id.clone(), name: container.name.clone(), why });
        }
        true
    }

    /// Starts what was added to the pod, unless it has ever been started.
    fn begin_once(&mut self, container: &Container) {
        let known = self.observed.latest(&container.name).is_some_and(|c| c.state != ContainerState::Created);
        if !known && !self.restarts.contains_key(&container.name) {
            self.begin(container, Role::Ephemeral);
        }
    }

    fn begin(&mut self, container: &Container, role: Role) {
        let (start, _) =
            start_of(role, &container.name, self.observed, self.restarts, self.backoff, self.now);
        self.plan.start.push(start);
    }

    fn restart(&mut self, container: &Container, role: Role) {
        let (start, delay) =
            start_of(role, &container.name, self.observed, self.restarts, self.backoff, self.now);
        let ended = self
            .observed
            .latest(&container.name)
            .map_or(self.now, |latest| latest.finished_at.unwrap_or(latest.created_at));
        let due = ended + delay;
        if due <= self.now {
            self.plan.start.push(start);
            return;
        }
        self.plan.waiting.insert(container.name.clone(), delay);
        self.plan.wake_at = Some(self.plan.wake_at.map_or(due, |at| at.min(due)));
    }
}
