//! What is done to an API, in which order, and what is sent.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::load::{self, Measured};
use super::process::{self, Process};
use super::report::{Memory, Report, Row};
use super::{ApiArgs, fan_out};
use crate::tools::client::{Cluster, ToolError};

/// A hundredth of the pods shares a value of this label.
const GROUP: &str = "bench.troupe/group";
/// How long the namespace's default ServiceAccount may take to appear.
const ACCOUNT_TRIES: u32 = 200;
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// Create each pod.
    Create,
    /// Get each pod.
    Get,
    /// List all pods, as new as can be.
    List,
    /// List all pods with resourceVersion=0.
    ListCached,
    /// List the hundredth of the pods that a label selects.
    ListSelected,
    /// Change a label of each pod by a merge patch.
    Patch,
    /// Change a label of each pod by server-side apply.
    Apply,
    /// Have many watchers see a number of writes; counted by deliveries.
    Watch,
    /// Delete each pod.
    Delete,
}

impl Operation {
    const ALL: [Operation; 9] = [
        Operation::Create,
        Operation::Get,
        Operation::List,
        Operation::ListCached,
        Operation::ListSelected,
        Operation::Patch,
        Operation::Apply,
        Operation::Watch,
        Operation::Delete,
    ];

    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Get => "get",
            Operation::List => "list",
            Operation::ListCached => "list cached",
            Operation::ListSelected => "list selected",
            Operation::Patch => "patch",
            Operation::Apply => "apply",
            Operation::Watch => "watch fan-out",
            Operation::Delete => "delete",
        }
    }

    /// Without these there is nothing to measure the others on, and nothing is left tidy.
    fn always(self) -> bool {
        matches!(self, Operation::Create | Operation::Delete)
    }
}

/// A benchmark under way.
struct Run<'a> {
    connections: &'a [Cluster],
    args: &'a ApiArgs,
    /// The path of the pods.
    path: String,
}

/// Runs everything that is wanted and removes what was made, also after a failure. Shows what the server's process
/// costs, where it is on this machine, and what `others` do.
pub async fn run(connections: &[Cluster], args: &ApiArgs, others: &[Process]) -> Result<Report, ToolError> {
    let first = connections.first().ok_or_else(|| ToolError::Refused("no connection".to_owned()))?;
    let version: Value = first.get("/version", &[]).await?;
    for connection in &connections[1..] {
        // Opened before the clock runs.
        let _: Value = connection.get("/version", &[]).await?;
    }
    let namespace = format!("troupe-bench-{:x}", std::process::id());
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let _: Value = first.post("/api/v1/namespaces", &[], Some(&made)).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let run = Run { connections, args, path };
    let mut processes = process::find(first.local_port(), &args.processes);
    processes.extend_from_slice(others);
    let measured = run.all(&processes, &namespace).await;
    let removed = run.send(0, Method::DELETE, &format!("/api/v1/namespaces/{namespace}"), &[], None).await;
    let rows = measured?;
    removed.map_err(ToolError::Refused)?;
    let memory = processes.into_iter().map(|p| {
        let (resident, peak) = p.memory();
        Memory { name: p.name, pid: p.pid, resident, peak }
    });
    Ok(Report {
        server: first.server().to_owned(),
        version: version["gitVersion"].as_str().unwrap_or_default().to_owned(),
        sizes: [
            ("pods", args.pods),
            ("requests at once", args.concurrency),
            ("connections", args.connections),
        ],
        rows,
        processes: memory.collect(),
    })
}

impl Run<'_> {
    async fn all(&self, processes: &[Process], namespace: &str) -> Result<Vec<Row>, ToolError> {
        self.wait_for_account(namespace).await?;
        processes.iter().for_each(Process::reset_peak);
        let mut rows = Vec::new();
        for operation in Operation::ALL {
            let wanted = self.args.only.is_empty() || self.args.only.contains(&operation);
            if !wanted && !operation.always() {
                continue;
            }
            let before: Vec<Duration> = processes.iter().map(Process::cpu).collect();
            let measured = self.measure(operation).await?;
            let spent = processes.iter().zip(&before).map(|(p, before)| p.cpu().saturating_sub(*before));
            if operation == Operation::Create && measured.took.is_empty() {
                return Err(ToolError::Refused(format!(
                    "no pod could be created: {}",
                    measured.first_error.unwrap_or_default()
                )));
            }
            if wanted {
                rows.push(Row { operation, cpu: spent.collect(), measured });
            }
        }
        Ok(rows)
    }

    /// Pods are refused until their namespace has its default ServiceAccount.
    async fn wait_for_account(&self, namespace: &str) -> Result<(), ToolError> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        let mut last = String::new();
        for _ in 0..ACCOUNT_TRIES {
            match self.send(0, Method::GET, &path, &[], None).await {
                Ok(_) => return Ok(()),
                Err(why) => last = why,
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
        Err(ToolError::Refused(format!("the namespace gets no default ServiceAccount: {last}")))
    }

    async fn measure(&self, operation: Operation) -> Result<Measured, ToolError> {
        let (pods, lists) = (self.args.pods, self.args.lists);
        let name = operation.name();
        let list = |query: &'static [(&'static str, &'static str)]| {
            let query: Vec<(&str, String)> = query.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
            load::run(name, lists, self.args.concurrency.min(lists), move |n| {
                let query = query.clone();
                async move { self.send(n, Method::GET, &self.path, &query, None).await }
            })
        };
        let each = |method: Method,
                    query: &'static [(&'static str, &'static str)],
                    body: fn(u32) -> Option<Body>| {
            let query: Vec<(&str, String)> = query.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
            load::run(name, pods, self.args.concurrency, move |n| {
                let (method, query) = (method.clone(), query.clone());
                async move { self.send(n, method, &self.of(n), &query, body(n)).await }
            })
        };
        Ok(match operation {
            Operation::Create => {
                load::run(name, pods, self.args.concurrency, |n| async move {
                    self.send(n, Method::POST, &self.path, &[], Some(pod(n))).await
                })
                .await
            }
            Operation::Get => each(Method::GET, &[], |_| None).await,
            Operation::List => list(&[]).await,
            Operation::ListCached => list(&[("resourceVersion", "0")]).await,
            Operation::ListSelected => list(&[("labelSelector", "bench.troupe/group=g7")]).await,
            Operation::Patch => each(Method::PATCH, &[], |n| Some(relabelled(n))).await,
            Operation::Apply => {
                each(Method::PATCH, &[("fieldManager", "bench"), ("force", "true")], |n| Some(applied(n)))
                    .await
            }
            Operation::Watch => self.fan_out().await?,
            Operation::Delete => each(Method::DELETE, &[("gracePeriodSeconds", "0")], |_| None).await,
        })
    }

    async fn fan_out(&self) -> Result<Measured, ToolError> {
        let list: Value = self.connections[0].get(&self.path, &[("limit", "1".to_owned())]).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let sizes = (self.args.watchers, self.args.events);
        fan_out::run(self.connections, &self.path, &revision, sizes, |n| async move {
            let body = Body {
                media: "application/merge-patch+json",
                text: json!({"metadata": {"annotations": {"bench.troupe/event": n.to_string()}}}).to_string(),
            };
            self.send(n, Method::PATCH, &self.of(n % self.args.pods), &[], Some(body)).await
        })
        .await
    }

    /// The path of the `n`-th pod.
    fn of(&self, n: u32) -> String {
        format!("{}/{}", self.path, pod_name(n))
    }

    /// Sends a request and reads its answer to the end without keeping it; how many bytes it had.
    async fn send(
        &self,
        n: u32,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Body>,
    ) -> Result<u64, String> {
        let connection = &self.connections[n as usize % self.connections.len()];
        let mut request = connection.request(method, path, query);
        if let Some(body) = body {
            request = request.header("content-type", body.media).body(body.text);
        }
        let mut response = request.send().await.map_err(|e| e.to_string())?;
        let status = response.status();
        if !status.is_success() {
            let said: Value = response.json().await.unwrap_or_default();
            return Err(format!("HTTP {status}: {}", said["message"].as_str().unwrap_or_default()));
        }
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }
}

/// What a request carries.
struct Body {
    media: &'static str,
    text: String,
}

fn pod_name(n: u32) -> String {
    format!("pod-{n:06}")
}

/// A pod of the usual size: two containers, some environment, probes and resources.
fn pod(n: u32) -> Body {
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": "registry.example/bench/app:1.0", "args": ["--listen", format!(":{port}")],
            "ports": [{"containerPort": port, "name": format!("p{port}")}],
            "env": [
                {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "LOG_LEVEL", "value": "info"},
            ],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": port}},
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(n),
            "labels": {"app": "bench", GROUP: format!("g{}", n % 100)},
            "annotations": {"bench.troupe/note": "made to be measured"},
        },
        "spec": {
            "schedulerName": "troupe-bench-nobody",
            "terminationGracePeriodSeconds": 0,
            "containers": [container("app", 8080), container("sidecar", 9090)],
        },
    });
    Body { media: "application/json", text: pod.to_string() }
}

fn relabelled(n: u32) -> Body {
    let patch = json!({"metadata": {"labels": {"bench.troupe/patched": n.to_string()}}});
    Body { media: "application/merge-patch+json", text: patch.to_string() }
}

fn applied(n: u32) -> Body {
    let wanted = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(n), "labels": {"bench.troupe/applied": n.to_string()}},
    });
    Body { media: "application/apply-patch+yaml", text: wanted.to_string() }
}
