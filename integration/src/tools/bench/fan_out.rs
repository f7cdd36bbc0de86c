//! One write, many watchers: how long until each has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::load::{Measured, Progress};
use crate::tools::client::{Cluster, ToolError};

/// The longest that a watcher waits for the events that it was promised.
const PATIENCE: Duration = Duration::from_secs(120);

/// When each write was sent. Watches deliver in the order of the writes, so a watcher's n-th event is the n-th write.
type Sent = Arc<Mutex<Vec<Instant>>>;

/// Opens `watchers` watches from a revision, makes `events` writes one after another, and measures from just before
/// each write to when each watcher has read the event's last byte.
pub async fn run<W>(
    connections: &[Cluster],
    path: &str,
    revision: &str,
    (watchers, events): (u32, u32),
    write: impl Fn(u32) -> W,
) -> Result<Measured, ToolError>
where
    W: Future<Output = Result<u64, String>>,
{
    let query = [
        ("watch", "1".to_owned()),
        ("resourceVersion", revision.to_owned()),
        ("timeoutSeconds", "600".to_owned()),
    ];
    let opened = (0..watchers as usize).map(|n| {
        let request = connections[n % connections.len()].request(reqwest::Method::GET, path, &query);
        request.timeout(Duration::from_secs(600)).send()
    });
    let sent: Sent = Sent::default();
    let mut tasks = JoinSet::new();
    for response in join_all(opened).await {
        let response = response.map_err(|e| ToolError::Unreachable(e.to_string()))?;
        if !response.status().is_success() {
            return Err(ToolError::Refused(format!("a watch was answered with HTTP {}", response.status())));
        }
        tasks.spawn(timeout(PATIENCE, read(response, sent.clone(), events as usize)));
    }
    let progress = Progress::begin("watch fan-out", events.into());
    let began = Instant::now();
    let mut measured = Measured::default();
    for n in 0..events {
        sent.lock().push(Instant::now());
        if let Err(why) = write(n).await {
            return Err(ToolError::Refused(why));
        }
        progress.step(1);
    }
    while let Some(watched) = tasks.join_next().await {
        match watched {
            Ok(Ok(Ok((took, bytes)))) => {
                let count = took.len() as u64;
                took.into_iter().for_each(|took| measured.add(took, Ok(bytes / count.max(1))));
            }
            Ok(Ok(Err(why))) => measured.add(Duration::ZERO, Err(why)),
            Ok(Err(_)) => {
                measured.add(Duration::ZERO, Err(format!("events were missing after {PATIENCE:?}")))
            }
            Err(why) => measured.add(Duration::ZERO, Err(why.to_string())),
        }
    }
    let elapsed = began.elapsed();
    progress.end();
    Ok(measured.finish(elapsed))
}

/// Reads a watch until it has brought `count` events; how long each took, and the bytes of all. An event is a line.
async fn read(
    mut response: reqwest::Response,
    sent: Sent,
    count: usize,
) -> Result<(Vec<Duration>, u64), String> {
    let mut took = Vec::with_capacity(count);
    let mut bytes = 0;
    while took.len() < count {
        let chunk = response.chunk().await.map_err(|e| e.to_string())?;
        let chunk = chunk.ok_or("the watch ended early")?;
        bytes += chunk.len() as u64;
        let lines = chunk.iter().filter(|byte| **byte == b'\n').count();
        let now = Instant::now();
        let sent = sent.lock();
        took.extend(sent.iter().skip(took.len()).take(lines).map(|at| now.saturating_duration_since(*at)));
    }
    Ok((took, bytes))
}
