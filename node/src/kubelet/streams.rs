//! Streams into running pods: exec, attach, port-forward and logs.
//!
//! Plain functions over the runtime, without actors: the node's link and the kubelet's HTTP port both
//! carry these to whoever asked. Every channel is bounded; a client that reads slowly slows the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use protocol::ApiError;
use protocol::streams::{
    AttachRequest, ContainerTarget, DialRequest, ExecRequest, FRAME_BYTES_MAX, Frame, FrameStream, LogBytes,
    LogRequest, NodeStreams, PortForwardRequest, exit_status, failure_status,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::logs::Logs;
use crate::runtime::{
    ContainerInfo, ContainerRuntime, ContainerState, ExecConfig, Output, RuntimeError, Session, labels,
};

/// How long a connect inside a pod may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens streams into this node's pods. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    runtime: Arc<dyn ContainerRuntime>,
    logs: Arc<Logs>,
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::NotFound(why) => ApiError::new(404, "NotFound", why),
            other => ApiError::internal(other),
        }
    }
}

impl Streams {
    /// Streams over `runtime`; logs are read from `logs`.
    pub fn new(runtime: Arc<dyn ContainerRuntime>, logs: Arc<Logs>) -> Self {
        Streams { runtime, logs }
    }

    /// This node's containers and sandboxes of a pod.
    async fn containers(&self, target: &ContainerTarget) -> Result<Vec<ContainerInfo>, ApiError> {
        let mut wanted =
            vec![(labels::POD_NAMESPACE, target.namespace.as_str()), (labels::POD_NAME, target.pod.as_str())];
        if !target.uid.is_empty() {
            wanted.push((labels::POD_UID, target.uid.as_str()));
        }
        let found = self.runtime.list(&wanted).await?;
        if found.is_empty() {
            return Err(ApiError::new(
                404,
                "NotFound",
                format!("pod does not exist: {}/{}", target.namespace, target.pod),
            ));
        }
        Ok(found)
    }

    /// The running container that is meant.
    async fn running(&self, target: &ContainerTarget) -> Result<ContainerInfo, ApiError> {
        let mut running: Vec<_> = self
            .containers(target)
            .await?
            .into_iter()
            .filter(|c| !c.is_sandbox() && c.state == ContainerState::Running)
            .filter(|c| target.container.is_empty() || c.name() == target.container)
            .collect();
        match running.len() {
            1 => Ok(self.runtime.inspect(&running.remove(0).id).await?),
            0 => Err(ApiError::internal(format!("container not found (\"{}\")", target.container))),
            _ => Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {}",
                target.pod
            ))),
        }
    }

    /// The container whose log is meant: the latest of its name, or the one before.
    async fn logged(&self, request: &LogRequest) -> Result<ContainerInfo, ApiError> {
        let target = &request.target;
        let mut containers: Vec<_> =
            self.containers(target).await?.into_iter().filter(|c| !c.is_sandbox()).collect();
        containers.retain(|c| target.container.is_empty() || c.name() == target.container);
        containers.sort_by_key(ContainerInfo::attempt);
        let what = |text: &str| {
            ApiError::bad_request(format!(
                "{text}container \"{}\" in pod \"{}\" {}",
                target.container,
                target.pod,
                if request.previous { "not found" } else { "is not available" }
            ))
        };
        if request.previous {
            containers.pop();
            return containers.pop().ok_or_else(|| what("previous terminated "));
        }
        containers.pop().ok_or_else(|| what(""))
    }

    /// Moves frames between a client and a session, in tasks that end with either.
    fn pump(&self, session: Session, stdin: bool, exec: bool) -> FrameStream {
        let (client, FrameStream { input: to_client, output: mut frames }) = FrameStream::pair();
        let runtime = self.runtime.clone();
        let Session { id, output: mut from_process, input: mut to_process } = session;
        let resizer = (runtime.clone(), id.clone());
        let inward = async move {
            let mut open = stdin;
            while let Some(frame) = frames.recv().await {
                match frame {
                    Frame::Stdin(bytes) if open => {
                        open = to_process.write_all(&bytes).await.is_ok() && to_process.flush().await.is_ok();
                    }
                    Frame::CloseStdin if open => {
                        let _ = to_process.shutdown().await;
                        open = false;
                    }
                    Frame::Resize { width, height } => {
                        let _ = resizer.0.resize(&resizer.1, exec, width, height).await;
                    }
                    _ => {}
                }
            }
            // The client hung up: the process sees the end of its input.
            if open {
                let _ = to_process.shutdown().await;
            }
            // Kept open until the output ends: without it the engine may hang up early.
            std::future::pending::<()>().await;
        };
        let outward = async move {
            let watched = to_client.clone();
            let work = async {
                let status = loop {
                    let (stderr, bytes) = match from_process.next().await {
                        Some(Ok(Output::Stdout(bytes))) => (false, bytes),
                        Some(Ok(Output::Stderr(bytes))) => (true, bytes),
                        Some(Err(e)) => break failure_status(&e.to_string()),
                        None if !exec => break exit_status(0),
                        None => match final_code(runtime.as_ref(), &id).await {
                            Ok(code) => break exit_status(i64::from(code)),
                            Err(e) => break failure_status(&e.to_string()),
                        },
                    };
                    if !send_in_pieces(&to_client, bytes, stderr).await {
                        return;
                    }
                };
                let _ = to_client.send(Frame::Error(text_of(&status))).await;
            };
            tokio::select! {
                () = work => {}
                () = watched.closed() => {}
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = outward => {}
                () = inward => {}
            }
        });
        client
    }
}

fn text_of(status: &Value) -> Bytes {
    Bytes::from(status.to_string())
}

/// Sends bytes as frames of the allowed size; `false` when the client has gone.
async fn send_in_pieces(client: &tokio::sync::mpsc::Sender<Frame>, mut bytes: Bytes, stderr: bool) -> bool {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(FRAME_BYTES_MAX));
        let frame = if stderr { Frame::Stderr(piece) } else { Frame::Stdout(piece) };
        if client.send(frame).await.is_err() {
            return false;
        }
    }
    true
}

#[async_trait]
impl NodeStreams for Streams {
    async fn exec(&self, _node: &str, request: ExecRequest) -> Result<FrameStream, ApiError> {
        let container = self.running(&request.target).await?;
        let stdio = request.stdio;
        let config = ExecConfig {
            command: request.command,
            tty: stdio.tty,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr && !stdio.tty,
        };
        let session = self.runtime.exec(&container.id, &config).await?;
        Ok(self.pump(session, stdio.stdin, true))
    }

    async fn attach(&self, _node: &str, request: AttachRequest) -> Result<FrameStream, ApiError> {
        let container = self.running(&request.target).await?;
        let stdin = request.stdio.stdin && container.stdin;
        let session = self.runtime.attach(&container.id, stdin).await?;
        Ok(self.pump(session, stdin, false))
    }

    async fn port_forward(&self, _node: &str, request: PortForwardRequest) -> Result<FrameStream, ApiError> {
        let target = &request.target;
        let sandbox = self
            .containers(target)
            .await?
            .into_iter()
            .find(|c| c.is_sandbox() && c.state == ContainerState::Running)
            .ok_or_else(|| ApiError::bad_request(format!("pod {} is not running", target.pod)))?;
        let netns = self.runtime.netns(&sandbox.id).await?;
        let (client, FrameStream { input, output }) = FrameStream::pair();
        let port = request.port;
        let uid = sandbox.pod().uid;
        tokio::spawn(async move {
            match connect_in(netns, port).await {
                Ok(connection) => forward(connection, input, output).await,
                Err(e) => {
                    let why =
                        format!("failed to connect to localhost:{port} inside namespace \"{uid}\": {e}");
                    let _ = input.send(Frame::Error(Bytes::from(why))).await;
                }
            }
        });
        Ok(client)
    }

    async fn dial(&self, _node: &str, request: DialRequest) -> Result<FrameStream, ApiError> {
        let at = SocketAddr::new(request.address, request.port);
        let failed = |why: &dyn std::fmt::Display| {
            ApiError::new(503, "ServiceUnavailable", format!("dial tcp {at}: {why}"))
        };
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(at));
        let connection = match connecting.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Err(failed(&"connect: connection refused"));
            }
            Ok(Err(e)) => return Err(failed(&e)),
            Err(_) => return Err(failed(&"i/o timeout")),
        };
        let (client, FrameStream { input, output }) = FrameStream::pair();
        tokio::spawn(forward(connection, input, output));
        Ok(client)
    }

    async fn logs(&self, _node: &str, request: LogRequest) -> Result<LogBytes, ApiError> {
        let container = self.logged(&request).await?;
        let file = self.logs.file(&container.pod(), container.name(), container.attempt());
        let text = self.logs.read(file, &request);
        Ok(text.map(|piece| piece.map_err(ApiError::internal)).boxed())
    }
}

/// Copies between a connection and frames until both directions have ended, or the client has gone.
async fn forward(
    connection: tokio::net::TcpStream,
    to_client: tokio::sync::mpsc::Sender<Frame>,
    mut from_client: tokio::sync::mpsc::Receiver<Frame>,
) {
    let (mut read, mut write) = connection.into_split();
    let outward = async {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            let frame = match read.read(&mut buffer).await {
                Ok(0) => Frame::CloseStdout,
                Ok(n) => Frame::Stdout(Bytes::copy_from_slice(&buffer[..n])),
                Err(e) => Frame::Error(Bytes::from(e.to_string())),
            };
            let last = !matches!(frame, Frame::Stdout(_));
            if to_client.send(frame).await.is_err() || last {
                return;
            }
        }
    };
    let inward = async {
        while let Some(frame) = from_client.recv().await {
            match frame {
                Frame::Stdin(bytes) if write.write_all(&bytes).await.is_err() => return false,
                Frame::CloseStdin => {
                    let _ = write.shutdown().await;
                    return true;
                }
                _ => {}
            }
        }
        false
    };
    tokio::pin!(outward, inward);
    tokio::select! {
        () = &mut outward => {
            // The server has said all; what the client still sends is passed on.
            inward.await;
        }
        more = &mut inward => {
            if more {
                outward.await;
            }
        }
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
            let v4 = SocketAddr::from(([127, 0, 0, 1], port));
            std::net::TcpStream::connect_timeout(&v4, CONNECT_TIMEOUT).or_else(|e| {
                let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
                std::net::TcpStream::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| e)
            })
        };
        let _ = done.send(connect());
    })?;
    let stream = result.await.map_err(|_| std::io::Error::other("the connecting thread ended early"))??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}
