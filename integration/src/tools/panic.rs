//! `troupe panic PATH`: makes an actor panic.

use serde_json::Value;

use super::client::{Cluster, ToolError};

/// Which actor.
#[derive(Clone, Debug, clap::Args)]
pub struct PanicArgs {
    /// Its path, as `troupe actors` shows it.
    pub path: String,
    /// The node it lives on, when that is another process.
    #[arg(long)]
    pub node: Option<String>,
}

/// Gives the order.
pub async fn run(cluster: &Cluster, args: &PanicArgs) -> Result<String, ToolError> {
    let mut query = vec![("actor", args.path.clone())];
    query.extend(args.node.clone().map(|node| ("node", node)));
    let _: Value = cluster.post("/debug/troupe/panic", &query, None).await?;
    Ok(format!("{} was made to panic; its supervisor rebuilds it\n", args.path))
}
