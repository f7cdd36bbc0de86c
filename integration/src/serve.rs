//! The process behind `troupe up`: a master and, unless told otherwise, a node in it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use master::pki::kubeconfig::{self, Access};
use master::server::{Master, MasterConfig};

use crate::state::{Settings, StateDir};

/// The line that tells `troupe up` that all is well.
pub const READY: &str = "ready";

/// Arbiters that the actors of one process run on.
const ARBITERS: usize = 2;

/// What the process is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Where the cluster keeps its state, settings included.
    #[arg(long)]
    pub state_dir: PathBuf,
}

/// Any failure of the process, for its log.
type Failure = Box<dyn std::error::Error>;

/// Serves until told to end by SIGTERM or SIGINT. Pods go on running.
pub fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let state = StateDir::new(&args.state_dir)?;
    let settings = state.settings().ok_or("no settings.json: this is started by `troupe up`")?;
    state.claim()?;
    actix::System::new().block_on(run(state, settings))
}

fn passed(what: &str) {
    // Whoever started us may have gone; the stages are for it alone.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{what}");
    let _ = out.flush();
}

async fn run(state: StateDir, mut settings: Settings) -> Result<(), Failure> {
    let stage = Stage::new(ARBITERS);
    actors::spawn({
        let stage = stage.clone();
        async move { stage.watch_for_stuck_actors().await }
    });
    let address = own_address();
    let usual = MasterConfig::new(state.path().to_owned());
    let config = MasterConfig {
        etcd_endpoints: settings.etcd_endpoints.clone(),
        listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), settings.api_port),
        advertise: address,
        names: vec![settings.node_name.clone()],
        link_listen: settings.link_port.map(|port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        load_balancer_pool: settings.load_balancer_pool.clone().map(|pool| pool.parse()).transpose()?,
        in_process_node: settings.node.then(|| settings.node_name.clone()),
        serving: settings.serving.clone(),
        cluster_cidr: settings.cluster_cidr.unwrap_or(usual.cluster_cidr),
        service_cidr: settings.service_cidr.unwrap_or(usual.service_cidr),
        ..usual
    };
    let (cluster_dns, cluster_cidr) = (config.dns_address(), config.cluster_cidr);
    let service_cidr = config.service_cidr;
    let master = Master::start(&stage, config, &mut passed).await?;

    settings.api_port = master.front.address.port();
    state.keep(&settings)?;
    let server = format!("https://127.0.0.1:{}", settings.api_port);
    let access = Access { server: &server, ca: master.pki.ca(), client: &master.admin };
    kubeconfig::merge_into(&state.kubeconfig(), &settings.context, &access)?;
    kubeconfig::merge_into(&settings.kubeconfig, &settings.context, &access)?;

    let node = if settings.node {
        let connector = node::link::InMemory { accept: master.link.in_memory(&settings.node_name) };
        let serving = master.pki.issue(
            &format!("system:node:{}", settings.node_name),
            &["system:nodes"],
            &[settings.node_name.clone(), address.to_string(), "127.0.0.1".to_owned()],
            master::pki::Usage::Both,
            Duration::from_secs(365 * 24 * 3600),
        )?;
        let config = node::NodeConfig {
            name: settings.node_name.clone(),
            address,
            address6: cluster_cidr.v6.and_then(|_| own_address6()),
            state_dir: state.path().to_owned(),
            cluster_dns: cluster_dns.into(),
            cluster_cidr,
            service_cidr,
            pod_network: settings.pod_network,
            proxy_mode: settings.proxy_mode,
            proxy_scheduler: settings.proxy_scheduler,
            certificate: node::certificate::NodeCertificate::new(&serving.certificate, &serving.key, None)?,
            client_ca_pem: master.pki.ca().to_owned(),
            static_pods_dir: Some(state.path().join("manifests")),
            ingress: settings.ingress,
        };
        let node = node::Node::start(&stage, config, Arc::new(connector)).await?;
        passed("node started");
        node.ready(Duration::from_secs(60)).await?;
        passed("node Ready");
        Some(node)
    } else {
        None
    };
    passed(READY);

    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("ending; pods go on");
    if let Some(node) = node {
        node.stop().await;
    }
    master.front.stop().await;
    let remaining = stage.shut_down(Duration::from_secs(5)).await;
    if !remaining.is_empty() {
        tracing::warn!(?remaining, "actors that did not stop in time");
    }
    Ok(())
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

/// The same of IPv6, where there is a route.
fn own_address6() -> Option<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}
