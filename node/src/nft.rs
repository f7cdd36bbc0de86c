//! nftables: the transactions of this node's tables, and running `nft` with them.
//!
//! - [`commands`]: the commands of a transaction, in an order that the kernel takes.
//! - [`Nft`]: applies them.

pub mod commands;

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A transaction that takes longer than this hangs; the largest clusters' full rule sets take seconds.
const RUN_SECONDS_MAX: u64 = 60;

/// Why the kernel doesn't have our rules.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program didn't run.
    #[error("nft does not run: {0}")]
    Run(#[from] std::io::Error),
    /// The kernel refused; nothing of the transaction was done.
    #[error("nft refused the rules: {0}")]
    Refused(String),
    /// It neither finished nor failed.
    #[error("nft did not finish within {RUN_SECONDS_MAX} s")]
    Stuck,
}

/// Where transactions go: the kernel, or a test.
#[derive(Clone, Debug, Default)]
pub struct Nft {
    /// Words before `nft`, such as `ip netns exec NAME`.
    prefix: Vec<String>,
}

impl Nft {
    /// `nft` in this process's network namespace.
    pub fn new() -> Self {
        Nft::default()
    }

    /// `nft` in a named network namespace.
    pub fn in_namespace(name: &str) -> Self {
        Nft { prefix: ["ip", "netns", "exec", name].map(str::to_owned).into() }
    }

    /// Applies a transaction: all of it, or nothing.
    pub async fn apply(&self, text: &str) -> Result<(), NftError> {
        if text.is_empty() {
            return Ok(());
        }
        self.run(&["-f", "-"], text).await.map(drop)
    }

    /// Deletes a table, given as family and name, and with it everything in it. Fine when there is none.
    pub async fn remove_table(&self, table: &str) -> Result<(), NftError> {
        self.apply(&commands::removed(table)).await
    }

    /// A program in the same network namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut words = self.prefix.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words);
        command
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<String, NftError> {
        let mut words =
            self.prefix.iter().map(String::as_str).chain(["nft"]).chain(arguments.iter().copied());
        let mut child = Command::new(words.next().unwrap_or("nft"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take();
        let work = async {
            if let Some(pipe) = stdin.as_mut() {
                pipe.write_all(input.as_bytes()).await?;
            }
            drop(stdin);
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(Duration::from_secs(RUN_SECONDS_MAX), work).await {
            Ok(output) => output?,
            Err(_) => return Err(NftError::Stuck),
        };
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let mut why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            why.truncate(why.char_indices().nth(2000).map_or(why.len(), |(i, _)| i));
            Err(NftError::Refused(why))
        }
    }
}
