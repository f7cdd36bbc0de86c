//! A watch on etcd that outlives its connections.
//!
//! The position is the last revision that was handed out whole; a new connection goes on right after it.
//! etcd sends all changes of a revision in one message, so nothing is lost and nothing comes twice.

use std::collections::VecDeque;
use std::time::Duration;

use actors::TraceContext;
use bytes::Bytes;
use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};

use super::super::{Batch, Event, ROOT, Record, StoreError, envelope};
use super::{BACKOFF_MAX, BACKOFF_MIN, DEADLINE, HEAD, as_i64, as_u64, failure, prefix_end, revision_of};

/// A connection that was good for so long starts with a short backoff when it breaks.
const GOOD_FOR: Duration = Duration::from_secs(5);

pub(super) struct Watch {
    client: Client,
    prefix: String,
    position: u64,
    ready: VecDeque<Batch>,
    stream: Option<WatchStream>,
    /// How long to wait before the next connection; nothing before the first.
    backoff: Option<Duration>,
    opened: tokio::time::Instant,
}

impl Watch {
    pub(super) fn new(client: Client, prefix: &str, after_revision: u64) -> Self {
        Watch {
            client,
            prefix: prefix.to_owned(),
            position: after_revision,
            ready: VecDeque::new(),
            stream: None,
            backoff: None,
            opened: tokio::time::Instant::now(),
        }
    }

    /// The next batch. Dropping the future loses nothing: what was received lies in `self`.
    pub(super) async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(response)) => self.receive(&response)?,
                Ok(None) => self.broken("etcd ended it"),
                Err(error) => match failure(error, self.position) {
                    StoreError::Unavailable(why) => self.broken(&why),
                    other => return Err(other),
                },
            }
        }
    }

    fn broken(&mut self, why: &str) {
        tracing::debug!(
            why,
            after = self.position,
            "the watch on etcd broke; it goes on with a new connection"
        );
        let was_good = self.stream.take().is_some() && self.opened.elapsed() > GOOD_FOR;
        self.backoff = Some(match self.backoff {
            Some(before) if !was_good => (before * 2).min(BACKOFF_MAX),
            _ => BACKOFF_MIN,
        });
    }

    async fn open(&mut self) -> Result<(), StoreError> {
        if let Some(backoff) = self.backoff {
            // Watchers of many masters must not come back at the same moment.
            tokio::time::sleep(backoff.mul_f64(actors::random::jitter(0.3))).await;
        }
        // HEAD lies right before the objects, so that one watch covers both.
        let options = WatchOptions::new()
            .with_range(prefix_end(ROOT))
            .with_start_revision(as_i64(self.position + 1))
            .with_progress_notify();
        let mut client = self.client.watch_client().max_decoding_message_size(usize::MAX);
        let why = match tokio::time::timeout(DEADLINE, client.watch(HEAD, Some(options))).await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.opened = tokio::time::Instant::now();
                return Ok(());
            }
            Ok(Err(error)) => match failure(error, self.position) {
                StoreError::Unavailable(why) => why,
                other => return Err(other),
            },
            Err(_) => "etcd does not answer".to_owned(),
        };
        self.broken(&why);
        Ok(())
    }

    fn receive(&mut self, response: &WatchResponse) -> Result<(), StoreError> {
        if response.compact_revision() > 0 {
            return Err(StoreError::Compacted { oldest: as_u64(response.compact_revision()) });
        }
        if response.canceled() {
            let why = response.cancel_reason();
            if why.contains("compacted") {
                return Err(StoreError::Compacted { oldest: 0 });
            }
            self.broken(why);
            return Ok(());
        }
        if response.events().is_empty() {
            // The answer to opening says only that the watch exists; later ones say how far it has come.
            let reached = revision_of(response.header());
            if !response.created() && reached > self.position {
                self.position = reached;
                self.ready.push_back(Batch { revision: reached, events: Vec::new() });
            }
            return Ok(());
        }
        for raw in revisions(response) {
            if raw.revision <= self.position {
                continue;
            }
            self.position = raw.revision;
            self.ready.push_back(raw.batch(&self.prefix));
        }
        Ok(())
    }
}

/// The raw events of one revision.
struct RawRevision<'a> {
    revision: u64,
    events: Vec<&'a etcd_client::Event>,
}

fn revisions(response: &WatchResponse) -> Vec<RawRevision<'_>> {
    let mut found: Vec<RawRevision<'_>> = Vec::new();
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        let revision = as_u64(kv.mod_revision());
        match found.last_mut() {
            Some(last) if last.revision == revision => last.events.push(event),
            _ => found.push(RawRevision { revision, events: vec![event] }),
        }
    }
    found
}

impl RawRevision<'_> {
    /// The batch that it is, without HEAD, whose cause goes to the deletions.
    fn batch(&self, prefix: &str) -> Batch {
        let head = self.events.iter().filter_map(|e| e.kv()).find(|kv| kv.key() == HEAD.as_bytes());
        let cause =
            head.map_or(TraceContext::default(), |kv| envelope::decode_trace(kv.value()).unwrap_or_default());
        let mut events = Vec::with_capacity(self.events.len());
        for event in &self.events {
            let Some(kv) = event.kv() else { continue };
            let key = String::from_utf8_lossy(kv.key()).into_owned();
            if !key.starts_with(prefix) || key == HEAD {
                continue;
            }
            if event.event_type() == EventType::Delete {
                events.push(Event { key, record: None, trace: cause });
                continue;
            }
            match envelope::decode(&key, Bytes::copy_from_slice(kv.value())) {
                Ok((trace, value)) => {
                    let record = Record {
                        key: key.clone(),
                        value,
                        trace,
                        create_revision: as_u64(kv.create_revision()),
                        mod_revision: self.revision,
                        version: as_u64(kv.version()),
                    };
                    events.push(Event { key, record: Some(record), trace });
                }
                Err(error) => {
                    tracing::error!(key, revision = self.revision, %error, "a stored value is passed over");
                }
            }
        }
        Batch { revision: self.revision, events }
    }
}
