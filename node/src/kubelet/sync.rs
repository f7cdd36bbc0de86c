//! One look at a pod: observe, plan, act, report. What is decided lies in [`super::plan`] and
//! [`super::status`]; here it is carried out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod, Service};
use tokio::sync::Notify;

use super::Shared;
use super::environment::{self, Sources};
use super::images::{Decision, Pulls};
use super::objects::Kind;
use super::outbox::Outbox;
use super::plan::{Backoff, Health, Kill, Observed, Plan, Start, plan};
use super::pod::{self, Role};
use super::registry::{Wanted, key_of};
use super::status::{self, Facts, Waiting};
use super::{container, images, network_files, probe};
use crate::runtime::{
    ContainerInfo, ContainerState, NetworkError, PodIdentity, RuntimeError, SandboxConfig, clock, labels,
};
use crate::volumes::payload::{self, Inputs, Token, TokenKey};
use crate::volumes::{Mounted, VolumeError, Volumes};

mod ended;
mod image;
mod sandbox;
mod start;
mod stop;
mod volumes;

/// Pause before a look that failed is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// What a pod's actor remembers between looks. All of it can be found again: from the engine, from the
/// API, or by trying again.
#[derive(Default)]
pub struct Memory {
    /// The probes' view.
    pub health: Health,
    /// Last errors of containers that could not be started.
    pub errors: BTreeMap<String, Waiting>,
    /// Failed pulls.
    pub pulls: Pulls,
    /// Last words by container id.
    pub last_words: BTreeMap<String, String>,
    /// Image ids as the API shows them.
    pub image_ids: BTreeMap<String, String>,
    /// The sandbox in use and the addresses it has.
    pub addresses: Option<(String, Vec<String>)>,
    /// Mounted volumes.
    pub mounted: Option<Mounted>,
    /// Tokens in use.
    pub tokens: BTreeMap<TokenKey, Token>,
}

/// One pod's affairs.
pub struct Sync {
    /// What all pods share.
    pub shared: Arc<Shared>,
    /// The pod's uid.
    pub uid: Arc<str>,
    /// The actor's memory.
    pub memory: Rc<RefCell<Memory>>,
    /// Where statuses go.
    pub outbox: Outbox,
    /// Rings when the pod is to end: a pull is given up then.
    pub ending: Rc<Notify>,
}

/// What the actor does after a look.
#[derive(Default)]
pub struct After {
    /// Look again then.
    pub wake_at: Option<SystemTime>,
    /// The containers, as last seen.
    pub containers: Vec<ContainerInfo>,
    /// The pod is gone for good.
    pub done: bool,
    /// The pod is ending or has ended: no probes.
    pub ending: bool,
}

/// Why a look could not be finished.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Api(#[from] protocol::ApiError),
    #[error("{0}")]
    Io(String),
    #[error("the pod is to end")]
    Ending,
}

impl Sync {
    /// Looks at the pod once.
    pub async fn look(&self) -> After {
        let Some(wanted) = self.shared.registry.wanted(&self.uid) else {
            return After { done: true, ..After::default() };
        };
        match self.attempt(&wanted).await {
            Ok(after) => after,
            Err(e) => {
                if !matches!(e, SyncError::Ending) {
                    tracing::warn!(pod = %key_of(&wanted.pod), error = %e, "pod not synced");
                }
                let wake_at = Some(actors::time::now() + RETRY_PAUSE.mul_f64(actors::random::jitter(0.2)));
                let containers = self.observe().await.map(|o| o.containers).unwrap_or_default();
                After { wake_at, containers, ..After::default() }
            }
        }
    }

    async fn attempt(&self, wanted: &Wanted) -> Result<After, SyncError> {
        let owner = &wanted.pod;
        let observed = self.observe().await?;
        let deleted = owner.metadata.deletion_timestamp.is_some() && !pod::is_static(owner);
        if wanted.gone || deleted {
            self.stop_for_good(wanted, observed, deleted && !wanted.gone).await?;
            return Ok(After { done: true, ending: true, ..After::default() });
        }
        let now = actors::time::now();
        let deadline = self.deadline(owner);
        if wanted.verdict.is_none() && deadline.is_some_and(|at| at <= now) && !pod::is_terminal(owner) {
            self.shared.registry.condemn(
                &self.uid,
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            );
            self.note(
                owner,
                None,
                true,
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline".to_owned(),
            );
            return Ok(After { wake_at: Some(now), containers: observed.containers, ..After::default() });
        }
        if wanted.verdict.is_some() || (pod::is_terminal(owner) && !pod::is_static(owner)) {
            let left = self.stop_everything(wanted, observed).await?;
            return Ok(After { containers: left.containers, ending: true, ..After::default() });
        }
        let mut after = self.run(owner, observed).await?;
        // The first look itself sets the time that the deadline counts from.
        after.wake_at = earliest(after.wake_at, self.deadline(owner));
        Ok(after)
    }

    /// Everything that the engine has of this pod, in full.
    async fn observe(&self) -> Result<Observed, RuntimeError> {
        let runtime = &self.shared.runtime;
        let listed = runtime.list(&[(labels::POD_UID, &self.uid)]).await?;
        let mut all = Vec::with_capacity(listed.len());
        for container in futures::future::join_all(listed.iter().map(|c| runtime.inspect(&c.id))).await {
            match container {
                Ok(container) => all.push(container),
                // Removed in between.
                Err(RuntimeError::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Observed::new(all))
    }

    fn deadline(&self, owner: &Pod) -> Option<SystemTime> {
        let seconds = owner.spec.as_ref()?.active_deadline_seconds?;
        let known = owner.status.as_ref().and_then(|s| s.start_time.clone());
        let start = known.or_else(|| self.outbox.latest().and_then(|s| s.start_time))?;
        let start = clock::system_time(start.0);
        Some(start + Duration::from_secs(u64::try_from(seconds).ok()?))
    }

    /// Brings a living pod forward.
    async fn run(&self, owner: &Pod, mut observed: Observed) -> Result<After, SyncError> {
        let now = actors::time::now();
        self.adopt(owner, &observed).await?;
        self.note_health(owner, &observed);
        let restarts = restarts_of(owner);
        let backoff =
            Backoff { initial: self.shared.config.backoff_initial, max: self.shared.config.backoff_max };
        let health = self.memory.borrow().health.clone();
        let plan = plan(owner, &observed, &health, &restarts, backoff, now);
        for name in plan.waiting.keys() {
            self.note(
                owner,
                Some(name),
                true,
                "BackOff",
                format!(
                    "Back-off restarting failed container {name} in pod {}",
                    pod::full_name(&pod::identity(owner))
                ),
            );
        }
        self.read_last_words(owner, &observed).await;
        if plan.finished {
            let wanted = Wanted { pod: Arc::new(owner.clone()), gone: false, verdict: None, stale: false };
            let left = self.stop_everything(&wanted, observed).await?;
            return Ok(After { containers: left.containers, ending: true, ..After::default() });
        }
        let acts = plan.sandbox.is_some() || !plan.start.is_empty() || !plan.kill.is_empty();
        if plan.sandbox.is_some() {
            // People see at once that the node has taken the pod.
            self.publish(owner, &observed, &plan.waiting, false, None);
        }
        let mut wake_at = plan.wake_at;
        if acts {
            let (outcome, seen) = self.act(owner, &plan, observed).await;
            observed = seen;
            self.note_health(owner, &observed);
            self.read_last_words(owner, &observed).await;
            self.publish(owner, &observed, &plan.waiting, false, None);
            wake_at = earliest(wake_at, outcome?);
            let more = plan.start.iter().any(|s| matches!(s.role, Role::Init | Role::Sidecar));
            if more || !plan.kill.is_empty() {
                wake_at = earliest(wake_at, Some(now));
            }
        } else {
            self.publish(owner, &observed, &plan.waiting, false, None);
        }
        let refresh = self.memory.borrow().mounted.as_ref().and_then(|m| m.refresh_at);
        let due =
            !acts && (self.shared.registry.take_stale(&self.uid) || refresh.is_some_and(|at| at <= now));
        if due && let Err(e) = self.mount(owner).await {
            self.note(owner, None, true, "FailedMount", e.to_string());
            wake_at = earliest(wake_at, Some(now + RETRY_PAUSE));
        }
        let refresh = self.memory.borrow().mounted.as_ref().and_then(|m| m.refresh_at);
        // Never sooner than a pause: an API that gives no token must not be asked all the time.
        wake_at = earliest(wake_at, refresh.map(|at| at.max(now + RETRY_PAUSE)));
        self.collect_garbage(owner, &mut observed).await;
        Ok(After { wake_at, containers: observed.containers, ..After::default() })
    }

    /// Kills, makes the sandbox, starts containers. Answers when to look again, and what there is now.
    async fn act(
        &self,
        owner: &Pod,
        plan: &Plan,
        observed: Observed,
    ) -> (Result<Option<SystemTime>, SyncError>, Observed) {
        let outcome = self.act_inner(owner, plan, &observed).await;
        match self.observe().await {
            Ok(seen) => (outcome, seen),
            Err(e) => (outcome.and(Err(e.into())), observed),
        }
    }

    async fn act_inner(
        &self,
        owner: &Pod,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<Option<SystemTime>, SyncError> {
        self.kill(owner, &plan.kill, observed, pod::grace_period(owner)).await?;
        let sandbox = match plan.sandbox {
            None => observed.sandbox().map(|s| s.id.clone()),
            Some(attempt) => {
                if plan.sandbox_changed {
                    let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                    self.note(owner, None, false, "SandboxChanged", text);
                }
                for old in &observed.sandboxes {
                    self.remove_sandbox(owner, old).await?;
                }
                match self.make_sandbox(owner, attempt).await {
                    Ok(id) => Some(id),
                    Err(e) => {
                        let text = format!("Failed to create pod sandbox: {e}");
                        self.note(owner, None, true, "FailedCreatePodSandBox", text);
                        return Err(e);
                    }
                }
            }
        };
        let Some(sandbox) = sandbox else { return Ok(None) };
        if plan.start.is_empty() {
            return Ok(None);
        }
        if let Err(e) = self.mount(owner).await {
            self.note(owner, None, true, "FailedMount", e.to_string());
            return Ok(Some(actors::time::now() + RETRY_PAUSE));
        }
        let mut wake_at = None;
        for start in &plan.start {
            wake_at = earliest(wake_at, self.start(owner, &sandbox, start).await?);
        }
        Ok(wake_at)
    }

    /// Remembers the addresses of a sandbox that an earlier process made.
    async fn adopt(&self, owner: &Pod, observed: &Observed) -> Result<(), SyncError> {
        let Some(sandbox) = observed.sandbox() else { return Ok(()) };
        let known = self.memory.borrow().addresses.as_ref().is_some_and(|(id, _)| *id == sandbox.id);
        if !known {
            self.plug_in(owner, &sandbox.id).await?;
        }
        let mounted = self.memory.borrow().mounted.is_some();
        if !mounted && observed.running().next().is_some() {
            // Volumes are there; this finds them again so that changes reach them.
            if let Err(e) = self.mount(owner).await {
                tracing::debug!(error = %e, "volumes of an adopted pod not refreshed");
            }
        }
        Ok(())
    }

    /// Containers without probes are healthy while they run; what is gone is forgotten.
    fn note_health(&self, owner: &Pod, observed: &Observed) {
        let mut memory = self.memory.borrow_mut();
        let alive: BTreeSet<&str> = observed.running().map(|c| c.id.as_str()).collect();
        let health = &mut memory.health;
        health.started.retain(|id| alive.contains(id.as_str()));
        health.ready.retain(|id| alive.contains(id.as_str()));
        health.unhealthy.retain(|id, _| alive.contains(id.as_str()));
        for (_, container) in owner.spec.iter().flat_map(pod::containers) {
            let Some(running) = observed.latest(&container.name).filter(|c| alive.contains(c.id.as_str()))
            else {
                continue;
            };
            if container.startup_probe.is_none() {
                health.started.insert(running.id.clone());
            }
            if container.readiness_probe.is_none() {
                health.ready.insert(running.id.clone());
            }
        }
    }

    /// Makes the status and hands it on.
    fn publish(
        &self,
        owner: &Pod,
        observed: &Observed,
        backing_off: &BTreeMap<String, Duration>,
        ended: bool,
        verdict: Option<&Waiting>,
    ) -> u64 {
        let memory = self.memory.borrow();
        let ips = match &memory.addresses {
            Some((id, ips)) if observed.sandbox().is_some_and(|s| s.id == *id) => ips.as_slice(),
            _ => &[],
        };
        let host_ips = self.shared.config.node_ips();
        let facts = Facts {
            engine: &self.shared.engine,
            observed,
            health: &memory.health,
            errors: &memory.errors,
            backing_off,
            last_words: &memory.last_words,
            image_ids: &memory.image_ids,
            ips,
            host_ips: &host_ips,
            ended,
            verdict,
        };
        // The latest status that was made counts, not the one that the API may still be sending back.
        let mut base = owner.clone();
        if let Some(mine) = self.outbox.latest() {
            base.status = Some(with_others(mine, base.status.take().unwrap_or_default()));
        }
        let made = status::status(&base, &facts, &clock::now());
        self.shared.registry.set_status(&self.uid, made.clone());
        self.outbox.put(made)
    }

    fn note(
        &self,
        owner: &Pod,
        container: Option<&str>,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        let role = container.and_then(|name| {
            let role = owner.spec.as_ref().and_then(|s| pod::container(s, name)).map(|(role, _)| role)?;
            Some((role, name))
        });
        let kind = if warning { "Warning" } else { "Normal" };
        self.shared.recorder.tell(pod::about_pod(owner, role), kind, reason, message);
    }

    /// Runs an engine call as a step of the trace.
    async fn step<T>(
        &self,
        owner: &Pod,
        what: &str,
        work: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        actors::trace::step(
            "node/runtime",
            what,
            Some(key_of(owner)),
            |r: &Result<T, RuntimeError>| r.is_err(),
            work,
        )
        .await
    }
}

/// What others have set goes into our own latest status: conditions, and the claims of devices that were made for the pod.
fn with_others(
    mut mine: k8s_openapi::api::core::v1::PodStatus,
    theirs: k8s_openapi::api::core::v1::PodStatus,
) -> k8s_openapi::api::core::v1::PodStatus {
    const OURS: [&str; 5] =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = mine.conditions.get_or_insert_with(Vec::new);
    conditions.retain(|c| OURS.contains(&c.type_.as_str()));
    let others = theirs.conditions.into_iter().flatten();
    conditions.extend(others.filter(|c| !OURS.contains(&c.type_.as_str())));
    mine.resource_claim_statuses = theirs.resource_claim_statuses;
    mine.extended_resource_claim_status = theirs.extended_resource_claim_status;
    mine
}

fn earliest(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<SystemTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Restart counts that the API remembers of containers that have run.
fn restarts_of(owner: &Pod) -> BTreeMap<String, u32> {
    let Some(status) = &owner.status else { return BTreeMap::new() };
    let all =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let all = all.chain(status.ephemeral_container_statuses.iter().flatten());
    all.filter(|s| s.container_id.as_deref().is_some_and(|id| !id.is_empty()))
        .map(|s| (s.name.clone(), u32::try_from(s.restart_count).unwrap_or(0)))
        .collect()
}
