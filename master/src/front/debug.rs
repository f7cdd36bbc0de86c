//! What Troupe shows of itself: traces, live actors, metrics; and the order to make an actor panic.

use actix_web::HttpResponse;
use actors::Stage;
use actors::trace::Record;
use protocol::ApiError;
use protocol::link::{ProcessActors, TraceQuery};
use serde::{Deserialize, Serialize};

use super::path;
use crate::link::Nodes;

/// Records that one query returns at most.
const RECORDS_MAX: u32 = 20_000;

/// Traces, actors and metrics of this process and of the nodes that are linked to it.
#[derive(Clone)]
pub struct Debug {
    /// This process's actors.
    pub stage: Stage,
    /// Nodes of other processes.
    pub nodes: Nodes,
    /// The node that runs in this process: its records and actors are already ours.
    pub in_process: Option<String>,
}

/// Records of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessRecords {
    /// `master`, or `node/NAME`.
    pub process: String,
    /// Its records.
    pub records: Vec<Record>,
}

impl Debug {
    /// `/metrics`.
    pub(super) async fn metrics(&self, accept: &str) -> HttpResponse {
        // It is long, and partly read off the kernel.
        let stage = self.stage.clone();
        let accept = accept.to_owned();
        match tokio::task::spawn_blocking(move || stage.exposition(&accept)).await {
            Ok((media, text)) => HttpResponse::Ok().content_type(media).body(text),
            Err(_) => HttpResponse::InternalServerError().finish(),
        }
    }

    pub(super) async fn handle(
        &self,
        method: &str,
        at: &str,
        query: &str,
        _: &[u8],
    ) -> Result<HttpResponse, ApiError> {
        let query = path::query(query);
        let get = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        match (method, at) {
            ("GET", "/debug/troupe/records") => {
                let mut traces = Vec::new();
                for text in query.iter().filter(|(n, _)| n == "trace").map(|(_, v)| v) {
                    let trace = u128::from_str_radix(text, 16);
                    traces.push(
                        trace.map_err(|_| ApiError::bad_request(format!("\"{text}\" is no trace id")))?,
                    );
                }
                let limit = get("limit").and_then(|l| l.parse().ok()).unwrap_or(RECORDS_MAX).min(RECORDS_MAX);
                let wanted = TraceQuery { traces, key: get("key"), actor: get("actor"), limit };
                Ok(HttpResponse::Ok().json(self.records(&wanted).await))
            }
            ("GET", "/debug/troupe/actors") => Ok(HttpResponse::Ok().json(self.actors().await)),
            ("POST", "/debug/troupe/panic") => {
                let path = get("actor").ok_or_else(|| ApiError::bad_request("say which: ?actor=PATH"))?;
                let done = match get("node").filter(|n| Some(n) != self.in_process.as_ref()) {
                    Some(node) => self.nodes.inject_panic(&node, &path).await?,
                    None => self.stage.inject_panic(&path),
                };
                if done {
                    Ok(HttpResponse::Ok().json(serde_json::json!({"panicked": path})))
                } else {
                    Err(ApiError::new(
                        404,
                        "NotFound",
                        format!("no live actor has the path \"{path}\"; see: troupe actors"),
                    ))
                }
            }
            _ => Err(ApiError::new(404, "NotFound", "the server could not find the requested resource")),
        }
    }

    async fn records(&self, wanted: &TraceQuery) -> Vec<ProcessRecords> {
        let mut all = vec![ProcessRecords { process: "master".to_owned(), records: wanted.answer() }];
        for (node, records) in self.nodes.records(wanted).await {
            if Some(&node) != self.in_process.as_ref() {
                all.push(ProcessRecords { process: format!("node/{node}"), records });
            }
        }
        all
    }

    async fn actors(&self) -> Vec<ProcessActors> {
        let process = match &self.in_process {
            Some(node) => format!("master and node/{node}"),
            None => "master".to_owned(),
        };
        let mut all = vec![ProcessActors { process, actors: self.stage.actors() }];
        let own = self.in_process.as_ref().map(|n| format!("node/{n}"));
        all.extend(self.nodes.actors().await.into_iter().filter(|p| Some(&p.process) != own.as_ref()));
        all
    }
}
