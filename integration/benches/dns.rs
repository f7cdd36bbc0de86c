//! What a node's DNS costs, against a bare hickory server with as many names: questions a second, CPU a question, and
//! the time of one. Both in one run, in turns, each in a process of its own with one thread that serves.
//!
//! `cargo bench -p troupe --bench dns`; `TROUPE_BENCH_SERVICES` sets how many Services there are (10,000).

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::Stage;
use async_trait::async_trait;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use integration::tools::bench::process::Process;
use node::dns::{self, DnsConfig};
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Client, WatchStream};
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

/// Rounds of each server, in turns.
const ROUNDS: usize = 5;
/// Questions of one round, with so many on their way at once.
const QUESTIONS: usize = 100_000;
const ON_THEIR_WAY: usize = 64;
/// Questions of one round that wait for one another.
const SINGLE: usize = 10_000;

fn services() -> usize {
    std::env::var("TROUPE_BENCH_SERVICES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

fn name(n: usize) -> Name {
    Name::from_ascii(format!("service-{n}.default.svc.cluster.local.")).unwrap_or_default()
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + u32::try_from(n).unwrap_or_default())
}

fn main() -> ExitCode {
    let told = std::env::args().nth(1);
    let done = match told.as_deref() {
        Some("--ours") => actix::System::new().block_on(ours()),
        Some("--bare") => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::from)
            .and_then(|runtime| runtime.block_on(bare())),
        _ => measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Tells where it serves, and serves until its parent goes.
async fn served(at: SocketAddr) -> Result<(), Failure> {
    println!("{at}");
    std::io::stdout().flush()?;
    Ok(tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]).map(drop)).await??)
}

/// A master with Services and nothing else, that never changes.
struct Fixed;

#[async_trait]
impl Api for Fixed {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let items: Vec<Value> = match request.target.resource.as_str() {
            "services" => (0..services())
                .map(|n| {
                    let meta = json!({"namespace": "default", "name": format!("service-{n}")});
                    json!({"metadata": meta, "spec": {"clusterIP": address(n).to_string()}})
                })
                .collect(),
            "namespaces" => vec![json!({"metadata": {"name": "default"}})],
            _ => Vec::new(),
        };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        Ok(ApiResponse { code: 200, body: list.to_string().into(), revision: 1, warnings: Vec::new() })
    }
    async fn watch(&self, _: ApiRequest) -> Result<WatchStream, ApiError> {
        Ok(Box::pin(futures::stream::pending()))
    }
}

async fn ours() -> Result<(), Failure> {
    let stage = Stage::local();
    let config =
        DnsConfig { port: 0, upstreams: Some(Vec::new()), ..DnsConfig::new(Ipv4Addr::LOCALHOST.into()) };
    let dns = dns::start(&stage, config, Client::new(Arc::new(Fixed), "bench")).await?;
    while !dns.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served(dns.address()).await
}

async fn bare() -> Result<(), Failure> {
    let origin = Name::from_ascii("cluster.local.")?;
    let mut zone: InMemoryZoneHandler =
        InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(origin.clone(), origin.clone(), 1, 7200, 1800, 86400, 5);
    zone.upsert_mut(Record::from_rdata(origin.clone(), 30, RData::SOA(soa)), 1);
    for n in 0..services() {
        zone.upsert_mut(Record::from_rdata(name(n), 30, RData::A(A(address(n)))), 1);
    }
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone)]);
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = socket.local_addr()?;
    let mut server = Server::new(catalog);
    server.register_socket(socket);
    served(at).await
}

/// A server in a process of its own.
struct Served {
    child: Child,
    at: SocketAddr,
    process: Process,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It goes by itself when its input ends; this is for one that does not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(which: &str) -> Result<Served, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(which)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().ok_or("no output")?;
    BufReader::new(out).read_line(&mut line)?;
    let at = line.trim().parse().map_err(|e| format!("{which} did not start: {line:?}: {e}"))?;
    let process = Process { pid: child.id(), name: which.to_owned() };
    Ok(Served { child, at, process })
}

/// One of the figures.
type Figure = fn(&Figures) -> f64;

/// What one round showed.
#[derive(Clone, Copy, Debug)]
struct Figures {
    a_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// All questions, as bytes: the client's own work must not be what is measured.
fn questions() -> Result<Vec<Vec<u8>>, Failure> {
    let ask = |n: usize| {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name(n), RecordType::A));
        message.to_vec()
    };
    // A step that shares no factor with the count visits the names in no order.
    let count = services();
    Ok((0..count).map(|n| ask(n * 7919 % count)).collect::<Result<_, _>>()?)
}

fn round(served: &Served, questions: &[Vec<u8>]) -> Result<Figures, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(served.at)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 2048];
    let ask = |n: usize| -> Result<(), Failure> {
        let mut bytes = questions[n % questions.len()].clone();
        let id = u16::try_from(n % 65_536)?.to_be_bytes();
        bytes[..2].copy_from_slice(&id);
        socket.send(&bytes)?;
        Ok(())
    };
    let (cpu, began) = (served.process.cpu(), Instant::now());
    for n in 0..ON_THEIR_WAY {
        ask(n)?;
    }
    for n in ON_THEIR_WAY..QUESTIONS + ON_THEIR_WAY {
        let length = socket.recv(&mut buffer)?;
        if n == ON_THEIR_WAY {
            let answer = Message::from_vec(&buffer[..length])?;
            let good = answer.metadata.response_code == ResponseCode::NoError && answer.answers.len() == 1;
            assert!(good, "{answer}");
        }
        if n < QUESTIONS {
            ask(n)?;
        }
    }
    let (took, cpu) = (began.elapsed(), served.process.cpu() - cpu);
    let mut times: Vec<Duration> = Vec::with_capacity(SINGLE);
    for n in 0..SINGLE {
        let began = Instant::now();
        ask(n)?;
        socket.recv(&mut buffer)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let us = |d: Duration| d.as_secs_f64() * 1e6;
    let count = QUESTIONS as f64;
    Ok(Figures {
        a_second: count / took.as_secs_f64(),
        cpu_us: us(cpu) / count,
        p50_us: us(times[SINGLE / 2]),
        p99_us: us(times[SINGLE * 99 / 100]),
    })
}

fn median(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure() -> Result<(), Failure> {
    let questions = questions()?;
    let (ours, bare) = (start("--ours")?, start("--bare")?);
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for n in 1..=ROUNDS {
        eprintln!("round {n} of {ROUNDS}");
        of_ours.push(round(&ours, &questions)?);
        of_bare.push(round(&bare, &questions)?);
    }
    println!("{} services, {QUESTIONS} questions, median of {ROUNDS} rounds", services());
    println!("{:<24}{:>12}{:>12}{:>8}", "", "troupe", "hickory", "ratio");
    let rows: [(&str, Figure); 4] = [
        ("questions a second", |f| f.a_second),
        ("CPU a question, us", |f| f.cpu_us),
        ("one question, p50 us", |f| f.p50_us),
        ("one question, p99 us", |f| f.p99_us),
    ];
    for (what, of) in rows {
        let (a, b) = (median(&of_ours, of), median(&of_bare, of));
        println!("{what:<24}{a:>12.1}{b:>12.1}{:>8.2}", a / b);
    }
    Ok(())
}
