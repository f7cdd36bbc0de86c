//! Following a kind: everything that exists first, then every change, for ever.
//!
//! After a broken watch it goes on from the last revision that it has heard of, so that what happened
//! meanwhile arrives as changes, each under its cause. Only where the server has forgotten that revision it
//! lists anew.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actors::{random, trace};
use futures::StreamExt;
use protocol::{ApiError, ApiRequest, Client, Object, Verb, WatchEvent, WatchKind};

/// First pause before trying again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause before trying again.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What following a kind tells.
#[derive(Clone, Debug)]
pub enum Followed<K> {
    /// All that exists: what is not among it is gone.
    Listed(Vec<K>),
    /// An object as it is now.
    Changed(Box<K>),
    /// An object's last state.
    Gone(Box<K>),
}

impl<K: Object> Followed<K> {
    /// The path of what it is about, as traces name it: `services/default/web`, or `services` for a list.
    pub fn key(&self) -> Arc<str> {
        let (Followed::Changed(object) | Followed::Gone(object)) = self else {
            return K::URL_PATH_SEGMENT.into();
        };
        let meta = object.metadata();
        let name = meta.name.as_deref().unwrap_or_default();
        match meta.namespace.as_deref() {
            Some(namespace) => format!("{}/{namespace}/{name}", K::URL_PATH_SEGMENT).into(),
            None => format!("{}/{name}", K::URL_PATH_SEGMENT).into(),
        }
    }
}

/// What one event asks for.
enum Step<K> {
    Tell(Followed<K>),
    Nothing,
    /// The past that the watch goes on from is gone.
    Relist,
}

/// The one whom it was told to wants to hear no more.
struct Enough;

/// What is followed of a kind.
struct Scope {
    /// Empty for all.
    namespace: String,
    fields: Option<String>,
}

/// Follows a kind in all namespaces, or what `fields` selects of it. Each change is delivered under the
/// message that caused it. Ends only when `deliver` answers `false`.
pub async fn follow<K, F>(client: Client, fields: Option<String>, deliver: impl FnMut(Followed<K>) -> F)
where
    K: Object,
    F: Future<Output = bool>,
{
    follow_in(client, Scope { namespace: String::new(), fields }, deliver).await;
}

/// Follows one object, which need not exist; else as [`follow`]. A list of nothing says that it does not.
pub async fn follow_one<K, F>(
    client: Client,
    namespace: String,
    name: String,
    deliver: impl FnMut(Followed<K>) -> F,
) where
    K: Object,
    F: Future<Output = bool>,
{
    let scope = Scope { namespace, fields: Some(format!("metadata.name={name}")) };
    follow_in(client, scope, deliver).await;
}

async fn follow_in<K, F>(client: Client, scope: Scope, mut deliver: impl FnMut(Followed<K>) -> F)
where
    K: Object,
    F: Future<Output = bool>,
{
    let mut failures = 0;
    let mut revision = None;
    loop {
        match advance::<K, F>(&client, &scope, &mut revision, &mut deliver).await {
            Ok(Err(Enough)) => return,
            Ok(Ok(())) => failures = 0,
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(kind = K::KIND, %error, "cannot follow; trying again");
                }
                // The server has answered, and refused: the revision may be why.
                if matches!(error, ApiError::Status(_)) {
                    revision = None;
                }
                tokio::time::sleep(pause(failures)).await;
                failures += 1;
            }
        }
    }
}

fn pause(failures: u32) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    longest.mul_f64(random::jitter(0.3))
}

/// Lists where needed, then watches to the watch's end.
async fn advance<K, F>(
    client: &Client,
    scope: &Scope,
    revision: &mut Option<u64>,
    deliver: &mut impl FnMut(Followed<K>) -> F,
) -> Result<Result<(), Enough>, ApiError>
where
    K: Object,
    F: Future<Output = bool>,
{
    let mut at = match *revision {
        Some(at) => at,
        None => {
            let (objects, at) = list::<K>(client, scope).await?;
            if !deliver(Followed::Listed(objects)).await {
                return Ok(Err(Enough));
            }
            at
        }
    };
    *revision = Some(at);
    let mut events = client.watch::<K>(&scope.namespace, at, scope.fields.as_deref()).await?;
    let opened = actors::time::Instant::now();
    while let Some(event) = events.next().await {
        at = at.max(event.revision);
        match read::<K>(&event) {
            Step::Tell(told) => {
                if !trace::under(event.trace, deliver(told)).await {
                    return Ok(Err(Enough));
                }
            }
            Step::Nothing => {}
            Step::Relist => {
                *revision = None;
                break;
            }
        }
        *revision = Some(at);
    }
    // A watch that ends at once must not be opened in a circle.
    if opened.elapsed() < PAUSE_MAX {
        tokio::time::sleep(pause(1)).await;
    }
    Ok(Ok(()))
}

fn read<K: Object>(event: &WatchEvent) -> Step<K> {
    let object = || match serde_json::from_slice::<K>(&event.object) {
        Ok(object) => Some(Box::new(object)),
        Err(error) => {
            tracing::warn!(kind = K::KIND, %error, "an object is not understood; it is left as it was");
            None
        }
    };
    match event.kind {
        WatchKind::Added | WatchKind::Modified => {
            object().map_or(Step::Nothing, |o| Step::Tell(Followed::Changed(o)))
        }
        WatchKind::Deleted => object().map_or(Step::Nothing, |o| Step::Tell(Followed::Gone(o))),
        WatchKind::Bookmark => Step::Nothing,
        WatchKind::Error => Step::Relist,
    }
}

async fn list<K: Object>(client: &Client, scope: &Scope) -> Result<(Vec<K>, u64), ApiError> {
    #[derive(serde::Deserialize)]
    struct Items {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta,
        items: Vec<serde_json::Value>,
    }
    let mut request = ApiRequest::new(Verb::List, Client::target::<K>(&scope.namespace, None, None));
    request.options.field_selector.clone_from(&scope.fields);
    let response = client.send(request).await?;
    let list: Items =
        serde_json::from_slice(&response.body).map_err(|e| ApiError::Malformed(e.to_string()))?;
    let revision = list.metadata.resource_version.and_then(|r| r.parse().ok()).unwrap_or(response.revision);
    let understood = list.items.into_iter().filter_map(|item| match serde_json::from_value::<K>(item) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(kind = K::KIND, %error, "an object of a list is not understood");
            None
        }
    });
    Ok((understood.collect(), revision))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use actors::TraceContext;
    use async_trait::async_trait;
    use bytes::Bytes;
    use k8s_openapi::api::core::v1::Service;
    use protocol::{Api, ApiResponse, WatchStream};
    use serde_json::{Value, json};

    use super::*;

    /// Lists two objects at revision 7; answers each watch with the next script, and notes where it began.
    struct Scripted {
        scripts: Mutex<Vec<Vec<WatchEvent>>>,
        from: Mutex<Vec<String>>,
    }

    fn service(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}})
    }

    #[async_trait]
    impl Api for Scripted {
        async fn call(&self, _: ApiRequest) -> Result<ApiResponse, ApiError> {
            let list = json!({"metadata": {"resourceVersion": "7"}, "items": [service("a"), service("b")]});
            let body = Bytes::from(list.to_string());
            Ok(ApiResponse { code: 200, body, revision: 7, warnings: Vec::new() })
        }
        async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
            self.from.lock().unwrap().push(request.options.resource_version.unwrap_or_default());
            let script = self.scripts.lock().unwrap().pop().ok_or(ApiError::Unreachable("down".into()))?;
            Ok(Box::pin(futures::stream::iter(script)))
        }
    }

    fn event(kind: WatchKind, name: &str, revision: u64) -> WatchEvent {
        let trace = TraceContext { trace: 1, message: revision };
        WatchEvent { kind, object: Bytes::from(service(name).to_string()), revision, trace }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_watch_goes_on_and_a_forgotten_one_lists_again() {
        let scripts = vec![
            vec![event(WatchKind::Modified, "a", 12)],
            vec![event(WatchKind::Added, "c", 10), event(WatchKind::Error, "", 0)],
            vec![event(WatchKind::Deleted, "a", 8), event(WatchKind::Bookmark, "", 9)],
        ];
        let api = Arc::new(Scripted { scripts: Mutex::new(scripts), from: Mutex::default() });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = heard.clone();
        follow::<Service, _>(Client::new(api.clone(), "test"), None, move |told| {
            let name = |s: &Service| s.metadata.name.clone().unwrap_or_default();
            let text = match told {
                Followed::Listed(all) => all.iter().map(name).collect::<Vec<_>>().join(","),
                Followed::Changed(s) => format!("+{}", name(&s)),
                Followed::Gone(s) => format!("-{}", name(&s)),
            };
            let ears = ears.clone();
            // Deliveries run under their cause.
            async move {
                let mut heard = ears.lock().unwrap();
                heard.push((text, trace::current().message));
                heard.len() < 5
            }
        })
        .await;
        let heard = heard.lock().unwrap();
        let heard: Vec<_> = heard.iter().map(|(text, cause)| (text.as_str(), *cause)).collect();
        assert_eq!(heard, [("a,b", 0), ("-a", 8), ("+c", 10), ("a,b", 0), ("+a", 12)]);
        assert_eq!(
            *api.from.lock().unwrap(),
            ["7", "9", "7"],
            "the second watch goes on where the first ended"
        );
    }
}
