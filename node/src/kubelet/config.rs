//! What a kubelet needs to know before it starts.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use std::collections::BTreeMap;

use crate::certificate::NodeCertificate;

/// Settings of one kubelet.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// The node's name.
    pub node_name: String,
    /// The host name that the node reports.
    pub hostname: String,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// Its own address of IPv6, where it has one beside.
    pub node_ip6: Option<Ipv6Addr>,
    /// Labels for the node at registration.
    pub node_labels: BTreeMap<String, String>,
    /// Annotations for the node at registration; those without a value are taken away.
    pub node_annotations: BTreeMap<String, Option<String>>,
    /// Taints for the node at registration, as `key=value:Effect`.
    pub node_taints: Vec<String>,
    /// Pods' volumes and the like.
    pub root_dir: PathBuf,
    /// Log files of pods (`/var/log/pods`).
    pub pod_logs_dir: PathBuf,
    /// Links to log files by container (`/var/log/containers`).
    pub container_logs_dir: PathBuf,
    /// Static pods' manifests; `None` for no static pods.
    pub static_pods_dir: Option<PathBuf>,
    /// Image of the pause container.
    pub pause_image: String,
    /// Address of the cluster's DNS service.
    pub cluster_dns: Option<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The host's own resolver configuration, for pods that want it.
    pub host_resolv_conf: PathBuf,
    /// Most pods that this node takes.
    pub pods_max: u32,
    /// CPU in millicores; `None` is what the machine has.
    pub cpu_millis: Option<u64>,
    /// Memory in bytes; `None` is what the machine has.
    pub memory_bytes: Option<u64>,
    /// How often the lease is renewed.
    pub lease_interval: Duration,
    /// How often the node's status is written though nothing changed.
    pub status_interval: Duration,
    /// First delay of the restart back-off.
    pub backoff_initial: Duration,
    /// Longest delay of the restart back-off.
    pub backoff_max: Duration,
    /// Most processes per pod; 0 for no limit.
    pub pod_pids_max: i64,
    /// Name of the cgroup above all pods; empty leaves containers where the engine puts them.
    pub cgroup_root: String,
    /// Bytes after which a log file is rotated.
    pub log_bytes_max: u64,
    /// How many files of a log are kept.
    pub log_files_max: u32,
    /// Serving ports and their certificates; `None` serves nothing.
    pub server: Option<ServerConfig>,
}

/// The kubelet's HTTP ports.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// TLS port (10250).
    pub port: u16,
    /// Read-only port without TLS (10255); 0 for none.
    pub read_only_port: u16,
    /// Health port on loopback (10248); 0 for none.
    pub health_port: u16,
    /// The certificate that is shown.
    pub certificate: NodeCertificate,
    /// The cluster CA in PEM: clients must show a certificate of it.
    pub client_ca_pem: String,
}

impl KubeletConfig {
    /// The node's own addresses as the API shows them, the primary one first.
    pub fn node_ips(&self) -> Vec<String> {
        let second = self.node_ip6.map(|ip| ip.to_string());
        std::iter::once(self.node_ip.to_string()).chain(second).collect()
    }

    /// The usual settings for a node of this name.
    pub fn new(node_name: &str, node_ip: IpAddr) -> Self {
        KubeletConfig {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            node_ip,
            node_ip6: None,
            node_labels: BTreeMap::new(),
            node_annotations: BTreeMap::new(),
            node_taints: Vec::new(),
            root_dir: PathBuf::from("/var/lib/troupe/kubelet"),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            container_logs_dir: PathBuf::from("/var/log/containers"),
            static_pods_dir: None,
            pause_image: crate::runtime::pause::IMAGE.to_owned(),
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            host_resolv_conf: PathBuf::from("/etc/resolv.conf"),
            pods_max: 110,
            cpu_millis: None,
            memory_bytes: None,
            lease_interval: Duration::from_secs(10),
            status_interval: Duration::from_secs(300),
            backoff_initial: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
            pod_pids_max: 0,
            cgroup_root: "kubepods".to_owned(),
            log_bytes_max: 10 << 20,
            log_files_max: 5,
            server: None,
        }
    }
}
