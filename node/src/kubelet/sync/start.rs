//! Sandbox, volumes, image, container: what it takes to run one.

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

    fn ips(&self) -> Vec<String> {
        self.memory.borrow().addresses.as_ref().map(|(_, ips)| ips.clone()).unwrap_or_default()
    }

    fn sources(&self) -> Sources {
        Sources {
            pod_ips: self.ips(),
            host_ips: self.shared.config.node_ips(),
            node_name: self.shared.config.node_name.clone(),
            allocatable: self.shared.allocatable.clone(),
            ..Sources::default()
        }
    }

    /// Makes the pod's volumes, or brings them up to date.
    pub(super) async fn mount(&self, owner: &Pod) -> Result<(), SyncError> {
        self.shared.registry.take_stale(&self.uid);
        if !self.shared.runtime.is_real() {
            self.memory.borrow_mut().mounted = Some(Mounted::default());
            return Ok(());
        }
        let references = payload::references(owner);
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let objects = &self.shared.objects;
        let maps = objects.all(Kind::ConfigMap, namespace, &references.config_maps, &self.uid).await?;
        let secrets = objects.all(Kind::Secret, namespace, &references.secrets, &self.uid).await?;
        let owned = |all: BTreeMap<String, Option<Arc<payload::Data>>>| {
            all.into_iter().map(|(name, data)| (name, data.map(|d| payload::Data::clone(&d)))).collect()
        };
        let mut tokens = BTreeMap::new();
        for key in references.tokens {
            let token = self.token(owner, &key).await?;
            tokens.insert(key, token);
        }
        let mut claims = BTreeMap::new();
        for name in references.claims {
            let place = self.claim(namespace, &name).await?;
            claims.insert(name, place);
        }
        let inputs = Inputs {
            config_maps: owned(maps),
            secrets: owned(secrets),
            tokens,
            claims,
            sources: self.sources(),
        };
        let volumes = self.shared.volumes.clone();
        let owner = owner.clone();
        let mounted = tokio::task::spawn_blocking(move || volumes.mount(&owner, &inputs))
            .await
            .map_err(|e| SyncError::Io(e.to_string()))??;
        self.memory.borrow_mut().mounted = Some(mounted);
        Ok(())
    }

    /// A token for the pod's service account, renewed in good time.
    async fn token(&self, owner: &Pod, key: &TokenKey) -> Result<Token, SyncError> {
        let now = actors::time::now();
        if let Some(token) = self.memory.borrow().tokens.get(key).filter(|t| t.refresh_at > now) {
            return Ok(token.clone());
        }
        let (audience, seconds) = key;
        let identity = pod::identity(owner);
        let account = owner.spec.as_ref().and_then(|s| s.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let audiences: Vec<_> = Some(audience).filter(|a| !a.is_empty()).into_iter().collect();
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef":
                {"apiVersion": "v1", "kind": "Pod", "name": identity.name, "uid": identity.uid}},
        });
        let answer = self
            .shared
            .client
            .create_subresource::<k8s_openapi::api::core::v1::ServiceAccount>(
                &identity.namespace,
                &account,
                "token",
                &body,
            )
            .await?;
        let text = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
        let lifetime = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
        // At four fifths of its life, and after a day at the latest.
        let refresh_at = now + lifetime.mul_f64(0.8).min(Duration::from_secs(24 * 3600));
        let token = Token { text, refresh_at };
        self.memory.borrow_mut().tokens.insert(key.clone(), token.clone());
        Ok(token)
    }

    /// Where a claim's volume lies on this host, or why it does not.
    async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<std::path::PathBuf, String>, SyncError> {
        use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
        let client = &self.shared.client;
        let Some(claim) = client.find::<PersistentVolumeClaim>(namespace, name).await? else {
            return Ok(Err(format!("persistentvolumeclaim \"{name}\" not found")));
        };
        let Some(volume) = claim.spec.and_then(|s| s.volume_name) else {
            return Ok(Err(format!("PVC {namespace}/{name} is not bound")));
        };
        let found = client.find::<PersistentVolume>("", &volume).await?.and_then(|v| v.spec);
        let Some(spec) = found else { return Ok(Err(format!("persistentvolume \"{volume}\" not found"))) };
        let path = spec.host_path.map(|h| h.path).or_else(|| spec.local.map(|l| l.path));
        Ok(path.map(Into::into).ok_or_else(|| "this kind of volume is not supported".to_owned()))
    }

    /// Starts one container. A failure is noted in the memory and answers when to try again.
    pub(super) async fn start(
        &self,
        owner: &Pod,
        sandbox: &str,
        start: &Start,
    ) -> Result<Option<SystemTime>, SyncError> {
        let found = owner.spec.as_ref().and_then(|s| pod::container(s, &start.name));
        let Some((_, container)) = found else { return Ok(None) };
        let container = &container;
        let name = &container.name;
        let image = match self.image(owner, container).await? {
            Ok(image) => image,
            Err((waiting, wake_at)) => {
                self.memory.borrow_mut().errors.insert(name.clone(), waiting);
                return Ok(wake_at);
            }
        };
        match self.launch(owner, sandbox, start, container, &image).await? {
            Ok(()) => {
                self.memory.borrow_mut().errors.remove(name);
                Ok(None)
            }
            Err(waiting) => {
                let retry = actors::time::now() + RETRY_PAUSE * 5;
                let text = match waiting.0.as_str() {
                    "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                        format!("Error: {}", waiting.1)
                    }
                    _ => waiting.1.clone(),
                };
                self.note(owner, Some(name), true, "Failed", text);
                self.memory.borrow_mut().errors.insert(name.clone(), waiting);
                Ok(Some(retry))
            }
        }
    }

    /// The container's image, fetched if need be; or why it waits.
    async fn image(
        &self,
        owner: &Pod,
        container: &Container,
    ) -> Result<Result<crate::runtime::Image, (Waiting, Option<SystemTime>)>, SyncError> {
        let runtime = &self.shared.runtime;
        let name = container.image.clone().unwrap_or_default();
        let of = Some(container.name.as_str());
        let present = runtime.image(&name).await?;
        let decision = self.memory.borrow().pulls.decide(container, present, actors::time::now());
        let image = match decision {
            Decision::Use(image) => {
                let text = format!(
                    "Container image \"{name}\" already present on machine and can be accessed by the pod"
                );
                self.note(owner, of, false, "Pulled", text);
                image
            }
            Decision::Wait(waiting, until) => {
                let (event, text) = match waiting.0.as_str() {
                    "ImagePullBackOff" => ("BackOff", format!("Back-off pulling image \"{name}\"")),
                    other => ("ErrImageNeverPull", format!("{}: {}", other, waiting.1)),
                };
                self.note(owner, of, event != "BackOff", event, text);
                self.note(owner, of, true, "Failed", format!("Error: {}", waiting.0));
                let wake_at = until.or(Some(actors::time::now() + self.shared.config.backoff_initial));
                return Ok(Err((waiting, wake_at)));
            }
            Decision::Pull => match self.pull(owner, container, &name).await? {
                Ok(image) => image,
                Err(failed) => return Ok(Err(failed)),
            },
        };
        let shown = match image.digests.first() {
            Some(digest) => format!("{}-pullable://{digest}", self.shared.engine),
            None => format!("{}://{}", self.shared.engine, image.id),
        };
        self.memory.borrow_mut().image_ids.insert(image.id.clone(), shown);
        Ok(Ok(image))
    }

    async fn pull(
        &self,
        owner: &Pod,
        container: &Container,
        name: &str,
    ) -> Result<Result<crate::runtime::Image, (Waiting, Option<SystemTime>)>, SyncError> {
        let of = Some(container.name.as_str());
        self.note(owner, of, false, "Pulling", format!("Pulling image \"{name}\""));
        let credentials = self.credentials(owner, name).await?;
        let began = actors::time::Instant::now();
        let tries = async {
            let mut last = None;
            for auth in credentials.iter().map(Some).chain(std::iter::once(None)) {
                match self.step(owner, "pull image", self.shared.runtime.pull(name, auth)).await {
                    Ok(image) => return Ok(image),
                    Err(e) => last = last.or(Some(e)),
                }
            }
            Err(last.unwrap_or_else(|| RuntimeError::NotFound(name.to_owned())))
        };
        let result = tokio::select! {
            result = tries => result,
            () = self.ending.notified() => return Err(SyncError::Ending),
        };
        match result {
            Ok(image) => {
                let took = began.elapsed().as_millis();
                let text = format!(
                    "Successfully pulled image \"{name}\" in {took}ms ({took}ms including waiting). Image size: {} bytes.",
                    image.size
                );
                self.note(owner, of, false, "Pulled", text);
                self.memory.borrow_mut().pulls.succeeded(name);
                Ok(Ok(image))
            }
            Err(e) => {
                let text = e.to_string();
                self.note(owner, of, true, "Failed", format!("Failed to pull image \"{name}\": {text}"));
                self.note(owner, of, true, "Failed", "Error: ErrImagePull".to_owned());
                let config = &self.shared.config;
                let until = self.memory.borrow_mut().pulls.failed(
                    name,
                    &text,
                    config.backoff_initial,
                    config.backoff_max,
                    actors::time::now(),
                );
                // A short look in between turns the reason into ImagePullBackOff.
                let soon = until.min(actors::time::now() + RETRY_PAUSE * 2);
                Ok(Err((("ErrImagePull".to_owned(), text), Some(soon))))
            }
        }
    }

    async fn credentials(
        &self,
        owner: &Pod,
        image: &str,
    ) -> Result<Vec<crate::runtime::RegistryAuth>, SyncError> {
        let names: Vec<String> = owner
            .spec
            .iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten())
            .map(|r| r.name.clone())
            .filter(|n| !n.is_empty())
            .collect();
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let found = self.shared.objects.all(Kind::Secret, namespace, &names, &self.uid).await?;
        let secrets: Vec<payload::Data> =
            found.into_values().flatten().map(|d| payload::Data::clone(&d)).collect();
        Ok(images::credentials(image, &secrets))
    }

    /// Configures, creates and starts. The inner error is the container's waiting reason.
    async fn launch(
        &self,
        owner: &Pod,
        sandbox: &str,
        start: &Start,
        container: &Container,
        image: &crate::runtime::Image,
    ) -> Result<Result<(), Waiting>, SyncError> {
        let runtime = &self.shared.runtime;
        let config_error = |why: String| Ok(Err(("CreateContainerConfigError".to_owned(), why)));
        let environment = match self.environment(owner, container).await? {
            Ok(environment) => environment,
            Err(e) => return config_error(e.0),
        };
        let mounts = match self.mounts(owner, container, start.attempt, &environment).await {
            Ok(mounts) => mounts,
            Err(why) => return config_error(why),
        };
        let identity = pod::identity(owner);
        let shared = &self.shared;
        let parts = container::Parts {
            owner,
            container,
            start,
            image,
            environment,
            mounts,
            limits: container::limits(
                owner,
                container,
                shared.memory_bytes,
                shared.config.pod_pids_max,
                &shared.cgroup_of(owner),
            ),
            log_path: shared.logs.file(&identity, &container.name, start.attempt).display().to_string(),
        };
        let config = match container::config(parts) {
            Ok(config) => config,
            Err(e) => return config_error(e.0),
        };
        let of = Some(container.name.as_str());
        let id = match self.step(owner, "create container", runtime.create_container(sandbox, &config)).await
        {
            Ok(id) => id,
            Err(RuntimeError::Unavailable(e)) => return Err(RuntimeError::Unavailable(e).into()),
            Err(e) => return Ok(Err(("CreateContainerError".to_owned(), e.to_string()))),
        };
        self.note(owner, of, false, "Created", "Container created".to_owned());
        match self.step(owner, "start container", runtime.start(&id)).await {
            Ok(()) => {}
            Err(RuntimeError::Unavailable(e)) => return Err(RuntimeError::Unavailable(e).into()),
            Err(e) => {
                let text = format!("failed to start container \"{}\": {e}", container.name);
                return Ok(Err(("RunContainerError".to_owned(), text)));
            }
        }
        self.note(owner, of, false, "Started", "Container started".to_owned());
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        if let Some(hook) = hook {
            let ip = self.ips().first().cloned().unwrap_or_default();
            let target = probe::Target { runtime: runtime.as_ref(), id: &id, container, ip: &ip };
            if let Err(why) = target.hook(hook, Duration::from_secs(600)).await {
                self.note(owner, of, true, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
                self.note(owner, of, false, "Killing", "FailedPostStartHook".to_owned());
                runtime.stop(&id, pod::grace_period(owner)).await?;
                return Ok(Err(("PostStartHookError".to_owned(), "PostStartHook failed".to_owned())));
            }
        }
        Ok(Ok(()))
    }

    async fn environment(
        &self,
        owner: &Pod,
        container: &Container,
    ) -> Result<Result<Vec<(String, String)>, environment::ConfigError>, SyncError> {
        if !self.shared.runtime.is_real() {
            return Ok(Ok(Vec::new()));
        }
        let (maps, secrets) = environment::references(container);
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let objects = &self.shared.objects;
        let maps = objects.all(Kind::ConfigMap, namespace, &maps, &self.uid).await?;
        let secrets = objects.all(Kind::Secret, namespace, &secrets, &self.uid).await?;
        let mut sources = self.sources();
        let Some(services) = self.services(owner, namespace).await else {
            let why = "services have not yet been read at least once, cannot construct envvars";
            return Ok(Err(environment::ConfigError(why.to_owned())));
        };
        sources.services = services;
        let texts = |data: &payload::Data| {
            // Binary values are no environment; upstream leaves them out too.
            data.iter()
                .filter_map(|(k, v)| Some((k.clone(), String::from_utf8(v.clone()).ok()?)))
                .collect::<BTreeMap<_, _>>()
        };
        sources.config_maps = maps.into_iter().map(|(n, d)| (n, d.as_deref().map(texts))).collect();
        sources.secrets =
            secrets.into_iter().map(|(n, d)| (n, d.map(|d| payload::Data::clone(&d)))).collect();
        Ok(environment::environment(owner, container, &sources))
    }

    /// The Services that the container's environment names; `None` while they are not known.
    async fn services(&self, owner: &Pod, namespace: &str) -> Option<Vec<Arc<Service>>> {
        if pod::is_static(owner) {
            // Static pods must start while there is no API to ask.
            return Some(Vec::new());
        }
        let services = &self.shared.services;
        if !services.known().await {
            return None;
        }
        let mut found: Vec<_> = services.get("default", "kubernetes").into_iter().collect();
        if owner.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true) {
            found.extend(services.of(namespace));
        }
        Some(found)
    }

    /// The container's volumes, its hosts file and the file for its last words.
    async fn mounts(
        &self,
        owner: &Pod,
        container: &Container,
        attempt: u32,
        environment: &[(String, String)],
    ) -> Result<Vec<crate::runtime::Mount>, String> {
        if !self.shared.runtime.is_real() {
            return Ok(Vec::new());
        }
        let mounted = self.memory.borrow().mounted.clone().unwrap_or_default();
        let pod_dir = self.shared.volumes.pod_dir(&self.uid);
        let words = self.last_words_file(&container.name, attempt);
        let default = k8s_openapi::api::core::v1::PodSpec::default();
        let spec = owner.spec.as_ref().unwrap_or(&default);
        let config = &self.shared.config;
        let host = std::path::Path::new("/etc/hosts");
        let host = if pod::host_network(spec) {
            tokio::fs::read_to_string(host).await.unwrap_or_default()
        } else {
            String::new()
        };
        let hosts = network_files::hosts(
            spec,
            &self.ips(),
            &pod::hostname(owner, &config.hostname),
            owner.metadata.namespace.as_deref().unwrap_or_default(),
            &config.cluster_domain,
            &host,
        );
        let container = container.clone();
        let environment = environment.to_vec();
        let work = move || {
            let expand = |text: &str| {
                environment::expand(text, |n| {
                    environment.iter().find(|(k, _)| k == n).map(|(_, v)| v.as_str())
                })
            };
            let wanted = container.volume_mounts.clone().unwrap_or_default();
            let mut mounts = Volumes::bind_mounts(&wanted, &mounted, expand)?;
            let io_text = |e: std::io::Error| e.to_string();
            let mut add = |host: &std::path::Path, inside: &str| {
                if !wanted.iter().any(|m| m.mount_path == inside) {
                    mounts.push(crate::runtime::Mount {
                        host_path: host.display().to_string(),
                        container_path: inside.to_owned(),
                        ..Default::default()
                    });
                }
            };
            let hosts_file = pod_dir.join("etc-hosts");
            if let Some(dir) = words.parent() {
                std::fs::create_dir_all(dir).map_err(io_text)?;
            }
            std::fs::write(&hosts_file, hosts).map_err(io_text)?;
            add(&hosts_file, "/etc/hosts");
            std::fs::write(&words, "").map_err(io_text)?;
            // Whatever user the container runs as may leave its last words.
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(&words, open).map_err(io_text)?;
            add(&words, container::termination_path(&container));
            Ok(mounts)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    }
}
