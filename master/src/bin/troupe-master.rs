//! The `troupe-master` program: a control plane on its own, for nodes on other machines.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use actors::Stage;
use clap::Parser;
use k8s_openapi::api::core::v1::Secret;
use master::auth::authenticate::bootstrap_secret;
use master::controllers::load_balancers::Pool;
use master::options::ServingOptions;
use master::pki::kubeconfig::{self, Access};
use master::pki::new_bootstrap_token;
use master::server::{Master, MasterConfig, StartError};
use protocol::{Caller, Client, DualRange};
use tokio::signal::unix::{SignalKind, signal};

/// Objects are small, many, and dropped on other threads than they were made on; the C library's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Arbiters that the actors run on.
const ARBITERS: usize = 2;
/// How long the token that a start prints is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Whom a token lets in.
const TOKEN_GROUPS: &str = "system:bootstrappers:kubeadm:default-node-token";
/// The name of cluster, user and context in the kubeconfig.
const CONTEXT: &str = "troupe";
/// Actors have this long to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// The control plane of Troupe: API server, scheduler, controllers. Runs until SIGTERM.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    /// Where certificates are kept, and the objects when there is no etcd.
    #[arg(long, default_value = "/var/lib/troupe-master")]
    state_dir: PathBuf,
    /// URLs of an etcd cluster, separated by commas. Without it, the embedded store is used.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    etcd_endpoints: Vec<String>,
    /// Where the API is served.
    #[arg(long, default_value = "0.0.0.0:6443")]
    listen: SocketAddr,
    /// Where nodes connect.
    #[arg(long, default_value = "0.0.0.0:6444")]
    link_listen: SocketAddr,
    /// The address that nodes and pods reach this machine at [default: that of the default route].
    #[arg(long)]
    advertise: Option<IpAddr>,
    /// A further name or address that the serving certificate is to be good for. May be repeated.
    #[arg(long, value_name = "HOST")]
    certificate_name: Vec<String>,
    /// The file that the administrator's kubeconfig is merged into [default: STATE_DIR/admin.kubeconfig].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A file that the start's token for nodes is written to as well, for whoever starts nodes by program.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The pods' addresses [default: 10.244.0.0/16]; each node gets a /24 of them. A second range, of IPv6, makes the cluster dual-stack, such as
    /// 10.244.0.0/16,fd00:10:244::/48: then each node gets a /64 of it too. Nodes keep the ranges that they joined with.
    #[arg(long, value_name = "RANGES")]
    cluster_cidr: Option<DualRange>,
    /// The Services' addresses [default: 10.96.0.0/16], such as 10.96.0.0/16,fd00:10:96::/112.
    #[arg(long, value_name = "RANGES")]
    service_cidr: Option<DualRange>,
    /// Addresses for Services of type LoadBalancer, free ones of the nodes' own network, such as
    /// 192.0.2.200-192.0.2.220 or 192.0.2.64/28,2001:db8:1::/120; a node announces each by ARP or, of IPv6, as its
    /// neighbour.
    #[arg(long, value_name = "RANGES")]
    load_balancer_pool: Option<Pool>,
    #[command(flatten)]
    serving: ServingOptions,
}

/// Any failure, for the last line of the program.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // The allocator is built not to ask for huge pages, which are two megabytes each, for a few kilobytes; some kernels
    // give them unasked. Without them a program at rest takes 20 MiB less. A kernel that has none refuses.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let args = Args::parse();
    // Both rings are linked in by different crates; this program uses one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before");
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("TROUPE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match actix::System::new().block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    // From the first: a start that hangs on its store can be ended too.
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stage = Stage::new(ARBITERS);
    let master = tokio::select! {
        master = start(&stage, &args) => Some(master?),
        _ = term.recv() => None,
        _ = interrupt.recv() => None,
    };
    if let Some(master) = master {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        master.front.stop().await;
    }
    let remaining = stage.shut_down(PATIENCE).await;
    if !remaining.is_empty() {
        tracing::warn!(?remaining, "actors that did not stop in time");
    }
    Ok(())
}

/// Starts the master and prints how to use it.
async fn start(stage: &Stage, args: &Args) -> Result<Master, Failure> {
    actors::spawn({
        let stage = stage.clone();
        async move { stage.watch_for_stuck_actors().await }
    });
    let advertise = args.advertise.unwrap_or_else(own_address);
    // Whatever is listened on may be dialled.
    let listens = [args.listen.ip(), args.link_listen.ip()];
    let mut names: Vec<String> =
        listens.iter().filter(|ip| !ip.is_unspecified()).map(IpAddr::to_string).collect();
    names.extend(args.certificate_name.iter().cloned());
    let usual = MasterConfig::new(args.state_dir.clone());
    let config = MasterConfig {
        etcd_endpoints: args.etcd_endpoints.clone(),
        listen: args.listen,
        advertise,
        names,
        link_listen: Some(args.link_listen),
        load_balancer_pool: args.load_balancer_pool.clone(),
        serving: args.serving.clone(),
        cluster_cidr: args.cluster_cidr.unwrap_or(usual.cluster_cidr),
        service_cidr: args.service_cidr.unwrap_or(usual.service_cidr),
        ..usual
    };
    let mut passed = |what: &str| tracing::info!("{what}");
    let master =
        Master::start(stage, config, &mut passed).await.map_err(|e| explain(e, &args.etcd_endpoints))?;

    let server = SocketAddr::new(reachable(args.listen.ip()), master.front.address.port());
    let file = args.kubeconfig.clone().unwrap_or_else(|| args.state_dir.join("admin.kubeconfig"));
    let (written, ca, admin) = (file.clone(), master.pki.clone(), master.admin.clone());
    tokio::task::spawn_blocking(move || {
        let access = Access { server: &format!("https://{server}"), ca: ca.ca(), client: &admin };
        kubeconfig::merge_into(&written, CONTEXT, &access)
    })
    .await??;
    let token = new_token(&master).await?;
    if let Some(file) = &args.token_file {
        let (to, text) = (file.clone(), format!("{token}\n"));
        let written = tokio::task::spawn_blocking(move || write_secret(&to, &text)).await?;
        written.map_err(|e| format!("--token-file {}: {e}", file.display()))?;
    }
    let link = master.link.address.ok_or("the link port is not open")?;
    let link = SocketAddr::new(if link.ip().is_unspecified() { advertise } else { link.ip() }, link.port());
    println!("kubeconfig: {}  (kubectl --kubeconfig {0} get nodes)", file.display());
    println!("to add a node, within 24 hours: troupe-node --master {link} --token {token}");
    println!("ready");
    Ok(master)
}

/// The same error, with what to do about it here.
fn explain(error: StartError, etcd: &[String]) -> String {
    match error {
        StartError::Listen { address, source } => {
            format!("{address}: {source}; choose other ports with --listen and --link-listen")
        }
        StartError::Store(e) if !etcd.is_empty() => {
            format!("store: {e}; is etcd running at {}?", etcd.join(", "))
        }
        other => other.to_string(),
    }
}

/// Keeps a new bootstrap token in the cluster.
async fn new_token(master: &Master) -> Result<String, Failure> {
    let (id, secret) = new_bootstrap_token();
    let until = time::OffsetDateTime::from(actors::time::now() + TOKEN_LIFETIME).replace_nanosecond(0)?;
    let until = until.format(&time::format_description::well_known::Rfc3339)?;
    let secret_object: Secret =
        serde_json::from_value(bootstrap_secret(&id, &secret, Some(&until), TOKEN_GROUPS))?;
    let caller = Caller::component("system:troupe-master", &["system:masters"]);
    let client = Client::new(master.pipeline.as_caller(caller), "troupe-master");
    client.create(&secret_object).await.map_err(|e| format!("the token for nodes cannot be kept: {e}"))?;
    Ok(format!("{id}.{secret}"))
}

/// Writes a file that its owner alone may read; whoever waits for it finds it whole.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&draft, path)
}

/// Where something that listens on `ip` is reached from this machine.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip }
}

/// The address that other machines would reach this one at: that of the default route, or loopback.
fn own_address() -> IpAddr {
    // No packet is sent: connecting a UDP socket only asks for the route.
    let route = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    route.map_or(Ipv4Addr::LOCALHOST.into(), |a| a.ip())
}
