//! What the processes of a server on this machine spend, read from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The unit of CPU times in `/proc`: fixed by the kernel's interface on every architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;
/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process whose cost is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, cut to 15 characters by the kernel.
    pub name: String,
}

impl Process {
    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap_or_default()
    }

    /// CPU time used so far, in user and kernel mode.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.file("stat"))
    }

    /// Resident memory now and at its highest, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let status = self.file("status");
        (field(&status, "VmRSS:") * 1024, field(&status, "VmHWM:") * 1024)
    }

    /// Makes the highest resident memory start anew, where we may.
    pub fn reset_peak(&self) {
        // The kernel's documentation of clear_refs: 5 resets the peak.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.pid), "5");
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The CPU time in the text of a `stat` file.
fn cpu_of(stat: &str) -> Duration {
    // The name may hold spaces and brackets; what follows its last bracket holds none.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

fn all() -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    pids.filter_map(|pid| Some(Process { pid, name: name(pid)?.trim().to_owned() })).collect()
}

/// The inodes of the sockets that listen on a port, in the text of a `/proc/net/tcp`.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let listens = words.get(1)?.ends_with(&suffix) && *words.get(3)? == LISTEN;
        listens.then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let files = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    files.into_iter().flatten().flatten().any(|file| {
        fs::read_link(file.path()).is_ok_and(|to| to.to_str().is_some_and(|to| sockets.contains(to)))
    })
}

/// The processes that listen on `port` of this machine, and those of the given names.
pub fn find(port: Option<u16>, names: &[String]) -> Vec<Process> {
    let mut sockets = HashSet::new();
    for (table, port) in ["tcp", "tcp6"].iter().zip(port.into_iter().cycle()) {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        sockets.extend(listeners(&text, port));
    }
    let wanted = |p: &Process| names.contains(&p.name) || (!sockets.is_empty() && holds(p.pid, &sockets));
    all().into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let check =
            |stat: &str, millis: u64| assert_eq!(cpu_of(stat), Duration::from_millis(millis), "{stat}");
        check("7 (etcd) S 1 7 7 0 -1 4 1 0 0 0 150 50 0 0 20 0 9 0 1", 2000);
        check("7 (a ) b) S 1 7 7 0 -1 4 1 0 0 0 1 2 0 0 20 0 9 0 1", 30);
        check("", 0);
    }

    #[test]
    fn a_listening_port_leads_to_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let found = find(Some(port), &[]);
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [std::process::id()]);
        let (now, peak) = found[0].memory();
        assert!(now > 0 && peak >= now, "{now} {peak}");
        drop(listener);
        assert_eq!(find(Some(port), &[]), []);
    }
}
