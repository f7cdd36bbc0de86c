//! What the kernel counts of this process, under the names that Prometheus' clients use. Reading it touches
//! `/proc`, no disk.

use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks of a second in `/proc`, on every Linux.
const TICKS: f64 = 100.0;

/// This process.
#[derive(Debug)]
pub struct Process;

/// What was read; what the kernel does not tell is absent.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    open_files: Option<f64>,
    open_files_max: Option<f64>,
}

/// Takes `/proc/self/{stat,status,limits}` and `/proc/stat` apart.
fn parse(stat: &str, status: &str, limits: &str, machine: &str) -> Reading {
    // The program's name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).map(|ticks| ticks / TICKS);
    let line = |text: &str, name: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let boot = line(machine, "btime ");
    Reading {
        cpu_seconds: ticks(11).zip(ticks(12)).map(|(user, system)| user + system),
        start_seconds: boot.zip(ticks(19)).map(|(boot, since)| boot + since),
        resident_bytes: line(status, "VmRSS:").map(|kib| kib * 1024.0),
        virtual_bytes: line(status, "VmSize:").map(|kib| kib * 1024.0),
        open_files: None,
        open_files_max: line(limits, "Max open files"),
    }
}

fn read() -> Reading {
    let text = |path: &str| std::fs::read_to_string(Path::new("/proc").join(path)).unwrap_or_default();
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    let told = parse(&text("self/stat"), &text("self/status"), &text("self/limits"), &text("stat"));
    Reading { open_files: open, ..told }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let told = read();
        if let Some(seconds) = told.cpu_seconds {
            let help = "Total user and system CPU time spent in seconds";
            let metric = ConstCounter::new(seconds);
            let family = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            metric.encode(family)?;
        }
        for (name, help, value) in [
            ("process_open_fds", "Number of open file descriptors", told.open_files),
            ("process_max_fds", "Maximum number of open file descriptors", told.open_files_max),
            ("process_resident_memory_bytes", "Resident memory size in bytes", told.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", told.virtual_bytes),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds",
                told.start_seconds,
            ),
        ] {
            if let Some(value) = value {
                let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(family)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 1000 99 5";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t      12 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 4096                 files     \n";
        let told = parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n");
        let expected = Reading {
            cpu_seconds: Some(2.0),
            start_seconds: Some(1_700_000_010.0),
            resident_bytes: Some(12.0 * 1024.0),
            virtual_bytes: Some(2048.0 * 1024.0),
            open_files: None,
            open_files_max: Some(1024.0),
        };
        assert_eq!(told, expected);
        assert_eq!(parse("", "", "Max open files  unlimited", ""), Reading::default());
    }
}
