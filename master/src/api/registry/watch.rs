//! Watches: a cursor in the change log, filtered by the watcher's selectors.

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use protocol::{ApiError, ApiRequest, WatchEvent, WatchKind, WatchStream};
use serde_json::json;
use tokio::time::{Instant, Sleep};

use super::read::Choice;
use super::{Subject, options, view};
use crate::api::custom::catalog::Found;
use crate::api::custom::conversion::Converter;
use crate::api::object;
use crate::api::pipeline::Inner;
use crate::cache::{Change, ChangeKind, Cursor, Gone, Stored, WatchFrom, with_resource_version};

/// How long a watch without a timeout lasts: long, but not for ever, so that clients spread over masters.
const TIMEOUT_SECONDS_DEFAULT: u64 = 1800;
/// How often a quiet watch is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch says once more how far it is.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// What a change means to somebody who watches only what `chosen` selects.
pub fn seen(change: &Change, chosen: impl Fn(&Stored) -> bool) -> Option<WatchKind> {
    let now = change.kind != ChangeKind::Deleted && chosen(&change.stored);
    let before = match (&change.previous, change.kind) {
        (Some(previous), _) => chosen(previous),
        (None, ChangeKind::Deleted) => chosen(&change.stored),
        (None, _) => false,
    };
    match (before, now) {
        (false, true) => Some(WatchKind::Added),
        (true, true) => Some(WatchKind::Modified),
        (true, false) => Some(WatchKind::Deleted),
        (false, false) => None,
    }
}

struct Running {
    cursor: Cursor,
    choice: Choice,
    kind: Found,
    converter: Converter,
    deadline: Instant,
    bookmarks: bool,
    next_bookmark: Instant,
    /// Goes off at the earlier of the two. One for the whole watch: each event would begin another.
    timer: Pin<Box<Sleep>>,
    /// A bookmark that marks the end of the initial events is due.
    initial_end: bool,
    ended: bool,
    waiting: Vec<WatchEvent>,
}

impl Running {
    /// When it has something to say though nothing changed.
    fn wake(&self) -> Instant {
        if self.bookmarks { self.deadline.min(self.next_bookmark) } else { self.deadline }
    }
}

impl Inner {
    /// Opens a watch.
    pub async fn watch(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        kind: &Found,
    ) -> Result<WatchStream, ApiError> {
        options::check_list(request)?;
        let choice = Choice::of(request, &subject)?;
        let list = &request.options;
        let version = list.resource_version.as_deref().unwrap_or_default();
        let revision = options::storage_revision(version)?;
        let from = match list.send_initial_events {
            Some(true) => {
                if version.is_empty() {
                    self.fresh().await?;
                } else {
                    self.at_least(revision).await?;
                }
                WatchFrom::InitialState
            }
            Some(false) if version.is_empty() => {
                self.fresh().await?;
                WatchFrom::Now
            }
            _ if version.is_empty() => {
                self.fresh().await?;
                WatchFrom::InitialState
            }
            _ if revision == 0 => WatchFrom::InitialState,
            // A revision that is still to come is waited for, without an answer until then.
            _ => WatchFrom::Revision(revision),
        };
        let cursor =
            match self.cache.watch(subject.stored.group, subject.stored.plural, subject.namespace, from) {
                Ok(cursor) => cursor,
                Err(gone) => return Ok(stream::iter([too_old(gone)]).boxed()),
            };
        let mut choice = choice;
        if !subject.name.is_empty() {
            let field = "metadata.name".to_owned();
            let one = protocol::selector::FieldRequirement {
                field,
                value: subject.name.to_owned(),
                negated: false,
            };
            choice.fields.requirements.push(one);
        }
        let now = Instant::now();
        let timeout = Duration::from_secs(list.timeout_seconds.unwrap_or(TIMEOUT_SECONDS_DEFAULT));
        let deadline = now + timeout;
        let mut running = Running {
            cursor,
            choice,
            kind: kind.clone(),
            converter: self.converter.clone(),
            deadline,
            bookmarks: list.allow_watch_bookmarks,
            next_bookmark: next_bookmark(now, deadline),
            timer: Box::pin(tokio::time::sleep_until(now)),
            initial_end: list.send_initial_events == Some(true) && list.allow_watch_bookmarks,
            ended: false,
            waiting: Vec::new(),
        };
        let wake = running.wake();
        running.timer.as_mut().reset(wake);
        let events: BoxStream<'static, WatchEvent> = stream::unfold(running, advance).boxed();
        Ok(events)
    }
}

/// When to say the next time how far a watch is: now and then, and shortly before its end.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let usual = now + BOOKMARK_EVERY;
    match deadline.checked_sub(BOOKMARK_BEFORE_END) {
        Some(last) if last > now => last.min(usual),
        _ => usual,
    }
}

async fn advance(mut watch: Running) -> Option<(WatchEvent, Running)> {
    loop {
        if let Some(event) = watch.waiting.pop() {
            return Some((event, watch));
        }
        if watch.ended {
            return None;
        }
        let mut events = Vec::new();
        let changes = tokio::select! {
            biased;
            changes = watch.cursor.next() => Some(changes),
            () = watch.timer.as_mut() => None,
        };
        match changes {
            Some(Ok(changes)) => match converted(&watch, changes).await {
                Ok(changes) => {
                    let subject = watch.kind.subject();
                    let subject = subject.as_ref();
                    events.extend(changes.iter().filter_map(|c| event(&watch.choice, subject?, c)));
                    if std::mem::take(&mut watch.initial_end) {
                        events.push(bookmark(&watch, true));
                    }
                }
                Err(error) => {
                    watch.ended = true;
                    events.push(ended_by(&error));
                }
            },
            Some(Err(gone)) => {
                watch.ended = true;
                events.push(too_old(gone));
            }
            None if Instant::now() >= watch.deadline => {
                watch.ended = true;
            }
            None => {
                watch.next_bookmark = next_bookmark(Instant::now(), watch.deadline);
                let wake = watch.wake();
                watch.timer.as_mut().reset(wake);
                events.push(bookmark(&watch, false));
            }
        }
        events.reverse();
        watch.waiting = events;
    }
}

/// Changes in the version that is watched, as far as a webhook makes it.
async fn converted(watch: &Running, mut changes: Vec<Change>) -> Result<Vec<Change>, ApiError> {
    let kind = &watch.kind;
    let version = kind.custom.as_ref().and_then(|custom| custom.version(kind.resource.version));
    let Some(version) = version.filter(|version| version.webhook.is_some()) else { return Ok(changes) };
    let states = changes.iter().flat_map(|c| [Some(c.stored.clone()), c.previous.clone()]).flatten();
    let mut made = watch.converter.stored(version, states.collect()).await?.into_iter();
    for change in &mut changes {
        for state in [Some(&mut change.stored), change.previous.as_mut()].into_iter().flatten() {
            if let Some(made) = made.next() {
                *state = made;
            }
        }
    }
    Ok(changes)
}

fn event(choice: &Choice, subject: &Subject<'_>, change: &Change) -> Option<WatchEvent> {
    let kind = seen(change, |s| choice.matches(s))?;
    let mut json = change.stored.json.clone();
    // An object that left the set by a change is shown as it was, at the revision of the change.
    if kind == WatchKind::Deleted && change.kind != ChangeKind::Deleted {
        let previous = change.previous.as_ref()?;
        json =
            with_resource_version(&previous.json, change.revision).unwrap_or_else(|| previous.json.clone());
    }
    let object = view(subject, json, change.stored.revision).ok()?;
    Some(WatchEvent { kind, object, revision: change.revision, trace: change.trace })
}

fn bookmark(watch: &Running, initial_end: bool) -> WatchEvent {
    let resource = watch.kind.resource;
    let revision = watch.cursor.revision();
    let mut meta = json!({"resourceVersion": revision.to_string()});
    if initial_end {
        meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let bare = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": meta});
    // What Go prints of an otherwise empty object.
    let object = protocol::schema::kind(resource.group, resource.version, resource.kind)
        .map_or(bare.clone(), |definition| protocol::schema::decode::finish(definition, bare.clone()));
    WatchEvent {
        kind: WatchKind::Bookmark,
        object: object::encode(resource, &object),
        revision,
        trace: actors::TraceContext::default(),
    }
}

fn too_old(gone: Gone) -> WatchEvent {
    ended_by(&ApiError::new(410, "Expired", gone.to_string()))
}

/// The last event of a watch that fails.
fn ended_by(error: &ApiError) -> WatchEvent {
    WatchEvent {
        kind: WatchKind::Error,
        object: error.to_body(),
        revision: 0,
        trace: actors::TraceContext::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_says_how_far_it_is_shortly_before_its_end() {
        let now = Instant::now();
        for (seconds, after) in [(1, 60), (2, 60), (3, 1), (30, 28), (600, 60)] {
            let deadline = now + Duration::from_secs(seconds);
            assert_eq!(next_bookmark(now, deadline), now + Duration::from_secs(after), "{seconds}");
        }
    }
}
