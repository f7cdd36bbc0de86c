//! Output and input of containers: commands run in them, consoles, and logs.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::{ContainerRuntime, Result, RuntimeError};

/// A piece of output.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
}

/// How a command is run in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Allocates a terminal.
    pub tty: bool,
    /// Connects stdin.
    pub stdin: bool,
    /// Connects stdout.
    pub stdout: bool,
    /// Connects stderr.
    pub stderr: bool,
}

/// A running command, or an attached container.
pub struct Session {
    /// Exec id (or container id) for [`ContainerRuntime::resize`] and [`ContainerRuntime::exit_code`].
    pub id: String,
    /// What it writes; ends when it does.
    pub output: BoxStream<'static, Result<Output>>,
    /// What it reads; shut down to signal the end.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// One line (or part of a line) of a container's output.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// When it was written, RFC 3339 with nanoseconds, as the engine says.
    pub time: String,
    /// From standard error.
    pub stderr: bool,
    /// The text; without a final newline it is a part.
    pub text: Bytes,
}

/// Runs a command to its end and collects its output (at most `limit` bytes of it).
pub async fn run(
    runtime: &dyn ContainerRuntime,
    id: &str,
    command: &[String],
    timeout: Duration,
    limit: usize,
) -> Result<(i32, Vec<u8>)> {
    use futures::StreamExt;
    let config =
        ExecConfig { command: command.to_vec(), stdout: true, stderr: true, ..ExecConfig::default() };
    let work = async {
        let mut session = runtime.exec(id, &config).await?;
        let mut text = Vec::new();
        while let Some(piece) = session.output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
            let room = limit.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        // The stream closes a moment before the engine notes the exit code.
        for _ in 0..50 {
            if let Some(code) = runtime.exit_code(&session.id).await? {
                return Ok((code, text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(RuntimeError::Unavailable("the command's exit code stays unknown".to_owned()))
    };
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(RuntimeError::Timeout(timeout)))
}
