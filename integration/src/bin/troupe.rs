//! The `troupe` program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use integration::serve::{ServeArgs, serve};
use integration::tools::actors::ActorsArgs;
use integration::tools::trace::TraceArgs;
use integration::tools::{Cluster, ToolError, actors, bench, kubeconfig_path, panic, token, trace};
use integration::up::{DownArgs, UpArgs, down, up};

/// Objects are small, many, and dropped on other threads than they were made on; the C library's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kubernetes as an actor system: a whole cluster in one process, and tools around any.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The kubeconfig of the cluster that tools ask [default: $KUBECONFIG or ~/.kube/config].
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a cluster in the background.
    Up(Box<UpArgs>),
    /// Ends a cluster and removes what its node left on the machine.
    Down(DownArgs),
    /// Runs a cluster in the foreground (what `up` starts).
    #[command(hide = true)]
    Serve(ServeArgs),
    /// Shows what the last write to an object caused, message by message.
    Trace(TraceArgs),
    /// Shows the live actors: mailboxes, messages handled, restarts.
    Actors(ActorsArgs),
    /// Makes an actor panic, to see its supervisor rebuild it.
    Panic(panic::PanicArgs),
    /// Measures a cluster, ours or another.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Makes and lists tokens that nodes join with.
    #[command(subcommand)]
    Token(token::TokenCommand),
}

fn main() -> ExitCode {
    // The allocator is built not to ask for huge pages, which are two megabytes each, for a few kilobytes; some kernels
    // give them unasked. Without them a program at rest takes 20 MiB less. A kernel that has none refuses.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let args = Args::parse();
    // Both rings are linked in by different crates; this program uses one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before");
    }
    let result: Result<(), Box<dyn std::error::Error>> = match &args.command {
        Command::Up(up_args) => {
            let mut up_args = up_args.clone();
            up_args.kubeconfig = up_args.kubeconfig.or(args.kubeconfig);
            up(&up_args).map_err(Into::into)
        }
        Command::Down(down_args) => down(down_args).map_err(Into::into),
        Command::Serve(serve_args) => {
            log();
            let served = serve(serve_args);
            if let Err(e) = &served {
                tracing::error!(error = %e, "the cluster did not start");
            }
            served
        }
        tool => ask(tool, args.kubeconfig.as_deref()).map(|text| print!("{text}")).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn ask(tool: &Command, kubeconfig: Option<&std::path::Path>) -> Result<String, ToolError> {
    let failed = |e: std::io::Error| ToolError::Unreachable(e.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let kubeconfig = kubeconfig_path(kubeconfig);
    let cluster = Cluster::of(&kubeconfig)?;
    runtime.block_on(async {
        match tool {
            Command::Bench(command) => bench::run(&kubeconfig, command).await,
            Command::Trace(args) => trace::run(&cluster, args).await,
            Command::Actors(args) => actors::run(&cluster, args).await,
            Command::Panic(args) => panic::run(&cluster, args).await,
            Command::Token(command) => token::run(&cluster, command).await,
            Command::Up(_) | Command::Down(_) | Command::Serve(_) => Ok(String::new()),
        }
    })
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TROUPE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
