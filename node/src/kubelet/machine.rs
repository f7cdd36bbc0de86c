//! What this machine is and has, for the node's status.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeSystemInfo;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use protocol::KUBERNETES_VERSION;
use protocol::link::KUBELET_BUILD;

use super::config::KubeletConfig;
use crate::runtime::RuntimeVersion;

/// Capacity of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// CPU in millicores.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of the file system that holds pods' files.
    pub storage_bytes: u64,
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What there is, unless the configuration says otherwise.
pub fn capacity(config: &KubeletConfig) -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = file("/proc/meminfo")
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024;
    let at = config.root_dir.ancestors().find(|p| p.exists()).unwrap_or(std::path::Path::new("/"));
    let storage = nix::sys::statvfs::statvfs(at).map_or(0, |s| s.blocks() * s.fragment_size());
    Capacity {
        cpu_millis: config.cpu_millis.unwrap_or(cores as u64 * 1000),
        memory_bytes: config.memory_bytes.unwrap_or(memory),
        storage_bytes: storage,
    }
}

impl Capacity {
    /// As resource amounts.
    pub fn amounts(&self, pods: u32) -> BTreeMap<String, Quantity> {
        let cpu = match self.cpu_millis % 1000 {
            0 => (self.cpu_millis / 1000).to_string(),
            _ => format!("{}m", self.cpu_millis),
        };
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu)),
            ("memory".to_owned(), Quantity(format!("{}Ki", self.memory_bytes / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", self.storage_bytes / 1024))),
            ("hugepages-1Gi".to_owned(), Quantity("0".to_owned())),
            ("hugepages-2Mi".to_owned(), Quantity("0".to_owned())),
            ("pods".to_owned(), Quantity(pods.to_string())),
        ])
    }
}

/// The machine's ids and versions.
pub fn system_info(engine: &RuntimeVersion) -> NodeSystemInfo {
    let machine_id = file("/etc/machine-id");
    let product = file("/sys/class/dmi/id/product_uuid");
    NodeSystemInfo {
        architecture: if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" }.to_owned(),
        boot_id: file("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", engine.name, engine.version),
        kernel_version: file("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: format!("{KUBERNETES_VERSION}{KUBELET_BUILD}"),
        system_uuid: if product.is_empty() { machine_id.clone() } else { product },
        machine_id,
        operating_system: "linux".to_owned(),
        os_image: engine.os_image.clone(),
        swap: None,
    }
}

/// Bytes of memory in use on the machine, page cache that can go not counted.
pub fn memory_working_set() -> u64 {
    let text = file("/proc/meminfo");
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    field("MemTotal:").saturating_sub(field("MemAvailable:"))
}

/// CPU time of the machine outside idle, in nanoseconds.
pub fn cpu_nanos() -> u64 {
    let text = file("/proc/stat");
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    // user, nice, system, then idle and iowait, which are not use; then irq, softirq, steal.
    let used: u64 =
        ticks.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4 | 8 | 9)).map(|(_, t)| t).sum();
    used * 10_000_000
}
