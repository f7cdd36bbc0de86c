//! nftables: the transactions of this node's tables, and running `nft` with them.
//!
//! - [`commands`]: the commands of a transaction, in an order that the kernel takes.
//! - [`apply`]: applies them. [`run`]: other programs that write rules, with the same limits.

pub mod commands;

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long a transaction may take before it is taken to hang. The largest clusters' rules, tens of megabytes, take seconds
/// where nothing else runs, and minutes where much does.
fn patience(input: &str) -> Duration {
    const SECONDS_AT_LEAST: u64 = 60;
    const BYTES_A_SECOND: u64 = 32 << 10;
    Duration::from_secs(SECONDS_AT_LEAST + input.len() as u64 / BYTES_A_SECOND)
}

/// Why the kernel doesn't have our rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The program didn't run.
    #[error("{program} does not run: {source}; is it installed?")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused; nothing of the transaction was done.
    #[error("{program} refused the rules: {why}")]
    Refused {
        /// Which program.
        program: String,
        /// What it said.
        why: String,
    },
    /// It neither finished nor failed.
    #[error("{program} did not finish within {} s", .patience.as_secs())]
    Stuck {
        /// Which program.
        program: String,
        /// How long it was given.
        patience: Duration,
    },
}

impl RulesError {
    /// Whether the program is not there at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, RulesError::Run { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Applies a transaction: all of it, or nothing.
pub async fn apply(text: &str) -> Result<(), RulesError> {
    if text.is_empty() {
        return Ok(());
    }
    run("nft", &["-f", "-"], text).await.map(drop)
}

/// Deletes a table, given as family and name, and with it everything in it. Fine when there is none.
pub async fn remove_table(table: &str) -> Result<(), RulesError> {
    apply(&commands::removed(table)).await
}

/// Runs a program with this input; its output.
pub async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, RulesError> {
    let failed = |source| RulesError::Run { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let write = async {
        let Some(mut pipe) = stdin else { return };
        // A program that refuses may end before it has read all; what it says then is the better answer.
        let _ = pipe.write_all(input.as_bytes()).await;
    };
    // Both at once: a program that says much while it reads would wait for its reader for ever.
    let work = async { tokio::join!(write, child.wait_with_output()).1 };
    let patience = patience(input);
    let output = match tokio::time::timeout(patience, work).await {
        Ok(output) => output.map_err(failed)?,
        Err(_) => return Err(RulesError::Stuck { program: program.to_owned(), patience }),
    };
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let mut why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        why.truncate(why.char_indices().nth(2000).map_or(why.len(), |(i, _)| i));
        Err(RulesError::Refused { program: program.to_owned(), why })
    }
}
