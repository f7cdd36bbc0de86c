//! Calling CNI plugins.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use protocol::DualRange;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The version of the CNI specification that is spoken; Debian's plugins know it.
pub const CNI_VERSION: &str = "1.0.0";

/// A plugin that takes longer than this hangs.
const PLUGIN_SECONDS_MAX: u64 = 30;

/// The name of a pod's interface.
pub const INTERFACE: &str = "eth0";

/// Why a plugin's work is not done.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// No directory has the plugin.
    #[error("CNI plugin \"{plugin}\" is in none of {dirs:?} (Debian: containernetworking-plugins)")]
    Missing {
        /// Which.
        plugin: String,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// It didn't run.
    #[error("CNI plugin \"{plugin}\" does not run: {why}")]
    Run {
        /// Which.
        plugin: String,
        /// Why.
        why: std::io::Error,
    },
    /// It said no.
    #[error("CNI plugin \"{plugin}\" failed: {message}")]
    Failed {
        /// Which.
        plugin: String,
        /// Its words.
        message: String,
    },
}

/// What a plugin is asked to do, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `ADD` or `DEL`.
    pub command: &'a str,
    /// The sandbox's id.
    pub container: &'a str,
    /// Path of its network namespace; empty when it is gone.
    pub netns: &'a str,
    /// `K8S_POD_NAMESPACE=…;K8S_POD_NAME=…`.
    pub arguments: &'a str,
}

/// The configuration of the bridge plugin; a pod gets an address of each of the ranges.
pub fn bridge(bridge: &str, ranges: &DualRange, mtu: u32, ipam_dir: &Path) -> Value {
    let subnets: Vec<Value> = ranges.iter().map(|range| json!([{"subnet": range.to_string()}])).collect();
    json!({
        "cniVersion": CNI_VERSION,
        "name": "troupe",
        "type": "bridge",
        "bridge": bridge,
        "isGateway": true,
        "isDefaultGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "mtu": mtu,
        "ipam": {
            "type": "host-local",
            "dataDir": ipam_dir,
            "ranges": subnets,
        },
    })
}

/// The configuration of the portmap plugin for these ports.
pub fn portmap(mappings: &[super::PortMap]) -> Value {
    let mappings: Vec<Value> = mappings
        .iter()
        .map(|m| {
            json!({
                "hostPort": m.host_port, "containerPort": m.container_port,
                "protocol": m.protocol.to_ascii_lowercase(), "hostIP": m.host_ip,
            })
        })
        .collect();
    json!({
        "cniVersion": CNI_VERSION,
        "name": "troupe",
        "type": "portmap",
        "snat": true,
        "runtimeConfig": {"portMappings": mappings},
    })
}

/// The configuration of the loopback plugin.
pub fn loopback() -> Value {
    json!({"cniVersion": CNI_VERSION, "name": "troupe-lo", "type": "loopback"})
}

/// The pod's addresses in a plugin's result.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect()
}

/// Runs a plugin; `interface` is the one it works on. Answers its result (`Null` for `DEL`).
pub async fn run(
    dirs: &[PathBuf],
    call: Call<'_>,
    interface: &str,
    config: &Value,
) -> Result<Value, CniError> {
    let plugin = config["type"].as_str().unwrap_or_default().to_owned();
    let Some(path) = dirs.iter().map(|d| d.join(&plugin)).find(|p| p.is_file()) else {
        return Err(CniError::Missing { plugin, dirs: dirs.to_vec() });
    };
    let search = dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(":");
    let work = async {
        let mut child = Command::new(&path)
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", call.container)
            .env("CNI_NETNS", call.netns)
            .env("CNI_IFNAME", interface)
            .env("CNI_ARGS", call.arguments)
            .env("CNI_PATH", &search)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(config.to_string().as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let timeout = Duration::from_secs(PLUGIN_SECONDS_MAX);
    let output = match tokio::time::timeout(timeout, work).await {
        Ok(Ok(output)) => output,
        Ok(Err(why)) => return Err(CniError::Run { plugin, why }),
        Err(_) => {
            return Err(CniError::Failed {
                plugin,
                message: format!("no answer within {PLUGIN_SECONDS_MAX} s"),
            });
        }
    };
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    if output.status.success() {
        return Ok(answer);
    }
    let said = [answer["msg"].as_str(), answer["details"].as_str()].into_iter().flatten();
    let mut message = said.filter(|s| !s.is_empty()).collect::<Vec<_>>().join(": ");
    if message.is_empty() {
        message = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
    }
    Err(CniError::Failed { plugin, message })
}
