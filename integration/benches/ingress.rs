//! The memory of a node that serves Ingresses: resident bytes before, with so many Ingresses of as many Services with an
//! endpoint each, and for one of them.
//!
//!     cargo bench -p troupe --bench ingress      (TROUPE_BENCH_INGRESSES: how many, 10,000)

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use async_trait::async_trait;
use bytes::Bytes;
use integration::tools::bench::process::Process;
use node::ingress::{self, IngressConfig};
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Client, WatchStream};
use serde_json::{Value, json};

/// What is asked to settle before memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

fn count() -> usize {
    std::env::var("TROUPE_BENCH_INGRESSES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// As the API server would show them: with what it adds of its own.
fn object(kind: &str, version: &str, n: usize, labels: Value, rest: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {
        "name": format!("app-{n}"), "namespace": "default", "uid": format!("00000000-0000-4000-8000-{n:012}"),
        "resourceVersion": n.to_string(), "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": labels, "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:ports": {}, "f:rules": {}}}}]}});
    if let (Some(object), Some(rest)) = (object.as_object_mut(), rest.as_object()) {
        object.extend(rest.clone());
    }
    object
}

fn ingress_of(n: usize) -> Value {
    let backend = json!({"service": {"name": format!("app-{n}"), "port": {"number": 80}}});
    let paths = ["/", "/api"].map(|path| json!({"path": path, "pathType": "Prefix", "backend": backend}));
    let rules = json!([{"host": format!("app-{n}.example.com"), "http": {"paths": paths}}]);
    let rest = json!({"spec": {"ingressClassName": "troupe", "rules": rules}});
    object("Ingress", "networking.k8s.io/v1", n, json!({"app": format!("app-{n}")}), rest)
}

fn service(n: usize) -> Value {
    let address =
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + u32::try_from(n).unwrap_or_default());
    let rest = json!({"spec": {"clusterIP": address, "clusterIPs": [address], "type": "ClusterIP",
        "selector": {"app": format!("app-{n}")}, "ports": [{"name": "web", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}});
    object("Service", "v1", n, json!({"app": format!("app-{n}")}), rest)
}

fn slice(n: usize) -> Value {
    let address =
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 0, 0)) + u32::try_from(n).unwrap_or_default());
    let target = json!({"kind": "Pod", "namespace": "default", "name": format!("app-{n}-0")});
    let rest = json!({"addressType": "IPv4", "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": "n2", "conditions": {"ready": true}, "targetRef": target}]});
    object(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        n,
        json!({"kubernetes.io/service-name": format!("app-{n}")}),
        rest,
    )
}

/// Lists what there is; nothing changes.
struct Listing(usize);

#[async_trait]
impl Api for Listing {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let of = |make: fn(usize) -> Value| (0..self.0).map(make).collect();
        let items: Vec<Value> = match request.target.resource.as_str() {
            "ingresses" => of(ingress_of),
            "services" => of(service),
            "endpointslices" => of(slice),
            "ingressclasses" => {
                vec![json!({"metadata": {"name": "troupe"}, "spec": {"controller": "troupe.dev/ingress"}})]
            }
            _ => Vec::new(),
        };
        let body = Bytes::from(json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string());
        Ok(ApiResponse { code: 200, body, revision: 1, warnings: Vec::new() })
    }

    async fn watch(&self, _: ApiRequest) -> Result<WatchStream, ApiError> {
        Ok(Box::pin(futures::stream::pending()))
    }
}

/// Resident bytes once `count` Ingresses are served, in a process of its own.
async fn serve(count: usize) -> Result<u64, Box<dyn Error>> {
    let stage = Stage::local();
    let http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let config = IngressConfig { node: "n1".to_owned(), http, https: None };
    let served = ingress::start(&stage, config, Client::new(Arc::new(Listing(count)), "bench"))?;
    while !served.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let resident = Process { pid: std::process::id(), name: String::new() }.memory().0;
    served.stop();
    stage.shut_down(Duration::from_secs(5)).await;
    Ok(resident)
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(count) =
        std::env::args().nth(2).filter(|_| std::env::args().nth(1).as_deref() == Some("--serve"))
    {
        let resident = actix::System::new().block_on(serve(count.parse()?))?;
        println!("{resident}");
        return Ok(());
    }
    let resident = |count: usize| -> Result<u64, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let output = std::process::Command::new(program).args(["--serve", &count.to_string()]).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    let (none, all, count) = (resident(0)?, resident(count())?, count());
    let each = all.saturating_sub(none) / u64::try_from(count.max(1))?;
    println!(
        "{count} Ingresses: {} KiB resident, {} KiB without ({each} bytes an Ingress)",
        all >> 10,
        none >> 10
    );
    Ok(())
}
