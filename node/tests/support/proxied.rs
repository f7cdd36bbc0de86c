//! A lab whose node runs the service proxy, and the objects that it is told of.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use actors::Stage;
use node::proxy::{self, NodeFacts, ProxyConfig, ProxyHandle, ProxyMode, Scheduler};
use node::services::Services;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use super::netns::Lab;
use super::scripted::Scripted;

/// Endpoint addresses of pods `b` and `c`.
pub const B: &str = "10.7.0.3";
pub const C: &str = "10.7.0.4";
/// The node's address on the network beside it.
pub const NODE: &str = "192.168.77.1";
/// How long an answer is waited for that is not to come.
const SILENCE: Duration = Duration::from_millis(800);

/// The lab, the API, and the proxy.
pub struct Proxied {
    pub lab: Lab,
    pub api: Scripted,
    pub mode: ProxyMode,
    pub proxy: ProxyHandle,
    stage: Stage,
}

/// What of an endpoint is other than usual.
pub fn endpoint(ip: &str, more: Value) -> Value {
    let mut endpoint = json!({"addresses": [ip], "nodeName": "n1"});
    for (key, value) in more.as_object().unwrap() {
        endpoint[key] = value.clone();
    }
    endpoint
}

impl Proxied {
    /// Starts a proxy on the lab's node.
    pub fn start(lab: Lab, api: Scripted, mode: ProxyMode, scheduler: Scheduler) -> Proxied {
        let stage = Stage::local();
        let facts = NodeFacts {
            name: "n1".into(),
            cluster_cidrs: vec!["10.7.0.0/24".parse().unwrap(), "fd00:7::/64".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            ..NodeFacts::default()
        };
        let look_interval = Duration::from_millis(200);
        let config = ProxyConfig { facts, mode, scheduler, look_interval, services: Services::default() };
        let proxy = proxy::start(&stage, config, api.client());
        Proxied { lab, api, mode, proxy, stage }
    }

    /// Ends the proxy's process, as it were: rules stay.
    pub async fn end(self) -> (Lab, Scripted) {
        let left = self.stage.shut_down(Duration::from_secs(5)).await;
        assert!(left.is_empty(), "{left:?}");
        (self.lab, self.api)
    }

    /// Makes an actor panic; whether there is such an actor.
    pub fn panic(&self, path: &str) -> bool {
        self.stage.inject_panic(path)
    }

    /// Puts a Service of port 80.
    pub fn service(&self, name: &str, ip: &str, more: Value) {
        self.service_with(name, ip, more, json!({}));
    }

    /// Puts a Service of port 80 with a status.
    pub fn service_with(&self, name: &str, ip: &str, more: Value, status: Value) {
        let mut spec = json!({"clusterIP": ip, "ports": [{"port": 80, "protocol": "TCP"}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.api.set("services", object(name, spec, status));
    }

    /// Deletes a Service.
    pub fn delete(&self, name: &str) {
        self.api.delete("services", object(name, json!({"clusterIP": "10.96.0.5"}), json!({})));
    }

    /// Puts a Service's only slice, of port 8080 on these addresses of this node.
    pub fn endpoints(&self, service: &str, protocol: &str, ips: &[&str]) {
        let endpoints = ips.iter().map(|ip| endpoint(ip, json!({}))).collect();
        self.slice(service, "1", json!([{"port": 8080, "protocol": protocol}]), endpoints);
    }

    /// Puts a slice of a Service.
    pub fn slice(&self, service: &str, suffix: &str, ports: Value, endpoints: Vec<Value>) {
        self.slice_of("IPv4", service, suffix, ports, endpoints);
    }

    /// Puts a slice of a Service, with addresses of this type.
    pub fn slice_of(&self, kind: &str, service: &str, suffix: &str, ports: Value, endpoints: Vec<Value>) {
        self.api.set(
            "endpointslices",
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"namespace": "default", "name": format!("{service}-{suffix}"),
                             "labels": {"kubernetes.io/service-name": service}},
                "addressType": kind, "ports": ports, "endpoints": endpoints,
            }),
        );
    }

    /// Waits until the node is as was told.
    pub async fn settled(&self) {
        // A change needs a moment to arrive before the proxy can be unsettled by it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..2000 {
            let state = self.proxy.state().await.expect("the proxy answers");
            assert_eq!(state.error, None);
            if state.settled {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the proxy does not settle");
    }

    /// Whether what answers sees this node in place of its clients, however they came.
    pub fn hides_clients(&self) -> bool {
        self.mode == ProxyMode::Userspace
    }

    /// Connects, while the proxy goes on; what is answered.
    pub async fn tcp(&self, from: &str, to: &str) -> std::io::Result<String> {
        self.connect(from, None, to, Duration::from_secs(5)).await
    }

    /// Connects from an address of `from`.
    pub async fn tcp_as(&self, from: &str, source: &str, to: &str) -> std::io::Result<String> {
        self.connect(from, Some(source), to, Duration::from_secs(5)).await
    }

    async fn connect(
        &self,
        from: &str,
        source: Option<&str>,
        to: &str,
        patience: Duration,
    ) -> std::io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        let source = source.map(|s| SocketAddr::new(s.parse().unwrap(), 0));
        self.lab
            .apart(from, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let work = async {
                    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                    if let Some(source) = source {
                        socket.bind(source)?;
                    }
                    let mut stream = socket.connect(to).await?;
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await?;
                    Ok(text)
                };
                let timed = async { tokio::time::timeout(patience, work).await };
                runtime.block_on(timed).unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut)))
            })
            .await
    }

    /// Sends a datagram from a socket that stays; what is answered.
    pub async fn udp(&self, client: &std::net::UdpSocket) -> std::io::Result<String> {
        let client = client.try_clone()?;
        self.lab
            .apart("node", move || {
                client.send(b"who?")?;
                let mut buffer = [0; 64];
                let length = client.recv(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
            })
            .await
    }

    /// Asserts that clients are refused.
    pub async fn refused(&self, from: &str, to: &str) {
        let error = self.tcp(from, to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{from} to {to}\n{}", self.rules());
    }

    /// Asserts that clients are not even refused.
    pub async fn dropped(&self, from: &str, to: &str) {
        let error = self.connect(from, None, to, SILENCE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{from} to {to}\n{}", self.rules());
    }

    /// Asserts who answers, and to whom: `b 10.7.0.2`. `whose` is what is seen where clients are not hidden.
    pub async fn answers(&self, from: &str, to: &str, who: &str, seen: &str) {
        let seen = if self.hides_clients() { "10.7.0.1" } else { seen };
        let answer = self.tcp(from, to).await;
        assert!(answer.is_ok(), "{from} to {to}: {answer:?}\n{}", self.rules());
        assert_eq!(answer.unwrap(), format!("{who} {seen}"), "{from} to {to}");
    }

    /// How often each endpoint answers.
    pub async fn tally(&self, from: &str, to: &str, times: usize) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for _ in 0..times {
            let answer = self.tcp(from, to).await;
            assert!(answer.is_ok(), "{from} to {to}: {answer:?}\n{}", self.rules());
            let who = answer.unwrap().split(' ').next().unwrap_or_default().to_owned();
            *count.entry(who).or_default() += 1;
        }
        count
    }

    /// The node's rules, for whom they fail.
    pub fn rules(&self) -> String {
        format!("{}{}", self.lab.nft("list ruleset"), self.lab.output("iptables-save"))
    }

    /// Ends the proxy and asserts that nothing of it stays.
    pub async fn stop(self) {
        self.proxy.stop().await.unwrap();
        assert_eq!(self.left(), Vec::<&str>::new(), "{}", self.rules());
    }

    /// What is there of each mode.
    pub fn left(&self) -> Vec<&'static str> {
        let rules = self.rules();
        let mut left = Vec::new();
        if rules.contains("table ip troupe") || rules.contains("table ip6 troupe") {
            left.push("tables");
        }
        if rules.contains("TROUPE-") || self.lab.output("ip6tables-save").contains("TROUPE-") {
            left.push("chains");
        }
        if self.lab.output("ip addr show dev lo").contains("169.254.96.1") {
            left.push("address");
        }
        left
    }
}

fn object(name: &str, spec: Value, status: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
           "metadata": {"namespace": "default", "name": name}, "spec": spec, "status": status})
}
