//! Asking another API server: whether it is there, and what its documents say.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::Caller;
use serde_json::Value;

use crate::aggregation::known::Documents;
use crate::aggregation::reach::{Question, Said};
use crate::aggregation::services::Backend;
use crate::aggregation::{AGGREGATOR, Aggregation, discovered};

/// Questions asked at once; one good answer is enough.
const ATTEMPTS: usize = 5;
/// How long an answer may take.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of a discovery document.
const DISCOVERY_BYTES_MAX: usize = 3 << 20;
/// Bytes of an OpenAPI document.
const OPENAPI_BYTES_MAX: usize = 4 << 20;

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// Whether a server is there; otherwise why not.
pub async fn answers(aggregation: &Aggregation, backend: &Backend) -> Result<(), String> {
    // Whoever may do everything may also see this.
    let caller = Caller { groups: vec!["system:masters".to_owned()], ..caller() };
    let url = format!("https://{}:{}{}", backend.host(), backend.port, backend.root());
    let path = backend.root();
    let ask = || async {
        let question = Question { checked: false, ..question(&caller, &path, "*/*", DISCOVERY_BYTES_MAX) };
        match aggregation.ask(backend, &question).await {
            Ok(Said { code: 200..=299, .. }) => Ok(()),
            Ok(Said { code, .. }) => Err(format!("bad status from {url}: {code}")),
            Err(error) => Err(error.to_string()),
        }
    };
    let mut asked: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| ask()).collect();
    let mut last = String::new();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(format!("failing or missing response from {url}: {last}"))
}

fn caller() -> Caller {
    Caller::component(AGGREGATOR, &[])
}

fn question<'a>(caller: &'a Caller, path: &'a str, accept: &'a str, bytes_max: usize) -> Question<'a> {
    let body = bytes::Bytes::new();
    Question { method: "GET", path, body, caller, accept, time: TIME, bytes_max, checked: true }
}

/// Reads a server's documents about its version of a group.
pub async fn documents(aggregation: &Aggregation, backend: &Backend) -> Result<Documents, String> {
    let caller = caller();
    let (group, version) = (&backend.group, &backend.version);
    let read = async |path: &str, accept: &str, bytes_max: usize| -> Result<Option<bytes::Bytes>, String> {
        let said = aggregation.ask(backend, &question(&caller, path, accept, bytes_max)).await;
        let said = said.map_err(|error| format!("GET {path}: {error}"))?;
        Ok((said.code == 200).then_some(said.body))
    };
    let value = |bytes: &bytes::Bytes| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
    let all = read("/apis", AGGREGATED, DISCOVERY_BYTES_MAX).await?;
    let resources = match all.and_then(|all| discovered::aggregated(&value(&all), group, version)) {
        Some(resources) => resources,
        None => {
            let root = backend.root();
            let list = read(&root, "application/json", DISCOVERY_BYTES_MAX).await?;
            list.and_then(|list| discovered::legacy(&value(&list), group, version))
                .ok_or_else(|| format!("failed to download discovery for {root}"))?
        }
    };
    // A server without these is one whose kinds cannot be explained, no worse.
    let json = "application/json";
    let openapi = read(&format!("/openapi/v3{}", backend.root()), json, OPENAPI_BYTES_MAX).await;
    let openapi_v2 = read("/openapi/v2", json, OPENAPI_BYTES_MAX).await;
    for why in [openapi.as_ref().err(), openapi_v2.as_ref().err()].into_iter().flatten() {
        tracing::debug!(service = backend.name, why, "an OpenAPI document was not read");
    }
    Ok(Documents {
        resources,
        openapi: openapi.ok().flatten().filter(|body| value(body).is_object()),
        openapi_v2: openapi_v2.ok().flatten().map(|body| value(&body)).filter(Value::is_object).map(Arc::new),
        stale: false,
    })
}
