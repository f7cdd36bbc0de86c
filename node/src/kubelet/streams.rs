//! Streams into running pods: exec, attach, port-forward and logs.
//!
//! Plain functions over the runtime, without actors: the node's link and the kubelet's HTTP port both
//! carry these to whoever asked. Every channel is bounded; a client that reads slowly slows the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::logs::{self, LogOptions};
use crate::runtime::{
    ContainerInfo, ContainerRuntime, ContainerState, ExecConfig, Output, RuntimeError, Session, labels,
};

/// Frames that may wait in either direction of a stream.
const FRAMES_MAX: usize = 32;

/// Which container is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid; empty for whichever pod has that name now.
    pub uid: String,
    /// The container; empty is fine where the pod has only one.
    pub container: String,
}

/// From the client to the process.
#[derive(Clone, Debug, PartialEq)]
pub enum InputFrame {
    /// Bytes for its stdin.
    Stdin(Bytes),
    /// Its stdin ends.
    Eof,
    /// The client's terminal has this size.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// From the process to the client. [`OutputFrame::Exit`] or [`OutputFrame::Failed`] is the last one.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputFrame {
    /// Bytes from its stdout, or its terminal.
    Stdout(Bytes),
    /// Bytes from its stderr.
    Stderr(Bytes),
    /// It ended with this code (0 too for an attached client that was let go).
    Exit(i32),
    /// The stream broke.
    Failed(String),
}

/// Both directions of a running command. Dropping it hangs up.
pub struct Duplex {
    /// Towards the process.
    pub input: mpsc::Sender<InputFrame>,
    /// From the process.
    pub output: mpsc::Receiver<OutputFrame>,
}

/// How a command or an attach is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// Connect stdin.
    pub stdin: bool,
    /// Connect stdout.
    pub stdout: bool,
    /// Connect stderr.
    pub stderr: bool,
    /// Use a terminal (attach: as the container itself does).
    pub tty: bool,
}

/// Why no stream was opened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StreamError {
    /// No such pod or container on this node.
    #[error("{0}")]
    NotFound(String),
    /// It exists but this cannot be done with it now.
    #[error("{0}")]
    BadRequest(String),
    /// The engine refused or is away.
    #[error("{0}")]
    Internal(String),
}

impl From<RuntimeError> for StreamError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::NotFound(why) => StreamError::NotFound(why),
            other => StreamError::Internal(other.to_string()),
        }
    }
}

/// A connection into a pod.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens streams into this node's pods. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    runtime: Arc<dyn ContainerRuntime>,
    logs: logs::Paths,
}

impl Streams {
    /// Streams over `runtime`; logs are read from `logs`.
    pub fn new(runtime: Arc<dyn ContainerRuntime>, logs: logs::Paths) -> Self {
        Streams { runtime, logs }
    }

    /// Runs a command in a running container.
    pub async fn exec(
        &self,
        target: &ContainerRef,
        command: Vec<String>,
        connect: Connect,
    ) -> Result<Duplex, StreamError> {
        let container = self.running(target).await?;
        let config = ExecConfig {
            command,
            tty: connect.tty,
            stdin: connect.stdin,
            stdout: connect.stdout,
            stderr: connect.stderr && !connect.tty,
        };
        let session = self.runtime.exec(&container.id, &config).await?;
        Ok(self.pump(session, connect.stdin, true))
    }

    /// Connects to a running container's own streams.
    pub async fn attach(&self, target: &ContainerRef, connect: Connect) -> Result<Duplex, StreamError> {
        let container = self.running(target).await?;
        let stdin = connect.stdin && container.stdin;
        let session = self.runtime.attach(&container.id, stdin).await?;
        Ok(self.pump(session, stdin, false))
    }

    /// Connects to a port that something in the pod listens on, even on its loopback only.
    pub async fn port_forward(
        &self,
        target: &ContainerRef,
        port: u16,
    ) -> Result<Box<dyn Connection>, StreamError> {
        let sandbox = self
            .containers(target)
            .await?
            .into_iter()
            .find(|c| c.is_sandbox() && c.state == ContainerState::Running)
            .ok_or_else(|| StreamError::NotFound(format!("pod {} is not running", target.pod)))?;
        let netns = self.runtime.netns(&sandbox.id).await?;
        let stream = connect_in(netns, port).await.map_err(|e| {
            StreamError::Internal(format!(
                "failed to connect to localhost:{port} inside namespace \"{}\": {e}",
                sandbox.pod().uid
            ))
        })?;
        Ok(Box::new(stream))
    }

    /// A container's log, from its file on this node.
    pub async fn logs(
        &self,
        target: &ContainerRef,
        options: LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, StreamError> {
        let mut containers: Vec<_> =
            self.containers(target).await?.into_iter().filter(|c| !c.is_sandbox()).collect();
        containers.retain(|c| target.container.is_empty() || c.name() == target.container);
        containers.sort_by_key(|c| (c.name().to_owned(), c.attempt()));
        let chosen = if options.previous {
            containers.pop();
            containers.pop().ok_or_else(|| {
                StreamError::BadRequest(format!(
                    "previous terminated container \"{}\" in pod \"{}\" not found",
                    target.container, target.pod
                ))
            })?
        } else {
            containers.pop().ok_or_else(|| {
                StreamError::BadRequest(format!(
                    "container \"{}\" in pod \"{}\" is not available",
                    target.container, target.pod
                ))
            })?
        };
        let path = self.logs.file(&chosen.pod(), chosen.name(), chosen.attempt());
        let runtime = self.runtime.clone();
        let id = chosen.id;
        let ended = move || {
            let runtime = runtime.clone();
            let id = id.clone();
            async move { !matches!(runtime.inspect(&id).await, Ok(c) if c.state == ContainerState::Running) }
        };
        Ok(logs::read(path, options, ended).boxed())
    }

    /// This node's containers and sandboxes of a pod.
    async fn containers(&self, target: &ContainerRef) -> Result<Vec<ContainerInfo>, StreamError> {
        let mut wanted = vec![(labels::POD_NAMESPACE, target.namespace.as_str()), (labels::POD_NAME, target.pod.as_str())];
        if !target.uid.is_empty() {
            wanted.push((labels::POD_UID, target.uid.as_str()));
        }
        let found = self.runtime.list(&wanted).await?;
        if found.is_empty() {
            return Err(StreamError::NotFound(format!(
                "pod \"{}\" does not exist on this node",
                target.pod
            )));
        }
        Ok(found)
    }

    async fn running(&self, target: &ContainerRef) -> Result<ContainerInfo, StreamError> {
        let mut running: Vec<_> = self
            .containers(target)
            .await?
            .into_iter()
            .filter(|c| !c.is_sandbox() && c.state == ContainerState::Running)
            .filter(|c| target.container.is_empty() || c.name() == target.container)
            .collect();
        match running.len() {
            1 => self.runtime.inspect(&running.remove(0).id).await.map_err(StreamError::from),
            0 => Err(StreamError::NotFound(format!("container not found (\"{}\")", target.container))),
            _ => Err(StreamError::BadRequest(format!(
                "a container name must be specified for pod {}",
                target.pod
            ))),
        }
    }

    /// Moves frames between the client's channels and a session, in a task that ends with either.
    fn pump(&self, session: Session, stdin: bool, exec: bool) -> Duplex {
        let (input, mut frames) = mpsc::channel::<InputFrame>(FRAMES_MAX);
        let (to_client, output) = mpsc::channel(FRAMES_MAX);
        let runtime = self.runtime.clone();
        let Session { id, output: mut from_process, input: mut to_process } = session;
        let resizer = (runtime.clone(), id.clone());
        let inward = async move {
            let mut open = stdin;
            while let Some(frame) = frames.recv().await {
                match frame {
                    InputFrame::Stdin(bytes) if open => {
                        open = to_process.write_all(&bytes).await.is_ok() && to_process.flush().await.is_ok();
                    }
                    InputFrame::Eof if open => {
                        let _ = to_process.shutdown().await;
                        open = false;
                    }
                    InputFrame::Resize { width, height } => {
                        let _ = resizer.0.resize(&resizer.1, exec, width, height).await;
                    }
                    InputFrame::Stdin(_) | InputFrame::Eof => {}
                }
            }
            // The client hung up: the process sees the end of its input.
            let _ = to_process.shutdown().await;
        };
        let outward = async move {
            let closed = to_client.clone();
            let work = async {
                while let Some(piece) = from_process.next().await {
                    let frame = match piece {
                        Ok(Output::Stdout(bytes)) => OutputFrame::Stdout(bytes),
                        Ok(Output::Stderr(bytes)) => OutputFrame::Stderr(bytes),
                        Err(e) => OutputFrame::Failed(e.to_string()),
                    };
                    let last = matches!(frame, OutputFrame::Failed(_));
                    if to_client.send(frame).await.is_err() || last {
                        return;
                    }
                }
                let code = if exec { final_code(runtime.as_ref(), &id).await } else { Ok(0) };
                let frame = match code {
                    Ok(code) => OutputFrame::Exit(code),
                    Err(e) => OutputFrame::Failed(e.to_string()),
                };
                let _ = to_client.send(frame).await;
            };
            tokio::select! {
                () = work => {}
                () = closed.closed() => {}
            }
        };
        tokio::spawn(async move {
            tokio::pin!(inward, outward);
            tokio::select! {
                () = &mut outward => {}
                () = &mut inward => outward.await,
            }
        });
        Duplex { input, output }
    }
}

/// The engine notes the exit code a moment after the output's end.
async fn final_code(runtime: &dyn ContainerRuntime, exec: &str) -> Result<i32, RuntimeError> {
    for wait_ms in [0, 5, 10, 20, 50, 100, 200, 400, 800, 1600] {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        if let Some(code) = runtime.exit_code(exec).await? {
            return Ok(code);
        }
    }
    Err(RuntimeError::Unavailable("the command's exit code stays unknown".to_owned()))
}

/// Connects to a port on loopback, inside a network namespace when one is given.
///
/// Namespaces belong to threads, and a thread that failed to come back must not serve anything else: so
/// it is a thread of its own, which lives for the connect only. The socket stays in the namespace.
async fn connect_in(netns: Option<String>, port: u16) -> std::io::Result<tokio::net::TcpStream> {
    let Some(netns) = netns else {
        return tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    };
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        let connect = || -> std::io::Result<std::net::TcpStream> {
            let namespace = std::fs::File::open(&netns)?;
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let timeout = Duration::from_secs(10);
            let v4 = SocketAddr::from(([127, 0, 0, 1], port));
            std::net::TcpStream::connect_timeout(&v4, timeout).or_else(|e| {
                let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
                std::net::TcpStream::connect_timeout(&v6, timeout).map_err(|_| e)
            })
        };
        let _ = done.send(connect());
    })?;
    let stream = result.await.map_err(|_| std::io::Error::other("the connecting thread ended early"))??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}
