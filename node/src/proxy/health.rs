//! Health-check node ports: where load balancers outside ask whether this node has endpoints of a Service that wants
//! to be answered on its own nodes only (`externalTrafficPolicy: Local`).
//!
//! Answers as kube-proxy does, because balancers of clouds read it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request, Response, StatusCode};
use actix_service::{Service as _, ServiceFactory, fn_service};
use actors::{Actor, AsyncContext, Context, Handler, SpawnHandle, message};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::RwLock;
use tokio::net::TcpListener;

use super::ServiceKey;
use super::plan::ServicePlan;

#[cfg(test)]
mod tests;

/// Connections to one port that are served at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is asked at one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The Service.
    pub service: ServiceKey,
    /// Its ready endpoints on this node.
    pub local: usize,
}

/// What is asked at each port.
pub type Checks = BTreeMap<u16, Check>;

/// The Services that are proxied, and the ports at which balancers ask about them.
#[derive(Debug, Default)]
pub(super) struct Ports {
    services: BTreeMap<ServiceKey, Option<u16>>,
    checks: Checks,
}

impl Ports {
    /// A Service is planned so now.
    pub(super) fn set(&mut self, key: &ServiceKey, plan: &ServicePlan) {
        let old = match plan.ports.is_empty() {
            true => self.services.remove(key),
            false => self.services.insert(key.clone(), plan.health.map(|(port, _)| port)),
        };
        // The port may be another's by the time that its former owner goes.
        if let Some(port) = old.flatten()
            && self.checks.get(&port).is_some_and(|check| check.service == *key)
        {
            self.checks.remove(&port);
        }
        if let Some((port, local)) = plan.health {
            self.checks.insert(port, Check { service: key.clone(), local });
        }
    }

    /// What is asked at each port.
    pub(super) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// How many Services are proxied.
    pub(super) fn services(&self) -> usize {
        self.services.len()
    }
}

/// What is asked changed.
pub(super) struct Look;
message!(Look => (), |_m| Some("services".into()), coalesce);

/// Listens on the ports while it lives.
pub(super) struct HealthActor {
    /// Written by the proxy; outlives this actor's lives.
    checks: Arc<RwLock<Checks>>,
    listening: BTreeMap<u16, SpawnHandle>,
}

impl HealthActor {
    /// Answers by these.
    pub(super) fn new(checks: Arc<RwLock<Checks>>) -> Self {
        HealthActor { checks, listening: BTreeMap::new() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let checks = self.checks.read().clone();
        self.listening.retain(|port, listening| {
            let stays = checks.contains_key(port);
            if !stays {
                ctx.cancel_future(*listening);
            }
            stays
        });
        for port in checks.keys() {
            if !self.listening.contains_key(port) {
                let serving = serve(*port, self.checks.clone());
                self.listening.insert(*port, ctx.run(serving, |_, (), _| {}));
            }
        }
    }
}

impl Actor for HealthActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Look> for HealthActor {
    type Result = ();
    fn handle(&mut self, _: Look, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

/// The answer at a port: whether there are endpoints here, as status and as text.
fn answer(check: Option<&Check>) -> (StatusCode, usize, String) {
    let (service, local) = check.map_or(("", 0), |check| (&*check.service, check.local));
    let (namespace, name) = service.split_once('/').unwrap_or_default();
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    (if local > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, local, text)
}

fn respond(port: u16, checks: &RwLock<Checks>) -> Response<String> {
    let (status, local, text) = answer(checks.read().get(&port));
    Response::build(status)
        .content_type("application/json")
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("X-Load-Balancing-Endpoint-Weight", local.to_string()))
        .message_body(text)
        .unwrap_or_else(|_| Response::new(StatusCode::INTERNAL_SERVER_ERROR).set_body(String::new()))
}

/// Serves a port for as long as it is polled.
async fn serve(port: u16, checks: Arc<RwLock<Checks>>) {
    let listener = loop {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Ok(listener) => break listener,
            Err(error) => tracing::warn!(port, %error, "a health-check node port cannot be served yet"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let http = HttpService::build()
        .keep_alive(KeepAlive::Disabled)
        .client_request_timeout(PATIENCE)
        .h1(fn_service(move |_: Request| {
            let response = respond(port, &checks);
            async move { Ok::<_, Infallible>(response) }
        }))
        .tcp();
    let Ok(http) = http.new_service(()).await else { return };
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => connections.push(http.call(stream)),
                // Out of file descriptors, say: it passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.next() => {}
        }
    }
}
