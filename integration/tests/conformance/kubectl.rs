//! What people do with kubectl.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::scene::{Scene, pod, replication_controller, workload};

impl Scene<'_> {
    /// kubectl in the scene's namespace.
    fn kubectl(&self, args: &[&str]) -> String {
        self.plane.kubectl(&[args, &["-n", &self.ns]].concat())
    }
}

pub fn api_versions(scene: &Scene) {
    let said = scene.kubectl(&["api-versions"]);
    assert!(said.lines().any(|line| line == "v1"), "{said}");
}

pub fn cluster_info(scene: &Scene) {
    let said = scene.kubectl(&["cluster-info"]);
    assert!(said.contains("Kubernetes control plane") && said.contains("is running at"), "{said}");
}

pub fn versions(scene: &Scene) {
    let said = scene.kubectl(&["version"]);
    for part in ["Client Version: v", "Server Version: v1.36."] {
        assert!(said.contains(part), "{said}");
    }
}

pub fn diff(scene: &Scene) {
    let mut deployment = workload("web", 1);
    deployment["apiVersion"] = "apps/v1".into();
    deployment["kind"] = "Deployment".into();
    scene.create(&scene.at("apps/v1", "deployments"), &deployment);
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "newer".into();
    let output = scene.plane.run(&["diff", "-n", &scene.ns, "-f", "-"], &deployment.to_string());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert!(lines.contains(&"-      - image: none") && lines.contains(&"+      - image: newer"), "{said}");
}

pub fn run_a_pod(scene: &Scene) {
    scene.kubectl(&["run", "once", "--restart=Never", "--pod-running-timeout=2m0s", "--image=some"]);
    let made = scene.get(&format!("{}/once", scene.core("pods")));
    assert_eq!(made["spec"]["restartPolicy"], "Never");
    assert_eq!(
        (&made["spec"]["containers"][0]["image"], made["spec"]["containers"].as_array().map(Vec::len)),
        (&json!("some"), Some(1))
    );
}

pub fn dry_run(scene: &Scene) {
    scene.kubectl(&["run", "dry", "--image=some", "--labels=run=dry"]);
    let patch = r#"{"spec":{"containers":[{"name":"dry","image":"other"}]}}"#;
    let said = scene.kubectl(&[
        "patch",
        "pod",
        "dry",
        "-p",
        patch,
        "--dry-run=server",
        "-o",
        "jsonpath={.spec.containers[0].image}",
    ]);
    assert_eq!(said, "other");
    assert_eq!(scene.get(&format!("{}/dry", scene.core("pods")))["spec"]["containers"][0]["image"], "some");
}

/// A proxy; it ends when this is dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a proxy; what it says first.
fn proxy(scene: &Scene, how: &str) -> (Proxy, String) {
    let mut command = scene.plane.command(&["proxy", how]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut said = String::new();
    let out = child.stdout.take().expect("its output");
    let proxy = Proxy(child);
    BufReader::new(out).read_line(&mut said).expect("a line");
    (proxy, said)
}

/// Asks for the API's versions over a connection.
fn ask(mut stream: impl Read + Write) {
    stream.write_all(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("200 OK") && answer.contains("APIVersions"), "{answer}");
}

pub fn proxy_on_any_port(scene: &Scene) {
    let (_proxy, said) = proxy(scene, "--port=0");
    let address = said.trim().rsplit(' ').next().expect("an address");
    ask(TcpStream::connect(address).expect("it listens"));
}

pub fn proxy_on_a_socket(scene: &Scene) {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("proxy.sock");
    let (_proxy, _) = proxy(scene, &format!("--unix-socket={}", socket.display()));
    ask(UnixStream::connect(&socket).expect("it listens"));
}

pub fn label(scene: &Scene) {
    scene.create(&scene.core("pods"), &pod("labelled", "x"));
    let shown = |scene: &Scene| scene.kubectl(&["get", "pod", "labelled", "-L", "testing-label"]);
    scene.kubectl(&["label", "pods", "labelled", "testing-label=testing-label-value"]);
    assert!(shown(scene).contains("testing-label-value"));
    scene.kubectl(&["label", "pods", "labelled", "testing-label-"]);
    assert!(!shown(scene).contains("testing-label-value"));
}

fn controller(scene: &Scene, replicas: u32) -> String {
    scene.create(&scene.core("replicationcontrollers"), &replication_controller("rc", replicas));
    let pods = scene.until_items(&scene.core("pods"), |pods| pods.len() == replicas as usize);
    crate::scene::name(&pods[0]).to_owned()
}

pub fn describe(scene: &Scene) {
    let pod = controller(scene, 1);
    let described = |what: &[&str], expected: &[&str]| {
        let said = scene.kubectl(&[&["describe"], what].concat());
        let words: Vec<String> =
            said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in expected {
            assert!(words.iter().any(|words| words == line), "{line}: {said}");
        }
    };
    described(
        &["rc", "rc"],
        &["Name: rc", "Replicas: 1 current / 1 desired", "Selector: app=rc", "Pod Template:"],
    );
    described(&["pod", &pod], &["Controlled By: ReplicationController/rc", "Image: none", "Status: Pending"]);
    described(&["namespace", &scene.ns], &["Status: Active"]);
}

pub fn patch(scene: &Scene) {
    let pod = controller(scene, 1);
    scene.kubectl(&["patch", "pod", &pod, "-p", r#"{"metadata":{"annotations":{"x":"y"}}}"#]);
    let seen = scene.get(&format!("{}/{pod}", scene.core("pods")));
    assert_eq!(seen["metadata"]["annotations"]["x"], "y");
}

pub fn expose(scene: &Scene) {
    controller(scene, 1);
    scene.kubectl(&["expose", "rc", "rc", "--name=rm2", "--port=1234", "--target-port=6379"]);
    scene.kubectl(&["expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379"]);
    for (name, port) in [("rm2", 1234), ("rm3", 2345)] {
        let service = scene.get(&format!("{}/{name}", scene.core("services")));
        assert_eq!(
            (&service["spec"]["ports"][0]["port"], &service["spec"]["selector"]),
            (&json!(port), &json!({"app": "rc"}))
        );
    }
}

pub fn replace(scene: &Scene) {
    scene.kubectl(&["run", "replaced", "--image=some"]);
    let mut object = scene.get(&format!("{}/replaced", scene.core("pods")));
    object["spec"]["containers"][0]["image"] = "other".into();
    // Whatever the scheduler wrote meanwhile.
    object["metadata"]["resourceVersion"] = Value::Null;
    let said = scene.plane.run(&["replace", "-n", &scene.ns, "-f", "-"], &object.to_string());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(
        scene.get(&format!("{}/replaced", scene.core("pods")))["spec"]["containers"][0]["image"],
        "other"
    );
}

pub fn scale(scene: &Scene) {
    controller(scene, 2);
    scene.kubectl(&["scale", "rc", "rc", "--replicas=1", "--timeout=5m"]);
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 1);
    scene.kubectl(&["scale", "rc", "rc", "--replicas=2", "--current-replicas=1"]);
    scene.until_items(&scene.core("pods"), |pods| pods.len() == 2);
    let said = scene
        .plane
        .refused(&["scale", "rc", "rc", "-n", &scene.ns, "--replicas=3", "--current-replicas=9"], "");
    assert!(said.contains("Expected replicas to be 9, was 2"), "{said}");
}
