//! Ingresses through a whole cluster: a real master, a node that serves them over its link and with its own rights,
//! and a server behind a Service. Only the node's engine is simulated.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpServer, web};
use actors::Stage;
use k8s_openapi::api::core::v1::{Event, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use master::server::{Master, MasterConfig};
use node::ingress::IngressConfig;
use node::link::InMemory;
use node::runtime::simulated::SimulatedRuntime;
use node::simulation::{SimulatedNode, SimulationConfig};
use protocol::{Caller, Client, Object};
use serde_json::{Value, json};

/// Between two looks at something that has to come about.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks.
const LOOKS: usize = 3000;

/// An address of this machine that endpoints may have: not that of the loopback.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // No packet is sent: connecting a UDP socket only asks for the route.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).expect("a route");
    socket.local_addr().expect("an address").ip()
}

/// A server behind a Service; answers whom it was asked for.
fn backend(address: IpAddr) -> SocketAddr {
    async fn answer(request: HttpRequest) -> String {
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        format!("{} {} {}", header("host"), request.path(), header("x-forwarded-proto"))
    }
    let server = HttpServer::new(|| App::new().default_service(web::to(answer))).workers(1).disable_signals();
    let server = server.bind((address, 0)).expect("a port");
    let at = server.addrs()[0];
    actix::spawn(server.run());
    at
}

struct Identity {
    secret: Value,
    pem: String,
}

fn identity(name: &str, host: &str) -> Identity {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).expect("a name");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    let secret = json!({"metadata": {"namespace": "default", "name": name}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pem, "tls.key": key.serialize_pem()}});
    Identity { secret, pem }
}

struct Cluster {
    stage: Stage,
    master: Master,
    node: SimulatedNode,
    admin: Client,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Cluster {
        let dir = tempfile::tempdir().expect("a folder");
        let stage = Stage::local();
        let config = MasterConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            ..MasterConfig::new(dir.path().to_owned())
        };
        let master = Master::start(&stage, config, &mut |_: &str| {}).await.expect("the master starts");
        let admin =
            Client::new(master.pipeline.as_caller(Caller::component("admin", &["system:masters"])), "test");
        let mut config = SimulationConfig::numbered(1);
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.ingress = Some(IngressConfig { node: config.name.clone(), http: any, https: any });
        let connector = InMemory { accept: master.link.in_memory(&config.name) };
        let runtime = SimulatedRuntime::new(Duration::from_millis(10));
        let node = SimulatedNode::start(&stage, config, runtime, Arc::new(connector))
            .await
            .expect("the node starts");
        Cluster { stage, master, node, admin, _dir: dir }
    }

    async fn create<K: Object>(&self, object: Value) {
        let object: K = serde_json::from_value(object).expect("an object");
        self.admin.create(&object).await.expect("created");
    }

    /// Asks by HTTP, or by HTTPS where somebody is trusted, until the answer is as wanted.
    async fn answers(&self, host: &str, trusted: Option<&str>, wanted: &str) {
        let served = self.node.ingress().expect("Ingresses are served");
        let (scheme, at) = if trusted.is_some() { ("https", served.https) } else { ("http", served.http) };
        let at = at.expect("a port");
        let mut client = reqwest::Client::builder().resolve(host, at).no_proxy();
        if let Some(pem) = trusted {
            let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
            client = client.tls_certs_only([certificate]);
        }
        let client = client.build().expect("a client");
        let mut last = String::new();
        for _ in 0..LOOKS {
            last = match client.get(format!("{scheme}://{host}:{}/path", at.port())).send().await {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(e) => format!("{e:?}"),
            };
            if last == wanted {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{host} never answers {wanted:?}, but {last:?}");
    }

    async fn until<T>(&self, what: &str, look: impl AsyncFn(&Client) -> Option<T>) -> T {
        for _ in 0..LOOKS {
            if let Some(found) = look(&self.admin).await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("never: {what}");
    }
}

#[test]
fn an_ingress_is_served_from_the_first_write_to_a_new_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    actix_rt::System::new().block_on(async {
        let cluster = Cluster::start().await;
        let at = backend(own_address());
        let class = cluster.until("the class", async |admin| admin.find::<IngressClass>("", "troupe").await.ok()?).await;
        assert_eq!(class.spec.and_then(|spec| spec.controller).as_deref(), Some("troupe.dev/ingress"));

        cluster.create::<Service>(json!({"metadata": {"namespace": "default", "name": "web"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": at.port()}]}})).await;
        cluster.create::<EndpointSlice>(json!({"addressType": "IPv4",
            "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": at.port()}], "endpoints": [{"addresses": [at.ip()]}]})).await;
        cluster.create::<Ingress>(json!({"metadata": {"namespace": "default", "name": "web"},
            "spec": {"ingressClassName": "troupe",
                "tls": [{"hosts": ["web.example"], "secretName": "web-tls"}],
                "rules": [{"host": "web.example", "http": {"paths": [{"path": "/path", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]}})).await;
        let port = |at: Option<SocketAddr>| at.map(|at| at.port()).unwrap_or_default();
        let served = cluster.node.ingress().expect("Ingresses are served");
        let plain = format!("web.example:{} /path http", port(served.http));
        let secure = format!("web.example:{} /path https", port(served.https));
        cluster.answers("web.example", None, &plain).await;

        // The node's address is in the status, by the master's word.
        let ip = cluster.until("the address", async |admin| {
            let ingress = admin.get::<Ingress>("default", "web").await.ok()?;
            ingress.status?.load_balancer?.ingress?.first()?.ip.clone()
        }).await;
        assert_eq!(ip, "172.16.0.1");

        // The owner is told of the Secret that is missing; once it is there, it is shown.
        cluster.until("the event", async |admin| {
            let events = admin.list::<Event>("default").await.ok()?;
            events.into_iter().find(|e| e.reason.as_deref() == Some("SecretMissing"))
        }).await;
        let first = identity("web-tls", "web.example");
        cluster.create::<Secret>(first.secret).await;
        cluster.answers("web.example", Some(&first.pem), &secure).await;
        let second = identity("web-tls", "web.example");
        let renewed: Secret = serde_json::from_value(second.secret).expect("a secret");
        cluster.admin.update(&renewed).await.expect("updated");
        cluster.answers("web.example", Some(&second.pem), &secure).await;

        // The node has got at this Secret, and at no other.
        cluster.create::<Secret>(json!({"metadata": {"namespace": "default", "name": "private"}})).await;
        let node = Caller::component("system:node:node-1", &["system:nodes"]);
        let node = Client::new(cluster.master.pipeline.as_caller(node), "test");
        assert!(node.get::<Secret>("default", "web-tls").await.is_ok());
        let refused = node.get::<Secret>("default", "private").await.expect_err("it is not the node's");
        assert_eq!(refused.code(), 403);

        cluster.node.stop();
        cluster.master.front.stop().await;
        let left = cluster.stage.shut_down(Duration::from_secs(10)).await;
        assert!(left.is_empty(), "actors are left running: {left:?}");
    });
}
