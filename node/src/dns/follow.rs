//! Following one kind: list, watch from the list's revision, resume, list again when the past is gone.

use std::time::Duration;

use actors::{ActorRef, trace};
use futures::StreamExt;
use protocol::client::Client;
use protocol::error::ApiError;
use protocol::request::{ApiRequest, Verb, WatchEvent, WatchKind};

use super::actor::{Changed, Dns, Listed};
use super::table::{Change, Kind, Watched};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What one event asks for.
#[derive(Debug, PartialEq)]
enum Step {
    Change(Change),
    Nothing,
    /// The past that the watch goes on from is gone.
    Relist,
}

/// Tells `dns` about a kind's objects; returns when `dns` has stopped.
pub(super) async fn follow<K: Watched>(client: Client, dns: ActorRef<Dns>) {
    let mut failures = 0;
    let mut revision = None;
    loop {
        match advance::<K>(&client, &dns, &mut revision).await {
            Ok(()) => failures = 0,
            Err(error) => {
                if dns.is_closed() {
                    return;
                }
                // The first failure and then every time that the pause has doubled to its most.
                tracing::debug!(kind = ?K::PART, %error, "cannot follow");
                if failures == 0 {
                    tracing::warn!(kind = ?K::PART, %error, "DNS cannot follow; trying again");
                }
                if matches!(error, ApiError::Status(_)) {
                    revision = None;
                }
                tokio::time::sleep(pause(failures)).await;
                failures += 1;
            }
        }
        if dns.is_closed() {
            return;
        }
    }
}

fn pause(failures: u32) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    longest.mul_f64(actors::random::jitter(0.2))
}

/// Lists where needed, then watches to the watch's end.
async fn advance<K: Watched>(
    client: &Client,
    dns: &ActorRef<Dns>,
    revision: &mut Option<u64>,
) -> Result<(), ApiError> {
    let mut at = match *revision {
        Some(at) => at,
        None => {
            let (changes, at) = list::<K>(client).await?;
            let _closed = dns.tell(Listed { kind: K::PART, changes }).await;
            at
        }
    };
    *revision = Some(at);
    let mut events = client.watch::<K>("", at, None).await?;
    let opened = actors::time::Instant::now();
    while let Some(event) = events.next().await {
        at = at.max(event.revision);
        match read::<K>(&event) {
            Step::Change(change) => {
                let told = dns.tell(Changed { kind: K::PART, change });
                if trace::under(event.trace, told).await.is_err() {
                    return Ok(());
                }
            }
            Step::Nothing => {}
            Step::Relist => {
                *revision = None;
                tokio::time::sleep(PAUSE_MIN).await;
                return Ok(());
            }
        }
        *revision = Some(at);
    }
    // A watch that ends at once must not be opened in a circle.
    if opened.elapsed() < PAUSE_MAX {
        tokio::time::sleep(pause(2)).await;
    }
    Ok(())
}

fn read<K: Watched>(event: &WatchEvent) -> Step {
    match event.kind {
        WatchKind::Bookmark => Step::Nothing,
        WatchKind::Error => Step::Relist,
        WatchKind::Added | WatchKind::Modified | WatchKind::Deleted => {
            match serde_json::from_slice::<K>(&event.object) {
                Ok(object) => Step::Change(object.change(event.kind == WatchKind::Deleted)),
                Err(error) => {
                    tracing::warn!(kind = ?K::PART, %error, "DNS cannot read an object; it is left as it was");
                    Step::Nothing
                }
            }
        }
    }
}

async fn list<K: Watched>(client: &Client) -> Result<(Vec<Change>, u64), ApiError> {
    #[derive(serde::Deserialize)]
    struct Items {
        metadata: Metadata,
        items: Vec<serde_json::Value>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Metadata {
        resource_version: String,
    }
    let response = client.send(ApiRequest::new(Verb::List, Client::target::<K>("", None, None))).await?;
    let list: Items =
        serde_json::from_slice(&response.body).map_err(|e| ApiError::Malformed(e.to_string()))?;
    let revision = list.metadata.resource_version.parse().unwrap_or(response.revision);
    let mut changes = Vec::with_capacity(list.items.len());
    for item in list.items {
        match serde_json::from_value::<K>(item) {
            Ok(object) => changes.push(object.change(false)),
            Err(error) => tracing::warn!(kind = ?K::PART, %error, "DNS cannot read an object of a list"),
        }
    }
    Ok((changes, revision))
}

/// The plural name of a kind, as traces spell it.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::Slice => "endpointslices",
        Kind::Pod => "pods",
        Kind::Namespace => "namespaces",
    }
}
