//! How long a node takes to join and be Ready, and how much memory it has then: a real master, and nodes in processes of
//! their own that join it with a token over TLS. Only their container engine is simulated, and they have no network,
//! proxy or DNS: what those need comes with what the cluster holds.
//!
//!     cargo bench -p troupe --bench join

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::Stage;
use integration::tools::bench::process::Process;
use k8s_openapi::api::core::v1::{Node, Secret};
use master::auth::authenticate::bootstrap_secret;
use master::pki::new_bootstrap_token;
use master::server::{Master, MasterConfig};
use node::link::Tls;
use node::link::join::{files, join};
use node::runtime::simulated::SimulatedRuntime;
use node::simulation::{SimulatedNode, SimulationConfig};
use protocol::{Caller, Client};

type Failure = Box<dyn Error>;

/// Nodes that join, one after the other.
const NODES: u16 = 20;
/// The groups of those who hold the token.
const GROUPS: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Between two looks at whether a node is Ready.
const PAUSE: Duration = Duration::from_millis(1);
/// A node is Ready within this time, or never.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before");
    }
    let words: Vec<String> = std::env::args().collect();
    let done = actix::System::new().block_on(async {
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [_, "--node", number, master, token, dir] => {
                serve(number.parse()?, master, token, Path::new(dir)).await
            }
            _ => measure().await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Is a node until its parent goes.
async fn serve(number: u16, master: &str, token: &str, dir: &Path) -> Result<(), Failure> {
    let config = SimulationConfig::numbered(number);
    let start = Instant::now();
    join(master, token, &config.name, vec![config.name.clone()], dir).await?;
    println!("{}", start.elapsed().as_micros());
    let connector = Tls {
        address: master.to_owned(),
        certificate: dir.join(files::CERTIFICATE),
        key: dir.join(files::KEY),
        ca: dir.join(files::CA),
    };
    let stage = Stage::new(2);
    let runtime = SimulatedRuntime::new(Duration::from_millis(10));
    let node = SimulatedNode::start(&stage, config, runtime, Arc::new(connector)).await?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    node.stop();
    Ok(())
}

/// A child that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::new(2);
    let config = MasterConfig {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        link_listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
        ..MasterConfig::new(dir.path().join("master"))
    };
    let master = Master::start(&stage, config, &mut |_: &str| {}).await?;
    let link: SocketAddr = master.link.address.ok_or("the master has no port for nodes")?;
    let admin =
        Client::new(master.pipeline.as_caller(Caller::component("admin", &["system:masters"])), "bench");
    let (id, secret) = new_bootstrap_token();
    let object: Secret = serde_json::from_value(bootstrap_secret(&id, &secret, None, GROUPS))?;
    admin.create(&object).await?;
    let token = format!("{id}.{secret}");

    let (mut joined, mut ready, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=NODES {
        let start = Instant::now();
        let folder = dir.path().join(format!("node-{number}"));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--node", &number.to_string(), &link.to_string(), &token])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        nodes.push(Running(child));
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        joined.push(Duration::from_micros(line.await??.trim().parse()?));
        let name = format!("node-{number}");
        while !is_ready(&admin, &name).await {
            if start.elapsed() > PATIENCE {
                return Err(format!("{name} is not Ready after {PATIENCE:?}").into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        ready.push(start.elapsed());
    }
    joined.sort_unstable();
    ready.sort_unstable();
    let mut memory: Vec<u64> =
        nodes.iter().map(|n| Process { pid: n.0.id(), name: String::new() }.memory().0 >> 10).collect();
    memory.sort_unstable();
    let at = |times: &[Duration], n: usize| times.get(n).copied().unwrap_or_default();
    let (half, last) = (usize::from(NODES) / 2, usize::from(NODES) - 1);
    println!(
        "{NODES} nodes: certificate p50 {:.1?}, max {:.1?}; process started to Ready p50 {:.1?}, max {:.1?}; \
         resident p50 {} KiB",
        at(&joined, half),
        at(&joined, last),
        at(&ready, half),
        at(&ready, last),
        memory.get(half).copied().unwrap_or_default(),
    );
    drop(nodes);
    master.front.stop().await;
    stage.shut_down(Duration::from_secs(5)).await;
    Ok(())
}

async fn is_ready(admin: &Client, name: &str) -> bool {
    let Ok(node) = admin.get::<Node>("", name).await else { return false };
    let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
