//! Usage of containers, pods and the node under the names that cAdvisor and the kubelet give it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::kubelet::{Shared, machine};
use crate::runtime::{ContainerInfo, ContainerState, ContainerStats, PodIdentity, clock};

/// One container's usage at one moment.
pub struct Sample {
    /// Who.
    pub container: ContainerInfo,
    /// How much.
    pub stats: ContainerStats,
    /// Bytes and packets, on the sandbox's sample.
    pub network: Vec<Interface>,
}

/// One network interface's counters: receive bytes, packets, errors, drops; then the same for transmit.
pub struct Interface {
    name: String,
    counters: [u64; 8],
}

/// Measures every running container.
pub async fn collect(shared: &Shared) -> Vec<Sample> {
    let listed = shared.runtime.list(&[]).await.unwrap_or_default();
    let running = listed.into_iter().filter(|c| c.state == ContainerState::Running);
    let one = |container: ContainerInfo| async move {
        let container = shared.runtime.inspect(&container.id).await.ok()?;
        let stats = shared.runtime.stats(&container.id).await.ok()?;
        let real = shared.runtime.is_real() && container.is_sandbox();
        let network = if real { interfaces(container.pid).await } else { Vec::new() };
        Some(Sample { container, stats, network })
    };
    futures::future::join_all(running.map(one)).await.into_iter().flatten().collect()
}

async fn interfaces(pid: u32) -> Vec<Interface> {
    let text = tokio::fs::read_to_string(format!("/proc/{pid}/net/dev")).await.unwrap_or_default();
    parse_interfaces(&text)
}

fn parse_interfaces(text: &str) -> Vec<Interface> {
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let n: Vec<u64> = rest.split_whitespace().filter_map(|v| v.parse().ok()).collect();
            let name = name.trim();
            (n.len() >= 12 && name != "lo").then(|| Interface {
                name: name.to_owned(),
                counters: [n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11]],
            })
        })
        .collect()
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn start_seconds(container: &ContainerInfo) -> f64 {
    let since = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    container.started_at.map_or(0.0, since)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

type Field = (&'static str, &'static str, &'static str, fn(&ContainerStats) -> f64);

/// cAdvisor's metrics that come from a container's cgroup.
const FIELDS: [Field; 14] = [
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |s| {
        seconds(s.cpu_nanos)
    }),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", |s| {
        seconds(s.cpu_user_nanos)
    }),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "Cumulative system cpu time consumed in seconds.",
        |s| seconds(s.cpu_system_nanos),
    ),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", |s| {
        s.cpu_periods as f64
    }),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", |s| {
        s.cpu_throttled_periods as f64
    }),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        |s| seconds(s.cpu_throttled_nanos),
    ),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes.", |s| s.memory_usage as f64),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |s| {
        s.memory_working_set as f64
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |s| s.memory_rss as f64),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", |s| s.memory_cache as f64),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes.", |s| {
        s.memory_max as f64
    }),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits.", |s| {
        s.memory_failures as f64
    }),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |s| {
        s.memory_limit as f64
    }),
    ("container_processes", "gauge", "Number of processes running inside the container.", |s| s.pids as f64),
];

/// cAdvisor's metrics of a network interface, by place in [`Interface::counters`].
const NETWORK: [(&str, &str); 8] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received."),
    ("container_network_receive_packets_total", "Cumulative count of packets received."),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving."),
    (
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving.",
    ),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted."),
    ("container_network_transmit_packets_total", "Cumulative count of packets transmitted."),
    ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting."),
    (
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting.",
    ),
];

fn labels_of(sample: &Sample) -> String {
    let c = &sample.container;
    let pod = c.pod();
    format!(
        "container=\"{}\",id=\"{}/{}\",image=\"{}\",name=\"{}\",namespace=\"{}\",pod=\"{}\"",
        c.name(),
        c.cgroup_parent,
        c.id,
        c.image,
        c.id,
        pod.namespace,
        pod.name
    )
}

/// `/metrics/cadvisor`.
pub fn cadvisor(samples: &[Sample], shared: &Shared) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in FIELDS {
        family(&mut out, name, kind, help);
        for sample in samples {
            let _ = writeln!(out, "{name}{{{}}} {}", labels_of(sample), value(&sample.stats));
        }
    }
    family(
        &mut out,
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    );
    for sample in samples {
        let at = start_seconds(&sample.container);
        let _ = writeln!(out, "container_start_time_seconds{{{}}} {at}", labels_of(sample));
    }
    for (place, (name, help)) in NETWORK.iter().enumerate() {
        family(&mut out, name, "counter", help);
        for sample in samples {
            for interface in &sample.network {
                let (labels, value) = (labels_of(sample), interface.counters[place]);
                let _ = writeln!(out, "{name}{{{labels},interface=\"{}\"}} {value}", interface.name);
            }
        }
    }
    family(&mut out, "machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    let _ = writeln!(out, "machine_cpu_cores {}", shared.capacity.cpu_millis / 1000);
    family(&mut out, "machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    let _ = writeln!(out, "machine_memory_bytes {}", shared.capacity.memory_bytes);
    out
}

fn by_pod(samples: &[Sample]) -> BTreeMap<(String, String), (PodIdentity, Vec<&Sample>)> {
    let mut pods: BTreeMap<_, (PodIdentity, Vec<&Sample>)> = BTreeMap::new();
    for sample in samples {
        let pod = sample.container.pod();
        let key = (pod.namespace.clone(), pod.name.clone());
        pods.entry(key).or_insert_with(|| (pod, Vec::new())).1.push(sample);
    }
    pods
}

/// `/metrics/resource`: what metrics-server reads.
pub fn resource(samples: &[Sample]) -> String {
    let mut out = String::new();
    let containers: Vec<_> = samples.iter().filter(|s| !s.container.is_sandbox()).collect();
    let label = |s: &Sample| {
        let pod = s.container.pod();
        format!("container=\"{}\",namespace=\"{}\",pod=\"{}\"", s.container.name(), pod.namespace, pod.name)
    };
    let cpu = "container_cpu_usage_seconds_total";
    family(
        &mut out,
        cpu,
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    containers.iter().for_each(|s| {
        let _ = writeln!(out, "{cpu}{{{}}} {}", label(s), seconds(s.stats.cpu_nanos));
    });
    let memory = "container_memory_working_set_bytes";
    family(&mut out, memory, "gauge", "[STABLE] Current working set of the container in bytes");
    containers.iter().for_each(|s| {
        let _ = writeln!(out, "{memory}{{{}}} {}", label(s), s.stats.memory_working_set);
    });
    let start = "container_start_time_seconds";
    family(&mut out, start, "gauge", "[STABLE] Start time of the container since unix epoch in seconds");
    containers.iter().for_each(|s| {
        let _ = writeln!(out, "{start}{{{}}} {}", label(s), start_seconds(&s.container));
    });
    family(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    let _ = writeln!(out, "node_cpu_usage_seconds_total {}", seconds(machine::cpu_nanos()));
    family(
        &mut out,
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    let _ = writeln!(out, "node_memory_working_set_bytes {}", machine::memory_working_set());
    let pods = by_pod(samples);
    family(
        &mut out,
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    for ((namespace, pod), (_, of)) in &pods {
        let nanos: u64 = of.iter().map(|s| s.stats.cpu_nanos).sum();
        let _ = writeln!(
            out,
            "pod_cpu_usage_seconds_total{{namespace=\"{namespace}\",pod=\"{pod}\"}} {}",
            seconds(nanos)
        );
    }
    family(
        &mut out,
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
    );
    for ((namespace, pod), (_, of)) in &pods {
        let bytes: u64 = of.iter().map(|s| s.stats.memory_working_set).sum();
        let _ =
            writeln!(out, "pod_memory_working_set_bytes{{namespace=\"{namespace}\",pod=\"{pod}\"}} {bytes}");
    }
    family(
        &mut out,
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    out.push_str("resource_scrape_error 0\n");
    out
}

/// `/stats/summary`.
pub fn summary(samples: &[Sample], shared: &Shared) -> Value {
    let now = clock::now();
    let usage = |cpu: u64, working_set: u64, rss: u64| {
        (
            json!({"time": now, "usageCoreNanoSeconds": cpu}),
            json!({"time": now, "workingSetBytes": working_set, "rssBytes": rss}),
        )
    };
    let pods: Vec<_> = by_pod(samples)
        .into_values()
        .map(|(pod, of)| {
            let containers: Vec<_> = of
                .iter()
                .filter(|s| !s.container.is_sandbox())
                .map(|s| {
                    let (cpu, memory) =
                        usage(s.stats.cpu_nanos, s.stats.memory_working_set, s.stats.memory_rss);
                    let start = s.container.started_at.map(clock::api_time);
                    json!({"name": s.container.name(), "startTime": start, "cpu": cpu, "memory": memory})
                })
                .collect();
            let sum = |field: fn(&ContainerStats) -> u64| of.iter().map(|s| field(&s.stats)).sum::<u64>();
            let (cpu, memory) =
                usage(sum(|s| s.cpu_nanos), sum(|s| s.memory_working_set), sum(|s| s.memory_rss));
            json!({"podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                "containers": containers, "cpu": cpu, "memory": memory})
        })
        .collect();
    let (cpu, mut memory) = usage(machine::cpu_nanos(), machine::memory_working_set(), 0);
    memory["availableBytes"] =
        shared.capacity.memory_bytes.saturating_sub(machine::memory_working_set()).into();
    json!({"node": {"nodeName": shared.config.node_name, "cpu": cpu, "memory": memory}, "pods": pods})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_loopback() {
        let text = "Inter-|   Receive |\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 \
                    500 6 7 8 0 0 0 0\n";
        let found = parse_interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].counters), ("eth0", [100, 2, 3, 4, 500, 6, 7, 8]));
    }
}
