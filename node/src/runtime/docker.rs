//! Docker Engine by its HTTP API, spoken down to version 1.41 (Docker 20.10).
//!
//! Nothing here remembers containers: what exists is asked of the engine each time, by labels. One
//! engine may serve several nodes (tests do that), so every container carries its node's *scope* and
//! every list is restricted to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters as query;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::{
    ContainerConfig, ContainerInfo, ContainerRuntime, ContainerState, ContainerStats, ExecConfig, Image,
    LogLine, Output, RegistryAuth, Result, RuntimeError, RuntimeEvent, RuntimeEventKind, RuntimeVersion,
    SandboxConfig, Session, Signal, cgroup, clock, labels, pause,
};

mod convert;
#[cfg(test)]
mod tests;

/// Requests that end by themselves must do so within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A Docker engine, seen by one node.
pub struct DockerRuntime {
    docker: Docker,
    scope: String,
    /// The engine may not lower OOM scores (it lacks CAP_SYS_RESOURCE): negative ones become 0.
    no_negative_oom: Arc<AtomicBool>,
}

impl From<Error> for RuntimeError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => RuntimeError::NotFound(message),
            Error::DockerResponseServerError { status_code: 409, message } => RuntimeError::Conflict(message),
            Error::DockerResponseServerError { message, .. } => {
                RuntimeError::Refused(format!("Error response from daemon: {message}"))
            }
            Error::DockerStreamError { error } => RuntimeError::Refused(error),
            Error::DockerContainerWaitError { error, .. } => RuntimeError::Refused(error),
            other => RuntimeError::Unavailable(other.to_string()),
        }
    }
}

impl DockerRuntime {
    /// Connects to the local engine and agrees on an API version. `scope` separates this node's
    /// containers from those of other nodes on the same engine.
    pub async fn connect(scope: &str) -> Result<Self> {
        let docker = Docker::connect_with_local_defaults()?.with_timeout(REQUEST_TIMEOUT);
        let docker = docker.negotiate_version().await?;
        let no_negative_oom = Arc::new(AtomicBool::new(!cgroup::has_sys_resource()));
        Ok(DockerRuntime { docker, scope: scope.to_owned(), no_negative_oom })
    }

    /// Puts the built-in pause image into the engine, unless it is there.
    pub async fn ensure_pause_image(&self) -> Result<()> {
        if self.image(pause::IMAGE).await?.is_some() {
            return Ok(());
        }
        self.import_image(pause::IMAGE, pause::archive(), &["ENTRYPOINT [\"/pause\"]".to_owned()]).await
    }

    /// Makes an image of a root file system given as a tar archive; `changes` are Dockerfile instructions.
    pub async fn import_image(&self, name: &str, archive: Vec<u8>, changes: &[String]) -> Result<()> {
        let (repo, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        // bollard writes `changes` as a list that this API version does not read, so that the request
        // carries one instruction per repeated parameter only when there is one; join is understood too.
        let options = query::CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            changes: changes.to_vec(),
            ..query::CreateImageOptions::default()
        };
        let body = bollard::body_full(archive.into());
        self.docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    fn oom_score(&self, wanted: i64) -> i64 {
        if self.no_negative_oom.load(Ordering::Relaxed) { wanted.max(0) } else { wanted }
    }

    /// Creates a container; a left-over of the same name (a crash between create and note) is replaced.
    async fn create(&self, name: &str, body: bollard::models::ContainerCreateBody) -> Result<String> {
        let options = query::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        match self.docker.create_container(Some(options.clone()), body.clone()).await {
            Ok(created) => Ok(created.id),
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                self.remove(name).await?;
                Ok(self.docker.create_container(Some(options), body).await?.id)
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn pid(&self, id: &str) -> Result<u32> {
        match self.inspect(id).await?.pid {
            0 => Err(RuntimeError::Conflict(format!("container {id} is not running"))),
            pid => Ok(pid),
        }
    }
}

fn output(item: std::result::Result<LogOutput, Error>) -> Result<Output> {
    Ok(match item? {
        LogOutput::StdErr { message } => Output::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Output::Stdout(message)
        }
    })
}

#[async_trait]
impl ContainerRuntime for DockerRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        let version = self.docker.version().await?;
        let info = self.docker.info().await?;
        Ok(RuntimeVersion {
            name: "docker".to_owned(),
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            os_image: info.operating_system.unwrap_or_default(),
            systemd_cgroups: matches!(
                info.cgroup_driver,
                Some(bollard::models::SystemInfoCgroupDriverEnum::SYSTEMD)
            ),
        })
    }

    async fn images(&self) -> Result<Vec<Image>> {
        let images = self.docker.list_images(None::<query::ListImagesOptions>).await?;
        Ok(images.into_iter().map(convert::image_summary).collect())
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        match self.docker.inspect_image(name).await {
            Ok(image) => Ok(Some(convert::image(image))),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            // A name that the engine cannot parse is one that it does not have.
            Err(Error::DockerResponseServerError { status_code: 400, .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn pull(&self, name: &str, auth: Option<&RegistryAuth>) -> Result<Image> {
        let credentials = auth.map(|a| DockerCredentials {
            username: (!a.username.is_empty()).then(|| a.username.clone()),
            password: (!a.password.is_empty()).then(|| a.password.clone()),
            serveraddress: (!a.server.is_empty()).then(|| a.server.clone()),
            identitytoken: (!a.identity_token.is_empty()).then(|| a.identity_token.clone()),
            ..DockerCredentials::default()
        });
        let options = query::CreateImageOptions { from_image: Some(name.to_owned()), ..Default::default() };
        let mut progress = self.docker.create_image(Some(options), None, credentials);
        while progress.try_next().await?.is_some() {}
        self.image(name).await?.ok_or_else(|| RuntimeError::NotFound(format!("No such image: {name}")))
    }

    async fn remove_image(&self, id: &str) -> Result<()> {
        match self.docker.remove_image(id, None::<query::RemoveImageOptions>, None).await {
            Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<String> {
        let name = labels::container_name("POD", &config.pod, config.attempt);
        let oom = self.oom_score(-998);
        let id = self.create(&name, convert::sandbox(config, &self.scope, oom)).await?;
        self.start(&id).await?;
        if let Some(text) = &config.resolv_conf {
            // The engine writes its own resolv.conf for a sandbox without a network; containers that join
            // the sandbox mount this same file.
            let inspected =
                self.docker.inspect_container(&id, None::<query::InspectContainerOptions>).await?;
            if let Some(path) = inspected.resolv_conf_path.filter(|p| !p.is_empty()) {
                tokio::fs::write(&path, text)
                    .await
                    .map_err(|e| RuntimeError::Refused(format!("cannot write {path}: {e}")))?;
            }
        }
        Ok(id)
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<String> {
        let name = labels::container_name(&config.name, &config.pod, config.attempt);
        let oom = self.oom_score(config.limits.oom_score_adj);
        self.create(&name, convert::container(sandbox, config, &self.scope, oom)).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        match self.docker.start_container(id, None::<query::StartContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(e) => {
                let error = RuntimeError::from(e);
                if error.to_string().contains("oom_score_adj") {
                    // The kubelet tries again after its back-off, then with a score that is allowed.
                    self.no_negative_oom.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let patient = self.docker.clone().with_timeout(grace + REQUEST_TIMEOUT);
        let options = query::StopContainerOptions { t: Some(seconds), signal: None };
        match patient.stop_container(id, Some(options)).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn kill(&self, id: &str, signal: Signal) -> Result<()> {
        let options = query::KillContainerOptions { signal: signal.to_string() };
        Ok(self.docker.kill_container(id, Some(options)).await?)
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let options = query::RemoveContainerOptions { force: true, v: true, link: false };
        match self.docker.remove_container(id, Some(options)).await {
            // 409: a removal of it is under way already.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn list(&self, wanted: &[(&str, &str)]) -> Result<Vec<ContainerInfo>> {
        let mut filters = vec![format!("{}={}", labels::SCOPE, self.scope)];
        filters.extend(wanted.iter().map(|(key, value)| format!("{key}={value}")));
        let options = query::ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), filters)])),
            ..Default::default()
        };
        let found = self.docker.list_containers(Some(options)).await?;
        Ok(found.into_iter().map(convert::summary).collect())
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInfo> {
        let found = self.docker.inspect_container(id, None::<query::InspectContainerOptions>).await?;
        Ok(convert::info(found))
    }

    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![format!("{}={}", labels::SCOPE, self.scope)]),
            ("event".to_owned(), ["start", "die", "destroy", "oom"].map(str::to_owned).to_vec()),
        ]);
        // The request leaves when the stream is first polled; `since` makes it begin here nevertheless.
        let since = clock::timestamp(std::time::SystemTime::now());
        let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
        let options =
            query::EventsOptions { since: Some(since), filters: Some(filters), ..Default::default() };
        let events = self.docker.events(Some(options));
        Ok(events
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(|event| std::future::ready(event.ok().and_then(convert::event)))
            .boxed())
    }

    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session> {
        let options = CreateExecOptions {
            attach_stdin: Some(config.stdin),
            attach_stdout: Some(config.stdout),
            attach_stderr: Some(config.stderr && !config.tty),
            tty: Some(config.tty),
            cmd: Some(config.command.clone()),
            ..CreateExecOptions::default()
        };
        let exec = self.docker.create_exec(id, options).await?.id;
        let start = StartExecOptions { detach: false, tty: config.tty, output_capacity: Some(64 << 10) };
        match self.docker.start_exec(&exec, Some(start)).await? {
            StartExecResults::Attached { output: stream, input } => {
                Ok(Session { id: exec, output: stream.map(output).boxed(), input })
            }
            StartExecResults::Detached => {
                Err(RuntimeError::Refused("the engine detached the command".to_owned()))
            }
        }
    }

    async fn exit_code(&self, exec: &str) -> Result<Option<i32>> {
        let found = self.docker.inspect_exec(exec).await?;
        if found.running == Some(true) {
            return Ok(None);
        }
        Ok(found.exit_code.map(|code| i32::try_from(code).unwrap_or(-1)))
    }

    async fn resize(&self, id: &str, exec: bool, width: u16, height: u16) -> Result<()> {
        if exec {
            Ok(self.docker.resize_exec(id, ResizeExecOptions { height, width }).await?)
        } else {
            let options = query::ResizeContainerTTYOptions { h: i32::from(height), w: i32::from(width) };
            Ok(self.docker.resize_container_tty(id, options).await?)
        }
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<Session> {
        let options = query::AttachContainerOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            ..query::AttachContainerOptions::default()
        };
        let attached = self.docker.attach_container(id, Some(options)).await?;
        Ok(Session { id: id.to_owned(), output: attached.output.map(output).boxed(), input: attached.input })
    }

    async fn logs(&self, id: &str, since: &str, follow: bool) -> Result<BoxStream<'static, Result<LogLine>>> {
        let since_seconds = convert::unix_seconds(since);
        let options = query::LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            since: since_seconds,
            timestamps: true,
            tail: "all".to_owned(),
            ..query::LogsOptions::default()
        };
        let since = since.to_owned();
        // The API takes whole seconds here, so that up to a second is read again and dropped.
        Ok(self
            .docker
            .logs(id, Some(options))
            .map(|item| item.map_err(RuntimeError::from).map(convert::log_line))
            .try_filter(move |line| {
                std::future::ready(since.is_empty() || convert::not_before(&line.time, &since))
            })
            .boxed())
    }

    async fn stats(&self, id: &str) -> Result<ContainerStats> {
        let pid = self.pid(id).await?;
        tokio::task::spawn_blocking(move || cgroup::stats(pid))
            .await
            .map_err(|e| RuntimeError::Unavailable(e.to_string()))?
            .map_err(|e| RuntimeError::NotFound(format!("no cgroup of pid {pid}: {e}")))
    }

    async fn netns(&self, sandbox: &str) -> Result<Option<String>> {
        Ok(Some(format!("/proc/{}/ns/net", self.pid(sandbox).await?)))
    }
}

/// The kinds of event that the engine is asked for.
fn event_kind(action: &str) -> Option<RuntimeEventKind> {
    match action {
        "start" => Some(RuntimeEventKind::Started),
        "die" => Some(RuntimeEventKind::Died),
        "destroy" => Some(RuntimeEventKind::Removed),
        "oom" => Some(RuntimeEventKind::OutOfMemory),
        _ => None,
    }
}

/// Life as the engine spells it.
fn state(status: &str) -> ContainerState {
    match status {
        "created" => ContainerState::Created,
        "running" | "paused" | "restarting" => ContainerState::Running,
        _ => ContainerState::Exited,
    }
}
