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
    /// `/metrics`: in OpenMetrics' format for those who ask for it, in Prometheus' older one for others.
    pub(super) async fn metrics(&self, accept: &str) -> HttpResponse {
        // It is long, and partly read off the kernel.
        let stage = self.stage.clone();
        let Ok(text) = tokio::task::spawn_blocking(move || stage.encode_metrics()).await else {
            return HttpResponse::InternalServerError().finish();
        };
        let (media, text) = if accept.contains("application/openmetrics-text") {
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
        } else {
            ("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", plain_metrics(&text))
        };
        HttpResponse::Ok().content_type(media).body(text)
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

/// OpenMetrics' text as readers of the older format want it: a counter is declared under the name that its
/// samples have, and there are neither units nor an end.
fn plain_metrics(text: &str) -> String {
    let mut counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    counters.sort_unstable();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let declared = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match declared.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if counters.binary_search(&name).is_ok() => {
                out.push_str(&format!("{}{name}_total {rest}\n", &line[..7]));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain_metrics;

    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let text = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n# HELP g Now.\n# TYPE g gauge\n\
                    # UNIT g seconds\ng 2\n# EOF\n";
        let expected = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n# HELP g Now.\n\
                        # TYPE g gauge\ng 2\n";
        assert_eq!(plain_metrics(text), expected);
    }
}
