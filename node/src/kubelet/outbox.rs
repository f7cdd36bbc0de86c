//! The way of a pod's status to the API: only the latest counts, and only what changed is written.

use std::sync::Arc;
use std::time::Duration;

use actors::TraceContext;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use protocol::{Client, PatchKind};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::pod;
use super::registry::Registry;

/// Pauses between attempts to write a status.
const RETRY_PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];

#[derive(Clone, Default)]
struct Letter {
    number: u64,
    status: Option<Arc<PodStatus>>,
    cause: TraceContext,
    /// The API shows something else than what was written: compare with that, not with what was written.
    overruled: bool,
}

/// Where a pod's actor puts its statuses. Cloning shares it.
#[derive(Clone)]
pub struct Outbox {
    letters: Arc<watch::Sender<Letter>>,
    written: Arc<watch::Sender<u64>>,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { letters: Arc::new(watch::Sender::default()), written: Arc::new(watch::Sender::default()) }
    }
}

impl Outbox {
    /// Takes a status; answers its number for [`Self::written`].
    pub fn put(&self, status: PodStatus) -> u64 {
        let same = self.letters.borrow().status.as_deref() == Some(&status);
        if !same {
            let cause = actors::trace::current();
            self.letters.send_modify(|letter| {
                *letter = Letter {
                    number: letter.number + 1,
                    status: Some(Arc::new(status)),
                    cause,
                    overruled: false,
                };
            });
        }
        self.letters.borrow().number
    }

    /// Looks at what the API shows. Where somebody else has turned one of our conditions (the node lifecycle
    /// controller does, for a node that was silent), the latest status is written again.
    pub fn compare(&self, shown: Option<&PodStatus>) {
        let overruled = {
            let letter = self.letters.borrow();
            let all_written = *self.written.borrow() >= letter.number;
            match (&letter.status, shown) {
                (Some(ours), Some(shown)) => all_written && differ(ours, shown),
                _ => false,
            }
        };
        if overruled {
            self.letters.send_modify(|letter| {
                letter.number += 1;
                letter.overruled = true;
                letter.cause = actors::trace::current();
            });
        }
    }

    /// The latest status that was put.
    pub fn latest(&self) -> Option<PodStatus> {
        self.letters.borrow().status.as_deref().cloned()
    }

    /// Waits until that status, or a later one, is written (or the pod is gone from the API).
    pub async fn written(&self, number: u64) {
        let mut watched = self.written.subscribe();
        // The sender lives in `self`.
        let _ = watched.wait_for(|done| *done >= number).await;
    }

    /// Writes statuses until dropped. Run it once per pod.
    pub async fn deliver(self, client: Client, registry: Registry, uid: Arc<str>) {
        let mut letters = self.letters.subscribe();
        letters.mark_changed();
        let mut last: Option<Value> = None;
        while letters.changed().await.is_ok() {
            let mut tries = 0;
            loop {
                let letter = letters.borrow_and_update().clone();
                let Some(status) = &letter.status else { break };
                let Some(wanted) = registry.wanted(&uid) else { break };
                let owner = &wanted.pod;
                let base = last
                    .clone()
                    .filter(|_| !letter.overruled)
                    .or_else(|| serde_json::to_value(owner.status.as_ref()?).ok());
                let Ok(new) = serde_json::to_value(status.as_ref()) else { break };
                let Some(patch) = difference(base.as_ref(), &new) else {
                    self.written.send_replace(letter.number);
                    break;
                };
                let identity = pod::identity(owner);
                // A static pod's status goes to its mirror, which has a uid of its own.
                let body = match pod::is_static(owner) {
                    true => json!({"status": patch}),
                    false => json!({"metadata": {"uid": identity.uid}, "status": patch}),
                };
                let write = client.patch::<Pod>(
                    &identity.namespace,
                    &identity.name,
                    Some("status"),
                    PatchKind::Strategic,
                    &body,
                );
                match actors::trace::under(letter.cause, write).await {
                    Ok(_) => {
                        last = Some(new);
                        self.written.send_replace(letter.number);
                        break;
                    }
                    // Gone, or another pod of that name: nobody wants this status any more.
                    Err(e) if e.is_not_found() || e.is_conflict() => {
                        self.written.send_replace(letter.number);
                        break;
                    }
                    Err(e) => {
                        tracing::debug!(pod = identity.name, error = %e, "status not written");
                        let pause = RETRY_PAUSES[tries.min(RETRY_PAUSES.len() - 1)];
                        tries += 1;
                        tokio::time::sleep(pause.mul_f64(actors::random::jitter(0.2))).await;
                    }
                }
            }
        }
    }
}

/// Whether a condition that the kubelet owns is shown with another status than ours.
fn differ(ours: &PodStatus, shown: &PodStatus) -> bool {
    let status = |of: &PodStatus, kind: &str| {
        of.conditions.iter().flatten().find(|c| c.type_ == kind).map(|c| c.status.clone())
    };
    ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"].iter().any(|kind| {
        status(ours, kind).is_some_and(|ours| status(shown, kind).is_some_and(|shown| shown != ours))
    })
}

/// A strategic merge patch from one status to another; `None` when they are equal.
fn difference(old: Option<&Value>, new: &Value) -> Option<Value> {
    let empty = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&empty);
    let new = new.as_object()?;
    let mut patch = Map::new();
    for (key, value) in new {
        if old.get(key) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        // These lists merge by key; an address that is gone must not stay.
        if matches!(key.as_str(), "podIPs" | "hostIPs")
            && old.contains_key(key)
            && let Some(list) = value.as_array_mut()
        {
            list.push(json!({"$patch": "replace"}));
        }
        // So do conditions: a reason that is gone must not stay either.
        if key == "conditions"
            && let Some(list) = value.as_array_mut()
        {
            unset_what_is_gone(list, old.get(key).and_then(Value::as_array));
        }
        patch.insert(key.clone(), value);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Adds `null` for every field that a condition had and no longer has.
fn unset_what_is_gone(conditions: &mut [Value], before: Option<&Vec<Value>>) {
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        let same = |old: &&Value| old.get("type") == condition.get("type");
        let Some(old) = before.and_then(|all| all.iter().find(same)).and_then(Value::as_object) else {
            continue;
        };
        let gone: Vec<String> = old.keys().filter(|k| !condition.contains_key(*k)).cloned().collect();
        condition.extend(gone.into_iter().map(|field| (field, Value::Null)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let old = json!({"phase": "Pending", "hostIP": "1", "podIPs": [{"ip": "a"}], "message": "x"});
        let new = json!({"phase": "Running", "hostIP": "1", "podIPs": [{"ip": "b"}]});
        let wanted =
            json!({"phase": "Running", "podIPs": [{"ip": "b"}, {"$patch": "replace"}], "message": null});
        assert_eq!(difference(Some(&old), &new), Some(wanted));
        assert_eq!(difference(Some(&new), &new), None);
        assert_eq!(difference(None, &json!({"phase": "Pending"})), Some(json!({"phase": "Pending"})));
        let old =
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": "X", "message": "y"}]});
        let new =
            json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}]});
        let ready = json!({"type": "Ready", "status": "True", "reason": null, "message": null});
        let wanted = json!({"conditions": [ready, {"type": "New", "status": "True"}]});
        assert_eq!(difference(Some(&old), &new), Some(wanted));
    }
}
