//! What a process's cgroup says: usage from the files of cgroup v1 or v2, and the pod's own cgroup.
//!
//! Blocking file reads: call from a blocking thread where it matters.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::ContainerStats;

#[cfg(test)]
mod tests;

/// Where cgroup file systems are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// Number of CAP_SYS_RESOURCE, without which OOM scores cannot be lowered.
const CAP_SYS_RESOURCE: u32 = 24;

/// Whether this process (and so, most likely, the engine beside it) may lower OOM scores.
pub fn has_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities & (1 << CAP_SYS_RESOURCE) != 0)
}

/// Whether the unified hierarchy (v2) is in use.
pub fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The directory of each controller for a process; under v2 one directory under the empty name.
fn directories(pid: u32) -> io::Result<HashMap<String, PathBuf>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(parse_directories(&text, Path::new(MOUNT), is_unified()))
}

fn parse_directories(text: &str, mount: &Path, unified: bool) -> HashMap<String, PathBuf> {
    let mut found = HashMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let relative = path.trim_start_matches('/');
        if controllers.is_empty() {
            if unified {
                found.insert(String::new(), mount.join(relative));
            }
            continue;
        }
        for controller in controllers.split(',') {
            found.insert(controller.to_owned(), mount.join(controller).join(relative));
        }
    }
    found
}

fn number(path: &Path, file: &str) -> u64 {
    std::fs::read_to_string(path.join(file)).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

fn table(path: &Path, file: &str) -> HashMap<String, u64> {
    let text = std::fs::read_to_string(path.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// A limit file's value, where "no limit" is 0 here.
fn limit(value: u64) -> u64 {
    // v1 writes the highest page-aligned number for "none".
    if value >= 1 << 62 { 0 } else { value }
}

/// What the cgroup that `pid` is in has used.
pub fn stats(pid: u32) -> io::Result<ContainerStats> {
    let found = directories(pid)?;
    Ok(match found.get("") {
        Some(path) if is_unified() => unified_stats(path),
        _ => v1_stats(&found),
    })
}

/// The usage of a cgroup named by its path from the root, such as a pod's.
pub fn stats_of(cgroup: &str) -> ContainerStats {
    let relative = cgroup.trim_start_matches('/');
    if is_unified() {
        return unified_stats(&Path::new(MOUNT).join(relative));
    }
    let found = ["cpu", "cpuacct", "memory", "pids"]
        .map(|controller| (controller.to_owned(), Path::new(MOUNT).join(controller).join(relative)));
    v1_stats(&HashMap::from(found))
}

fn unified_stats(path: &Path) -> ContainerStats {
    let cpu = table(path, "cpu.stat");
    let memory = table(path, "memory.stat");
    let of = |t: &HashMap<String, u64>, key: &str| t.get(key).copied().unwrap_or(0);
    let usage = number(path, "memory.current");
    ContainerStats {
        cpu_nanos: of(&cpu, "usage_usec") * 1000,
        cpu_user_nanos: of(&cpu, "user_usec") * 1000,
        cpu_system_nanos: of(&cpu, "system_usec") * 1000,
        memory_usage: usage,
        memory_working_set: usage.saturating_sub(of(&memory, "inactive_file")),
        memory_rss: of(&memory, "anon"),
        memory_cache: of(&memory, "file"),
        memory_max: number(path, "memory.peak"),
        memory_failures: table(path, "memory.events").get("max").copied().unwrap_or(0),
        memory_limit: number(path, "memory.max"),
        pids: number(path, "pids.current"),
        cpu_periods: of(&cpu, "nr_periods"),
        cpu_throttled_periods: of(&cpu, "nr_throttled"),
        cpu_throttled_nanos: of(&cpu, "throttled_usec") * 1000,
    }
}

fn v1_stats(found: &HashMap<String, PathBuf>) -> ContainerStats {
    let none = PathBuf::from("/nonexistent");
    let of = |controller: &str| found.get(controller).unwrap_or(&none);
    // USER_HZ is 100 on every Linux that we run on.
    let ticks = table(of("cpuacct"), "cpuacct.stat");
    let nanos = |key: &str| ticks.get(key).copied().unwrap_or(0) * 10_000_000;
    let throttling = table(of("cpu"), "cpu.stat");
    let memory = table(of("memory"), "memory.stat");
    let total = |key: &str| memory.get(key).copied().unwrap_or(0);
    let usage = number(of("memory"), "memory.usage_in_bytes");
    ContainerStats {
        cpu_nanos: number(of("cpuacct"), "cpuacct.usage"),
        cpu_user_nanos: nanos("user"),
        cpu_system_nanos: nanos("system"),
        memory_usage: usage,
        memory_working_set: usage.saturating_sub(total("total_inactive_file")),
        memory_rss: total("total_rss"),
        memory_cache: total("total_cache"),
        memory_max: number(of("memory"), "memory.max_usage_in_bytes"),
        memory_failures: number(of("memory"), "memory.failcnt"),
        memory_limit: limit(number(of("memory"), "memory.limit_in_bytes")),
        pids: number(of("pids"), "pids.current"),
        cpu_periods: throttling.get("nr_periods").copied().unwrap_or(0),
        cpu_throttled_periods: throttling.get("nr_throttled").copied().unwrap_or(0),
        cpu_throttled_nanos: throttling.get("throttled_time").copied().unwrap_or(0),
    }
}

/// Removes a pod's cgroup after its last container: the engine leaves parents behind.
pub fn remove(cgroup: &str) {
    let relative = cgroup.trim_start_matches('/');
    if relative.is_empty() {
        return;
    }
    if is_unified() {
        let _ = std::fs::remove_dir(Path::new(MOUNT).join(relative));
        return;
    }
    for controller in std::fs::read_dir(MOUNT).into_iter().flatten().flatten() {
        // Missing ones and ones still in use (a slow engine) are fine: the next cleaning gets them.
        let _ = std::fs::remove_dir(controller.path().join(relative));
    }
}

/// Removes a cgroup and the empty ones below it, in every hierarchy. What still has a process stays.
pub fn remove_empty_below(cgroup: &str) {
    let relative = cgroup.trim_start_matches('/');
    if relative.is_empty() {
        return;
    }
    if is_unified() {
        remove_empty_tree(&Path::new(MOUNT).join(relative), DEPTH_MAX);
        return;
    }
    for controller in std::fs::read_dir(MOUNT).into_iter().flatten().flatten() {
        remove_empty_tree(&controller.path().join(relative), DEPTH_MAX);
    }
}

/// Levels below a cgroup of ours: quality of service, pod, container.
const DEPTH_MAX: usize = 3;

fn remove_empty_tree(path: &Path, depth: usize) {
    if depth > 0 {
        for below in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if below.file_type().is_ok_and(|t| t.is_dir()) {
                remove_empty_tree(&below.path(), depth - 1);
            }
        }
    }
    let _ = std::fs::remove_dir(path);
}
