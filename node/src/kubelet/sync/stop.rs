//! Ending containers, sandboxes and whole pods.

use super::*;

/// How long a final status may take before the pod's end goes on without it; the API may be away.
const FINAL_STATUS_TIMEOUT: Duration = Duration::from_secs(30);
/// A container gets this long after its preStop hook has used up the grace period.
const GRACE_MIN: Duration = Duration::from_secs(2);

impl Sync {
    /// Kills containers side by side, each after its preStop hook.
    pub(super) async fn kill(
        &self,
        owner: &Pod,
        kills: &[Kill],
        observed: &Observed,
        grace: Duration,
    ) -> Result<(), SyncError> {
        let one = |kill: &Kill| {
            let kill = kill.clone();
            async move {
                self.note(owner, Some(&kill.name), false, "Killing", kill.why.clone());
                let left = self.pre_stop(owner, &kill, observed, grace).await;
                self.step(owner, "stop container", self.shared.runtime.stop(&kill.id, left)).await
            }
        };
        for result in futures::future::join_all(kills.iter().map(one)).await {
            result?;
        }
        Ok(())
    }

    /// Runs the preStop hook; answers what is left of the grace period.
    async fn pre_stop(&self, owner: &Pod, kill: &Kill, observed: &Observed, grace: Duration) -> Duration {
        let found = owner.spec.as_ref().and_then(|s| pod::containers(s).find(|(_, c)| c.name == kill.name));
        let Some((_, container)) = found else { return grace };
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return grace };
        if grace.is_zero() || !observed.running().any(|c| c.id == kill.id) {
            return grace;
        }
        let ip = self.memory.borrow().addresses.as_ref().and_then(|(_, ips)| ips.first().cloned());
        let ip = ip.unwrap_or_default();
        let target =
            probe::Target { runtime: self.shared.runtime.as_ref(), id: &kill.id, container, ip: &ip };
        let began = actors::time::Instant::now();
        let hooked = tokio::time::timeout(grace, target.hook(hook, grace)).await;
        if !matches!(hooked, Ok(Ok(()))) {
            self.note(owner, Some(&kill.name), true, "FailedPreStopHook", "PreStopHook failed".to_owned());
        }
        grace.saturating_sub(began.elapsed()).max(GRACE_MIN)
    }

    /// Takes a sandbox off the network and removes it.
    pub(super) async fn remove_sandbox(&self, owner: &Pod, sandbox: &ContainerInfo) -> Result<(), SyncError> {
        let shared = &self.shared;
        if !owner.spec.as_ref().is_some_and(pod::host_network) {
            let netns = match sandbox.state {
                ContainerState::Running => shared.runtime.netns(&sandbox.id).await.ok().flatten(),
                _ => None,
            };
            let ports = owner.spec.as_ref().map(pod::host_ports).unwrap_or_default();
            let identity = pod::identity(owner);
            shared.network.detach(&sandbox.id, &netns.unwrap_or_default(), &identity, &ports).await?;
        }
        self.step(owner, "remove sandbox", shared.runtime.remove(&sandbox.id)).await?;
        let mut memory = self.memory.borrow_mut();
        if memory.addresses.as_ref().is_some_and(|(id, _)| *id == sandbox.id) {
            memory.addresses = None;
        }
        Ok(())
    }

    /// Ends all that runs of the pod, sidecars last and in reverse; then the sandbox. Ended containers stay
    /// for their logs. Reports the end.
    pub(super) async fn stop_everything(
        &self,
        wanted: &Wanted,
        observed: Observed,
    ) -> Result<Observed, SyncError> {
        let owner = &wanted.pod;
        let grace = pod::grace_period(owner);
        let deadline = actors::time::Instant::now() + grace;
        let role_of = |name: &str| {
            owner.spec.as_ref().and_then(|s| pod::containers(s).find(|(_, c)| c.name == name)).map(|(r, _)| r)
        };
        let kill_of = |c: &ContainerInfo| Kill {
            id: c.id.clone(),
            name: c.name().to_owned(),
            why: format!("Stopping container {}", c.name()),
        };
        let (sidecars, others): (Vec<_>, Vec<_>) =
            observed.running().partition(|c| role_of(c.name()) == Some(Role::Sidecar));
        let others: Vec<_> = others.into_iter().map(kill_of).collect();
        self.kill(owner, &others, &observed, grace).await?;
        let order: Vec<&str> = owner
            .spec
            .iter()
            .flat_map(|s| s.init_containers.iter().flatten())
            .map(|c| c.name.as_str())
            .collect();
        let mut sidecars: Vec<_> = sidecars.into_iter().map(kill_of).collect();
        sidecars.sort_by_key(|k| std::cmp::Reverse(order.iter().position(|name| *name == k.name)));
        for sidecar in sidecars {
            let left = deadline.saturating_duration_since(actors::time::Instant::now());
            let least = if grace.is_zero() { Duration::ZERO } else { GRACE_MIN };
            self.kill(owner, &[sidecar], &observed, left.max(least)).await?;
        }
        let mut left = self.observe().await?;
        self.read_last_words(owner, &left).await;
        self.publish_end(owner, &left, wanted);
        for sandbox in std::mem::take(&mut left.sandboxes) {
            self.remove_sandbox(owner, &sandbox).await?;
        }
        self.publish_end(owner, &left, wanted);
        Ok(left)
    }

    fn publish_end(&self, owner: &Pod, left: &Observed, wanted: &Wanted) -> u64 {
        let none = BTreeMap::new();
        self.publish(owner, left, &none, true, wanted.verdict.as_ref())
    }

    /// Takes a pod down and, with `tell`, finishes its deletion in the API.
    pub(super) async fn stop_for_good(
        &self,
        wanted: &Wanted,
        observed: Observed,
        tell: bool,
    ) -> Result<(), SyncError> {
        let owner = &wanted.pod;
        let left = self.stop_everything(wanted, observed).await?;
        if tell {
            let last = self.publish_end(owner, &left, wanted);
            // Whoever watches sees how the containers ended, before the pod goes.
            let _ = tokio::time::timeout(FINAL_STATUS_TIMEOUT, self.outbox.written(last)).await;
        }
        for container in &left.containers {
            self.step(owner, "remove container", self.shared.runtime.remove(&container.id)).await?;
        }
        let identity = pod::identity(owner);
        self.clean(owner, &identity).await?;
        self.shared.objects.release(&self.uid);
        if tell {
            let client = &self.shared.client;
            match client
                .delete::<Pod>(&identity.namespace, &identity.name, Some(&identity.uid), Some(0))
                .await
            {
                Err(e) if !e.is_not_found() && !e.is_conflict() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what the pod left on the host.
    async fn clean(&self, owner: &Pod, identity: &PodIdentity) -> Result<(), SyncError> {
        let shared = &self.shared;
        if !shared.runtime.is_real() {
            return Ok(());
        }
        let (volumes, logs) = (shared.volumes.clone(), shared.logs.clone());
        let (identity, cgroup) = (identity.clone(), shared.cgroup_of(owner));
        let work = move || {
            logs.remove_pod(&identity);
            crate::runtime::cgroup::remove(&cgroup);
            volumes.remove(&identity.uid)
        };
        let cleaned = tokio::task::spawn_blocking(work).await.map_err(|e| SyncError::Io(e.to_string()))?;
        cleaned.map_err(|e| SyncError::Io(format!("cannot remove the pod's directory: {e}")))
    }
}
