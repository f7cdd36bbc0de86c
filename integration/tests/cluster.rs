//! A whole cluster as a user has it: `troupe up` on real Docker, real kernel networking, the real kubectl;
//! broken in every way that one machine allows, and ended without a trace.
//!
//! One test, because a machine has room for one node: its ports are the kubelet's.

#[path = "cluster/datagrams.rs"]
mod datagrams;
#[path = "cluster/network.rs"]
mod network;
#[path = "cluster/rust_client.rs"]
mod rust_client;
#[path = "cluster/streams.rs"]
mod streams;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A cluster in a folder of its own, ended when dropped.
struct Cluster {
    dir: tempfile::TempDir,
}

const PATIENCE: Duration = Duration::from_secs(90);

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Cluster {
    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    fn troupe(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_troupe"))
            .args(args)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .output()
            .expect("the troupe program runs");
        assert!(output.status.success(), "troupe {}: {}", args.join(" "), text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn up(&self, extra: &[&str]) -> String {
        let state = self.state();
        let mut args = vec!["up", "--node-name", "e2e", "--api-port", "0", "--state-dir", path(&state)];
        args.extend(extra);
        self.troupe(&args)
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let output = Command::new("kubectl").arg("--kubeconfig").arg(self.kubeconfig()).args(args).output();
        let output = output.expect("kubectl runs");
        assert!(output.status.success(), "kubectl {}: {}", args.join(" "), text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Asks again until the answer is the expected one.
    fn eventually(&self, what: &str, args: &[&str], expected: impl Fn(&str) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.kubectl(args);
            if expected(&answer) {
                return;
            }
            assert!(Instant::now() < until, "{what}: kubectl {} still says: {answer}", args.join(" "));
        }
    }

    fn pods(&self) -> Vec<String> {
        let names =
            self.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn all_ready(&self, replicas: usize) {
        let ready = "jsonpath={.status.readyReplicas}/{.status.replicas}/{.status.updatedReplicas}";
        let expected = format!("{replicas}/{replicas}/{replicas}");
        self.eventually("all replicas ready", &["get", "deployment", "web", "-o", ready], |a| a == expected);
    }

    fn pid(&self) -> String {
        std::fs::read_to_string(self.state().join("pid")).expect("a running process").trim().to_owned()
    }

    fn down(&self) {
        let state = self.state();
        let output = run(env!("CARGO_BIN_EXE_troupe"), &["down", "--state-dir", path(&state)]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.state().join("troupe.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the cluster's log ends:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        let state = self.state();
        run(env!("CARGO_BIN_EXE_troupe"), &["down", "--purge", "--state-dir", path(&state)]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Ids of the engine's containers that belong to the node.
fn containers(filter: &[&str]) -> Vec<String> {
    let mut args = vec!["ps", "-q", "--no-trunc", "--filter", "label=io.troupe.scope=e2e"];
    args.extend(filter);
    let output = run("docker", &args);
    assert!(output.status.success(), "{}", text(&output));
    let mut ids: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Python's client lies in an environment of its own, which `prepare.sh test` makes.
fn python_client(cluster: &Cluster, pod: &str) {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    assert!(python.exists(), "{}: made by: sh integration/scripts/prepare.sh test", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/python_client.py");
    let output = run(path(&python), &[path(&script), path(&cluster.kubeconfig()), pod]);
    assert!(output.status.success() && text(&output).contains("all well"), "{}", text(&output));
}

#[test]
fn a_cluster_runs_the_sample_mends_what_breaks_and_leaves_nothing_behind() {
    let cluster = Cluster { dir: tempfile::tempdir().expect("a folder") };

    // Up, twice: the second time finds it running. The sample answers by address and by name.
    let shown = cluster.up(&["--sample"]);
    assert!(shown.contains("answered from the host: web-"), "{shown}");
    assert!(shown.contains("answered from another pod: web-"), "{shown}");
    assert!(cluster.up(&[]).contains("running already"));
    cluster.all_ready(3);

    // Into a pod, in both languages; logs.
    let pod = cluster.pods().remove(0);
    streams::check(&cluster.kubeconfig(), &pod, cluster.dir.path());
    assert!(cluster.kubectl(&["logs", &pod]).contains("listens on 8080"));

    // Through the API server's proxies.
    let get = |path: String| cluster.kubectl(&["get", "--raw", &path]);
    assert_eq!(get(format!("/api/v1/namespaces/default/pods/{pod}:8080/proxy/index.html")), pod);
    assert!(get("/api/v1/namespaces/default/services/web:http/proxy/".to_owned()).starts_with("web-"));
    assert_eq!(get("/api/v1/nodes/e2e/proxy/healthz".to_owned()), "ok");

    // Other clients than kubectl.
    rust_client::check(&cluster.kubeconfig(), &pod);
    python_client(&cluster, &pod);

    // Names and Services, as pods use them.
    network::check(&cluster);
    datagrams::check(&cluster);

    // A killed container is started again in its pod.
    let name = format!("name=k8s_web_{pod}");
    let id = containers(&["--filter", &name]).remove(0);
    run("docker", &["kill", &id]);
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    cluster.eventually("a restart", &["get", "pod", &pod, "-o", restarts], |a| a == "1");
    cluster.all_ready(3);

    // A deleted pod is replaced.
    cluster.kubectl(&["delete", "pod", &pod]);
    cluster.all_ready(3);
    assert!(!cluster.pods().contains(&pod));

    // Actors that panic are rebuilt, and the cluster goes on.
    for actor in [
        "master/store/bridge",
        "master/cache",
        "master/scheduler",
        "master/controllers/deployment",
        "master/controllers/replicaset",
        "node/kubelet[e2e]",
        "node/link",
        "node/proxy",
        "node/dns",
    ] {
        cluster.troupe(&["panic", actor]);
    }
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=5"]);
    cluster.all_ready(5);
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]);
    assert!(metrics.contains(r#"troupe_actor_panics_total{class="master/scheduler"} 1"#), "{metrics}");

    // A write after the storm: what a re-list brings back has no cause, what a watch brings has.
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=6"]);
    cluster.all_ready(6);

    // The trace of the last write goes from the request to the containers and the Service's rules.
    let trace = cluster.troupe(&["trace", "deployment/web", "--limit", "5000"]);
    for step in [
        "master/front PATCH deployments",
        "master/store/bridge Commit",
        "master/controllers/deployment",
        "master/controllers/replicaset",
        "master/scheduler/binder",
        "node/link ADDED",
        "node/kubelet[e2e] PodChanged",
        "node/runtime start container",
        "node/proxy",
        "master/api patch/status",
    ] {
        assert!(trace.contains(step), "\"{step}\" is missing in:\n{trace}");
    }

    // Killed, the process adopts its containers when it comes back; nothing acknowledged is lost.
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let before = containers(&[]);
    run("kill", &["-9", &cluster.pid()]);
    cluster.up(&[]);
    cluster.all_ready(6);
    assert_eq!(containers(&[]), before, "no container was restarted or replaced");
    assert_eq!(cluster.kubectl(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]), "b");

    // A new template rolls out, and back.
    cluster.kubectl(&["set", "env", "deployment/web", "COLOR=red"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let env = "jsonpath={.spec.template.spec.containers[0].env}";
    assert_eq!(cluster.kubectl(&["get", "deployment", "web", "-o", env]), "");

    // Down, twice, leaves nothing.
    let pid = cluster.pid();
    cluster.down();
    cluster.down();
    // One that has ended, but that nobody has reaped yet, has no command line.
    let command = std::fs::read(Path::new("/proc").join(&pid).join("cmdline")).unwrap_or_default();
    assert!(command.is_empty(), "the process goes on: {}", String::from_utf8_lossy(&command));
    assert_eq!(containers(&["-a"]), Vec::<String>::new());
    let rules = text(&run("nft", &["list", "tables"]));
    assert!(!rules.contains("troupe"), "{rules}");
    let rules = text(&run("iptables-save", &[]));
    assert!(!rules.contains("troupe"), "{rules}");
    let links = text(&run("ip", &["-br", "link"]));
    assert!(!links.contains("troupe"), "{links}");
    let addresses = text(&run("ip", &["-br", "address", "show", "lo"]));
    assert!(!addresses.contains("10.96.0.10"), "{addresses}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(path(&cluster.state())), "{mounts}");
}
