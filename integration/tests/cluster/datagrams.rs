//! UDP from pod to pod, through Services, host ports and node ports, as conformance asks for it in `sig-network`; and
//! that many Services get their endpoints.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Cluster;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: udp}
---
apiVersion: v1
kind: Service
metadata: {name: datagrams, namespace: udp}
spec:
  type: NodePort
  selector: {app: u}
  ports: [{name: u, port: 90, targetPort: 9090, protocol: UDP}, {name: t, port: 90, targetPort: 8080}]
---
"#;

/// A pod that answers datagrams and HTTP; with host ports where `ports` says so.
fn server(name: &str, app: &str, tools: &str, ports: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: udp, labels: {{app: {app}}}}}
spec:
  hostname: {name}
  terminationGracePeriodSeconds: 0
  volumes: [{{name: tools, hostPath: {{path: {tools}}}}}]
  containers:
  - name: udp
    image: troupe/sample:1
    command: [/tools/datagram, serve, "9090", {name}]
    volumeMounts: [{{name: tools, mountPath: /tools}}]
    ports: [{ports}]
  - {{name: tcp, image: "troupe/sample:1"}}
---
"#
    )
}

/// Many Services of the same pods.
fn many(count: usize) -> String {
    let service = |n| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: many-{n}, namespace: udp, labels: {{many: 'yes'}}}}\n\
             spec: {{selector: {{app: u}}, ports: [{{port: 80}}]}}\n---\n"
        )
    };
    (0..count).map(service).collect()
}

/// Compiles the program that pods run; the folder that it is in.
fn tools(cluster: &Cluster) -> PathBuf {
    let folder = cluster.dir.path().join("tools");
    std::fs::create_dir_all(&folder).expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/datagram.rs");
    let compiled = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-C", "opt-level=s", "-o"])
        .arg(folder.join("datagram"))
        .arg(source)
        .status();
    assert!(compiled.is_ok_and(|status| status.success()), "{source} compiles");
    folder
}

/// Who answers a datagram of this machine.
fn asked_from_here(address: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket.connect(address).expect("an address");
    let mut buffer = [0; 512];
    match socket.send(b"who?").and_then(|_| socket.recv(&mut buffer)) {
        Ok(length) => String::from_utf8_lossy(&buffer[..length]).into_owned(),
        Err(why) => why.to_string(),
    }
}

/// Runs all of it in a namespace of its own, which is gone afterwards.
pub fn check(cluster: &Cluster) {
    let folder = tools(cluster);
    let tools = super::path(&folder);
    let file = cluster.dir.path().join("datagrams.yaml");
    let apply = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        cluster.kubectl(&["apply", "-f", super::path(&file)]);
    };
    apply(OBJECTS.split("---").next().unwrap_or_default());
    cluster
        .eventually("its account", &["-n", "udp", "get", "serviceaccounts", "-o", "name"], |a| !a.is_empty());
    let host = |protocol: &str, ip: &str| {
        let port = if protocol == "UDP" { 9090 } else { 8080 };
        format!("{{containerPort: {port}, hostPort: 18233, hostIP: {ip}, protocol: {protocol}}}")
    };
    apply(
        &[
            &server("one", "u", tools, ""),
            &server("two", "u", tools, ""),
            &server("asker", "asker", tools, ""),
            // One number at one address for two protocols, and again at another address.
            &server("host-tcp", "h", tools, &host("TCP", "127.0.0.1")),
            &server("host-udp", "h", tools, &host("UDP", "127.0.0.1")),
            &server("host-else", "h", tools, &host("UDP", "127.0.0.2")),
            OBJECTS,
        ]
        .concat(),
    );
    cluster.kubectl(&["-n", "udp", "wait", "--for=condition=Ready", "pods", "--all", "--timeout=90s"]);
    let field = |object: &str, path: &str| {
        cluster.kubectl(&["-n", "udp", "get", object, "-o", &format!("jsonpath={{{path}}}")])
    };
    let names = |said: &str| -> BTreeSet<String> {
        said.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let until = |what: &str, address: &str, times: &str, expected: &[&str]| {
        let ask = ["-n", "udp", "exec", "asker", "-c", "udp", "--", "/tools/datagram", "ask", address, times];
        cluster.eventually(what, &ask, |said| names(said).iter().eq(expected.iter()));
    };

    // From pod to pod, under its own address; from the node to a pod.
    let (one, asker) = (field("pod/one", ".status.podIP"), field("pod/asker", ".status.podIP"));
    let said = cluster.kubectl(&[
        "-n",
        "udp",
        "exec",
        "asker",
        "-c",
        "udp",
        "--",
        "/tools/datagram",
        "ask",
        &format!("{one}:9090"),
        "1",
    ]);
    assert_eq!(said, format!("one {asker}"));
    assert!(asked_from_here(&format!("{one}:9090")).starts_with("one "));

    // Through a Service, whose port number is that of TCP too; and its port on the node.
    let ip = field("service/datagrams", ".spec.clusterIP");
    until("both answer", &format!("{ip}:90"), "20", &["one", "two"]);
    let port = field("service/datagrams", ".spec.ports[0].nodePort");
    let node = field("pod/one", ".status.hostIP");
    until("both answer at the node's port", &format!("{node}:{port}"), "20", &["one", "two"]);
    let patch = |spec: &str| {
        cluster.kubectl(&["-n", "udp", "patch", "service", "datagrams", "--type=merge", "-p", spec]);
    };
    patch(r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
    let ask = |address: &str| {
        ["-n", "udp", "exec", "asker", "-c", "udp", "--", "/tools/datagram", "ask", address, "15"]
            .map(str::to_owned)
    };
    for address in [format!("{ip}:90"), format!("{node}:{port}")] {
        let ask = ask(&address);
        let ask: Vec<&str> = ask.iter().map(String::as_str).collect();
        cluster.eventually("one server for one client", &ask, |said| {
            names(said).len() == 1 && !said.contains("nobody")
        });
    }
    patch(r#"{"spec": {"sessionAffinity": "None"}}"#);
    until("both answer again", &format!("{ip}:90"), "20", &["one", "two"]);
    // A server that goes takes none of its clients with it.
    cluster.kubectl(&["-n", "udp", "delete", "pod", "two", "--timeout=60s"]);
    until("the other answers alone", &format!("{ip}:90"), "10", &["one"]);

    // The node's ports.
    let url = "http://127.0.0.1:18233/";
    let said = super::text(&super::run("curl", &["-sS", "--max-time", "5", url]));
    assert_eq!(said.trim(), "host-tcp", "{url}");
    assert!(asked_from_here("127.0.0.1:18233").starts_with("host-udp "));
    assert!(asked_from_here("127.0.0.2:18233").starts_with("host-else "));

    // Many Services at once.
    apply(&many(50));
    let slices = ["-n", "udp", "get", "endpointslices", "-l", "many=yes", "-o", "jsonpath={..addresses[0]}"];
    cluster
        .eventually("all have endpoints", &slices, |a| a.split(' ').filter(|ip| **ip == one).count() == 50);
    cluster.kubectl(&["delete", "namespace", "udp", "--timeout=90s"]);
}
