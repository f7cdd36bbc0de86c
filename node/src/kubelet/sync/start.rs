//! A container: what it is made of, and its start.

use super::*;

impl Sync {
    pub(super) fn ips(&self) -> Vec<String> {
        self.memory.borrow().addresses.as_ref().map(|(_, ips)| ips.clone()).unwrap_or_default()
    }

    pub(super) fn sources(&self) -> Sources {
        Sources {
            pod_ips: self.ips(),
            host_ips: self.shared.config.node_ips(),
            node_name: self.shared.config.node_name.clone(),
            allocatable: self.shared.allocatable.clone(),
            ..Sources::default()
        }
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
