//! A runtime without an engine, for tests and for clusters of thousands of nodes in one process.
//!
//! Containers are entries in a table; time passes by tokio's clock, so that tests on virtual time see
//! starts and exits exactly when their scripts say. A script is the image's name after the last `/`:
//! `exit-<code>-after-<seconds>` ends by itself, `slow-<seconds>` starts late, `stubborn` ignores a polite
//! stop, `absent…` cannot be pulled; anything else runs until it is stopped. Commands named `fail` exit with 1.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};

use super::{
    ContainerConfig, ContainerInfo, ContainerRuntime, ContainerState, ContainerStats, ExecConfig, Image,
    LogLine, RegistryAuth, Result, RuntimeError, RuntimeEvent, RuntimeEventKind, RuntimeVersion,
    SandboxConfig, Session, Signal, labels,
};

/// Events that a slow reader may lag behind; then its stream ends and it lists again.
const EVENTS_MAX: usize = 1024;
/// Exit code of a container that was killed.
const KILLED: i32 = 137;
/// Exit code of a container that was stopped politely and had no handler.
const STOPPED: i32 = 143;

#[derive(Default)]
struct Table {
    containers: HashMap<String, ContainerInfo>,
    feeds: HashMap<String, mpsc::Receiver<LogLine>>,
    execs: HashMap<String, i32>,
    pulled: BTreeMap<String, Image>,
    /// How often each exec command ran, by its first word: what probes did.
    commands: HashMap<String, u64>,
    /// Commands that answer other than their name says.
    answers: HashMap<String, i32>,
    next: u64,
    /// Containers ever started.
    starts: u64,
}

struct Shared {
    table: Mutex<Table>,
    events: broadcast::Sender<RuntimeEvent>,
}

/// The simulated engine. Cloning shares it, which is how a restarted kubelet finds its containers.
#[derive(Clone)]
pub struct SimulatedRuntime {
    shared: Arc<Shared>,
    start_delay: Duration,
}

impl Default for SimulatedRuntime {
    fn default() -> Self {
        SimulatedRuntime::new(Duration::ZERO)
    }
}

/// What an image's name says that its containers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Script {
    exit: Option<(i32, Duration)>,
    slow: Duration,
    stubborn: bool,
    absent: bool,
}

impl Script {
    fn of(image: &str) -> Script {
        // Containers are made from image ids, which here are the names behind a prefix.
        let image = image.strip_prefix("sha256:").unwrap_or(image);
        let name = image.rsplit('/').next().unwrap_or(image);
        let name = name.split(':').next().unwrap_or(name);
        let mut script = Script { absent: name.starts_with("absent"), ..Script::default() };
        if let Some(rest) = name.strip_prefix("exit-") {
            let (code, after) = rest.split_once("-after-").unwrap_or((rest, "0"));
            let after = Duration::from_secs(after.parse().unwrap_or(0));
            script.exit = code.parse().ok().map(|code| (code, after));
        }
        if let Some(seconds) = name.strip_prefix("slow-") {
            script.slow = Duration::from_secs(seconds.parse().unwrap_or(0));
        }
        script.stubborn = name == "stubborn";
        script
    }
}

impl SimulatedRuntime {
    /// An engine whose containers take `start_delay` to start.
    pub fn new(start_delay: Duration) -> Self {
        let (events, _) = broadcast::channel(EVENTS_MAX);
        SimulatedRuntime { shared: Arc::new(Shared { table: Mutex::default(), events }), start_delay }
    }

    /// Containers ever started, sandboxes included.
    pub fn starts(&self) -> u64 {
        self.shared.table.lock().starts
    }

    /// How often a command was run.
    pub fn runs_of(&self, command: &str) -> u64 {
        self.shared.table.lock().commands.get(command).copied().unwrap_or(0)
    }

    /// From now on a command exits with `code`.
    pub fn answer(&self, command: &str, code: i32) {
        self.shared.table.lock().answers.insert(command.to_owned(), code);
    }

    /// Ends a running container as a crash does.
    pub fn crash(&self, id: &str, code: i32) {
        self.shared.end(id, code);
    }

    /// A running container whose output the caller feeds; it ends when the feed is dropped.
    pub fn logging_container(&self, name: &str) -> (ContainerInfo, mpsc::Sender<LogLine>) {
        let pod = super::PodIdentity { namespace: "test".into(), name: name.into(), uid: "uid".into() };
        let config = ContainerConfig { pod, name: name.to_owned(), ..ContainerConfig::default() };
        let (send, receive) = mpsc::channel(1);
        let id =
            self.shared.add("", &config.pod, &config.name, 0, labels::TYPE_CONTAINER, &config.labels, "x");
        let mut table = self.shared.table.lock();
        table.feeds.insert(id.clone(), receive);
        (table.containers[&id].clone(), send)
    }

    fn get(&self, id: &str) -> Result<ContainerInfo> {
        let table = self.shared.table.lock();
        table
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| RuntimeError::NotFound(format!("No such container: {id}")))
    }
}

impl Shared {
    #[allow(clippy::too_many_arguments)]
    fn add(
        &self,
        sandbox: &str,
        pod: &super::PodIdentity,
        name: &str,
        attempt: u32,
        kind: &str,
        given: &BTreeMap<String, String>,
        image: &str,
    ) -> String {
        let mut table = self.table.lock();
        table.next += 1;
        let id = format!("sim{:061}", table.next);
        let mut all = given.clone();
        for (key, value) in [
            (labels::TYPE, kind.to_owned()),
            (labels::CONTAINER_NAME, name.to_owned()),
            (labels::POD_NAME, pod.name.clone()),
            (labels::POD_NAMESPACE, pod.namespace.clone()),
            (labels::POD_UID, pod.uid.clone()),
            (labels::RESTART_COUNT, attempt.to_string()),
            (labels::SANDBOX_ID, sandbox.to_owned()),
        ] {
            all.insert(key.to_owned(), value);
        }
        let info = ContainerInfo {
            id: id.clone(),
            labels: all,
            state: ContainerState::Created,
            created_at: actors::time::now(),
            started_at: None,
            finished_at: None,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            image: image.to_owned(),
            image_id: format!("sha256:{}", image.trim_start_matches("sha256:")),
            pid: 0,
            tty: false,
            stdin: false,
            cgroup_parent: String::new(),
            signal: 0,
        };
        table.containers.insert(id.clone(), info);
        id
    }

    fn emit(&self, info: &ContainerInfo, kind: RuntimeEventKind) {
        let container = if info.is_sandbox() { String::new() } else { info.name().to_owned() };
        // Nobody may be listening.
        let _ =
            self.events.send(RuntimeEvent { id: info.id.clone(), pod_uid: info.pod().uid, container, kind });
    }

    fn end(&self, id: &str, code: i32) {
        let mut table = self.table.lock();
        let Some(info) = table.containers.get_mut(id).filter(|c| c.state == ContainerState::Running) else {
            return;
        };
        info.state = ContainerState::Exited;
        info.exit_code = code;
        info.finished_at = Some(actors::time::now());
        let info = info.clone();
        drop(table);
        self.emit(&info, RuntimeEventKind::Died);
    }

    fn image(&self, name: &str) -> Image {
        Image { id: format!("sha256:{name}"), tags: vec![name.to_owned()], size: 1 << 20, ..Image::default() }
    }
}

#[async_trait]
impl ContainerRuntime for SimulatedRuntime {
    fn is_real(&self) -> bool {
        false
    }

    async fn version(&self) -> Result<RuntimeVersion> {
        Ok(RuntimeVersion {
            name: "simulated".to_owned(),
            version: "1.0.0".to_owned(),
            api_version: "1".to_owned(),
            os_image: "simulated".to_owned(),
            systemd_cgroups: false,
        })
    }

    async fn images(&self) -> Result<Vec<Image>> {
        Ok(self.shared.table.lock().pulled.values().cloned().collect())
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.shared.table.lock().pulled.get(name).cloned())
    }

    async fn pull(&self, name: &str, _auth: Option<&RegistryAuth>) -> Result<Image> {
        if Script::of(name).absent {
            return Err(RuntimeError::NotFound(format!("pull access denied for {name}")));
        }
        let image = self.shared.image(name);
        self.shared.table.lock().pulled.insert(name.to_owned(), image.clone());
        Ok(image)
    }

    async fn remove_image(&self, id: &str) -> Result<()> {
        self.shared.table.lock().pulled.retain(|_, image| image.id != id);
        Ok(())
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<String> {
        let id = self.shared.add(
            "",
            &config.pod,
            "POD",
            config.attempt,
            labels::TYPE_SANDBOX,
            &config.labels,
            &config.image,
        );
        self.start(&id).await?;
        Ok(id)
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<String> {
        if self.get(sandbox)?.state != ContainerState::Running {
            return Err(RuntimeError::Conflict(format!("sandbox {sandbox} is not running")));
        }
        Ok(self.shared.add(
            sandbox,
            &config.pod,
            &config.name,
            config.attempt,
            labels::TYPE_CONTAINER,
            &config.labels,
            &config.image,
        ))
    }

    async fn start(&self, id: &str) -> Result<()> {
        let script = Script::of(&self.get(id)?.image);
        let delay = self.start_delay + script.slow;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let info = {
            let mut table = self.shared.table.lock();
            table.starts += 1;
            let starts = table.starts;
            let info = table
                .containers
                .get_mut(id)
                .ok_or_else(|| RuntimeError::NotFound(format!("No such container: {id}")))?;
            info.state = ContainerState::Running;
            info.started_at = Some(actors::time::now());
            info.pid = u32::try_from(starts).unwrap_or(u32::MAX);
            info.clone()
        };
        self.shared.emit(&info, RuntimeEventKind::Started);
        if let Some((code, after)) = script.exit {
            let (shared, id) = (self.shared.clone(), id.to_owned());
            actors::spawn(async move {
                tokio::time::sleep(after).await;
                shared.end(&id, code);
            });
        }
        Ok(())
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let Ok(info) = self.get(id) else { return Ok(()) };
        if Script::of(&info.image).stubborn && info.state == ContainerState::Running {
            let mut events = self.shared.events.subscribe();
            let died = async {
                while events.recv().await.is_ok_and(|e| e.id != id || e.kind != RuntimeEventKind::Died) {}
            };
            let _ = tokio::time::timeout(grace, died).await;
            self.shared.end(id, KILLED);
        } else {
            self.shared.end(id, STOPPED);
        }
        Ok(())
    }

    async fn kill(&self, id: &str, signal: Signal) -> Result<()> {
        self.get(id)?;
        self.shared.end(id, 128 + signal);
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.shared.end(id, KILLED);
        let gone = self.shared.table.lock().containers.remove(id);
        if let Some(info) = gone {
            self.shared.emit(&info, RuntimeEventKind::Removed);
        }
        Ok(())
    }

    async fn list(&self, wanted: &[(&str, &str)]) -> Result<Vec<ContainerInfo>> {
        let table = self.shared.table.lock();
        let fits = |c: &&ContainerInfo| wanted.iter().all(|(k, v)| c.labels.get(*k).is_some_and(|l| l == v));
        let mut found: Vec<_> = table.containers.values().filter(fits).cloned().collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInfo> {
        self.get(id)
    }

    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>> {
        let events = self.shared.events.subscribe();
        Ok(futures::stream::unfold(events, |mut events| async move {
            events.recv().await.ok().map(|event| (event, events))
        })
        .boxed())
    }

    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<Session> {
        if self.get(id)?.state != ContainerState::Running {
            return Err(RuntimeError::Conflict(format!("Container {id} is not running")));
        }
        let command = config.command.first().cloned().unwrap_or_default();
        let mut table = self.shared.table.lock();
        *table.commands.entry(command.clone()).or_default() += 1;
        let code = table.answers.get(&command).copied().unwrap_or(i32::from(command == "fail"));
        table.next += 1;
        let exec = format!("exec{}", table.next);
        table.execs.insert(exec.clone(), code);
        Ok(Session { id: exec, output: futures::stream::empty().boxed(), input: Box::pin(tokio::io::sink()) })
    }

    async fn exit_code(&self, exec: &str) -> Result<Option<i32>> {
        let code = self.shared.table.lock().execs.remove(exec);
        code.map(Some).ok_or_else(|| RuntimeError::NotFound(format!("No such exec instance: {exec}")))
    }

    async fn resize(&self, _id: &str, _exec: bool, _width: u16, _height: u16) -> Result<()> {
        Ok(())
    }

    async fn attach(&self, id: &str, _stdin: bool) -> Result<Session> {
        self.get(id)?;
        Ok(Session {
            id: id.to_owned(),
            output: futures::stream::empty().boxed(),
            input: Box::pin(tokio::io::sink()),
        })
    }

    async fn logs(
        &self,
        id: &str,
        _since: &str,
        _follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let feed = self.shared.table.lock().feeds.remove(id);
        Ok(match feed {
            Some(feed) => futures::stream::unfold(feed, |mut feed| async move {
                feed.recv().await.map(|line| (Ok(line), feed))
            })
            .boxed(),
            None => futures::stream::empty().boxed(),
        })
    }

    async fn stats(&self, id: &str) -> Result<ContainerStats> {
        let info = self.get(id)?;
        let age = |since: SystemTime| actors::time::now().duration_since(since).unwrap_or_default();
        let running = info.started_at.map(age).unwrap_or_default();
        // A steady hundredth of a core and a few MiB, so that scale runs show something.
        let cpu_nanos = u64::try_from(running.as_nanos() / 100).unwrap_or(u64::MAX);
        Ok(ContainerStats {
            cpu_nanos,
            memory_usage: 4 << 20,
            memory_working_set: 4 << 20,
            ..Default::default()
        })
    }

    async fn netns(&self, sandbox: &str) -> Result<Option<String>> {
        self.get(sandbox).map(|_| None)
    }
}
