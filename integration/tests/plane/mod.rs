//! A control plane in a thread of its own, and kubectl against it; what the tests of several programs share.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod etcd;
pub mod server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actors::Stage;
use master::options::ServingOptions;
use master::pki::kubeconfig::{self, Access};
use master::server::{Master, MasterConfig};
use serde_json::{Value, json};

/// How long something that has to come about may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Services' addresses, of both families.
const SERVICES: &str = "10.96.0.0/16,fd00:10:96::/112";
/// Addresses of Services of type LoadBalancer.
const BALANCED: &str = "192.0.2.0/24,2001:db8:1::/120";

/// A control plane; it ends when this is dropped.
pub struct Plane {
    dir: tempfile::TempDir,
    address: SocketAddr,
    ca: String,
    admin: String,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Plane {
    /// Starts one on the embedded store, which records every request in an audit log.
    pub fn start() -> Plane {
        Plane::with(|_, _| {})
    }

    /// Starts one with further options, whose files may lie in the folder.
    pub fn with(change: impl FnOnce(&mut ServingOptions, &Path)) -> Plane {
        Plane::on(Vec::new(), change)
    }

    /// Starts one on an etcd, where one is named.
    pub fn on(etcd_endpoints: Vec<String>, change: impl FnOnce(&mut ServingOptions, &Path)) -> Plane {
        // Another test of this process may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let (path, file) = (dir.path().join("state"), dir.path().join("kubeconfig"));
        std::fs::create_dir(&path).expect("a folder");
        let (policy, log) = (dir.path().join("audit.json"), dir.path().join("audit.log"));
        let rules =
            json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Request"}]});
        std::fs::write(&policy, rules.to_string()).expect("a policy");
        let mut serving = ServingOptions {
            audit_policy_file: Some(policy),
            audit_log_path: Some(log),
            ..ServingOptions::default()
        };
        change(&mut serving, dir.path());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (started, starting) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let stage = Stage::new(1);
                let config = MasterConfig {
                    listen: ([127, 0, 0, 1], 0).into(),
                    workers: 1,
                    etcd_endpoints,
                    serving,
                    service_cidr: SERVICES.parse().expect("ranges"),
                    load_balancer_pool: Some(BALANCED.parse().expect("a pool")),
                    ..MasterConfig::new(path)
                };
                let master =
                    Master::start(&stage, config, &mut |_: &str| {}).await.expect("the master starts");
                let server = format!("https://{}", master.front.address);
                let access = Access { server: &server, ca: master.pki.ca(), client: &master.admin };
                kubeconfig::merge_into(&file, "test", &access).expect("a kubeconfig");
                let admin = format!("{}{}", master.admin.certificate, master.admin.key);
                let told = (master.front.address, master.pki.ca().to_owned(), admin);
                started.send(told).expect("somebody waits");
                let _ = ended.await;
                master.front.stop().await;
                stage.shut_down(Duration::from_secs(5)).await;
            });
        });
        let told = starting.recv_timeout(PATIENCE).expect("the master starts in time");
        let (address, ca, admin) = told;
        Plane { dir, address, ca, admin, end: Some(end), thread: Some(thread) }
    }

    /// Where a path of the API is.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The plane's CA, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The administrator's certificate and key, PEM.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// kubectl, with caches of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--cache-dir").arg(self.dir.path().join("cache")).args(args);
        command
    }

    /// Runs kubectl; what it reads is `input`.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("its input");
        std::io::Write::write_all(&mut stdin, input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    /// What kubectl writes when it succeeds.
    pub fn kubectl(&self, args: &[&str]) -> String {
        succeeded(args, &self.run(args, ""))
    }

    /// What kubectl says when it is refused.
    pub fn refused(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        assert!(!output.status.success(), "kubectl {args:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Applies an object, and returns what kubectl says.
    pub fn apply(&self, object: &Value) -> String {
        let args = ["apply", "-f", "-"];
        let output = self.run(&args, &object.to_string());
        format!("{}{}", succeeded(&args, &output), text(&output.stderr))
    }

    /// Makes an object.
    pub fn create(&self, object: &Value) {
        let args = ["create", "-f", "-"];
        succeeded(&args, &self.run(&args, &object.to_string()));
    }

    /// Reads an object, or another path of the API.
    pub fn raw(&self, path: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "--raw", path])).expect("JSON")
    }

    /// Waits until kubectl says what is expected.
    pub fn until(&self, args: &[&str], expected: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let output = self.run(args, "");
            let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
            if expected(&said) {
                return said;
            }
            assert!(begun.elapsed() < PATIENCE, "kubectl {args:?} still says: {said}");
            pause();
        }
    }

    /// Waits for a record of the audit log.
    pub fn audited(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap_or_default();
            let mut records = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(found) = records.find(&wanted) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "no such record: {log}");
            pause();
        }
    }

    /// Waits until a declared kind is served.
    pub fn established(&self, plural: &str) {
        let name = format!("crd/{plural}.example.com");
        self.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=60s"]);
    }
}

fn succeeded(args: &[&str], output: &Output) -> String {
    assert!(output.status.success(), "kubectl {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A definition of a kind of the group `example.com`.
pub fn definition(plural: &str, kind: &str, versions: Value, conversion: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": versions, "conversion": conversion}})
}

/// A served version of a definition.
pub fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

#[expect(clippy::disallowed_methods, reason = "the test's own thread, between two looks at another process")]
fn pause() {
    std::thread::sleep(PAUSE);
}
