//! Admission of what is called rather than stored: evictions, bindings, requests for tokens, reviews, connections.
//!
//! Policies and webhooks see them as what they are: a create of the subresource with its own kind, or a CONNECT with the
//! options that the query holds. Nothing here reads or writes the object that a subresource lies under.

use protocol::{ApiError, ApiRequest};
use serde_json::{Value, json};

use super::reinvocation::Reinvocation;
use super::{Write, namespace_lifecycle};
use crate::api::pipeline::Inner;
use crate::api::policy::matching::CONNECTIONS;
use crate::api::registry::Subject;
use crate::api::registry::part::Part;

/// Whether what a write brings is no part of the object in its path, or of any that is stored.
pub fn is_call(write: &Write<'_>) -> bool {
    let under = write.request.target.subresource.as_deref();
    !write.subject.resource.is_stored()
        || under.is_some_and(|sub| sub != "scale" && Part::of(under).is_none())
}

/// Changes what is called.
pub async fn mutate(inner: &Inner, write: &mut Write<'_>, called: &mut Value) -> Result<(), ApiError> {
    // Who may ask what somebody may do in a namespace is not told whether there is one.
    let asks = !write.subject.resource.is_stored() && write.subject.resource.plural != "bindings";
    if !asks {
        namespace_lifecycle::mutate(write, called)?;
    }
    inner.mutate_call(write, called).await
}

/// Refuses to have it called.
pub async fn validate(inner: &Inner, write: &mut Write<'_>, called: &Value) -> Result<(), ApiError> {
    inner.check_policies(write, Some(called)).await?;
    inner.call_validating(write, Some(called)).await
}

impl Inner {
    /// Changes what is called as policies and webhooks say.
    async fn mutate_call(&self, write: &mut Write<'_>, called: &mut Value) -> Result<(), ApiError> {
        let mut looks = Reinvocation::default();
        loop {
            self.apply_policies(write, called, &mut looks).await?;
            self.call_mutating(write, called, &mut looks).await?;
            if !looks.again() {
                return Ok(());
            }
        }
    }

    /// Admits a connection into a pod, Service or node; `path` is what follows a `proxy`.
    pub async fn admit_connection(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        path: &str,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let under = request.target.subresource.as_deref().filter(|sub| CONNECTIONS.contains(sub));
        let Some(kind) = under.and_then(|sub| Some(subject.resource.subresource(sub)?.kind)) else {
            // Logs are read, not connected to.
            return Ok(());
        };
        let snapshot = self.recent().await?;
        let mut options = options(kind, &request.options.extra, path);
        let mut write =
            Write { request, subject, old: None, snapshot: &snapshot, warnings, given_empty: None };
        self.mutate_call(&mut write, &mut options).await?;
        validate(self, &mut write, &options).await
    }
}

/// The options of a connection as an object of their kind.
fn options(kind: &str, query: &[(String, String)], path: &str) -> Value {
    let first = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let all =
        |name: &'static str| query.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str());
    let mut made = json!({"kind": kind, "apiVersion": "v1"});
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if first(flag).is_some_and(|said| said != "0" && !said.eq_ignore_ascii_case("false")) {
                    made[flag] = true.into();
                }
            }
            if let Some(container) = first("container").filter(|name| !name.is_empty()) {
                made["container"] = container.into();
            }
            if kind == "PodExecOptions" {
                made["command"] = all("command").collect::<Vec<_>>().into();
            }
        }
        "PodPortForwardOptions" => {
            let ports: Vec<u16> =
                all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
            if !ports.is_empty() {
                made["ports"] = ports.into();
            }
        }
        _ if !path.is_empty() => made["path"] = format!("/{path}").into(),
        _ => {}
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_connections_are_what_the_query_says() {
        let query = |text: &str| -> Vec<(String, String)> {
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
        };
        for (kind, given, path, expected) in [
            (
                "PodExecOptions",
                "command=sh&command=-c&stdin=true&tty=false&container=web",
                "",
                json!({"stdin": true, "container": "web", "command": ["sh", "-c"]}),
            ),
            ("PodAttachOptions", "stdout=1&stderr=0", "", json!({"stdout": true})),
            ("PodPortForwardOptions", "ports=80,81&ports=x&ports=82", "", json!({"ports": [80, 81, 82]})),
            ("ServiceProxyOptions", "", "a/b", json!({"path": "/a/b"})),
            ("NodeProxyOptions", "", "", json!({})),
        ] {
            let mut expected = expected;
            expected["kind"] = kind.into();
            expected["apiVersion"] = "v1".into();
            assert_eq!(options(kind, &query(given), path), expected, "{kind} {given}");
        }
    }
}
