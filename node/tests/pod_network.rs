//! Plugging pods in with the real CNI plugins, on the real host, under a bridge of its own. Needs root and
//! the plugins; without them the test says so and passes over.

use std::collections::BTreeSet;
use std::process::Command;

use node::network::{NetworkConfig, PodBridge, PortMap, clean_up};

fn run(program: &str, arguments: &str) -> (bool, String) {
    let output = Command::new(program).args(arguments.split(' ')).output().expect("the program runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

struct Namespace(String);
impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("tp{}-{name}", std::process::id() % 100_000);
        assert!(run("ip", &format!("netns add {name}")).0);
        Namespace(name)
    }
    fn path(&self) -> String {
        format!("/var/run/netns/{}", self.0)
    }
}
impl Drop for Namespace {
    fn drop(&mut self) {
        run("ip", &format!("netns delete {}", self.0));
    }
}

#[tokio::test]
async fn pods_are_plugged_in_and_everything_goes_again() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("network");
    let cidr = "10.213.7.0/24".parse().unwrap();
    let mut config = NetworkConfig::new(cidr, cidr, &dir);
    config.bridge = "troupe-test0".into();
    let network = PodBridge::start(config.clone()).await.unwrap();
    if !network.missing_plugins().is_empty() {
        clean_up(&dir).await;
        eprintln!("SKIPPED: no CNI plugins: {:?}", network.missing_plugins());
        return;
    }
    let (one, two) = (Namespace::new("one"), Namespace::new("two"));
    let port =
        PortMap { protocol: "TCP".into(), container_port: 80, host_port: 38080, host_ip: String::new() };
    let first = network.attach("s1", &one.path(), "default", "a", "u1", &[port]).await.unwrap();
    let second = network.attach("s2", &two.path(), "default", "b", "u2", &[]).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(
        network.attach("s1", &one.path(), "default", "a", "u1", &[]).await.unwrap(),
        first,
        "again: the same"
    );
    let reached =
        |from: &Namespace, to: &str| run("ip", &format!("netns exec {} ping -c 1 -W 2 {to}", from.0)).0;
    if run("which", "ping").0 {
        assert!(reached(&one, &second[0].to_string()), "from pod to pod");
        assert!(reached(&two, "10.213.7.1"), "from pod to node");
    }
    assert!(run("iptables", "-t nat -S").1.contains("38080"), "the host port is mapped");

    // A restarted node knows its pods; one of them is gone meanwhile.
    let network = PodBridge::start(config).await.unwrap();
    assert_eq!(network.attach("s2", &two.path(), "default", "b", "u2", &[]).await.unwrap(), second);
    drop(one);
    assert_eq!(network.sweep(&BTreeSet::from(["s2".to_owned()])).await.unwrap(), 1);
    assert!(!run("iptables", "-t nat -S").1.contains("38080"));
    network.detach("s2", &two.path()).await.unwrap();
    network.detach("s2", &two.path()).await.unwrap();

    clean_up(&dir).await;
    clean_up(&dir).await;
    assert!(!dir.exists());
    assert!(!run("ip", "link show troupe-test0").0, "no bridge");
    assert!(!run("nft", "list ruleset").1.contains("troupe-test0"), "no rules");
    assert!(!run("iptables", "-S FORWARD").1.contains("10.213.7.0/24"), "no firewall rules");
}
