//! Streams between a client and a container: exec, attach, port-forward and logs.
//!
//! The HTTP side (`master::streams`) speaks WebSocket and SPDY to clients and turns both into [`Frame`]s;
//! whoever implements [`NodeStreams`] carries the frames to the node and back. Both directions are bounded
//! channels: a slow reader slows the writer, nothing piles up.

use core::net::IpAddr;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::ApiError;

/// How many frames wait in one direction of a stream before its writer has to wait.
pub const FRAMES_WAITING_MAX: usize = 64;

/// The most bytes that one frame carries; longer writes are cut into several.
pub const FRAME_BYTES_MAX: usize = 32 * 1024;

/// One piece of a running exec, attach or port-forward.
///
/// Towards the node go `Stdin`, `CloseStdin` and `Resize`; back come `Stdout`, `Stderr`, and at the end one
/// `Error`, after which the channel closes. A port-forward uses `Stdin` and `Stdout` for its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Bytes for the process, or for the forwarded connection.
    Stdin(Bytes),
    /// The client has nothing more to write.
    CloseStdin,
    /// The client's terminal has this size now.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Bytes from the process, or from the forwarded connection.
    Stdout(Bytes),
    /// Bytes from the process's standard error; never with a terminal.
    Stderr(Bytes),
    /// The far end of a forwarded connection has nothing more to write; the other direction may go on.
    CloseStdout,
    /// The end of an exec or attach: a `metav1.Status` as JSON, `Success` included (see [`exit_status`]). For
    /// a port-forward: the text of what went wrong.
    Error(Bytes),
}

/// The near end of a stream to a node. Dropping it ends the stream: the process's stdin closes, its output
/// is no longer read.
#[derive(Debug)]
pub struct FrameStream {
    /// Towards the node.
    pub input: mpsc::Sender<Frame>,
    /// From the node; closed after the last frame, or when the node is lost.
    pub output: mpsc::Receiver<Frame>,
}

impl FrameStream {
    /// Two ends: the first for the client's side, the second for the node's side, where `input` carries what
    /// goes to the client and `output` what comes from it.
    pub fn pair() -> (FrameStream, FrameStream) {
        let (to_node, from_client) = mpsc::channel(FRAMES_WAITING_MAX);
        let (to_client, from_node) = mpsc::channel(FRAMES_WAITING_MAX);
        (
            FrameStream { input: to_node, output: from_node },
            FrameStream { input: to_client, output: from_client },
        )
    }
}

/// Which container of which pod. The uid guards against reaching a successor of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerTarget {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The container's name (init and ephemeral containers included).
    pub container: String,
}

/// Which streams the client wants connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// The client writes.
    pub stdin: bool,
    /// The client reads standard output.
    pub stdout: bool,
    /// The client reads standard error.
    pub stderr: bool,
    /// A terminal joins stdin, stdout and stderr.
    pub tty: bool,
}

/// Runs a command in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Where.
    pub target: ContainerTarget,
    /// The command and its arguments; never empty.
    pub command: Vec<String>,
    /// What is connected.
    pub stdio: Stdio,
}

/// Connects to the main process of a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Where.
    pub target: ContainerTarget,
    /// What is connected.
    pub stdio: Stdio,
}

/// Opens one TCP connection to a port inside a pod's network namespace, on its loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForwardRequest {
    /// The pod; the container's name is empty.
    pub target: ContainerTarget,
    /// The port.
    pub port: u16,
}

/// Opens one TCP connection from the node to an address that it reaches: a pod's, or its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRequest {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// Which of a container's output to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    /// Both, as written.
    #[default]
    All,
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
}

/// Reads a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// Where.
    pub target: ContainerTarget,
    /// Goes on until the container ends or the client leaves.
    pub follow: bool,
    /// Reads the log of the instance before the current one.
    pub previous: bool,
    /// Begins each line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only lines of at least this time, as nanoseconds since 1970.
    pub since_unix_nanos: Option<i64>,
    /// Only this many lines from the end.
    pub tail_lines: Option<u64>,
    /// Ends after this many bytes.
    pub limit_bytes: Option<u64>,
    /// Which output.
    pub stream: LogStream,
}

/// The text of a log, in pieces of any size. An error ends it.
pub type LogBytes = BoxStream<'static, Result<Bytes, ApiError>>;

/// The way to the node that runs a pod. The master's side of the node link implements it; in tests, a fake.
///
/// An `Err` is what the client gets instead of a stream, so it has upstream's wording.
#[async_trait]
pub trait NodeStreams: Send + Sync + 'static {
    /// Runs a command.
    async fn exec(&self, node: &str, request: ExecRequest) -> Result<FrameStream, ApiError>;

    /// Connects to a running process.
    async fn attach(&self, node: &str, request: AttachRequest) -> Result<FrameStream, ApiError>;

    /// Opens one forwarded connection.
    async fn port_forward(&self, node: &str, request: PortForwardRequest) -> Result<FrameStream, ApiError>;

    /// Opens one connection from the node, for a proxy. A refused connection is an error.
    async fn dial(&self, node: &str, request: DialRequest) -> Result<FrameStream, ApiError>;

    /// Whether it is the node that makes connections ([`dial`](Self::dial)), and not who asks.
    fn dials(&self, _node: &str) -> bool {
        true
    }

    /// Reads a log.
    async fn logs(&self, node: &str, request: LogRequest) -> Result<LogBytes, ApiError>;
}

/// The `Status` that ends an exec or attach whose process ended with `code`.
pub fn exit_status(code: i64) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// The `Status` that ends an exec or attach which failed otherwise.
pub fn failure_status(why: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    })
}

/// The exit code in a `Status` that ended an exec: 0 for success, `None` when the process never ran.
pub fn exit_code(status: &Value) -> Option<i64> {
    if status["status"] == "Success" {
        return Some(0);
    }
    let causes = status["details"]["causes"].as_array()?;
    causes.iter().find(|c| c["reason"] == "ExitCode")?["message"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_survive_the_status() {
        for code in [0, 1, 2, 126, 137, 255] {
            assert_eq!(exit_code(&exit_status(code)), Some(code));
        }
        assert_eq!(exit_code(&failure_status("no such container")), None);
    }

    #[tokio::test]
    async fn a_pair_carries_frames_both_ways() {
        let (client, mut node) = FrameStream::pair();
        client.input.send(Frame::Stdin(Bytes::from_static(b"ls"))).await.unwrap();
        assert_eq!(node.output.recv().await, Some(Frame::Stdin(Bytes::from_static(b"ls"))));
        node.input.send(Frame::CloseStdout).await.unwrap();
        drop(node);
        let mut client = client;
        assert_eq!(client.output.recv().await, Some(Frame::CloseStdout));
        assert_eq!(client.output.recv().await, None);
    }
}
