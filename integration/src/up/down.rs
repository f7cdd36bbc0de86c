//! Ending: the process, and everything that its node left on the machine.

use std::path::PathBuf;

use super::start::END_PATIENCE;
use super::{UpError, io};
use crate::stages::Stages;
use crate::state::{self, StateDir};

/// What to end.
#[derive(Clone, Debug, clap::Args)]
pub struct DownArgs {
    /// Where the cluster keeps its state.
    #[arg(long, default_value = state::DEFAULT)]
    pub state_dir: PathBuf,
    /// Deletes the cluster's objects and certificates too.
    #[arg(long)]
    pub purge: bool,
}

/// Ends the cluster. Nothing to end is no error.
pub fn down(args: &DownArgs) -> Result<(), UpError> {
    let state = StateDir::new(&args.state_dir).map_err(io("the state folder's path"))?;
    let mut stages = Stages::new();
    let Some(settings) = state.settings() else {
        println!("no cluster in {}", state.path().display());
        return Ok(());
    };
    stages.begin("ending the process");
    if !state.end_process(END_PATIENCE) {
        return Err(UpError::StillThere(state.log().display().to_string()));
    }
    stages.done("process ended");
    if settings.node {
        stages.begin("removing containers, networks, rules and mounts");
        let dns = master::server::MasterConfig::new(state.path().to_owned()).dns_address().into();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io("an async runtime"))?;
        let done = runtime.block_on(node::clean_up(&settings.node_name, state.path(), dns));
        done.map_err(|e| UpError::CleanUp(e.to_string()))?;
        stages.done("containers, networks, rules and mounts removed");
    }
    master::pki::kubeconfig::remove_from(&settings.kubeconfig, &settings.context)?;
    if args.purge {
        std::fs::remove_dir_all(state.path()).map_err(io(format!("{}", state.path().display())))?;
        println!("  the cluster's state is deleted");
    } else {
        println!(
            "  objects and certificates stay in {}; `troupe up` goes on with them",
            state.path().display()
        );
    }
    Ok(())
}
