//! Following a kind: everything that exists first, then every change, for ever.

use std::future::Future;
use std::time::Duration;

use actors::{random, trace};
use futures::StreamExt;
use protocol::{Client, Object, WatchEvent, WatchKind};

/// A list counts as complete when the server says so, or nothing more has come for this long.
const QUIET: Duration = Duration::from_millis(100);
/// First pause before watching again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause before watching again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What following a kind tells.
#[derive(Clone, Debug)]
pub enum Followed<K> {
    /// A list begins: what is not told again until [`Followed::Complete`] no longer exists.
    Restart,
    /// An object as it is now.
    Object(Box<K>),
    /// An object's last state.
    Gone(Box<K>),
    /// The list is complete; from here on come changes.
    Complete,
}

/// Follows a kind in all namespaces. Each delivery runs under the message that caused the change. Ends only
/// when `deliver` answers `false`.
pub async fn follow<K, F>(client: Client, mut deliver: impl FnMut(Followed<K>) -> F)
where
    K: Object,
    F: Future<Output = bool>,
{
    let mut pause = PAUSE_MIN;
    loop {
        match client.watch::<K>("", 0, None).await {
            Ok(mut events) => {
                if !deliver(Followed::Restart).await {
                    return;
                }
                let mut complete = false;
                loop {
                    let next = if complete {
                        events.next().await
                    } else {
                        match tokio::time::timeout(QUIET, events.next()).await {
                            Ok(next) => next,
                            Err(_) => {
                                complete = true;
                                if !deliver(Followed::Complete).await {
                                    return;
                                }
                                continue;
                            }
                        }
                    };
                    let Some(event) = next else { break };
                    if event.kind == WatchKind::Bookmark {
                        if !complete {
                            complete = true;
                            if !deliver(Followed::Complete).await {
                                return;
                            }
                        }
                        continue;
                    }
                    let cause = event.trace;
                    match told::<K>(&event) {
                        Some(told) => {
                            pause = PAUSE_MIN;
                            if !trace::under(cause, deliver(told)).await {
                                return;
                            }
                        }
                        // An error event, or something unreadable: begin again.
                        None => break,
                    }
                }
                tracing::debug!(kind = K::KIND, "a watch ended; watching again");
            }
            Err(error) => tracing::warn!(kind = K::KIND, %error, "cannot watch; trying again"),
        }
        tokio::time::sleep(pause.mul_f64(random::jitter(0.3))).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn told<K: Object>(event: &WatchEvent) -> Option<Followed<K>> {
    let object = || match serde_json::from_slice::<K>(&event.object) {
        Ok(object) => Some(Box::new(object)),
        Err(error) => {
            tracing::warn!(kind = K::KIND, %error, "a watched object is not understood");
            None
        }
    };
    match event.kind {
        WatchKind::Added | WatchKind::Modified => object().map(Followed::Object),
        WatchKind::Deleted => object().map(Followed::Gone),
        WatchKind::Bookmark | WatchKind::Error => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use actors::TraceContext;
    use async_trait::async_trait;
    use bytes::Bytes;
    use k8s_openapi::api::core::v1::Service;
    use protocol::{Api, ApiError, ApiRequest, ApiResponse, WatchStream};

    use super::*;

    /// Answers each watch with the next script.
    struct Scripted(Mutex<Vec<Vec<WatchEvent>>>);

    #[async_trait]
    impl Api for Scripted {
        async fn call(&self, _: ApiRequest) -> Result<ApiResponse, ApiError> {
            Err(ApiError::Unreachable("not in this test".into()))
        }
        async fn watch(&self, _: ApiRequest) -> Result<WatchStream, ApiError> {
            let script = self.0.lock().unwrap().pop().ok_or(ApiError::Unreachable("down".into()))?;
            Ok(Box::pin(futures::stream::iter(script)))
        }
    }

    fn event(kind: WatchKind, name: &str) -> WatchEvent {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}});
        WatchEvent {
            kind,
            object: Bytes::from(object.to_string()),
            revision: 1,
            trace: TraceContext::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_watch_begins_again_with_a_list() {
        let scripts = vec![
            vec![event(WatchKind::Added, "b"), event(WatchKind::Bookmark, "")],
            vec![
                event(WatchKind::Added, "a"),
                event(WatchKind::Bookmark, ""),
                event(WatchKind::Deleted, "a"),
                event(WatchKind::Error, ""),
            ],
        ];
        let client = Client::new(Arc::new(Scripted(Mutex::new(scripts))), "test");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = heard.clone();
        follow::<Service, _>(client, move |told| {
            let mut heard = ears.lock().unwrap();
            heard.push(match told {
                Followed::Restart => "restart".to_owned(),
                Followed::Complete => "complete".to_owned(),
                Followed::Object(s) => format!("+{}", s.metadata.name.unwrap_or_default()),
                Followed::Gone(s) => format!("-{}", s.metadata.name.unwrap_or_default()),
            });
            std::future::ready(heard.len() < 7)
        })
        .await;
        let expected = ["restart", "+a", "complete", "-a", "restart", "+b", "complete"];
        assert_eq!(*heard.lock().unwrap(), expected);
    }
}
