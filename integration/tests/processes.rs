//! `troupe-master` over an etcd that is killed and comes back, as separate processes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts"))
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A program of the workspace, which `cargo build --bins` has put beside this test's folder.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("this test's path");
    let path = here.ancestors().nth(2).expect("target folder").join(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
    path
}

fn etcd(dir: &Path, client: u16, peer: u16) -> Running {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(dir);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    Running::start(&mut command)
}

fn kubectl(kubeconfig: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(kubeconfig).args(args).output().expect("kubectl runs")
}

async fn until_succeeds(kubeconfig: &Path, args: &[&str]) {
    let begun = Instant::now();
    loop {
        let output = kubectl(kubeconfig, args);
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begun.elapsed() < Duration::from_secs(60), "kubectl {args:?}: {said}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn writes_fail_clearly_without_etcd_and_resume_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (client, peer) = (free_port(), free_port());
    let mut store = etcd(&dir.path().join("etcd"), client, peer);
    let kubeconfig = dir.path().join("kubeconfig");
    let mut command = Command::new(program("troupe-master"));
    command.arg("--state-dir").arg(dir.path().join("master")).arg("--kubeconfig").arg(&kubeconfig);
    command.args(["--etcd-endpoints", &format!("http://127.0.0.1:{client}")]);
    command.args(["--listen", &format!("127.0.0.1:{}", free_port()), "--link-listen", "127.0.0.1:0"]);
    let mut master = Running::start(&mut command);
    until_succeeds(&kubeconfig, &["create", "configmap", "before", "--from-literal=a=b"]).await;

    store.kill();
    let refused = kubectl(&kubeconfig, &["create", "configmap", "meanwhile"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "a write without a store succeeded");
    assert!(said.contains("etcd"), "the error does not say what is wrong: {said}");
    // Reads go on, out of the master's memory.
    let read = kubectl(&kubeconfig, &["get", "configmap", "before", "-o", "jsonpath={.data.a}"]);
    let (body, said) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
    assert!(read.status.success() && body == "b", "{body}{said}");

    store = etcd(&dir.path().join("etcd"), client, peer);
    until_succeeds(&kubeconfig, &["create", "configmap", "after"]).await;
    until_succeeds(&kubeconfig, &["get", "configmap", "before", "after"]).await;
    assert!(master.0.try_wait().expect("its state").is_none(), "the master ended");
    master.kill();
    store.kill();
}
