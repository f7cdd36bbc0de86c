//! `troupe token`: what nodes join with.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::client::{Cluster, ToolError};

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Makes a token and prints it.
    Create {
        /// How long it is good, in hours; 0 is for ever.
        #[arg(long, default_value_t = 24)]
        hours: u64,
    },
    /// Lists the tokens' ids.
    List,
}

/// Does it.
pub async fn run(cluster: &Cluster, command: &TokenCommand) -> Result<String, ToolError> {
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    match command {
        TokenCommand::Create { hours } => {
            let (id, secret) = master::pki::new_bootstrap_token();
            let expires =
                (*hours > 0).then(|| rfc3339(SystemTime::now() + Duration::from_secs(hours * 3600)));
            let groups = "system:bootstrappers:kubeadm:default-node-token";
            let body = master::auth::authenticate::bootstrap_secret(&id, &secret, expires.as_deref(), groups);
            let _: Value = cluster.post(secrets, &[], Some(&body)).await?;
            Ok(format!("{id}.{secret}\n"))
        }
        TokenCommand::List => {
            let selector = ("fieldSelector", "type=bootstrap.kubernetes.io/token".to_owned());
            let list: Value = cluster.get(secrets, &[selector]).await?;
            let names =
                list["items"].as_array().into_iter().flatten().filter_map(|s| s["metadata"]["name"].as_str());
            Ok(names.map(|n| format!("{}\n", n.trim_start_matches("bootstrap-token-"))).collect())
        }
    }
}

fn rfc3339(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at).replace_nanosecond(0).unwrap_or_else(|_| at.into());
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
