//! The result, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Measured;
use super::plan::Operation;

/// How to show the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs; times in seconds, memory in bytes.
    Json,
}

/// One operation and what it came to.
pub struct Row {
    /// What was done.
    pub operation: Operation,
    /// How it went.
    pub measured: Measured,
    /// CPU time that each process spent meanwhile, in the order of [`Report::processes`].
    pub cpu: Vec<Duration>,
}

impl Row {
    /// CPU time of a process for one successful operation.
    pub fn cpu_each(&self, process: usize) -> Duration {
        let count = u32::try_from(self.measured.took.len()).unwrap_or(u32::MAX).max(1);
        self.cpu.get(process).copied().unwrap_or_default() / count
    }
}

/// A process and its memory at the end.
pub struct Memory {
    /// Its name.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// Resident bytes at the end.
    pub resident: u64,
    /// The most bytes that were resident since the start.
    pub peak: u64,
}

/// What a benchmark came to.
pub struct Report {
    /// The server's address.
    pub server: String,
    /// What the server calls its version.
    pub version: String,
    /// Pods, requests at once, connections.
    pub sizes: [(&'static str, u32); 3],
    /// What was measured.
    pub rows: Vec<Row>,
    /// The processes that could be seen.
    pub processes: Vec<Memory>,
}

impl Report {
    /// As text.
    pub fn show(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Json => format!("{:#}\n", self.json()),
        }
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let sizes: Vec<String> = self.sizes.iter().map(|(name, n)| format!("{n} {name}")).collect();
        let _ = writeln!(out, "{} ({}): {}\n", self.server, self.version, sizes.join(", "));
        let _ = write!(
            out,
            "{:<16} {:>8} {:>7} {:>10} {:>10} {:>10} {:>10}",
            "OPERATION", "COUNT", "ERRORS", "RATE/S", "P50", "P99", "BYTES/OP"
        );
        for process in &self.processes {
            let _ = write!(out, " {:>16}", format!("CPU/OP {}", process.name));
        }
        out.push('\n');
        for row in &self.rows {
            let m = &row.measured;
            let _ = write!(
                out,
                "{:<16} {:>8} {:>7} {:>10.1} {:>10} {:>10} {:>10}",
                row.operation.name(),
                m.took.len(),
                m.errors,
                m.rate(),
                fine(m.quantile(0.5)),
                fine(m.quantile(0.99)),
                m.bytes_each()
            );
            for process in 0..self.processes.len() {
                let _ = write!(out, " {:>16}", fine(row.cpu_each(process)));
            }
            out.push('\n');
        }
        for row in self.rows.iter() {
            if let Some(why) = &row.measured.first_error {
                let _ = writeln!(out, "\n{}: the first of its errors: {why}", row.operation.name());
            }
        }
        if self.processes.is_empty() {
            let _ = writeln!(
                out,
                "\nno process of the server is on this machine: its CPU and memory are not shown"
            );
        }
        for process in &self.processes {
            let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
            let _ = writeln!(
                out,
                "\n{} (pid {}): {:.1} MiB resident, {:.1} MiB at its highest",
                process.name,
                process.pid,
                mib(process.resident),
                mib(process.peak)
            );
        }
        out
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row(row)).collect();
        let processes = self
            .processes
            .iter()
            .map(|p| json!({"name": p.name, "pid": p.pid, "residentBytes": p.resident, "peakBytes": p.peak}));
        let sizes: serde_json::Map<String, Value> =
            self.sizes.iter().map(|(name, n)| ((*name).to_owned(), json!(n))).collect();
        json!({
            "server": self.server,
            "version": self.version,
            "sizes": sizes,
            "operations": rows,
            "processes": processes.collect::<Vec<_>>(),
        })
    }

    fn row(&self, row: &Row) -> Value {
        let m = &row.measured;
        let cpu = self.processes.iter().enumerate().map(|(n, p)| {
            json!({"name": p.name, "pid": p.pid, "secondsPerOperation": row.cpu_each(n).as_secs_f64()})
        });
        json!({
            "operation": row.operation.name(),
            "count": m.took.len(),
            "errors": m.errors,
            "firstError": m.first_error,
            "elapsedSeconds": m.elapsed.as_secs_f64(),
            "ratePerSecond": m.rate(),
            "p50Seconds": m.quantile(0.5).as_secs_f64(),
            "p99Seconds": m.quantile(0.99).as_secs_f64(),
            "bytesPerOperation": m.bytes_each(),
            "cpu": cpu.collect::<Vec<_>>(),
        })
    }
}

/// A short time with three digits.
fn fine(took: Duration) -> String {
    let micros = took.as_secs_f64() * 1e6;
    match micros {
        m if m < 1000.0 => format!("{m:.0} us"),
        m if m < 1e6 => format!("{:.2} ms", m / 1e3),
        m => format!("{:.2} s", m / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_shown_by_operation_and_process() {
        let mut measured = Measured::default();
        for n in 1..=4 {
            measured.add(Duration::from_millis(n), Ok(512));
        }
        measured.add(Duration::from_millis(9), Err("no room".to_owned()));
        let measured = measured.finish(Duration::from_secs(2));
        let report = Report {
            server: "https://127.0.0.1:1".to_owned(),
            version: "v1.36.2".to_owned(),
            sizes: [("pods", 5), ("requests at once", 1), ("connections", 1)],
            rows: vec![Row { operation: Operation::Create, measured, cpu: vec![Duration::from_millis(8)] }],
            processes: vec![Memory { name: "server".to_owned(), pid: 7, resident: 1 << 20, peak: 2 << 20 }],
        };
        let text = report.show(Format::Table);
        let row = text.lines().find(|l| l.starts_with("create ")).expect("its row");
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            words,
            ["create", "4", "1", "2.0", "2.00", "ms", "4.00", "ms", "512", "2.00", "ms"],
            "{text}"
        );
        assert!(text.contains("no room") && text.contains("2.0 MiB at its highest"), "{text}");
        let value: Value = serde_json::from_str(&report.show(Format::Json)).expect("JSON");
        assert_eq!(value["operations"][0]["cpu"][0]["secondsPerOperation"], json!(0.002));
    }
}
