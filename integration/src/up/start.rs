//! Starting: a process of its own, watched until it is ready.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use master::controllers::load_balancers::Pool;
use master::options::ServingOptions;
use node::ingress::IngressArgs;
use node::network::PodNetworkMode;
use node::proxy::{ProxyMode, Scheduler};
use protocol::DualRange;

use super::{UpError, io, sample};
use crate::stages::{Stages, text};
use crate::state::{self, Settings, StateDir};
use crate::tools::kubeconfig_path;

/// What to start.
#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// Where the cluster keeps its state.
    #[arg(long, default_value = state::DEFAULT)]
    pub state_dir: PathBuf,
    /// The kubeconfig to merge a context into [default: $KUBECONFIG or ~/.kube/config].
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Starts a control plane alone.
    #[arg(long, conflicts_with = "ingress")]
    pub no_node: bool,
    /// External etcd, as URLs; the embedded store where none is named.
    #[arg(long, value_delimiter = ',')]
    pub etcd_endpoints: Vec<String>,
    /// Port of the API; 0 takes a free one [default: 6443, or a free one with --no-node].
    #[arg(long)]
    pub api_port: Option<u16>,
    /// Also lets nodes of other machines link in, on this port.
    #[arg(long)]
    pub link_port: Option<u16>,
    /// Name of the node [default: the host's name].
    #[arg(long)]
    pub node_name: Option<String>,
    /// How pods' packets get from node to node; the same for all nodes of a cluster.
    #[arg(long, value_enum, default_value_t)]
    pub pod_network: PodNetworkMode,
    /// The pods' addresses [default: those of before, or 10.244.0.0/16]; each node gets a /24 of them. A second range, of IPv6, makes the cluster dual-stack, such as
    /// 10.244.0.0/16,fd00:10:244::/48: then each node gets a /64 of it too. Nodes keep the ranges that they joined with.
    #[arg(long, value_name = "RANGES")]
    pub cluster_cidr: Option<DualRange>,
    /// The Services' addresses [default: those of before, or 10.96.0.0/16], such as 10.96.0.0/16,fd00:10:96::/112.
    #[arg(long, value_name = "RANGES")]
    pub service_cidr: Option<DualRange>,
    /// Addresses for Services of type LoadBalancer, free ones of the machine's own network, such as
    /// 192.0.2.200-192.0.2.220 or 192.0.2.64/28,2001:db8:1::/120; a node announces each by ARP or, of IPv6, as its
    /// neighbour.
    #[arg(long, value_name = "RANGES")]
    pub load_balancer_pool: Option<Pool>,
    /// How Services' addresses lead to their endpoints on this node.
    #[arg(long, value_enum, default_value_t)]
    pub proxy_mode: ProxyMode,
    /// How endpoints are chosen, with --proxy-mode userspace.
    #[arg(long, value_enum, default_value_t)]
    pub proxy_scheduler: Scheduler,
    /// Whether its node serves Ingresses, and where.
    #[command(flatten)]
    pub ingress: IngressArgs,
    /// Audit, encryption at rest, certificates, identities from outside.
    #[command(flatten)]
    pub serving: ServingOptions,
    /// Deploys a sample and proves that it answers.
    #[arg(long)]
    pub sample: bool,
}

/// Starts the cluster, or finds it running.
pub fn up(args: &UpArgs) -> Result<(), UpError> {
    let began = Instant::now();
    let state = StateDir::new(&args.state_dir).map_err(io("the state folder's path"))?;
    let mut stages = Stages::new();
    if state.running().is_some() {
        println!("the cluster in {} is running already", state.path().display());
    } else {
        let settings = settings(args, &state)?;
        state.keep(&settings).map_err(io(format!("{}", state.path().display())))?;
        println!("starting a cluster in {}", state.path().display());
        start(&state, &mut stages)?;
        stages.tick("ready", began.elapsed());
        println!("context \"{}\" is in {}", settings.context, settings.kubeconfig.display());
    }
    let settings = state.settings().unwrap_or_default();
    if args.sample {
        sample::run(&state.kubeconfig(), &mut stages)?;
        println!("  the sample answered {} after the start", text(began.elapsed()));
        println!("{}", next(&settings, args));
    }
    Ok(())
}

/// What was said now, over what was said before, over what is usual.
fn settings(args: &UpArgs, state: &StateDir) -> Result<Settings, UpError> {
    let before = state.settings();
    let usual_port = if args.no_node { 0 } else { 6443 };
    let kept_port = before.as_ref().map(|s| s.api_port);
    let node_name = args.node_name.clone().or(before.as_ref().map(|s| s.node_name.clone()));
    let kubeconfig = kubeconfig_path(args.kubeconfig.as_deref());
    Ok(Settings {
        node: !args.no_node,
        etcd_endpoints: args.etcd_endpoints.clone(),
        api_port: args.api_port.or(kept_port).unwrap_or(usual_port),
        link_port: args.link_port,
        kubeconfig: std::path::absolute(kubeconfig).map_err(io("the kubeconfig's path"))?,
        context: "troupe".to_owned(),
        pod_network: args.pod_network,
        cluster_cidr: args.cluster_cidr.or(before.as_ref().and_then(|s| s.cluster_cidr)),
        service_cidr: args.service_cidr.or(before.as_ref().and_then(|s| s.service_cidr)),
        load_balancer_pool: args.load_balancer_pool.as_ref().map(Pool::to_string),
        proxy_mode: args.proxy_mode,
        proxy_scheduler: args.proxy_scheduler,
        ingress: args.ingress.ports(),
        serving: args.serving.clone().anchored().map_err(io("the paths of flags"))?,
        node_name: node_name.filter(|n| !n.is_empty()).unwrap_or_else(host_name),
    })
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    let name: String =
        name.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { "node".to_owned() } else { name }
}

/// Starts the process and shows its stages until it is ready.
fn start(state: &StateDir, stages: &mut Stages) -> Result<(), UpError> {
    use std::os::unix::process::CommandExt;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(state.log())
        .map_err(io(format!("{}", state.log().display())))?;
    let program = std::env::current_exe().map_err(io("this program's path"))?;
    let mut child = Command::new(program)
        .arg("serve")
        .arg("--state-dir")
        .arg(state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A group of its own: a Ctrl-C that ends `troupe up` leaves the cluster alone.
        .process_group(0)
        .spawn()
        .map_err(io("starting the cluster's process"))?;
    let mut passed = Instant::now();
    stages.begin("starting");
    let output = child.stdout.take().map(BufReader::new);
    for line in output.into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(io("reading the stages"))?;
        if line == crate::serve::READY {
            return Ok(());
        }
        stages.tick(&line, passed.elapsed());
        passed = Instant::now();
        stages.begin("starting");
    }
    stages.failed("not ready");
    let _ = child.wait();
    Err(UpError::Ended { log: state.log().display().to_string(), tail: tail(state, 12) })
}

fn tail(state: &StateDir, lines: usize) -> String {
    let text = std::fs::read_to_string(state.log()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn next(settings: &Settings, args: &UpArgs) -> String {
    let troupe = std::env::current_exe().map_or_else(|_| "troupe".to_owned(), |p| p.display().to_string());
    let dir = if args.state_dir == std::path::Path::new(state::DEFAULT) {
        String::new()
    } else {
        format!(" --state-dir {}", args.state_dir.display())
    };
    format!(
        "\ntry next:\n  \
         kubectl get pods -o wide                    # context \"{}\"\n  \
         kubectl scale deployment web --replicas=5\n  \
         kubectl logs -f deployment/web\n  \
         {troupe} trace deployment/web      # what the last write caused, message by message\n  \
         {troupe} actors                    # the live actors\n  \
         {troupe} down{dir}                      # end it all (make down)",
        settings.context
    )
}

/// Patience with a process that is told to end.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(20);
