//! The ports that kubelets have: 10250 with TLS (clients show a certificate of the cluster's CA), 10255
//! read-only, 10248 for health. Exec, attach and port-forward are not here: they come over the node's link.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use actix_web::http::header::ContentType;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actors::{Actor, Context};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use protocol::streams::{ContainerTarget, LogRequest, NodeStreams};

use super::Shared;
use super::config::ServerConfig;
use super::streams::Streams;
use crate::runtime::{ContainerState, clock};

mod metrics;
#[cfg(test)]
mod tests;
mod tls;

/// Text of the Prometheus exposition format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the settings can be served: certificates and key are readable.
pub fn check(settings: &ServerConfig) -> Result<(), String> {
    tls::config(settings).map(drop)
}

/// Serves the ports while it lives.
pub struct ServerActor {
    shared: Arc<Shared>,
    settings: ServerConfig,
}

impl ServerActor {
    /// The actor that serves a kubelet's ports.
    pub fn new(shared: Arc<Shared>, settings: ServerConfig) -> Self {
        ServerActor { shared, settings }
    }

    fn run(&self, ctx: &mut Context<Self>) -> Result<(), String> {
        let text = |e: std::io::Error| e.to_string();
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let main = {
            let shared = self.shared.clone();
            let server = HttpServer::new(move || {
                App::new().app_data(web::Data::new(shared.clone())).configure(read_only).configure(private)
            });
            let server = server.workers(1).disable_signals();
            let tls = tls::config(&self.settings)?;
            server.bind_rustls_0_23(SocketAddr::new(any, self.settings.port), tls).map_err(text)?.run()
        };
        ctx.run(main, |_, result, ctx| ctx.fail(format!("port 10250 ended: {result:?}")));
        if self.settings.read_only_port != 0 {
            let shared = self.shared.clone();
            let server = HttpServer::new(move || {
                App::new().app_data(web::Data::new(shared.clone())).configure(read_only)
            });
            let at = SocketAddr::new(any, self.settings.read_only_port);
            let server = server.workers(1).disable_signals().bind(at).map_err(text)?.run();
            ctx.run(server, |_, result, ctx| ctx.fail(format!("the read-only port ended: {result:?}")));
        }
        if self.settings.health_port != 0 {
            let server = HttpServer::new(|| App::new().route("/healthz", web::get().to(healthz)));
            let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.settings.health_port);
            let server = server.workers(1).disable_signals().bind(at).map_err(text)?.run();
            ctx.run(server, |_, result, ctx| ctx.fail(format!("the health port ended: {result:?}")));
        }
        Ok(())
    }
}

impl Actor for ServerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Err(e) = self.run(ctx) {
            // A port that is taken may become free: the supervisor tries again, with growing pauses.
            ctx.fail(e);
        }
    }
}

type Data = web::Data<Arc<Shared>>;

fn read_only(config: &mut web::ServiceConfig) {
    config
        .route("/healthz", web::get().to(healthz))
        .route("/pods", web::get().to(pods))
        .route("/metrics", web::get().to(own_metrics))
        .route("/metrics/cadvisor", web::get().to(cadvisor))
        .route("/metrics/resource", web::get().to(resource))
        .route("/stats/summary", web::get().to(summary));
}

fn private(config: &mut web::ServiceConfig) {
    config
        .route("/runningpods/", web::get().to(running_pods))
        .route("/runningpods", web::get().to(running_pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", web::get().to(container_logs));
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok")
}

fn pod_list(items: &[Pod]) -> HttpResponse {
    HttpResponse::Ok()
        .json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

async fn pods(shared: Data) -> HttpResponse {
    pod_list(&shared.registry.pods())
}

/// The pods as the engine sees them.
async fn running_pods(shared: Data) -> HttpResponse {
    let Ok(all) = shared.runtime.list(&[]).await else {
        return HttpResponse::InternalServerError().body("the container engine does not answer");
    };
    let mut by_pod: BTreeMap<_, Vec<serde_json::Value>> = BTreeMap::new();
    for container in all.iter().filter(|c| c.state == ContainerState::Running) {
        let identity = container.pod();
        let of = by_pod.entry((identity.namespace, identity.name, identity.uid)).or_default();
        if !container.is_sandbox() {
            of.push(serde_json::json!({"name": container.name(), "image": container.image, "resources": {}}));
        }
    }
    let items: Vec<_> = by_pod
        .into_iter()
        .map(|((namespace, name, uid), containers)| {
            serde_json::json!({"metadata": {"namespace": namespace, "name": name, "uid": uid},
                "spec": {"containers": containers}, "status": {}})
        })
        .collect();
    HttpResponse::Ok()
        .json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

async fn own_metrics(request: HttpRequest, shared: Data) -> HttpResponse {
    let accept = request.headers().get("accept").and_then(|accept| accept.to_str().ok());
    // It is long, and partly read off the kernel.
    let (accept, stage) = (accept.unwrap_or_default().to_owned(), shared.stage.clone());
    match tokio::task::spawn_blocking(move || stage.exposition(&accept)).await {
        Ok((media, text)) => HttpResponse::Ok().content_type(media).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

async fn cadvisor(shared: Data) -> HttpResponse {
    let samples = metrics::collect(&shared).await;
    HttpResponse::Ok().content_type(TEXT).body(metrics::cadvisor(&samples, &shared))
}

async fn resource(shared: Data) -> HttpResponse {
    let samples = metrics::collect(&shared).await;
    HttpResponse::Ok().content_type(TEXT).body(metrics::resource(&samples))
}

async fn summary(shared: Data) -> HttpResponse {
    let samples = metrics::collect(&shared).await;
    HttpResponse::Ok().json(metrics::summary(&samples, &shared))
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LogQuery {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
    since_seconds: Option<i64>,
    since_time: Option<String>,
}

async fn container_logs(request: HttpRequest, shared: Data, query: web::Query<LogQuery>) -> HttpResponse {
    let part = |name: &str| request.match_info().get(name).unwrap_or_default().to_owned();
    let now = clock::timestamp(actors::time::now()).as_nanosecond();
    let since = match (query.since_seconds, &query.since_time) {
        (Some(seconds), _) => i64::try_from(now - i128::from(seconds) * 1_000_000_000).ok(),
        (None, Some(time)) => time
            .parse::<k8s_openapi::jiff::Timestamp>()
            .ok()
            .and_then(|t| i64::try_from(t.as_nanosecond()).ok()),
        (None, None) => None,
    };
    let wanted = LogRequest {
        target: ContainerTarget {
            namespace: part("namespace"),
            pod: part("pod"),
            container: part("container"),
            uid: String::new(),
        },
        follow: query.follow,
        previous: query.previous,
        timestamps: query.timestamps,
        since_unix_nanos: since,
        tail_lines: query.tail_lines,
        limit_bytes: query.limit_bytes,
        ..LogRequest::default()
    };
    let streams = Streams::new(shared.runtime.clone(), shared.logs.clone());
    match streams.logs("", wanted).await {
        Ok(text) => HttpResponse::Ok()
            .content_type(ContentType::plaintext())
            .streaming(text.map(|piece| piece.map_err(|e| std::io::Error::other(e.to_string())))),
        Err(e) => {
            let code = actix_web::http::StatusCode::from_u16(e.code()).unwrap_or_default();
            HttpResponse::build(code).body(e.to_string())
        }
    }
}
