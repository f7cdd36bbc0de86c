//! `troupe bench api`: what a Kubernetes API costs, ours or anybody's.
//!
//! - [`plan`]: the operations, each over the same pods. - [`load`]: many requests at once, timed. - [`fan_out`]: one
//!   write, many watchers. - [`process`]: what the server's processes spend. - [`report`]: the result, as text or JSON.
//!
//! It is meant for comparing clusters, so it asks every server for the same: the same bytes, over connections that are
//! open before the clock runs, without compression, about pods that no scheduler and no kubelet of the cluster
//! touches (their `schedulerName` is nobody's). What it makes lies in a namespace of its own, which it removes.

use std::path::Path;

use super::client::{Cluster, ToolError};

mod fan_out;
pub mod load;
pub mod plan;
pub mod process;
pub mod report;

/// What to measure.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// Drives a Kubernetes API and reports rates, latencies, and the server's CPU and memory where it can see them.
    Api(ApiArgs),
}

/// How to drive an API.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiArgs {
    /// How many pods to create, read, change and delete.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub pods: u32,
    /// Requests under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,
    /// TLS connections that the requests share.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
    /// How often everything is listed, for each kind of list.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lists: u32,
    /// Watchers of the pods, for the fan-out.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub watchers: u32,
    /// Writes that every watcher is to see.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub events: u32,
    /// Measures only these; creating and deleting happen anyway.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<plan::Operation>,
    /// Names of local processes whose cost to show besides the server's.
    #[arg(long = "process", value_delimiter = ',', default_value = "etcd")]
    pub processes: Vec<String>,
    /// How to show the result.
    #[arg(long, short, value_enum, default_value_t = report::Format::Table)]
    pub output: report::Format,
}

/// Runs a benchmark; the answer is its report.
pub async fn run(kubeconfig: &Path, command: &BenchCommand) -> Result<String, ToolError> {
    let BenchCommand::Api(args) = command;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(Cluster::of(kubeconfig)?);
    }
    let report = plan::run(&connections, args, &[]).await?;
    Ok(report.show(args.output))
}
