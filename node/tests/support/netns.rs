//! A node with three pods and a neighbour, out of network namespaces.
//!
//! Pods `a`, `b`, `c` have 10.7.0.2 to .4 on the node's bridge; `out` is 192.168.77.2 beside the node's .1.
//! `b` and `c` answer on port 8080 with their name and the address of who asked.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[path = "namespace.rs"]
pub mod namespace;

pub use namespace::is_root;
use namespace::{Namespace, PORT, enter, ip, serve, serve_at, tcp, within};
use tokio::task::LocalSet;

static LABS: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    prefix: String,
    /// The name of the node's namespace.
    pub node: String,
    _namespaces: Vec<Namespace>,
}

impl Lab {
    pub fn new() -> Lab {
        let prefix = format!("tl{}x{}", std::process::id() % 100_000, LABS.fetch_add(1, Ordering::Relaxed));
        let names = ["node", "a", "b", "c", "out"].map(|name| format!("{prefix}-{name}"));
        let namespaces = names.into_iter().map(Namespace::new).collect();
        let lab = Lab { node: format!("{prefix}-node"), prefix, _namespaces: namespaces };
        let node = &lab.node;
        ip(&format!("-n {node} link add br0 type bridge"));
        ip(&format!("-n {node} addr add 10.7.0.1/24 dev br0"));
        ip(&format!("-n {node} link set br0 up"));
        for (i, name) in ["a", "b", "c"].iter().enumerate() {
            let ns = lab.ns(name);
            ip(&format!("-n {node} link add v{name} type veth peer name eth0 netns {ns}"));
            ip(&format!("-n {node} link set v{name} master br0 up"));
            // As the CNI bridge plugin does it: an endpoint that reaches itself comes back by its own port.
            ip(&format!("-n {node} link set v{name} type bridge_slave hairpin on"));
            ip(&format!("-n {ns} addr add 10.7.0.{}/24 dev eth0", i + 2));
            ip(&format!("-n {ns} link set eth0 up"));
            ip(&format!("-n {ns} route add default via 10.7.0.1"));
        }
        let out = lab.ns("out");
        ip(&format!("-n {node} link add vout type veth peer name eth0 netns {out}"));
        ip(&format!("-n {node} addr add 192.168.77.1/24 dev vout"));
        ip(&format!("-n {node} link set vout up"));
        ip(&format!("-n {out} addr add 192.168.77.2/24 dev eth0"));
        ip(&format!("-n {out} link set eth0 up"));
        ip(&format!("-n {node} route add default via 192.168.77.2"));
        // Only what crosses the node may find the pods: the neighbour has no route to them.
        lab.within("node", || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding"));
        for name in ["b", "c"] {
            serve(&lab.ns(name), name, PORT);
        }
        lab
    }

    /// Runs `test` on the node of a new lab: in its network namespace, where programs that are started are too.
    pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Lab) -> F + Send + 'static) {
        if !is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return;
        }
        let lab = Lab::new();
        let node = lab.node.clone();
        within(&node, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, test(lab));
        });
    }

    /// Gives all of them addresses of IPv6 too: `fd00:7::` and `fd00:77::` with the same last numbers.
    #[allow(dead_code, reason = "not every test that has a lab has two families")]
    pub fn add_ipv6(&self) {
        for (last, (name, device)) in
            [("node", "br0"), ("a", "eth0"), ("b", "eth0"), ("c", "eth0")].iter().enumerate()
        {
            self.ip(name, &format!("-6 addr add fd00:7::{}/64 dev {device} nodad", last + 1));
        }
        for name in ["a", "b", "c"] {
            self.ip(name, "-6 route add default via fd00:7::1");
        }
        // As on any machine: a way out, which is where addresses of Services would go without the rules.
        self.ip("node", "-6 addr add fd00:77::1/64 dev vout nodad");
        self.ip("node", "-6 route add default via fd00:77::2");
        self.ip("out", "-6 addr add fd00:77::2/64 dev eth0 nodad");
        self.output("sysctl -w net.ipv6.conf.all.forwarding=1");
    }

    /// Runs `ip` in one of its namespaces.
    #[allow(dead_code, reason = "not every test that has a lab changes it")]
    pub fn ip(&self, name: &str, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.ns(name)));
    }

    /// Answers in one of its namespaces, with its name.
    #[allow(dead_code, reason = "not every test that has a lab adds servers")]
    pub fn serve(&self, name: &'static str, port: u16) {
        serve(&self.ns(name), name, port);
    }

    /// As [`Lab::serve`], at this address.
    #[allow(dead_code, reason = "not every test that has a lab adds servers")]
    pub fn serve_at(&self, name: &'static str, address: &str) {
        serve_at(&self.ns(name), name, address.parse().unwrap());
    }

    /// Runs `work` on a thread of that namespace, while whatever else runs on this thread goes on.
    #[allow(dead_code, reason = "not every test that has a lab serves on its own thread")]
    pub async fn apart<T: Send + 'static>(&self, name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.ns(name);
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            enter(&namespace);
            let _ = done.send(work());
        });
        result.await.expect("the work in the namespace")
    }

    /// The namespace of this name.
    #[allow(dead_code, reason = "not every test that has a lab leaves its thread")]
    pub fn space(&self, name: &str) -> String {
        self.ns(name)
    }

    fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs `work` on a thread of that namespace.
    pub fn within<T: Send + 'static>(&self, name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.ns(name), work)
    }

    /// Connects from that namespace and reads to the end.
    #[allow(dead_code, reason = "not every test that has a lab connects while nothing else is to go on")]
    pub fn tcp(&self, from: &str, to: &str) -> std::io::Result<String> {
        tcp(&self.ns(from), to, Duration::from_secs(2))
    }

    /// A UDP socket of that namespace.
    #[allow(dead_code, reason = "not every test that has a lab sends datagrams")]
    pub fn udp_socket(&self, from: &str, to: &str) -> UdpSocket {
        let to: SocketAddr = to.parse().unwrap();
        self.within(from, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket
        })
    }

    /// Runs `nft` on the node; its output.
    #[allow(dead_code, reason = "not every test that has a lab looks at rules")]
    pub fn nft(&self, arguments: &str) -> String {
        self.output(&format!("nft {arguments}"))
    }

    /// Runs a program on the node; its output.
    #[allow(dead_code, reason = "not every test that has a lab runs programs")]
    pub fn output(&self, command: &str) -> String {
        let output = Command::new("ip").args(["netns", "exec", &self.node]).args(command.split(' ')).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    }
}
