//! The actor of one pod: looks when told to, probes, copies logs.
//!
//! It looks one look at a time; whatever arrives meanwhile is one more look afterwards. A panic costs its
//! memory, all of which can be found again, and no container.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use k8s_openapi::api::core::v1::Container;
use tokio::sync::Notify;

use super::Shared;
use super::outbox::Outbox;
use super::pod::{self, Role};
use super::probe::{self, KINDS, Kind, Streaks, Target};
use super::registry::Look;
use super::sync::{After, Memory, Sync};
use crate::runtime::{ContainerInfo, ContainerState};

/// Runs one pod.
pub struct PodActor {
    shared: Arc<Shared>,
    uid: Arc<str>,
    memory: Rc<RefCell<Memory>>,
    outbox: Outbox,
    ending: Rc<Notify>,
    looking: bool,
    again: bool,
    timer: Option<SpawnHandle>,
    probes: BTreeMap<(String, Kind), SpawnHandle>,
    streaks: Streaks,
    copied: BTreeSet<String>,
    /// The grace period of the stop that is under way.
    stopping_within: Option<Duration>,
}

impl PodActor {
    /// The actor of the pod with this uid, which the registry knows.
    pub fn new(shared: Arc<Shared>, uid: Arc<str>) -> Self {
        PodActor {
            shared,
            uid,
            memory: Rc::default(),
            outbox: Outbox::default(),
            ending: Rc::default(),
            looking: false,
            again: false,
            timer: None,
            probes: BTreeMap::new(),
            streaks: Streaks::new(),
            copied: BTreeSet::new(),
            stopping_within: None,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.looking {
            self.again = true;
            self.hurry(ctx);
            return;
        }
        self.looking = true;
        let wanted = self.shared.registry.wanted(&self.uid);
        if let Some(wanted) = &wanted {
            self.outbox.compare(wanted.pod.status.as_ref());
        }
        self.stopping_within = wanted
            .filter(|w| w.gone || w.pod.metadata.deletion_timestamp.is_some())
            .map(|w| pod::grace_period(&w.pod));
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let sync = Sync {
            shared: self.shared.clone(),
            uid: self.uid.clone(),
            memory: self.memory.clone(),
            outbox: self.outbox.clone(),
            ending: self.ending.clone(),
        };
        ctx.run(async move { sync.look().await }, Self::looked);
    }

    /// The pod is to end while a look is under way: gives up a pull, and shortens a stop whose grace period
    /// has become shorter.
    fn hurry(&mut self, ctx: &mut Context<Self>) {
        let Some(wanted) = self.shared.registry.wanted(&self.uid) else { return };
        if wanted.pod.metadata.deletion_timestamp.is_none() && !wanted.gone {
            return;
        }
        self.ending.notify_one();
        let grace = pod::grace_period(&wanted.pod);
        let before = self.stopping_within.replace(grace);
        if before.is_none_or(|before| before <= grace) {
            return;
        }
        let shared = self.shared.clone();
        let uid = self.uid.clone();
        ctx.run(
            async move {
                tokio::time::sleep(grace).await;
                let found = shared.runtime.list(&[(crate::runtime::labels::POD_UID, &uid)]).await;
                for container in found.into_iter().flatten().filter(|c| !c.is_sandbox()) {
                    let _ =
                        shared.runtime.kill(&container.id, nix::sys::signal::Signal::SIGKILL as i32).await;
                }
            },
            |_, (), _| {},
        );
    }

    fn looked(&mut self, after: After, ctx: &mut Context<Self>) {
        self.looking = false;
        if after.done {
            self.shared.registry.forget(&self.uid);
            ctx.stop();
            return;
        }
        self.tend(&after, ctx);
        if std::mem::take(&mut self.again) {
            self.look(ctx);
        } else if let Some(at) = after.wake_at {
            let pause = at.duration_since(actors::time::now()).unwrap_or_default();
            // A little later than due, so that the due time has surely come.
            let pause = pause.max(Duration::from_millis(1));
            self.timer = Some(ctx.run_later(pause, |actor, ctx| {
                actor.timer = None;
                actor.look(ctx);
            }));
        }
    }

    /// Starts and ends probes and log copies as containers come and go.
    fn tend(&mut self, after: &After, ctx: &mut Context<Self>) {
        let Some(wanted) = self.shared.registry.wanted(&self.uid) else { return };
        let running: BTreeMap<&str, &ContainerInfo> = after
            .containers
            .iter()
            .filter(|c| c.state == ContainerState::Running && !after.ending)
            .map(|c| (c.id.as_str(), c))
            .collect();
        let over: Vec<_> =
            self.probes.keys().filter(|(id, _)| !running.contains_key(id.as_str())).cloned().collect();
        for key in over {
            if let Some(handle) = self.probes.remove(&key) {
                ctx.cancel_future(handle);
            }
            self.streaks.remove(&key);
        }
        for (role, container) in wanted.pod.spec.iter().flat_map(pod::containers) {
            if role == Role::Init {
                continue;
            }
            let Some(info) = running.values().find(|c| c.name() == container.name) else { continue };
            let latest = after.containers.iter().rfind(|c| c.name() == container.name);
            if latest.is_none_or(|l| l.id != info.id) {
                continue;
            }
            for kind in KINDS {
                let key = (info.id.clone(), kind);
                let Some(probe) = kind.of(container) else { continue };
                if self.probes.contains_key(&key) {
                    continue;
                }
                let age = info
                    .started_at
                    .and_then(|at| actors::time::now().duration_since(at).ok())
                    .unwrap_or_default();
                let first = probe::initial_delay(probe).saturating_sub(age);
                self.arm(key, container.clone(), first, ctx);
            }
        }
        if self.shared.runtime.is_real() {
            for container in &after.containers {
                if container.state != ContainerState::Created && self.copied.insert(container.id.clone()) {
                    self.copy_log(container.clone(), ctx);
                }
            }
        }
    }

    fn copy_log(&mut self, container: ContainerInfo, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        let follow = container.state == ContainerState::Running;
        ctx.run(
            async move {
                let result = shared.logs.copy(shared.runtime.as_ref(), &container, follow).await;
                (container, result)
            },
            |_, (container, result), ctx| {
                if let Err(e) = result {
                    tracing::warn!(container = container.id, error = %e, "log not copied");
                    // The engine went away, or the disk is full: again a little later.
                    ctx.run_later(Duration::from_secs(5), move |actor, ctx| {
                        if actor.copied.contains(&container.id) {
                            actor.copy_log(container, ctx);
                        }
                    });
                }
            },
        );
    }

    fn arm(&mut self, key: (String, Kind), container: Container, pause: Duration, ctx: &mut Context<Self>) {
        let again = key.clone();
        let handle = ctx.run_later(pause, move |actor, ctx| actor.probe(again, container, ctx));
        self.probes.insert(key, handle);
    }

    fn probe(&mut self, key: (String, Kind), container: Container, ctx: &mut Context<Self>) {
        let (id, kind) = key.clone();
        let started = self.memory.borrow().health.started.contains(&id);
        let Some(spec) = kind.of(&container).cloned() else { return };
        // The others wait for the startup probe; and that one is done once it succeeded.
        if (kind == Kind::Startup) == started {
            if kind != Kind::Startup {
                self.arm(key, container, probe::period(&spec).min(Duration::from_secs(1)), ctx);
            }
            return;
        }
        let shared = self.shared.clone();
        let ip = self.memory.borrow().addresses.as_ref().and_then(|(_, ips)| ips.first().cloned());
        let target_spec = container.clone();
        let probe_spec = spec.clone();
        let place = key.clone();
        let handle = ctx.run(
            async move {
                let ip = ip.unwrap_or_default();
                let target =
                    Target { runtime: shared.runtime.as_ref(), id: &id, container: &target_spec, ip: &ip };
                target.check(&probe_spec).await
            },
            move |actor, result, ctx| {
                actor.probed(&key, &container, &spec, result, ctx);
                if actor.probes.contains_key(&key) {
                    actor.arm(key, container, probe::period(&spec), ctx);
                }
            },
        );
        self.probes.insert(place, handle);
    }

    fn probed(
        &mut self,
        (id, kind): &(String, Kind),
        container: &Container,
        spec: &k8s_openapi::api::core::v1::Probe,
        result: Result<(), String>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(why) = &result
            && let Some(wanted) = self.shared.registry.wanted(&self.uid)
        {
            let about = pod::about_pod(&wanted.pod, Some((Role::Main, &container.name)));
            let message = format!("{} probe failed: {why}", kind.as_str());
            self.shared.recorder.tell(about, "Warning", "Unhealthy", message);
        }
        let streak = self.streaks.entry((id.clone(), *kind)).or_default();
        let Some(verdict) = streak.note(result.is_ok(), spec) else { return };
        let changed = {
            let mut memory = self.memory.borrow_mut();
            let health = &mut memory.health;
            match (kind, verdict) {
                (Kind::Startup, true) => health.started.insert(id.clone()),
                (Kind::Readiness, true) => health.ready.insert(id.clone()),
                (Kind::Readiness, false) => health.ready.remove(id),
                (Kind::Liveness, true) => false,
                (Kind::Startup | Kind::Liveness, false) => {
                    let what = kind.as_str().to_lowercase();
                    let why = format!("Container {} failed {what} probe, will be restarted", container.name);
                    health.unhealthy.insert(id.clone(), why).is_none()
                }
            }
        };
        if changed {
            self.look(ctx);
        }
    }
}

impl Actor for PodActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let deliver = self.outbox.clone().deliver(
            self.shared.client.clone(),
            self.shared.registry.clone(),
            self.uid.clone(),
        );
        ctx.run(deliver, |_, (), _| {});
        self.look(ctx);
    }
}

impl Handler<Look> for PodActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}
