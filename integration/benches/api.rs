//! What the API server costs, as ratios within one run: writes against the CPU that etcd spends on the same writes, reads
//! and watches against a bare actix-web handler that serves as many bytes from memory over TLS.
//!
//! `bare create` tells what of a write is nobody's choice: a handler that takes a body over TLS, puts it into etcd as the
//! server does, knowing nothing of what it means and following no watch, and answers it. Its ratio, too, is against what
//! etcd spends on the server's creates.
//!
//! `cargo bench -p troupe --bench api`; `TROUPE_BENCH_PODS` sets how many pods (5,000), `TROUPE_BENCH_WATCHERS` how many
//! watchers (1,000). Needs an `etcd` program. The server is this build's `troupe up --no-node`.

use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use integration::tools::Cluster;
use integration::tools::bench::ApiArgs;
use integration::tools::bench::load::{self, Measured};
use integration::tools::bench::plan::{self, Operation};
use integration::tools::bench::process::Process;
use integration::tools::bench::report::{Format, Report, Row};
use master::store::etcd::EtcdStore;
use master::store::{Store, Txn, TxnResult};
use serde_json::json;

type Failure = Box<dyn Error>;

/// Requests that the bare handler is asked for each figure.
const BARE_REQUESTS: u32 = 5000;
/// The flags by which this program is started again as the bare handler.
const BARE: &str = "--bare";
/// Watches that the bare handler serves: so many that the ticks of its CPU clock do not show.
const BARE_WATCHES: u32 = 500;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before");
    }
    let words: Vec<String> = std::env::args().collect();
    let result = match words.iter().position(|w| w == BARE) {
        Some(n) => match words.get(n + 1..n + 3) {
            Some([dir, etcd]) => bare(Path::new(dir), etcd),
            _ => Err(format!("{BARE} takes a folder and an etcd").into()),
        },
        None => measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A process that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The other side of the reads' ratios: as little as a server over TLS can do.
fn bare(dir: &Path, etcd: &str) -> Result<(), Failure> {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der())?;
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)?;
    let port = free_port()?;
    let kubeconfig = json!({
        "current-context": "bare",
        "contexts": [{"name": "bare", "context": {"cluster": "bare"}}],
        "clusters": [{"name": "bare", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": dir.join("ca.pem"),
        }}],
    });
    let etcd = [etcd.to_owned()];
    actix_web::rt::System::new().block_on(async move {
        let served = HttpServer::new(move || {
            let etcd = etcd.clone();
            App::new()
                .data_factory(move || {
                    let etcd = etcd.clone();
                    async move { EtcdStore::connect(&etcd).await }
                })
                .route("/objects/{key}", web::post().to(put))
                .route("/bytes/{count}", web::get().to(bytes_of))
                .route("/events/{count}/{bytes}", web::get().to(events_of))
        })
        .workers(2)
        .bind_rustls_0_23(("127.0.0.1", port), tls)?;
        std::fs::write(dir.join("ca.pem"), pair.cert.pem())?;
        // The last file to appear: it says that the server listens.
        std::fs::write(dir.join("kubeconfig.new"), kubeconfig.to_string())?;
        std::fs::rename(dir.join("kubeconfig.new"), dir.join("kubeconfig"))?;
        served.run().await
    })?;
    Ok(())
}

thread_local! {
    /// The bytes that are served; slices of it share it.
    static MEMORY: Bytes = Bytes::from(vec![b'x'; 64 << 20]);
}

async fn bytes_of(count: web::Path<usize>) -> HttpResponse {
    let count = count.into_inner();
    HttpResponse::Ok().content_type("application/json").body(MEMORY.with(|m| m.slice(..count.min(m.len()))))
}

async fn put(key: web::Path<String>, body: Bytes, store: web::Data<EtcdStore>) -> HttpResponse {
    // Beside all that the server has.
    match store.txn(Txn::put(format!("/bare/{key}"), 0, body.clone())).await {
        Ok(TxnResult::Committed { .. }) => {
            HttpResponse::Created().content_type("application/json").body(body)
        }
        other => HttpResponse::InternalServerError().body(format!("{other:?}")),
    }
}

async fn events_of(path: web::Path<(usize, usize)>) -> HttpResponse {
    let (count, bytes) = path.into_inner();
    let chunk = MEMORY.with(|m| m.slice(..bytes.min(m.len())));
    let chunks = futures::stream::unfold(0, move |n| {
        let chunk = chunk.clone();
        async move {
            // Each event is a write of its own, as it is on a watch.
            tokio::task::yield_now().await;
            (n < count).then_some((Ok::<_, actix_web::Error>(chunk), n + 1))
        }
    });
    HttpResponse::Ok().content_type("application/json").streaming(chunks)
}

fn size(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn measure() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let (client, peer) = (free_port()?, free_port()?);
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let etcd = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("etcd (Debian's package etcd-server) does not start: {e}"))?;
    let etcd = Running(etcd);
    let (state, kubeconfig) = (dir.path().join("state"), dir.path().join("kubeconfig"));
    let troupe = env!("CARGO_BIN_EXE_troupe");
    let up = Command::new(troupe)
        .args(["up", "--no-node", "--etcd-endpoints", &client, "--state-dir"])
        .arg(&state)
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .status()?;
    if !up.success() {
        return Err("the control plane did not start".into());
    }
    let args = ApiArgs {
        pods: size("TROUPE_BENCH_PODS", 5000),
        concurrency: 16,
        connections: 4,
        lists: 20,
        watchers: size("TROUPE_BENCH_WATCHERS", 1000),
        events: 50,
        only: Vec::new(),
        processes: Vec::new(),
        output: Format::Table,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let etcd_process = Process { pid: etcd.0.id(), name: "etcd".to_owned() };
    let report = runtime.block_on(async {
        let connections: Vec<Cluster> =
            (0..args.connections).map(|_| Cluster::of(&kubeconfig)).collect::<Result<_, _>>()?;
        plan::run(&connections, &args, &[etcd_process]).await
    });
    let down = Command::new(troupe).args(["down", "--state-dir"]).arg(&state).stdout(Stdio::null()).status();
    let report = report?;
    down?;
    print!("{}", report.show(Format::Table));
    runtime.block_on(compare(&report, dir.path(), &client))
}

/// The bare handler, asked for as many bytes as the server gave.
struct Bare {
    process: Process,
    connections: Vec<Cluster>,
    _running: Running,
}

impl Bare {
    async fn start(dir: &Path, etcd: &str) -> Result<Self, Failure> {
        let dir = dir.join("bare");
        std::fs::create_dir(&dir)?;
        let child = Command::new(std::env::current_exe()?).arg(BARE).arg(&dir).arg(etcd).spawn()?;
        let process = Process { pid: child.id(), name: "bare".to_owned() };
        let running = Running(child);
        let kubeconfig = dir.join("kubeconfig");
        for _ in 0..100 {
            if kubeconfig.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let connections = (0..4).map(|_| Cluster::of(&kubeconfig)).collect::<Result<_, _>>()?;
        Ok(Bare { process, connections, _running: running })
    }

    /// CPU time of one GET of a path.
    async fn cost(&self, path: &str, requests: u32) -> Result<Duration, Failure> {
        self.cost_of(requests, |connection, _| connection.request(reqwest::Method::GET, path, &[])).await
    }

    /// CPU time of putting an object of so many bytes into etcd.
    async fn cost_of_put(&self, bytes: u64, requests: u32) -> Result<Duration, Failure> {
        let body = Bytes::from(vec![b'x'; bytes as usize]);
        self.cost_of(requests, |connection, n| {
            connection.request(reqwest::Method::POST, &format!("/objects/{n}"), &[]).body(body.clone())
        })
        .await
    }

    /// CPU time of one of some requests, each made by its number.
    async fn cost_of(
        &self,
        requests: u32,
        make: impl Fn(&Cluster, u32) -> reqwest::RequestBuilder,
    ) -> Result<Duration, Failure> {
        let make = &make;
        let before = self.process.cpu();
        let measured: Measured = load::run("bare handler", requests, 16, |n| async move {
            let connection = &self.connections[n as usize % self.connections.len()];
            let request = make(connection, n);
            let mut response = request.send().await.map_err(|e| e.to_string())?;
            if !response.status().is_success() {
                return Err(response.text().await.unwrap_or_else(|e| e.to_string()));
            }
            let mut bytes = 0;
            while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
                bytes += chunk.len() as u64;
            }
            Ok(bytes)
        })
        .await;
        match measured.first_error {
            Some(why) => Err(why.into()),
            None => Ok(self.process.cpu().saturating_sub(before) / requests),
        }
    }
}

async fn compare(report: &Report, dir: &Path, etcd: &str) -> Result<(), Failure> {
    let bare = Bare::start(dir, etcd).await?;
    let row = |operation: Operation| {
        report.rows.iter().find(|r| r.operation == operation).ok_or("an operation was not measured")
    };
    let server = report.processes.iter().position(|p| p.name != "etcd").ok_or("the server was not seen")?;
    let etcd = report.processes.iter().position(|p| p.name == "etcd").ok_or("etcd's process was not seen")?;
    println!("\n{:<16} {:>12} {:>12} {:>8} {:>8}", "CPU/OP", "SERVER", "AGAINST", "RATIO", "AIM");
    let line = |name: &str, ours: Duration, against: Duration, aim: &str| {
        let ratio = ours.as_secs_f64() / against.as_secs_f64().max(1e-9);
        println!("{name:<16} {ours:>12.1?} {against:>12.1?} {ratio:>8.2} {aim:>8}");
    };
    let show = |row: &Row, against: Duration, aim: f64| {
        line(row.operation.name(), row.cpu_each(server), against, &format!("{aim:.2}"));
    };
    let create = row(Operation::Create)?;
    let floor = bare.cost_of_put(create.measured.bytes_each(), BARE_REQUESTS).await?;
    line("bare create", floor, create.cpu_each(etcd), "");
    for operation in [Operation::Create, Operation::Patch, Operation::Delete] {
        let row = row(operation)?;
        show(row, row.cpu_each(etcd), 0.3);
    }
    for operation in [Operation::Get, Operation::List, Operation::ListCached] {
        let row = row(operation)?;
        let requests =
            if operation == Operation::Get { BARE_REQUESTS } else { row.measured.took.len() as u32 };
        let path = format!("/bytes/{}", row.measured.bytes_each());
        show(row, bare.cost(&path, requests).await?, 1.5);
    }
    let watch = row(Operation::Watch)?;
    let events = 100;
    let path = format!("/events/{events}/{}", watch.measured.bytes_each());
    show(watch, bare.cost(&path, BARE_WATCHES).await? / events, 2.0);
    let memory = &report.processes[server];
    println!("memory: {:.1} MiB at its highest; aim 120 MiB", memory.peak as f64 / 1024.0 / 1024.0);
    Ok(())
}
