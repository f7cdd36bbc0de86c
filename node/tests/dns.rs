//! The cluster's DNS on real sockets: it follows changes, outlives its master, and asks others for what is theirs.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/scripted.rs"]
#[expect(dead_code, reason = "others use more of it")]
mod scripted;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actors::Stage;
use async_trait::async_trait;
use futures::StreamExt;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use node::dns::{self, DnsConfig, DnsHandle};
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Client, WatchStream};
use scripted::Scripted;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

/// A master that can be cut off: its watches end, and nobody answers.
struct Cut {
    api: Scripted,
    away: watch::Sender<bool>,
}

#[async_trait]
impl Api for Cut {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if *self.away.borrow() {
            return Err(ApiError::Unreachable("away".into()));
        }
        self.api.call(request).await
    }
    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
        if *self.away.borrow() {
            return Err(ApiError::Unreachable("away".into()));
        }
        let mut away = self.away.subscribe();
        let cut = async move { drop(away.wait_for(|away| *away).await) };
        Ok(Box::pin(self.api.watch(request).await?.take_until(Box::pin(cut))))
    }
}

/// Only a bound for what never happens.
const NEVER: Duration = Duration::from_secs(60);

fn on_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(async { tokio::time::timeout(NEVER, test).await.expect("in time") });
}

async fn start(stage: &Stage, api: Arc<Cut>, upstreams: Vec<SocketAddr>) -> DnsHandle {
    let config =
        DnsConfig { port: 0, upstreams: Some(upstreams), ..DnsConfig::new(Ipv4Addr::LOCALHOST.into()) };
    dns::start(stage, config, Client::new(api, "test")).await.expect("a DNS")
}

fn master() -> Arc<Cut> {
    Arc::new(Cut { api: Scripted::default(), away: watch::Sender::new(false) })
}

fn service(name: &str, address: &str) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "resourceVersion": "1"}, "spec": {"clusterIP": address}})
}

fn question(name: &str) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    message
}

async fn over_udp(server: SocketAddr, name: &str) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let question = question(name);
    socket.send_to(&question.to_vec().expect("bytes"), server).await.expect("sent");
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).await.expect("an answer");
    let answer = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!((from, answer.metadata.id), (server, question.metadata.id));
    answer
}

async fn framed(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().expect("bytes");
    stream.write_u16(bytes.len().try_into().expect("a length")).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
}

async fn read_framed(stream: &mut TcpStream) -> Option<Message> {
    let length = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    Message::from_vec(&bytes).ok()
}

fn addresses(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|r| r.data.to_string()).collect()
}

/// Asks until the answer is as wanted: changes travel by messages.
async fn until(server: SocketAddr, name: &str, code: ResponseCode, wanted: &[&str]) {
    loop {
        let answer = over_udp(server, name).await;
        if answer.metadata.response_code == code && addresses(&answer) == wanted {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn it_follows_changes_and_outlives_its_master() {
    on_system(async {
        let (stage, master) = (Stage::local(), master());
        master.api.set("namespaces", json!({"metadata": {"name": "ns"}}));
        master.api.set("services", service("a", "10.96.0.1"));
        let dns = start(&stage, master.clone(), Vec::new()).await;
        let at = dns.address();
        let (a, b) = ("a.ns.svc.cluster.local.", "b.ns.svc.cluster.local.");
        until(at, a, ResponseCode::NoError, &["10.96.0.1"]).await;
        assert!(dns.is_ready());

        master.api.set("services", service("b", "10.96.0.2"));
        until(at, b, ResponseCode::NoError, &["10.96.0.2"]).await;
        master.api.delete("services", service("a", "10.96.0.1"));
        until(at, a, ResponseCode::NXDomain, &[]).await;

        // What happens while the master is away is not known; what was known is.
        master.away.send_replace(true);
        master.api.set("services", service("b", "10.96.0.3"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        until(at, b, ResponseCode::NoError, &["10.96.0.2"]).await;
        master.away.send_replace(false);
        until(at, b, ResponseCode::NoError, &["10.96.0.3"]).await;
        dns.stop().await.expect("stopped");
        stage.shut_down(Duration::from_secs(5)).await;
    });
}

#[test]
fn many_questions_go_over_one_connection() {
    on_system(async {
        let (stage, master) = (Stage::local(), master());
        master.api.set("services", service("a", "10.96.0.1"));
        let dns = start(&stage, master, Vec::new()).await;
        let name = "a.ns.svc.cluster.local.";
        until(dns.address(), name, ResponseCode::NoError, &["10.96.0.1"]).await;
        let mut stream = TcpStream::connect(dns.address()).await.expect("a connection");
        for _ in 0..3 {
            let question = question(name);
            framed(&mut stream, &question).await;
            let answer = read_framed(&mut stream).await.expect("an answer");
            assert_eq!(
                (answer.metadata.id, addresses(&answer)),
                (question.metadata.id, vec!["10.96.0.1".into()])
            );
        }
        // A length and no message: only that connection ends.
        stream.write_all(&[0, 3, 1, 2, 3]).await.expect("sent");
        assert!(read_framed(&mut stream).await.is_none());
        until(dns.address(), name, ResponseCode::NoError, &["10.96.0.1"]).await;
        stage.shut_down(Duration::from_secs(5)).await;
    });
}

/// Somebody else's server: answers `big.` over TCP only, `silent.` not at all, all else with 192.0.2.1.
async fn upstream(asked: Arc<AtomicUsize>) -> SocketAddr {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = udp.local_addr().expect("an address");
    let tcp = TcpListener::bind(address).await.expect("the same port");
    let reply = |question: &Message, cut: bool| {
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.truncation = cut;
        let name = question.queries[0].name().clone();
        answer.add_queries(question.queries.iter().cloned());
        if !cut {
            answer.answers.push(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        }
        answer
    };
    tokio::task::spawn_local(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            asked.fetch_add(1, Ordering::SeqCst);
            let question = Message::from_vec(&buffer[..length]).expect("a message");
            let name = question.queries[0].name().to_string();
            if name == "silent." {
                continue;
            }
            let bytes = reply(&question, name == "big.").to_vec().expect("bytes");
            // Somebody who guesses: a wrong number is no answer.
            let mut forged = bytes.clone();
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).await.expect("sent");
            udp.send_to(&bytes, from).await.expect("sent");
        }
    });
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            if let Some(question) = read_framed(&mut stream).await {
                framed(&mut stream, &reply(&question, false)).await;
            }
        }
    });
    address
}

#[test]
fn other_names_are_asked_for_once_and_kept() {
    on_system(async {
        let (stage, asked) = (Stage::local(), Arc::new(AtomicUsize::new(0)));
        // The first resolver is dead: nobody listens on that port of the address.
        let dead = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 9));
        let upstreams = vec![dead, upstream(asked.clone()).await];
        let dns = start(&stage, master(), upstreams).await;
        let address = || vec!["192.0.2.1".to_owned()];
        for _ in 0..3 {
            assert_eq!(addresses(&over_udp(dns.address(), "example.com.").await), address());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "the other answers were kept");
        assert_eq!(addresses(&over_udp(dns.address(), "big.").await), address());
        let silent = over_udp(dns.address(), "silent.").await;
        assert_eq!(silent.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(dns.address().ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        stage.shut_down(Duration::from_secs(5)).await;
    });
}
