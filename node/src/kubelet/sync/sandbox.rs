//! The sandbox of a pod: making it, and plugging it into the network.

use super::*;

impl Sync {
    /// Makes the pod's sandbox and plugs it in.
    pub(super) async fn make_sandbox(&self, owner: &Pod, attempt: u32) -> Result<String, SyncError> {
        let shared = &self.shared;
        let default = k8s_openapi::api::core::v1::PodSpec::default();
        let spec = owner.spec.as_ref().unwrap_or(&default);
        let host_network = pod::host_network(spec);
        if !host_network {
            shared.network.ready().await?;
        }
        let config = &shared.config;
        let host_resolv = if shared.runtime.is_real() {
            tokio::fs::read_to_string(&config.host_resolv_conf).await.unwrap_or_default()
        } else {
            String::new()
        };
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let resolv = network_files::resolv_conf(
            spec,
            namespace,
            config.cluster_dns,
            &config.cluster_domain,
            &host_resolv,
        );
        let sysctls = spec.security_context.as_ref().and_then(|c| c.sysctls.clone()).unwrap_or_default();
        let sandbox = SandboxConfig {
            pod: pod::identity(owner),
            attempt,
            hostname: pod::hostname(owner, &config.hostname),
            host_network,
            host_pid: spec.host_pid == Some(true),
            host_ipc: spec.host_ipc == Some(true),
            sysctls: sysctls.into_iter().map(|s| (s.name, s.value)).collect(),
            resolv_conf: Some(resolv),
            cgroup_parent: shared.cgroup_of(owner),
            image: config.pause_image.clone(),
            ..SandboxConfig::default()
        };
        let id = self.step(owner, "create sandbox", shared.runtime.create_sandbox(&sandbox)).await?;
        if let Err(e) = self.plug_in(owner, &id).await {
            // A sandbox without a network is of no use to the next look.
            let _ = shared.runtime.remove(&id).await;
            return Err(e);
        }
        Ok(id)
    }

    /// Gives a sandbox its addresses; a sandbox that has them keeps them.
    pub(super) async fn plug_in(&self, owner: &Pod, sandbox: &str) -> Result<(), SyncError> {
        let shared = &self.shared;
        let host_network = owner.spec.as_ref().is_some_and(pod::host_network);
        let ips = if host_network {
            shared.config.node_ips()
        } else {
            let netns = shared.runtime.netns(sandbox).await?.unwrap_or_default();
            let ports = owner.spec.as_ref().map(pod::host_ports).unwrap_or_default();
            let identity = pod::identity(owner);
            let attach = shared.network.attach(sandbox, &netns, &identity, &ports);
            let ips = actors::trace::step(
                "node/network",
                "attach",
                Some(key_of(owner)),
                |r: &Result<Vec<std::net::IpAddr>, NetworkError>| r.is_err(),
                attach,
            )
            .await?;
            ips.into_iter().map(|ip| ip.to_string()).collect()
        };
        self.memory.borrow_mut().addresses = Some((sandbox.to_owned(), ips));
        Ok(())
    }
}
