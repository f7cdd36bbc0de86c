//! Names and Services as pods use them: the behaviours that conformance asks for in `sig-network`, through kubectl and
//! from within pods.

use super::Cluster;

/// A server with two ports.
const SERVER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: net, labels: {app: s, which: NAME}}
spec:
  hostname: NAME
  subdomain: sub
  terminationGracePeriodSeconds: 0
  hostAliases: [{ip: 192.0.2.77, hostnames: [alias.example]}]
  containers:
  - name: first
    image: troupe/sample:1
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
  - name: second
    image: troupe/sample:1
    command: [sh, -c, 'mkdir /other && echo second >/other/index.html && exec httpd -f -p 8081 -h /other']
    ports: [{name: other, containerPort: 8081}]
---
"#;

/// One who asks, others of their own settings, and Services of each sort.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: net}
---
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: net}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: sh, image: "troupe/sample:1", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: net}
spec:
  terminationGracePeriodSeconds: 0
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: "2"}]}
  containers: [{name: sh, image: "troupe/sample:1", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: host-1, namespace: net}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: "troupe/sample:1", ports: [{containerPort: 8080, hostPort: 18231, hostIP: 127.0.0.1}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: host-2, namespace: net}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: "troupe/sample:1", ports: [{containerPort: 8080, hostPort: 18231, hostIP: 127.0.0.2}]}]
---
apiVersion: v1
kind: Service
metadata: {name: multi, namespace: net}
spec:
  selector: {app: s}
  ports: [{name: http, port: 80, targetPort: http}, {name: other, port: 81, targetPort: other},
          {name: same, port: 80, targetPort: 8080, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: sub, namespace: net}
spec: {clusterIP: None, selector: {app: s}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: net}
spec: {type: ExternalName, externalName: multi.net.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: manual, namespace: net}
spec: {ports: [{name: http, port: 80}]}
"#;

/// A slice of the Service `manual` with one endpoint.
fn slice(name: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: {name}, namespace: net, labels: {{kubernetes.io/service-name: manual}}}}\n\
         ports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [{address}]}}]\n---\n"
    )
}

struct Net<'a>(&'a Cluster);

impl Net<'_> {
    fn kubectl(&self, args: &[&str]) -> String {
        self.0.kubectl(&[&["-n", "net"], args].concat())
    }

    /// What a shell in the asking pod says.
    fn shell(&self, script: &str) -> String {
        self.kubectl(&["exec", "asker", "--", "sh", "-c", script])
    }

    /// The same until it is as expected: endpoints and rules follow in their own time.
    fn until(&self, what: &str, script: &str, expected: impl Fn(&str) -> bool) {
        self.0.eventually(what, &["-n", "net", "exec", "asker", "--", "sh", "-c", script], expected);
    }

    fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    fn patch(&self, service: &str, spec: &str) {
        self.kubectl(&["patch", "service", service, "--type=merge", "-p", &format!("{{\"spec\":{spec}}}")]);
    }
}

/// Asks an address so many times; which servers answered.
fn who(url: &str, times: u32) -> String {
    let ask = format!("for i in $(seq {times}); do timeout 3 wget -qO- {url} || echo none; done | sort -u");
    format!("{ask} | tr '\\n' ' '")
}

/// Runs all of it in a namespace of its own, which is gone afterwards.
pub fn check(cluster: &Cluster) {
    let net = Net(cluster);
    let file = cluster.dir.path().join("network.yaml");
    let apply = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        cluster.kubectl(&["apply", "-f", super::path(&file)]);
    };
    // The account of a new namespace takes a moment, and pods need it.
    apply(OBJECTS.split("---").next().unwrap_or_default());
    cluster
        .eventually("its account", &["-n", "net", "get", "serviceaccounts", "-o", "name"], |a| !a.is_empty());
    apply(&[&SERVER.replace("NAME", "one"), &SERVER.replace("NAME", "two"), OBJECTS].concat());
    net.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=90s"]);
    let both = |a: &str| a == "one two";

    // The API server is a Service with endpoints.
    assert_eq!(net.shell("nc -w 3 kubernetes.default 443 </dev/null && echo reached"), "reached");
    let slices = [
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=kubernetes",
        "-o",
        "jsonpath={.items[0].endpoints[0].addresses[0]}",
    ];
    assert!(!cluster.kubectl(&slices).is_empty());

    // Names, in full and in part; several ports; the same port for two protocols.
    for name in ["multi", "multi.net", "multi.net.svc", "multi.net.svc.cluster.local"] {
        net.until(name, &who(&format!("http://{name}/"), 20), both);
    }
    assert_eq!(net.shell("wget -qO- http://multi:81/"), "second");
    assert_eq!(net.field("service/multi", ".spec.ports[2].protocol"), "UDP");

    // Pods have names below a headless Service, and know their own.
    let ip = net.field("pod/one", ".status.podIP");
    let resolved = net.shell("nslookup -type=a one.sub.net.svc.cluster.local | tail -n 3");
    assert!(resolved.contains(&ip), "{ip}: {resolved}");
    let hosts = net.kubectl(&["exec", "one", "-c", "second", "--", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{ip}\tone.sub.net.svc.cluster.local\tone")), "{hosts}");
    assert!(hosts.contains("192.0.2.77\talias.example"), "{hosts}");
    assert_eq!(
        net.kubectl(&["exec", "one", "-c", "first", "--", "hostname", "-f"]),
        "one.sub.net.svc.cluster.local"
    );

    // A pod may say itself whom it asks for names.
    let resolver = net.kubectl(&["exec", "dns", "--", "cat", "/etc/resolv.conf"]);
    let lines: Vec<&str> = resolver.lines().collect();
    assert_eq!(lines, ["nameserver 192.0.2.53", "search example.com", "options ndots:2"]);

    // A Service becomes another name, and itself again, then with a port on the node.
    net.until("another name", &who("http://elsewhere/", 20), both);
    net.patch("multi", r#"{"sessionAffinity": "ClientIP"}"#);
    let one = |a: &str| a == "one" || a == "two";
    net.until("one server for one client", &who("http://multi/", 15), one);
    net.patch("multi", r#"{"sessionAffinity": "None"}"#);
    net.until("both servers again", &who("http://multi/", 20), both);
    let selector = r#"{"type": "ClusterIP", "externalName": null, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], "selector": {"which": "two"}}"#;
    net.patch("elsewhere", selector);
    net.until("a Service of its own", &who("http://elsewhere/", 10), |a| a == "two");
    net.patch("elsewhere", r#"{"type": "NodePort"}"#);
    let port = net.field("service/elsewhere", ".spec.ports[0].nodePort");
    let node = cluster.kubectl(&[
        "get",
        "node",
        "e2e",
        "-o",
        "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}",
    ]);
    net.until("its port on the node", &who(&format!("http://{node}:{port}/"), 10), |a| a == "two");
    net.patch("elsewhere", r#"{"type": "ExternalName", "externalName": "multi.net.svc.cluster.local", "clusterIP": null, "clusterIPs": null}"#);
    net.until("another name again", &who("http://elsewhere/", 20), both);

    // Endpoints that somebody writes by hand, in several slices.
    let two = net.field("pod/two", ".status.podIP");
    apply(&format!("{}{}", slice("by-hand-1", &ip), slice("by-hand-2", &two)));
    net.until("both slices' endpoints", &who("http://manual/", 20), both);
    net.kubectl(&["delete", "endpointslice", "by-hand-2"]);
    net.until("the other slice's alone", &who("http://manual/", 10), |a| a == "one");

    // One port of the node, twice, under different addresses.
    for (pod, address) in [("host-1", "127.0.0.1"), ("host-2", "127.0.0.2")] {
        let url = format!("http://{address}:18231/");
        let said = super::text(&super::run("curl", &["-sS", "--max-time", "5", &url]));
        assert_eq!(said.trim(), pod, "{url}");
    }
    cluster.kubectl(&["delete", "namespace", "net", "--timeout=90s"]);
}
