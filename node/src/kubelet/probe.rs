//! Probes and lifecycle hooks: what they run, and what a row of results means.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::runtime::{ContainerRuntime, RuntimeError, run};

mod grpc;

/// Output of a probe's command that is kept for the event.
const OUTPUT_BYTES_MAX: usize = 10 << 10;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Whether the container has started; the others wait for it.
    Startup,
    /// Whether it is to be restarted.
    Liveness,
    /// Whether it gets traffic.
    Readiness,
}

impl Kind {
    /// As events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// All kinds.
pub const KINDS: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

/// Results in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    successes: i32,
    failures: i32,
}

impl Streak {
    /// Counts a result. Answers the verdict once a threshold is reached.
    pub fn note(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        if success {
            *self = Streak { successes: self.successes.saturating_add(1), failures: 0 };
            (self.successes >= probe.success_threshold.unwrap_or(1).max(1)).then_some(true)
        } else {
            *self = Streak { successes: 0, failures: self.failures.saturating_add(1) };
            (self.failures >= probe.failure_threshold.unwrap_or(3).max(1)).then_some(false)
        }
    }
}

fn seconds(given: Option<i32>, default: i32) -> Duration {
    Duration::from_secs(u64::try_from(given.unwrap_or(default).max(default.min(1))).unwrap_or(0))
}

/// Pause between two probes.
pub fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds.filter(|s| *s > 0), 10)
}

/// How long after its start a container is first probed.
pub fn initial_delay(probe: &Probe) -> Duration {
    seconds(probe.initial_delay_seconds, 0)
}

/// A target inside a pod.
pub struct Target<'a> {
    /// The engine.
    pub runtime: &'a dyn ContainerRuntime,
    /// The container's id.
    pub id: &'a str,
    /// Its spec, for ports by name.
    pub container: &'a Container,
    /// The pod's address.
    pub ip: &'a str,
}

impl Target<'_> {
    /// Runs a probe once. The error is the text for the event.
    pub async fn check(&self, probe: &Probe) -> Result<(), String> {
        let limit = seconds(probe.timeout_seconds.filter(|s| *s > 0), 1);
        if let Some(exec) = &probe.exec {
            return self.exec(exec.command.as_deref().unwrap_or_default(), limit).await;
        }
        if !self.runtime.is_real() {
            return Ok(());
        }
        if let Some(get) = &probe.http_get {
            return self.http(get, limit, "kube-probe/1.36").await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = self.port(&tcp.port)?;
            let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(self.ip);
            return connect(host, port, limit).await;
        }
        if let Some(action) = &probe.grpc {
            let port = u16::try_from(action.port).map_err(|_| "invalid port".to_owned())?;
            return grpc::check(self.ip, port, action.service.as_deref().unwrap_or_default(), limit).await;
        }
        Err("missing probe handler".to_owned())
    }

    /// Runs a lifecycle hook.
    pub async fn hook(&self, hook: &LifecycleHandler, limit: Duration) -> Result<(), String> {
        if let Some(sleep) = &hook.sleep {
            let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
            tokio::time::sleep(wanted.min(limit)).await;
            return Ok(());
        }
        if let Some(exec) = &hook.exec {
            return self.exec(exec.command.as_deref().unwrap_or_default(), limit).await;
        }
        match &hook.http_get {
            Some(get) if self.runtime.is_real() => self.http(get, limit, "kube-lifecycle/1.36").await,
            _ => Ok(()),
        }
    }

    async fn exec(&self, command: &[String], limit: Duration) -> Result<(), String> {
        match run(self.runtime, self.id, command, limit, OUTPUT_BYTES_MAX).await {
            Ok((0, _)) => Ok(()),
            Ok((_, output)) => Err(String::from_utf8_lossy(&output).into_owned()),
            Err(RuntimeError::Timeout(after)) => Err(format!(
                "command timed out: \"{}\" timed out after {}s",
                command.join(" "),
                after.as_secs()
            )),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn http(&self, get: &HTTPGetAction, limit: Duration, agent: &str) -> Result<(), String> {
        let port = self.port(&get.port)?;
        let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(self.ip);
        let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let path = get.path.as_deref().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("{scheme}://{bracketed}:{port}{slash}{path}");
        // A connection of its own each time: a probe is to see whether new clients get through.
        let client = reqwest::Client::builder()
            .timeout(limit)
            .pool_max_idle_per_host(0)
            .danger_accept_invalid_certs(true)
            .no_proxy()
            .user_agent(agent)
            .build()
            .map_err(|e| e.to_string())?;
        let mut request = client.get(&url).header("Accept", "*/*");
        for header in get.http_headers.iter().flatten() {
            request = request.header(&header.name, &header.value);
        }
        match request.send().await {
            Ok(answer) if (200..400).contains(&answer.status().as_u16()) => Ok(()),
            Ok(answer) => Err(format!("HTTP probe failed with statuscode: {}", answer.status().as_u16())),
            Err(e) if e.is_timeout() => Err(format!(
                "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            )),
            Err(e) if e.is_connect() => {
                Err(format!("Get \"{url}\": dial tcp {bracketed}:{port}: connect: connection refused"))
            }
            Err(e) => Err(format!("Get \"{url}\": {e}")),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(n) => Some(*n),
            IntOrString::String(name) => {
                let named = self.container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
                named.map(|p| p.container_port).or_else(|| name.parse().ok())
            }
        };
        number
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("invalid port: {port:?}"))
    }
}

async fn connect(host: &str, port: u16, limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(format!("dial tcp {host}:{port}: connect: connection refused"))
        }
        Ok(Err(e)) => Err(format!("dial tcp {host}:{port}: {e}")),
        Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// Streaks by container id and kind.
pub type Streaks = BTreeMap<(String, Kind), Streak>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut streak = Streak::default();
        let verdicts: Vec<_> =
            [true, true, false, false, true, false, false, false].map(|ok| streak.note(ok, &probe)).to_vec();
        assert_eq!(verdicts, [None, Some(true), None, None, None, None, None, Some(false)]);
        assert_eq!(period(&Probe::default()), Duration::from_secs(10));
        assert_eq!(initial_delay(&Probe::default()), Duration::ZERO);
    }
}
