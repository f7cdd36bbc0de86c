//! The `troupe-node` program: a worker on its own, of a master on this or another machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use clap::{Parser, Subcommand};
use node::certificate::NodeCertificate;
use node::ingress::IngressArgs;
use node::link::join::{self, files};
use node::link::{Connector, Tls};
use node::network::PodNetworkMode;
use node::proxy::{ProxyMode, Scheduler};
use node::{Node, NodeConfig};
use protocol::link::JoinGrant;
use tokio::signal::unix::{SignalKind, signal};

/// Objects are small, many, and dropped on other threads than they were made on; the C library's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Arbiters that the actors run on.
const ARBITERS: usize = 2;
/// Joining, with a master that swallows packets, is given up after this time.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// A node that is not Ready says so this often.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// A failed look at the node's state is repeated after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Actors have this long to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where clusters serve DNS when nothing else is known.
const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// The worker of Troupe: runs pods on this machine. Runs until SIGTERM; its pods go on.
#[derive(Parser)]
#[command(version, max_term_width = 100, subcommand_negates_reqs = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The master's link port.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    master: Option<String>,
    /// The token to join with; needed the first time only.
    #[arg(long, value_name = "ID.SECRET")]
    token: Option<String>,
    /// A file with that token, such as `troupe-master --token-file` writes.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The node's name [default: that of the earlier join, or the host's].
    #[arg(long, global = true)]
    name: Option<String>,
    /// Where the node keeps its state.
    #[arg(long, global = true, default_value = "/var/lib/troupe-node")]
    state_dir: PathBuf,
    /// The node's own address [default: that of the route to the master]; in a dual-stack cluster perhaps one of IPv6
    /// after it, separated by a comma.
    #[arg(long, value_parser = own_addresses)]
    address: Option<(IpAddr, Option<Ipv6Addr>)>,
    /// How pods' packets get from node to node; the same for all nodes of a cluster.
    #[arg(long, value_enum, default_value_t)]
    pod_network: PodNetworkMode,
    /// How Services' addresses lead to their endpoints on this node.
    #[arg(long, value_enum, default_value_t)]
    proxy_mode: ProxyMode,
    /// How endpoints are chosen, with --proxy-mode userspace.
    #[arg(long, value_enum, default_value_t)]
    proxy_scheduler: Scheduler,
    #[command(flatten)]
    ingress: IngressArgs,
}

/// One address, or one of IPv4 and one of IPv6.
fn own_addresses(text: &str) -> Result<(IpAddr, Option<Ipv6Addr>), String> {
    let no_address = |part: &str| format!("\"{part}\" is no address");
    let (first, second) = text.split_once(',').map_or((text, None), |(first, second)| (first, Some(second)));
    let first: IpAddr = first.trim().parse().map_err(|_| no_address(first))?;
    let second = second
        .map(|part| part.trim().parse::<Ipv6Addr>().map_err(|_| format!("{} of IPv6", no_address(part))));
    match second.transpose()? {
        Some(_) if first.is_ipv6() => Err(format!("\"{text}\": the first of two addresses is one of IPv4")),
        second => Ok((first, second)),
    }
}

#[derive(Subcommand)]
enum Command {
    /// Removes what the node left on this machine, its certificate included. It must have ended before.
    CleanUp,
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
    let done = actix::System::new().block_on(async {
        match args.command {
            Some(Command::CleanUp) => clean_up(&args).await,
            None => run(&args).await,
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

async fn clean_up(args: &Args) -> Result<(), Failure> {
    let pki = args.state_dir.join("pki");
    let name = name(args, &pki).await?;
    let dns = match join::joined(&pki).await {
        Some(grant) => grant.cluster_dns.parse()?,
        None => IpAddr::from(CLUSTER_DNS),
    };
    node::clean_up(&name, &args.state_dir, dns).await?;
    // Last: what says of which cluster the rest is.
    match tokio::fs::remove_dir_all(&pki).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", pki.display()).into()),
        _ => Ok(()),
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stage = Stage::new(ARBITERS);
    let mut node = None;
    let ended = tokio::select! {
        failed = serve(&stage, args, &mut node) => failed.map(|never| match never {}),
        _ = term.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    if ended.is_ok() {
        tracing::info!("ending; pods go on");
    }
    if let Some(node) = node {
        node.stop().await;
    }
    let remaining = stage.shut_down(PATIENCE).await;
    if !remaining.is_empty() {
        tracing::warn!(?remaining, "actors that did not stop in time");
    }
    ended
}

/// Joins if need be, starts the node, and serves until dropped; `started` is the node from then on.
async fn serve(
    stage: &Stage,
    args: &Args,
    started: &mut Option<Node>,
) -> Result<std::convert::Infallible, Failure> {
    actors::spawn({
        let stage = stage.clone();
        async move { stage.watch_for_stuck_actors().await }
    });
    let master = args.master.as_deref().ok_or("--master is missing")?;
    if master.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(format!("--master {master}: give host and link port, such as 192.0.2.7:6444").into());
    }
    let pki = args.state_dir.join("pki");
    let name = name(args, &pki).await?;
    let (address, address6) = match args.address {
        Some(addresses) => addresses,
        None => {
            let master = master.to_owned();
            let address = tokio::task::spawn_blocking(move || address_towards(&master))
                .await?
                .map_err(|e| format!("no route to {}: {e}", args.master.as_deref().unwrap_or_default()))?;
            (address, None)
        }
    };
    let grant = grant(args, master, &name, address, &pki).await?;

    let connector = Tls {
        address: master.to_owned(),
        certificate: pki.join(files::CERTIFICATE),
        key: pki.join(files::KEY),
        ca: pki.join(files::CA),
    };
    // Not fatal, as pods are kept without a master too. But whoever looks is to know why nothing happens.
    match tokio::time::timeout(JOIN_PATIENCE, connector.connect()).await {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => tracing::warn!(error = %e, "the master is not reached yet; trying on"),
        Err(_) => tracing::warn!(master, "the master does not answer yet; trying on"),
    }
    let read = async |file: &str| {
        let path = pki.join(file);
        tokio::fs::read_to_string(&path).await.map_err(|e| format!("{}: {e}", path.display()))
    };
    let config = NodeConfig {
        name: name.clone(),
        address,
        address6,
        state_dir: args.state_dir.clone(),
        cluster_dns: grant.cluster_dns.parse()?,
        cluster_cidr: grant.cluster_cidr.parse()?,
        service_cidr: grant.service_cidr.parse()?,
        pod_network: args.pod_network,
        proxy_mode: args.proxy_mode,
        proxy_scheduler: args.proxy_scheduler,
        certificate: NodeCertificate::new(
            &read(files::CERTIFICATE).await?,
            &read(files::KEY).await?,
            Some(pki.join(files::CERTIFICATE)),
        )?,
        client_ca_pem: read(files::CA).await?,
        static_pods_dir: Some(args.state_dir.join("manifests")),
        ingress: args.ingress.ports(),
    };
    let node = started.insert(Node::start(stage, config, Arc::new(connector)).await?);
    println!("node \"{name}\" started");
    while let Err(e) = node.ready(READY_PATIENCE).await {
        tracing::warn!(error = %e, "not Ready yet");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    println!("node \"{name}\" is Ready");
    std::future::pending().await
}

/// What the master said at the join: an earlier one, or one now.
async fn grant(
    args: &Args,
    master: &str,
    name: &str,
    address: IpAddr,
    pki: &Path,
) -> Result<JoinGrant, Failure> {
    if let Some(grant) = join::joined(pki).await {
        return Ok(grant);
    }
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => {
            let read = tokio::fs::read_to_string(file).await;
            read.map_err(|e| format!("--token-file {}: {e}", file.display()))?.trim().to_owned()
        }
        (None, None) => {
            return Err(
                "this node has not joined a cluster yet: give --token ID.SECRET, which troupe-master \
                        prints at its start, or --token-file FILE"
                    .into(),
            );
        }
    };
    let mut names = vec![name.to_owned(), address.to_string(), "127.0.0.1".to_owned()];
    names.extend(args.address.and_then(|(_, second)| second).map(|address| address.to_string()));
    let joining = join::join(master, &token, name, names, pki);
    let grant = tokio::time::timeout(JOIN_PATIENCE, joining).await.map_err(|_| {
        format!("{master} does not answer within {} s; is the address right?", JOIN_PATIENCE.as_secs())
    })??;
    println!("node \"{name}\" joined");
    Ok(grant)
}

/// The node's name. One that has joined keeps it: its certificate is of that name.
async fn name(args: &Args, pki: &Path) -> Result<String, Failure> {
    let certificate = pki.join(files::CERTIFICATE);
    match (name_of(&certificate).await, &args.name) {
        (Some(joined), Some(wanted)) if joined != *wanted => Err(format!(
            "this node joined as \"{joined}\", not \"{wanted}\": leave --name out, or use another --state-dir"
        )
        .into()),
        (Some(joined), _) => Ok(joined),
        (None, Some(wanted)) => Ok(wanted.clone()),
        (None, None) => {
            let host = nix::unistd::gethostname()?.to_string_lossy().to_lowercase();
            Ok(host)
        }
    }
}

/// The node that a certificate is of.
async fn name_of(certificate: &Path) -> Option<String> {
    let pem = tokio::fs::read(certificate).await.ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let certificate = block.parse_x509().ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix("system:node:").map(str::to_owned)
}

/// The own address that packets to the master leave from. Blocks, to look the name up.
fn address_towards(master: &str) -> std::io::Result<IpAddr> {
    // No packet is sent: connecting a UDP socket only asks for the route.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(master)?;
    Ok(socket.local_addr()?.ip())
}
